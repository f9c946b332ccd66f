"""Files survive a process that is killed, a full disk and a folder that cannot be written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernlens import files

ROOT = Path(__file__).parents[1]


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def remount(disk, option):
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    calls, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("sync"), sync(file))[1])
    monkeypatch.setattr(os, "replace", lambda *to: (calls.append("rename"), replace(*to))[1])
    files.write_atomically(tmp_path / "a.json", "{}")
    assert calls == ["sync", "rename", "sync"]  # the file, and then the folder with its new name


WRITER = """
import os, sys, time
from kernlens import files
sync = os.fsync
def wait(file):
    print("half", flush=True)
    time.sleep(600)
os.fsync = wait
files.write_atomically(sys.argv[1], "new")
"""


def writer(path):
    """A process that has written half of a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    process = writer(path)
    try:
        (aside,) = set(names(tmp_path)) - {"a.json"}
        assert aside.endswith(".part")
        assert files.clean(tmp_path) == 0
        assert aside in names(tmp_path)
    finally:
        process.kill()
        process.communicate()
    assert path.read_text() == "old"
    (tmp_path / ".b.json.7.3.part").write_text("of another file")
    files.check_writable(path)
    assert names(tmp_path) == [".b.json.7.3.part", "a.json"]
    assert files.clean(tmp_path) == 1
    assert names(tmp_path) == ["a.json"]


def test_a_file_with_another_name_is_never_taken_for_left_over(tmp_path):
    kept = [".part", "a.json.7.part", ".a.part", ".a.x.part", ".a.json.7.parts"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    assert files.clean(tmp_path) == 0
    assert names(tmp_path) == sorted(kept)


def test_long_names_and_names_in_other_encodings_are_written(tmp_path):
    for name in ("x" * 255, "ä" * 127, os.fsdecode(b"caf\xe9.json")):
        files.check_writable(tmp_path / name)
        files.write_atomically(tmp_path / name, "content")
        assert (tmp_path / name).read_text() == "content"
    assert len(names(tmp_path)) == 3
    with pytest.raises(OSError, match="File name too long"):
        files.check_writable(tmp_path / ("x" * 256))


def test_json_holds_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "a.json"
    given = {"file": os.fsdecode(b"caf\xe9"), "é": "\\udcff"}
    files.write_atomically(path, json.dumps(given, ensure_ascii=False))
    assert json.loads(path.read_text(encoding="utf-8")) == given


def test_a_full_disk_keeps_what_was_there(disk):
    path = disk / "a.json"
    files.write_atomically(path, "old" * 1000)
    with pytest.raises(OSError, match=r"a\.json: cannot be written: No space left on device; what"):
        files.write_atomically(path, bytes(2**21))
    assert path.read_text() == "old" * 1000
    assert names(disk) == ["a.json"]


def test_a_bound_on_the_size_of_files_keeps_what_was_there(tmp_path):
    """The same without a disk of its own: the system refuses the write half way."""
    path = tmp_path / "a.json"
    path.write_text("old")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from kernlens import files\n"
        "try:\n    files.write_atomically(sys.argv[1], bytes(10_000))\n"
        "except OSError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{path}: cannot be written: File too large; what it held is kept\n"
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_disk_that_is_read_only_is_refused_before_the_work(disk):
    path = disk / "a.json"
    path.write_text("old")
    remount(disk, "ro")
    for check in (
        lambda: files.check_writable(path),
        lambda: files.check_folder("--out", disk / "new" / "folder"),
    ):
        with pytest.raises(OSError, match="cannot be written: Read-only file system"):
            check()
    assert path.read_text() == "old"
    assert names(disk) == ["a.json"]


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    """Of a user who is not root; root's own permission is taken away by a fault of the system."""
    folder = tmp_path / "out"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):

        def refused(path, mode="r", *rest):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", refused)
    for check in (
        lambda: files.check_writable(folder / "a.json"),
        lambda: files.check_folder("--out", folder),
    ):
        with pytest.raises(PermissionError, match="cannot be written: Permission denied"):
            check()
    assert names(folder) == []


