"""Heads of recommenders: differences of lists against sets; from rows to verdict."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from rich.console import Console

from experiments.head_mismatch import experiment as head_mismatch
from experiments.kit import runner
from experiments.kit.cells import Cells
from experiments.kit.verdicts import FAILS, HOLDS, PART, UNDECIDED


def test_what_is_replaced_is_the_mean_over_sets():
    rng = np.random.default_rng(1)
    a, b = (
        {"top": np.stack([[rng.permutation(15)[:10] for _ in range(4)] for _ in range(2)])}
        for _ in range(2)
    )

    def gone(x, y):
        return np.mean([len(set(p) - set(q)) / 10 for p, q in zip(x, y, strict=True)])

    expected = [gone(x, y) for x, y in itertools.product(a["top"], b["top"])]
    np.testing.assert_allclose(head_mismatch.replaced(a, b), np.mean(expected))
    np.testing.assert_allclose(head_mismatch.within(a["top"]), gone(*a["top"]))


def made(frozen, trained, runs=5):
    """Rows whose lists differ and whose recall spreads as given, each (inner product, MLP)."""
    rows = []
    for kind, (lists, recalls) in zip(head_mismatch.EMBEDDINGS, (frozen, trained), strict=True):
        for head, far, spread in zip(head_mismatch.HEADS, lists, recalls, strict=True):
            own = {"embeddings": kind, "head": head}
            for run in range(runs):
                recall = [0.1 + spread * run] * 2
                rows.append({**own, "kind": "run", "run": run, "recall": recall, "by seed": 0.1})
            rows += [
                {**own, "kind": "pair", "runs": [a, b], "by run": far}
                for a, b in itertools.combinations(range(runs), 2)
            ]
    return rows


MORE, LESS = (0.3, 0.5), (0.5, 0.3)
"""Share of a list that a run replaces, by the inner product and by the MLP."""

WIDER, AS_WIDE, NARROWER = (0.01, 0.1), (0.1, 0.1), (0.1, 0.01)
"""Spread of recall: of five runs, ratios are known up to a factor of 4.8 with their seeds."""


@pytest.mark.parametrize(
    ("frozen", "trained", "said"),
    [
        ((MORE, WIDER), (MORE, WIDER), HOLDS),
        ((MORE, AS_WIDE), (MORE, WIDER), PART),
        ((MORE, NARROWER), (LESS, NARROWER), PART),
        ((LESS, NARROWER), (LESS, WIDER), PART),
        ((LESS, AS_WIDE), (LESS, AS_WIDE), UNDECIDED),
        ((LESS, NARROWER), (LESS, AS_WIDE), UNDECIDED),
        ((LESS, NARROWER), (LESS, NARROWER), FAILS),
    ],
)
def test_the_verdict_follows_its_rule(frozen, trained, said):
    config = dataclasses.replace(head_mismatch.TINY, runs=5)
    found = head_mismatch.summarise(config, made(frozen, trained))
    assert found["verdict"] == said
    line = found["lines"][1]
    (_, far), (_, spread) = frozen
    np.testing.assert_allclose(line["by the run alone"]["value"], far - 0.1)
    np.testing.assert_allclose(line["sd between runs"]["value"], spread * np.sqrt(2.5))
    np.testing.assert_allclose(found["over"]["frozen"]["sd"]["value"], spread / frozen[1][0])


@pytest.mark.slow
def test_tiny_version_runs_and_goes_on(tmp_path):
    console = Console(file=io.StringIO())
    first, again = (
        head_mismatch.run(head_mismatch.TINY, Cells(tmp_path, console)) for _ in range(2)
    )
    assert runner.report.to_json(first) == runner.report.to_json(again)
    assert len(first) == 4 * (3 + 3)


def test_two_runs_are_refused():
    with pytest.raises(ValueError, match="--runs must be at least 3; got 2"):
        head_mismatch.check(dataclasses.replace(head_mismatch.TINY, runs=2))
