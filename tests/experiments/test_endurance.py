"""A run that is killed at random moments and resumed writes what one that nobody stopped does."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments.kit.endurance import EXPERIMENT, KILLS, command_of, content, kill_and_resume
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
