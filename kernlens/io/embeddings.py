"""Which reader a file of embeddings gets, and how several files are one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kernlens import files
from kernlens.io import (
    delimited,
    gensim,
    hdf5,
    numpy_files,
    shards,
    tables,
    tensors,
    word2vec,
)
from kernlens.io.columns import check_ids
from kernlens.io.limits import LIMITS, Asked, Limits
from kernlens.io.stored import (
    BFLOAT16,
    FLOAT8,
    EmptyError,
    Stored,
    choose_reader,
    suffix_of,
    unknown_suffix,
)
from kernlens.io.stream import EmbeddingFiles, Embeddings, Part, stamp

READERS: dict[str, Callable[[Path, Asked], Stored]] = {
    ".npy": numpy_files.open_npy,
    ".parquet": tables.open_vectors,
    ".npz": numpy_files.open_npz,
    ".arrow": tables.open_arrow,
    ".feather": tables.open_arrow,
    ".ipc": tables.open_arrow,
    ".safetensors": tensors.open_safetensors,
    ".h5": hdf5.open_hdf5,
    ".hdf5": hdf5.open_hdf5,
    ".csv": delimited.open_delimited,
    ".csv.gz": delimited.open_delimited,
    ".tsv": delimited.open_delimited,
    ".tsv.gz": delimited.open_delimited,
    ".item": delimited.open_delimited,
    ".txt": word2vec.open_text,
    ".txt.gz": word2vec.open_text,
    ".vec": word2vec.open_text,
    ".vec.gz": word2vec.open_text,
    ".bin": word2vec.open_binary,
    ".kv": gensim.open_keyed_vectors,
}


PACKAGES = {
    ".h5": ("h5py", "hdf5"),
    ".hdf5": ("h5py", "hdf5"),
    ".safetensors": ("safetensors", "text"),
}
"""Packages that read a format, and the extra of kernlens that installs each."""


def check_readable(path: str | Path) -> None:
    """Refuses embeddings that are not there or cannot be read here, without opening them.

    Args:
      path: as that of :func:`open_embeddings`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown suffix, or files of several formats.
      ImportError: a package that reads the format is not installed; names the extra.
    """
    where, _ = shards.parse(path)
    for own in shards.members(where, READERS)[:1]:
        suffix = suffix_of(own)
        if suffix not in READERS:
            raise unknown_suffix(own, READERS)
        if suffix in PACKAGES:
            package, extra = PACKAGES[suffix]
            files.optional(package, extra=extra)


def open_embeddings(
    path: str | Path,
    *,
    id_column: str | None = None,
    columns: str | Sequence[str] = (),
    key: str | None = None,
    by_row: bool = False,
    scale: float | np.ndarray | None = None,
    drop_nonfinite: bool = False,
    limits: Limits = LIMITS,
) -> EmbeddingFiles:
    """Opens embeddings of any size. Shape, dtype and ids are known then; no value is read.

    ======================================  =======================================================
    ``.npy``                                numbers ``[n, d]``; no ids
    ``.npz``                                an array ``[n, d]``, and one of ids, or none
    ``.parquet``                            an id column, or none, and a column of lists or
                                            numbered columns ``d0, d1, ...``
    ``.arrow``, ``.feather``, ``.ipc``      the same, in Arrow's file or stream format
    ``.csv``, ``.tsv``, also ``.gz``        the same, in text
    ``.item``                               RecBole's, with a field ``float_seq``
    ``.safetensors``                        as ``.npz``; ids are integers
    ``.h5``, ``.hdf5``                      as ``.npz``, in any group
    ``.txt``, ``.vec``, also ``.gz``        word2vec text with its header line, or GloVe's without
                                            one; words are ids
    ``.bin``                                word2vec binary; words are ids
    ``.kv``                                 gensim's saved vectors; keys are ids
    ======================================  =======================================================

    Args:
      path: a file; or several of one format, as a folder or a pattern (``part-*.parquet``), whose
        rows follow each other in the natural order of their names. Behind ``::`` may stand the
        column or array of the vectors, and that of the ids: ``file.parquet::v1::id=sku``.
      id_column: name of the id column, or of the array of ids; without it, found as the module's
        docstring says. Formats without names pass over it.
      columns: names or patterns (``"d*"``) of the columns that hold the vectors; without it, they
        are found. Formats without columns pass over it.
      key: name of the array, for ``.npz``, ``.safetensors`` and HDF5; without it, the only one of
        rank 2. Formats without named arrays pass over it.
      by_row: pass over ids, so that rows are joined by their number.
      scale: what integers are multiplied with: a number, ``[d]`` or ``[1, d]`` for the dimensions,
        ``[n, 1]`` for the rows. Without it, an array or a column of lists' neighbour called
        ``scale``, or 1.
      drop_nonfinite: leave out rows that hold NaN, infinity or no value, instead of refusing them.
      limits: bounds on what a file may cost. Raise them for files that unpack to far more than
        their size.

    Returns:
      EmbeddingFiles. Whether values are finite is known when they are read.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown suffix, an empty, truncated or pickled file, another rank than 2, no
        rows or dimensions, values that are not numbers, a missing column or array, several that
        may be meant, a missing or repeated id, files that differ in format, width, dtype or in
        having ids, a file beyond the limits, or a scale of another shape, of zeros or for
        values that are floats.
      ImportError: a package that reads the format is not installed; names the extra.
    """
    where, behind = shards.parse(path)
    patterns = (columns,) if isinstance(columns, str) else tuple(columns)
    if "columns" in behind:
        patterns, key = (behind["columns"],), behind["columns"]
    asked = Asked(behind.get("id", id_column), patterns, key, by_row, limits)
    paths, stamps, found = _open_all(path, shards.members(where, READERS), asked)
    first = found[0]
    for own, stored in zip(paths[1:], found[1:], strict=True):
        _check_alike(paths[0], first, own, stored)
    ids = first.ids
    if len(paths) > 1 and ids is not None:
        together = [stored.ids for stored in found if stored.ids is not None]
        ids = check_ids(str(path), "id", np.concatenate(together), limits)
    scales = _scales(path, scale, paths, found)
    return EmbeddingFiles(
        shape=(sum(stored.shape[0] for stored in found), first.shape[1]),
        dtype=_float_dtype(first.dtype),
        ids=ids,
        source=str(path),
        parts=tuple(map(Part, paths, found, scales, stamps)),
        drop_nonfinite=drop_nonfinite,
        told=first.told + (f" · {len(paths):,} files" if len(paths) > 1 else ""),
    )


def _open_all(
    path: str | Path, paths: list[Path], asked: Asked
) -> tuple[list[Path], list[tuple[int, int]], list[Stored]]:
    """The files that hold rows, what changes when one does, and what they hold."""
    kept, stamps, found, empty = [], [], [], None
    for own in paths:
        changes = stamp(own)
        try:
            stored = choose_reader(own, READERS)(own, asked)
        except EmptyError as error:
            if len(paths) == 1:
                raise
            empty = error
            continue
        kept.append(own)
        stamps.append(changes)
        found.append(stored)
    if not found:
        raise ValueError(f"{path}: none of its {len(paths)} files holds a row") from empty
    return kept, stamps, _numbered_alike(found)


def _numbered_alike(found: list[Stored]) -> list[Stored]:
    """Row numbers that pandas saved count as ids only where they are not plain row numbers."""
    if any(stored.index is None for stored in found):
        return found
    ranges = [stored.index for stored in found if stored.index is not None]
    ends = np.cumsum([0, *(len(own) for own in ranges)]).tolist()
    anew = all(own == range(len(own)) for own in ranges)
    onward = all(own == range(ends[i], ends[i + 1]) for i, own in enumerate(ranges))
    if anew or onward:
        return [stored._replace(ids=None) for stored in found]
    return [
        stored._replace(ids=np.array(own).astype(str))
        for stored, own in zip(found, ranges, strict=True)
    ]


def read_embeddings(path: str | Path, *, id_column: str | None = None) -> Embeddings:
    """All rows of the files that :func:`open_embeddings` opens; each value has to be finite.

    Args:
      path: as there.
      id_column: as there.

    Returns:
      Embeddings; integers become float32, other floats keep their width.

    Raises:
      FileNotFoundError, ValueError, ImportError: as there; a row that is not finite.
    """
    return open_embeddings(path, id_column=id_column).read()


def _check_alike(first_path: Path, first: Stored, path: Path, stored: Stored) -> None:
    facts = {
        "dims": [first.shape[1], stored.shape[1]],
        "dtype": [first.dtype.name, stored.dtype.name],
        "ids": [first.ids is not None, stored.ids is not None],
        "scale": [first.scale is not None, stored.scale is not None],
    }
    for what, (expected, found) in facts.items():
        if found != expected:
            raise ValueError(
                f"{path}: {what}: found {found}, expected {expected} as in {first_path.name}"
            )


def _float_dtype(dtype: np.dtype) -> np.dtype:
    """What values of a stored dtype are read as."""
    if dtype == BFLOAT16:
        return dtype
    if dtype.kind != "f" or dtype in FLOAT8:
        return np.dtype(np.float32)
    return dtype.newbyteorder("=") if dtype.itemsize <= 8 else np.dtype(np.float64)


def _scales(
    path: str | Path,
    given: float | np.ndarray | None,
    paths: Sequence[Path],
    stored: Sequence[Stored],
) -> list[np.ndarray | None]:
    """The scale of each file, ``[1, 1]``, ``[1, d]`` or ``[rows of the file, 1]``."""
    if given is None:
        return [
            None if one.scale is None else _as_scale(own, one.scale, one.shape, one.dtype)
            for own, one in zip(paths, stored, strict=True)
        ]
    ends = np.cumsum([one.shape[0] for one in stored])
    shape = int(ends[-1]), stored[0].shape[1]
    scale = _as_scale(path, given, shape, stored[0].dtype)
    if len(scale) == 1:
        return [scale] * len(stored)
    return list(np.split(scale, ends[:-1]))


def _as_scale(
    path: str | Path, scale: float | np.ndarray, shape: tuple[int, int], dtype: np.dtype
) -> np.ndarray:
    found = np.asarray(scale)
    rows, dims = shape
    if dtype.kind not in "iu":
        raise ValueError(f"{path}: values are {dtype.name}, beside a scale; expected integers")
    if found.shape == (dims,):
        found = found[None]
    if found.shape not in ((), (1,), (1, 1), (1, dims), (rows, 1)) or found.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: scale has shape {found.shape} of {found.dtype}; expected a number, "
            f"[{dims}] or [1, {dims}] for the dimensions, or [{rows}, 1] for the rows"
        )
    found = np.atleast_2d(found).astype(np.float32)
    if not np.isfinite(found).all():
        raise ValueError(f"{path}: scale holds NaN or infinity; expected finite numbers")
    if not found.any():
        raise ValueError(f"{path}: scale is 0, which leaves nothing of the values; give --scale")
    return found
