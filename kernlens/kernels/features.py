r"""Feature maps: any kernel as features, :math:`k(x, x') \approx \langle\Phi(x), \Phi(x')\rangle`.

A feature map is a function ``rows [n, d] -> features [n, p]``. Those with fitted arrays are
:class:`jax.tree_util.Partial` values: callables that are also pytrees, so they pass through
``jit`` and ``vmap`` as arguments. Every score and probe is written once, for features:

    map_fn = features.nystrom(kernels.rbf, features.kmeans_landmarks(key, x, 500))
    moments.from_arrays(map_fn(x), codes, num_classes)
"""

from functools import partial
from math import inf

import chex
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from kernlens import kernels
from kernlens.types import Array, FeatureMap, Kernel

MAX_EXACT_ROWS = 4096
"""Rows over which :func:`exact` refuses; the factor takes half a minute there on two cores."""

SPECTRAL_DEGREES: dict[str, float] = {"rbf": inf, "matern52": 5.0, "laplace": 1.0}
"""Degrees of freedom of the spectral density (a Student t) of each stationary kernel."""


def exact(
    kernel: Kernel,
    rows: Array,
    *,
    rank: int | None = None,
    tolerance: float | None = None,
    max_rows: int = MAX_EXACT_ROWS,
) -> FeatureMap:
    r"""The kernel's own features on ``rows``: a factor of their Gram matrix.

    With :math:`K = U \Lambda U^\top`, the map is :math:`\Phi(x) = k(x, X)\, U \Lambda^{-1/2}`; on
    the rows themselves :math:`\Phi = U \Lambda^{1/2}`, so :math:`\Phi\Phi^\top = K`, and new rows
    are projected on the span of the old ones.

    Args:
      kernel: any kernel.
      rows: the rows on which it is to be exact, ``[n, d]``.
      rank: number of features to keep, the largest eigenvalues first; all ``n`` by default.
      tolerance: eigenvalues up to this share of the largest become zero features; ``n`` times the
        machine epsilon by default.
      max_rows: the most rows to accept.

    Returns:
      A map to ``rank`` features.

    Raises:
      ValueError: more rows than ``max_rows``, before anything is computed.

    References:
      Schölkopf, Smola and Müller (1998), section 3, uncentred.
    """
    chex.assert_rank(rows, 2)
    n = rows.shape[0]
    if n > max_rows:
        size = n * n * jnp.dtype(rows.dtype).itemsize
        raise ValueError(
            f"exact features of n = {n:,} rows need a Gram matrix of {n:,} x {n:,} "
            f"({size:,} bytes) and its eigendecomposition; the limit is {max_rows:,} rows: "
            "use features.nystrom with fewer landmarks, or raise max_rows"
        )
    return nystrom(kernel, rows, rank=rank, tolerance=tolerance)


def nystrom(
    kernel: Kernel, landmarks: Array, *, rank: int | None = None, tolerance: float | None = None
) -> FeatureMap:
    r"""Nyström features, :math:`\Phi(x) = k(x, L)\, U \Lambda^{-1/2}`.

    Here :math:`L` are the landmarks and :math:`K_{LL} = U \Lambda U^\top`.
    :math:`\Phi\Phi^\top = K_{XL} K_{LL}^{+} K_{LX}` is the best approximation of the Gram from the
    span of the landmarks, from below: :math:`K - \Phi\Phi^\top` is positive semi-definite.

    Args:
      kernel: any kernel.
      landmarks: ``[m, d]``, as chosen by one of the ``*_landmarks`` functions.
      rank: number of features to keep, the largest eigenvalues first; all ``m`` by default.
      tolerance: eigenvalues up to this share of the largest become zero features; ``m`` times the
        machine epsilon by default.

    Returns:
      A map to ``rank`` features; time ``m`` kernel values and ``m * rank`` products a row.

    Raises:
      ValueError: ``rank`` outside ``1..m``.

    References:
      Williams and Seeger (2001), equation 9.
    """
    chex.assert_rank(landmarks, 2)
    m = landmarks.shape[0]
    rank = m if rank is None else rank
    if not 1 <= rank <= m:
        raise ValueError(f"rank must lie in 1..{m}, the number of landmarks; got {rank}")
    gram = kernel(landmarks, landmarks)
    tolerance = m * float(jnp.finfo(gram.dtype).eps) if tolerance is None else tolerance
    return Partial(partial(_project, kernel), landmarks, _whitening(gram, tolerance, rank=rank))


