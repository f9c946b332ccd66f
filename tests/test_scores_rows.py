"""Scores of rows, of source posteriors and of in-sample discriminants against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from scipy.stats import spearmanr

from kernlens import moments
from kernlens.arrays.rows import unit_rows
from kernlens.scores import ROWS, discriminant, rows, source
from tests import cases


def problem(seed=0, **settings):
    x, codes, _ = cases.gaussian_classes(seed, n=60, **settings)
    return x.astype(np.float32), codes


@pytest.mark.parametrize(
    "settings", [{}, {"scale": 1e-4}, {"scale": 1e4}, {"mean": 1000.0}], ids=str
)
def test_pairs_of_rows_against_a_loop(settings):
    x, codes = problem(1, **settings)
    wide = x.astype(np.float64)
    first, second = np.triu_indices(len(x), 1)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    expected = np.log(np.mean(np.exp(-2 * np.sum((unit[first] - unit[second]) ** 2, axis=1))))
    assert_allclose(rows.uniformity(jnp.asarray(unit, jnp.float32)), expected, rtol=1e-5, atol=1e-6)
    z = (wide - wide.mean(0)) / wide.std(0)
    far = codes[first] != codes[second]
    expected = spearmanr(1 - np.corrcoef(z)[first, second], far)[0]
    # Rounding of rows swaps a few of the 1,770 pairs.
    assert_allclose(rows.parc(jnp.asarray(x), jnp.asarray(codes)), expected, atol=1e-4)
    distances = np.linalg.norm(wide[:, None] - wide[None], axis=2) + np.diag(
        np.full(len(x), np.inf)
    )
    hits = np.mean(codes[distances.argmin(1)] == codes)
    assert_allclose(rows.neighbour_accuracy(jnp.asarray(x), jnp.asarray(codes), 4), hits, rtol=1e-6)


def test_uniformity_of_scaled_rows_is_of_their_directions():
    assert set(ROWS) == {"uniformity", "parc", "neighbour_accuracy", "energy"}
    x, _ = problem(2)
    for name, row in ROWS.items():
        assert row.fn.__name__ == name
        assert all((row.formula, row.source, row.range, row.null, row.predicts, row.pitfalls))
    base = rows.uniformity(unit_rows(jnp.asarray(x)))
    assert_allclose(rows.uniformity(unit_rows(jnp.asarray(7.0 * x))), base, rtol=1e-5)
    assert rows.uniformity(jnp.ones((5, 3))) == 0.0
    assert rows.uniformity(jnp.ones((1, 3))) == 0.0


def test_votes_of_several_neighbours():
    # The nearest three of row 0 are 1, 2 and 3: two votes beat the nearer one.
    x = jnp.asarray([[0.0], [1.0], [2.0], [3.0], [50.0]])
    codes = jnp.asarray([1, 0, 1, 1, 0])
    assert rows.neighbour_accuracy(x[:4], codes[:4], 2, neighbours=3) == 0.75
    # A tie of two goes to the nearer.
    tied = rows.neighbour_accuracy(
        jnp.asarray([[0.0], [1.0], [2.5]]), jnp.asarray([1, 1, 0]), 2, neighbours=2
    )
    assert_allclose(tied, 2 / 3, rtol=1e-6)
    # Three votes beat the two nearest: row 0 and its like find their class, rows 1 and 2 do not.
    line = jnp.asarray([[0.0], [1.0], [2.1], [3.3], [4.6], [6.0]])
    most = rows.neighbour_accuracy(line, jnp.asarray([1, 0, 0, 1, 1, 1]), 2, neighbours=5)
    assert_allclose(most, 4 / 6, rtol=1e-6)
    with pytest.raises(ValueError, match=r"neighbours must lie in 1\.\.4, one less than the rows"):
        rows.neighbour_accuracy(x, codes, 2, neighbours=5)


def test_neighbours_in_common_and_displacement():
    x, _ = problem(3)
    other, _ = problem(4)
    a, b, everyone = jnp.asarray(x), jnp.asarray(other), jnp.arange(len(x))
    assert_allclose(rows.neighbour_overlap(a, 3.0 * a, everyone), 1.0, rtol=1e-6)
    expected = []
    for i in range(len(x)):
        near = []
        for rows_ in (x, other):
            unit = rows_ / np.linalg.norm(rows_, axis=1, keepdims=True)
            cosine = unit @ unit[i]
            cosine[i] = -2
            near.append(set(np.argsort(-cosine)[:5]))
        expected.append(len(near[0] & near[1]) / 5)
    assert_allclose(rows.neighbour_overlap(a, b, everyone), np.mean(expected), rtol=1e-6)
    assert rows.displacement(a, 2.0 * a) < 1e-6
    assert_allclose(rows.displacement(a, -a), 2.0, rtol=1e-6)
    assert_allclose(rows.displacement(a.at[0].set(0.0), -a), 2.0, rtol=1e-6)


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_coherence_is_the_largest_leverage(mean):
    x, codes = problem(5, mean=mean)
    u = np.linalg.svd(x.astype(np.float64), full_matrices=False)[0]
    m = moments.from_arrays(x, codes, 4)
    expected = np.sum(u**2, axis=1).max() * len(x) / x.shape[1]
    assert_allclose(rows.coherence(m, jnp.asarray(x)), expected, rtol=2e-5)
    halves = [rows.coherence(m, jnp.asarray(x[i::2])) for i in range(2)]
    assert_allclose(max(halves), expected, rtol=2e-5)


def test_energy_is_the_mean_log_sum():
    x, _ = problem(6, scale=100.0)
    assert_allclose(rows.energy(jnp.asarray(x)), np.mean(np.logaddexp.reduce(x, axis=1)), rtol=1e-6)


@pytest.mark.thorough
def test_source_posteriors_that_know_the_label_and_that_know_nothing():
    codes = jnp.asarray(np.arange(40) % 4)
    for posteriors, gain in ((jnp.eye(4)[codes], 1.0), (jnp.full((40, 3), 1 / 3), 0.0)):
        soft = moments.from_arrays(posteriors, codes, 4)
        hard = moments.from_arrays(source.hard(posteriors), codes, 4)
        expected = (gain - 1.0) * np.log(4.0)
        assert_allclose(source.leep(soft, posteriors, codes), expected, atol=1e-6)
        assert_allclose(source.nce(hard), expected, atol=1e-6)
    knowing, blind = jnp.eye(4)[codes], jnp.full((40, 4), 0.25)
    for bound in (source.pactran_dirichlet, source.pactran_gamma):
        assert bound(knowing, codes, 4) < bound(blind, codes, 4)


def test_leep_from_chunks_is_their_weighted_mean():
    x, codes = problem(7)
    posteriors = jnp.exp(jnp.asarray(x) - 3.0)
    posteriors = posteriors / posteriors.sum(axis=1, keepdims=True)
    m = moments.from_arrays(posteriors, codes, 4)
    whole = source.leep(m, posteriors, jnp.asarray(codes))
    parts = [source.leep(m, posteriors[i::2], jnp.asarray(codes[i::2])) for i in range(2)]
    assert_allclose(np.mean(parts), whole, rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("score", [discriminant.class_mean_probability, discriminant.sfda])
def test_in_sample_discriminants(score):
    x, codes = problem(8, separation=8.0)
    noise, _ = problem(8, separation=0.0)
    codes = jnp.asarray(codes)
    good, bad = (float(score(jnp.asarray(rows_), codes, 4)) for rows_ in (x, noise))
    assert good > 0.9 > 0.7 > bad
    # Adding 8 rounds the rows to 5e-7; the class means lie about 8 apart.
    assert_allclose(score(jnp.asarray(x + np.float32(8)), codes, 4), good, rtol=1e-4)
    for hostile in (np.zeros((12, 3)), cases.hostile_rows()):
        value = score(jnp.asarray(hostile, jnp.float32), jnp.asarray(np.arange(12) % 3), 3)
        assert 0.0 <= value <= 1.0


def sfda_reference(x, codes, num_classes):
    """Both discriminants in float64, the shrinkage from the exact largest eigenvalue."""

    def discriminant_of(x, shrinkage):
        z = x - x.mean(0)
        means = np.stack([z[codes == c].mean(0) for c in range(num_classes)])
        own = z - means[codes]
        within = own.T @ own / len(x)
        if shrinkage is None:
            shrinkage = np.exp(-5 * np.linalg.eigvalsh(within)[-1])
        even = np.trace(within) / x.shape[1] * np.eye(x.shape[1])
        inverse = np.linalg.inv((1 - shrinkage) * within + shrinkage * even)
        logits = z @ inverse @ means.T - 0.5 * np.sum(means @ inverse * means, axis=1)
        logits = logits + np.log(np.bincount(codes))
        return softmax(logits, axis=1), z, means, shrinkage

    posteriors, z, means, shrinkage = discriminant_of(x, None)
    kept = softmax(posteriors, axis=1)[np.arange(len(x)), codes][:, None]
    others = (means.sum(0) - means) / (num_classes - 1)
    posteriors = discriminant_of(kept * z + (1 - kept) * others[codes], shrinkage)[0]
    return posteriors[np.arange(len(x)), codes].mean()


@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0])
def test_sfda_against_float64_where_the_scale_sets_its_shrinkage(scale):
    x, codes = problem(10, separation=3.0)
    # One direction far above the others, which the published power steps find to all digits.
    x = (scale * x * np.where(np.arange(x.shape[1]) == 0, 3.0, 1.0)).astype(np.float32)
    expected = sfda_reference(x.astype(np.float64), codes, 4)
    assert_allclose(discriminant.sfda(jnp.asarray(x), jnp.asarray(codes), 4), expected, rtol=1e-4)


GOOD = cases.gaussian_classes(9, n=12, dim=3, num_classes=3)
X, Y = GOOD.x.astype(np.float32), GOOD.codes
P = np.asarray(jnp.exp(X) / jnp.exp(X).sum(axis=1, keepdims=True))
SOFT = moments.from_arrays(P, Y, 3)
BAD = np.where(np.arange(12)[:, None] == 5, np.nan, X)
INFINITE = np.where(np.arange(12)[:, None] > 9, -np.inf, X)
SHIFTED = np.where(np.arange(12) == 4, -1, Y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rows.uniformity(BAD), "uniformity: x must be finite; 1 of 12 .* row 5"),
        (lambda: rows.uniformity(X[:0]), r"uniformity: x needs at least one row; got .*\(0, 3\)"),
        (lambda: rows.uniformity(X, t=0.0), "uniformity: t must be finite and positive; got 0"),
        (lambda: rows.parc(INFINITE, Y), "parc: x must be finite; 2 of 12 rows .* row 10"),
        (lambda: rows.parc(X, SHIFTED), r"parc: codes .*every row needs a label.*got -1 at 4"),
        (lambda: rows.parc(X, Y, np.eye(2)), r"parc: codes .* in 0\.\.1; got 2"),
        (lambda: rows.parc(X.astype(complex), Y), "parc: x must be real numbers; got complex"),
        (lambda: rows.neighbour_accuracy(BAD, Y, 3), "neighbour_accuracy: x must be finite"),
        (lambda: rows.neighbour_accuracy(X, Y, 2), r"neighbour_accuracy: codes .*in 0\.\.1; got 2"),
        (lambda: rows.neighbour_accuracy(X, Y * 1.0, 3), "codes must be class codes.*got float"),
        (lambda: rows.neighbour_overlap(X, BAD, Y), "neighbour_overlap: b must be finite"),
        (lambda: rows.neighbour_overlap(X, X, Y[:0]), "queries must name at least one row"),
        (lambda: rows.neighbour_overlap(X, X, np.array([12])), r"in 0\.\.11; got 12 at 0"),
        (lambda: rows.displacement(BAD, X), "displacement: a must be finite"),
        (lambda: rows.energy(X[:0]), "energy: logits needs at least one row"),
        (lambda: rows.energy(INFINITE), "energy: logits must be finite"),
        (lambda: rows.coherence(SOFT, BAD), "coherence: x must be finite"),
        (lambda: source.leep(SOFT, P[:0], Y[:0]), "leep: posteriors needs at least one row"),
        (lambda: source.leep(SOFT, 0 * P, Y), "leep: posteriors must be probabilities of sum 1"),
        (lambda: source.leep(SOFT, P, SHIFTED), "leep: codes must be class codes"),
        (
            lambda: source.leep(moments.from_arrays(P, Y * 0, 3), P, Y),
            r"leep: codes: moments hold no row of the classes \[1, 2\]",
        ),
        (lambda: source.nce(moments.from_arrays(P, Y * 0 - 1, 3)), "nce: moments hold no row with"),
        (lambda: source.nce(jax.tree.map(lambda v: v * np.nan, SOFT)), "nce: moments hold a row"),
        (lambda: source.pactran_gamma(P, Y, 3, alpha=0.0), "pactran_gamma: alpha must be finite"),
        (lambda: source.pactran_dirichlet(BAD, Y, 3), "pactran_dirichlet: posteriors must be fin"),
        (lambda: discriminant.class_mean_probability(BAD, Y, 3), "class_mean_probability: x must"),
        (lambda: discriminant.sfda(BAD, Y, 3), "sfda: x must be finite"),
        (lambda: discriminant.sfda(X, Y * 0, 1), "sfda: codes must hold two classes or more"),
        (lambda: discriminant.sfda(X, Y, 4), r"without a row \[3\]"),
    ],
)
def test_what_has_no_value_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_values_beyond_the_dtype_are_refused_without_a_warning():
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"12 of 12 .* not in float32"):
        rows.energy(np.full((12, 3), 1e300))


def test_checks_let_traced_arrays_and_their_gradients_pass():
    assert_allclose(jax.jit(rows.energy)(X), rows.energy(X), rtol=1e-6)
    gradient = jax.grad(rows.uniformity)(unit_rows(jnp.asarray(X)))
    assert np.isfinite(gradient).all()
    assert rows.energy(X.astype(np.float16)).dtype == jnp.float32
    hidden = source.hard(jnp.asarray(BAD))
    assert_array_equal(np.flatnonzero(np.isnan(hidden).any(axis=1)), [5])


@pytest.mark.thorough
def test_degenerate_rows_have_the_values_of_their_limits():
    codes = np.arange(12, dtype=np.int32) % 3
    hostile = cases.hostile_rows()
    unit = hostile / np.maximum(np.linalg.norm(hostile, axis=1, keepdims=True), 1e-30)
    first, second = np.triu_indices(12, 1)
    even = np.log(np.mean(np.exp(-2.0 * np.sum((unit[first] - unit[second]) ** 2, axis=1))))
    z = (hostile - hostile.mean(0)) / hostile.std(0)
    ranks = spearmanr(1 - np.corrcoef(z)[first, second], codes[first] != codes[second])[0]
    apart = np.linalg.norm(hostile[:, None] - hostile, axis=2) + np.diag(np.full(12, np.inf))
    near = np.mean(codes[apart.argmin(1)] == codes)
    leverage = np.sum(np.linalg.svd(hostile, full_matrices=False)[0] ** 2, axis=1).max()
    # Of equal rows the first is the nearest, and the nearest to the first is the second: of class
    # 0 three rows are right. Rows that are all one have one direction, in which all weigh alike.
    cases_ = [
        (np.zeros((12, 3)), [0.0, 0.0, 0.25, 0.0]),
        (np.ones((12, 3)), [0.0, 0.0, 0.25, 1 / 3]),
        (hostile, [even, ranks, near, leverage * 4]),
    ]
    for x, expected in cases_:
        x = jnp.asarray(x, jnp.float32)
        found = [
            rows.uniformity(unit_rows(x)),
            rows.parc(x, codes),
            rows.neighbour_accuracy(x, codes, 3),
            rows.coherence(moments.from_arrays(x, codes, 3), x),
        ]
        assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
        assert_allclose(rows.displacement(x, x), 0.0, atol=1e-12)
