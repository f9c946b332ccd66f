"""Every experiment: its tiny version runs, resumes, writes what it says; committed results load."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.benchmarks.lens import experiment as bench_lens
from experiments.benchmarks.ntk import experiment as bench_ntk
from experiments.benchmarks.ntk_structures import experiment as bench_structures
from experiments.benchmarks.pretrain import experiment as bench_pretrain
from experiments.benchmarks.probes import experiment as bench_probes
from experiments.benchmarks.scores import experiment as bench_scores
from experiments.closed_form_recommenders import experiment as closed_form_recommenders
from experiments.head_mismatch import experiment as head_mismatch
from experiments.influence import experiment as influence
from experiments.interval_coverage import experiment as interval_coverage
from experiments.joint_embeddings import experiment as joint_embeddings
from experiments.kit import committed, pages, runner, summaries, tiny
from experiments.lens_diagnosis import experiment as lens_diagnosis
from experiments.lens_fuse import experiment as lens_fuse
from experiments.lens_stability import experiment as lens_stability
from experiments.lens_upgrade import experiment as lens_upgrade
from experiments.ntk_predicts_training import experiment as ntk_predicts_training
from experiments.online_replay import experiment as online_replay
from experiments.predicts_value import experiment as predicts_value
from experiments.prop1_bound import experiment as prop1_bound
from experiments.prop1_entity_score import experiment as prop1_entity_score
from experiments.prop2_sequence_average import experiment as prop2_sequence_average
from experiments.robust_to_shift import experiment as robust_to_shift
from experiments.score_tournament import experiment as score_tournament
from experiments.thm1_decoder_mismatch import experiment as thm1_decoder_mismatch

EXPERIMENTS = (
    prop1_entity_score,
    prop2_sequence_average,
    bench_pretrain,
    bench_ntk,
    bench_structures,
    ntk_predicts_training,
    interval_coverage,
    score_tournament,
    bench_scores,
    thm1_decoder_mismatch,
    prop1_bound,
    robust_to_shift,
    online_replay,
    joint_embeddings,
    head_mismatch,
    lens_diagnosis,
    lens_stability,
    lens_fuse,
    lens_upgrade,
    predicts_value,
    bench_probes,
    bench_lens,
    influence,
    closed_form_recommenders,
)
each_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS, ids=committed.name_in_command)
# The others take half a minute of compiling each.
QUICK = (prop1_bound,)


def test_all_experiments_are_here():
    found = set(committed.HOME.rglob("experiment.py"))
    assert found == {Path(module.__file__) for module in EXPERIMENTS}
    assert all((path.parent / "__main__.py").exists() for path in found)
    claiming = [m for m in EXPERIMENTS if hasattr(m, "claims")]
    assert set(map(committed.name_in_command, claiming)) == set(pages.CLAIMED)


@pytest.mark.parametrize(
    "experiment",
    [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in EXPERIMENTS],
    ids=committed.name_in_command,
)
def test_tiny_version_runs_and_resumes(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    assert runner.main(experiment, ["--tiny"]) == 0
    capsys.readouterr()
    name = committed.name_in_command(experiment)
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
    golden = json.loads((tiny.GOLDEN / f"{name}.json").read_text())
    changed = summaries.changes(golden, tiny.key_numbers(first), **tiny.TOLERANCE)
    assert not changed, f"if this is meant, python -m experiments.kit.tiny {name} writes it again"


@each_experiment
def test_committed_results_are_a_full_run(experiment):
    name = committed.name_in_command(experiment)
    folder = committed.home_of(name)
    results = json.loads((folder / "results.json").read_text())
    assert committed.name_of(results) == name
    assert "--tiny" not in results["command"]
    assert results["config"].get("synthetic", 0) == 0
    assert (folder / "figure.png").exists()
    assert all(table.rows for table in experiment.tables(results))


def test_prop1_rows_hold_every_predictor_and_reader(tmp_path):
    results = committed.read("prop1_entity_score")
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


MISTAKES = [
    (prop1_entity_score, "--movielens NOWHERE --synthetic 2000", "nowhere"),
    (prop1_entity_score, "--tiny --windows 2 --negatives 1 --epochs 1", "two settings at least"),
    (prop1_entity_score, "--tiny --min-class-count 1000", "leaves 0 of 4 classes"),
    (prop1_entity_score, "--tiny --movielens-orders shuffled", "among time, random"),
    (prop1_bound, "--tiny --splits 0", "--splits must be at least 1; got 0"),
    (prop1_bound, "--tiny --cut 60", "--cut must leave weeks .* in 1..52"),
    (prop1_bound, "--tiny --data instacart", "--synthetic 0"),
    (prop1_bound, "--data instacart --root NOWHERE", "no calendar weeks"),
    (prop1_bound, "--tiny --data nope", "--synthetic 0"),
    (prop1_bound, "--data nope", "no data set 'nope'"),
    (prop1_bound, "--tiny --label nope", "need a label nope; synthetic has department"),
    (prop1_bound, "--tiny --negatives 1 --epochs 1", "two settings at least"),
    (prop2_sequence_average, "--tiny --label nope", "--label is of no use"),
    (prop2_sequence_average, "--tiny --alphas 0", "--alphas must be positive"),
    (robust_to_shift, "--tiny --cut 99", "--cut must leave weeks .* in 5..52"),
    (robust_to_shift, "--tiny --held 0", "--held must be at least 1"),
    (online_replay, "--tiny --logs 0", "--logs must be at least 1"),
    (online_replay, "--tiny --uniform 2", r"--uniform must be in \(0, 1\]; got 2"),
    (online_replay, "--tiny --uniform 0", r"--uniform must be in \(0, 1\]; got 0"),
    (online_replay, "--tiny --since 2017-13-01", "--since must be a day"),
    (online_replay, "--tiny --since 2017-11-01", "--since is of complete_journey"),
    (thm1_decoder_mismatch, "--tiny --runs 2", "--runs must be at least 3"),
    (thm1_decoder_mismatch, "--tiny --sizes 400", "--sizes must be at most 240"),
    (head_mismatch, "--tiny --tower-seeds 1", "--tower-seeds must be at least 2"),
    (joint_embeddings, "--tiny --texts bert", "--texts must be among minilm, use"),
    (joint_embeddings, "--tiny --tasks nope", "tasks must be labels"),
    (closed_form_recommenders, "--seeds 1", "--root must be the folder"),
    (closed_form_recommenders, "--root NOWHERE", "nowhere"),
    (closed_form_recommenders, "--tiny --seeds 0", "--seeds must be at least 1 where there is no"),
    (closed_form_recommenders, "--tiny --root NOWHERE", "--root and --index are of real ratings"),
    (influence, "--tiny --left-out 100", "--left-out must be at most --rows 60; got 100"),
    (influence, "--tiny --flips 1", r"--flips must be in \(0, 1\); got 1"),
    (bench_structures, "--structures nope", "no structure 'nope'; there are 'loop', 'joined'"),
    (bench_structures, "--tiny --n 0", "--n must be at least 1; got 0"),
    (bench_structures, "--tiny --before NOWHERE", "expected a checkout with a folder kernlens"),
    (prop1_bound, "--tiny --out FILE", "--out must be a folder; .* is a file"),
    (prop1_bound, "--tiny --cells FILE", "--cells must be a folder; .* is a file"),
    (prop1_bound, "--tiny --cells FILE/inside", "--cells must be a folder; .* is a file"),
]


@pytest.mark.parametrize(
    ("experiment", "words", "said"),
    MISTAKES,
    ids=[f"{committed.name_in_command(m)} {words}" for m, words, _ in MISTAKES],
)
def test_a_users_mistake_is_one_line_before_anything_runs(
    experiment, words, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    words = words.replace("NOWHERE", str(tmp_path / "nowhere"))
    words = words.replace("FILE", str(tmp_path / "file"))
    assert runner.main(experiment, words.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(said, error), error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.json"))


def test_a_folder_without_genres_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    lines = [f"{u}\t{i}\t{u + i}" for u in range(9) for i in range(9)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (tmp_path / "ratings.inter").write_text("\n".join([header, *lines]))
    words = f"--tiny --movielens {tmp_path} --cells {tmp_path / 'cells'}"
    assert runner.main(prop1_entity_score, words.split()) == 1
    assert "has no genres; its labels: none" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_grid_goes_on_to_the_same_bits(tmp_path):
    def command(folder):
        words = [sys.executable, "-m", "experiments.prop1_bound", "--tiny"]
        return [*words, "--cells", str(tmp_path / folder), "--out", str(tmp_path / folder / "out")]

    environment = {**os.environ, "KERNLENS_CACHE": "off"}
    root = committed.HOME.parent
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
def test_is_a_command_of_its_own(experiment, tmp_path):
    (tmp_path / "file").write_text("")
    words = [
        sys.executable,
        "-m",
        experiment.__package__,
        "--tiny",
        "--out",
        str(tmp_path / "file"),
    ]
    run = subprocess.run(words, capture_output=True, text=True, cwd=committed.HOME.parent)
    assert (run.returncode, run.stderr.split(";")[0]) == (1, "error: --out must be a folder")
    assert experiment.__doc__
