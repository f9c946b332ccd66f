"""Verdicts: the truth table from intervals to words, and of words joined."""

import itertools

import pytest

from experiments.kit import verdicts
from experiments.kit.verdicts import FAILS, HOLDS, PART, UNDECIDED, VERDICTS

NAN = float("nan")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 0.3, HOLDS),
        (0.0, 0.3, UNDECIDED),  # an interval that touches none allows none
        (-0.1, 0.3, UNDECIDED),
        (-0.3, 0.0, FAILS),
        (-0.3, -0.1, FAILS),
        (0.0, 0.0, FAILS),
        (None, None, UNDECIDED),
        (NAN, NAN, UNDECIDED),
        (None, -0.1, FAILS),
        (0.1, None, HOLDS),
    ],
)
def test_a_difference_exceeds_none(low, high, said):
    assert verdicts.exceeds({"low": low, "high": high}) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.01, 1.5, HOLDS),  # an effect, though less than would matter
        (1.01, 4.0, HOLDS),
        (0.9, 2.0, UNDECIDED),
        (0.9, 1.99, FAILS),
        (0.2, 0.9, FAILS),
        (0.0, None, UNDECIDED),
        (1.0, 2.5, UNDECIDED),
    ],
)
def test_a_ratio_exceeds_one_where_two_would_matter(low, high, said):
    assert verdicts.exceeds({"low": low, "high": high}, none=1.0, matters=2.0) == said


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([HOLDS], HOLDS),
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, PART], PART),
        ([HOLDS, FAILS], PART),
        ([HOLDS, UNDECIDED], PART),
        ([PART, FAILS], PART),
        ([PART, UNDECIDED], PART),
        ([PART, PART], PART),
        ([FAILS, UNDECIDED], UNDECIDED),
        ([UNDECIDED, UNDECIDED], UNDECIDED),
        ([FAILS, FAILS], FAILS),
    ],
)
def test_equal_parts_are_joined(parts, said):
    for order in itertools.permutations(parts):
        assert verdicts.together(order) == said


def test_a_first_part_is_needed_and_others_complete_it():
    for first, second in itertools.product(VERDICTS, VERDICTS):
        whole = {HOLDS: HOLDS}.get(second, PART)
        assert verdicts.also(first, second) == (whole if first == HOLDS else first)
    assert verdicts.also(HOLDS, HOLDS, FAILS) == PART
    assert verdicts.also(HOLDS, HOLDS, HOLDS) == HOLDS


def test_a_fact_holds_or_fails():
    assert (verdicts.known(True), verdicts.known(False)) == (HOLDS, FAILS)


@pytest.mark.parametrize("parts", [[], ["true"], [HOLDS, "Holds"]])
def test_what_is_no_verdict_is_refused(parts):
    with pytest.raises(ValueError, match="verdicts must be of holds, holds in part, fails"):
        verdicts.together(parts)
