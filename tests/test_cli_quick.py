"""What is wrong with a command line is said at once: before JAX, which takes seconds to import."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernlens import lens
from kernlens.cli import words
from kernlens.cli.command import VERBS
from kernlens.cli.names import names
from kernlens.cli.options.upgrade import Upgrade

ROOT = Path(__file__).parents[1]
LABELS = ("--labels", "labels.csv")
RUN = """
import json, sys
sys.modules["plotly"] = sys.modules["h5py"] = sys.modules["safetensors"] = None  # not installed
from kernlens.cli import command
out = []
for words in json.loads(sys.argv[1]):
    print("#", *words, file=sys.stderr)
    out.append(command.main(words))
print(json.dumps([out, sorted({"jax", "pandas", "scipy"} & sys.modules.keys())]))
"""
WIDTH = "after mlp comes the width of the hidden layer, a whole number of at least 1, as in mlp:32"
SIZES = {
    "mlp:0": f"--decoder mlp:0: {WIDTH}; got '0'",
    "mlp:-3": f"{WIDTH}; got '-3'",
    "mlp:abc": f"{WIDTH}; got 'abc'",
    "mlp:32:16": f"{WIDTH}; got '32:16'",
    "mlp:2.5": WIDTH,
    "mlp:": WIDTH,
    "knn:0": "after knn comes the number of neighbours, a whole number of at least 1, or any of",
    "knn:near": "the words euclidean, cosine, standardised, as in knn:10:cosine; got 'near'",
    "cosine:0": "after cosine comes the temperature, a number above 0, or any of the words priors",
    "cosine:nan": "a number above 0",
    "linear:5": "after linear comes nothing; got '5'",
}
WRONG = [
    (("compare", "a.npy", "nowhere.npy", *LABELS), "nowhere.npy: no such file"),
    (("compare", "a.npy", "b.npy", "--labels", "nowhere.csv"), "nowhere.csv: no such file"),
    (("compare", "a.npy", "b.npy", *LABELS, "--label-column", "dept"), "no column 'dept'"),
    (("compare", "a.npy", "b.npy", *LABELS, "--probe", "nope"), "Invalid choice"),
    (("predict", "a.npy", *LABELS, "--metric", "f1"), "Expected one of ('macro_f1', "),
    (("compare", "a.npy", "b.npy", *LABELS, "--scores", "nope"), "Invalid choice"),
    (("compare", "a.npy", "b.npy", *LABELS, "--level", "2"), "--level must be in (0, 1)"),
    (("compare", "a.npy", "b.npy", *LABELS, "--decoder", "nope"), "no such decoder"),
    (("compare", "a.npy", "b.npy", *LABELS, "--decoder", "mine:Head"), "no module 'mine'"),
    (("predict", "a.npy", *LABELS, "--decoder", "mpl:32"), "did you mean mlp:32?"),
    (("predict", "a.npy", *LABELS, "--decoder", "MLP:32"), "did you mean mlp:32?"),
    (("predict", "a.npy", *LABELS, "--decoder", "liner"), "did you mean linear?"),
    (("predict", "a.npy", *LABELS, "--decoder", ""), "no such decoder; choose one of linear"),
    (("predict", "a.npy", *LABELS, "--kernel", "rbff"), "did you mean rbf?"),
    (("predict", "a.npy", *LABELS, "--decoder", "trees"), "--decoder trees: "),
    *(
        (("predict", "a.npy", *LABELS, "--decoder", word), expected)
        for word, expected in SIZES.items()
    ),
    (("compare", "a.npy", *LABELS, "--decoder", "linear", "knn:0"), "of at least 1"),
    (("predict", "a.npy", *LABELS, "--kernel", "nope"), "no such kernel"),
    (("predict", "a.npy", *LABELS, "--json", "nowhere/a.json"), "nowhere: no such folder"),
    (("predict", "a.npy", *LABELS, "--html", "nowhere/a.html"), "nowhere: no such folder"),
    (("predict", "a.npy", *LABELS, "--html", "a.html"), "pip install 'kernlens[report]'"),
    (("predict", "a.npy", *LABELS, "--export", "nowhere/a.parquet"), "nowhere: no such folder"),
    (("predict", "a.npy", *LABELS, "--json", "./labels.csv"), "would replace a file that is read"),
    (("predict", "b.npy::v", *LABELS, "--html", "b.npy"), "would replace a file that is read"),
    (("predict", "a.npy", *LABELS, "--json", "x", "--html", "x"), "replace what --json writes"),
    (("embed", "e.parquet", "--out", "e.parquet"), "e.parquet: would replace a file that is read"),
    (("predict", "a.h5", *LABELS), "pip install 'kernlens[hdf5]'"),
    (("predict", "a.safetensors", *LABELS), "pip install 'kernlens[text]'"),
    (("predict", "a.odt", *LABELS), "cannot read files ending in '.odt'"),
    (("predict", "a.npy", "--interactions", "nowhere.csv"), "nowhere.csv: no such file"),
    (("upgrade", "a.npy", "b.npy", *LABELS, "--gate", "nope<1"), "--gate 'nope<1'"),
    (("upgrade", "a.npy", "b.npy", *LABELS, "--save", "nowhere/m.safetensors"), "no such folder"),
    (("upgrade", "a.npy", "b.npy", *LABELS, "--save", "m.safetensors"), "kernlens[text]"),
    (("diagnose", "a.npy", *LABELS, "--reference", "nowhere.npy"), "nowhere.npy: no such file"),
    (("diagnose", "a.npy", *LABELS, "--counts", "nowhere.csv"), "nowhere.csv: no such file"),
    (("embed", "nowhere.csv"), "nowhere.csv: no such file"),
    (("embed", "events.csv", "--out", "nowhere/e.parquet"), "nowhere: no such folder"),
    (("demo", "--out", "a.npy"), "--out must be a folder"),
    (("demo", "--out", "there"), "pip install 'kernlens[report]'"),
]  # fmt: skip


@pytest.fixture
def files(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 4))
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "b.npy", x)
    for name in ("a.h5", "a.safetensors", "a.odt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "labels.csv").write_text(
        "id,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(40))
    )
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\na,x,1700000000\n")
    return tmp_path


def test_wrong_command_lines_are_refused_before_jax_is_imported(files):
    given = json.dumps([list(command) for command, _ in WRONG])
    done = subprocess.run(
        [sys.executable, "-c", RUN, given], cwd=files, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "COLUMNS": "400"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes, imported = json.loads(done.stdout.splitlines()[-1])
    assert imported == []
    told = done.stderr.split("# ")[1:]
    for (command, expected), code, own in zip(WRONG, codes, told, strict=True):
        assert code in (1, 2), (command, own)
        assert expected in own, (command, own)


@pytest.mark.parametrize("verb", VERBS)
def test_options_are_made_without_jax(verb):
    code = f"""
