"""The law of scales: every score of every table gives float64's value however its columns differ.

Columns of scales from 1e-4 to 1e4 in one embedding, and all of them from 1e-12 to 1e12. The
references read the float32 rows in float64; they are those of the tests of each table.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import spearmanr

from kernlens import moments, probes
from kernlens.scores import PAIRS, ROWS, SCORES, SPECTRA, curves, discriminant
from kernlens.scores.rows import ROWS_BESIDE
from kernlens.types import Labels
from tests import cases, test_probe, test_scores, test_scores_pairs, test_scores_spectrum

GRADED = np.array([1e2, 1e-4, 1e4, 1.0, 1e-2, 3.0])
SCALES = {
    "graded": GRADED,
    "graded, far up": 2.0**40 * GRADED,
    "graded, far down": 2.0**-40 * GRADED,
    "far up": np.full(6, 1e12),
    "far down": np.full(6, 1e-12),
}
by_scale = pytest.mark.parametrize("scales", SCALES.values(), ids=SCALES.keys())


def problem(scales, *, n=120, mean=0.5):
    x, codes, _ = cases.gaussian_classes(1, n=n, mean=mean)
    return (scales * x).astype(np.float32), codes


def check(found, expected, name, *, atol=0.0):
    """Float64's value to 1e-4 of itself, where float32 has one."""
    least = float(np.finfo(np.float32).tiny)
    assert_allclose(found, expected, rtol=1e-4, atol=max(atol, least), err_msg=name)


@pytest.mark.thorough
@by_scale
def test_scores_of_features_and_labels(scales):
    x, codes = problem(scales)
    found = test_scores.every(*test_scores.summaries(x, codes))
    assert found.keys() == SCORES.keys()
    for name, score in found.items():
        expected = test_scores.REFERENCES[name](x.astype(np.float64), codes)
        check(score.value, expected, name)


@pytest.mark.thorough
def test_evidence_of_more_features_than_rows_is_that_of_float64():
    x, codes, _ = cases.gaussian_classes(1, n=40, dim=60)
    x = x.astype(np.float32)
    found = SCORES["logme_centred"].fn(moments.from_arrays(x, codes, 4))
    with jax.enable_x64(True):
        wide = moments.from_arrays(x.astype(np.float64), codes, 4)
        expected = SCORES["logme_centred"].fn(wide)
    check(found.value, expected.value, "logme_centred")
    check(found.null, expected.null, "logme_centred")


@by_scale
def test_spectra(scales):
    x, _ = problem(scales)
    found = test_scores_spectrum.measure(x)
    assert found.keys() == SPECTRA.keys()
    for name, value in found.items():
        check(value, test_scores_spectrum.REFERENCES[name](x.astype(np.float64)), name)


def test_graded_columns_twice_have_the_rank_of_once():
    x, _ = problem(GRADED)
    once = x.astype(np.float64) - x.astype(np.float64).mean(0)
    logs = np.log(2.0 * np.linalg.svd(once, compute_uv=False) ** 2)
    twice = moments.from_arrays(np.concatenate([x, x], axis=1), np.full(len(x), -1), 0)
    expected = -np.polyfit(np.log(np.arange(1, 7)), logs, 1)[0]
    check(SPECTRA["alpha_req"].fn(twice), expected, "alpha_req")


@by_scale
def test_comparisons_of_two_embeddings(scales):
    a, b = test_scores_pairs.problem(1, mean=0.5)
    a, b = (scales[:5] * a).astype(np.float32), (scales[4::-1] * b).astype(np.float32)
    found = test_scores_pairs.measure(a, b)
    assert found.keys() == PAIRS.keys()
    for name, value in found.items():
        expected = test_scores_pairs.REFERENCES[name](a.astype(np.float64), b.astype(np.float64))
        check(value, expected, name)


def uniformity(x):
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    first, second = np.triu_indices(len(x), 1)
    return np.log(np.mean(np.exp(-2.0 * np.sum((rows[first] - rows[second]) ** 2, axis=1))))


def parc(x, codes):
    first, second = np.triu_indices(len(x), 1)
    z = (x - x.mean(0)) / x.std(0)
    return spearmanr(1 - np.corrcoef(z)[first, second], codes[first] != codes[second])[0]


def nearest(x, count):
    far = np.sum((x[:, None] - x[None]) ** 2, axis=2) + np.diag(np.full(len(x), np.inf))
    return np.argsort(far, axis=1)[:, :count]


def neighbour_overlap(a, b):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    pairs = zip(nearest(a, 5), nearest(b, 5), strict=True)
    return np.mean([len(set(one) & set(other)) / 5 for one, other in pairs])


def displacement(a, b):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return 0.5 * np.mean(np.sum((a - b) ** 2, axis=1))


def coherence(x):
    u = np.linalg.svd(x, full_matrices=False)[0]
    return np.sum(u**2, axis=1).max() * len(x) / x.shape[1]


@by_scale
def test_scores_of_rows(scales):
    x, codes = problem(scales, n=60)
    other = x + (scales * np.random.default_rng(2).standard_normal(x.shape)).astype(np.float32)
    wide, wide_other = x.astype(np.float64), other.astype(np.float64)
    unit = SPECTRA["self_clustering"].features(jnp.asarray(x))
    expected = {
        "uniformity": uniformity(wide),
        "parc": parc(wide, codes),
        "neighbour_accuracy": np.mean(codes[nearest(wide, 1)[:, 0]] == codes),
        "energy": np.mean(np.logaddexp.reduce(wide, axis=1)),
        "neighbour_overlap": neighbour_overlap(wide, wide_other),
        "displacement": displacement(wide, wide_other),
        "coherence": coherence(wide),
    }
    given = {
        "uniformity": (unit,),
        "parc": (x, codes),
        "neighbour_accuracy": (x, codes, 4),
        "energy": (x,),
        "neighbour_overlap": (x, other, np.arange(60)),
        "displacement": (x, other),
        "coherence": (moments.from_arrays(x, codes, 4), x),
    }
    table = {**ROWS, **ROWS_BESIDE}
    assert expected.keys() == table.keys()
    for name, row in table.items():
        # Rounding of rows swaps a few of the 1,770 pairs.
        check(row.fn(*given[name]), expected[name], name, atol=1e-4 * (name == "parc"))


@by_scale
def test_discriminants_in_sample_and_learning_curves(scales):
    x, codes = problem(scales)

    def measured(x):
        m = moments.from_arrays(x, codes, 4, class_scatters=True)
        own = {name: row.fn(x, codes, 4) for name, row in discriminant.IN_SAMPLE.items()}
        return {**own, "learning_curve": curves.learning_curve(m, [10, 100, 1000]).errors}

    found = measured(x)
    with jax.enable_x64(True):
        expected = measured(x.astype(np.float64))
    for name, value in found.items():
        check(value, expected[name], name)


@by_scale
def test_probes(scales):
    x, codes = problem(scales, n=60)
    labels = Labels(codes % 3, ("a", "b", "c"))
    for name in test_probe.BRUTE:
        found = probes.PROBES[name](x, labels, strengths=(1e-4, 1e-1), draws=2)
        losses, _ = test_probe.BRUTE[name](x.astype(np.float64), labels.codes, (1e-4, 1e-1))
        check(found.path.losses, np.mean(losses, axis=1), name)
