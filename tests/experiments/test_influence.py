"""Sessions that spoil items, and pairs of near items, against loops."""

import numpy as np
from numpy.testing import assert_array_equal

from experiments.influence import experiment, items


def test_pairs_are_the_near_items_of_each_session():
    sessions = items.Sessions(
        [np.array([3, 1, 2, 3]), np.array([5]), np.array([4, 5])], np.zeros(6, int), np.full(3, -1)
    )
    rows, owners = items.pairs(sessions)
    expected = sorted(
        (number, own[i], own[j])
        for number, own in enumerate(sessions.items)
        for i in range(len(own))
        for j in range(len(own))
        if 0 < abs(i - j) <= items.WINDOW
    )
    assert sorted(zip(owners, *rows.T, strict=True)) == expected


def test_spoilt_items_stand_among_items_of_one_other_class():
    sessions, chosen = items.spoil(3, 0)
    first = len(sessions.items) - np.sum(sessions.added_for >= 0)
    for item in chosen:
        own = sum(np.any(one == item) for one in sessions.items[:first])
        added = [sessions.items[i] for i in np.flatnonzero(sessions.added_for == item)]
        assert len(added) == np.ceil(items.SHARE * own)
        others = {int(c) for one in added for c in sessions.classes[np.delete(one, items.WINDOW)]}
        assert len(others) == 1
        assert others != {int(sessions.classes[item])}
        assert all(one[items.WINDOW] == item for one in added)


def test_a_mean_has_the_interval_of_its_standard_error():
    found = experiment.mean([1.0, 2.0, 3.0, 6.0])
    half = 1.6448536 * np.std([1, 2, 3, 6], ddof=1) / 2
    np.testing.assert_allclose(found[:3], [3.0, 3.0 - half, 3.0 + half], rtol=1e-6)
    assert_array_equal(experiment.mean([2.0, 2.0])[:3], 2.0)
