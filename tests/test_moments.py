"""Laws of the monoid, and every field against float64 NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from kernlens import moments
from kernlens.arrays.rows import identity, unit_rows
from kernlens.moments import batch, class_products, symmetric
from tests import cases

from_arrays = partial(moments.from_arrays, class_scatters=True, fourths=True)
init = partial(moments.init, class_scatters=True, fourths=True)


def problem(seed=0, *, n=90, targets=2, dtype=np.float32, **kwargs):
    x, codes, num_classes = cases.gaussian_classes(seed, n=n, unlabelled=7, **kwargs)
    rng = np.random.default_rng(seed + 100)
    codes[:] = rng.permutation(codes)
    t = x[:, :targets] * 0.5 + x.std() * rng.standard_normal((n, targets))
    return x.astype(dtype), codes, num_classes, t.astype(dtype)


def reference(x, codes, num_classes, t, weights=None):
    """Every field from its definition, in float64."""
    x, t = x.astype(np.float64), t.astype(np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    mean, target_mean = w @ x / w.sum(), w @ t / w.sum()
    z, u = x - mean, t - target_mean
    counts, deviations, squares, scatters = [], [], [], []
    for c in range(num_classes):
        member = codes == c
        wc, zc = w[member], z[member]
        counts.append(wc.sum())
        deviations.append(wc @ zc)
        r = zc - (wc @ zc / wc.sum() if wc.sum() > 0 else 0.0)
        squares.append(wc @ r**2)
        scatters.append((wc[:, None] * r).T @ r)
    norms = (z**2).sum(1)
    return {
        "count": w.sum(),
        "mean": mean,
        "scatter": (w[:, None] * z).T @ z,
        "third": (w * norms) @ z / max(w @ norms, np.finfo(float).tiny),
        "fourth": w @ norms**2 / max(w @ norms, np.finfo(float).tiny),
        "thirds": (z**2).T @ (w[:, None] * z),
        "fourths": (z**2).T @ (w[:, None] * z**2),
        "class_counts": np.array(counts),
        "class_deviations": np.reshape(deviations, (num_classes, x.shape[1])),
        "class_squares": np.reshape(squares, (num_classes, x.shape[1])),
        "within": np.sum(scatters, axis=0) if scatters else np.zeros((x.shape[1],) * 2),
        "class_scatters": np.reshape(scatters, (num_classes, x.shape[1], x.shape[1])),
        "target_mean": target_mean,
        "target_scatter": (w[:, None] * u).T @ u,
        "cross": (w[:, None] * z).T @ u,
    }


def assert_close(a, b, tolerance=2e-5):
    """Every field equal to ``tolerance`` of its largest entry, the means in two words."""
    a, b = (_whole(m) for m in (a, b))
    assert a.keys() == b.keys()
    for name in ("class_scatters", "thirds", "fourths"):
        if not (len(a[name]) and len(b[name])):  # not asked for
            del a[name], b[name]
    for name, value in a.items():
        scale = max(float(np.abs(b[name]).max(initial=0.0)), 1e-30)
        # Odd: a sum of both signs, so its size is no scale for its error.
        if name in ("third", "thirds") and np.size(value):
            spread = 1.0 if name == "third" else float(np.trace(b["scatter"]))
            root_of_fourth = float(b["fourth"]) ** 0.5
            scale = max(spread * root_of_fourth, 1e-30)
        assert_allclose(value, b[name], rtol=0, atol=tolerance * scale, err_msg=name)


def _whole(m):
    if isinstance(m, dict):
        return dict(m)
    fields = {name: np.asarray(value, np.float64) for name, value in m._asdict().items()}
    for name in ("mean", "target_mean"):
        fields[name] = fields[name] + fields.pop(f"{name}_low")
    return fields


@pytest.mark.parametrize(("scale", "mean"), [(1e-4, 0.0), (1.0, 1000.0), (1e4, 0.0), (1e4, 1000.0)])
@pytest.mark.parametrize("chunk", [13, 4096])
def test_every_field_against_float64(scale, mean, chunk):
    x, codes, num_classes, t = problem(1, n=300, scale=scale, mean=mean)
    got = from_arrays(x, codes, num_classes, t, chunk=chunk)
    # A few sums of hundreds of float32 terms; no loss from the mean.
    assert_close(got, reference(x, codes, num_classes, t))
    # The mean in two words resolves a small share of the spread however large the mean.
    error = _whole(got)["mean"] - reference(x, codes, num_classes, t)["mean"]
    assert np.abs(error).max() < 1e-6 * x.astype(np.float64).std(axis=0).max()


@pytest.mark.thorough
def test_weights_are_multiplicities_and_zero_rows_are_not_read():
    x, codes, num_classes, t = problem(2, n=40)
    weights = np.random.default_rng(3).integers(0, 4, 40)
    repeated = [np.repeat(a, weights, axis=0) for a in (x, codes, t)]
    expected = from_arrays(repeated[0], repeated[1], num_classes, repeated[2])
    x, t = x.copy(), t.copy()
    x[weights == 0] = np.nan
    t[weights == 0] = np.inf
    got = from_arrays(x, codes, num_classes, t, weights.astype(np.float32), chunk=7)
    assert_close(got, expected)


def test_rows_that_are_not_finite_are_refused_and_named():
    x, codes, num_classes, t = problem(2, n=40)
    for value, array in ((np.nan, x), (np.inf, t)):
        hurt = array.copy()
        hurt[[7, 11], 0] = value
        given = (hurt, codes, num_classes, t) if array is x else (x, codes, num_classes, hurt)
        with pytest.raises(ValueError, match=r"2 of 40 rows hold NaN or infinity; .* row 7"):
            moments.from_arrays(*given)
        with pytest.raises(ValueError, match="the stream holds NaN, infinity"):
            moments.from_stream([given[0]], *given[1:])
    with pytest.raises(ValueError, match="too large to sum"):
        moments.from_arrays(np.full_like(x, 3e38), codes, num_classes)


@pytest.mark.thorough
def test_chunking_and_order_do_not_matter():
    x, codes, num_classes, t = problem(4, mean=1000.0)
    whole = moments.from_arrays(x, codes, num_classes, t)
    order = np.random.default_rng(5).permutation(len(x))
    for chunk in (1, 40):
        part = moments.from_arrays(x[order], codes[order], num_classes, t[order], chunk=chunk)
        assert_close(part, whole)
    state = moments.init(x.shape[1], num_classes, 2, dtype=jnp.float32)
    for start in range(0, 90, 30):
        rows = slice(start, start + 30)
        state = moments.update(state, x[rows], codes[rows], t[rows])
    assert_close(state, whole)


@pytest.mark.parametrize("far", [0.0, 1e3])
def test_merge_is_a_commutative_monoid(far):
    x, codes, num_classes, t = problem(6)
    x = x + np.float32(far) * np.sign(np.arange(90) - 45)[:, None].astype(np.float32)
    a, b, c = (from_arrays(x[i::3], codes[i::3], num_classes, t[i::3]) for i in range(3))
    merge = moments.merge
    assert_close(merge(a, b), merge(b, a))
    assert_close(merge(merge(a, b), c), merge(a, merge(b, c)))
    assert_close(merge(merge(a, b), c), reference(x, codes, num_classes, t))
    empty = init(x.shape[1], num_classes, 2, dtype=jnp.float32)
    for same in (merge(a, empty), merge(empty, a)):
        for got, expected in zip(same, a, strict=True):
            assert_array_equal(got, expected)
    for got, expected in zip(merge(empty, empty), empty, strict=True):
        assert_array_equal(got, expected)


def test_shards_of_one_class_each_merge():
    x, codes, num_classes, t = problem(7, separation=30.0)
    shards = [
        from_arrays(x, codes, num_classes, t, (codes == c).astype(np.float32))
        for c in range(-1, num_classes)
    ]
    merged = shards[0]
    for shard in shards[1:]:
        merged = moments.merge(merged, shard)
    assert_close(merged, reference(x, codes, num_classes, t))


def test_shift_moves_the_mean_alone_and_scale_acts_by_degree():
    x, codes, num_classes, t = problem(8)
    base = _whole(moments.from_arrays(x, codes, num_classes, t))
    # A power of two shifts and scales without rounding the rows themselves much.
    moved = _whole(moments.from_arrays(x + np.float32(64), codes, num_classes, t))
    assert_close({**moved, "mean": moved["mean"] - 64}, base, 1e-4)
    scaled = _whole(moments.from_arrays(x * np.float32(8), codes, num_classes, t))
    degrees = {
        "mean": 1, "scatter": 2, "third": 1, "fourth": 2, "class_deviations": 1,
        "class_squares": 2, "within": 2, "class_scatters": 2, "cross": 1, "thirds": 3, "fourths": 4,
    }  # fmt: skip
    assert_close({k: v / 8 ** degrees.get(k, 0) for k, v in scaled.items()}, base)


def test_derived_moments_against_float64():
    x, codes, num_classes, _ = problem(9, mean=3.0)
    labelled = codes >= 0
    x, codes = x[labelled], codes[labelled]
    m = moments.from_arrays(x, codes, num_classes)
    wide = x.astype(np.float64)
    means = np.stack([wide[codes == c].mean(0) for c in range(num_classes)])
    sums = np.stack([wide[codes == c].sum(0) for c in range(num_classes)])
    spread = ((wide - wide.mean(0)) ** 2).sum(1)
    assert_allclose(moments.covariance(m), np.cov(wide.T, bias=True), rtol=1e-4, atol=1e-4)
    assert_allclose(moments.class_means(m), means, rtol=1e-5)
    assert_allclose(moments.class_sums(m), sums, rtol=1e-5)
    assert_allclose(moments.between_scatter(m) + m.within, m.scatter, rtol=1e-4, atol=1e-3)
    expected = [spread[codes == c].sum() for c in range(num_classes)]
    assert_allclose(moments.class_spreads(m), expected, rtol=1e-5)


def test_update_under_jit_scan_and_vmap():
    x, codes, num_classes, t = problem(10)
    whole = moments.from_arrays(x, codes, num_classes, t)
    start = moments.init(x.shape[1], num_classes, 2, dtype=jnp.float32)
    batches = (x.reshape(9, 10, -1), codes.reshape(9, 10), t.reshape(9, 10, -1))
    scanned, _ = jax.lax.scan(lambda m, b: (moments.update(m, *b), None), start, batches)
    assert_close(scanned, whole)
    many = jax.vmap(lambda x, c, t: moments.update(start, x, c, t))(*batches)
    one = moments.from_arrays(x[20:30], codes[20:30], num_classes, t[20:30])
    assert_close(jax.tree.map(lambda a: a[2], many), one)


@pytest.mark.thorough
def test_gradient_reaches_the_rows_through_every_field():
    x, codes, num_classes, t = problem(11, n=20)
    x, t = x.astype(np.float64), t.astype(np.float64)
    with jax.enable_x64(True):
        rng = np.random.default_rng(12)
        start = init(x.shape[1], num_classes, 2)
        probes = [jnp.asarray(rng.standard_normal(a.shape)) for a in start]
        # The two words of a mean are one number: they are probed with one direction.
        fields = moments.Moments._fields
        for name in ("mean", "target_mean"):
            probes[fields.index(f"{name}_low")] = probes[fields.index(name)]
        step = jnp.asarray(rng.standard_normal(x.shape))

        @jax.jit
        def f(s):
            m = from_arrays(x + s * step, jnp.asarray(codes), num_classes, t, chunk=10)
            return sum(jnp.vdot(a, b) for a, b in zip(m, probes, strict=True))

        quotient = (f(1e-5) - f(-1e-5)) / 2e-5
        assert_allclose(jax.grad(f)(0.0), quotient, rtol=1e-6)


@pytest.mark.thorough
def test_dtype_of_accumulation():
    x, codes, num_classes, _ = problem(13)
    half = moments.from_arrays(jnp.asarray(x, jnp.bfloat16), codes, num_classes)
    assert {a.dtype for a in half} == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        double = moments.from_arrays(x.astype(np.float64), codes, num_classes)
        assert {a.dtype for a in double} == {jnp.dtype("float64")}


def test_no_rows_no_classes_no_targets():
    bare = problem(16, targets=0)
    assert_close(moments.from_arrays(*bare[:3], chunk=30), reference(*bare))
    nothing = moments.from_arrays(np.zeros((0, 3), np.float32), np.zeros(0, np.int32), 2)
    for got, expected in zip(nothing, moments.init(3, 2, dtype=jnp.float32), strict=True):
        assert_array_equal(got, expected)
    x, codes, _, t = problem(14)
    got = moments.from_arrays(x, np.full_like(codes, -1), 0, t)
    assert_close(got, reference(x, codes, 0, t))


def test_mistakes_are_named():
    x, codes, num_classes, _ = problem(15)
    wrong = codes.copy()
    wrong[5] = 9
    with pytest.raises(ValueError, match=r"must lie in -1\.\.3; got 9 at row 5"):
        moments.from_arrays(x, wrong, num_classes)
    with pytest.raises(ValueError, match="chunk must be at least 1 row; got 0"):
        moments.from_arrays(x, codes, num_classes, chunk=0)
    with pytest.raises(AssertionError):
        moments.from_arrays(x, codes[:-1], num_classes)
    with pytest.raises(AssertionError):
        moments.merge(moments.init(3, 2), moments.init(4, 2))


def test_class_scatters_are_there_when_asked_for_alone():
    x, codes, num_classes, t = problem(17)
    full = from_arrays(x, codes, num_classes, t)
    bare = moments.from_arrays(x, codes, num_classes, t)
    assert bare.class_scatters.shape == (0, 6, 6)
    assert bare.thirds.shape == bare.fourths.shape == (0, 0)
    assert_close(bare, full)
    assert_allclose(full.class_scatters.sum(axis=0), full.within, rtol=1e-4, atol=1e-4)
    with pytest.raises(AssertionError):
        moments.merge(full, bare)


@pytest.mark.thorough
@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000])
def test_class_scatters_of_classes_of_every_size(n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    # From one class with nearly all rows to many of a row or none.
    for codes in (np.minimum(rng.geometric(0.9, n), 9) - 2, rng.integers(-1, 300, n)):
        got = from_arrays(x, codes.astype(np.int32), 300)
        expected = reference(x, codes, 300, np.zeros((n, 0)))
        assert_allclose(got.class_scatters, expected["class_scatters"], atol=2e-4)


@pytest.mark.parametrize("dim", [1, 5, 192, 400, 770])
def test_strips_hold_a_symmetric_product(dim):
    rng = np.random.default_rng(dim)
    a = rng.standard_normal((7, dim)).astype(np.float32)
    weighted = rng.random((7, 1)).astype(np.float32) * a
    got = np.asarray(symmetric.whole(symmetric.strips_of(jnp.asarray(a), jnp.asarray(weighted))))
    assert_array_equal(got, got.T)
    assert_allclose(got, a.T.astype(np.float64) @ weighted, atol=1e-5)
    zero = symmetric.whole(symmetric.no_strips(dim, jnp.dtype("float32")))
    assert_array_equal(zero, np.zeros((dim, dim)))


@pytest.mark.thorough
@pytest.mark.parametrize("features", [identity, unit_rows])
def test_tiles_that_lap_over_count_each_row_once(monkeypatch, features):
    x, codes, num_classes, t = problem(18, n=95)
    weights = np.random.default_rng(19).integers(0, 3, len(x)).astype(np.float32)
    weights[:30] = 0  # the first tile has nothing to measure from
    x[:30] = np.nan
    made = np.asarray(features(jnp.asarray(x[30:], jnp.float32)))
    expected = reference(made, codes[30:], num_classes, t[30:], weights[30:])
    monkeypatch.setattr(batch, "TILE_BYTES", 10 * x[0].nbytes)
    like = init(x.shape[1], num_classes, 2, dtype=jnp.float32)
    arrays = (jnp.asarray(a) for a in (x, codes, t, weights))
    rows = batch.batch_of(like, *arrays, Partial(features))
    assert_close(batch.of_rows(like, rows), expected)


@pytest.mark.thorough
def test_class_products_and_their_derivative_are_of_one_function():
    x, codes, num_classes, _ = problem(20, n=70)
    rng = np.random.default_rng(21)
    weights = rng.integers(0, 3, len(x)).astype(np.float32)
    means = rng.standard_normal((2, num_classes + 1, x.shape[1]))
    gaps = rng.random(num_classes), rng.standard_normal((num_classes, x.shape[1]))
    scatters = rng.standard_normal((num_classes, x.shape[1], x.shape[1]))
    given = (scatters, x, weights, np.where(codes < 0, num_classes, codes), means, *gaps)
    given = [jnp.asarray(a, jnp.float32 if a.dtype.kind == "f" else jnp.int32) for a in given]
    given.insert(2, Partial(unit_rows))
    fast = class_products.add_class_products(*given)
    for a, b in zip(fast, class_products.in_equal_blocks(*given), strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.thorough
def test_a_diagonal_is_the_diagonal_of_the_scatter():
    x, codes, num_classes, t = problem(22)
    full = moments.from_arrays(x, codes, num_classes, t)
    got = moments.from_arrays(x, codes, num_classes, t, scatter=False, chunk=30)
    unknown = {"within": full.within[:0, :0], "third": full.third[:0], "fourth": full.third[:0]}
    expected = full._replace(scatter=jnp.diagonal(full.scatter), **unknown)
    assert got.within.shape == (0, 0)
    assert_close(got, expected)
    streamed = moments.from_stream([x], codes, num_classes, t, scatter=False, rows=40)
    assert_close(streamed, expected)
    assert_allclose(moments.total_scatter(got), jnp.trace(full.scatter), rtol=1e-6)
    some = np.array([4, 1])
    cut = moments.from_arrays(x[:, some], codes, num_classes, t, scatter=False)
    assert_close(moments.select(got, some), cut)
    groups = np.arange(num_classes) // 2
    merged = moments.from_arrays(x, np.where(codes < 0, -1, codes // 2), 2, t, scatter=False)
    assert_close(moments.merge_classes(got, groups), merged)
    with pytest.raises(ValueError, match="build them with scatter=True"):
        moments.covariance(got)
    with pytest.raises(ValueError, match="do not hold their fourth moment"):
        moments.fourth(got)
    with pytest.raises(ValueError, match="fourths=True needs the scatter"):
        moments.init(3, 2, scatter=False, fourths=True)
