r"""Influence of training rows on outputs, from the tangent kernel, and how it is judged.

To first order in its parameters a trained model is kernel regression with its own tangent kernel,
and what one training row has done to an output is known in closed form: with features
:math:`\phi` of the kernel, residuals :math:`r_i` of the loss at the training rows and
:math:`A = \sum_i \phi_i \phi_i^\top + \lambda I`,

.. math:: \tau_i(x) = \phi(x)^\top A^{-1} \phi_i\, r_i.

With :func:`kernlens.ntk.features` these are the scores of TRAK. Divided by one less the leverage
:math:`h_i = \phi_i^\top A^{-1} \phi_i` they are exact for ridge regression: how much the output
would change by, were the row left out.

    margin = influence.margin_fn(apply)                       # one number an example, (x, label)
    scores = influence.trak(key, margin, params, train, residuals, test)
    worst = scores.mean(0).argsort()[:20]                     # rows that pull the test margins down
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk import memory, sketch
from kernlens.ntk.models import PathFilter
from kernlens.ntk.sketch import MethodName
from kernlens.types import ApplyFn, Array, Params


def trak(
    key: Array,
    f: ApplyFn,
    params: Params,
    x_train: Any,
    residuals: Array | np.ndarray,
    x_test: Any,
    *,
    f_test: ApplyFn | None = None,
    num_features: int = 1024,
    ridge: float = 1e-3,
    leave_one_out: bool = False,
    params_filter: PathFilter | None = None,
    method: MethodName = "auto",
) -> np.ndarray:
    """Scores of training rows on test outputs, by random projections of per-example gradients.

    Scores of several trained models (other seeds, other keys) are averaged: one model's are noisy.

    Args:
      key: a PRNG key, of the projection.
      f: ``f(params, x) -> outputs [n]``, one number an example: the margin, or the prediction.
      params: where the model was trained to.
      x_train: training rows, any pytree of ``[n, ...]``.
      residuals: :math:`r_i`, less the derivative of the loss by the output: ``y - f`` of half the
        squared error, the chance of error where ``f`` is a margin (:func:`margin_fn`), ``[n]``.
      x_test: test rows, ``[m, ...]``.
      f_test: the output that is explained, of the same parameters; ``f`` by default.
      num_features: of the projection.
      ridge: as in :func:`from_features`.
      leave_one_out: as there.
      params_filter: as for :func:`kernlens.ntk.features`.
      method: likewise; ``"vector_products"`` where ``f_test`` is another function.

    Returns:
      Scores, float64 ``[m, n]``: a positive one says that the row raised the output.

    Raises:
      ValueError: as :func:`kernlens.ntk.features` and :func:`from_features`, or outputs that are
        not one number an example.

    References:
      Park, Georgiev, Ilyas, Leclerc and Madry (2023), equation 13.
    """
    if f_test is not None and method == "auto":
        method = "vector_products"  # by the parameters alone: the same directions for both

    def of(function: ApplyFn, x: Any) -> np.ndarray:
        shape = jax.eval_shape(function, params, x).shape
        if len(shape) != 1:
            raise ValueError(
                f"influence is on one number an example; f gives outputs of shape {shape}: take "
                "one of them, or a margin (influence.margin_fn)"
            )
        map_fn = sketch.features(
            key,
            function,
            params,
            num_features,
            trace_axes=(),
            params_filter=params_filter,
            method=method,
        )
        return np.asarray(map_fn(x))

    train, test = of(f, x_train), of(f if f_test is None else f_test, x_test)
    return from_features(test, train, residuals, ridge=ridge, leave_one_out=leave_one_out)


def from_features(
    features_test: Array | np.ndarray,
    features_train: Array | np.ndarray,
    residuals: Array | np.ndarray,
    *,
    ridge: float = 1e-3,
    leave_one_out: bool = False,
) -> np.ndarray:
    r"""Scores from features of any kernel.

    Args:
      features_test: ``[m, p]``.
      features_train: ``[n, p]``.
      residuals: of the training rows, ``[n]``.
      ridge: :math:`\lambda \ge 0` relative to the mean squared norm of the training rows' features.
        0 needs features of full rank.
      leave_one_out: whether to divide by one less the leverage: the exact change of a ridge
        regression when the row is left out. Residuals are then those of that regression.

    Returns:
      Scores, float64 ``[m, n]``.

    Raises:
      ValueError: shapes that do not fit together, values that are not finite, a negative ridge, or
        none where the features are not of full rank.
    """
    test, train = (np.asarray(a, np.float64) for a in (features_test, features_train))
    if test.ndim != 2 or train.ndim != 2 or test.shape[1] != train.shape[1]:
        raise ValueError(f"features must be [m, p] and [n, p]; got {test.shape} and {train.shape}")
    n, p = train.shape
    if n <= p:
        return from_kernels(
            test @ train.T, train @ train.T, residuals, ridge=ridge, leave_one_out=leave_one_out
        )
    own = _checked(residuals, n, ridge, (test, train))
    gram = train.T @ train + ridge * np.mean(np.sum(train**2, axis=1)) * np.eye(p)
    solved = _solve(gram, train.T)
    leverage = np.einsum("np,pn->n", train, solved) if leave_one_out else 0.0
    return (test @ solved) * (own / (1.0 - leverage))


def from_kernels(
    k_test_train: Array | np.ndarray,
    k_train_train: Array | np.ndarray,
    residuals: Array | np.ndarray,
    *,
    ridge: float = 1e-3,
    leave_one_out: bool = False,
) -> np.ndarray:
    """Scores from the kernel itself, without a projection: for up to some ten thousand rows.

    Args:
      k_test_train: of test with training rows, ``[m, n]``.
      k_train_train: of the training rows, ``[n, n]``.
      residuals: as :func:`from_features`.
      ridge: likewise; relative to the mean of the diagonal of ``k_train_train``.
      leave_one_out: likewise.

    Returns:
      Scores, float64 ``[m, n]``.

    Raises:
      ValueError: as :func:`from_features`, or a kernel that would not fit in memory.
    """
    cross, own = (np.asarray(a, np.float64) for a in (k_test_train, k_train_train))
    n = len(own)
    if own.shape != (n, n) or cross.ndim != 2 or cross.shape[1] != n:
        raise ValueError(f"kernels must be [m, n] and [n, n]; got {cross.shape} and {own.shape}")
    left = _checked(residuals, n, ridge, (cross, own))
    memory.check_fits("the factor of the kernel", (n, n), 8, "take features: influence.trak")
    ridged = own + ridge * np.mean(np.diagonal(own)) * np.eye(n)
    # K (K + l)^-1 = phi A^-1 phi'
    leverage = np.diagonal(_solve(ridged, own)) if leave_one_out else 0.0
    return _solve(ridged, cross.T).T * (left / (1.0 - leverage))


def margin_fn(apply: ApplyFn) -> ApplyFn:
    r"""The margin of a classifier, :math:`\log p_y / (1 - p_y)`, one number an example.

    Its cross-entropy is :math:`\log(1 + e^{-f})`, so the residual of a row is
    :math:`1 - p_y = 1 / (1 + e^f)`.

    Args:
      apply: ``apply(params, x) -> logits [n, C]``.

    Returns:
      ``margin(params, (x, labels)) -> [n]``, with integer labels.

    References:
      Park, Georgiev, Ilyas, Leclerc and Madry (2023), section 3.2.
    """

    def margin(params: Params, batch: tuple[Any, Array]) -> Array:
        x, labels = batch
        logits = apply(params, x)
        own = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
        is_own = jnp.arange(logits.shape[-1]) == labels[:, None]
        others = jax.nn.logsumexp(jnp.where(is_own, -jnp.inf, logits), axis=-1)
        return own - others

    return margin


def linear_datamodeling_score(
    scores: np.ndarray, subsets: np.ndarray, outputs: np.ndarray
) -> np.ndarray:
    """Rank correlation of what scores predict for models trained on subsets with what they give.

    Args:
      scores: scores of training rows on test outputs, ``[m, n]``.
      subsets: which rows each model was trained on, bool ``[models, n]``.
      outputs: of these models at the test rows, ``[models, m]``.

    Returns:
      Spearman's correlation over models, for each test row, ``[m]``; 0 where it is not defined.

    Raises:
      ValueError: shapes that do not fit together, or fewer than two models.

    References:
      Ilyas, Park, Engstrom, Leclerc and Madry (2022), section 3.1.
    """
    scores, outputs = np.asarray(scores, np.float64), np.asarray(outputs, np.float64)
    subsets = np.asarray(subsets, bool)
    m, n = scores.shape
    models = len(subsets)
    if subsets.shape != (models, n) or outputs.shape != (models, m) or models < 2:
        raise ValueError(
            f"expected scores [m, n], subsets [models, n] and outputs [models, m] of two models "
            f"or more; got {scores.shape}, {subsets.shape} and {outputs.shape}"
        )
    return _correlations(_ranks(subsets @ scores.T), _ranks(outputs))


def leave_one_out_correlation(scores: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Pearson's correlation of scores with what leaving each row out did, for each test row.

    Args:
      scores: ``[m, n]``, or those of some rows.
      changes: output with all rows, less that of a model trained without the row, ``[m, n]``.

    Returns:
      Correlations over rows, ``[m]``; 0 where they are not defined.

    Raises:
      ValueError: shapes that differ.
    """
    scores, changes = np.asarray(scores, np.float64), np.asarray(changes, np.float64)
    if scores.shape != changes.shape or scores.ndim != 2:
        raise ValueError(
            f"expected scores and changes [m, n]; got {scores.shape} and {changes.shape}"
        )
    return _correlations(scores.T, changes.T)


def _checked(residuals: Any, n: int, ridge: float, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    found = np.asarray(residuals, np.float64)
    if found.shape != (n,):
        raise ValueError(f"residuals must be one for each of {n} training rows; got {found.shape}")
    if not ridge >= 0:
        raise ValueError(f"ridge must be at least 0; got {ridge}")
    if not all(np.all(np.isfinite(array)) for array in (found, *arrays)):
        raise ValueError("features, kernels and residuals must be finite")
    return found


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    try:
        # The factor tells whether it is positive definite; solve alone would divide by rounding.
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError(
            "the kernel is not positive definite beyond rounding: give a ridge, such as 1e-3"
        ) from None
    return np.linalg.solve(matrix, right)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Mean ranks along the first axis."""
    made = np.empty(values.shape)
    for column in range(values.shape[1]):
        _, inverse, counts = np.unique(values[:, column], return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        made[:, column] = (last - (counts - 1) / 2.0)[inverse]
    return made


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.sqrt(np.sum(a**2, 0) * np.sum(b**2, 0))
    return np.where(size > 0, np.sum(a * b, 0) / np.where(size > 0, size, 1.0), 0.0)
