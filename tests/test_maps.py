"""Maps between versions: against SciPy, scikit-learn and closed forms; saved and loaded."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import Ridge

from kernlens.lens import maps


def _versions(n=200, d1=4, d2=4, seed=0):
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(n, d1)) * np.arange(1, d1 + 1) + 3.0
    new = old @ rng.normal(size=(d1, d2)) + 0.5 * rng.normal(size=(n, d2)) - 7.0
    return new, old


@pytest.mark.parametrize("rows", [7, 1000])
def test_joint_moments_are_those_of_the_rows_and_parts_can_be_taken_out(rows):
    new, old = _versions()
    whole = maps.joint(new, old, rows=rows)
    a, b = new - new.mean(axis=0), old - old.mean(axis=0)
    for got, expected in zip(
        whole, (len(new), new.mean(axis=0), old.mean(axis=0), a.T @ a, a.T @ b, b.T @ b),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(got, expected, rtol=1e-10)
    left = whole.without(maps.joint(new[:50], old[:50]))
    for got, expected in zip(left, maps.joint(new[50:], old[50:]), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_a_rotation_is_scipy_s_procrustes():
    new, old = _versions()
    fitted = maps.fit("rotation", maps.joint(new, old))
    expected, _ = orthogonal_procrustes(new - new.mean(axis=0), old - old.mean(axis=0))
    np.testing.assert_allclose(fitted.weights, expected, atol=1e-10)
    np.testing.assert_allclose(fitted(new).mean(axis=0), old.mean(axis=0))


@pytest.mark.parametrize("widths", [(3, 5), (5, 3)])
def test_a_rotation_between_unequal_widths_keeps_lengths_where_it_can(widths):
    new, old = _versions(d1=widths[0], d2=widths[1])
    weights = maps.fit("rotation", maps.joint(new, old)).weights
    small = weights.T @ weights if widths[1] > widths[0] else weights @ weights.T
    np.testing.assert_allclose(small, np.eye(min(widths)), atol=1e-10)


def test_a_ridge_map_is_scikit_learn_s():
    new, old = _versions(d2=6)
    moments = maps.joint(new, old)
    fitted = maps.fit("ridge map", moments, strength=0.1)
    reference = Ridge(alpha=0.1 * np.trace(moments.new) / 6).fit(new, old)
    np.testing.assert_allclose(fitted(new), reference.predict(new), atol=1e-8)


def test_whitening_and_colouring_gives_the_old_mean_and_covariance():
    new, old = _versions(d1=4, d2=6)
    mapped = maps.fit("whiten-rotate-colour", maps.joint(new, old))(new)
    np.testing.assert_allclose(mapped.mean(axis=0), old.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(np.cov(mapped.T), np.cov(old.T), rtol=1e-8, atol=1e-8)


def test_the_share_explained_is_that_of_the_folds_own_rows():
    new, old = _versions(n=100)
    folds = np.arange(100) % 5
    parts = [maps.joint(new[folds == k], old[folds == k]) for k in range(5)]
    found = maps.fit_folds("ridge map", maps.joint(new, old), parts)
    mapped = found.mapped(new, folds)
    spread = sum(np.sum((old[folds == k] - old[folds == k].mean(axis=0)) ** 2) for k in range(5))
    assert found.r2 == pytest.approx(1 - np.sum((mapped - old) ** 2) / spread)
    only = maps.fit("ridge map", maps.joint(new[folds != 2], old[folds != 2]))
    tried = [
        maps.fit("ridge map", maps.joint(new[folds != 2], old[folds != 2]), strength=s).weights
        for s in maps.STRENGTHS
    ]
    assert any(np.allclose(found.folds[2].weights, weights) for weights in tried)
    assert only.weights.shape == (4, 4)


def test_a_constant_column_and_equal_rows_do_no_harm():
    new, old = _versions()
    new[:, 1], old[:, 2] = 5.0, -1.0
    for name in maps.MAPS:
        mapped = maps.fit(name, maps.joint(new, old))(new)
        assert np.all(np.isfinite(mapped))
    mapped = maps.fit("whiten-rotate-colour", maps.joint(new, old))(new)
    np.testing.assert_allclose(mapped[:, 2], -1.0)


def test_a_map_is_saved_and_served(tmp_path):
    import jax.numpy as jnp

    new, old = _versions(d2=6)
    fitted = maps.fit("ridge map", maps.joint(new, old))
    fitted.save(tmp_path / "map.safetensors")
    again = maps.load(tmp_path / "map.safetensors")
    assert again.name == "ridge map"
    np.testing.assert_array_equal(again(new), fitted(new))
    served = again(jnp.asarray(new, jnp.float32))
    assert served.dtype == jnp.float32
    np.testing.assert_allclose(served, fitted(new), rtol=1e-3, atol=1e-3)


def test_what_is_no_map_is_refused(tmp_path):
    from safetensors.numpy import save_file

    new, old = _versions(d2=6)
    moments = maps.joint(new, old)
    with pytest.raises(ValueError, match=r"maps must be among .*'raw'.*got 'linear'"):
        maps.fit("linear", moments)
    with pytest.raises(ValueError, match="versions of 6 and 4 columns need a map"):
        maps.fit("raw", moments)
    with pytest.raises(ValueError, match="a map is saved as"):
        maps.fit("rotation", moments).save(tmp_path / "map.bin")
    save_file({"other": new}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"expected the tensors weights .* got \{'other'"):
        maps.load(tmp_path / "other.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        maps.load(tmp_path / "bad.safetensors")
