"""Comparisons of two embeddings against the rows themselves in float64, and their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from kernlens.arrays.rows import identity, unit_rows
from kernlens.scores import PAIRS, pairs
from tests import cases


@jax.jit
def every(plain, unit):
    tables = {identity: plain, unit_rows: unit}
    return {name: row.fn(tables[row.features]) for name, row in PAIRS.items()}


def both(a, b):
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    return pairs.from_arrays(a, b), pairs.from_arrays(unit_rows(a), unit_rows(b))


def measure(a, b):
    return every(*both(a, b))


def problem(seed=0, *, n=90, mean=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 5))
    a, b = (
        shared @ rng.standard_normal((5, 5)) + 0.5 * rng.standard_normal((n, 5)) for _ in range(2)
    )
    shift = mean * np.linspace(0.5, 1.0, 5)
    return [(scale * (x + s)).astype(np.float32) for x, s in ((a, shift), (b, -0.7 * shift[::-1]))]


def centred(x):
    return x - x.mean(0)


def projector(x):
    u = np.linalg.svd(x, full_matrices=False)[0]
    return u @ u.T


def instability(a, b):
    pa, pb = projector(a), projector(b)
    anchor = a @ a.T + b @ b.T
    return np.trace((pa + pb - 2 * pb @ pa) @ anchor) / np.trace(anchor)


def gulp(a, b):
    n, eye = len(a), np.eye(5)
    hats = []
    for x in (centred(a), centred(b)):
        hats.append(x @ np.linalg.solve(x.T @ x / n + 0.01 * eye, x.T) / n)
    return np.sum((hats[0] - hats[1]) ** 2)


def nuclear(a, b):
    return np.linalg.norm(centred(a).T @ centred(b), ord="nuc")


def correlations(a, b):
    u, v = (np.linalg.svd(centred(x), full_matrices=False)[0] for x in (a, b))
    return u, v, np.linalg.svd(u.T @ v)


def pwcca(a, b):
    u, _, (left, rho, _) = correlations(a, b)
    weights = np.abs((u @ left).T @ centred(a)).sum(1)
    return rho @ weights / weights.sum()


def svcca(a, b):
    kept = []
    for x in (a, b):
        u, s, _ = np.linalg.svd(centred(x), full_matrices=False)
        kept.append(u[:, : np.searchsorted(np.cumsum(s**2) / np.sum(s**2), 0.99) + 1])
    return np.linalg.svd(kept[0].T @ kept[1], compute_uv=False).mean()


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


REFERENCES = {
    "cka": lambda a, b: cases.alignment_reference(
        centred(a) @ centred(a).T, centred(b) @ centred(b).T
    ),
    "debiased_cka": lambda a, b: cases.debiased_reference(
        centred(a) @ centred(a).T, centred(b) @ centred(b).T
    ),
    "pip_loss": lambda a, b: np.linalg.norm(a @ a.T - b @ b.T),
    "frobenius_distance": lambda a, b: np.linalg.norm(a - b),
    "alignment_loss": lambda a, b: np.mean(np.sum((unit(a) - unit(b)) ** 2, axis=1)),
    "eigenspace_overlap": lambda a, b: np.trace(projector(a) @ projector(b)) / 5,
    "weighted_eigenspace_overlap": lambda a, b: np.sum((projector(a) @ b) ** 2) / np.sum(b**2),
    "eigenspace_instability": instability,
    "gulp": gulp,
    "procrustes": lambda a, b: (
        (np.sum(centred(a) ** 2) + np.sum(centred(b) ** 2) - 2 * nuclear(a, b)) / len(a)
    ),
    "procrustes_angle": lambda a, b: np.arccos(
        nuclear(a, b) / np.linalg.norm(centred(a)) / np.linalg.norm(centred(b))
    ),
    "cca": lambda a, b: correlations(a, b)[2][1].mean(),
    "pwcca": pwcca,
    "svcca": svcca,
}


def test_every_score_has_a_reference_and_its_documentation():
    assert REFERENCES.keys() == PAIRS.keys()
    for name, row in PAIRS.items():
        assert row.fn.__name__ == name
        assert all((row.formula, row.source, row.range, row.null, row.predicts, row.pitfalls))


@pytest.mark.parametrize(
    "settings",
    [{}, {"scale": 1e-4}, {"scale": 1e4}, {"mean": 1000.0}, {"mean": 1000.0, "scale": 1e4}],
    ids=str,
)
def test_against_the_rows_in_float64(settings):
    a, b = problem(1, **settings)
    for name, value in measure(a, b).items():
        expected = REFERENCES[name](a.astype(np.float64), b.astype(np.float64))
        # What carries the mean's unit is as accurate as that; the rest to the size of its range.
        atol = 0.0 if name in ("pip_loss", "frobenius_distance", "procrustes") else 2e-6
        assert_allclose(value, expected, rtol=2e-5, atol=atol, err_msg=name)


def test_scale_rotation_and_shift_are_seen_where_the_table_says():
    a, b = problem(2, mean=2.0)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))[0]
    base = measure(a, b)
    changes = {
        "scale_free": measure(2.0 * a, 0.5 * b),
        "rotation_free": measure(a @ turn, b),
        "shift_free": measure(a + 4.0, b - 8.0),
    }
    for law, found in changes.items():
        for name, row in PAIRS.items():
            same = abs(float(found[name] - base[name])) < 2e-5 * max(1.0, abs(float(base[name])))
            # A scale takes each embedding alike, which some of weights of two do not survive.
            if not (law == "scale_free" and name == "eigenspace_instability"):
                assert same == getattr(row, law), (law, name)


@pytest.mark.thorough
def test_shards_merge_and_rows_permute():
    a, b = problem(4, mean=5.0)
    whole = measure(a, b)
    first, second = both(a[::2], b[::2]), both(a[1::2], b[1::2])
    merged = every(*(pairs.merge(x, y) for x, y in zip(first, second, strict=True)))
    for name, value in merged.items():
        assert_allclose(value, whole[name], rtol=1e-5, atol=2e-6, err_msg=name)


def test_an_embedding_with_itself():
    a, _ = problem(5, mean=1.0)
    found = measure(a, a)
    for name, value in found.items():
        if "distance" in name or name in ("alignment_loss", "gulp", "eigenspace_instability"):
            assert abs(value) < 1e-4, name
        elif name in ("pip_loss", "procrustes", "procrustes_angle"):
            assert abs(value) < 2e-3 * np.sum(a**2), name
        else:
            assert_allclose(value, 1.0, rtol=1e-5, err_msg=name)


def test_unrelated_embeddings_have_no_debiased_likeness():
    rng = np.random.default_rng(6)
    found = measure(rng.standard_normal((400, 5)), rng.standard_normal((400, 5)))
    assert abs(found["debiased_cka"]) < 0.02
    assert abs(found["eigenspace_overlap"] - 5 / 400) < 0.01


@pytest.mark.parametrize("ratio", [30.0, 1e5, 1e9])
def test_debiased_likeness_of_sizes_that_leave_no_digits_is_no_number(ratio):
    a, b = problem(8)
    expected = REFERENCES["debiased_cka"](a.astype(np.float64), b.astype(np.float64))
    for pair in ((np.float32(ratio) * a, b), (a, np.float32(ratio) * b)):
        pair = pairs.from_arrays(*pair)
        if ratio < 100:
            assert_allclose(pairs.debiased_cka(pair), expected, rtol=1e-3)
            continue
        with pytest.warns(UserWarning, match="divide each by its root mean square"):
            assert np.isnan(pairs.debiased_cka(pair))
        assert np.isnan(jax.jit(pairs.debiased_cka)(pair))


@pytest.mark.parametrize(
    "x", [np.zeros((12, 5)), np.full((12, 5), 0.1), cases.hostile_rows(dim=5), np.zeros((0, 5))]
)
def test_degenerate_rows_are_finite(x):
    other = np.random.default_rng(7).standard_normal(x.shape)
    for pair in ((x, x), (x, other), (other, x)):
        for name, value in measure(*pair).items():
            assert np.isfinite(value), name


def test_an_embedding_of_zeros_has_no_likeness_and_all_of_the_distance():
    other = np.random.default_rng(7).standard_normal((12, 5)).astype(np.float32)
    wide, zeros = other.astype(np.float64), np.zeros((12, 5))
    z = centred(wide)
    variances = np.linalg.eigvalsh(z.T @ z / 12)
    expected = {
        "pip_loss": np.linalg.norm(wide @ wide.T),
        "frobenius_distance": np.linalg.norm(wide),
        "alignment_loss": 1.0,
        "eigenspace_instability": 1.0,
        "gulp": np.sum((variances / (variances + 0.01)) ** 2),
        "procrustes": np.sum(z**2) / 12,
        "procrustes_angle": np.pi / 2,
    }
    for pair in ((zeros, other), (other, zeros)):
        for name, value in measure(*pair).items():
            assert_allclose(value, expected.get(name, 0.0), rtol=1e-5, atol=1e-7, err_msg=name)
    for name, value in measure(zeros, zeros).items():
        assert_allclose(value, np.pi / 2 if name == "procrustes_angle" else 0.0, err_msg=name)


def test_rotation_is_the_least_squares_one():
    a, b = (x.astype(np.float64) for x in problem(8))
    u, _, v = np.linalg.svd(a.T @ b)
    assert_allclose(pairs.rotation(both(a, b)[0]), u @ v, atol=2e-5)


def test_mistakes_are_named():
    a, b = problem(9)
    with pytest.raises(ValueError, match="as many rows, in the same order; got 90 and 89"):
        pairs.from_arrays(a, b[1:])
    with pytest.raises(ValueError, match="only at equal widths; got 5 and 3"):
        pairs.frobenius_distance(pairs.from_arrays(a, b[:, :3]))
