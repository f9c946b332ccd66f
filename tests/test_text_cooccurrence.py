"""PPMI-SVD against a float64 loop and a dense decomposition."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kernlens.train import cooccurrence
from tests.cases import toy_interactions

SESSIONS = [[0, 1, 2], [1, 0], [3, 4, 3], [4, 3, 5], [0, 2], [5], [6], [2, 1, 0, 7], [], [3, 7, 5]]


def ppmi(sessions, n, shift, power):
    counts = np.zeros((n, n))
    for session in sessions:
        for i in set(session):
            for j in set(session) - {i}:
                counts[i, j] += 1
    total = counts.sum(1)
    context = np.array([t**power if t else 0.0 for t in total])
    found = np.zeros((n, n))
    for i, j in zip(*np.nonzero(counts), strict=True):
        chance = total[i] * context[j] / context.sum()
        found[i, j] = max(0.0, math.log(counts[i, j] / chance) - math.log(shift))
    return found


@pytest.mark.parametrize(("shift", "power", "spectrum"), [(1.0, 0.75, 0.5), (1.5, 1.0, 0.0)])
def test_it_is_the_decomposition_of_a_loops_ppmi(shift, power, spectrum):
    found = cooccurrence.ppmi_svd(
        toy_interactions(SESSIONS),
        dim=3,
        shift=shift,
        context_power=power,
        spectrum_power=spectrum,
    )
    expected = ppmi(SESSIONS, 8, shift, power)
    u, s, _ = np.linalg.svd(expected)
    assert s[2] > 1.05 * s[3]  # else the space is not determined
    z = u[:, :3] * s[:3] ** spectrum
    assert found.embeddings.dtype == np.float32
    # Columns are determined up to sign where values are distinct: inner products always are.
    assert_allclose(found.embeddings @ found.embeddings.T, z @ z.T, rtol=0, atol=2e-6)
    assert_array_equal(found.partners, (expected > 0).sum(1))
    assert found.partners[6] == 0
    assert_array_equal(found.embeddings[6], np.zeros(3))


def test_order_repeats_and_users_do_not_matter():
    plain = cooccurrence.ppmi_svd(toy_interactions(SESSIONS), dim=3)
    mixed = [list(reversed(session)) + session[:1] for session in reversed(SESSIONS)]
    other = cooccurrence.ppmi_svd(toy_interactions(mixed), dim=3)
    assert_allclose(other.embeddings, plain.embeddings, rtol=0, atol=1e-6)
    again = cooccurrence.ppmi_svd(toy_interactions(SESSIONS), dim=3)
    assert_array_equal(again.embeddings, plain.embeddings)


@pytest.mark.parametrize(
    ("sessions", "options", "message"),
    [
        (SESSIONS, {"dim": 0}, r"dim must be in 1\.\.6.*got 0"),
        (SESSIONS, {"dim": 7}, r"dim must be in 1\.\.6.*got 7"),
        (SESSIONS, {"dim": 2, "shift": 0.0}, "shift must be positive and finite; got 0"),
        (SESSIONS, {"dim": 2, "shift": 1e9}, "no two items share a session more often"),
        (SESSIONS, {"dim": 2, "context_power": 1.5}, r"context_power must be in \[0, 1\]"),
        (SESSIONS, {"dim": 2, "spectrum_power": -1.0}, "spectrum_power must be at least 0"),
        ([[0], [1], [2], [3]], {"dim": 2}, "no session holds two different items"),
    ],
)
def test_what_cannot_be_decomposed_is_refused(sessions, options, message):
    with pytest.raises(ValueError, match=message):
        cooccurrence.ppmi_svd(toy_interactions(sessions), **options)


def test_the_interactions_are_left_as_they_were():
    data = toy_interactions(SESSIONS)
    items, offsets = data.items.copy(), data.offsets.copy()
    cooccurrence.ppmi_svd(data, dim=2)
    assert_array_equal(data.items, items)
    assert_array_equal(data.offsets, offsets)
