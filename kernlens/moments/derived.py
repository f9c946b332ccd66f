"""What follows from Moments: covariance, class means, spreads."""

import jax.numpy as jnp

from kernlens.moments.state import Moments, class_offsets, divide, dot
from kernlens.types import Array


def full_scatter(moments: Moments) -> Array:
    """The scatter of all rows, ``[p, p]``.

    Raises:
      ValueError: moments that hold its diagonal alone.
    """
    if moments.scatter.ndim != 2:
        raise ValueError(
            "these moments hold the diagonal of their scatter alone: build them with scatter=True"
        )
    return moments.scatter


def column_scatters(moments: Moments) -> Array:
    r"""Diagonal of the scatter, :math:`\sum_i w_i z_{ij}^2`, ``[p]``."""
    scatter = moments.scatter
    return scatter if scatter.ndim == 1 else jnp.diagonal(scatter)


def total_scatter(moments: Moments) -> Array:
    r"""Trace of the scatter, :math:`\sum_i w_i \|z_i\|^2`, ``[]``."""
    return jnp.sum(column_scatters(moments))


def covariance(moments: Moments) -> Array:
    r"""Covariance of all rows with divisor :math:`n`, ``[p, p]``; zero for no rows.

    Examples:
      >>> from kernlens import moments
      >>> rows = jnp.array([[0.0], [2.0], [10.0], [12.0]])
      >>> m = moments.from_arrays(rows, jnp.array([0, 0, 1, 1]), 2)
      >>> covariance(m).tolist(), class_means(m).tolist()
      ([[26.0]], [[1.0], [11.0]])
    """
    return divide(full_scatter(moments), moments.count)


def class_sums(moments: Moments) -> Array:
    r"""Sum of the rows of each class, :math:`\sum_{i \in c} w_i x_i`, ``[C, p]``."""
    mean = moments.mean + moments.mean_low
    return moments.class_deviations + jnp.outer(moments.class_counts, mean)


def class_means(moments: Moments) -> Array:
    """Mean of each class, ``[C, p]``; the overall mean for a class without rows."""
    return (moments.mean_low + class_offsets(moments)) + moments.mean


def between_scatter(moments: Moments) -> Array:
    r"""Between-class scatter, :math:`\sum_c n_c (\mu_c - \mu)(\mu_c - \mu)^\top`, ``[p, p]``.

    Where every row has a label, ``scatter = between_scatter + within``.

    Examples:
      >>> from kernlens import moments
      >>> rows = jnp.array([[0.0], [2.0], [10.0], [12.0]])
      >>> m = moments.from_arrays(rows, jnp.array([0, 0, 1, 1]), 2)
      >>> float(between_scatter(m)[0, 0]), float(full_scatter(m)[0, 0])
      (100.0, 104.0)
    """
    return dot(moments.class_deviations.T, class_offsets(moments))


def class_spreads(moments: Moments) -> Array:
    r"""Squared distance to the overall mean summed over each class, ``[C]``.

    :math:`\sum_{i \in c} w_i \|z_i\|^2`; the trace of the scatter where every row has a label.
    """
    offsets = class_offsets(moments)
    return moments.class_squares.sum(axis=1) + jnp.sum(moments.class_deviations * offsets, axis=1)


def fourth(moments: Moments) -> Array:
    r"""Fourth moment over the second, :math:`\sum_i w_i \|z_i\|^4 / \sum_i w_i \|z_i\|^2`.

    Returns:
      Value in the squared unit of the features, ``[]``; 0 for rows that are all alike.

    Raises:
      ValueError: a subset of dimensions or two embeddings side by side, of which it is not known.
    """
    if moments.fourth.ndim:
        raise ValueError(
            "these moments do not hold their fourth moment: they were cut or joined from moments "
            "that do not tell it; build those with fourths=True before select, or take a pass over "
            "the rows"
        )
    return moments.fourth
