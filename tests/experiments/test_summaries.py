"""Results files: what they say follows from their rows, by today's code."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from experiments.kit import committed, summaries
from experiments.prop1_bound import experiment as prop1_bound
from experiments.prop2_sequence_average import experiment as prop2_sequence_average
from kernlens.show import report
from tests.experiments.test_experiments import EXPERIMENTS

FOLDERS = committed.folders()
# Thousands of bootstrap draws over dozens of agreements.
LONG = ("prop1_entity_score", "thm1_decoder_mismatch", "score_tournament")


def read(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n.startswith(LONG) else n for n in FOLDERS],
)
def test_a_committed_summary_is_that_of_its_rows(name):
    kept = read(FOLDERS[name])
    changed = summaries.changes(kept["summary"], summaries.summary_of(kept))
    assert not changed, f"python -m experiments.kit.summaries {name} writes it again"


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=committed.name_in_command)
def test_a_configuration_comes_back_from_its_file(experiment):
    for config in (experiment.Config(), experiment.TINY):
        kept = json.loads(json.dumps(report.to_json(config)))
        assert summaries.config_of(experiment, kept) == config


def test_a_path_comes_back_as_its_last_part():
    config = prop2_sequence_average.Config(root=Path("a/b/ml-1m"), windows=(2, 3))
    found = summaries.config_of(prop2_sequence_average, report.to_json(config))
    assert found == dataclasses.replace(config, root=Path("ml-1m"))
    left = summaries.config_of(prop2_sequence_average, {"windows": [2, 3]})
    assert left == prop2_sequence_average.Config(windows=(2, 3))


def test_an_option_that_is_gone_is_named():
    with pytest.raises(ValueError, match="prop1_bound has no option gone, lost"):
        summaries.config_of(prop1_bound, {"cut": 3, "lost": 1, "gone": 2})
    with pytest.raises(ValueError, match="no experiment in the command 'make bench'"):
        committed.experiment_of({"command": "make bench"})


def test_changes_are_what_differs_by_its_place():
    before = {"a": [1.0, {"b": None}], "c": "x", "d": True, "e": []}
    assert summaries.changes(before, {**before, "a": [1.0 + 1e-12, {"b": None}]}) == []
    after = {"a": [1.1, {"b": 2}], "c": "y", "d": 1, "e": [3]}
    assert summaries.changes(before, after) == [
        ("a[0]", 1.0, 1.1), ("a[1].b", None, 2), ("c", "x", "y"), ("d", True, 1),
        ("e", [], None), ("e[0]", None, 3),
    ]  # fmt: skip
    assert summaries.changes({"a": 1.0}, {"a": 1.1}, rtol=0.2) == []


@pytest.mark.thorough
def test_renewing_touches_summary_and_figure_alone(tmp_path, monkeypatch, capsys):
    name = "prop1_bound/movielens_random"
    folder = tmp_path / "prop1_bound" / "results" / "movielens_random"
    shutil.copytree(FOLDERS[name], folder)
    kept = read(folder)
    old = {**kept, "summary": {**kept["summary"], "verdict": "fails"}, "seconds": 12.5}
    report.write_json(folder / "results.json", old)
    (folder / "figure.png").unlink()
    monkeypatch.setattr(committed, "HOME", tmp_path)
    assert summaries.main([name]) == 0
    assert capsys.readouterr().out == f"{name}: 1 change\n  verdict: fails -> holds\n"
    assert read(folder) == {**kept, "seconds": 12.5}
    assert (folder / "figure.png").read_bytes()[:4] == b"\x89PNG"
    written = (folder / "results.json").read_bytes()
    assert summaries.main([]) == 0
    assert capsys.readouterr().out == f"{name}: no changes\n"
    assert (folder / "results.json").read_bytes() == written
    assert summaries.main(["nope"]) == 1
    assert f"no results nope; there are {name}" in capsys.readouterr().err


@pytest.mark.parametrize("name", FOLDERS)
def test_committed_configurations_hold_no_option_that_is_gone(name):
    results = read(FOLDERS[name])
    experiment = committed.experiment_of(results)
    assert experiment in EXPERIMENTS
    known = report.to_json(summaries.config_of(experiment, results["config"]))
    # An option that came later has the default under which the committed run was made.
    assert {option: known.get(option) for option in results["config"]} == results["config"]
    assert (FOLDERS[name] / "figure.png").exists()
