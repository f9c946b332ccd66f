"""Laws of every score in the table, and each against its rows or Gram matrix in float64."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.covariance import LedoitWolf

from kernlens import kernels, moments, scores, testing
from kernlens.arrays.rows import identity, unit_rows
from kernlens.kernels import features
from kernlens.scores import ALIGNMENTS, SCORES
from tests import cases

NAMES = sorted(SCORES)
EXACT_NULL = sorted({*ALIGNMENTS, "h_score", "shrunk_h_score", "arora_complexity"})
CLASSES = 6  # Always as many, more than the problems have: one shape, compiled once.


@jax.jit
def every(plain, unit):
    """All scores at once: one compilation shares what they have in common."""
    tables = {identity: plain, unit_rows: unit}
    return {name: row.fn(tables[row.features]) for name, row in SCORES.items()}


def centred(x):
    # It changes nothing but the rounding of the reference itself.
    return x - x.mean(0)


def one_hot(codes):
    return np.eye(codes.max() + 1)[codes] * (codes >= 0)[:, None]


def hsic(x, codes):
    """The centred inner product over ``(n - 1)^2``, from the Gram matrix."""
    gram = centred(x) @ centred(x).T
    return np.sum(gram * cases.label_gram(codes)) / (len(x) - 1) ** 2


def evidence(x, y, *, iterations, tolerance, epsilon, start):
    """Log evidence per row at the fixed point, by singular values, which hold all scales."""
    n, dim = x.shape
    u, sigma, turn = np.linalg.svd(x, full_matrices=False)
    alpha, beta = start, 1.0
    for _ in range(iterations):
        ratio = alpha / beta
        weights = turn.T @ (sigma / (sigma**2 + ratio) * (u.T @ y))
        gamma = np.sum(sigma**2 / (sigma**2 + ratio))
        residual = np.sum((y - x @ weights) ** 2)
        alpha = gamma / (weights @ weights + epsilon)
        beta = (n - gamma) / (residual + epsilon)
        if abs(alpha / beta - ratio) <= tolerance * ratio:
            break
    logdet = np.sum(np.log(alpha + beta * sigma**2))
    fit = dim * np.log(alpha) + n * np.log(beta / (2 * np.pi)) - logdet
    return 0.5 * (fit - beta * residual - alpha * weights @ weights) / n


def logme(x, codes):
    options = {"iterations": 11, "tolerance": 1e-3, "epsilon": 1e-5, "start": 1.0}
    return np.mean([evidence(x, y, **options) for y in one_hot(codes).T])


def logme_centred(x, codes):
    z = centred(x)
    options = {"iterations": 500, "tolerance": 1e-12, "epsilon": 0.0, "start": np.sum(z**2)}
    return np.mean([evidence(z, y, **options) for y in centred(one_hot(codes)).T])


STRENGTHS = tuple(10.0 ** np.arange(-4, 3.5, 0.5))


def gcv(x, codes, strengths=STRENGTHS):
    z, y, n = centred(x), centred(one_hot(codes)), len(x)
    errors = []
    for strength in strengths:
        ridge = strength * np.sum(z**2) / z.shape[1]
        left = np.eye(n) - 1.0 / n - z @ np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T)
        errors.append(n * np.sum((left @ y) ** 2) / np.trace(left) ** 2)
    return min(errors)


def arora(x, codes):
    z, y, n = centred(x), centred(one_hot(codes)), len(x)
    gram = z @ z.T / np.mean(np.sum(z**2, axis=1)) + 1e-2 * np.eye(n)
    return np.sqrt(2.0 * np.sum(y * np.linalg.solve(gram, y)) / n)


def between(x, codes):
    g = np.zeros_like(x)
    for c in np.unique(codes[codes >= 0]):
        g[codes == c] = (x[codes == c] - x.mean(0)).mean(0)
    return g.T @ g


def h_score(x, codes):
    z = centred(x) / np.linalg.norm(centred(x), axis=0)  # no map of the columns changes it
    return np.trace(np.linalg.pinv(z.T @ z) @ between(z, codes))


def shrunk_h_score(x, codes):
    fit = LedoitWolf(assume_centered=True).fit(centred(x))
    inverse = np.linalg.pinv(fit.covariance_)
    return (1 - fit.shrinkage_) * np.trace(inverse @ between(x, codes)) / (len(x) - 1)


def rate(x, epsilon):
    return 0.5 * np.log1p(np.linalg.svd(x, compute_uv=False) ** 2 / len(x) / epsilon).sum()


def transrate(x, codes):
    z, classes = centred(x), np.unique(codes[codes >= 0])
    return rate(z, 1e-4) - np.mean([rate(z[codes == c], 1e-4) for c in classes])


def transrate_weighted(x, codes):
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    labelled, classes = codes >= 0, np.unique(codes[codes >= 0])
    parts = [np.mean(codes[labelled] == c) * rate(rows[codes == c], 1e-4) for c in classes]
    return (rate(rows, 1e-4) - sum(parts)) / np.linalg.matrix_rank(rows)


def gbc(covariance, *, share=1.0, ridge=0.0):
    def overlap(x, codes):
        x = centred(x) / np.sqrt(centred(x).var(0).mean())
        groups = [x[codes == c] for c in np.unique(codes[codes >= 0])]
        shapes = [covariance(g) + ridge * np.eye(x.shape[1]) for g in groups]
        logdet = [np.linalg.slogdet(s)[1] for s in shapes]
        total = 0.0
        for i, a in enumerate(groups):
            for j, b in enumerate(groups):
                middle, gap = 0.5 * (shapes[i] + shapes[j]), a.mean(0) - b.mean(0)
                volume = np.linalg.slogdet(middle)[1] - 0.5 * (logdet[i] + logdet[j])
                distance = gap @ np.linalg.solve(middle, gap) / 8 + 0.5 * share * volume
                total -= np.exp(-distance) * (i != j)
        return total

    return overlap


REFERENCES = {
    "published_class_cosine": cases.class_cosine_reference,
    "proposition1": cases.proposition1_reference,
    "centred_alignment": lambda x, y: cases.alignment_reference(
        centred(x) @ centred(x).T, cases.label_gram(y)
    ),
    "debiased_alignment": lambda x, y: cases.debiased_reference(
        centred(x) @ centred(x).T, cases.label_gram(y)
    ),
    "hsic": hsic,
    "debiased_hsic": lambda x, y: cases.unbiased_hsic(
        centred(x) @ centred(x).T, cases.label_gram(y)
    ),
    "logme": logme,
    "logme_centred": logme_centred,
    "gcv": gcv,
    "arora_complexity": arora,
    "h_score": h_score,
    "shrunk_h_score": shrunk_h_score,
    "transrate": transrate,
    "transrate_weighted": transrate_weighted,
    "gbc_diagonal": gbc(lambda x: np.diag(x.var(0))),
    "gbc_spherical": gbc(lambda x: np.eye(x.shape[1]) * x.var(0).mean(), share=1 / 6),
    "gbc_full": gbc(lambda x: np.cov(x.T, bias=True), ridge=1e-3),
}


def summaries(x, codes):
    x, codes = jnp.asarray(np.asarray(x), jnp.float32), np.asarray(codes, np.int32)
    rows = (x, unit_rows(x))
    return [moments.from_arrays(phi, codes, CLASSES, class_scatters=True) for phi in rows]


@cache
def scored(rows, shape, codes):
    x, codes = np.frombuffer(rows, np.float32).reshape(shape), np.frombuffer(codes, np.int32)
    return every(*summaries(x, codes))


def score(name, x, codes, _=None):
    x, codes = np.asarray(x, np.float32), np.asarray(codes, np.int32)
    return scored(x.tobytes(), x.shape, codes.tobytes())[name]


def test_every_score_has_a_reference_and_its_documentation():
    others = set(NAMES) - set(REFERENCES)
    assert all(map(cases.has_own_test, others)), others
    for name, row in SCORES.items():
        assert row.fn.__name__ == name
        assert row.sign in (1, -1)
        text = (row.formula, row.source, row.range, row.null, row.predicts, row.pitfalls)
        assert all(text)
        assert "References" in row.fn.__doc__


@pytest.mark.parametrize("name", sorted(REFERENCES))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scale": 1e-4},
        {"scale": 1e4},
        {"mean": 1000.0},
        {"mean": 1000.0, "scale": 1e4},
        {"unlabelled": 30},
        {"separation": 0.1},
    ],
    ids=str,
)
def test_against_the_definition_in_float64(name, settings):
    x, codes, _ = cases.gaussian_classes(1, **settings)
    x = x.astype(np.float32)
    expected = REFERENCES[name](x.astype(np.float64), codes)
    unit = settings.get("scale", 1.0) ** 2 if name.endswith("hsic") else 1.0
    # The absolute part is for scores that are differences near 0, of logarithms in LogME.
    got = score(name, x, codes).value
    assert_allclose(got, expected, rtol=1e-5, atol=(1e-5 if "logme" in name else 1e-6) * unit)


@pytest.mark.parametrize("epsilon", [1e-4, 1.0, 1e4])
def test_a_gain_far_below_the_rates_keeps_its_digits(epsilon):
    x, codes, _ = cases.gaussian_classes(1)
    x = x.astype(np.float32)
    m = moments.from_arrays(x, codes, codes.max() + 1, class_scatters=True)
    x = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)

    def rate(rows):
        values = np.linalg.eigvalsh(rows.T @ rows / len(rows))
        return 0.5 * np.log1p(values / epsilon).sum()

    means = [rate(x[codes == c]) for c in np.unique(codes)]
    got = SCORES["transrate"].fn(m, epsilon=epsilon).value
    assert_allclose(got, rate(x) - np.mean(means), rtol=1e-5)


@pytest.mark.thorough
def test_coding_rates_of_an_indefinite_rounding_are_finite():
    """Fewer rows than dimensions and columns of unlike scale: rounding exceeds the unit added."""
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal((60, 64)) * np.exp(2.5 * rng.standard_normal(64))).astype("f4")
    codes = np.arange(60) % 10
    m = moments.from_arrays(x, codes, 10, class_scatters=True)
    got = SCORES["transrate"].fn(m).value
    # Directions below the rounding of the largest are lost to float32.
    assert_allclose(got, REFERENCES["transrate"](x.astype(np.float64), codes), rtol=0.3)


@pytest.mark.thorough
def test_published_score_at_the_edges_of_the_published_code():
    edge = cases.golden_values()["values"]["edge"]
    x, codes, _ = cases.gaussian_classes(2)
    name = "published_class_cosine"
    constant = np.ones_like(x)
    got = score(name, constant, codes).value
    assert_allclose(got, edge["wc_score_constant_embedding"], rtol=1e-6)
    singles = score(name, x[:5], np.arange(5)).value
    assert_allclose(singles, edge["wc_score_singletons_per_class"], rtol=1e-6)
    # Noise with a common mean scores near 1: the failure that the centred scores do not have.
    noise = np.random.default_rng(3).standard_normal(x.shape) + 100.0
    assert edge["wc_score_random_plus_mean100"] > 0.999
    assert score(name, noise, codes).value > 0.999
    assert abs(score("debiased_alignment", noise, codes).value) < 0.1
    # Published: NaN. Here a zero row has cosine 0 with everything.
    assert edge["wc_score_with_zero_row"] == "NaN"
    x[0] = 0.0
    expected = cases.class_cosine_reference(x, codes)
    assert_allclose(score(name, x, codes).value, expected, rtol=1e-5)


@pytest.mark.parametrize("pair", ["wine_std"])
def test_references_of_the_alignments_are_the_published_cka(pair):
    a, b = cases.golden_pairs()[pair]
    golden = cases.golden_values()["values"][f"pair:{pair}"]
    grams = a @ a.T, b @ b.T
    assert_allclose(cases.alignment_reference(*grams), golden["cka_linear"], rtol=1e-8)
    assert_allclose(cases.debiased_reference(*grams), golden["cka_linear_debiased"], rtol=1e-8)


@pytest.mark.thorough
@pytest.mark.parametrize("unlabelled", [0, 20])
def test_null_is_the_mean_over_permuted_labels(unlabelled):
    problem = cases.gaussian_classes(4, n=60, mean=0.5, unlabelled=unlabelled)
    x = jnp.asarray(problem.x, jnp.float32)
    rng = np.random.default_rng(0)
    codes = jnp.asarray(np.stack([rng.permutation(problem.codes) for _ in range(500)]))

    @jax.jit
    def permuted(codes):
        return jax.lax.map(of, codes)

    def of(codes):
        tables = {row: moments.from_arrays(row(x), codes, 4) for row in (identity, unit_rows)}
        return {name: SCORES[name].fn(tables[SCORES[name].features]).value for name in EXACT_NULL}

    for name, values in permuted(codes).items():
        values, null = np.asarray(values, np.float64), float(score(name, *problem).null)
        if name == "arora_complexity":  # Exact for its square.
            values, null = values**2, null**2
        # Five standard errors, and float32 rounding where permutation hardly moves the score.
        assert abs(null - values.mean()) < 5 * values.std() / 500**0.5 + 1e-6, name


@pytest.mark.parametrize("name", NAMES)
def test_permutation_renaming_and_scale(name):
    x, codes, _ = cases.gaussian_classes(5, mean=2.0)
    base = score(name, x, codes)
    rng = np.random.default_rng(6)
    order, names = rng.permutation(len(x)), rng.permutation(4)
    same = [
        score(name, x[order], codes[order]),
        score(name, x, names[codes]),
        score(name, x, codes + 2),
    ]
    if SCORES[name].scale_free:
        same += [score(name, x * scale, codes) for scale in (1e-4, 1e4)]
    else:
        other = score(name, x * 1e2, codes).value
        assert abs(float(other - base.value)) > 1e-5
    for found in same:
        assert_allclose(found, base, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_rotation_and_shift_are_seen_where_the_table_says(name):
    x, codes, _ = cases.gaussian_classes(7, mean=2.0)
    row, base = SCORES[name], float(score(name, x, codes).value)
    turned = x @ np.linalg.qr(np.random.default_rng(8).standard_normal((6, 6)))[0]
    for changed, free in ((turned, row.rotation_free), (x + 8.0, row.shift_free)):
        got = float(score(name, changed, codes).value)
        # Adding 8 rounds the rows themselves to 5e-7.
        assert (abs(got - base) <= 1e-5 * abs(base) + 2e-6) == free


@pytest.mark.parametrize("name", sorted({*ALIGNMENTS, "logme", "logme_centred", "h_score"}))
def test_zero_columns_change_nothing(name):
    x, codes, _ = cases.gaussian_classes(7, mean=2.0, dim=4)
    padded = np.concatenate([x, np.zeros((len(x), 2))], axis=1)
    expected = REFERENCES[name](x, codes)
    assert_allclose(score(name, padded, codes).value, expected, rtol=1e-5, atol=1e-6)


def test_a_constant_column_is_one_of_zeros():
    x, codes, _ = cases.gaussian_classes(7, mean=2.0)
    x = 1e-3 * x
    constant, zeros = (np.where(np.arange(6) == 2, value, x) for value in (1e3 / 3, 0.0))
    for name in NAMES:
        if SCORES[name].shift_free:
            got, expected = (score(name, rows, codes) for rows in (constant, zeros))
            assert_allclose(got, expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["gcv", "arora_complexity"])
def test_of_few_rows_ridge_keeps_its_digits(name):
    x, codes, num_classes = cases.gaussian_classes(3, n=40, dim=80)
    x = x.astype(np.float32)
    got = SCORES[name].fn(moments.from_arrays(x, codes, num_classes)).value
    assert_allclose(got, REFERENCES[name](x.astype(np.float64), codes), rtol=1e-4)


def test_gcv_of_few_rows_at_a_vanishing_strength():
    """The fit is nearly exact, so the error is the quotient of two numbers near 0."""
    x, codes, num_classes = cases.gaussian_classes(3, n=40, dim=80)
    x = x.astype(np.float32)
    got = scores.gcv(moments.from_arrays(x, codes, num_classes), strengths=(1e-4,)).value
    assert_allclose(got, gcv(x.astype(np.float64), codes, (1e-4,)), rtol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["h_score", "gcv"])
def test_gradient_passes_through_float64(name):
    x, codes, _ = cases.gaussian_classes(12, n=30)
    step = np.random.default_rng(13).standard_normal(x.shape)

    def value(x):
        return SCORES[name].fn(moments.from_arrays(x, jnp.asarray(codes), 4)).value

    gradient = jax.grad(value)(jnp.asarray(x, jnp.float32))
    with jax.enable_x64(True):
        quotient = (value(x + 1e-5 * step) - value(x - 1e-5 * step)) / 2e-5
    assert_allclose(np.sum(gradient * step), quotient, rtol=1e-3)


def test_merged_shards_score_as_the_whole():
    x, codes, _ = cases.gaussian_classes(10, mean=5.0)
    parts = [summaries(x[i::2], codes[i::2]) for i in range(2)]
    merged = every(*(moments.merge(*pair) for pair in zip(*parts, strict=True)))
    for name, whole in every(*summaries(x, codes)).items():
        assert_allclose(merged[name], whole, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_scores_keep_the_laws_of_scores(name):
    testing.check_score(SCORES[name])


def test_perfect_classes_reach_the_end_of_the_range():
    # One-hot rows of two equal classes: the two centred kernels are proportional.
    codes = np.arange(40) % 2
    for name in ("centred_alignment", "debiased_alignment", "h_score"):
        assert_allclose(
            score(name, np.pad(np.eye(2)[codes], ((0, 0), (0, 4))), codes).value, 1.0, rtol=1e-5
        )
    assert (
        abs(score("gbc_spherical", np.pad(np.eye(2)[codes], ((0, 0), (0, 4))), codes).value) < 1e-6
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("x", "codes"),
    [
        (np.zeros((12, 6)), np.arange(12) % 3),
        (np.full((12, 6), 0.1), np.arange(12) % 3),
        (cases.hostile_rows(dim=6), np.arange(12) % 3),
        (cases.hostile_rows(dim=6), np.zeros(12, int)),
        (cases.hostile_rows(dim=6), np.full(12, -1)),
        (cases.hostile_rows(dim=6)[:6], np.arange(6)),
        (np.ones((1, 6)), [0]),
        (np.zeros((0, 6)), []),
    ],
    ids=["zero", "constant", "hostile", "one class", "no label", "singletons", "one row", "no row"],
)
def test_degenerate_problems_are_finite(name, x, codes):
    value, null = score(name, x, codes)
    assert np.isfinite([value, null]).all()
    constant = len(x) == 0 or bool((x == x[0]).all())
    if name.endswith("alignment"):
        assert -1.0 - 1e-5 <= value <= 1.0 + 1e-5
        if constant or np.unique(codes).size == 1:
            assert value == null == 0.0


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(name for name in NAMES if SCORES[name].smooth))
def test_gradient_is_the_difference_quotient_and_finite(name):
    row = SCORES[name]
    x, codes, _ = cases.gaussian_classes(12, n=30)
    with jax.enable_x64(True):
        step = jnp.asarray(np.random.default_rng(13).standard_normal(x.shape))

        @jax.jit
        def f(s, x):
            phi = row.features(x + s * step)
            return row.fn(moments.from_arrays(phi, jnp.asarray(codes), 4)).value

        quotient = (f(1e-5, x) - f(-1e-5, x)) / 2e-5
        gradient = jax.jit(jax.grad(f))
        assert_allclose(gradient(0.0, x), quotient, rtol=1e-6, atol=1e-9)
        hostile = np.concatenate([cases.hostile_rows(dim=6)] * 3)[:30]
        for rows in (hostile, np.ones_like(x)):
            assert np.isfinite(gradient(0.0, rows))


def test_a_score_that_needs_class_scatters_says_so():
    problem = cases.gaussian_classes(1)
    bare = moments.from_arrays(problem.x.astype(np.float32), problem.codes, problem.num_classes)
    needy = [name for name in NAMES if SCORES[name].class_scatters]
    assert needy
    for name in needy:
        with pytest.raises(ValueError, match="build them with class_scatters=True"):
            SCORES[name].fn(bare)


@pytest.mark.parametrize("name", NAMES)
def test_a_score_reads_no_more_of_the_scatter_than_it_says(name):
    x, codes, _ = cases.gaussian_classes(15, n=60, unlabelled=5)
    row = SCORES[name]
    if row.class_scatters:
        return
    phi = row.features(jnp.asarray(x, jnp.float32))
    bare = moments.from_arrays(phi, codes, 4, scatter=False)
    if row.scatter:
        with pytest.raises(ValueError, match="build them with scatter=True"):
            row.fn(bare)
        return
    for got, expected in zip(row.fn(bare), row.fn(moments.from_arrays(phi, codes, 4)), strict=True):
        assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.thorough
def test_h_score_of_a_singular_scatter_counts_the_directions_that_vary():
    x, codes, _ = cases.gaussian_classes(16, n=60)
    x32 = x.astype(np.float32)
    doubled = np.concatenate([x32, x32], axis=1)  # every direction twice: half of them vary
    got, expected = (scores.h_score(moments.from_arrays(a, codes, 4)) for a in (doubled, x32))
    assert_allclose(got.value, expected.value, rtol=1e-4)
    assert_allclose(got.null, expected.null, rtol=1e-5)


@pytest.mark.thorough
def test_scores_of_a_kernel_are_scores_of_its_features():
    x, codes, _ = cases.gaussian_classes(14, n=60, dim=3)
    x32 = jnp.asarray(x, jnp.float32)
    phi = features.exact(kernels.rbf, x32)(x32)
    gram = np.exp(-0.5 * ((x[:, None] - x[None]) ** 2).sum(-1))
    got = scores.debiased_alignment(moments.from_arrays(phi, codes, 4)).value
    assert_allclose(got, cases.debiased_reference(gram, cases.label_gram(codes)), rtol=1e-4)
