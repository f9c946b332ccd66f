"""A run that is killed at random moments and resumed writes what one that nobody stopped does."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments.kit.endurance import (
    EXPERIMENT,
    KILLS,
    LIMIT,
    PAGE,
    command_of,
    content,
    kill_and_resume,
)
from tests.experiments.test_experiments import EXPERIMENTS, committed
from tests.experiments.test_runner import ROOT, TOY_MODULE

SLEEPS = TOY_MODULE.replace("        if i ==", "        time.sleep(0.1)\n        if i ==")


def check(command, folder, kills, longest, rng):
    """Kills a command in one folder, runs it whole in another, and compares what they wrote."""
    whole, killed = folder / "whole", folder / "killed"
    subprocess.run(command(whole), check=True, cwd=ROOT)
    found = list(kill_and_resume(command(killed), killed, kills, longest, rng))
    assert len(found) == kills
    assert content(killed / "out") == content(whole / "out")
    assert set(content(whole / "out")) == {"results.json", "figure.png"}
    assert not [path.name for path in killed.rglob("*") if path.name.endswith(".part")]
    return found


@pytest.mark.thorough
def test_a_small_experiment_killed_three_times(tmp_path, monkeypatch):
    script = tmp_path / "toy.py"
    script.write_text(SLEEPS)
    for name, value in {
        "KERNLENS_CACHE": "off", "STOP_AT": "-1", "LOG": str(tmp_path / "log"),
        "PYTHONPATH": str(ROOT),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    def command(folder):
        words = ["--out", str(folder / "out"), "--cells", str(folder / "cells")]
        return [sys.executable, str(script), *words]

    check(command, tmp_path, 3, 3.0, np.random.default_rng(0))


@pytest.mark.slow
def test_a_tiny_experiment_killed_twenty_times(tmp_path, monkeypatch):
    # The programs that a killed run has compiled may be half written as well.
    monkeypatch.setenv("KERNLENS_CACHE", str(tmp_path / "cache"))

    def command(folder):
        return command_of(EXPERIMENT, folder)

    found = check(command, tmp_path, KILLS, 15.0, np.random.default_rng(0))
    assert len({kill.cells for kill in found}) > 1
    shutil.rmtree(tmp_path / "killed")


def test_the_committed_log_is_of_a_full_run_without_a_fault():
    text = PAGE.read_text()
    killed = text.partition("<!-- killed -->")[2].partition("<!-- end -->")[0]
    assert f"After {KILLS} kills the resumed run of `{EXPERIMENT}` wrote the same bytes" in killed
    assert "Files half written that were left: 0." in " ".join(killed.split())
    assert len(re.findall(r"^\| \d+ \|", killed, flags=re.MULTILINE)) == KILLS
    rows = [
        line.split(" | ") for line in text.partition("<!-- interrupted -->")[2].splitlines()
        if re.match(r"\| [a-z]", line) and "command" not in line
    ]  # fmt: skip
    names = {row[0].strip("| ").replace("\\_", "_") for row in rows}
    every = map(committed.name_in_command, EXPERIMENTS)
    assert "kernlens demo" in names
    assert names <= {*every, "kernlens demo"}  # one that came later is in the next log
    assert len(names) > 20
    for _, _, code, took, said in rows:
        assert int(code) == 0 or (int(code) == 130 and "interrupted" in said)
        assert float(took) < LIMIT
