"""Gradient flow on any differentiable loss, as an ordinary differential equation of the outputs."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from kernlens.ntk.dynamics.layout import is_traced, layout_of, refuse_negative, refuse_non_finite
from kernlens.ntk.dynamics.spectrum import check_kernel, product, refuse_momentum
from kernlens.ntk.dynamics.squared_error import PredictFn, times
from kernlens.types import Array

Loss: TypeAlias = Callable[[Array, Array], Array]
"""``loss(fx [n, O], y [n, O]) -> scalar``, its mean over the rows taken."""


class SolverInfo(NamedTuple):
    """How the solver fared.

    Attributes:
      num_steps: steps tried, refused ones included, an integer scalar.
      success: whether it reached the last time, a boolean scalar; where it did not, the outputs of
        the times beyond are NaN.
    """

    num_steps: Array
    success: Array


class ODEState(NamedTuple):
    r"""Where a gradient flow stands: its outputs, and their speeds where it has momentum.

    Attributes:
      fx_train: outputs on the training rows, ``[n, O]`` or a number; None for zero.
      fx_test: the same on test rows; None for none.
      qx_train: speeds of ``fx_train``, for a time of :math:`\sqrt\eta` a step; None for rest.
      qx_test: the same of ``fx_test``.
    """

    fx_train: Any = None
    fx_test: Any = None
    qx_train: Any = None
    qx_test: Any = None


def gradient_descent(
    loss: Loss,
    k_train_train: Array,
    y_train: Array,
    learning_rate: float = 1.0,
    momentum: float | None = None,
    trace_axes: Sequence[int] = (-1,),
    *,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    max_steps: int = 100_000,
    solver: Any = None,
    return_info: bool = False,
) -> PredictFn:
    r"""Gradient flow on any loss :math:`L`, solved with an adaptive step.

    .. math:: \frac{d f_t(x)}{dt} = -\eta\, K_{xX} \nabla_{f(X)} L(f_t(X), y)

    With momentum :math:`\mu` it is the flow that heavy-ball descent from rest follows, in units of
    :math:`\sqrt\eta`, so that :math:`t` still counts steps:

    .. math:: \ddot f = -K_{xX} \nabla L - \frac{1 - \mu}{\sqrt\eta}\, \dot f.

    Memory is a few copies of the outputs. An explicit solver takes about
    :math:`\eta t \lambda_{\max} |L''|` steps once the fast directions are done; for times long past
    that an implicit one is better.

    Args:
      loss: of outputs and targets, both ``[n, O]``, to a scalar; one of :data:`LOSSES`, or any.
      k_train_train: tangent kernel of the training rows, ``[n, n]`` where the output axes are
        traced, else in pairs after the rows, ``[n, n, O, O]``.
      y_train: targets, ``[n, O]``; a class as its indicator.
      learning_rate: :math:`\eta > 0`; without momentum only :math:`\eta t` matters.
      momentum: :math:`\mu` in ``[0, 1)``; None for plain gradient flow.
      trace_axes: output axes that the kernel has no pair of, being the same for each entry.
      rtol: relative tolerance of a step, on the outputs.
      atol: absolute tolerance of a step, in the unit of the outputs.
      max_steps: steps to try before giving up.
      solver: a diffrax solver; ``diffrax.Tsit5()`` by default.
      return_info: whether predictions come with a :class:`SolverInfo`.

    Returns:
      ``predict_fn(t, fx_train_0=0.0, fx_test_0=None, k_test_train=None)``: arguments and outputs as
      for :func:`gradient_descent_mse`, so ``fx_train, fx_test = predict_fn(...)`` where both are
      given; finite times in any order. With ``return_info``, ``(outputs, info)``. An
      :class:`ODEState` in place of ``fx_train_0`` and ``fx_test_0`` is where the flow starts, and
      it then gives one for each time: a run goes on from where another stopped.

    Raises:
      ImportError: diffrax is not installed.
      ValueError: as :func:`gradient_descent_mse`, save that definiteness is not looked at, and a
        loss that is not a scalar, times that are not finite, tolerances or ``max_steps`` of 0 or
        less, a momentum out of range; speeds without momentum.

    Warns:
      UserWarning: a solver that gave up, where that is known and no info was asked for.

    References:
      Lee et al. (2019), section 2.2, before the loss is chosen; Tsitouras (2011), the solver.
    """
    diffrax = _optional("diffrax")
    k_train_train, y_train = jnp.asarray(k_train_train), jnp.asarray(y_train)
    layout = layout_of(k_train_train, y_train, trace_axes)
    n = layout.shape[0]
    kernel = layout.square("k_train_train", k_train_train, n)
    check_kernel(k_train_train)
    y_train = layout.outputs("y_train", y_train, n)
    for name, value in {
        "learning_rate": learning_rate,
        "rtol": rtol,
        "atol": atol,
        "max_steps": max_steps,
    }.items():
        refuse_negative(name, value, strictly=True)
    shape = jax.eval_shape(loss, y_train, y_train).shape
    if shape:
        raise ValueError(f"loss must give a scalar, the mean over rows; got shape {shape}")
    if momentum is not None:
        refuse_momentum(momentum)
    gradient = jax.grad(loss)

    def force(outputs: list[Array], kernels: list[Array]) -> list[Array]:
        slope = layout.flatten(gradient(outputs[0], y_train))
        return [-layout.unflatten(product(k, slope)) for k in kernels]

    def velocity(_: Any, state: Any, given: tuple[list[Array], Array | None]) -> Any:
        kernels, drag = given
        if drag is None:
            return force(state, kernels)
        outputs, speeds = state
        return speeds, [
            pull - drag * v for pull, v in zip(force(outputs, kernels), speeds, strict=True)
        ]

    def predict_fn(
        t: Any,
        fx_train_0: Any = 0.0,
        fx_test_0: Any = None,
        k_test_train: Array | None = None,
    ) -> Any:
        state = fx_train_0 if isinstance(fx_train_0, ODEState) else None
        speeds: list[Any] = [None, None]
        if state is not None:
            if fx_test_0 is not None:
                raise ValueError("a state has outputs on test rows of its own: leave fx_test_0 out")
            fx_train_0, fx_test_0, *speeds = state
            _check_speeds(state, momentum)
        drag = None
        duration = times(t, learning_rate, layout)
        if momentum is not None:
            unit = jnp.sqrt(jnp.asarray(learning_rate).astype(layout.dtype))
            drag = (1.0 - momentum) / unit
            duration = times(t, unit, layout)
        refuse_non_finite("t", duration)
        start = [layout.outputs("fx_train_0", 0.0 if fx_train_0 is None else fx_train_0, n)]
        kernels = [kernel]
        if fx_test_0 is not None:
            kernels.append(layout.cross("k_test_train", k_test_train))
            m = kernels[-1].shape[0] * n // layout.rows
            start.append(layout.outputs("fx_test_0", fx_test_0, m))

        moving = [
            layout.outputs(name, 0.0 if q is None else q, f.shape[0])
            for name, q, f in zip(("qx_train", "qx_test"), speeds, start, strict=False)
        ]
        order = jnp.argsort(duration.ravel())
        ordered = duration.ravel()[order]
        with jax.numpy_dtype_promotion("standard"):
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(velocity),
                solver or diffrax.Tsit5(),
                t0=jnp.zeros((), layout.dtype),
                t1=ordered[-1],
                dt0=None,
                y0=start if drag is None else (start, moving),
                args=(kernels, drag),
                saveat=diffrax.SaveAt(ts=ordered),
                stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
                max_steps=max_steps,
                throw=False,
            )
        back = jnp.argsort(order)

        def at_times(values: list[Array]) -> list[Array]:
            return [
                jnp.where(jnp.isfinite(f), f, jnp.nan)[back].reshape(duration.shape + f.shape[1:])
                for f in values
            ]

        results = at_times(solution.ys if drag is None else solution.ys[0])
        if state is None:
            results = results[fx_train_0 is None :]
            if not results:
                raise ValueError("nothing to predict: fx_train_0 and fx_test_0 are both None")
        info = SolverInfo(
            jnp.asarray(solution.stats["num_steps"]), solution.result == diffrax.RESULTS.successful
        )
        outputs: Any = results[0] if len(results) == 1 else tuple(results)
        if state is not None:
            ended: dict[str, Any] = dict(zip(("fx_train", "fx_test"), results, strict=False))
            if drag is not None:
                ended |= dict(zip(("qx_train", "qx_test"), at_times(solution.ys[1]), strict=False))
            outputs = ODEState(**ended)
        if return_info:
            return outputs, info
        if not is_traced(info.success) and not info.success:
            warnings.warn(
                f"the solver gave up after {int(info.num_steps):,} steps: outputs of later times "
                "are NaN; raise max_steps, or pass an implicit solver",
                stacklevel=2,
            )
        return outputs

    return predict_fn


def _check_speeds(state: ODEState, momentum: float | None) -> None:
    if momentum is None and (state.qx_train is not None or state.qx_test is not None):
        raise ValueError("a state with speeds, qx_train or qx_test, needs a momentum")
    if state.fx_test is None and state.qx_test is not None:
        raise ValueError("a state with qx_test needs fx_test, the outputs that it moves")


def mse(fx: Array, y: Array) -> Array:
    r"""Half the mean squared error, :math:`\frac1{2nO} \sum (f - y)^2`."""
    return 0.5 * jnp.mean((fx - y) ** 2)


def softmax_cross_entropy(fx: Array, y: Array) -> Array:
    r"""Cross-entropy in nats, :math:`-\frac1n \sum_i \sum_c y_{ic} \log\mathrm{softmax}(f_i)_c`.

    Args:
      fx: logits, ``[n, O]``.
      y: class indicators or probabilities, rows summing to 1, ``[n, O]``.

    Returns:
      The mean over rows.
    """
    import optax  # not of every command's start

    return optax.softmax_cross_entropy(fx, y).mean()


def logistic(fx: Array, y: Array) -> Array:
    r"""Logistic loss in nats, :math:`\frac1{nO} \sum \log(1 + e^{f}) - y f`.

    Args:
      fx: logits, ``[n, O]``.
      y: labels or probabilities in ``[0, 1]``, ``[n, O]``.

    Returns:
      The mean over rows and outputs.
    """
    import optax

    return optax.sigmoid_binary_cross_entropy(fx, y).mean()


LOSSES: dict[str, Loss] = {
    "mse": mse,
    "softmax_cross_entropy": softmax_cross_entropy,
    "logistic": logistic,
}
"""Losses by name."""


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"training dynamics of a general loss need the package {module}: "
            "pip install 'kernlens[ntk]'"
        ) from error
