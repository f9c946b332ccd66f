"""Agreement against SciPy, brute-force resampling, and its laws."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kernlens.metrics import agreement as module
from kernlens.metrics.agreement import agreement


def pairs(seed=0, m=20, ties=False):
    rng = np.random.default_rng(seed)
    measured = rng.random(m)
    predicted = measured + 0.3 * rng.normal(size=m)
    return (np.round(predicted, 1), np.round(measured, 1)) if ties else (predicted, measured)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_scipys(ties, seed):
    predicted, measured = pairs(seed, ties=ties)
    np.testing.assert_allclose(
        [module.spearman(predicted, measured), module.kendall(predicted, measured)],
        [stats.spearmanr(predicted, measured)[0], stats.kendalltau(predicted, measured)[0]],
        rtol=1e-12,
    )


def test_points_of_agreement_are_the_functions():
    predicted, measured = pairs(ties=True)
    found = agreement(predicted, measured, draws=10)
    for name in ("spearman", "kendall", "mean_absolute_error", "bias", "regret"):
        assert getattr(found, name).value == pytest.approx(
            getattr(module, name)(predicted, measured), rel=1e-12
        )
    difference = predicted - measured
    assert found.mean_absolute_error.value == pytest.approx(np.mean(np.abs(difference)), rel=1e-12)
    assert found.bias.value == pytest.approx(np.mean(difference), rel=1e-12)
    assert found.max_absolute_error.value == np.max(np.abs(difference))


def test_intervals_are_those_of_every_possible_draw():
    # Five embeddings have 3125 equally likely draws: the exact bootstrap, from SciPy one by one.
    predicted, measured = pairs(3, m=5)
    exact = {name: [] for name in ("spearman", "kendall", "mean_absolute_error", "regret")}
    for index in itertools.combinations_with_replacement(range(5), 5):
        if len(set(index)) == 1:
            continue
        p, q = predicted[list(index)], measured[list(index)]
        number = len(set(itertools.permutations(index)))
        values = {
            "spearman": stats.spearmanr(p, q)[0],
            "kendall": stats.kendalltau(p, q)[0],
            "mean_absolute_error": np.mean(np.abs(p - q)),
            "regret": np.max(q) - q[np.argmax(p)],
        }
        for name, value in values.items():
            exact[name] += [value] * number
    found = agreement(predicted, measured, draws=20000, level=0.8)
    for name, values in exact.items():
        interval = getattr(found, name)
        # Where the ends fall among all draws: 20,000 draws put a share of 0.1 within 0.01 (4 sd).
        # Draws of one embedding only, left out above for all, hold a share of 0.0016.
        assert np.mean(np.array(values) < interval.low - 1e-9) <= 0.11
        assert np.mean(np.array(values) <= interval.low + 1e-9) >= 0.09
        assert np.mean(np.array(values) > interval.high + 1e-9) <= 0.11
        assert np.mean(np.array(values) >= interval.high - 1e-9) >= 0.09


def test_one_draw_measures_the_rows_drawn():
    # A draw of rows with repeats; the ends of an interval of one draw are its value.
    predicted, measured = pairs(5, m=7, ties=True)
    for seed in range(20):
        found = agreement(predicted, measured, draws=1, seed=seed)
        picks = np.random.default_rng(seed).multinomial(7, np.full(7, 1 / 7))
        p, q = np.repeat(predicted, picks), np.repeat(measured, picks)
        expected = {
            name: getattr(module, name)(p, q)
            for name in ("spearman", "kendall", "mean_absolute_error", "bias")
        }
        expected["max_absolute_error"] = np.max(np.abs(p - q))
        expected["regret"] = np.max(q) - np.mean(q[p == np.max(p)])
        assert set(expected) == set(found._fields)
        for name, value in expected.items():
            ends = getattr(found, name)[1:3]
            np.testing.assert_allclose(ends, value, rtol=1e-12, atol=1e-12, err_msg=name)


def test_groups_are_drawn_together():
    # Copies add nothing when they are drawn with what they copy, and narrow the interval otherwise.
    predicted, measured = pairs(1, m=12)
    single = agreement(predicted, measured)
    copies = np.repeat(predicted, 4), np.repeat(measured, 4)
    grouped = agreement(*copies, groups=np.repeat([f"s{i:02d}" for i in range(12)], 4))
    for a, b in zip(single, grouped, strict=True):
        np.testing.assert_allclose(a[:3], b[:3], rtol=1e-9, atol=1e-12)
    loose = agreement(*copies).spearman
    assert loose.high - loose.low < 0.8 * (grouped.spearman.high - grouped.spearman.low)


def test_constant_scores_are_undefined_and_say_so():
    measured = np.arange(6.0)
    found = agreement(np.full(6, 0.1), measured)
    assert np.all(np.isnan([found.spearman[:3], found.kendall[:3]]))
    assert np.isnan(module.spearman(measured, np.full(6, 0.1)))
    error = found.mean_absolute_error
    assert error.value == pytest.approx(14.6 / 6, rel=1e-12)  # of 0.1, 0.9, 1.9, ..., 4.9
    assert 0.1 <= error.low < error.value < error.high <= 4.9
    assert found.regret.value == 2.5  # any of the six, at random


def test_regret_by_hand():
    measured = [0.3, 0.9, 0.5]
    assert module.regret([0.1, 0.2, 0.9], measured) == pytest.approx(0.4, rel=1e-12)
    assert module.regret([0.1, 0.9, 0.2], measured) == 0.0
    assert module.regret([0.9, 0.1, 0.9], measured) == pytest.approx(0.5, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=12))
def test_laws(values):
    predicted, measured = np.array(values, float).T
    found = agreement(predicted, measured, draws=50)
    for name in ("spearman", "kendall"):
        value = getattr(found, name).value
        constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
        assert np.isnan(value) == constant
        if not constant:
            fn = getattr(module, name)
            assert -1.0 <= value <= 1.0
            assert fn(measured, predicted) == pytest.approx(value, abs=1e-12)
            assert fn(-predicted, measured) == pytest.approx(-value, abs=1e-12)
            assert fn(np.exp(predicted), measured) == pytest.approx(value, abs=1e-12)
    for interval in found:
        assert np.isnan(interval.low) or interval.low <= interval.high
    assert found.regret.value >= 0.0
    assert abs(found.bias.value) <= found.mean_absolute_error.value + 1e-12
    assert found.mean_absolute_error.value <= found.max_absolute_error.value + 1e-12


def test_seed_decides():
    predicted, measured = pairs()
    assert agreement(predicted, measured, seed=1) == agreement(predicted, measured, seed=1)
    assert agreement(predicted, measured, seed=1) != agreement(predicted, measured, seed=2)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0, 2.0], [1.0]), {}, r"got shapes \(2,\) and \(1,\)"),
        (([1.0], [1.0]), {}, "m >= 2"),
        (([1.0, 2.0], [1.0, np.nan]), {}, "measured must be finite; 1 of 2 are not, first entry 1"),
        (([1.0, 2.0], [1.0, 2.0]), {"level": 1.0}, "level"),
        (([1.0, 2.0], [1.0, 2.0]), {"draws": 0}, "draws"),
        (([1.0, 2.0], [1.0, 2.0]), {"groups": [1]}, "groups must have one value per embedding"),
    ],
)
def test_mistakes_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        agreement(*arguments, **options)
