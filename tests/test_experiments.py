"""Every experiment: its tiny version runs, resumes, writes what it says; committed results load."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import (
    bench_ntk,
    bench_pretrain,
    bench_scores,
    interval_coverage,
    joint_embeddings,
    ntk_predicts_training,
    online_replay,
    prop1_bound,
    prop1_entity_score,
    prop2_sequence_average,
    robust_to_shift,
    runner,
    score_tournament,
    thm1_decoder_mismatch,
)

EXPERIMENTS = (
    prop1_entity_score,
    prop2_sequence_average,
    bench_pretrain,
    bench_ntk,
    ntk_predicts_training,
    interval_coverage,
    score_tournament,
    bench_scores,
    thm1_decoder_mismatch,
    prop1_bound,
    robust_to_shift,
    online_replay,
    joint_embeddings,
)
RECORDED = EXPERIMENTS
# An example, which tests/test_moments_map_reduce.py runs, and what serves the experiments.
OTHERS = {
    "map_reduce", "__init__", "runner", "readme", "claims", "markdown", "paper_tables",
    "ntk_tasks", "peer_neural_tangents", "grid", "sources", "scores_page",
}  # fmt: skip
each_experiment = pytest.mark.parametrize(
    "experiment", EXPERIMENTS, ids=lambda module: module.__name__.split(".")[-1]
)
# Half a minute and more of compiling each, or run by a test file of their own.
LONG = (
    ntk_predicts_training,
    bench_pretrain,
    prop2_sequence_average,
    bench_scores,
    interval_coverage,
    prop1_entity_score,
    *EXPERIMENTS[-5:],
)


def test_the_command_of_a_configuration_is_one_that_can_be_typed():
    config = prop2_sequence_average.Config(published=True, windows=(2, 3), root=Path("a/b/ml-1m"))
    found = runner.command(prop2_sequence_average, "prop2_sequence_average", config)
    assert found.startswith("python -m experiments.prop2_sequence_average ")
    assert set(found.split(" --")[1:]) == {"windows 2 3", "root ml-1m", "published"}


def test_all_experiments_are_here():
    folder = Path(runner.__file__).parent
    found = {path.stem for path in folder.glob("*.py")} - OTHERS
    assert found == {module.__name__.split(".")[-1] for module in EXPERIMENTS}


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(m, marks=pytest.mark.slow) if m in LONG else m for m in EXPERIMENTS],
    ids=lambda module: module.__name__.split(".")[-1],
)
def test_tiny_version_runs_and_resumes(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    assert runner.main(experiment, ["--tiny"]) == 0
    capsys.readouterr()
    name = experiment.__name__.split(".")[-1]
    out = tmp_path / "runs" / f"{name}-tiny"
    first = json.loads((out / "results.json").read_text())
    assert first["rows"]
    assert first["environment"]["jax"]
    assert (out / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert runner.main(experiment, ["--tiny"]) == 0
    assert "kept from an earlier run" in capsys.readouterr().out
    again = json.loads((out / "results.json").read_text())
    assert again["rows"] == first["rows"]
    assert again["summary"] == first["summary"]


@pytest.mark.parametrize("experiment", RECORDED, ids=lambda module: module.__name__.split(".")[-1])
def test_committed_results_are_a_full_run(experiment):
    name = experiment.__name__.split(".")[-1]
    results = json.loads((runner.RESULTS / name / "results.json").read_text())
    assert results["command"].startswith(f"python -m experiments.{name}")
    assert "--tiny" not in results["command"]
    assert results["config"].get("synthetic", 0) == 0
    assert (runner.RESULTS / name / "figure.png").exists()
    shown = experiment.show(results)
    assert shown


def test_prop1_rows_hold_every_predictor_and_reader(tmp_path):
    name = "prop1_entity_score"
    results = json.loads((runner.RESULTS / name / "results.json").read_text())
    grid = {(r["data"], r["setting"], r["seed"]) for r in results["rows"]}
    config = results["config"]
    per_data = (
        len(config["windows"]) * len(config["negatives"]) * len(config["epochs"]) * config["seeds"]
    )
    datasets = {r["data"] for r in results["rows"]}
    assert len(grid) == len(results["rows"]) == per_data * len(datasets)
    for row in results["rows"]:
        assert set(row["trained"]) == {"LR", "MLP", "SVM"}
        assert all(len(v["macro_f1"]) == config["reader_seeds"] for v in row["trained"].values())


def test_a_users_mistake_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    arguments = ["--movielens", str(tmp_path / "nowhere"), "--synthetic", "2000"]
    arguments += ["--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "out")]
    assert runner.main(prop1_entity_score, arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "nowhere" in error
    assert "Traceback" not in error


def test_an_interrupted_run_goes_on(tmp_path):
    console = runner.report.console()
    cells = runner.Cells(tmp_path / "cells", console)
    calls = []

    def make(value):
        calls.append(value)
        if value == 2 and len(calls) == 2:
            raise KeyboardInterrupt
        return {"value": value}

    with pytest.raises(KeyboardInterrupt):
        [cells(f"cell {i}", lambda i=i: make(i)) for i in (1, 2, 3)]
    found = [cells(f"cell {i}", lambda i=i: make(i)) for i in (1, 2, 3)]
    assert found == [{"value": 1}, {"value": 2}, {"value": 3}]
    assert calls == [1, 2, 2, 3]


@pytest.mark.slow
def test_a_killed_grid_goes_on_to_the_same_bits(tmp_path):
    def command(folder):
        words = [sys.executable, "-m", "experiments.prop1_bound", "--tiny"]
        return [*words, "--cells", str(tmp_path / folder), "--out", str(tmp_path / folder / "out")]

    environment = {**os.environ, "KERNLENS_CACHE": "off"}
    root = Path(runner.__file__).parents[1]
    killed = subprocess.Popen(command("killed"), cwd=root, env=environment)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "killed").rglob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("*.json")}
    assert 0 < len(done) < 4
    for folder in ("killed", "whole"):
        subprocess.run(command(folder), cwd=root, env=environment, check=True)
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())
    found, expected = (
        json.loads((tmp_path / folder / "out" / "results.json").read_text())
        for folder in ("killed", "whole")
    )
    assert found["rows"] == expected["rows"]
    assert found["summary"] == expected["summary"]


@pytest.mark.slow
@each_experiment
def test_runs_as_a_module(experiment, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", experiment.__name__, "--tiny", "--out", str(tmp_path / "out"),
         "--cells", str(tmp_path / "cells")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert importlib.import_module(experiment.__name__).__doc__
