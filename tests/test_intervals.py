"""Resampled moments against rows left out and repeated, and the laws of the intervals."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from kernlens import io
from kernlens.scores import PAIRS, SCORES, SPECTRA, intervals
from kernlens.scores.intervals import Bootstrap, Jackknife
from tests import cases

FEW = {name: SCORES[name] for name in ("debiased_alignment", "h_score")}
REFERENCES = {
    "debiased_alignment": lambda x, y: cases.debiased_reference(x @ x.T, cases.label_gram(y)),
    "h_score": lambda x, y: h_score(x - x.mean(0), y),
}
CLASSES = 6  # Always as many, and the same features: one shape, compiled once.
METHODS: tuple[Jackknife | Bootstrap, ...] = (Jackknife(7, seed=3), Bootstrap(9, seed=3))
each_method = pytest.mark.parametrize("method", METHODS, ids=["jackknife", "bootstrap"])


def h_score(z, codes):
    means = np.zeros_like(z)
    for c in np.unique(codes[codes >= 0]):
        means[codes == c] = z[codes == c].mean(0)
    return np.trace(np.linalg.solve(z.T @ z, means.T @ means))


def problem(seed=0, **options):
    x, codes, _ = cases.gaussian_classes(seed, **options)
    return x.astype(np.float32), codes


def average(m):
    return m.mean[0] + m.mean_low[0]


@functools.cache
def blocks_of_rows():
    return np.asarray(intervals.block_of(3, np.arange(200), 7))


def count_of(m):
    return m.count


def collected(x, codes, method: Jackknife | Bootstrap = METHODS[0], **options):
    return intervals.from_arrays(x, codes, CLASSES, method=method, **options)


def replicates(x, codes, method: Jackknife | Bootstrap = METHODS[0], fn=average):
    return intervals.replicate(fn, collected(x, codes, method))


def few(x, codes, method: Jackknife | Bootstrap = METHODS[0]):
    statistic = intervals.statistic(FEW)
    found = replicates((x,), codes, method, statistic)
    assert found.keys() == FEW.keys()
    return found


def assert_same(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        size = float(np.abs(other).max(initial=1.0))
        assert_allclose(one, other, rtol=2e-5, atol=2e-5 * size)


def test_multiplicities_are_poisson_and_blocks_uniform():
    rows = np.arange(20_000)
    weights = np.asarray(intervals.bootstrap_weights(5, rows, 3))
    for draw in weights:
        counts = np.bincount(np.minimum(draw, 5), minlength=6)
        expected = len(rows) * np.append(stats.poisson.pmf(range(5), 1), stats.poisson.sf(4, 1))
        assert stats.chisquare(counts, expected).pvalue > 1e-3
    # Draws are independent of each other: five standard errors.
    assert np.abs(np.corrcoef(weights) - np.eye(3)).max() < 5 / len(rows) ** 0.5
    blocks = np.bincount(intervals.block_of(5, rows, 7), minlength=7)
    assert stats.chisquare(blocks).pvalue > 1e-3
    assert_allclose(intervals.POISSON / 2.0**32, stats.poisson.cdf(range(12), 1), atol=1e-9)


def test_resampling_is_a_function_of_seed_and_row_alone():
    rows = np.array([7, 2**32 - 1, 0, 123_456])
    order = np.array([2, 0, 3, 1])
    for made in (
        lambda rows, seed, draws=40: intervals.bootstrap_weights(seed, rows, draws),
        lambda rows, seed, draws=40: intervals.block_of(seed, rows, 1000)[None],
    ):
        together = np.asarray(made(rows, 1))
        assert_array_equal(made(rows[order], 1), together[:, order])
        assert_array_equal(made(rows, 1, 10), together[:10])
        assert (np.asarray(made(rows, 2)) != together).any()
        assert len({tuple(column) for column in together.T}) == len(rows)


@pytest.mark.thorough
def test_blocks_and_draws_have_keys_of_their_own():
    """The numbers are what two machines have in common: a hash by threefry, spelt out."""

    def bits(*words):
        key = jax.random.key(4, impl="threefry2x32")
        for word in words:
            key = jax.random.fold_in(key, word)
        return int(jax.random.bits(key, (), jnp.uint32))

    rows = np.arange(30)
    assert_array_equal(intervals.block_of(4, rows, 7), [bits(0, row) % 7 for row in rows])
    below = [[sum(bits(1, draw, row) >= intervals.POISSON) for row in rows] for draw in range(3)]
    assert_array_equal(intervals.bootstrap_weights(4, rows, 3), below)


@pytest.mark.thorough
def test_values_without_a_block_are_those_of_the_other_rows():
    x, codes = problem(1, unlabelled=9, mean=3.0)
    blocks = blocks_of_rows()[: len(x)]
    for name, found in few(x, codes).items():
        reference = REFERENCES[name]
        assert_allclose(found.value, reference(x.astype(float), codes), rtol=1e-5)
        expected = [reference(x[rows].astype(float), codes[rows]) for rows in blocks != np.c_[:7]]
        assert_allclose(found.values, expected, rtol=1e-5)
        assert_allclose(found.shares, np.bincount(blocks) / len(x))


@pytest.mark.thorough
def test_values_of_a_draw_are_those_of_repeated_rows():
    x, codes = problem(2, unlabelled=9, mean=3.0)
    weights = np.asarray(intervals.bootstrap_weights(3, np.arange(len(x)), 9))
    for name, found in few(x, codes, METHODS[1]).items():
        reference = REFERENCES[name]
        assert_allclose(found.value, reference(x.astype(float), codes), rtol=1e-5)
        drawn = [np.repeat(np.arange(len(x)), draw) for draw in weights]
        expected = [reference(x[rows].astype(float), codes[rows]) for rows in drawn]
        assert_allclose(found.values, expected, rtol=1e-5)


@each_method
def test_order_chunks_and_shards_do_not_matter(method):
    x, codes = problem(3, mean=10.0)
    whole = collected((x,), codes, method)
    order = np.random.default_rng(4).permutation(len(x))
    parts = [order[:50], order[50:75], order[75:]]

    def stream(which):
        chunks = [io.Chunk(x[parts[i]], parts[i]) for i in which]
        return intervals.from_stream(
            chunks, codes, CLASSES, features=intervals.rows_of(FEW), method=method
        )

    assert_same(stream([0, 1, 2]), whole)
    assert_same(intervals.merge(stream([2]), stream([0, 1])), whole)
    assert_same(collected((x,), codes, method, chunk=50), whole)
    # The fingerprint is exact, and sees a label that moved.
    assert_array_equal(stream([2, 0, 1]).digest, whole.digest)
    moved = collected((x,), codes[order], method)
    assert (np.asarray(moved.digest) != np.asarray(whole.digest)).any()


@pytest.mark.thorough
def test_update_takes_no_padding_in():
    x, codes = problem(4, n=20)
    weights = (np.arange(20) < 15).astype(np.float32)
    x[15:] = np.nan
    state = intervals.init(METHODS[0], (6,), CLASSES, dtype=jnp.float32)
    got = intervals.update(state, (x,), codes, np.arange(20), weights)
    assert_same(got, collected((x[:15],), codes[:15]))
    assert_same(intervals.merge(got, state), got)


@each_method
def test_states_of_two_seeds_are_not_merged(method):
    x, codes = problem(4, n=20)
    other = collected((x,), codes, method._replace(seed=method.seed + 1))
    with pytest.raises(ValueError, match="must have one seed"):
        intervals.merge(collected((x,), codes, method), other)


@pytest.mark.thorough
def test_standard_error_of_a_mean_is_that_of_block_means():
    x, codes = problem(5, n=200)
    found = replicates(x, codes)
    blocks = blocks_of_rows()
    mean = x[:, 0].astype(np.float64).mean()
    terms = []
    for block in range(7):
        rows = x[blocks == block, 0].astype(np.float64)
        share = len(rows) / 200
        terms.append((rows.mean() - mean) ** 2 * share / (1 - share))
    error = np.mean(terms) ** 0.5
    got = intervals.interval(found, level=0.8)
    assert_allclose(intervals.standard_error(found), error, rtol=1e-4)
    assert_allclose(got.value, mean, rtol=1e-5)
    assert_allclose([got.low, got.high], stats.t(6, mean, error).interval(0.8), rtol=1e-4)
    # What only grows with the rows left in, whichever they are, has no error to speak of.
    counted = replicates(x, codes, fn=count_of)
    assert intervals.standard_error(counted) < 0.05 * counted.value


def test_bootstrap_interval_is_centred_quantiles():
    values = np.random.default_rng(6).gamma(2.0, size=400)
    found = intervals.Replicates(5.0, values, None, ())
    got = intervals.interval(found, level=0.8)
    low, high = np.quantile(values, [0.1, 0.9])
    assert_allclose([got.low, got.high], [5 + low - values.mean(), 5 + high - values.mean()])
    assert_allclose(intervals.standard_error(found), values.std(ddof=1))
    cut = intervals.interval(found, level=0.8, bounds=(4.5, 5.5))
    assert (cut.low, cut.high) == (4.5, 5.5)
    assert intervals.interval(found, level=0.5).high < got.high


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_range_that_ends_at_zero_is_taken_by_its_logarithm(sign):
    logs = 0.7 * np.random.default_rng(7).standard_normal(16)
    shares = np.full(16, 1 / 16)
    plain = intervals.Replicates(0.3, 0.3 + logs, shares, ())
    logs = intervals.interval(plain)
    skewed = intervals.Replicates(sign * np.exp(0.3), sign * np.exp(plain.values), shares, ())
    ends = (0.0, np.inf) if sign > 0 else (-np.inf, 0.0)
    got = intervals.interval(skewed, bounds=ends)
    expected = sorted(sign * np.exp([logs.low, logs.high]))
    assert_allclose([got.low, got.high], expected)
    # Where a resample reaches 0 the ends are cut there instead.
    zero = skewed._replace(values=np.append(skewed.values[1:], 0.0))
    assert 0.0 in intervals.interval(zero, bounds=ends)[1:3]


def test_ends_of_ranges_are_read_off_the_tables():
    expected = {
        "cka": (0.0, 1.0), "debiased_cka": (-1.0, 1.0), "procrustes": (0.0, np.inf),
        "gulp": (0.0, np.inf), "procrustes_angle": (0.0, np.inf), "gbc_full": (-np.inf, 0.0),
        "rankme": (1.0, np.inf), "self_clustering": (-np.inf, 1.0), "logme": (-np.inf, np.inf),
        "proposition1": (0.0, np.inf),
    }  # fmt: skip
    table = {**SCORES, **SPECTRA, **PAIRS}
    for name, ends in expected.items():
        assert intervals.bounds_of(table[name]) == ends
    for row in table.values():
        low, high = intervals.bounds_of(row)
        assert low < high


@pytest.mark.thorough
def test_a_mean_is_covered():
    rng, hits = np.random.default_rng(8), 0
    codes = np.zeros(60, np.int32)
    for _ in range(200):
        x = rng.standard_exponential((60, 6)).astype(np.float32)
        got = intervals.interval(replicates(x, codes))
        hits += got.low <= 1.0 <= got.high
    # 90% of 200, and three standard errors; an exponential's mean is covered a little less.
    assert 162 <= hits <= 193


@each_method
def test_a_difference_is_paired(method):
    x, codes = problem(9)
    rng = np.random.default_rng(9)
    near = x + 0.02 * rng.standard_normal(x.shape).astype(np.float32)
    noisy = x + 5.0 * rng.standard_normal(x.shape).astype(np.float32)
    first, second, third = (few(rows, codes, method)["h_score"] for rows in (x, near, noisy))
    same = intervals.difference(first, first)
    assert (same.value, same.low, same.high, same.separated) == (0.0, 0.0, 0.0, False)
    assert intervals.sentence(same, "a", "b", "h_score").startswith("cannot separate a from b")
    close, alone = intervals.difference(first, second), intervals.interval(first)
    assert close.high - close.low < 0.2 * (alone.high - alone.low)
    far = intervals.difference(first, third)
    assert far.separated
    assert far.low > 0
    assert intervals.sentence(far, "a", "b", "h_score").startswith("a is above b by h_score: +")
    back = intervals.difference(third, first)
    assert_allclose(back.value, -far.value)
    assert intervals.sentence(back, "b", "a", "h_score").startswith("b is below a by h_score: -")


def test_a_difference_of_other_rows_is_refused():
    x, codes = problem(10)
    first = replicates(x, codes)
    others = [
        replicates(x[:-1], codes[:-1]),
        replicates(x, codes[::-1].copy()),
        replicates(x, codes, Jackknife(7, seed=4)),
        first._replace(rows=(6, *first.rows[1:])),
        first._replace(shares=None),
    ]
    for other in others:
        with pytest.raises(ValueError, match="same rows, labels, method and seed"):
            intervals.difference(first, other)


@pytest.mark.thorough
def test_two_embeddings_of_a_stream():
    x, codes = problem(11, n=90)
    pair = x[:, :3], x[:, 2:]
    table = {"cka": PAIRS["cka"]}
    found = intervals.table_replicates(table, pair, codes, CLASSES, method=METHODS[0])["cka"]
    numbers = np.arange(90)
    chunks = [io.Chunk((pair[0][i::2], pair[1][i::2]), numbers[i::2]) for i in (1, 0)]
    features = intervals.rows_of(table)
    state = intervals.from_stream(chunks, codes, CLASSES, features=features, method=METHODS[0])
    streamed = intervals.replicate(intervals.statistic(table), state)["cka"]
    assert_allclose(streamed.values, found.values, rtol=1e-5)
    assert streamed.rows == found.rows
    a, b = (y.astype(float) - y.mean(0) for y in pair)
    assert_allclose(found.value, cases.alignment_reference(a @ a.T, b @ b.T), rtol=1e-5)


@pytest.mark.thorough
def test_a_score_is_compiled_once_whatever_the_resamples():
    x, codes = problem(12)
    traced = []

    def counted(m):
        traced.append(m)
        return m.mean[0]

    for method in METHODS:
        traced.clear()
        replicates(x, codes, method, counted)
        replicates(2.0 * x, codes, method, counted)
        assert len(traced) <= 2  # Once by each loop, perhaps once more for its type.


@each_method
@pytest.mark.parametrize(
    ("x", "codes"),
    [
        (np.zeros((12, 6)), np.arange(12) % 3),
        (np.full((12, 6), 0.1), np.arange(12) % 3),
        (cases.hostile_rows(dim=6), np.arange(12) % 3),
        (cases.hostile_rows(dim=6), np.zeros(12, int)),
        (cases.hostile_rows(dim=6), np.full(12, -1)),
        (cases.hostile_rows(dim=6)[:6], np.arange(6)),
        (cases.hostile_rows(dim=6)[:3], np.arange(3)),
    ],
    ids=["zero", "constant", "hostile", "one class", "no label", "singletons", "few"],
)
def test_degenerate_rows_have_finite_intervals(method, x, codes):
    for name, found in few(x.astype(np.float32), codes, method).items():
        got = intervals.interval(found, bounds=intervals.bounds_of(FEW[name]))
        assert np.isfinite(got[:4]).all()
        assert got.low <= got.value <= got.high
        if np.unique(codes).size == 1 or not np.ptp(x):  # 0, up to rounding of the class mean
            error = intervals.standard_error(found)
            assert_allclose([got.value, got.low, got.high, error], 0.0, atol=1e-11)


@each_method
def test_too_few_rows_and_rows_that_are_not_finite_are_refused(method):
    x, codes = problem(13)
    for rows in (0, 1):
        with pytest.raises(ValueError, match="at least 2 rows"):
            few(x[:rows], codes[:rows], method)
    x[4, 0] = np.nan
    with pytest.raises(ValueError, match=r"\d of \d resamples hold a row that is not finite"):
        few(x, codes, method)


def test_mistakes_are_named():
    x, codes = problem(14, n=30)
    numbers = np.arange(30)
    for chunks, given_codes, options, message in [
        ([], codes[:0], {}, "at least one chunk"),
        ([], codes, {}, "hold 0 rows; codes are for 30"),
        ([x], codes + 9, {}, r"must lie in -1\.\.5; got 9 at row 0"),
        ([io.Chunk(x, numbers - 1)], codes, {}, r"row numbers must lie in 0\.\.29.* got -1"),
        ([io.Chunk(x, numbers[1:])], codes, {}, "30 rows needs as many numbers"),
        ([x], codes, {"method": Jackknife(1)}, "at least 2 blocks or draws"),
        ([x], codes, {"method": Bootstrap(5, seed=-1)}, "a seed"),
    ]:
        with pytest.raises(ValueError, match=message):
            intervals.from_stream(chunks, given_codes, CLASSES, **options)
    with pytest.raises(ValueError, match="as many rows; got"):
        intervals.from_arrays(x[1:], codes, CLASSES)
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\); got 1"):
        intervals.interval(intervals.Replicates(1.0, np.ones(3), None, ()), level=1.0)


@pytest.mark.thorough
@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 60),
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
    classes=st.integers(0, 2),
    equal=st.booleans(),
    method=st.sampled_from(METHODS),
)
def test_intervals_hold_their_value_and_are_finite(n, seed, scale, classes, equal, method):
    rng = np.random.default_rng(seed)
    x = (scale * rng.standard_normal((n, 6))).astype(np.float32)
    if equal:
        x[n // 2 :] = x[n // 2]
    codes = rng.integers(-1, classes, n) if classes else np.full(n, -1)
    hypothesis.assume(method is not METHODS[0] or np.unique(blocks_of_rows()[:n]).size > 1)
    for name, found in few(x, codes, method).items():
        bounds = intervals.bounds_of(FEW[name])
        got = intervals.interval(found, level=0.95, bounds=bounds)
        assert np.isfinite(got[:4]).all()
        assert bounds[0] <= got.low <= got.high <= bounds[1]
        assert intervals.standard_error(found) >= 0.0


@pytest.mark.slow
@each_method
def test_every_score_has_an_interval(method):
    x, codes = problem(15, dim=4)
    pair = x[:, :2], x[:, 1:3]
    for table, rows in (({**SCORES, **SPECTRA}, x), (PAIRS, pair)):
        found = intervals.table_replicates(table, rows, codes, CLASSES, method=method)
        assert found.keys() == table.keys()
        for name, row in found.items():
            got = intervals.interval(row, bounds=intervals.bounds_of(table[name]))
            assert got.low < got.value < got.high, name
            assert np.isfinite(got[:4]).all()
            assert (got.null is not None) == (name in SCORES)
