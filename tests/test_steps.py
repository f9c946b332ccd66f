"""How far a command is: steps are told in order, and a terminal shows them."""

import io as text_io
import re

import numpy as np
import pytest
from rich.console import Console

from kernlens import lens
from kernlens.cli import progress
from kernlens.datasets import load
from kernlens.scores import SCORES
from kernlens.show import steps
from kernlens.targets import next_items
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=160, separation=0.8)
LABELS = [f"k{code}" for code in PROBLEM.codes]
TWO = {"a": PROBLEM.x, "b": PROBLEM.x + np.random.default_rng(0).standard_normal(PROBLEM.x.shape)}


def told_by(run):
    """What a listener is told of some work."""
    told = []
    with steps.listening(told.append):
        run()
    return told


def test_parts_of_parts_add_up():
    def run():
        for _ in steps.steps("xy"):
            for _ in steps.steps(range(4)):
                pass
            steps.at("last", 1, 1)

    told = told_by(run)
    shares = [steps.fraction(own) for own in told]
    assert shares == sorted(shares)
    assert [shares[0], shares[-1]] == [0.0, 1.0]
    assert 0.125 in shares
    assert [step.name for step in told[3]] == ["x", "2"]
    # What ended is no part of what comes next.
    assert [step.name for step in told_by(lambda: list(steps.steps("z")))[0]] == ["z"]


def test_without_a_listener_parts_are_gone_through():
    assert list(steps.steps(iter("abc"))) == ["a", "b", "c"]


def test_work_that_fails_leaves_no_step_open():
    def run():
        for _ in steps.steps("ab"):
            raise ValueError("no")

    with steps.listening(lambda _: None), pytest.raises(ValueError, match="no"):
        run()
    assert [len(own) for own in told_by(lambda: list(steps.steps("a")))] == [1, 1]


def shown(run, terminal, clock=None):
    """What is written while some work is done."""
    buffer = text_io.StringIO()
    console = Console(
        file=buffer, force_terminal=terminal, width=120, color_system=None, get_time=clock
    )
    with progress.shown("predicting", console=console):
        run()
    return buffer.getvalue()


def test_a_terminal_shows_the_step_and_the_time_that_is_left():
    def run():
        for _ in steps.steps(["one\x1b[31m", "[red]two[/red]"]):
            seconds[0] += 100.0

    seconds = [0.0]
    text = shown(run, True, lambda: seconds[0])
    assert "predicting: [red]two[/red]" in text
    assert "\x1b[31m" not in text
    assert re.search(r"0:01:40, about 0:01:40 left", text)
    assert shown(run, False) == ""


VERBS = {
    "compare": lambda: lens.compare(TWO, LABELS),
    "score": lambda: lens.standings(TWO, LABELS, {"h_score": SCORES["h_score"]}),
    "fuse": lambda: lens.fuse(TWO, LABELS),
    "stability": lambda: lens.stability(TWO, LABELS),
    "upgrade": lambda: lens.upgrade(*TWO.values(), LABELS),
    "diagnose": lambda: lens.diagnose(TWO["a"], LABELS, curve=False),
    "next items": lambda: lens.compare(log()[0], log()[1]),
}


def log():
    """Two embeddings of the items of a small log, and what is asked of it."""
    data = load("synthetic", num_items=40, num_interactions=2000)
    rows = np.random.default_rng(0).standard_normal((data.num_items, 4))
    users = np.repeat(data.users, np.diff(data.offsets))
    ask = next_items(users, data.items, np.arange(len(data.items)), ids=np.arange(len(rows)))
    return {"a": rows, "b": rows[::-1].copy()}, ask


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_tells_how_far_it_is(verb):
    told = told_by(VERBS[verb])
    shares = [steps.fraction(own) for own in told]
    assert len(set(shares)) >= 2
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert told[0][-1].name
