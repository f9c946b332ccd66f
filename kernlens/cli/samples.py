"""Heads that read a sample of the rows, told before anything is computed."""

import math
from collections.abc import Sequence
from typing import Any

from kernlens.cli import words
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
    heads = (given,) if isinstance(given, str) else given
    return min(_of_head(config, word, width, len(target.names)) for word in heads)


def _of_head(config: Any, word: str, dim: int, classes: int) -> float:
    from kernlens.probes import given, logistic, mlp
    from kernlens.probes.mlp import MAX_NUMBERS, MAX_ROWS

    width, probe = _read(config, word, dim, classes)
    most = max(given.MAX_NUMBERS // (width + 1 + 4 * classes), 1)
    if probe is logistic:
        return min(most, given.MAX_ROWS)
    if probe is mlp:
        return min(most, MAX_ROWS, max(MAX_NUMBERS // width, 1))
    return math.inf


def _read(config: Any, word: str, dim: int, classes: int) -> tuple[int, Any]:
    """Features of a row, and the probe that reads them."""
    import jax
    import jax.numpy as jnp

    from kernlens.kernels.of_decoder import layers_of, rule_of
    from kernlens.kernels.readout import Readout
    from kernlens.lens.predict import READOUTS
    from kernlens.lens.reading import LANDMARKS, SKETCHED

    probe = words.probe(getattr(config, "probe", None))
    if getattr(config, "kernel", None) is not None:
        return LANDMARKS, probe or READOUTS[Readout.LINEAR]
    decoder = words.decoder(word)
    if probe is None and layers_of(decoder) is not None:
        return dim, READOUTS[Readout.LAYERS]
    rule = rule_of(decoder)
    if rule is None:
        return SKETCHED, probe or READOUTS[Readout.LINEAR]
    made = rule.kernel(decoder, dim=dim, num_outputs=classes, seed=0)
    width = SKETCHED
    if made.feature_map is not None:
        row = jax.ShapeDtypeStruct((1, dim), jnp.float32)
        width = jax.eval_shape(made.feature_map, row).shape[1]
    return width, probe or READOUTS[made.readout]
