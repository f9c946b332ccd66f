"""Embeddings among the data sets of an HDF5 file.

A file can say that its values lie in another file: as external storage, through an external link,
or as a virtual data set. None of these is followed, for they read what the user did not name. The
library itself runs in a process of its own (:mod:`kernlens.io.hdf5_server`), which a damaged file
may end.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files
from kernlens.io.columns import array_ids
from kernlens.io.limits import Asked
from kernlens.io.stored import Stored, StoredArray, choose_arrays, matrix_shape, real_dtype


def open_hdf5(path: Path, asked: Asked) -> Stored:
    """A data set of an HDF5 file, in any group."""
    files.optional("h5py", extra="hdf5")  # what is missing here is missing there
    described, _ = _SERVER.ask(path, "listed")
    facts: dict[str, dict[str, Any]] = described["found"]
    arrays = {
        name: StoredArray(tuple(one["shape"]), "text" if one["text"] else _dtype(one["dtype"]))
        for name, one in facts.items()
    }
    key, ids, scale, told = choose_arrays(path, arrays, asked)
    dtype = real_dtype(path, arrays[key].dtype)
    shape = matrix_shape(path, arrays[key].shape, dtype, asked)
    for name in (key, ids, scale):
        if name is not None:
            _check_written(path, name, arrays[name], facts[name], asked)
    found = None
    if ids is not None:
        if facts[ids]["length"]:
            asked.limits.check_text(f"{path}, ids {ids!r}", facts[ids]["length"])
        found = array_ids(path, ids, _whole(path, ids), shape[0], asked.limits)
    scales = None if scale is None else _whole(path, scale)
    blocks = partial(_blocks, path, key)
    return Stored(shape, dtype, blocks, found, scales, told=told)


def _dtype(name: str) -> np.dtype | str:
    try:
        return np.dtype(name)
    except TypeError:
        return name


def _check_written(
    path: Path, name: str, array: StoredArray, facts: dict[str, Any], asked: Asked
) -> None:
    """Refuses what was declared and never written, and reads as zeros."""
    kind = array.dtype if isinstance(array.dtype, np.dtype) else np.dtype("u1")
    asked.limits.check_shape(path, array.shape, kind)
    if facts["chunks"] is None:
        expected = min(facts["written"], 1) if 0 in array.shape else 1
        is_whole = facts["written"] >= expected
    else:
        asked.limits.check_shape(path, tuple(facts["chunks"]), kind)
        sides = zip(array.shape, facts["chunks"], strict=True)
        expected = int(np.prod([-(-side // max(1, chunk)) for side, chunk in sides], dtype=object))
        is_whole = facts["written"] == expected
    if not is_whole:
        raise ValueError(
            f"{path}: data set {name!r} was declared with shape {array.shape} and not written in "
            "full: the rest would read as zeros"
        )


def _whole(path: Path, name: str) -> np.ndarray:
    described, data = _SERVER.ask(path, "whole", name=name)
    if "dtype" not in described:
        texts = np.empty(int(np.prod(described["shape"])), object)
        texts[:] = json.loads(data)
        return texts.reshape(described["shape"])
    return np.frombuffer(data, described["dtype"]).reshape(described["shape"])


def _blocks(path: Path, key: str, start: int, stop: int, rows: int) -> Iterator[np.ndarray]:
    for first in range(start, stop, rows):
        last = min(first + rows, stop)
        described, data = _SERVER.ask(path, "rows", name=key, start=first, stop=last)
        yield np.frombuffer(data, described["dtype"]).reshape(described["shape"])


class _Server:
    """The reading process, started when it is needed and again when it has died."""

    def __init__(self):
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def ask(self, path: Path, what: str, **more: Any) -> tuple[dict[str, Any], bytes]:
        """A reply and its bytes; a damaged file is a ValueError."""
        size = path.stat().st_size
        request = {"what": what, "path": str(path.absolute()), "size": size, **more}
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
                reply = json.loads(line) if line else None
                data = b"" if reply is None else process.stdout.read(reply["bytes"])
            except BrokenPipeError:
                reply, data = None, b""
            except BaseException:  # a reply that was not read would answer the next request
                self.stop()
                raise
            if reply is None:
                raise ValueError(f"{path}: truncated or damaged HDF5 file: {self._ended()}")
        if "refused" in reply:
            raise ValueError(f"{path}: {reply['refused']}")
        if "error" in reply:
            raise ValueError(f"{path}: truncated or damaged HDF5 file: {reply['error']}")
        return reply, data

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid():
            script = Path(__file__).with_name("hdf5_server.py")
            # The same packages as here, and no module of this folder in place of another.
            where = os.pathsep.join(own for own in sys.path if own)
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": where},
            )
            self._owner = os.getpid()
        return self._process

    def _ended(self) -> str:
        """How the process died."""
        assert self._process is not None
        code = self._process.wait()
        self.stop()
        if code == -getattr(signal, "SIGXCPU", 0):
            return "HDF5's library did not come to an end on it"
        return f"HDF5's library ended with code {code} on it"

    def stop(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()


_SERVER = _Server()
atexit.register(_SERVER.stop)
