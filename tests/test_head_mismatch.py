"""Heads of recommenders: lists and their differences against sets; the tiny version's verdict."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from rich.console import Console

from experiments import head_mismatch, runner


def test_lists_are_the_best_that_were_not_seen():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((6, 40))
    seen = rng.integers(-1, 40, (6, 5))
    found = head_mismatch.best(scores.copy(), seen)
    for row, own, given in zip(found, seen, scores, strict=True):
        order = [item for item in np.argsort(-given) if item not in own[own >= 0]]
        assert set(row) == set(order[:10])


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


def made(far, spread, runs=5):
    """Rows whose lists differ by ``far`` and whose recall by ``spread``, by head."""
    rows = []
    for kind, head in itertools.product(head_mismatch.EMBEDDINGS, head_mismatch.HEADS):
        own = {"embeddings": kind, "head": head}
        for run in range(runs):
            recall = [0.1 + spread[head] * run] * 2
            rows.append({**own, "kind": "run", "run": run, "recall": recall, "by seed": 0.1})
        rows += [
            {**own, "kind": "pair", "runs": [a, b], "by run": far[head]}
            for a, b in itertools.combinations(range(runs), 2)
        ]
    return rows


@pytest.mark.parametrize(
    ("lists", "recalls", "said"),
    [
        ((0.3, 0.5), (0.0, 0.1), "holds"),
        ((0.3, 0.5), (0.1, 0.0), "holds in part"),
        ((0.5, 0.3), (0.1, 0.1), "fails"),
    ],
)
def test_the_verdict_follows_its_rule(lists, recalls, said):
    far, spread = (dict(zip(head_mismatch.HEADS, pair, strict=True)) for pair in (lists, recalls))
    config = dataclasses.replace(head_mismatch.TINY, runs=5)
    found = head_mismatch.summarise(config, made(far, spread))
    assert found["verdict"] == said
    line = found["lines"][1]
    np.testing.assert_allclose(line["by the run alone"]["value"], lists[1] - 0.1)
    np.testing.assert_allclose(line["sd between runs"]["value"], recalls[1] * np.sqrt(2.5))


@pytest.mark.slow
def test_tiny_version_runs_and_goes_on(tmp_path):
    console = Console(file=io.StringIO())
    first, again = (
        head_mismatch.run(head_mismatch.TINY, runner.Cells(tmp_path, console)) for _ in range(2)
    )
    assert runner.report.to_json(first) == runner.report.to_json(again)
    assert len(first) == 4 * (3 + 3)


def test_two_runs_are_refused():
    with pytest.raises(ValueError, match="--runs must be at least 3; got 2"):
        head_mismatch.check(dataclasses.replace(head_mismatch.TINY, runs=2))
