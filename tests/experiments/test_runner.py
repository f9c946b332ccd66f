"""The runner of experiments: cells, what they cost, and a run that is killed."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.kit import runner
from experiments.kit.cells import Cells
from experiments.prop2_sequence_average import experiment as prop2_sequence_average
from tests.test_writing import disk

__all__ = ["disk"]


ROOT = Path(runner.__file__).parents[2]


class Toy:
    """An experiment of a few sums."""

    @dataclasses.dataclass(frozen=True)
    class Config:
        root: Path | None = None
        count: int = 4

    TINY = Config(count=2)
    __file__ = "toy.py"
    __doc__ = "A toy."

    @staticmethod
    def run(config, cells):
        return [cells(f"cell {i}", lambda i=i: i**2) for i in range(config.count)]

    summarise = staticmethod(lambda config, rows: sum(rows))
    tables = staticmethod(lambda results: [])

    @staticmethod
    def draw(results):
        panel = runner.report.Panel("", *(np.arange(2.0), "") * 2, np.zeros(2))
        return runner.report.figure([panel], "")


def test_the_tiny_version_takes_fields_that_are_given(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    found = []
    monkeypatch.setattr(runner, "results", lambda toy, config, *rest: found.append(config))
    assert runner.main(Toy, ["--tiny"]) == runner.main(Toy, ["--tiny", "--root", "a"]) == 0
    assert runner.main(Toy, ["--root", "a"]) == 0
    assert found == [Toy.Config(count=2), Toy.Config(Path("a"), 2), Toy.Config(Path("a"), 4)]


def test_cells_belong_to_the_data_not_to_the_name_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "ml").mkdir(parents=True)
    (tmp_path / "b" / "ml").mkdir(parents=True)
    first, second, again = (
        runner.fingerprint(Toy.Config(root=Path(where)))
        for where in ("a/ml", "b/ml", tmp_path / "b" / ".." / "a" / "ml")
    )
    assert first == again != second
    monkeypatch.chdir(tmp_path / "a" / "ml")
    here = Toy.Config(root=Path())
    assert runner.fingerprint(here) == first
    assert runner.report.to_json(here)["root"] == "ml"
    assert runner.command(Toy, "toy", here) == "python -m experiments.toy --root ml"


def test_a_fingerprint_tells_every_value_of_every_field():
    """Fields of all kinds, each set to another value of its type."""

    @dataclasses.dataclass(frozen=True)
    class Config:
        count: int = 4
        rate: float = 0.1
        flag: bool = False
        names: tuple[str, ...] = ("a", "b")
        pairs: tuple[tuple[int, int], ...] = ((1, 2),)
        root: Path | None = None

    others = [
        {"count": 5}, {"rate": 0.2}, {"flag": True}, {"names": ("b", "a")}, {"names": ("a",)},
        {"names": ()}, {"pairs": ((2, 1),)}, {"root": Path("a")}, {"root": Path("b")},
    ]  # fmt: skip
    made = [Config(), *(Config(**other) for other in others)]
    assert len({runner.fingerprint(config) for config in made}) == len(made)
    assert runner.fingerprint(Config(rate=0.1)) == runner.fingerprint(Config())
    # Of some fields, by their names and values alone.
    assert runner.fingerprint(Config(count=5), ["rate"]) == runner.fingerprint(Config(), ["rate"])
    assert runner.fingerprint(Config(rate=4.0), ["rate"]) != runner.fingerprint(Config(), ["rate"])


@pytest.mark.thorough
def test_two_configurations_in_one_folder_keep_their_own_cells(tmp_path):
    made = []

    def run(config, cells):
        return [cells("the one cell", lambda: made.append(config.count) or 10 * config.count)]

    toy = types.SimpleNamespace(**{**vars(Toy), "run": run})
    console = Console(file=io.StringIO())
    options = runner.Options(out=tmp_path / "out", cells=tmp_path / "cells")
    for count in (4, 5, 4, 5):
        found = runner.results(toy, Toy.Config(count=count), options, console)
        assert found["rows"] == [10 * count]
        assert found["config"]["count"] == count
    assert made == [4, 5]
    # Only the cells of the configuration at hand are forgotten.
    runner.results(toy, Toy.Config(count=4), dataclasses.replace(options, fresh=True), console)
    runner.results(toy, Toy.Config(count=5), options, console)
    assert made == [4, 5, 4]


@pytest.mark.thorough
def test_what_a_run_cost_counts_all_that_made_it(tmp_path, monkeypatch):
    """Four cells of 10 s by a clock that moves in them alone, stopped after the second."""
    now = [0.0]
    monkeypatch.setattr(runner.time, "perf_counter", lambda: now[0])
    stops, shared = [2], []

    def run(config, cells):
        def make(i):
            if i in stops:
                raise KeyboardInterrupt(stops.clear())
            now[0] += 10.0
            # A piece that another experiment made, then one of arrays inside.
            inside = cells.beside(tmp_path / "shared")
            inside.arrays(f"{i}", lambda: {"x": np.asarray(shared.append(i) or i)})
            return float(inside.arrays(f"{i}", dict)["x"])

        return [cells(f"cell {i}", lambda i=i: make(i)) for i in range(4)]

    toy = types.SimpleNamespace(**{**vars(Toy), "run": run})
    options = runner.Options(out=tmp_path / "out", cells=tmp_path / "cells")
    console = Console(file=io.StringIO())
    with pytest.raises(KeyboardInterrupt):
        runner.results(toy, Toy.Config(), options, console)
    assert now[0] == 20.0
    assert runner.results(toy, Toy.Config(), options, console)["seconds"] == 40.0
    assert runner.results(toy, Toy.Config(), options, console)["seconds"] == 40.0
    assert now[0] == 40.0
    fresh = dataclasses.replace(options, fresh=True)
    assert runner.results(toy, Toy.Config(), fresh, console)["rows"] == [0.0, 1.0, 2.0, 3.0]
    assert now[0] == 80.0
    assert shared == [0, 1, 2, 3] * 2


def test_damaged_cells_are_made_anew(tmp_path):
    console = Console(file=io.StringIO())

    def both(cells):
        return cells("a", lambda: [1]), cells.arrays("b", lambda: {"x": np.arange(3)})["x"].tolist()

    expected = both(Cells(tmp_path, console))
    for content in (b"", b"{", b"PK\x03\x04 cut"):
        for path in tmp_path.glob("*.*"):
            path.write_bytes(content)
        assert both(Cells(tmp_path, console)) == expected
    assert "damaged; made anew" in console.file.getvalue()


TOY_MODULE = """
import dataclasses, os, pathlib, sys, time
import numpy as np
from experiments.kit import runner

