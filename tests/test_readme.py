"""The README stays true: its snippets run, its commands exist, its figures are the results'."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import readme
from kernlens import cli

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", TEXT, flags=re.MULTILINE)


def test_python_snippets_run_in_order(tmp_path):
    snippets = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(snippets) >= 3
    script = tmp_path / "readme.py"
    script.write_text("\n".join(snippets))
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert "macro-F1" in run.stdout


def files_of_the_compare_command(folder):
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=200)
    centres = rng.normal(size=(3, 4))
    for name, spread in (("behaviour", 1.0), ("text", 3.0)):
        np.save(folder / f"{name}.npy", centres[codes] + spread * rng.normal(size=(200, 4)))
    rows = "".join(f"{i},class {c}\n" for i, c in enumerate(codes))
    (folder / "labels.csv").write_text("id,label\n" + rows)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, tmp_path, monkeypatch, capsys):
    words = command.split()
    if words[0] == "make":  # run by .ci/run; here: the target is there and make can read it
        plan = subprocess.run(
            ["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True
        )
        assert plan.returncode == 0, plan.stderr
        assert ".venv/bin/" in plan.stdout
    elif words[:2] == ["kernlens", "compare"]:
        files_of_the_compare_command(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert cli.main([*words[1:], "--no-cache"]) == 0
        assert "behaviour" in capsys.readouterr().out
    elif words[:2] == ["python", "-m"]:
        # tests/test_experiments.py runs the tiny version of every experiment
        assert (ROOT / (words[2].replace(".", "/") + ".py")).exists()
    else:  # the install command is the one by which these tests came to run
        assert words == ["pip", "install", "-e", "."]


def test_figures_come_from_the_committed_results():
    assert readme.render(TEXT) == TEXT, "run python -m experiments.readme"
    heads = re.findall(r"^#+ (.+)$", TEXT, flags=re.MULTILINE)
    anchors = {f"#{re.sub('[^a-z0-9 -]', '', head.lower()).replace(' ', '-')}" for head in heads}
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert link in anchors or (ROOT / link).exists(), f"{link} is missing"
