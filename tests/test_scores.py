"""Laws of every score in the table, and each against its n x n definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from kernlens import features, kernels, moments, scores
from kernlens.scores import SCORES
from tests import cases

NAMES = sorted(SCORES)
REFERENCES = {
    "published_class_cosine": cases.class_cosine_reference,
    "proposition1": cases.proposition1_reference,
    "centred_alignment": lambda x, y: cases.alignment_reference(x @ x.T, cases.label_gram(y)),
    # Centred first: it changes nothing but the rounding of the reference itself.
    "debiased_alignment": lambda x, y: cases.debiased_reference(
        (x - x.mean(0)) @ (x - x.mean(0)).T, cases.label_gram(y)
    ),
}
# One compiled function for each score: problems of one shape then compile once.
SCORE_FNS = {
    name: jax.jit(
        lambda x, codes, num_classes, row=row: row.fn(
            moments.from_arrays(row.features(x), codes, num_classes)
        ),
        static_argnums=2,
    )
    for name, row in SCORES.items()
}

GRADIENT_FNS = {name: jax.jit(jax.jacrev(fn), static_argnums=2) for name, fn in SCORE_FNS.items()}


def score(name, x, codes, num_classes):
    x = jnp.asarray(np.asarray(x), jnp.float32)
    return SCORE_FNS[name](x, jnp.asarray(codes), num_classes)


def null_by_permutation(name, problem, draws=1000):
    x = jnp.asarray(problem.x, jnp.float32)
    rng = np.random.default_rng(0)
    codes = np.stack([rng.permutation(problem.codes) for _ in range(draws)])
    run = jax.vmap(lambda c: SCORE_FNS[name](x, c, problem.num_classes).value)
    values = np.asarray(jax.jit(run)(jnp.asarray(codes)), np.float64)
    return values.mean(), values.std() / np.sqrt(draws)


def test_every_score_has_a_reference_and_its_documentation():
    assert sorted(REFERENCES) == NAMES
    for name, row in SCORES.items():
        assert row.fn.__name__ == name
        assert all((row.formula, row.source, row.range, row.predicts, row.pitfalls))


@pytest.mark.parametrize("name", NAMES)
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
def test_against_the_gram_matrix_in_float64(name, settings):
    x, codes, num_classes = cases.gaussian_classes(1, **settings)
    x = x.astype(np.float32)
    expected = REFERENCES[name](x.astype(np.float64), codes)
    # Relative to 1e-4 as the design asks; the last is for scores that are differences near 0.
    assert_allclose(score(name, x, codes, num_classes).value, expected, rtol=1e-4, atol=2e-7)


@pytest.mark.parametrize("problem", sorted(cases.golden_problems()))
def test_published_score_is_what_the_published_code_returns(problem):
    x, codes, num_classes = cases.golden_problems()[problem]
    golden = cases.golden_values()
    checks = golden["input_checksums"][problem]
    assert_allclose([np.linalg.norm(x), codes.sum()], [checks["fro"], checks["ysum"]], rtol=1e-9)
    got = score("published_class_cosine", x, codes, num_classes).value
    expected = golden["values"][problem]["wc_clf_kernel_score"]
    assert_allclose(got, expected, rtol=1e-5)
    few = cases.class_cosine_reference(x[:60], codes[:60])
    assert_allclose(few, _mean_cosine(x, codes, 60))


def _mean_cosine(x, codes, n):
    rows = x[:n] / np.linalg.norm(x[:n], axis=1, keepdims=True)
    return np.mean([rows[i] @ rows[j] for i in range(n) for j in range(n) if codes[i] == codes[j]])


def test_published_score_at_the_edges_of_the_published_code():
    edge = cases.golden_values()["values"]["edge"]
    x, codes, num_classes = cases.gaussian_classes(2)
    name = "published_class_cosine"
    constant = np.ones_like(x)
    got = score(name, constant, codes, num_classes).value
    assert_allclose(got, edge["wc_score_constant_embedding"], rtol=1e-6)
    singles = score(name, x[:5], np.arange(5), 5).value
    assert_allclose(singles, edge["wc_score_singletons_per_class"], rtol=1e-6)
    # Noise with a common mean scores near 1: the failure that the centred scores do not have.
    noise = np.random.default_rng(3).standard_normal(x.shape) + 100.0
    assert edge["wc_score_random_plus_mean100"] > 0.999
    assert score(name, noise, codes, num_classes).value > 0.999
    assert abs(score("debiased_alignment", noise, codes, num_classes).value) < 0.1
    # Published: NaN. Here a zero row has cosine 0 with everything.
    assert edge["wc_score_with_zero_row"] == "NaN"
    x[0] = 0.0
    expected = cases.class_cosine_reference(x, codes)
    assert_allclose(score(name, x, codes, num_classes).value, expected, rtol=1e-5)


@pytest.mark.parametrize("pair", ["wine_std"])
def test_references_of_the_alignments_are_the_published_cka(pair):
    a, b = cases.golden_pairs()[pair]
    golden = cases.golden_values()["values"][f"pair:{pair}"]
    grams = a @ a.T, b @ b.T
    assert_allclose(cases.alignment_reference(*grams), golden["cka_linear"], rtol=1e-8)
    assert_allclose(cases.debiased_reference(*grams), golden["cka_linear_debiased"], rtol=1e-8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unlabelled", [0, 20])
def test_null_is_the_mean_over_permuted_labels(name, unlabelled):
    problem = cases.gaussian_classes(4, n=60, mean=0.5, unlabelled=unlabelled)
    mean, error = null_by_permutation(name, problem)
    # Five standard errors, and float32 rounding where permutation hardly moves the score.
    assert abs(float(score(name, *problem).null) - mean) < 5 * error + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_scale_permutation_and_renaming(name):
    x, codes, num_classes = cases.gaussian_classes(5, mean=2.0)
    base = score(name, x, codes, num_classes)
    rng = np.random.default_rng(6)
    order, names = rng.permutation(len(x)), rng.permutation(num_classes)
    for same in (
        score(name, x * 1e-4, codes, num_classes),
        score(name, x * 1e4, codes, num_classes),
        score(name, x[order], codes[order], num_classes),
        score(name, x, names[codes], num_classes),
        score(name, x, codes + 2, num_classes + 3),
    ):
        assert_allclose(same, base, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_rotation_and_zero_columns(name):
    x, codes, num_classes = cases.gaussian_classes(7, mean=2.0)
    rotation = np.linalg.qr(np.random.default_rng(8).standard_normal((6, 6)))[0]
    base = score(name, x, codes, num_classes)
    padded = np.concatenate([x, np.zeros((len(x), 2))], axis=1)
    assert_allclose(score(name, x @ rotation, codes, num_classes), base, rtol=1e-5, atol=1e-7)
    assert_allclose(score(name, padded, codes, num_classes), base, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["centred_alignment", "debiased_alignment"])
def test_centred_scores_do_not_see_a_common_mean(name):
    x, codes, num_classes = cases.gaussian_classes(9)
    base = score(name, x, codes, num_classes)
    # Adding 1,000 rounds the rows themselves to 6e-5.
    moved = score(name, x + 1000.0, codes, num_classes)
    assert_allclose(moved, base, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_merged_shards_score_as_the_whole(name):
    row = SCORES[name]
    x, codes, num_classes = cases.gaussian_classes(10, mean=5.0)
    phi = np.asarray(row.features(jnp.asarray(x, jnp.float32)))
    parts = [moments.from_arrays(phi[i::2], codes[i::2], num_classes) for i in range(2)]
    assert_allclose(row.fn(moments.merge(*parts)), score(name, x, codes, num_classes), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_separated_classes_beat_noise_and_noise_scores_its_null(name):
    separated = score(name, *cases.gaussian_classes(11, separation=5.0))
    noise = score(name, *cases.gaussian_classes(11, n=2000, separation=0.0))
    assert separated.value > separated.null + 0.2
    assert abs(noise.value - noise.null) < 0.02


def test_perfect_classes_reach_one():
    # One-hot rows of two equal classes: the two centred kernels are proportional.
    codes = np.arange(40) % 2
    for name in ("centred_alignment", "debiased_alignment"):
        assert_allclose(score(name, np.eye(2)[codes], codes, 2).value, 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("x", "codes"),
    [
        (np.zeros((12, 3)), np.arange(12) % 3),
        (np.full((12, 3), 0.1), np.arange(12) % 3),
        (cases.hostile_rows(), np.arange(12) % 3),
        (cases.hostile_rows(), np.zeros(12, int)),
        (cases.hostile_rows(), np.full(12, -1)),
        (cases.hostile_rows(), np.arange(12)),
        (np.ones((1, 3)), [0]),
        (np.zeros((0, 3)), []),
    ],
    ids=["zero", "constant", "hostile", "one class", "no label", "singletons", "one row", "no row"],
)
def test_degenerate_problems_are_finite_with_finite_gradients(name, x, codes):
    x, codes = jnp.asarray(x, jnp.float32), jnp.asarray(np.asarray(codes, np.int32))
    num_classes = 12
    value, null = SCORE_FNS[name](x, codes, num_classes)
    assert np.isfinite([value, null]).all()
    assert -1.0 - 1e-5 <= value <= 1.0 + 1e-5
    constant = len(x) == 0 or bool((x == x[0]).all())
    if name.endswith("alignment") and (constant or int(jnp.unique(codes).size) == 1):
        assert value == null == 0.0
    for gradient in GRADIENT_FNS[name](x, codes, num_classes):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_difference_quotient(name):
    row = SCORES[name]
    x, codes, num_classes = cases.gaussian_classes(12, n=30)
    with jax.enable_x64(True):
        step = jnp.asarray(np.random.default_rng(13).standard_normal(x.shape))

        @jax.jit
        def f(s):
            phi = row.features(jnp.asarray(x) + s * step)
            return row.fn(moments.from_arrays(phi, jnp.asarray(codes), num_classes)).value

        quotient = (f(1e-5) - f(-1e-5)) / 2e-5
        assert_allclose(jax.jit(jax.grad(f))(0.0), quotient, rtol=1e-6, atol=1e-9)


def test_scores_of_a_kernel_are_scores_of_its_features():
    x, codes, num_classes = cases.gaussian_classes(14, n=60, dim=3)
    x32 = jnp.asarray(x, jnp.float32)
    phi = features.exact(kernels.rbf, x32)(x32)
    gram = np.exp(-0.5 * ((x[:, None] - x[None]) ** 2).sum(-1))
    got = scores.debiased_alignment(moments.from_arrays(phi, codes, num_classes)).value
    assert_allclose(got, cases.debiased_reference(gram, cases.label_gram(codes)), rtol=1e-4)