@dataclasses.dataclass(frozen=True)
class Config:
    count: int = 6

TINY = Config()

def run(config, cells):
    def make(i):
        with open(os.environ["LOG"], "a") as log:
            log.write(f"{i}\\n")
        if i == int(os.environ["STOP_AT"]):
            time.sleep(600)
        return np.random.default_rng(i).standard_normal(5).tolist()
    return [cells(f"cell {i}", lambda i=i: make(i)) for i in range(config.count)]

def summarise(config, rows):
    return float(np.sum(rows))

def tables(results):
    return []

def draw(results):
    x = np.arange(2.0)
    return runner.report.figure([runner.report.Panel("", x, "", x, "", x)], "")

if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
"""


@pytest.mark.thorough
def test_a_killed_run_goes_on_to_the_same_bits_and_nothing_is_done_twice(tmp_path):
    script = tmp_path / "toy.py"
    script.write_text(TOY_MODULE)

    def start(folder, stop_at):
        words = [sys.executable, str(script), "--cells", str(tmp_path / folder)]
        environment = {
            **os.environ, "KERNLENS_CACHE": "off", "STOP_AT": str(stop_at),
            "LOG": str(tmp_path / f"{folder}.log"),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        out = tmp_path / folder / "out"
        return subprocess.Popen([*words, "--out", str(out)], env=environment)

    def log(folder):
        path = tmp_path / f"{folder}.log"
        return path.read_text().split() if path.exists() else []

    killed = start("killed", 3)
    deadline = time.monotonic() + 120
    while log("killed") != ["0", "1", "2", "3"] and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    for folder in ("killed", "whole"):
        assert start(folder, -1).wait() == 0
    assert log("killed") == ["0", "1", "2", "3", "3", "4", "5"]
    found, expected = (
        json.loads((tmp_path / folder / "out" / "results.json").read_text())
        for folder in ("killed", "whole")
    )
    assert found["rows"] == expected["rows"]
    assert found["summary"] == expected["summary"]


def test_an_interrupted_run_goes_on(tmp_path):
    console = runner.report.console()
    cells = Cells(tmp_path / "cells", console)
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


@pytest.mark.thorough
def test_a_second_run_into_one_folder_is_refused(tmp_path, capsys):
    """By a process of its own: one lock is of the results, the other of the cells."""
    script = tmp_path / "toy.py"
    script.write_text(TOY_MODULE)
    environment = {
        **os.environ, "KERNLENS_CACHE": "off", "STOP_AT": "2", "LOG": str(tmp_path / "log"),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip

    def words(out, cells):
        return ["--out", str(tmp_path / out), "--cells", str(tmp_path / cells)]

    first = subprocess.Popen([sys.executable, str(script), *words("out", "cells")], env=environment)
    log = tmp_path / "log"
    try:
        deadline = time.monotonic() + 120
        while not (log.exists() and "2" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for out, cells, flag in (("out", "other", "--out"), ("another", "cells", "--cells")):
            second = subprocess.run(
                [sys.executable, str(script), *words(out, cells)], env=environment, text=True,
                capture_output=True,
            )  # fmt: skip
            assert second.returncode == 1
            assert f"error: {flag} {tmp_path}" in second.stderr
            assert f"another run, process {first.pid} on " in second.stderr
            assert second.stderr.count("\n") == 1
    finally:
        first.kill()
        first.wait()
    environment["STOP_AT"] = "-1"
    done = subprocess.run([sys.executable, str(script), *words("out", "cells")], env=environment)
    assert done.returncode == 0
    assert not list(tmp_path.rglob(".lock"))


@pytest.mark.thorough
def test_a_full_disk_and_one_that_is_read_only_keep_earlier_results(disk, capsys):
    """Small results first, then a larger run into the same folders, then a disk to read alone."""
    out, cells = disk / "out", disk / "cells"

    def run(config, cells):
        return [len(cells(f"cell {i}", lambda i=i: [i] * 50_000)) for i in range(config.count)]

    toy = types.SimpleNamespace(**{**vars(Toy), "run": run})
    words = ["--out", str(out), "--cells", str(cells), "--count"]
    assert runner.main(toy, [*words, "1"]) == 0
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    assert runner.main(toy, [*words, "9"]) == 1
    error = capsys.readouterr().err
    assert "No space left on device; what it held is kept" in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept
    assert not list(disk.rglob("*.part"))
    # With room again, it goes on with the cells that were finished.
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    assert runner.main(toy, [*words, "9"]) == 0
    assert "cell 0: kept from an earlier run" in capsys.readouterr().out
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert runner.main(toy, [*words, "3"]) == 1
    error = capsys.readouterr().err
    assert (
        error == f"error: {out}: cannot be written: Read-only file system; what it held is kept\n"
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept


def test_what_a_figure_needs_is_looked_for_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    toy = types.SimpleNamespace(**{**vars(Toy), "run": None})
    assert runner.main(toy, ["--out", str(tmp_path), "--cells", str(tmp_path)]) == 1
    assert "pip install 'kernlens[report]'" in capsys.readouterr().err


def test_the_command_of_a_configuration_is_one_that_can_be_typed():
    config = prop2_sequence_average.Config(published=True, windows=(2, 3), root=Path("a/b/ml-1m"))
    found = runner.command(prop2_sequence_average, "prop2_sequence_average", config)
    assert found.startswith("python -m experiments.prop2_sequence_average ")
    assert set(found.split(" --")[1:]) == {"windows 2 3", "root ml-1m", "published"}
