"""What a command takes of memory is told and bounded before it starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kernlens import lens
from kernlens.cli import command, memory
from tests.test_cli import files, run

__all__ = ["files"]
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2 * 10**9), ("2 gb", 2 * 10**9), ("1.5GiB", 3 * 2**29), ("500M", 5 * 10**8),
        ("64KiB", 2**16), ("1000", 1000), ("7B", 7), (None, None),
    ],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text, size):
    assert memory.parse(text) == size


@pytest.mark.parametrize("text", ["much", "-1GB", "0", "2 XB", "", "1e9"])
def test_another_text_is_a_wrong_command_line(files, capsys, text):
    given = ("predict", "good.npy", "--labels", "labels.csv", f"--max-memory={text}")
    code, out, err = run(capsys, *given)
    assert (code, out) == (2, "")
    assert "--max-memory must be a size such as 2GB or 500MB" in " ".join(err.split())


def every_verb(files):
    (files / "events.csv").write_text("user_id,item_id,timestamp\na,x,1700000000\n")
    np.save("other.npy", np.load("good.npy"))
    labelled = ("--labels", "labels.csv")
    return [
        ("predict", "good.npy", *labelled), ("compare", "good.npy", *labelled),
        ("upgrade", "good.npy", "other.npy", *labelled),
        ("stability", "good.npy", "other.npy", *labelled),
        ("fuse", "good.npy", "other.npy", *labelled), ("diagnose", "good.npy", *labelled),
        ("score", "good.npy", *labelled), ("embed", "events.csv"), ("demo",),
        ("predict", "good.npy", "--interactions", "events.csv"),
    ]  # fmt: skip


def test_every_command_refuses_over_max_memory_before_it_starts(files, capsys, monkeypatch):
    def started(*_, **__):
        raise AssertionError("started")

    verbs = every_verb(files)
    assert {words[0] for words in verbs} == {*command.VERBS}
    for name in ("predict", "compare", "upgrade", "stability", "fuse", "diagnose", "standings"):
        monkeypatch.setattr(lens, name, started)
    monkeypatch.setattr("kernlens.cli.demo.run", started)
    monkeypatch.setattr("kernlens.datasets.load", started)
    for words in verbs:
        code, out, err = run(capsys, *words, "--max-memory", "100MB")
        assert (code, out) == (1, ""), words
        assert "of memory, and 100 MB are allowed by --max-memory; give fewer rows" in err, words
        assert err.count("\n") == 1, words
        # Without the option, what is free is the bound.
        with monkeypatch.context() as patch:
            patch.setattr(memory, "free_bytes", lambda: 200 * 10**6)
            code, out, err = run(capsys, *words)
        assert (code, out) == (1, ""), words
        assert "and 200 MB are free; " in err, words
        allowed = err.partition("--max-memory ")[2].split()[0]
        assert memory.parse(allowed) >= memory.HOST, words


def test_what_a_refusal_names_starts_it(files, capsys, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 200 * 10**6)
    given = ("predict", "good.npy", "--labels", "labels.csv", "--json", "-")
    code, _, err = run(capsys, *given)
    assert code == 1
    allowed = err.partition("--max-memory ")[2].split()[0]
    code, out, _ = run(capsys, *given, "--max-memory", allowed)
    assert code == 0
    assert json.loads(out)["memory_bytes"] <= memory.parse(allowed)


def test_an_mlp_too_wide_to_train_is_refused(files, capsys, monkeypatch):
    monkeypatch.setattr(lens, "predict", lambda *_, **__: pytest.fail("started"))
    given = ("predict", "good.npy", "--labels", "labels.csv", "--max-memory", "4GB")
    code, _, err = run(capsys, *given, "--decoder", "mlp:1000000")
    assert (code, err.count("\n")) == (1, 1)
    assert "a smaller decoder, or a larger --max-memory" in err


MLP = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from kernlens.probes import mlp
from kernlens.types import Labels
rng = np.random.default_rng(0)
codes = rng.integers(0, 4, 2000).astype(np.int32)
x = rng.standard_normal((2000, 16)).astype(np.float32)
mlp(x, Labels(codes, tuple("abcd")), hidden=int(sys.argv[1]), steps=6, draws=5)
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.slow
def test_the_memory_of_training_is_above_the_peak_and_below_twice_it(tmp_path):
    width, peaks = 20_000, []
    for own in (32, width):
        done = subprocess.run(
            [sys.executable, "-c", MLP, str(own)], cwd=tmp_path, capture_output=True, text=True,
            env={**PATHS, "PYTHONPATH": str(ROOT)}, check=True,
        )  # fmt: skip
        peaks.append(1024 * int(done.stdout))
    config = SimpleNamespace(decoder=f"mlp:{width}")
    peak = peaks[1] - peaks[0]
    assert peak < memory.of_training(config, 2000, 16, 4) < 2 * peak


def test_large_commands_tell_their_estimate(files, capsys, monkeypatch):
    monkeypatch.setattr(memory, "SHOWN", 10**6)
    monkeypatch.setattr(memory, "free_bytes", lambda: 8 * 10**9)
    code, _, err = run(capsys, "predict", "good.npy", "--labels", "labels.csv")
    assert code == 0
    assert err.startswith("note: needs about ")
    assert err.endswith("MB of memory; 8.0 GB are free\n")


@pytest.mark.thorough
def test_many_classes_have_the_fast_probe_proposed(files, capsys, monkeypatch):
    monkeypatch.setattr("kernlens.cli.rows.SLOW", 100)
    given = ("predict", "good.npy", "--labels", "labels.csv")
    expected = "logistic regression of 4 classes on 150 rows of 6 dimensions may take minutes; "
    assert expected + "--probe discriminant takes seconds" in run(capsys, *given)[2]
    for option in (("--probe", "discriminant"), ("--decoder", "cosine"), ("--kernel", "rbf")):
        assert run(capsys, *given, *option)[2] == ""


ALONE = """
import sys
from pathlib import Path
from types import SimpleNamespace
from kernlens.cli.command import main
code = main()
# The peak that the system hands to a parent is at least what that parent itself had taken.
status = Path("/proc/self/status").read_text()
Path("peak").write_text(status.partition("VmHWM:")[2].split()[0])
sys.exit(code)
"""


def run_alone(folder, *words):
    """Megabytes that the command takes as a process, and the processor's seconds."""
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", ALONE, *words, "--no-cache"], cwd=folder, stdout=said,
            stderr=said, env={**PATHS, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "said").read_text()
    peak = int((folder / "peak").read_text()) / 1024
    return peak, used.ru_utime + used.ru_stime


