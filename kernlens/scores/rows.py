"""What needs the rows themselves: pairs, neighbours, row by row means. Pass a sample of large sets.

Those that compare all pairs take ``n^2`` operations and ``n`` to ``n^2`` numbers: a few thousand
rows. All rows given count, and all must have a label where labels are given. A row that is not
finite, a label that is none and a set without rows are a ValueError, except under ``jit``.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from kernlens.arrays.rows import unit_rows
from kernlens.moments import Moments
from kernlens.scores import checks
from kernlens.scores.basis import column_units, in_units, stretch, whitening
from kernlens.scores.checks import checked
from kernlens.scores.estimator import Estimator, dot, ratio, root
from kernlens.types import Array


@checked(x=checks.rows, t=checks.positive)
@jax.jit
def uniformity(x: Array, *, t: float | Array = 2.0) -> Array:
    r"""Uniformity on the sphere, :math:`\log \mathrm{mean}_{i<j}\, e^{-t \|x_i - x_j\|^2}`.

    Args:
      x: unit rows, a sample, ``[n, d]``.
      t: :math:`t > 0`.

    Returns:
      Loss in ``[-4 t, 0]``, 0 where all rows are one, ``[]``; also 0 for one row.

    Raises:
      ValueError: no row, a row that is not finite, or ``t`` not positive.

    References:
      Wang and Isola (2020), equation 2.
    """
    chex.assert_rank(x, 2)
    n = x.shape[0]
    if n < 2:
        return jnp.zeros((), x.dtype)

    def others(i: Array) -> tuple[Array, Array]:
        powers = -t * jnp.sum((x - x[i]) ** 2, axis=1)
        own = jnp.arange(n) == i
        return jax.nn.logsumexp(jnp.where(own, -jnp.inf, powers)), jnp.expm1(powers).sum()

    logs, lacks = jax.lax.map(others, jnp.arange(n))
    pairs = n * (n - 1.0)
    far = jax.nn.logsumexp(logs) - jnp.log(pairs).astype(x.dtype)
    # Of rows that are nearly one, the mean of the exponentials is 1 less what they lack.
    lack = lacks.sum() / pairs
    near = lack > -0.5
    return jnp.where(near, jnp.log1p(jnp.where(near, lack, 0.0)), far)


@checked(x=checks.rows, codes=checks.codes, class_distances=checks.rows)
@jax.jit
def parc(x: Array, codes: Array, class_distances: Array | None = None) -> Array:
    r"""PARC, rank correlation of feature distances and label distances over the pairs of rows.

    Feature distance is one minus the correlation of two standardised rows, label distance whether
    the classes differ; Spearman's correlation, ties at their mean rank. The released code takes
    label distances from correlations of one-hot rows, where rounding breaks the ties by class.

    Args:
      x: features, a sample, ``[n, d]``.
      codes: class of each row, ``[n]``.
      class_distances: distance of any two classes, as in a taxonomy, ``[C, C]``; by default 1.

    Returns:
      Correlation in ``[-1, 1]`` (the released code gives it times 100), 0 expected for noise and
      where undefined, ``[]``.

    Raises:
      ValueError: no row, a row that is not finite, or a code that is no class.

    References:
      Bolya et al. (2021), section 4.
    """
    chex.assert_rank([x, codes], [2, 1])
    if len(x) < 2:
        return jnp.zeros((), x.dtype)
    z = x - x.mean(axis=0)
    z = ratio(z, root(jnp.mean(z**2, axis=0)))
    rows = unit_rows(z - z.mean(axis=1, keepdims=True))
    first, second = jnp.triu_indices(len(x), 1)
    a, b = codes[first], codes[second]
    apart = (a != b).astype(x.dtype) if class_distances is None else class_distances[a, b]
    near = _ranks(1.0 - dot(rows, rows.T)[first, second]).astype(x.dtype)
    far = _ranks(apart).astype(x.dtype)
    return ratio(jnp.sum(near * far), root(jnp.sum(near**2)) * root(jnp.sum(far**2)))


@checked(x=checks.rows, codes=checks.codes)
@partial(jax.jit, static_argnames=("num_classes", "neighbours"))
def neighbour_accuracy(x: Array, codes: Array, num_classes: int, *, neighbours: int = 1) -> Array:
    """Leave-one-out accuracy of the vote of the nearest rows.

    Args:
      x: features, a sample, ``[n, d]``; distances are Euclidean.
      codes: class of each row, ``[n]``.
      num_classes: ``C``.
      neighbours: rows that vote, in ``1..n-1``; of tied classes the one with the nearer vote wins.

    Returns:
      Accuracy in ``[0, 1]``, the share of the row's class expected for noise, ``[]``.

    Raises:
      ValueError: ``neighbours`` out of range, no row, a row that is not finite, or a code outside
        ``0..num_classes-1``.

    References:
      Cover and Hart (1967).
    """
    chex.assert_rank([x, codes], [2, 1])
    _check_neighbours(neighbours, x.shape[0])
    # A nearer vote counts for more, but all of these extras together for less than one vote.
    votes = 1.0 + 0.5 ** jnp.arange(1, neighbours + 1).astype(x.dtype)

    def hit(i: Array) -> Array:
        squared = jnp.sum((x - x[i]) ** 2, axis=1)
        squared = jnp.where(jnp.arange(len(x)) == i, jnp.inf, squared)
        nearest = jax.lax.top_k(-squared, neighbours)[1]
        ballot = jnp.zeros(num_classes, x.dtype).at[codes[nearest]].add(votes)
        return jnp.argmax(ballot).astype(codes.dtype) == codes[i]

    return jnp.mean(jax.lax.map(hit, jnp.arange(len(x))).astype(x.dtype))


@checked(a=checks.rows, b=checks.rows, queries=checks.places)
@partial(jax.jit, static_argnames="neighbours")
def neighbour_overlap(a: Array, b: Array, queries: Array, *, neighbours: int = 5) -> Array:
    """Share of a row's nearest rows by cosine that two embeddings have in common.

    Args:
      a: first embedding, a sample, ``[n, p]``.
      b: second embedding of the same rows, ``[n, q]``.
      queries: rows whose neighbours are compared, ``[m]``.
      neighbours: how many, in ``1..n-1``.

    Returns:
      Share in ``[0, 1]``, ``neighbours / (n - 1)`` expected for unrelated embeddings, ``[]``.

    Raises:
      ValueError: ``neighbours`` out of range, no query, a query that is no row, or a row that is
        not finite.

    References:
      Hellrich and Hahn (2016), as in Leszczynski et al. (2020), section 3.
    """
    chex.assert_rank([a, b, queries], [2, 2, 1])
    chex.assert_equal_shape_prefix([a, b], 1)
    _check_neighbours(neighbours, a.shape[0])
    units = [unit_rows(x) for x in (a, b)]

    def common(i: Array) -> Array:
        found = []
        for rows in units:
            # Squared distances keep the digits that cosines near 1 have lost.
            far = jnp.where(jnp.arange(len(rows)) == i, jnp.inf, jnp.sum((rows - rows[i]) ** 2, 1))
            found.append(jax.lax.top_k(-far, neighbours)[1])
        return jnp.sum(found[0][:, None] == found[1])

    counts = jax.lax.map(common, queries)
    return jnp.mean(counts.astype(a.dtype)) / neighbours


@checked(a=checks.rows, b=checks.rows)
@jax.jit
def displacement(a: Array, b: Array) -> Array:
    r"""Semantic displacement, mean cosine distance of the two rows of an item.

    Args:
      a: first embedding, ``[n, q]``, turned by :func:`kernlens.scores.pairs.rotation` first where
        the two were fitted apart.
      b: second embedding of the same rows, ``[n, q]``.

    Returns:
      Mean of :math:`1 - \cos` in ``[0, 2]`` over the rows that are not zero in either, ``[]``; 0
      where there is none.

    Raises:
      ValueError: no row, or a row that is not finite.

    References:
      Hamilton et al. (2016), equation 4, as in Leszczynski et al. (2020), section 3.
    """
    chex.assert_rank([a, b], 2)
    chex.assert_equal_shape([a, b])
    # Half the squared distance of unit rows is 1 - cos without its cancellation.
    distances = 0.5 * jnp.sum((unit_rows(a) - unit_rows(b)) ** 2, axis=1)
    counted = (jnp.any(a != 0, axis=1) & jnp.any(b != 0, axis=1)).astype(a.dtype)
    return ratio(jnp.sum(distances * counted), counted.sum())


@checked(moments=checks.finite_moments, x=checks.rows)
@jax.jit
def coherence(moments: Moments, x: Array) -> Array:
    r"""Coherence, :math:`\tfrac np \max_i \|u_i\|^2` with ``U`` the left singular vectors.

    Args:
      moments: moments of all ``n`` rows.
      x: the rows, or a chunk of them (take the greatest over chunks), ``[m, p]``.

    Returns:
      Value in ``[1, n / p]`` for all rows of full rank, ``[]``; large where a row has a direction
      to itself.

    Raises:
      ValueError: no row, or a row that is not finite.

    References:
      Candès and Recht (2009), definition 1.2; Tsitsulin et al. (2023), section 3.2.
    """
    chex.assert_shape(x, (None, moments.mean.shape[0]))
    units = column_units(moments)
    moments, x = in_units(moments, units), x / units
    turn = stretch(moments)
    mean = dot(turn, moments.mean + moments.mean_low)
    second = dot(turn, dot(moments.scatter, turn)) + moments.count * jnp.outer(mean, mean)
    rows = dot((x - moments.mean) - moments.mean_low, turn) + mean
    leverage = jnp.sum(dot(rows, whitening(second)) ** 2, axis=1)
    return jnp.max(leverage, initial=0.0) * moments.count / moments.mean.shape[0]


@checked(logits=checks.rows)
@jax.jit
def energy(logits: Array) -> Array:
    r"""Mean free energy of the rows, :math:`\frac1n \sum_i \log \sum_k e^{x_{ik}}`.

    Args:
      logits: features or logits, ``[n, d]``.

    Returns:
      Value in their unit, ``[]``.

    Raises:
      ValueError: no row, or a row that is not finite.

    References:
      Gholami et al. (2023), ETran, equation 3, over all rows.
    """
    chex.assert_rank(logits, 2)
    return jnp.mean(jax.nn.logsumexp(logits, axis=1))


def _ranks(values: Array) -> Array:
    """Ranks over their number, ties at their mean, less the mean rank."""
    ordered, dtype = jnp.sort(values), values.dtype
    low = jnp.searchsorted(ordered, values, side="left").astype(dtype)
    high = jnp.searchsorted(ordered, values, side="right").astype(dtype)
    return (0.5 * (low + high) - 0.5 * len(values)) / len(values)


def _check_neighbours(neighbours: int, n: int) -> None:
    if not 1 <= neighbours < n:
        raise ValueError(
            f"neighbours must lie in 1..{n - 1}, one less than the rows; got {neighbours}"
        )


ROWS: dict[str, Estimator] = {
    "uniformity": Estimator(
        uniformity,
        formula=r"\log \mathrm{mean}_{i<j} e^{-t \|x_i - x_j\|^2}",
        source="Wang and Isola (2020), equation 2",
        range="[-4 t, 0]",
        null="0 for a collapsed embedding",
        predicts="how evenly unit rows cover the sphere",
        pitfalls="blind to labels; all pairs, so a sample",
        features=unit_rows,
        sign=-1,
    ),
    "parc": Estimator(
        parc,
        formula=r"\mathrm{Spearman}_{i<j}(1 - \mathrm{corr}(x_i, x_j), 1[y_i \ne y_j])",
        source="Bolya et al. (2021), section 4",
        range="[-1, 1]",
        null="0",
        predicts="meant to rank fine-tuning",
        pitfalls="all pairs, so a sample; noise features weigh as much as any",
        shift_free=True,
        rotation_free=False,
    ),
    "neighbour_accuracy": Estimator(
        neighbour_accuracy,
        formula=r"\tfrac1n \sum_i 1[y_{\mathrm{nearest}(i)} = y_i]",
        source="Cover and Hart (1967)",
        range="[0, 1]",
        null="chance that two rows share a label",
        predicts="nearest-neighbour classifiers, in value",
        pitfalls="falls with the number of rows of a sample",
        shift_free=True,
    ),
    "energy": Estimator(
        energy,
        formula=r"\tfrac1n \sum_i \log \sum_k e^{x_{ik}}",
        source="Gholami et al. (2023), equation 3",
        range="(-inf, inf)",
        null="none",
        predicts="meant to find rows that a source model takes for its own",
        pitfalls="means something for logits of one model alone",
        scale_free=False,
        rotation_free=False,
    ),
}
"""Scores of the rows themselves, by name: ``fn(x)``, with ``codes`` (and ``num_classes``) after."""


ROWS_BESIDE: dict[str, Estimator] = {
    "neighbour_overlap": Estimator(
        neighbour_overlap,
        formula=r"\tfrac1m \sum_i |N_k^a(i) \cap N_k^b(i)| / k",
        source="Hellrich and Hahn (2016); Leszczynski et al. (2020), section 3",
        range="[0, 1]",
        null="k / (n - 1)",
        predicts="how many neighbours two embeddings share, and so which answers change",
        pitfalls="by cosine, which a common mean swamps; depends on the number of rows",
    ),
    "displacement": Estimator(
        displacement,
        formula=r"\tfrac1n \sum_i (1 - \cos(a_i, b_i))",
        source="Hamilton et al. (2016), equation 4; Leszczynski et al. (2020), section 3",
        range="[0, 2]",
        null="1 for unrelated directions",
        predicts="how far items moved between two embeddings",
        pitfalls="sees a rotation as movement: turn one onto the other first",
        sign=-1,
        rotation_free=False,
    ),
    "coherence": Estimator(
        coherence,
        formula=r"\tfrac np \max_i \|u_i\|^2",
        source="Candès and Recht (2009), definition 1.2; Tsitsulin et al. (2023), section 3.2",
        range="[1, n / p]",
        null="near 1 for rows of equal leverage",
        predicts="whether rows have directions to themselves",
        pitfalls="a maximum: one outlying row makes it",
        sign=-1,
    ),
}
"""Scores that need a second argument: another embedding of the same rows, or their moments."""
