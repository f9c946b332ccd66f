"""The transcripts in the docs: their commands run, and print what the page shows."""

import re

import numpy as np
import pytest

from experiments.kit import transcripts
from kernlens import datasets
from tests.test_readme import alike


@pytest.mark.thorough
def test_commands_run_on_the_files_and_stand_in_the_page(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    data = datasets.load(
        "synthetic", num_items=200, num_users=50, num_interactions=4000, num_classes=3
    )
    rows = datasets.synthetic.embeddings(data, seed=1)
    label = data.labels["class"]
    transcripts.write_files(tmp_path, data, [rows, rows + 0.1], rows[:, :3], label)
    text = (tmp_path / "departments.csv").read_text().splitlines()
    assert text[:2] == ["department", f'"{label.names[label.codes[0]]}"']
    assert np.load(tmp_path / "run1.npy").shape == rows.shape
    stability = {"How?": "kernlens stability run0.npy run1.npy --labels departments.csv"}
    monkeypatch.setattr(transcripts, "COMMANDS", stability)
    monkeypatch.setenv("COLUMNS", "77")
    found = transcripts.page(tmp_path)
    assert "## How?\n\n```text\nkernlens stability run0.npy" in found
    assert "of the metric and of its sd over the two runs" in found
    assert not re.search(r" +$", found, flags=re.MULTILINE)
    with pytest.raises(RuntimeError, match=r"nothing\.npy"):
        transcripts.printed("kernlens predict nothing.npy --labels departments.csv")


@pytest.mark.slow
def test_the_page_is_what_the_commands_print(tmp_path):
    kept, found = transcripts.PAGE.read_text(), transcripts.made(tmp_path)
    assert alike(kept, found)


def test_the_page_has_every_command():
    kept = transcripts.PAGE.read_text()
    assert all(command in kept for command in transcripts.COMMANDS.values())
