"""Heads that read a sample of the rows, told before anything is computed."""

import math
from collections.abc import Sequence
from typing import Any

from kernlens.cli import memory
from kernlens.cli.rows import Rows
from kernlens.targets import labelled_rows
from kernlens.types import Labels


def check_export(config: Any, rows: Rows) -> None:
    """Refuses ``--export`` where a head will read a sample of the rows.

    Args:
      config: the command line.
      rows: that were read.

    Raises:
      ValueError: says how many rows the head reads, and of how many.
    """
    if config.export is None or rows.joined is None:
        return
    target = rows.joined.labels
    n = len(labelled_rows(target))
    most = config.most_rows([own.shape[1] for own in rows.values.values()], target)
    if n > most:
        other = ", --probe discriminant, which reads all" * hasattr(config, "probe")
        raise ValueError(
            f"--export needs an answer to each row, and the head reads a sample of {most:,} of "
            f"the {n:,} labelled rows; expected fewer rows{other}, or no --export"
        )


def most_rows(config: Any, dims: Sequence[int], target: Any) -> float:
    """Labelled rows up to which every head of a command line reads all.

    Args:
      config: the command line.
      dims: columns of each embedding.
      target: what is predicted.
    """
    if not isinstance(target, Labels):
        return math.inf
    given = getattr(config, "decoder", None) or ("linear",)
    width = sum(dims) if config.work(len(dims)).joins else max(dims)
    words = (given,) if isinstance(given, str) else given
    return min(_of_head(config, word, width, len(target.names)) for word in words)


def _of_head(config: Any, word: str, dim: int, classes: int) -> float:
    from kernlens.lens.reading import LANDMARKS, SKETCHED
    from kernlens.probes import given
    from kernlens.probes.mlp import MAX_NUMBERS, MAX_ROWS

    name, probe = word.partition(":")[0], getattr(config, "probe", None)
    own = {"mlp": "mlp", "inner-product": "class_means", "cosine": "class_means",
           "knn": "neighbours"}  # fmt: skip
    if getattr(config, "kernel", None) is not None:
        own, width = {}, LANDMARKS
    elif name == "mlp":
        width = dim if probe is None else memory.width_of(config, 0, dim)
    else:
        width = dim if name in ("linear", *own) else SKETCHED
    most = max(given.MAX_NUMBERS // (width + 1 + 4 * classes), 1)
    probe = probe or own.get(name, "logistic")
    if probe == "logistic":
        return min(most, given.MAX_ROWS)
    if probe == "mlp":
        return min(most, MAX_ROWS, max(MAX_NUMBERS // width, 1))
    return math.inf
