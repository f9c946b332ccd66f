"""The mixture behind proposition 2 against data that a mixture made."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from experiments.prop2_sequence_average import mixture


@pytest.mark.parametrize(("lam", "shift"), [(0.2, 0.0), (0.7, 20.0)])
def test_the_mixture_finds_the_share_that_made_the_data(lam, shift):
    """Whatever the mean of the embeddings, which tells no items apart."""
    rng = np.random.default_rng(0)
    n, m, dim, scale = 6_000, 30, 4, 4.0
    items = rng.standard_normal((m, dim))
    items -= items.mean(axis=0)
    # So that the grid, in units of the items' variance, holds the scale itself.
    items *= np.sqrt(4.0 / np.mean(np.sum(items**2, axis=1)))
    queries = 0.5 * rng.standard_normal((n, dim))
    share = rng.dirichlet(np.full(m, 0.5)) * 0.9 + 0.1 / m
    own = np.exp(scale * queries @ items.T)
    z = own.sum(axis=1)
    chances = lam * share + (1 - lam) * own / z[:, None]
    target = (rng.random(n)[:, None] > np.cumsum(chances, axis=1)).sum(axis=1).clip(0, m - 1)
    given = ((rows + shift).astype(np.float32) for rows in (queries, items))
    found = mixture.fit(*given, share, target)
    assert_allclose(found.scale, scale, rtol=1e-5)
    # Five standard errors of a share estimated from n examples are 0.03.
    assert_allclose(found.lam, lam, atol=0.03)
    # Shifted values of float32 keep six digits, and the scale makes them logarithms.
    assert_allclose(found.log_z, np.median(np.log(z)), atol=1e-3)
    odds = (1 - found.lam) / found.lam
    for alpha, quantile in ((found.alpha, 0.5), (found.low, 0.95), (found.high, 0.05)):
        assert_allclose(alpha, odds / np.quantile(z, quantile), rtol=2e-3)
    assert found.gain > 0


@pytest.mark.parametrize("times", [1e-6, 0.01, 100.0, 1e6])
def test_the_scale_of_a_table_changes_no_discount(times):
    """Nor is the likeliest scale at an end of what is tried."""
    rng = np.random.default_rng(1)
    n, m = 2_000, 40
    items = rng.standard_normal((m, 6)).astype(np.float32)
    target = rng.integers(0, m, n)
    queries = (0.3 * items[target] + rng.standard_normal((n, 6))).astype(np.float32)
    share = rng.dirichlet(np.ones(m)) * 0.9 + 0.1 / m
    found = mixture.fit(queries, items, share, target)
    other = mixture.fit(queries * np.float32(times), items * np.float32(times), share, target)
    assert_allclose(other.alpha, found.alpha, rtol=1e-3)
    assert_allclose([other.lam, other.gain], [found.lam, found.gain], rtol=1e-3)
    assert_allclose(other.scale * times**2, found.scale, rtol=1e-4)
    tried = found.scale * np.mean(np.sum((items - items.mean(axis=0)) ** 2, axis=1))
    assert 1.5 * mixture.SCALES[0] < tried < mixture.SCALES[-1] / 1.5


def test_items_that_do_not_differ_are_refused():
    with pytest.raises(ValueError, match="expected vectors that differ; got 3 of one value"):
        mixture.fit(np.ones((5, 2)), np.ones((3, 2)), np.full(3, 1 / 3), np.zeros(5, int))
