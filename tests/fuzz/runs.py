"""Runs of the worker: files in, endings out, a new process after a crash."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.fuzz import mutations, samples

SECONDS = 20.0
PATIENCE = 240.0
"""Seconds of a loaded machine after which a process is taken to hang."""

MEGABYTES = 2000.0
_ROOT = Path(__file__).parents[2]


class Ending(NamedTuple):
    """How reading one damaged file ended.

    Attributes:
      name: of the format's sample.
      number: of the mutation, which with the name gives its seed.
      code: exit code; the negative signal of a process that died; None where it was stopped.
      err: what was printed as an error.
      length: of that, in characters.
      seconds: of the processor that it took.
      peak: largest resident memory, in MB.
    """

    name: str
    number: int
    code: int | None
    err: str
    length: int
    seconds: float
    peak: float

    @property
    def fault(self) -> str | None:
        """What is wrong with it; None for a clean one."""
        if self.code is None:
            return f"no answer in {PATIENCE:.0f} s"
        if self.code < 0:
            return f"signal {signal.Signals(-self.code).name}"
        if self.code not in (0, 1, 2):
            return f"exit code {self.code}"
        if "Traceback" in self.err or "error: unexpected" in self.err:
            return f"not caught: {self.err[-300:]}"
        if self.peak > MEGABYTES:
            return f"{self.peak:.0f} MB"
        if self.length > 2000 or "\x1b" in self.err:
            return f"an error of {self.length} characters, or with control characters"
        return None


class Worker:
    """The process, started anew when it died."""

    def __init__(self):
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def run(self, words: list[str]) -> dict:
        """How the command ended."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, cwd=_ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"},
            )  # fmt: skip
            self.run(
                ["predict", "absent.npy", "--labels", "absent.csv"]
            )  # so that imports do not count
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(words) + "\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            # A loaded machine starts a process slowly; what a file takes is told by the process.
            if not selector.select(PATIENCE):
                self.stop()
                return {"code": None, "err": "", "length": 0, "seconds": PATIENCE, "peak": 0}
        line = process.stdout.readline()
        if line:
            return json.loads(line)
        code = process.wait()
        self._process = None
        return {"code": code, "err": "", "length": 0, "seconds": 0.0, "peak": 0.0}

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def endings(name: str, count: int, folder: Path, worker: Worker) -> Iterator[Ending]:
    """Reads ``count`` mutations of a sample, embeddings or labels."""
    kinds = {**samples.EMBEDDINGS, **samples.LABEL_FILES, **samples.EVENT_FILES}
    path = folder / name
    kinds[name](path)
    whole = path.read_bytes()
    partner = folder / ("partner.npy" if name in samples.LABEL_FILES else "partner.csv")
    if name in samples.LABEL_FILES:
        np.save(partner, samples.X)
        words = ["predict", str(partner), "--labels", str(path)]
    elif name in samples.EVENT_FILES:
        words = ["embed", str(path), "--min-count", "1"]
    else:
        ids = "w" if name in WORDS_ARE_IDS else ""
        rows = "".join(f"{ids}{i},c{i % 3}\n" for i in samples.IDS)
        partner.write_text("id,label\n" + rows)
        words = ["predict", str(path), "--labels", str(partner)]
    first = worker.run(words)
    assert first["code"] == 0, f"{name}: the whole file is refused: {first['err']}"
    for number in range(count):
        rng = np.random.default_rng([number, *name.encode()])
        path.write_bytes(mutations.mutated(whole, rng))
        yield Ending(name, number, **worker.run(words))


WORDS_ARE_IDS = (
    "lists.parquet", "file.arrow", "stream.arrow", "packed.feather", "plain.h5", "packed.h5",
)  # fmt: skip
"""Samples whose ids are text."""