import sys
from kernlens.cli import command
try:
    command.main([{verb!r}, "--help"])
finally:
    assert not {{"jax", "pandas", "pyarrow", "scipy"}} & sys.modules.keys(), "late"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"usage: kernlens {verb}" in done.stdout


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("kernels.of_decoder", "DECODERS"), ("kernels.of_decoder", "TREE_WORDS"),
        ("kernels.closed_form", "KERNELS"), ("probes.about", "PROBES"), ("scores", "SCORES"),
        ("lens.maps", "MAPS"), ("probes.logistic_path", "METRICS"), ("probes", "METRICS"),
        ("lens.next_items", "MEASURES"),
    ],
)  # fmt: skip
def test_names_read_from_the_source_are_those_of_the_table(module, name):
    table = getattr(importlib.import_module(f"kernlens.{module}"), name)
    assert names(module, name) == tuple(table)


def test_what_decoders_take_is_that_of_their_table():
    from kernlens.kernels.of_decoder import DECODERS

    assert set(words.TAKES) <= set(DECODERS)
    told = {name: words.TAKES.get(name, words.Takes()).words for name in DECODERS}
    assert told == {name: tuple(rule.words) for name, rule in DECODERS.items()}


def test_a_decoder_that_was_added_to_the_table_can_be_typed(monkeypatch):
    from kernlens.kernels import of_decoder

    class Plain:
        """A decoder without fields."""

    monkeypatch.setitem(
        of_decoder.DECODERS, "plain", of_decoder.Rule(Plain, of_decoder.DECODERS["linear"].kernel)
    )
    monkeypatch.setattr(words, "DECODERS", (*words.DECODERS, "plain"))
    assert isinstance(words.decoder("plain"), Plain)
    with pytest.raises(ValueError, match="after plain comes nothing; got '3'"):
        words.decoder("plain:3")


def test_names_that_no_source_tells_are_asked_of_the_module():
    assert names("lens.upgrade", "MAPS") == lens.upgrade.__globals__["MAPS"] == words.MAPS


def test_the_default_of_few_labels_is_that_of_the_library():
    default = inspect.signature(lens.upgrade).parameters["few_labels"].default
    assert Upgrade.few_labels == default
