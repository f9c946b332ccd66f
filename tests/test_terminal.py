"""A file name that is no UTF-8 and an ASCII terminal do not fail once the answer is there."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernlens.cli.command import main
from kernlens.show import terminal
from tests.cases import gaussian_classes

ROOT = Path(__file__).parents[1]
PROBLEM = gaussian_classes(0, n=150, separation=0.8)
NAME = os.fsdecode(b"caf\xe9 \xce\xb1")
"""Latin-1 and UTF-8 in one name."""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", PROBLEM.x)
    try:
        os.rename("rows.npy", f"{NAME}.npy")
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    rows = "".join(f"naïve {code}\n" for code in PROBLEM.codes)
    Path("labels.csv").write_text("label\n" + rows, encoding="utf-8")
    return tmp_path


def command(*words, encoding):
    environment = {
        **os.environ, "KERNLENS_CACHE": "off", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0",
        "PYTHONIOENCODING": encoding, "COLUMNS": "100",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "kernlens", *words], env=environment, capture_output=True
    )
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_an_answer_is_printed_and_written(files, encoding):
    given = ("predict", f"{NAME}.npy", "--labels", "labels.csv", "--probe", "discriminant")
    code, out, err = command(*given, "--json", "found.json", encoding=encoding)
    assert (code, err) == (0, "")
    assert "macro-F1" in out
    assert ("─" in out) == (encoding == "utf-8")
    written = json.loads((files / "found.json").read_text(encoding="utf-8"))
    code, out, _ = command(*given, "--json", "-", encoding=encoding)
    assert code == 0
    printed = json.loads(out)
    assert printed | {"seconds": 0} == written | {"seconds": 0}
    assert sorted(printed["classes"]) == [f"naïve {i}" for i in range(4)]
    assert f"caf\\udce9 {chr(0x3B1)}" in printed["files"]


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_an_error_is_told(files, encoding):
    code, out, err = command("predict", f"{NAME}.npy", "--labels", NAME, encoding=encoding)
    assert (code, out) == (1, "")
    assert err.startswith("error: caf\\udce9 ")
    assert "Traceback" not in err


def test_signs_of_our_own_have_a_spelling(monkeypatch):
    sign = "".join(terminal.SPELT)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.any_text()
    print(f"{sign} é {NAME}", flush=True)
    written = stream.buffer.getvalue().decode("ascii")
    assert written == "".join(terminal.SPELT.values()) + " \\xe9 caf\\udce9 \\u03b1\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--json", "no/such/found.json"), "no/such: no such folder"),
        (("--json", "."), "is a folder; expected a file to write"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(
    files, capsys, monkeypatch, words, message
):
    monkeypatch.setattr("kernlens.io.open_embeddings", None)
    assert main(["predict", f"{NAME}.npy", "--labels", "labels.csv", *words]) == 1
    assert message in capsys.readouterr().err


def test_what_writes_an_output_is_looked_for_before_anything_is_read(files, capsys, monkeypatch):
    np.save("other.npy", PROBLEM.x)
    monkeypatch.setattr("kernlens.io.open_embeddings", None)
    monkeypatch.setattr("kernlens.datasets.load", None)
    for package, words in (
        ("safetensors", ("upgrade", "other.npy", f"{NAME}.npy", "--labels", "labels.csv",
                         "--save", "map.safetensors")),
        ("matplotlib", ("demo", "--out", "demo")),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert main([*words, "--no-cache"]) == 1
        assert f"needs the package {package}" in capsys.readouterr().err
    assert not Path("demo").exists()
