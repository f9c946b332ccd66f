"""README and docs stay true: snippets run, commands exist, figures come from the results."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.kit import pages
from kernlens import datasets
from kernlens.cli.command import main

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}
COMMANDS = dict.fromkeys(
    command
    for text in TEXTS.values()
    for command in re.findall(r"^\$ (.+)$", text, flags=re.MULTILINE)
)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
QUICK = ("install", "moments", "kernel_of_a_decoder", "text")
"""Pages whose snippets take a few seconds."""

TOLERANCE = 0.021
"""How far a printed number may move between versions of jax and kinds of machine."""


def alike(shown: str, printed: str) -> bool:
    """Whether two outputs are the same words, and numbers that are close; times count as words."""
    texts = [re.sub(r"\s+|─+", " ", re.sub(r"[\d.]+ s\b", "some s", s)) for s in (shown, printed)]
    words = [NUMBER.sub("#", text).split() for text in texts]
    if words[0] != words[1]:
        return False
    found, expected = (
        [float(number.replace(",", "")) for number in NUMBER.findall(text)] for text in texts
    )
    return bool(np.allclose(found, expected, rtol=0, atol=TOLERANCE))


def test_the_check_of_outputs_sees_another_word_and_another_number():
    assert alike("a 0.31 [0.29, 0.33]\n 1.5 s", "a  0.32 [0.29, 0.33]  7 s")
    assert not alike("a 0.31", "b 0.31")
    assert not alike("a 0.31", "a 0.41")
    assert not alike("a 0.31", "a 0.31 0.31")


def as_page(path):
    """Every page of the docs is run too, but for the few that take a moment a slow test."""
    quick = path == README or path.stem in QUICK
    name = str(path.relative_to(ROOT))
    return pytest.param(path, marks=[] if quick else [pytest.mark.slow], id=name)


@pytest.mark.parametrize("path", [as_page(p) for p in PAGES if "```python" in p.read_text()])
def test_python_snippets_run_in_order_and_print_what_is_shown(path, tmp_path):
    found = re.findall(
        r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", path.read_text(), flags=re.DOTALL
    )
    assert len(found) == path.read_text().count("```python")
    script = tmp_path / "snippets.py"
    script.write_text("\nprint('\\0')\n".join(snippet for snippet, _ in found))
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    printed = run.stdout.split("\0\n")
    for (snippet, shown), own in zip(found, printed, strict=True):
        assert not shown or alike(shown, own), f"{snippet}\nprints\n{own}"


def test_readme_is_a_landing_page():
    assert len(README.read_text().splitlines()) <= 250


def files_of_the_compare_command(folder):
    """What the Python of the README makes, as files."""
    data = datasets.load("synthetic", num_items=2_000, num_interactions=40_000, num_classes=6)
    codes, names = data.labels["class"]
    for name, spread, seed in (("behaviour", 2.0, 1), ("text", 2.5, 2)):
        made = datasets.synthetic.embeddings(data, within_class_spread=spread, seed=seed)
        np.save(folder / f"{name}.npy", made)
    rows = "".join(f"{i},{names[code]}\n" for i, code in enumerate(codes))
    (folder / "labels.csv").write_text("id,label\n" + rows)


def files_of_the_embed_command(folder):
    """The interactions of the same data as a log of events, with one line written twice."""
    data = datasets.load("synthetic", num_items=2_000, num_interactions=40_000, num_classes=6)
    users = np.repeat(data.users, np.diff(data.offsets))
    times = np.datetime64("2024-05-01", "s") + np.arange(len(data.items))
    lines = [
        f"u{user},p{item},{str(time).replace('T', ' ')}\n"
        for user, item, time in zip(users, data.items, times, strict=True)
    ]
    text = "customer,sku,bought_at\n" + "".join([*lines, lines[-1]])
    (folder / "events.csv").write_text(text)


def printed_by(command):
    """What the README says that a command prints, or None."""
    found = re.search(
        rf"\$ {re.escape(command)}\n```\n\n```text\n(.*?)```", TEXTS["README.md"], re.DOTALL
    )
    return found and found[1]


def as_case(command):
    """A command of the library whose output is not shown only has to run, which takes a while."""
    slow = command.startswith("kernlens") and printed_by(command) is None
    return pytest.param(command, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("command", [as_case(command) for command in COMMANDS])
def test_commands_run(command, tmp_path, monkeypatch, capsys):
    words = shlex.split(command)
    if words[0] == "make":  # run by .ci/run; here: the target is there and make can read it
        plan = subprocess.run(
            ["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True
        )
        assert plan.returncode == 0, plan.stderr
        assert ".venv/bin/" in plan.stdout
    elif words[0] == "kernlens":
        files_of_the_compare_command(tmp_path)
        files_of_the_embed_command(tmp_path)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "100")
        assert main([*words[1:], "--no-cache"]) == 0
        shown, printed = printed_by(command), capsys.readouterr().out
        assert printed if shown is None else alike(shown, printed)
    elif words[:2] == ["python", "-m"]:
        # tests/experiments/test_experiments.py runs the tiny version of every experiment
        name = ROOT / words[2].replace(".", "/")
        assert name.with_suffix(".py").exists() or (name / "__main__.py").exists()
    else:  # the install command is the one by which these tests came to run
        assert words == ["pip", "install", "-e", "."]


def anchors(text: str) -> set[str]:
    """Targets of links to the heads of a page."""
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub("[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{link} is missing"
        assert not anchor or anchor in anchors(target.read_text()), f"{link}: no such head"


@pytest.mark.parametrize("name", TEXTS)
def test_figures_come_from_the_committed_results(name):
    assert pages.render(TEXTS[name]) == TEXTS[name], "run python -m experiments.kit.pages"
