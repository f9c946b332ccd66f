"""Squared error in closed form: gradient flow at any time, gradient descent at any step."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from kernlens.ntk.dynamics.layout import Layout, is_traced, layout_of, refuse_negative
from kernlens.ntk.dynamics.spectrum import (
    KernelOrSpectrum,
    Spectrum,
    as_spectrum,
    flow_response,
    max_learning_rate,
    momentum_response,
    moved,
    step_response,
)
from kernlens.types import Array

PredictFn: TypeAlias = Callable[..., Any]
"""``predict_fn(t=None, fx_train_0=0., fx_test_0=None, k_test_train=None) -> outputs``."""


def gradient_descent_mse(
    k_train_train: KernelOrSpectrum,
    y_train: Array,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Sequence[int] = (-1,),
) -> PredictFn:
    r"""Gradient flow on squared error, in closed form for any time.

    .. math::
       f_t(x) = f_0(x) + K_{xX} (K + \gamma I)^{-1} \left(I - e^{-\eta t (K + \gamma I) / N}\right)
       (y - f_0(X))

    This is the flow of :math:`\frac1{2N}\left(\sum (f - y)^2 + \gamma \|\theta - \theta_0\|^2
    \right)` over :math:`N` outputs for a model linear in its parameters, with tangent kernel
    :math:`K`. The formula holds on training rows as on any other: with a ridge they end at
    :math:`K (K + \gamma I)^{-1} y`, not at :math:`y`.

    Outputs are as exact as the eigenvalues, which are known to some machine epsilons of the
    largest: in float32, an unregularised kernel of condition number 1e4 leaves about three digits
    at the times when its smallest eigenvalues matter.

    Args:
      k_train_train: tangent kernel of the training rows, ``[n, n]`` where the output axes are
        traced, else in pairs after the rows, ``[n, n, O, O]``; or its :func:`spectrum`.
      y_train: targets, ``[n, O]``.
      learning_rate: :math:`\eta > 0`; only :math:`\eta t` matters.
      diag_reg: :math:`\gamma \ge 0` relative to the mean eigenvalue of the kernel.
      diag_reg_absolute_scale: take ``diag_reg`` for :math:`\gamma` itself.
      trace_axes: output axes that the kernel has no pair of, being the same for each entry.

    Returns:
      ``predict_fn(t=None, fx_train_0=0.0, fx_test_0=None, k_test_train=None)``. ``t``: times, at
      least 0, of any shape; infinite by default. ``fx_train_0``: outputs on the training rows at
      time 0, ``[n, O]`` or a number; None for zero, and no outputs there. ``fx_test_0``: the same
      for test rows; None for none. ``k_test_train``: ``[m, n]`` or ``[m, n, O, O]``. It gives the
      outputs on training rows, test rows, or a pair of both, times first: ``[*t.shape, n, O]``.

    Raises:
      ValueError: arrays that do not fit together, and of values, where they are known: not finite,
        a kernel not symmetric or not positive semi-definite beyond rounding, a negative ridge, a
        learning rate of 0 or less, a negative time.

    References:
      Lee et al. (2019), section 2.2; Jacot et al. (2018), section 5.

    Examples:
      >>> kernel, y = jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([[1.0], [1.0]])
      >>> predict = gradient_descent_mse(kernel, y)
      >>> predict().tolist()
      [[1.0], [1.0]]
      >>> bool(jnp.allclose(predict(t=1.0)[:, 0], 1 - jnp.exp(-jnp.array([2.0, 1.0]) / 2)))
      True
    """
    problem = problem_of(k_train_train, y_train, diag_reg, diag_reg_absolute_scale, trace_axes)
    refuse_negative("learning_rate", learning_rate, strictly=True)

    def predict_fn(
        t: Any = None,
        fx_train_0: Any = 0.0,
        fx_test_0: Any = None,
        k_test_train: Array | None = None,
    ) -> Any:
        duration = times(t, learning_rate, problem.layout) / problem.layout.size
        response = flow_response(problem.ridged, duration)
        return _outputs(problem, response, fx_train_0, fx_test_0, k_test_train)

    return predict_fn


def discrete_gradient_descent_mse(
    k_train_train: KernelOrSpectrum,
    y_train: Array,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Sequence[int] = (-1,),
    *,
    momentum: float = 0.0,
) -> PredictFn:
    r"""Gradient descent on squared error with its finite step, in closed form for any step.

    .. math::
       f_k(x) = f_0(x) + K_{xX} (K + \gamma I)^{-1}
       \left(I - (I - \tfrac{\eta}{N} (K + \gamma I))^k\right) (y - f_0(X))

    for the loss of :func:`gradient_descent_mse`. It converges for ``learning_rate`` below
    :func:`max_learning_rate`; above, the outputs grow with the steps, as they do in training.
    With momentum :math:`\mu` it is heavy-ball descent from rest, that of optax's
    ``sgd(learning_rate, momentum)``: :math:`\theta_{k+1} = \theta_k - \eta \nabla_k + \mu (\theta_k
    - \theta_{k-1})`.

    Args:
      k_train_train: as there.
      y_train: as there.
      learning_rate: step size :math:`\eta > 0`.
      diag_reg: as there.
      diag_reg_absolute_scale: as there.
      trace_axes: as there.
      momentum: :math:`\mu` in ``[0, 1)``.

    Returns:
      ``predict_fn(steps=None, fx_train_0=0.0, fx_test_0=None, k_test_train=None)``, as there with
      whole numbers of steps for times.

    Raises:
      ValueError: as there, a momentum out of range, and steps that are not whole numbers, or
        infinitely many at a learning rate that does not converge.
    """
    problem = problem_of(k_train_train, y_train, diag_reg, diag_reg_absolute_scale, trace_axes)
    refuse_negative("learning_rate", learning_rate, strictly=True)
    size = problem.layout.size
    bound = max_learning_rate(
        Spectrum(problem.ridged, problem.spectrum.vectors),
        size,
        momentum,
        diag_reg_absolute_scale=True,
    )

    def predict_fn(
        steps: Any = None,
        fx_train_0: Any = 0.0,
        fx_test_0: Any = None,
        k_test_train: Array | None = None,
    ) -> Any:
        if steps is None and not is_traced(bound, learning_rate) and learning_rate >= bound:
            raise ValueError(
                f"learning_rate {learning_rate} does not converge: the bound is {float(bound):.6g}"
            )
        if steps is not None and not jnp.issubdtype(jnp.asarray(steps).dtype, np.integer):
            raise ValueError(f"steps must be whole numbers; got {steps}")
        step_size = times(1.0, learning_rate, problem.layout) / size
        count = times(steps, 1.0, problem.layout)
        if not is_traced(momentum) and momentum == 0.0:
            response = step_response(problem.ridged, step_size, count)
        else:
            mu = jnp.asarray(momentum).astype(problem.layout.dtype)
            response = momentum_response(problem.ridged, step_size, mu, count)
        return _outputs(problem, response, fx_train_0, fx_test_0, k_test_train)

    return predict_fn


def times(t: Any, learning_rate: Any, layout: Layout) -> Array:
    """``t * learning_rate`` in the kernel's dtype, None for infinity; ValueError if negative."""
    t = jnp.inf if t is None else t
    refuse_negative("t", t)
    return jnp.asarray(t).astype(layout.dtype) * jnp.asarray(learning_rate).astype(layout.dtype)


