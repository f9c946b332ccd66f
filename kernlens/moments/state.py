"""What is summed over rows, and the sums of no rows."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike

from kernlens.types import Array


class Moments(NamedTuple):
    r"""Sums over rows :math:`x_i` of ``p`` features with weight :math:`w_i`, class and targets.

    With :math:`z_i = x_i - \mu` and :math:`\mu` the mean over all rows:

    Attributes:
      count: :math:`n = \sum_i w_i`, ``[]``.
      mean: :math:`\mu`, rounded, ``[p]``.
      mean_low: what rounding took off; ``mean + mean_low`` is :math:`\mu` in two words, ``[p]``.
      scatter: :math:`\sum_i w_i z_i z_i^\top`, ``[p, p]``; its diagonal alone, ``[p]``, where no
        more was asked for.
      third: third moment over the second, the mean of the rows weighted by their squared norms,
        :math:`\sum_i w_i \|z_i\|^2 z_i / \sum_i w_i \|z_i\|^2`, ``[p]``; ``[0]`` where not known.
      fourth: fourth moment over the second, :math:`\sum_i w_i \|z_i\|^4 / \sum_i w_i \|z_i\|^2`,
        ``[]``; ``[0]`` where not known. As quotients, both stay inside float32 wherever the scatter
        does.
      thirds: :math:`\sum_i w_i z_{ij}^2 z_{ik}`, third moments of pairs, ``[p, p]``; ``[0, 0]``
        where not asked for.
      fourths: :math:`\sum_i w_i z_{ij}^2 z_{ik}^2`, fourth moments of pairs, ``[p, p]``; ``[0, 0]``
        where not asked for.
      class_counts: :math:`n_c`, weight of each class, ``[C]``.
      class_deviations: :math:`\sum_{i \in c} w_i z_i = n_c (\mu_c - \mu)`, ``[C, p]``.
      class_squares: :math:`\sum_{i \in c} w_i (x_i - \mu_c)^2`, elementwise, ``[C, p]``.
      within: :math:`\sum_c \sum_{i \in c} w_i (x_i - \mu_c)(x_i - \mu_c)^\top`, the pooled
        within-class scatter of the labelled rows, ``[p, p]``; ``[0, 0]`` where the scatter is a
        diagonal.
      class_scatters: the terms of that sum, ``[C, p, p]``; ``[0, p, p]`` where not asked for.
      target_mean: mean :math:`\bar t` of the regression targets, rounded, ``[T]``.
      target_mean_low: what rounding took off, ``[T]``.
      target_scatter: :math:`\sum_i w_i (t_i - \bar t)(t_i - \bar t)^\top`, ``[T, T]``.
      cross: :math:`\sum_i w_i z_i (t_i - \bar t)^\top`, ``[p, T]``.
    """

    count: Array
    mean: Array
    mean_low: Array
    scatter: Array
    third: Array
    fourth: Array
    thirds: Array
    fourths: Array
    class_counts: Array
    class_deviations: Array
    class_squares: Array
    within: Array
    class_scatters: Array
    target_mean: Array
    target_mean_low: Array
    target_scatter: Array
    cross: Array


def init(
    dim: int,
    num_classes: int,
    num_targets: int = 0,
    *,
    scatter: bool = True,
    class_scatters: bool = False,
    fourths: bool = False,
    dtype: DTypeLike | None = None,
) -> Moments:
    """The identity of :func:`kernlens.moments.merge`: moments of no rows.

    Args:
      dim: number of features ``p``.
      num_classes: number of classes ``C``, 0 for none.
      num_targets: number of regression targets ``T``.
      scatter: whether to keep the scatter, or its diagonal alone: then nothing is multiplied out,
        and third and fourth moments are not known.
      class_scatters: whether to keep a scatter for each class, which costs ``C * p * p`` numbers.
      fourths: whether to keep third and fourth moments of pairs of dimensions, without which those
        of a subset of the dimensions are not known; costs the operations of two more scatters.
      dtype: float dtype in which to accumulate, at least float32; by default jax's float.

    Returns:
      Moments with every entry zero.

    Raises:
      ValueError: fourth moments without the scatter.
    """
    dtype = jnp.result_type(float) if dtype is None else dtype
    zeros = partial(jnp.zeros, dtype=dtype)
    if fourths and not scatter:
        raise ValueError("fourths=True needs the scatter; got scatter=False")
    pairs, square = dim if fourths else 0, (dim, dim) if scatter else (dim,)
    return Moments(
        count=zeros(()),
        mean=zeros((dim,)),
        mean_low=zeros((dim,)),
        scatter=zeros(square),
        third=zeros((dim if scatter else 0,)),
        fourth=zeros(() if scatter else (0,)),
        thirds=zeros((pairs, pairs)),
        fourths=zeros((pairs, pairs)),
        class_counts=zeros((num_classes,)),
        class_deviations=zeros((num_classes, dim)),
        class_squares=zeros((num_classes, dim)),
        within=zeros((dim, dim) if scatter else (0, 0)),
        class_scatters=zeros((num_classes if class_scatters else 0, dim, dim)),
        target_mean=zeros((num_targets,)),
        target_mean_low=zeros((num_targets,)),
        target_scatter=zeros((num_targets, num_targets)),
        cross=zeros((dim, num_targets)),
    )


def divide(value: Array, by: Array) -> Array:
    """``value / by``, and 0 where ``by`` is."""
    some = by != 0
    return jnp.where(some, value / jnp.where(some, by, 1.0), 0.0)


def dot(a: Array, b: Array) -> Array:
    """Matrix product at the full precision of the dtype."""
    return jnp.matmul(a, b, precision="highest")


def class_offsets(moments: Moments) -> Array:
    """Mean of each class less the overall mean, ``[C, p]``; 0 for a class without rows."""
    return divide(moments.class_deviations, moments.class_counts[:, None])
