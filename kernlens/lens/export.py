"""Rows of a result as Parquet, for tools that show embeddings: embedding-atlas, Spotlight."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from kernlens.arrays.embeddings import as_named, as_rows
from kernlens.files import write_atomically
from kernlens.kernels.mapped import sampled
from kernlens.lens import mistakes
from kernlens.lens.advice import Upgrade
from kernlens.lens.diagnosis import Diagnosis
from kernlens.lens.report import names_of
from kernlens.lens.verdicts import ABSENT
from kernlens.targets import as_target, labelled_rows, num_rows
from kernlens.types import Stream


def export(
    result: Any,
    path: str | Path,
    *,
    embeddings: Any = None,
    ids: Any = None,
    target: Any = None,
) -> None:
    """Writes a row for each labelled row: id, map, truth, answer, held-out loss and flags.

    Columns are ``id``; ``x`` and ``y``, the first two principal components; ``target``,
    ``predicted``, ``loss`` (null of a row that was never held out) and ``wrong``, of the best,
    advised or only prediction; of a diagnosis
    ``cause_...`` for each cause that blames rows; of an upgrade ``change``.

    Args:
      result: of ``predict``, ``compare``, ``upgrade``, ``stability``, ``diagnose`` or ``fuse``.
      path: file to write, ``.parquet``.
      embeddings: what the verb was given, for the map: of the best embedding, of an upgrade's new
        version, else of the first. Default: no map.
      ids: as for :func:`kernlens.lens.report.report`.
      target: as for :func:`kernlens.lens.report.report`.

    Raises:
      ValueError: a result without rows, a path without ``.parquet``, or numbers of rows that
        differ.
      OSError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = check_path(path)
    found = mistakes.judged(result)
    if found is None:
        raise ValueError(
            f"export writes rows with an answer each, and a {type(result).__name__} has none; "
            "expected one of predict, compare, upgrade, stability, diagnose or fuse on a target"
        )
    prediction = found.prediction
    answers, n = mistakes.answers(prediction), len(prediction.target)
    names = names_of(result, ids, target)
    columns: dict[str, Any] = {"id": list(map(str, range(n) if names is None else names))}
    if embeddings is not None:
        which = -1 if isinstance(result, Upgrade) else 0
        places = _map(_rows(embeddings, found.name, which), n, target)
        columns |= {"x": places[:, 0], "y": places[:, 1]}
    told = [
        [mistakes.cell(prediction, value) for value in own] if prediction.names
        else np.asarray(own, np.float64)
        for own in (answers.target, answers.predicted)
    ]  # fmt: skip
    columns |= {"target": told[0], "predicted": told[1]}
    columns["loss"] = pa.array(np.asarray(prediction.losses), mask=~answers.counted)
    if prediction.names:
        differ = answers.target != answers.predicted
        columns["wrong"] = differ.any(axis=1) if differ.ndim == 2 else differ
    if isinstance(result, Diagnosis):
        known = None if target is None else labelled_rows(as_target(target))
        columns |= _causes(result, n, known)
    if isinstance(result, Upgrade):
        change = np.full(n, "same", object)
        flips = result.chosen.flips
        for kind, places in zip(
            result.kinds.values(),
            (flips.negative_rows, flips.positive_rows, flips.other_rows),
            strict=True,
        ):
            change[places] = kind
        columns["change"] = change.tolist()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    write_atomically(path, sink.getvalue().to_pybytes())


def check_path(path: str | Path) -> Path:
    """The path, where it ends in ``.parquet``.

    Raises:
      ValueError: it does not.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise ValueError(f"{path}: an export is Parquet; expected a name that ends in .parquet")
    return path


def _rows(embeddings: Any, name: str, which: int) -> np.ndarray:
    """Rows of the embedding of that name, or at that place where there is none."""
    is_many = isinstance(embeddings, dict | list | tuple)
    named = as_named(embeddings) if is_many else {"": as_rows(embeddings)}
    own = named.get(name, list(named.values())[which])
    return np.asarray(sampled(own, own.shape[0]) if isinstance(own, Stream) else own, np.float64)


def _map(x: np.ndarray, n: int, target: Any) -> np.ndarray:
    """The first two principal components of the labelled rows, float64 ``[n, 2]``."""
    target = None if target is None else as_target(target)
    if target is not None and len(x) == num_rows(target):
        x = x[labelled_rows(target)]
    if len(x) != n:
        raise ValueError(
            f"embeddings must have the {n:,} labelled rows, or those of target=; got {len(x):,}"
        )
    x = x - x.mean(axis=0)
    _, vectors = np.linalg.eigh(x.T @ x)
    first = x @ vectors[:, ::-1][:, :2]
    return np.pad(first, ((0, 0), (0, 2 - first.shape[1])))


def _causes(result: Diagnosis, n: int, known: np.ndarray | None) -> dict[str, np.ndarray]:
    """Whether a row is blamed, by cause that was found."""
    found = {}
    for own in result.found:
        if own.rows is None or own.verdict == ABSENT:
            continue
        rows = np.asarray(own.rows)
        if len(rows) != n and known is not None:
            rows = rows[known]
        if len(rows) == n:
            name = re.sub(r"\W+", "_", own.name)
            found[f"cause_{name}"] = np.nan_to_num(rows, nan=0.0) > 0.5
    return found
