"""NamedTuples of arrays, saved with the fingerprint of the embeddings they were made of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kernlens import files
from kernlens.files import check_writable, write_atomically
from kernlens.io.stored import BFLOAT16
from kernlens.io.tensors import open_tensors

T = TypeVar("T", bound=tuple)


def write_arrays(
    path: str | Path, arrays: tuple, *, fingerprint: str, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a NamedTuple of arrays as safetensors: whole, or not at all.

    Args:
      path: file to write; its folder has to exist.
      arrays: NamedTuple of arrays of numbers, of any shapes.
      fingerprint: of the embeddings that they were made of, from :func:`fingerprint`.
      metadata: more to keep with them, text by name; not ``kind`` or ``fingerprint``.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: not a NamedTuple, a field that is not an array of numbers, or metadata under a
        name that is taken.
      ImportError: safetensors is not installed; names the extra.
    """
    check_writable(path)
    write_atomically(path, arrays_to_bytes(arrays, fingerprint=fingerprint, metadata=metadata))


def arrays_to_bytes(
    arrays: tuple, *, fingerprint: str, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes that :func:`write_arrays` writes; they hold numbers and text, no code.

    Args:
      arrays: as there.
      fingerprint: as there; any text that names the rows where they are not a whole file.
      metadata: as there.

    Returns:
      Bytes of a safetensors file.

    Raises:
      ValueError: as there.
      ImportError: safetensors is not installed; names the extra.
    """
    numpy = files.optional("safetensors.numpy", extra="text")
    own = {"kind": type(arrays).__name__, "fingerprint": fingerprint}
    taken = own.keys() & (metadata or {}).keys()
    if taken:
        raise ValueError(f"metadata {sorted(taken)} is written by write_arrays; choose other names")
    # In C order, and without making a vector of a scalar.
    fields = {name: np.asarray(value, order="C") for name, value in _fields(arrays).items()}
    for name, value in fields.items():
        if value.dtype.kind not in "biuf" and value.dtype != BFLOAT16:
            raise ValueError(f"{own['kind']}.{name} is {value.dtype}; expected an array of numbers")
    return numpy.save(fields, metadata={**(metadata or {}), **own})


def read_arrays(
    path: str | Path, kind: type[T], *, fingerprint: str | None = None
) -> tuple[T, dict[str, str]]:
    """Reads a NamedTuple of arrays that :func:`write_arrays` wrote.

    Args:
      path: file.
      kind: the NamedTuple's class.
      fingerprint: of the embeddings that it has to be made of; any where left out.

    Returns:
      The NamedTuple, of NumPy arrays; and the metadata, ``fingerprint`` among it.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a truncated or damaged file, another kind, other fields, or another fingerprint.
      ImportError: safetensors is not installed; names the extra.

    Examples:
      >>> import tempfile
      >>> from kernlens import moments
      >>> made = moments.from_arrays(np.eye(3), np.array([0, 1, 1]), 2)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_arrays(f"{folder}/m.safetensors", made, fingerprint="rows")
      ...     read_arrays(f"{folder}/m.safetensors", moments.Moments)[0].class_counts.tolist()
      [1.0, 2.0]
    """
    path = files.existing(path)
    with open_tensors(path) as file:
        metadata = dict(file.metadata() or {})
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return _checked(str(path), kind, found, metadata, fingerprint), metadata


def arrays_from_bytes(
    content: bytes, kind: type[T], *, fingerprint: str | None = None
) -> tuple[T, dict[str, str]]:
    """Reads what :func:`arrays_to_bytes` made.

    Args:
      content: bytes of a safetensors file.
      kind: the NamedTuple's class.
      fingerprint: of the embeddings that it has to be made of; any where left out.

    Returns:
      The NamedTuple, of NumPy arrays; and the metadata, ``fingerprint`` among it.

    Raises:
      ValueError: truncated or damaged bytes, another kind, other fields, or another fingerprint.
      ImportError: safetensors is not installed; names the extra.
    """
    package = files.optional("safetensors", extra="text")
    numpy = files.optional("safetensors.numpy", extra="text")
    try:
        found = numpy.load(content)
        # The header is a JSON of a length that the first 8 bytes give.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except package.SafetensorError as error:
        raise ValueError(f"truncated or damaged safetensors bytes: {error}") from error
    metadata = dict(header.get("__metadata__", {}))
    return _checked("safetensors bytes", kind, found, metadata, fingerprint), metadata


def _checked(
    source: str,
    kind: type[T],
    found: dict[str, np.ndarray],
    metadata: Mapping[str, str],
    fingerprint: str | None,
) -> T:
    wanted = getattr(kind, "_fields", ())
    if metadata.get("kind") != kind.__name__ or set(found) != set(wanted):
        raise ValueError(
            f"{source}: holds {metadata.get('kind', 'no NamedTuple')} of {sorted(found)}; expected "
            f"{kind.__name__} of {sorted(wanted)}"
        )
    made_of = metadata.get("fingerprint")
    if fingerprint is not None and made_of != fingerprint:
        raise ValueError(
            f"{source}: made of embeddings with fingerprint {made_of}; expected {fingerprint}"
        )
    return kind(**found)


def _fields(arrays: tuple) -> dict[str, Any]:
    if not hasattr(arrays, "_asdict"):
        raise ValueError(f"got {type(arrays).__name__}; expected a NamedTuple of arrays")
    return arrays._asdict()  # pyright: ignore[reportAttributeAccessIssue]
