"""Writes docs/transcripts.md: what each verb of the command line prints on Complete Journey.

    python -m experiments.kit.transcripts

Three item2vec embeddings that differ in their seeds, leading components of the words of the items'
texts, departments as labels and counts of interactions are written to files; each command is run
on them, and printed with its output.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.kit import committed
from experiments.kit.cells import Cells
from experiments.lens_stability import runs as sources
from kernlens import datasets, targets
from kernlens.cli.command import main
from kernlens.files import write_atomically
from kernlens.show import report
from kernlens.types import Interactions, Labels

PAGE = committed.HOME.parent / "docs" / "transcripts.md"
LABEL, LEAST = "department", 50
"""The label, and the smallest class that is kept."""
RUNS = 3
WIDTH = 100
"""Columns of the terminal."""

HEAD = f"""# The verbs on Complete Journey

What four commands print for items of Complete Journey. `run0.npy` to `run2.npy` are item2vec
embeddings of 32 columns that differ in their seeds alone, `text.npy` has 32 components of the words
of the items' texts, `departments.csv` the department of each item, of those with {LEAST} items or
more, and `counts.csv` how often an item was bought. `python -m experiments.kit.transcripts` writes
this page.
"""

COMMANDS = {
    "The embedding was retrained with another seed": (
        "kernlens upgrade run0.npy run1.npy --labels departments.csv"
    ),
    "How much do results move from run to run?": (
        "kernlens stability run0.npy run1.npy run2.npy --labels departments.csv"
    ),
    "Why does it fail, and what would help?": (
        "kernlens diagnose run0.npy --labels departments.csv --counts counts.csv"
    ),
    "Does a text add anything?": "kernlens fuse run0.npy text.npy --labels departments.csv",
}
"""Commands by what they answer."""


def write_files(
    folder: Path, data: Interactions, embeddings: list[np.ndarray], text: np.ndarray, label: Labels
) -> None:
    """Writes what the commands read, the items with a label alone."""
    rows = targets.labelled_rows(label)
    for number, embedding in enumerate(embeddings):
        np.save(folder / f"run{number}.npy", np.asarray(embedding)[rows])
    np.save(folder / "text.npy", np.asarray(text)[rows])
    columns = {
        "departments.csv": ("department", [label.names[code] for code in label.codes[rows]]),
        "counts.csv": ("count", data.counts[rows].tolist()),
    }
    for name, (head, values) in columns.items():
        lines = [f'"{value}"' if isinstance(value, str) else str(value) for value in values]
        (folder / name).write_text("\n".join([head, *lines]) + "\n")


def printed(command: str) -> str:
    """What a command prints to standard output, without spaces at the ends of lines.

    Raises:
      RuntimeError: it fails.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command.split()[1:])
    if code:
        raise RuntimeError(f"{command}: {err.getvalue()}")
    return re.sub(r" +$", "", out.getvalue(), flags=re.MULTILINE).strip("\n")


def page(folder: Path) -> str:
    """The page, from commands run in a folder."""
    with _in(folder):
        parts = [
            f"## {title}\n\n```text\n{command}\n\n{printed(command)}\n```"
            for title, command in COMMANDS.items()
        ]
    return "\n\n".join([HEAD.rstrip(), *parts]) + "\n"


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def made(cells: Path, data: str = "complete_journey") -> str:
    """The page of a data set, its embeddings made once and kept in a folder of cells."""
    found = datasets.load(data)
    kept = Cells(cells / "lens_runs" / data, report.console())
    items = sources.items_of(found, kept)
    embeddings = [items.embed(sources.Run(seed=seed)) for seed in range(RUNS)]
    text = sources.texts(found.text, 1, 32)[0]
    label = targets.drop_rare(found.labels[LABEL], LEAST)
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), found, embeddings, text, label)
        return page(Path(folder))


if __name__ == "__main__":
    write_atomically(PAGE, made(Path(sys.argv[1] if len(sys.argv) > 1 else "runs")))
