"""Widths of batches, against all there are."""

import itertools

import numpy as np
import pytest

from kernlens.train.recommend.widths import by_width, widths


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_widths_are_the_best_there_are(seed, count):
    lengths = np.random.default_rng(seed).integers(1, 9, 25)

    def cells(chosen):
        return sum(min(w for w in chosen if w >= length) for length in lengths)

    found = widths(lengths, count=count)
    sizes = sorted(set(lengths.tolist()))
    others = [
        (*some, sizes[-1])
        for number in range(min(count, len(sizes)))
        for some in itertools.combinations(sizes[:-1], number)
    ]
    assert len(found) <= count
    assert list(found) == sorted(set(found))
    assert cells(found) == min(map(cells, others))


def test_by_width_parts_the_rows():
    lengths = np.array([1, 5, 2, 3, 8, 5])
    parts = by_width(lengths, (2, 5, 8))
    assert [part.tolist() for part in parts] == [[0, 2], [1, 3, 5], [4]]
    assert widths(np.array([], int)) == ()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: widths(np.ones(3), count=0), "count must be at least 1"),
        (lambda: widths(np.zeros(3)), "lengths must be at least 1"),
        (lambda: by_width(np.ones(3), ()), "widths must rise"),
        (lambda: by_width(np.ones(3), (3, 2)), "widths must rise"),
        (lambda: by_width(np.full(3, 4), (2, 3)), "hold the longest history, 4"),
    ],
)
def test_widths_that_cannot_be_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