def random_fourier(
    key: Array,
    dim: int,
    num_features: int,
    *,
    lengthscale: float = 1.0,
    spectral_degrees: float = SPECTRAL_DEGREES["rbf"],
) -> FeatureMap:
    r"""Random Fourier features, :math:`\sqrt{2/p}\,[\cos(x W), \sin(x W)]`, of a stationary kernel.

    The frequencies are Student t with :math:`2\nu` degrees of freedom and scale
    :math:`1/\ell`: normal for the RBF kernel, Cauchy for the Laplace kernel. The estimate of the
    kernel is unbiased, its diagonal is 1 exactly, and its error falls as :math:`1/\sqrt p`.

    Args:
      key: a PRNG key.
      dim: width ``d`` of the rows.
      num_features: ``p``, even.
      lengthscale: :math:`\ell > 0` in the unit of the rows.
      spectral_degrees: which kernel, from :data:`SPECTRAL_DEGREES`.

    Returns:
      A map from ``[n, dim]`` to ``[n, num_features]``. A common mean far larger than the
      lengthscale costs accuracy in the phases; take it off first, the kernel does not see it.

    Raises:
      ValueError: an odd or non-positive number of features.

    References:
      Rahimi and Recht (2007), algorithm 1; Rasmussen and Williams (2006), equation 4.15.

    Examples:
      >>> from kernlens import kernels
      >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0], [3.0, 0.0]])
      >>> phi = random_fourier(jax.random.key(0), 2, 20_000)(x)
      >>> bool(jnp.abs(phi @ phi.T - kernels.rbf(x, x)).max() < 0.03)
      True
    """
    if num_features < 2 or num_features % 2:
        raise ValueError(f"num_features must be even and positive; got {num_features}")
    normal_key, spread_key = jax.random.split(key)
    frequencies = jax.random.normal(normal_key, (dim, num_features // 2)) / lengthscale
    if spectral_degrees != inf:
        half = jax.random.gamma(spread_key, 0.5 * spectral_degrees, (num_features // 2,))
        frequencies = frequencies * jnp.sqrt(0.5 * spectral_degrees / half)
    return Partial(_waves, frequencies)


@partial(jax.jit, static_argnames="m")
def uniform_landmarks(key: Array, x: Array, m: int) -> Array:
    """Landmarks drawn uniformly without replacement.

    Args:
      key: a PRNG key.
      x: rows, ``[n, d]``.
      m: number of landmarks, in ``1..n``.

    Returns:
      Distinct rows of ``x``, ``[m, d]``.

    Raises:
      ValueError: ``m`` outside ``1..n``.

    References:
      Williams and Seeger (2001), section 2.
    """
    n = _check_landmarks(x, m)
    return x[jax.random.choice(key, n, (m,), replace=False)]


@partial(jax.jit, static_argnames="m")
def kmeans_landmarks(key: Array, x: Array, m: int) -> Array:
    """Landmarks by k-means++ seeding: each next row with probability as its squared distance.

    The distance is Euclidean, to the nearest row chosen so far. The seeds are rows of ``x``; no
    Lloyd steps follow. Where fewer than ``m`` rows are distinct, the rest are drawn uniformly.

    Args:
      key: a PRNG key.
      x: rows, ``[n, d]``.
      m: number of landmarks, in ``1..n``.

    Returns:
      Rows of ``x``, ``[m, d]``, in ``m`` passes of ``n * d`` operations.

    Raises:
      ValueError: ``m`` outside ``1..n``.

    References:
      Arthur and Vassilvitskii (2007), section 2.2; Oglic and Gärtner (2017) for Nyström.
    """
    n = _check_landmarks(x, m)
    keys = jax.random.split(key, m)
    first = jax.random.randint(keys[0], (), 0, n)

    def distance(index: Array) -> Array:
        return jnp.sum((x - x[index]) ** 2, axis=1)

    def step(nearest: Array, step_key: Array) -> tuple[Array, Array]:
        far = nearest > 0
        logits = jnp.where(far, jnp.log(jnp.where(far, nearest, 1.0)), -jnp.inf)
        logits = jnp.where(jnp.any(far), logits, 0.0)
        index = jax.random.categorical(step_key, logits)
        return jnp.minimum(nearest, distance(index)), index

    _, rest = jax.lax.scan(step, distance(first), keys[1:])
    return x[jnp.concatenate([first[None], rest.astype(first.dtype)])]


def leverage_landmarks(
    key: Array, kernel: Kernel, x: Array, m: int, *, ridge: float = 1e-3
) -> Array:
    r"""Landmarks by approximate ridge leverage, :math:`\ell_i = [K (K + \gamma I)^{-1}]_{ii}`.

    A first Nyström map :math:`\Phi` from ``m`` uniform landmarks gives
    :math:`\hat\ell_i = \phi_i^\top (\Phi^\top\Phi + \gamma I)^{-1} \phi_i
    + (k_{ii} - \|\phi_i\|^2)/\gamma`, cut at 1: leverage inside the span of the map, plus what of
    the row it misses. Rows are then drawn without replacement with probabilities as
    :math:`\hat\ell_i`.

    Args:
      key: a PRNG key.
      kernel: the kernel to be approximated.
      x: rows, ``[n, d]``.
      m: number of landmarks, in ``1..n``.
      ridge: :math:`\gamma` relative to the mean eigenvalue of ``K``, that is to the mean of its
        diagonal; positive.

    Returns:
      Distinct rows of ``x``, ``[m, d]``. Memory is ``[n, m]``.

    Raises:
      ValueError: ``m`` outside ``1..n``.

    References:
      Alaoui and Mahoney (2015), theorem 4, for the leverage inside the span.

    Examples:
      >>> from kernlens import kernels
      >>> copies_and_one = jnp.array([[0.0]] * 30 + [[5.0]])
      >>> drawn = leverage_landmarks(jax.random.key(0), kernels.rbf, copies_and_one, 3)
      >>> drawn.shape
      (3, 1)
    """
    n = _check_landmarks(x, m)
    uniform_key, leverage_key = jax.random.split(key)
    leverage = ridge_leverage(kernel, x, uniform_landmarks(uniform_key, x, m), ridge=ridge)
    return x[jax.random.choice(leverage_key, n, (m,), replace=False, p=leverage / leverage.sum())]


def ridge_leverage(kernel: Kernel, x: Array, landmarks: Array, *, ridge: float) -> Array:
    r"""Approximate ridge leverage of each row, from a Nyström map.

    The formula is that of :func:`leverage_landmarks`; exact where every row is a landmark.

    Args:
      kernel: the kernel.
      x: rows, ``[n, d]``.
      landmarks: landmarks of the Nyström map, ``[m, d]``.
      ridge: :math:`\gamma` relative to the mean of the kernel's diagonal; positive.

    Returns:
      Leverages in ``(0, 1]``, ``[n]``.
    """
    return _leverage(nystrom(kernel, landmarks)(x), kernels.diagonal(kernel, x), ridge)


def _check_landmarks(x: Array, m: int) -> int:
    chex.assert_rank(x, 2)
    n = x.shape[0]
    if not 1 <= m <= n:
        raise ValueError(f"the number of landmarks must lie in 1..{n}, the number of rows; got {m}")
    return n


@jax.jit
def _leverage(phi: Array, own: Array, ridge: float) -> Array:
    gamma = ridge * own.mean()
    gamma = jnp.where(gamma > 0, gamma, 1.0)
    gram = jnp.matmul(phi.T, phi, precision="highest")
    root = jnp.linalg.cholesky(gram + gamma * jnp.eye(gram.shape[0], dtype=gram.dtype))
    inside = jax.scipy.linalg.solve_triangular(root, phi.T, lower=True)
    outside = jnp.maximum(own - jnp.sum(phi**2, axis=1), 0.0) / gamma
    tiny = float(jnp.finfo(phi.dtype).tiny)
    return jnp.clip(jnp.sum(inside**2, axis=0) + outside, tiny, 1.0)


@partial(jax.jit, static_argnames="rank")
def _whitening(gram: Array, tolerance: float, *, rank: int) -> Array:
    values, vectors = jnp.linalg.eigh(0.5 * (gram + gram.T))
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    kept = (values > tolerance * values[0]) & (values > 0)
    return jnp.where(kept, vectors / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)


def _project(kernel: Kernel, landmarks: Array, weights: Array, x: Array) -> Array:
    made = jnp.matmul(kernel(x, landmarks), weights, precision="highest")
    # A stationary kernel is 0 infinitely far away: a row of zeros would hide the infinity.
    return jnp.where(jnp.all(jnp.isfinite(x), axis=1, keepdims=True), made, jnp.nan)


def _waves(frequencies: Array, x: Array) -> Array:
    phases = jnp.matmul(x, frequencies.astype(x.dtype), precision="highest")
    waves = jnp.concatenate([jnp.cos(phases), jnp.sin(phases)], axis=1)
    return waves / frequencies.shape[1] ** 0.5
