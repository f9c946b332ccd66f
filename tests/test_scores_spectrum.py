"""Label-free scores against the singular values of the rows in float64, and their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from kernlens import moments
from kernlens.arrays.rows import identity, unit_rows
from kernlens.scores import SPECTRA, spectrum
from tests import cases


@jax.jit
def every(plain, unit):
    tables = {identity: plain, unit_rows: unit}
    return {name: row.fn(tables[row.features]) for name, row in SPECTRA.items()}


def measure(x):
    x = jnp.asarray(x, jnp.float32)
    rows = (x, unit_rows(x))
    return every(*(moments.from_arrays(phi, jnp.full(len(x), -1), 0) for phi in rows))


def singular(x):
    return np.linalg.svd(x, compute_uv=False)


def rankme(x):
    p = singular(x) / singular(x).sum()
    return np.exp(-np.sum(p * np.log(p)))


def self_clustering(x):
    n, dim = x.shape
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = n + n * (n - 1) / dim
    return (np.sum((rows @ rows.T) ** 2) - expected) / (n**2 - expected)


def variances(x):
    return singular(x - x.mean(0)) ** 2


REFERENCES = {
    "rankme": rankme,
    "alpha_req": lambda x: -np.polyfit(np.log(np.arange(1, 7)), np.log(variances(x)), 1)[0],
    "nesum": lambda x: variances(x).sum() / variances(x)[0],
    "stable_rank": lambda x: np.sum(x**2) / singular(x)[0] ** 2,
    "participation_ratio": lambda x: variances(x).sum() ** 2 / np.sum(variances(x) ** 2),
    "effective_dimension": lambda x: np.sum(
        variances(x) / (variances(x) + variances(x).mean() / 100)
    ),
    "inverse_condition": lambda x: singular(x)[-1] / singular(x)[0],
    "self_clustering": self_clustering,
}


def test_every_score_has_a_reference_and_its_documentation():
    assert REFERENCES.keys() == SPECTRA.keys()
    for name, row in SPECTRA.items():
        assert row.fn.__name__ == name
        assert all((row.formula, row.source, row.range, row.null, row.predicts, row.pitfalls))


@pytest.mark.parametrize(
    "settings",
    [{}, {"scale": 1e-4}, {"scale": 1e4}, {"mean": 1000.0}, {"mean": 1000.0, "scale": 1e4}],
    ids=str,
)
def test_against_the_singular_values_in_float64(settings):
    x = cases.gaussian_classes(1, **settings).x.astype(np.float32)
    for name, value in measure(x).items():
        expected = REFERENCES[name](x.astype(np.float64))
        assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_order_scale_rotation_and_shift():
    x = cases.gaussian_classes(2, mean=2.0).x
    rng = np.random.default_rng(3)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    base, shifted = measure(x), measure(x + 8.0)
    for changed in (rng.permutation(x), x @ turn, 1e3 * x):
        for name, value in measure(changed).items():
            assert_allclose(value, base[name], rtol=1e-5, err_msg=name)
    for name, row in SPECTRA.items():
        assert (abs(float(shifted[name] - base[name])) < 1e-5 * base[name]) == row.shift_free, name


def test_isotropic_rows_and_one_direction():
    flat = np.concatenate([np.eye(6), -np.eye(6)])
    for name, value in measure(flat).items():
        expected = {"alpha_req": 0.0, "inverse_condition": 1.0, "effective_dimension": 6 / 1.01}
        # Orthonormal directions are more spread than uniform ones, twelve rows of them by 1/11.
        expected["self_clustering"] = self_clustering(flat)
        assert_allclose(value, expected.get(name, 6.0), rtol=1e-5, atol=1e-6, err_msg=name)
    line = np.outer(np.linspace(-1, 1, 20), np.ones(6))
    found = measure(line)
    for name in ("rankme", "nesum", "stable_rank", "participation_ratio", "self_clustering"):
        assert_allclose(found[name], 1.0, rtol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((12, 6)),
        np.full((12, 6), 0.1),
        cases.hostile_rows(dim=6),
        np.ones((1, 6)),
        np.zeros((0, 6)),
    ],
    ids=["zero", "constant", "hostile", "one row", "no row"],
)
def test_degenerate_rows_are_finite(x):
    for name, value in measure(x).items():
        assert np.isfinite(value), name
        if not x.any():
            assert value in (0.0, 1.0) or name == "self_clustering", name


def test_weights_of_a_power_law_are_those_of_least_squares():
    x = cases.gaussian_classes(5).x.astype(np.float32)
    m = moments.from_arrays(x, np.full(len(x), -1), 0)
    logs = np.log(variances(x.astype(np.float64))[1:5] / len(x))
    for weighted in (False, True):
        ranks = np.arange(2, 6)
        slope, level = np.polyfit(np.log(ranks), logs, 1, w=ranks ** (-0.5 * weighted))
        fit = spectrum.power_law(m, start=2, stop=5, weighted=weighted)
        assert_allclose(fit, [-slope, level], rtol=1e-5)


def test_fewer_rows_than_features():
    x = np.random.default_rng(4).standard_normal((4, 6)).astype(np.float32)
    assert_allclose(measure(x)["rankme"], np.exp(_entropy(singular(x))), rtol=1e-4)
    assert_allclose(measure(x)["nesum"], REFERENCES["nesum"](x), rtol=1e-5)


def _entropy(sigma):
    p = sigma[sigma > 1e-6] / sigma.sum()
    return -np.sum(p * np.log(p))


def test_ranks_out_of_range_are_named():
    m = moments.from_arrays(np.ones((3, 2), np.float32), np.zeros(3, np.int32), 1)
    with pytest.raises(ValueError, match="1 <= start <= stop <= 2; got start 0 and stop 2"):
        spectrum.power_law(m, start=0)