HOLDER = """
import sys, time
from pathlib import Path
from kernlens import files
with files.held("--out", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_is_held_until_its_process_ends_however_it_ends(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        expected = rf"--out {tmp_path}: another run, process {process.pid} on .+, is writing there"
        with pytest.raises(ValueError, match=expected), files.held("--out", tmp_path):
            raise AssertionError("held by two")
    finally:
        process.kill()
        process.communicate()
    assert names(tmp_path) == [".lock"]
    with files.held("--out", tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
        with pytest.raises(ValueError, match="another run"), files.held("--out", tmp_path):
            raise AssertionError("held twice")
    assert names(tmp_path) == []


@pytest.mark.thorough
def test_processes_that_take_turns_never_hold_a_folder_together(tmp_path):
    """Four processes, each holding the folder many times; who holds it is alone in its note."""
    code = """
import os, sys
from pathlib import Path
from kernlens import files
folder, turns = Path(sys.argv[1]), 0
while turns < 50:
    try:
        with files.held("--out", folder):
            note = folder / "holder"
            assert not note.exists()
            note.write_text("here")
            note.unlink()
        turns += 1
    except ValueError:
        pass
"""
    words = [sys.executable, "-c", code, tmp_path]
    running = [subprocess.Popen(words, cwd=ROOT) for _ in range(4)]
    assert [process.wait(timeout=120) for process in running] == [0] * 4
    assert names(tmp_path) == []


def test_a_disk_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", none)
    files.write_atomically(tmp_path / "a", "content")
    with files.held("--out", tmp_path):
        assert (tmp_path / "a").read_text() == "content"
    assert files.clean(tmp_path) == 0


PROGRAMS = """
import warnings, sys
import jax, jax.numpy as jnp
from kernlens.files import use_compilation_cache
use_compilation_cache()
x = jnp.arange(3.0)
for i in range(4):
    def program(x):
        return x * i + 1
    program.__name__ = f"own{i}"
    program.__qualname__ = program.__name__
    jax.jit(program)(x).block_until_ready()
"""


def run_programs(cache):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMP")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**environment, "KERNLENS_CACHE": str(cache)},
    )  # fmt: skip
    return done.stderr


@pytest.mark.thorough
def test_a_damaged_compilation_cache_is_made_again(tmp_path):
    assert run_programs(tmp_path) == ""
    whole = {path.name: path.stat().st_size for path in tmp_path.glob("*-cache")}
    assert sum("own" in name for name in whole) == 4
    for i, path in enumerate(sorted(tmp_path.glob("*-cache"))):
        content = path.read_bytes()
        path.write_bytes([content[: len(content) // 2], b"", content[:-1] + b"\0"][i % 3])
        os.utime(path, (path.stat().st_mtime - 60,) * 2)
    told = run_programs(tmp_path)
    assert told == f"note: compiled programs in {tmp_path} were damaged; they are made again\n"
    again = {path.name: path.stat().st_size for path in tmp_path.glob("*-cache")}
    assert set(again) == set(whole)
    assert run_programs(tmp_path) == ""


@pytest.mark.thorough
def test_a_program_that_another_process_is_writing_is_left_to_it(tmp_path):
    assert run_programs(tmp_path) == ""
    begun = next(tmp_path.glob("*own*-cache"))
    begun.write_bytes(begun.read_bytes()[:100])
    assert run_programs(tmp_path) == ""
    assert begun.stat().st_size == 100


@pytest.mark.thorough
def test_a_compilation_cache_on_a_full_disk_is_turned_off(disk):
    (disk / "filler").write_bytes(bytes(2**20 - 8192))
    assert run_programs(disk) == ""
    (disk / "filler").unlink()
    assert run_programs(disk) == ""
    assert len(list(disk.glob("*own*-cache"))) == 4
