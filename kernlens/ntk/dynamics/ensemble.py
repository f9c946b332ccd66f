r"""Ensembles over initialisations, and Gaussian processes, as one formula.

A wide network starts as a Gaussian process with kernel :math:`K` (NNGP) and trains by its tangent
kernel :math:`\Theta` (NTK). Its outputs at any time are linear in those at the start, so the
ensemble stays Gaussian. Training the last layer alone, :math:`\Theta = K`, ends at the posterior of
the NNGP.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from kernlens.ntk.dynamics.layout import is_traced, refuse_negative
from kernlens.ntk.dynamics.spectrum import (
    Spectrum,
    flow_response,
    in_double_precision,
    moved,
    product,
)
from kernlens.ntk.dynamics.squared_error import PredictFn, Problem, problem_of, times
from kernlens.types import Array

Kernels: TypeAlias = Any
"""A kernel as an array, or an object with attributes ``nngp`` and ``ntk`` that are arrays."""

KernelFn: TypeAlias = Callable[..., Kernels]
"""``kernel_fn(x1, x2, get) -> Kernels``, with ``x2=None`` for the rows of ``x1`` themselves."""

TRAINED = {"nngp": "nngp", "ntk": "ntk", "ntkgp": "ntk"}
"""The kernel that each kind of ensemble trains by."""

INITIAL = {"nngp": "nngp", "ntk": "nngp", "ntkgp": "ntk"}
"""The covariance that it starts from."""


class Gaussian(NamedTuple):
    """Mean and covariance of outputs.

    Attributes:
      mean: ``[*t.shape, m, O]``.
      covariance: of the layout of the kernel, ``[*t.shape, m, m]`` or ``[*t.shape, m, m, O, O]``.
        It is computed in float64; under a trace in the dtype of the kernel, where in float32 its
        entries are off by up to some 1e-6 of the prior variance. Directions that the dtype of the
        kernel does not resolve (eigenvalues below 10 of its epsilons of the largest) keep their
        prior variance. A variance that rounding left below 0 is 0.
    """

    mean: Array
    covariance: Array


class Gaussians(NamedTuple):
    """What was asked for of several kinds at once, by kind; None for the rest."""

    nngp: Any = None
    ntk: Any = None
    ntkgp: Any = None


def ensemble_mse(
    k_train_train: Kernels,
    y_train: Array,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Sequence[int] = (-1,),
) -> PredictFn:
    r"""Mean and covariance over initialisations of gradient flow on squared error, at any time.

    With :math:`R_t` the response :math:`(\Theta + \gamma I)^{-1} (I - e^{-\eta t (\Theta + \gamma
    I)/N})` and :math:`P = \Theta_{xX} R_t`,

    .. math::
       \mu_t(x) = P y, \qquad
       \Sigma_t(x, x') = K_{xx'} - P K_{Xx'} - K_{xX} P'^\top + P (K_{XX} + \sigma^2 I) P'^\top

    ``get`` says which: ``"ntk"``, all layers trained, :math:`\sigma = 0`; ``"nngp"``,
    :math:`\Theta = K`; ``"ntkgp"``, :math:`K = \Theta`. The last two have :math:`\sigma^2 =
    \gamma`, each member being given targets with noise of that variance, so that they end at the
    posterior of the Gaussian process with noise :math:`\gamma`.

    Args:
      k_train_train: ``nngp`` and ``ntk`` of the training rows, ``[n, n]`` or ``[n, n, O, O]``, as
        attributes; or one array, for the only kernel that is needed.
      y_train: targets, ``[n, O]``.
      learning_rate: as in :func:`gradient_descent_mse`.
      diag_reg: as there, relative to the mean eigenvalue of the kernel trained by.
      diag_reg_absolute_scale: as there.
      trace_axes: as there.

    Returns:
      ``predict_fn(t=None, get=None, k_test_train=None, k_test_test=None)``. ``t``: times of any
      shape, infinite by default. ``get``: one kind, or a tuple of them for :class:`Gaussians`;
      ``("nngp", "ntk")`` by default. ``k_test_train``: kernels as above, the training rows' own by
      default. ``k_test_test``: kernels of the test rows (``nngp`` for ``"nngp"`` and ``"ntk"``,
      ``ntk`` for ``"ntkgp"``); None for no covariance. On training rows any other value asks for
      it. It gives means, or :class:`Gaussian` values.

    Raises:
      ValueError: as :func:`gradient_descent_mse`; another kind; a kernel that is needed and
        missing.

    References:
      Lee et al. (2019), section 2.3; He et al. (2020) for ``"ntkgp"``; Matthews et al. (2017) for
      the noise.
    """
    y_train = jnp.asarray(y_train)
    refuse_negative("learning_rate", learning_rate, strictly=True)

    def prepare(trained: str) -> Problem:
        kernel = _kernel(k_train_train, trained, "k_train_train")
        return problem_of(kernel, y_train, diag_reg, diag_reg_absolute_scale, trace_axes)

    @cache
    def prepare_once(trained: str) -> Problem:
        with jax.ensure_compile_time_eval():  # a value of a trace must not outlive it in the cache
            return prepare(trained)

    @cache
    def prepare_wide(trained: str) -> tuple[Spectrum, Array]:
        layout = prepare_once(trained).layout
        kernel = _kernel(k_train_train, trained, "k_train_train")
        with jax.ensure_compile_time_eval():
            return in_double_precision(kernel, layout, diag_reg, diag_reg_absolute_scale)

    def predict_one(get: str, t: Any, k_test_train: Kernels, k_test_test: Any) -> Any:
        if get not in TRAINED:
            raise ValueError(f"get must be of {', '.join(map(repr, TRAINED))}; got {get!r}")
        own = _kernel(k_train_train, TRAINED[get], "k_train_train")
        traced = is_traced(own, y_train, diag_reg)
        trained = (prepare if traced else prepare_once)(TRAINED[get])
        layout, parts = trained.layout, trained.spectrum
        if k_test_train is None:
            k_test_train = k_train_train
            k_test_test = None if k_test_test is None else k_train_train
        own = _kernel(k_test_train, TRAINED[get], "k_test_train")
        cross = layout.cross("k_test_train", own)
        duration = times(t, learning_rate, layout) / layout.size
        response = flow_response(trained.ridged, duration)
        mean = moved(layout, parts, response, trained.y_train, cross)
        if k_test_test is None:
            return mean
        start = _kernel(k_test_test, INITIAL[get], "k_test_test")
        given = [cross, layout.square("k_test_test", start, own.shape[0])]
        if TRAINED[get] != INITIAL[get]:
            rows = [(k_test_train, "k_test_train"), (k_train_train, "k_train_train")]
            given += [layout.cross(name, _both(k, INITIAL[get], name)) for k, name in rows]
        if traced or is_traced(duration, *given):
            covariance = _covariance(parts, trained.ridged, response, *given)
        else:
            # Of two numbers of the size of the prior little may be left: digits that float32 lacks.
            with jax.enable_x64(True):
                spectrum, ridged = prepare_wide(TRAINED[get])
                duration, *given = (x.astype(jnp.float64) for x in (duration, *given))
                response = flow_response(ridged, duration, given=layout.dtype)
                covariance = _covariance(spectrum, ridged, response, *given).astype(layout.dtype)
        return Gaussian(mean, layout.interleave(covariance))

    def predict_fn(
        t: Any = None,
        get: str | Sequence[str] | None = None,
        k_test_train: Kernels = None,
        k_test_test: Any = None,
    ) -> Any:
        kinds = ("nngp", "ntk") if get is None else get
        if isinstance(kinds, str):
            return predict_one(kinds, t, k_test_train, k_test_test)
        return Gaussians(**{g: predict_one(g, t, k_test_train, k_test_test) for g in kinds})

    return predict_fn


def gp_inference(
    k_train_train: Kernels,
    y_train: Array,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Sequence[int] = (-1,),
) -> PredictFn:
    r"""Posterior of a Gaussian process, :func:`ensemble_mse` at infinite time.

    .. math::
       \mu(x) = K_{xX} (K + \gamma I)^{-1} y, \qquad
       \Sigma(x, x') = K_{xx'} - K_{xX} (K + \gamma I)^{-1} K_{Xx'}

    for ``"nngp"``, the Bayesian network, and, with :math:`\Theta` for :math:`K`, ``"ntkgp"``;
    ``"ntk"`` is the ensemble of networks trained to the end.

    Args:
      k_train_train: as there.
      y_train: as there.
      diag_reg: :math:`\gamma \ge 0`, the variance of the noise, relative to the mean eigenvalue.
      diag_reg_absolute_scale: take ``diag_reg`` for :math:`\gamma` itself.
      trace_axes: as there.

    Returns:
      ``predict_fn(get=None, k_test_train=None, k_test_test=None)``, as there without times.

    Raises:
      ValueError: as there.

    References:
      Rasmussen and Williams (2006), equations 2.22 to 2.24.

    Examples:
      >>> kernel, y = jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([[1.0], [1.0]])
      >>> predict = gp_inference(kernel, y, diag_reg=1.0, diag_reg_absolute_scale=True)
      >>> round(predict("nngp", k_test_train=jnp.array([[2.0, 1.0]])).item(), 4)
      1.1667
    """
    ensemble = ensemble_mse(
        k_train_train, y_train, 1.0, diag_reg, diag_reg_absolute_scale, trace_axes
    )

    def predict_fn(
        get: str | Sequence[str] | None = None,
        k_test_train: Kernels = None,
        k_test_test: Any = None,
    ) -> Any:
        return ensemble(None, get, k_test_train, k_test_test)

    return predict_fn


def gradient_descent_mse_ensemble(
    kernel_fn: KernelFn,
    x_train: Any,
    y_train: Array,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Sequence[int] = (-1,),
    **kernel_kwargs: Any,
) -> PredictFn:
    """:func:`ensemble_mse` from inputs and the kernel function of an infinitely wide network.

    Args:
      kernel_fn: ``kernel_fn(x1, x2, get)``, to which ``get=("nngp", "ntk")`` goes; see
        :func:`ensemble_mse` for what it gives.
      x_train: training inputs.
      y_train: as there.
      learning_rate: as there.
      diag_reg: as there.
      diag_reg_absolute_scale: as there.
      trace_axes: as there.
      **kernel_kwargs: passed on to ``kernel_fn``.

    Returns:
      ``predict_fn(t=None, x_test=None, get=None, compute_cov=False)``, as there with inputs for
      kernels; the training rows by default.

    Raises:
      ValueError: as there.

    Examples:
      >>> from kernlens.ntk import infinite
      >>> net = infinite.serial(infinite.dense(512), infinite.relu(), infinite.dense(1))
      >>> x, y = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([[1.0], [-1.0], [0.0]])
      >>> predict = gradient_descent_mse_ensemble(net.kernel_fn, x, y, diag_reg=1e-4)
      >>> mean, covariance = predict(x_test=x, get="ntk", compute_cov=True)
      >>> bool(jnp.abs(mean - y).max() < 0.01), covariance.shape
      (True, (3, 3))
    """
    kernels = partial(kernel_fn, get=("nngp", "ntk"), **kernel_kwargs)
    ensemble = ensemble_mse(
        kernels(x_train, None),
        y_train,
        learning_rate,
        diag_reg,
        diag_reg_absolute_scale,
        trace_axes,
    )

    def predict_fn(
        t: Any = None,
        x_test: Any = None,
        get: str | Sequence[str] | None = None,
        compute_cov: bool = False,
    ) -> Any:
        if x_test is None:
            return ensemble(t, get, None, compute_cov or None)
        cross = kernels(x_test, x_train)
        return ensemble(t, get, cross, kernels(x_test, None) if compute_cov else None)

    return predict_fn


def _kernel(kernels: Kernels, which: str, name: str) -> Array:
    """One kernel of several; a lone array serves for whichever is asked for."""
    kernel = kernels if hasattr(kernels, "shape") else getattr(kernels, which, None)
    if kernel is None:
        raise ValueError(f"{name} lacks the kernel {which!r}; got {type(kernels).__name__}")
    return jnp.asarray(kernel)


def _both(kernels: Kernels, which: str, name: str) -> Array:
    if hasattr(kernels, "shape"):
        raise ValueError(
            f"the covariance of 'ntk' needs both kernels: {name} must have attributes nngp and "
            "ntk; got one array"
        )
    return _kernel(kernels, which, name)


@jax.jit
def _covariance(
    spectrum: Spectrum, ridged: Array, response: Array, cross: Array, start: Array, *initial: Array
) -> Array:
    """The covariance, its variances at least 0.

    Args:
      spectrum: of the kernel trained by.
      ridged: its eigenvalues with the ridge.
      response: to training, ``[..., R]``.
      cross: kernel trained by, of test with training rows.
      start: covariance at the start, of test rows.
      *initial: covariance at the start of test with training rows and of training rows, unless it
        is the kernel trained by.
    """
    vectors, response = spectrum.vectors, response[..., None, :]
    basis = product(cross, vectors)
    if not initial:
        # P K' + K P' - P (K + noise) P', in the eigenbasis that all of them share.
        factor = response * (2.0 - response * ridged)
        return _with_variances(start - product(factor * basis, basis.T))
    moved_by = response * basis
    once = product(moved_by, product(initial[0], vectors).T)
    inner = product(vectors.T, product(initial[1], vectors))
    twice = product(product(moved_by, inner), jnp.swapaxes(moved_by, -1, -2))
    return _with_variances(start - once - jnp.swapaxes(once, -1, -2) + twice)


def _with_variances(covariance: Array) -> Array:
    """Rounding may leave a variance below 0, where none can be."""
    on_diagonal = jnp.eye(covariance.shape[-1], dtype=bool)
    return jnp.where(on_diagonal, jnp.maximum(covariance, 0.0), covariance)
