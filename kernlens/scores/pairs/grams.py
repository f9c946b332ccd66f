"""Two embeddings by their Gram matrices, which no rotation changes."""

import warnings

import jax
import jax.numpy as jnp
from jax.core import Tracer

from kernlens.moments import fourth as fourth_moment
from kernlens.scores.estimator import Estimator, dot, ratio, root, varying
from kernlens.scores.pairs.pair import Pair, mean_of, scatters, size_of, unit_scatters
from kernlens.types import Array

LEAST_DIGITS = 1e-2
"""Rounding of :func:`debiased_cka` beyond which it is not a number."""


@jax.jit
def cka(pair: Pair) -> Array:
    r"""Linear centred kernel alignment, :math:`\|S_{ab}\|_F^2 / \|S_a\|_F \|S_b\|_F`.

    Args:
      pair: of the features as they are.

    Returns:
      Similarity in ``[0, 1]``, ``[]``.

    References:
      Kornblith et al. (2019), equation 4.
    """
    a, b, cross = unit_scatters(pair)
    return ratio(jnp.sum(cross**2), root(jnp.sum(a**2)) * root(jnp.sum(b**2)))


def debiased_cka(pair: Pair) -> Array:
    r"""The same from unbiased inner products: the diagonals of the Gram matrices play no part.

    :math:`U(K, L) / \sqrt{U(K, K) U(L, L)}` with the :math:`U` of
    :func:`kernlens.scores.debiased_alignment`. The sum :math:`\sum_i \|a_i\|^2 \|b_i\|^2` that it
    needs is half of what the fourth moment of :math:`[A, B]` has above those of its parts. That
    difference loses digits as the square of the ratio of the two sizes.

    Args:
      pair: of the features as they are.

    Returns:
      Similarity in ``[-1, 1]``, ``[]``; 0 expected for unrelated embeddings. Needs 4 rows. NaN
      where less than two digits are left, of embeddings of very unlike size.

    Warns:
      UserWarning: that it is NaN, outside of compiled programs.

    References:
      Song et al. (2012), equation 5; Kornblith et al. (2019), released code.
    """
    value = _debiased_cka(pair)
    if not isinstance(value, Tracer) and bool(jnp.isnan(value).any()):
        warnings.warn(
            "debiased_cka: one embedding is so much larger than the other that no digits are left "
            "of what they share; divide each by its root mean square first",
            stacklevel=2,
        )
    return value


@jax.jit
def _debiased_cka(pair: Pair) -> Array:
    a, b, cross = unit_scatters(pair)
    unit_a, unit_b = size_of(pair.first), size_of(pair.second)
    n = jnp.maximum(pair.both.count, 4.0)
    trace_a, trace_b = jnp.trace(a), jnp.trace(b)
    fourth_a = trace_a * ratio(fourth_moment(pair.first), unit_a)
    fourth_b = trace_b * ratio(fourth_moment(pair.second), unit_b)
    ab, ba = ratio(unit_a, unit_b), ratio(unit_b, unit_a)
    whole = trace_a * ratio(fourth_moment(pair.both), unit_b)
    whole = whole + trace_b * ratio(fourth_moment(pair.both), unit_a)
    shared = 0.5 * (whole - ab * fourth_a - ba * fourth_b)

    def unbiased(inner: Array, diagonal: Array, traces: Array) -> Array:
        return inner - n / (n - 2.0) * diagonal + traces / ((n - 1.0) * (n - 2.0))

    value = unbiased(jnp.sum(cross**2), shared, trace_a * trace_b)
    own_a = unbiased(jnp.sum(a**2), fourth_a, trace_a**2)
    own_b = unbiased(jnp.sum(b**2), fourth_b, trace_b**2)
    eps = float(jnp.finfo(n.dtype).eps)
    rounding = 32.0 * eps
    defined = (pair.both.count > 3.0) & (own_a > rounding) & (own_b > rounding)
    defined &= varying(pair.first).any() & varying(pair.second).any()
    size = root(own_a) * root(own_b)
    lost = eps * whole > LEAST_DIGITS * size
    return jnp.where(defined, jnp.where(lost, jnp.nan, ratio(value, size)), 0.0)


@jax.jit
def pip_loss(pair: Pair) -> Array:
    r"""Pairwise inner product loss, :math:`\|A A^\top - B B^\top\|_F`.

    Args:
      pair: of the features as they are.

    Returns:
      Loss in the squared unit of the features, at least 0, ``[]``; below the root of the machine
      epsilon times either Gram's norm it is rounding.

    References:
      Yin and Shen (2018), definition 1.
    """
    n = pair.both.count
    of_a, of_b = mean_of(pair.first), mean_of(pair.second)
    a, b, cross = scatters(pair)
    size = jnp.maximum(jnp.trace(a) + n * jnp.sum(of_a**2), jnp.trace(b) + n * jnp.sum(of_b**2))
    scale = root(ratio(n, size))
    of_a, of_b = of_a * scale, of_b * scale
    a, b, cross = (ratio(m, size) for m in (a, b, cross))
    # The centred part, what it shares with the ones, and the ones, each orthogonal to the others.
    centred = jnp.sum(a**2) + jnp.sum(b**2) - 2.0 * jnp.sum(cross**2)
    mixed = dot(of_a, dot(a, of_a)) + dot(of_b, dot(b, of_b)) - 2.0 * dot(of_a, dot(cross, of_b))
    ones = jnp.sum(of_a**2) - jnp.sum(of_b**2)
    return root(jnp.maximum(centred, 0.0) + 2.0 * jnp.maximum(mixed, 0.0) + ones**2) * size


GRAMS: dict[str, Estimator] = {
    "cka": Estimator(
        cka,
        formula=r"\|S_{ab}\|_F^2 / \|S_a\|_F \|S_b\|_F",
        source="Kornblith et al. (2019), equation 4",
        range="[0, 1]",
        null="grows with effective dimension over rows",
        predicts="likeness up to rotation and scale",
        pitfalls="biased upwards for few rows; large-variance directions dominate",
        shift_free=True,
    ),
    "debiased_cka": Estimator(
        debiased_cka,
        formula=r"U(K, L) / \sqrt{U(K, K) U(L, L)}",
        source="Song et al. (2012), equation 5",
        range="[-1, 1]",
        null="0",
        predicts="as cka, comparable across dimensions and numbers of rows",
        pitfalls="large-variance directions dominate; bring both to one size in float32",
        shift_free=True,
    ),
    "pip_loss": Estimator(
        pip_loss,
        formula=r"\|A A^\top - B B^\top\|_F",
        source="Yin and Shen (2018), definition 1",
        range="[0, inf)",
        null="root of the sum of the squared Gram norms for orthogonal embeddings",
        predicts="meant to rank compressed embeddings against their original",
        pitfalls="grows with rows and with the fourth power of scale under the root",
        sign=-1,
        scale_free=False,
    ),
}
"""Comparisons of Gram matrices by name."""
