"""Which reader a file of embeddings gets, and how several files are one."""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kernlens import files
from kernlens.io import numpy_files, tables, tensors, word2vec
from kernlens.io.columns import check_ids
from kernlens.io.stored import BFLOAT16, Stored, choose_reader
from kernlens.io.stream import EmbeddingFiles, Embeddings, Part, stamp

READERS: dict[str, Callable[[Path, str | None, str | None], Stored]] = {
    ".npy": numpy_files.open_npy,
    ".parquet": tables.open_vectors,
    ".npz": numpy_files.open_npz,
    ".arrow": tables.open_arrow,
    ".feather": tables.open_arrow,
    ".safetensors": tensors.open_safetensors,
    ".h5": tensors.open_hdf5,
    ".hdf5": tensors.open_hdf5,
    ".txt": word2vec.open_text,
    ".vec": word2vec.open_text,
    ".bin": word2vec.open_binary,
}


def open_embeddings(
    path: str | Path,
    *,
    id_column: str | None = None,
    key: str | None = None,
    scale: float | np.ndarray | None = None,
    drop_nonfinite: bool = False,
) -> EmbeddingFiles:
    """Opens embeddings of any size. Shape, dtype and ids are known then; no value is read.

    ========================  =====================================================================
    ``.npy``                  numbers ``[n, d]``; no ids
    ``.npz``                  an array ``[n, d]``, and one of ids called ``id`` or ``ids``, or none
    ``.parquet``              an id column, or none, beside a column of lists or one a dimension
    ``.arrow``, ``.feather``  the same, in Arrow's file or stream format
    ``.safetensors``          as ``.npz``; ids are integers
    ``.h5``, ``.hdf5``        as ``.npz``, in any group
    ``.txt``, ``.vec``        word2vec text with its header line; words are ids
    ``.bin``                  word2vec binary; words are ids
    ========================  =====================================================================

    Args:
      path: a file; or several of one format, as a folder or a pattern (``part-*.parquet``), whose
        rows follow each other in the order of their names. In a folder, names that begin with a dot
        or an underscore are passed over.
      id_column: name of the id column, or of the array of ids; without it, found as the module's
        docstring says. Formats without names pass over it.
      key: name of the array, for ``.npz``, ``.safetensors`` and HDF5; without it, the only one of
        rank 2. Formats without named arrays pass over it.
      scale: what integers are multiplied with: a number, ``[d]`` or ``[1, d]`` for the dimensions,
        ``[n, 1]`` for the rows. Without it, an array or a column of lists' neighbour called
        ``scale``, or 1.
      drop_nonfinite: leave out rows that hold NaN, infinity or no value, instead of refusing them.

    Returns:
      EmbeddingFiles. Whether values are finite is known when they are read.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown suffix, an empty, truncated or pickled file, another rank than 2, no
        rows or dimensions, values that are not numbers, a missing column or array, a missing or
        repeated id, files that differ in format, width, dtype or in having ids, or a scale of
        another shape, of zeros or beside floats.
      ImportError: a package that reads the format is not installed; names the extra.
    """
    paths = _paths(path)
    stamps = [stamp(own) for own in paths]
    found = [choose_reader(own, READERS)(own, id_column, key) for own in paths]
    first = found[0]
    for own, stored in zip(paths[1:], found[1:], strict=True):
        _check_alike(paths[0], first, own, stored)
    ids = first.ids
    if len(paths) > 1 and ids is not None:
        ids = check_ids(str(path), "id", np.concatenate([stored.ids for stored in found]))
    scales = _scales(path, scale, paths, found)
    return EmbeddingFiles(
        shape=(sum(stored.shape[0] for stored in found), first.shape[1]),
        dtype=_float_dtype(first.dtype),
        ids=ids,
        source=str(path),
        parts=tuple(map(Part, paths, found, scales, stamps)),
        drop_nonfinite=drop_nonfinite,
    )


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


def _paths(path: str | Path) -> list[Path]:
    """The files that are meant, in the order of their names."""
    folder = Path(path)
    if folder.is_dir():
        found = sorted(own for own in folder.iterdir() if own.name[0] not in "._")
    elif not folder.exists() and glob.has_magic(str(path)):
        found = sorted(map(Path, glob.glob(str(path))))
    else:
        return [files.existing(path)]
    if not found:
        raise FileNotFoundError(f"{path}: no files there")
    inner = next((own for own in found if own.is_dir()), None)
    if inner is not None:
        raise ValueError(f"{path}: holds the folder {inner.name!r}; expected files alone")
    suffixes = sorted({own.suffix.lower() for own in found})
    if len(suffixes) > 1:
        raise ValueError(f"{path}: found files of several formats, {suffixes}; expected one")
    return found


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
    if dtype.kind in "iu":
        return np.dtype(np.float32)
    if dtype == BFLOAT16:
        return dtype
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
        raise ValueError(f"{path}: scale is 0, which leaves nothing of the values")
    return found
