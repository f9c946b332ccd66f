"""The command: what it prints, what it writes, how it ends."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernlens import datasets, lens, metrics
from kernlens.cli import command
from kernlens.cli.options import demo
from kernlens.files import cache_folder, use_compilation_cache
from kernlens.probes import METRICS, PROBES
from kernlens.types import Classification
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=150, separation=0.8)
NAMES = np.array(["tea", "salt", "bread", "apples"])


@pytest.fixture
def files(tmp_path, monkeypatch):
    """good.npy, bad.parquet and labels.csv in the current folder, and no cache on disk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    monkeypatch.setenv("COLUMNS", "120")
    np.save("good.npy", PROBLEM.x)
    noisy = PROBLEM.x + 6.0 * np.random.default_rng(1).standard_normal(PROBLEM.x.shape)
    order = np.random.default_rng(2).permutation(150)[:140]
    pq.write_table(pa.table({"item": order, "vector": list(noisy[order])}), "bad.parquet")
    rows = [f"{i},{name if i % 30 else ''}" for i, name in enumerate(NAMES[PROBLEM.codes])]
    (tmp_path / "labels.csv").write_text("\n".join(["id,department", *rows]) + "\n")
    return tmp_path


def run(capsys, *argv):
    """Exit code, standard output, standard error."""
    code = command.main([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_compare_prints_the_answer(files, capsys):
    code, out, err = run(capsys, "compare", "bad.parquet", "good.npy", "--labels", "labels.csv")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    first, second = (next(w for w in lines if w[:1] == [name]) for name in ("good", "bad"))
    assert lines.index(first) < lines.index(second)
    assert (first[-1], second[-1]) == ("best", "worse")
    assert "140 rows joined by row number, 4 of them without a label; 4 classes" in out
    lacking = sorted(set(range(150)) - set(np.random.default_rng(2).permutation(150)[:140]))
    shown = "'{}', '{}', '{}', ...".format(*lacking)
    assert f"not joined: 10 of good ({shown}), 10 of the labels ({shown})" in " ".join(out.split())
    taken = "good: by row number · 6 dimensions · label department (id id)"
    assert f"bad: id item · 6 dimensions in vector · {taken}" in " ".join(out.split())
    assert "always answering 'tea': macro-F1" in out
    assert "\x1b" not in out


@pytest.mark.thorough
def test_scores_stand_beside_the_prediction(files, capsys):
    given = ("compare", "bad.parquet", "good.npy", "--labels", "labels.csv")
    code, out, err = run(capsys, *given, "--scores", "h_score", "logme", "--json", "out.json")
    assert (code, err) == (0, "")
    found = json.loads((files / "out.json").read_text())["scores"]
    assert [one["score"] for one in found] == ["h_score", "logme"]
    for one in found:
        assert one["best"] == "good"
        own = one["intervals"]["good"]
        assert own["low"] < own["value"] < own["high"]
        assert f"{own['value']:.3g} [{own['low']:.3g}, {own['high']:.3g}]" in out
        assert f"{own['null']:.3g}" in out
        assert one["differences_to_best"]["bad"]["separated"]
    # Of 140 rows joined, 136 with a label; the formula stands in the docstring of h_score.
    assert found[0]["intervals"]["good"]["null"] == pytest.approx(
        6 * (4 - 136 / 140) / 139, rel=1e-4
    )
    assert "by chance" in out
    assert out.index("h_score") < out.index("logme") < out.index("rows joined")


def test_json_is_what_the_library_says(files, capsys):
    options = ("--metric", "accuracy", "--probe", "ridge", "--level", "0.8", "--seed", "4")
    given = ("compare", "bad.parquet", "good.npy", "--labels", "labels.csv", *options)
    code, out, err = run(capsys, *given, "--json", "-")
    found = json.loads(out)
    assert code == 0
    assert "good" in err
    assert "difference" in err

    rows = np.sort(np.random.default_rng(2).permutation(150)[:140])
    labels = np.where(rows % 30, NAMES[PROBLEM.codes[rows]], "")
    table = pq.read_table("bad.parquet").to_pydict()
    bad = np.array([table["vector"][table["item"].index(row)] for row in rows])
    expected = lens.compare(
        {"bad": bad, "good": PROBLEM.x[rows]},
        labels,
        probe=PROBES["ridge"],
        metric="accuracy",
        level=0.8,
        seed=4,
    )
    assert [entry["name"] for entry in found["entries"]] == [e.name for e in expected.entries]
    for entry, reference in zip(found["entries"], expected.entries, strict=True):
        assert (entry["dim"], entry["verdict"]) == (reference.dim, reference.verdict)
        assert entry["strength"] == reference.prediction.path.chosen
        for metric in Classification._fields:
            # Rows come in another order, so the solver rounds otherwise; metrics are counts.
            own = reference.prediction.metrics[metric]
            told = {"value": own.value, "low": own.low, "high": own.high, "null": own.null}
            assert entry["metrics"][metric] == pytest.approx(told, rel=1e-12)
    assert found["entries"][0]["difference_to_best"] is None
    difference = expected.differences["bad", "good"]
    np.testing.assert_allclose(found["entries"][1]["difference_to_best"]["low"], difference.low)
    assert found["entries"][1]["difference_to_previous"]["separated"] == difference.separated
    target = expected.best.prediction.target
    shares = np.bincount(target) / len(target)
    floor = {**metrics.majority(target)._asdict(), "log_loss": -np.sum(shares * np.log(shares))}
    assert found["baseline"] == pytest.approx(floor, rel=1e-12)
    assert found["conclusion"] == expected.sentence()
    lacking = [str(row) for row in np.setdiff1d(np.arange(150), rows)]
    assert found["rows"] == {
        "joined": 140,
        "labelled": 136,
        "not_finite": {"bad": 0, "good": 0},
        "not_joined": {"bad": 0, "good": 10},
        "labels_not_joined": 10,
        "by_row_number": True,
        "ids": {
            "not_finite": {"bad": [], "good": []},
            "not_joined": {"bad": [], "good": lacking},
            "labels_not_joined": lacking,
        },
    }
    assert sum(found["classes"].values()) == 136
    assert (found["metric"], found["probe"], found["level"], found["seed"]) == (
        "accuracy",
        "ridge",
        0.8,
        4,
    )

    code, out, err = run(capsys, *given, "--json", "found.json")
    assert (code, err) == (0, "")
    written = json.loads((files / "found.json").read_text())
    written["seconds"] = found["seconds"]
    for one, other in zip(written["entries"], found["entries"], strict=True):
        one["seconds"] = other["seconds"]
    assert written == found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("columns", [40, 80, 120, 160])
def test_nothing_is_cut_off_at_any_width(files, capsys, monkeypatch, columns, metric):
    monkeypatch.setenv("COLUMNS", str(columns))
    np.save("x" * 30, PROBLEM.x)
    given = ("good.npy", "x" * 30 + ".npy", "--labels", "labels.csv", "--metric", metric)
    code, out, _ = run(capsys, "compare", *given)
    assert code == 0
    assert max(map(len, out.splitlines())) <= max(columns, 80)
    assert "…" not in out
    assert out.count("x") >= 30
    for word in ("cannot", "told", "apart", "from", "the", "best"):
        assert word in out.split()
    # Two metrics of two embeddings, a difference, and the best value in the conclusion.
    assert out.count("[") == out.count("]") == 6


def test_log_loss_puts_the_least_first(files, capsys):
    given = ("compare", "bad.parquet", "good.npy", "--labels", "labels.csv")
    code, out, err = run(capsys, *given, "--metric", "log_loss", "--json", "out.json")
    assert (code, err) == (0, "")
    found = json.loads((files / "out.json").read_text())
    good, bad = found["entries"]
    assert (good["name"], bad["name"]) == ("good", "bad")
    assert good["metrics"]["log_loss"]["value"] < bad["metrics"]["log_loss"]["value"]
    assert 0 < bad["difference_to_best"]["low"] < bad["difference_to_best"]["high"]
    assert f"log loss {found['baseline']['log_loss']:.3f}" in out
    code, _, err = run(capsys, *given, "--metric", "log_loss", "--probe", "ridge")
    assert code == 1
    assert "metric must be one that the probe gives" in err


def test_the_demo_gets_its_options(files, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr("kernlens.cli.demo.run", lambda *given: seen.append(given))
    given = ("demo", "--seeds", "3", "--out", "there", "--data", "synthetic", "--label", "class")
    assert run(capsys, *given)[0] == 0
    ((config, task),) = seen
    assert isinstance(config, demo.Demo)
    assert task.data.num_items == len(task.labels.codes)
    assert (config.seeds, str(config.out)) == (3, "there")


def test_the_demo_reads_the_files_of_a_data_set(capsys, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("kernlens.cli.demo.run", lambda *given: seen.append(given))
    root = str(Path(__file__).parent / "samples" / "movielens_1m")
    given = ("demo", "--out", str(tmp_path), "--data", "movielens", "--label", "single_genre")
    code, out, err = run(capsys, *given)
    assert (code, out, seen) == (1, "", [])
    assert "movielens needs root=" in err
    few = partial(datasets.load, min_count=1)  # the sample has five items
    monkeypatch.setattr(datasets, "load", few)
    assert run(capsys, *given, "--root", root, "--min-class-count", "1")[0] == 0
    ((config, task),) = seen
    assert task.data.items.tolist() == few("movielens", root).items.tolist()
    assert f"--root {root}" in demo.command_of(config)


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (ValueError("no label\n'x'"), 1, "error: no label 'x'\n"),
        (FileNotFoundError("gone: no such file"), 1, "error: gone: no such file\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), 1,
            "error: needs more memory than there is: RESOURCE_EXHAUSTED: Out of memory allocating "
            "8 bytes.\n",
        ),
    ],
)  # fmt: skip
def test_how_a_command_ends(files, capsys, monkeypatch, raised, code, message):
    def stop(_):
        raise raised

    monkeypatch.setattr(demo.Demo, "read", stop)
    assert run(capsys, "demo") == (code, "", message)


def test_a_fault_of_ours_is_not_passed_off_as_the_users(files, capsys, monkeypatch):
    def fail(_):
        raise ZeroDivisionError("by 0")

    monkeypatch.setattr(demo.Demo, "read", fail)
    message = "unexpected ZeroDivisionError: by 0; a fault of kernlens; KERNLENS_TRACEBACK=1"
    assert run(capsys, "demo") == (70, "", f"error: {message} shows where\n")
    monkeypatch.setenv("KERNLENS_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        command.main(["demo"])


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for chosen, xdg, expected in [
        ("", "", tmp_path / ".cache" / "kernlens"),
        ("", str(tmp_path / "xdg"), tmp_path / "xdg" / "kernlens"),
        ("", "relative", tmp_path / ".cache" / "kernlens"),
        (str(tmp_path / "own"), str(tmp_path / "xdg"), tmp_path / "own"),
        ("~/own", "", tmp_path / "own"),
        ("off", str(tmp_path / "xdg"), None),
    ]:
        monkeypatch.setenv("KERNLENS_CACHE", chosen)
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        assert cache_folder() == expected
    assert use_compilation_cache() is None


@pytest.mark.thorough
def test_the_command_in_a_process_of_its_own(files):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("KERNLENS", "JAX_COMP"))}
    env["XDG_CACHE_HOME"] = str(files / "cache")
    code = "import sys; from kernlens.cli.command import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "compare", "good.npy", "--labels"]

    def process(*argv):
        done = subprocess.run(
            [*command, *argv], env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    code, out, err = process("labels.csv", "--no-cache", "--json", "-")
    assert code == 0
    assert json.loads(out)["entries"][0]["name"] == "good"
    assert "good" in err
    assert not (files / "cache").exists()

    code, out, err = process("labels.csv")
    assert (code, err) == (0, "")
    kept = {path.name for path in (files / "cache" / "kernlens").iterdir()}
    assert any(name.endswith("-cache") for name in kept)

    # Nothing is left to compile the second time, so no program is added.
    assert process("labels.csv")[0] == 0
    again = {path.name for path in (files / "cache" / "kernlens").iterdir()}
    assert {n for n in again if n.endswith("-cache")} == {n for n in kept if n.endswith("-cache")}

    code, out, err = process("gone.csv", "--no-cache")
    assert (code, out, err) == (1, "", "error: gone.csv: no such file\n")


def test_the_version_is_the_packages():
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "kernlens"), "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    import kernlens

    assert done.stdout == f"kernlens {kernlens.__version__}\n"


DECODER_WORDS = ["linear", "inner-product", "cosine", "mlp:8"]


@pytest.mark.parametrize("word", DECODER_WORDS)
def test_predict_takes_every_decoder(files, capsys, word):
    given = ("predict", "good.npy", "--labels", "labels.csv", "--decoder", word, "--json", "p.json")
    code, out, err = run(capsys, *given)
    assert (code, err) == (0, "")
    found = json.loads((files / "p.json").read_text())
    assert found["decoder"] == word
    value = found["metrics"]["macro_f1"]
    assert f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" in out
    assert value["value"] > 2 * value["null"]


def test_compare_takes_several_decoders(files, capsys):
    given = ("compare", "good.npy", "bad.parquet", "--labels", "labels.csv", "--json", "c.json")
    code, out, err = run(capsys, *given, "--decoder", "linear", "cosine")
    assert (code, err) == (0, "")
    found = json.loads((files / "c.json").read_text())["entries"]
    assert {(one["name"], one["decoder"]) for one in found} == {
        (name, word) for name in ("good", "bad") for word in ("linear", "cosine")
    }
    assert "cosine" in out


@pytest.mark.parametrize("columns", [80, 120, 160])
def test_decoders_fit_into_a_terminal(files, capsys, monkeypatch, columns):
    """No heading and no name is broken; where there is no room, the second metric goes."""
    monkeypatch.setenv("COLUMNS", str(columns))
    given = ("compare", "good.npy", "bad.parquet", "--labels", "labels.csv", "--decoder")
    code, out, err = run(capsys, *given, "linear", "inner-product", "cosine")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= columns
    for word in ("embedding", "decoder", "macro-F1", "verdict", "inner-product", "worse"):
        assert word in out.split()
    assert ("accuracy" in out.partition("─")[0]) == (columns > 80)


@pytest.mark.thorough
def test_a_kernel_and_a_decoder_of_ones_own_are_found_in_the_current_folder(files, capsys):
    (files / "mine.py").write_text(
        "import flax.linen as nn\nimport jax.numpy as jnp\n"
        "def near(a, b):\n    return jnp.exp(-jnp.sum((a[:, None] - b[None]) ** 2, -1) / 20)\n"
        "class Head(nn.Module):\n    num_outputs: int = 1\n    @nn.compact\n"
        "    def __call__(self, z):\n"
        "        return nn.Dense(self.num_outputs)(jnp.tanh(nn.Dense(4)(z)))\n"
        "words = 'no kernel'\n"
        "nothing = None\n"
        "class Wide(nn.Module):\n    width: int\n"
    )
    (files / "leaves.py").write_text("raise SystemExit(3)\n")
    given = ("predict", "good.npy", "--labels", "labels.csv")
    for option, value in (("--kernel", "mine:near"), ("--decoder", "mine:Head")):
        code, out, err = run(capsys, *given, option, value)
        assert (code, err) == (0, ""), err
        assert "kernel read by its" in out
    for option, value, message in (
        ("--kernel", "mine:far", "the module mine has no name 'far'"),
        ("--kernel", "yours:near", "no module 'yours' to import"),
        ("--kernel", "mine:words", "expected a function (x1, x2) -> K"),
        ("--kernel", "nearest", "no such kernel; choose one of linear"),
        ("--decoder", "grove", "no such decoder; choose one of linear"),
        ("--decoder", "mine:nothing", "the name 'nothing' of the module mine is None"),
        ("--decoder", "mine:Wide", "a decoder needs defaults for all that it takes"),
        ("--decoder", "leaves:Head", "importing leaves failed: SystemExit: 3"),
        ("--decoder", "mlp:wide", "a whole number of at least 1, as in mlp:32"),
    ):
        code, out, err = run(capsys, *given, option, value)
        assert (code, out) == (1, "")
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.thorough
def test_score_ranks_by_the_scores_asked(files, capsys):
    given = ("score", "bad.parquet", "good.npy", "--labels", "labels.csv", "--scores", "h_score")
    code, out, err = run(capsys, *given, "--json", "s.json")
    assert (code, err) == (0, "")
    (found,) = json.loads((files / "s.json").read_text())["scores"]
    assert (found["score"], found["best"]) == ("h_score", "good")
    assert "by chance" in out


def test_names_of_files_are_text_and_never_markup(files, capsys):
    for name in ("[red]x[bold]", "esc\x1b[31m"):
        np.save(name, PROBLEM.x)
    given = ("compare", "[red]x[bold].npy", "esc\x1b[31m.npy", "--labels", "labels.csv")
    code, out, err = run(capsys, *given)
    assert (code, err) == (0, "")
    assert "[red]x[bold]" in out
    assert "\x1b" not in out
    assert "esc\\x1b[31m" in out
