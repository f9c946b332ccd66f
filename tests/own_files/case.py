"""One file as a stranger brings it, with the answer that is right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kernlens.cli.command import main

N, DIM, CLASSES = 600, 8, 4
_RNG = np.random.default_rng(17)
CODES = _RNG.integers(0, CLASSES, N)
ROWS = (
    _RNG.standard_normal((CLASSES, DIM))[CODES] * 0.5 + 1.5 * _RNG.standard_normal((N, DIM))
).astype(np.float32)
NAMES = np.array([f"c{code}" for code in CODES])
COLUMNS = [f"d{i}" for i in range(DIM)]
ORDER = np.random.default_rng(3).permutation(N)
REFUSED = "refused"
PROBE = ("--probe", "discriminant")
"""Leaves out each row in turn, so that the order of the rows does not matter."""


class Case(NamedTuple):
    """Files that were once read wrongly.

    Attributes:
      fault: what was wrong, in a few words; unique.
      make: writes the files into a folder.
      words: the words after ``kernlens predict``.
      before: macro-F1 that commit 178848f gave, or ``"refused"``.
      right: the rows and labels that are right, or ``"refused"``.
      says: what has to be among the words printed, such as the option that mends it.
    """

    fault: str
    make: Callable[[Path], None]
    words: str
    before: float | str
    right: Callable[[], tuple[np.ndarray, np.ndarray]] | str
    says: str = ""

    @property
    def call(self) -> str:
        """The command."""
        return f"kernlens predict {self.words}"


def same() -> tuple[np.ndarray, np.ndarray]:
    """All rows with their labels."""
    return ROWS, NAMES


def without(*rows: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """All rows but some."""
    return lambda: (np.delete(ROWS, rows, axis=0), np.delete(NAMES, rows))


def measured(words: str, folder: Path, capsys) -> tuple[float | str, str]:
    """Macro-F1 of the command, or ``"refused"``; and all that it printed."""
    path = folder / "answer.json"
    path.unlink(missing_ok=True)
    code = main(["predict", *words.split(), *PROBE, "--no-cache", "--json", str(path)])
    out, err = capsys.readouterr()
    assert code in (0, 1), err
    if code:
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return REFUSED, err
    return json.loads(path.read_text())["metrics"]["macro_f1"]["value"], " ".join(
        (out + err).split()
    )


def wide(**more) -> pd.DataFrame:
    """Id and dimensions, a column each, and more columns."""
    frame = pd.DataFrame(ROWS, columns=COLUMNS)
    frame.insert(0, "id", range(N))
    return frame.assign(**more)


def labels(path: Path, ids=range(N), names=NAMES, head="id,label", separator=",") -> None:
    """A labels file."""
    lines = [f"{id_}{separator}{name}\n" for id_, name in zip(ids, names, strict=True)]
    path.write_text(f"{head}\n" * bool(head) + "".join(lines))