class Problem(NamedTuple):
    """Training rows as all predictions need them.

    Attributes:
      layout: of the kernel and the outputs.
      spectrum: of the kernel.
      ridged: its eigenvalues with the ridge.
      y_train: targets, outputs on the last axis of the layout.
    """

    layout: Layout
    spectrum: Spectrum
    ridged: Array
    y_train: Array


def problem_of(
    kernel: KernelOrSpectrum,
    y_train: Array,
    diag_reg: float,
    diag_reg_absolute_scale: bool,
    trace_axes: Sequence[int],
) -> Problem:
    """The problem of a kernel or its spectrum, checked."""
    y_train = jnp.asarray(y_train)
    values = kernel.values if isinstance(kernel, Spectrum) else jnp.asarray(kernel)
    layout = layout_of(values, y_train, trace_axes)
    targets = layout.outputs("y_train", y_train, y_train.shape[0])
    return Problem(layout, *as_spectrum(kernel, layout, diag_reg, diag_reg_absolute_scale), targets)


def _outputs(
    problem: Problem, response: Array, fx_train_0: Any, fx_test_0: Any, k_test_train: Array | None
) -> Any:
    layout, n = problem.layout, problem.layout.shape[0]
    start = layout.outputs("fx_train_0", 0.0 if fx_train_0 is None else fx_train_0, n)
    change = partial(moved, layout, problem.spectrum, response, problem.y_train - start)
    results = []
    if fx_train_0 is not None:
        results.append(start + change(None))
    if fx_test_0 is not None:
        test = change(layout.cross("k_test_train", k_test_train))
        results.append(layout.outputs("fx_test_0", fx_test_0, test.shape[response.ndim - 1]) + test)
    if not results:
        raise ValueError("nothing to predict: fx_train_0 and fx_test_0 are both None")
    return results[0] if len(results) == 1 else tuple(results)
