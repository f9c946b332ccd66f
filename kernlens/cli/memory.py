"""How much memory a command will take, told and bounded before it starts."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from kernlens.arrays.memory import free_bytes

Size = Annotated[str | None, tyro.conf.arg(metavar="SIZE")]

BASE = 550 * 2**20
"""Bytes of Python, JAX and compiled programs, whatever the rows."""

HOST = 250 * 2**20
"""The same without JAX."""

PER_LABEL, PER_ROW = 250, 50
"""Bytes of a label with its id, as text, and of a row's place in every file."""

PASSED, MOST_PASSED = 3, 2**27
"""Copies of the rows while they are standardised and checked, and bytes of these at most: more rows
pass in chunks."""

TRAINED, LAYERS, BATCH = 6, 3, 256
"""Copies of the weights of a head in training, and of its hidden layer for a batch of rows."""

DEMO = 2 * 10**9
"""Bytes that the demo takes at most: twice what its short form took."""

SHOWN = 2 * 10**9
"""Bytes from which on the estimate is printed to standard error, and not only on a terminal."""

UNPACKED = 10
"""What a packed text file becomes, at most of those seen."""

_SUFFIX = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Work(NamedTuple):
    """What a verb does, as far as memory goes.

    Attributes:
      copies: of the joined rows, as features, at a time.
      answers: numbers a row and class at a time.
      kept: predictions that are kept to the end, a number a row and class each.
      base: bytes of Python, JAX and compiled programs, whatever the rows.
      joins: whether embeddings are joined side by side.
    """

    copies: float = 1.2
    answers: float = 4.0
    kept: int = 1
    base: int = BASE
    joins: bool = False


SEVERAL = Work(copies=8.0, answers=8.0, kept=8, base=650 * 2**20)
"""Of verbs that fit many heads, to several embeddings and to what is made of them."""

SCORES = Work(copies=2.0, base=650 * 2**20)
"""Of scores, whose intervals are compiled programs of their own."""


class Needs(NamedTuple):
    """What a command takes at most.

    Attributes:
      size: bytes.
      told: the same in words, and what is free.
    """

    size: int = 0
    told: str = ""

    def __str__(self) -> str:
        return self.told