def peak_of(folder, *words):
    """Megabytes of the command as a process, the processor's seconds, and its own estimate."""
    peak, seconds = run_alone(folder, *words, "--json", "found.json")
    estimate = json.loads((folder / "found.json").read_text())["memory_bytes"]
    return peak, seconds, estimate / 2**20


PATHS = {"PATH": "/usr/bin:/bin"}
ONE, TWO = ("rows.npy",), ("rows.npy", "other.npy")
PEAKS = {
    "predict": ONE, "compare": TWO, "score": TWO, "upgrade": TWO, "stability": TWO, "fuse": TWO,
    "diagnose": (*ONE, "--no-curve"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("verb", PEAKS)
def test_estimates_are_above_the_peak_and_below_twice_it(tmp_path, verb):
    classes_of(tmp_path, 2000, 16, 5)
    rows = np.load(tmp_path / "rows.npy")
    noise = np.random.default_rng(1).standard_normal(rows.shape, dtype=np.float32)
    np.save(tmp_path / "other.npy", rows + 0.5 * noise)
    peak, _, estimate = peak_of(tmp_path, verb, *PEAKS[verb], "--labels", "labels.csv")
    assert peak < estimate < 2 * peak


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "base"), [("ppmi", memory.HOST), ("item2vec", memory.BASE)]
)  # fmt: skip
def test_the_estimate_of_an_embedding_is_above_the_peak_and_below_twice_it(tmp_path, method, base):
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 2500, 50_000), rng.integers(0, 500, 50_000)
    lines = (f"{users[k]},{items[k]},{1_700_000_000 + 60 * k}" for k in range(len(users)))
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(lines))
    given = ("embed", "events.csv", "--method", method, "--epochs", "1")
    peak, _ = run_alone(tmp_path, *given)
    estimate = memory.of_files(tmp_path / "events.csv", base) / 2**20
    assert peak < estimate < 2 * peak


def classes_of(folder, rows, dim, count):
    """Normal classes and their labels, as files."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(rows) % count)
    means = 0.6 * rng.standard_normal((count, dim), dtype=np.float32)
    np.save(folder / "rows.npy", means[codes] + rng.standard_normal((rows, dim), dtype=np.float32))
    (folder / "labels.csv").write_text("label\n" + "".join(f"c{code}\n" for code in codes))


@pytest.mark.slow
def test_a_million_rows_stay_under_a_gigabyte_and_a_half_and_under_the_estimate(tmp_path):
    classes_of(tmp_path, 10**6, 64, 20)
    given = ("predict", "rows.npy", "--labels", "labels.csv")
    for options in (("--probe", "discriminant"), ()):
        peak, _, estimate = peak_of(tmp_path, *given, *options)
        assert peak < 1500
        assert peak < estimate < 2.5 * peak


@pytest.mark.slow
def test_two_thousand_classes_take_under_twenty_seconds_on_two_cores(tmp_path):
    """By the seconds of the processor, which other programs do not lengthen."""
    classes_of(tmp_path, 20_000, 32, 2_000)
    given = ("predict", "rows.npy", "--labels", "labels.csv", "--probe", "discriminant")
    _, seconds, _ = peak_of(tmp_path, *given)
    assert seconds < 2 * 20