def parse(text: str | None) -> int | None:
    """Bytes of a size such as ``2GB``, ``1.5 GiB`` or ``500000000``; None for none.

    Raises:
      ValueError: another text, or no size above 0.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([KMGT]?)(I?)B?", text.strip().upper())
    size = 0
    if found is not None:
        unit = _SUFFIX[found[2]]
        size = int(float(found[1]) * (1024 ** "_KMGT".index(found[2] or "_") if found[3] else unit))
    if size <= 0:
        raise ValueError(f"--max-memory must be a size such as 2GB or 500MB; got {text!r}")
    return size


def of_rows(
    shapes: Sequence[tuple[int, int]], num_rows: int, outputs: int, work: Work, width: int
) -> int:
    """Bytes that a verb needs at most, by the rows and columns of its files.

    Args:
      shapes: rows and dimensions of each embedding file.
      num_rows: rows of the label file.
      outputs: classes, or labels in one row; 1 for numbers.
      work: what the verb does.
      width: features that a decoder or kernel makes of a row, as `width_of` says.
    """
    from kernlens.lens.reading import IN_MEMORY, MAX_EXACT
    from kernlens.probes.given import MAX_NUMBERS, MAX_ROWS

    rows = min(min(n for n, _ in shapes), num_rows)
    dims = [d for _, d in shapes]
    widest = max(width, sum(dims) if work.joins else max(dims))
    # The rows read, and those joined; they are the same where all stay in place.
    read = 4 * sum(n * d for n, d in shapes) + 4 * rows * sum(dims)
    fitted = min(rows, MAX_ROWS, MAX_NUMBERS // (widest + outputs))
    solved = 4 * fitted * (work.copies * (widest + 8) + work.answers * outputs)
    passed = min(4 * PASSED * rows * widest, MOST_PASSED)
    held = min(4 * rows * width, IN_MEMORY)
    gram = 12 * min(rows, MAX_EXACT) ** 2 if width > max(dims) else 0
    kept = 4 * rows * outputs * work.kept
    text = PER_LABEL * num_rows + PER_ROW * sum(n for n, _ in shapes)
    return int(work.base + read + solved + passed + held + gram + kept + text)


def width_of(config: Any, rows: int, dim: int) -> int:
    """Features that the heads and the kernel of a command line make of a row at most; 0 for the
    dimensions themselves."""
    from kernlens.kernels.hidden import LEARNT, MAX_HIDDEN
    from kernlens.lens.reading import LANDMARKS, MAX_EXACT

    given = getattr(config, "decoder", None) or ()
    decoders = (given,) if isinstance(given, str) else tuple(given)
    widths = [0]
    if getattr(config, "kernel", None) not in (None, "linear"):
        widths.append(min(rows, max(LANDMARKS, MAX_EXACT if rows <= MAX_EXACT else 0)))
    if getattr(config, "probe", None) == "mlp":
        widths.append(dim + MAX_HIDDEN)
    for word in decoders:
        name = word.partition(":")[0]
        if name in ("linear", "inner-product", "cosine", "knn"):
            continue
        if name == "mlp":
            sizes = [int(part) for part in word.split(":")[1:] if part.isdigit()]
            widths.append(dim + min([MAX_HIDDEN, *(LEARNT * size for size in sizes[:1])]))
        else:
            widths.append(min(rows, MAX_EXACT))
    return max(widths)


def of_training(config: Any, rows: int, dim: int, outputs: int) -> int:
    """Bytes that the widest MLP of a command line takes while it is trained, one for each fold.

    Args:
      config: the command line.
      rows: that are read.
      dim: columns of the embedding.
      outputs: classes; 1 of numbers, for which nothing is trained.
    """
    from kernlens.probes.folds import FOLDS

    given = getattr(config, "decoder", None) or ()
    words = [word.split(":") for word in ((given,) if isinstance(given, str) else given)]
    width = max((int(own[1]) for own in words if own[0] == "mlp" and len(own) > 1), default=0)
    if outputs == 1:
        return 0
    weights = TRAINED * width * (dim + outputs)
    return 4 * (FOLDS * (weights + LAYERS * BATCH * width) + 2 * width * rows // FOLDS)


def of_files(path: Path, base: int = BASE) -> int:
    """Bytes that a log of events needs at most, by the size of its files.

    Args:
      path: a file, or a folder of them.
      base: bytes of what is needed whatever the events; :data:`HOST` without JAX.
    """
    paths = [path] if path.is_file() else [own for own in path.rglob("*") if own.is_file()]
    sizes = (
        own.stat().st_size * (UNPACKED if own.suffix in (".gz", ".parquet") else 1) for own in paths
    )
    return base + 6 * sum(sizes)


def check(needed: int, most: str | None) -> Needs:
    """Refuses a command that needs more memory than it may have.

    Args:
      needed: bytes, an estimate.
      most: ``--max-memory``; what is free where it is None.

    Returns:
      The estimate, to show while it computes.

    Raises:
      ValueError: more is needed; says both, and what to do.
    """
    bound = parse(most)
    free = free_bytes()
    if needed > (free if bound is None else bound):
        against = "free" if bound is None else "allowed by --max-memory"
        raise ValueError(
            f"this needs about {_shown(needed)} of memory, and {_shown(bound or free)} are "
            f"{against}; give fewer rows or embeddings at a time, a smaller decoder, or "
            f"{'close other programs' if bound is None else 'a larger --max-memory'}"
            + (f"; --max-memory {_shown(needed, '')} starts it all the same" * (bound is None))
        )
    told = f"about {_shown(needed)} of memory; {_shown(free)} are free"
    if needed > SHOWN and not sys.stderr.isatty():
        print(f"note: needs {told}", file=sys.stderr)
    return Needs(needed, told)


def _shown(size: int, space: str = " ") -> str:
    if size < 10**9:
        return f"{-(-size // 10**6):,}{space}MB"
    return f"{size / 10**9:,.1f}{space}GB"
