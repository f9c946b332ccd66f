"""Vectors written into a cell of text: lists of numbers, or the bytes of float32 in base64."""

import base64
import binascii
import re
from collections.abc import Sequence

import numpy as np

LISTED, BASE64 = "numbers in a text", "base64 of float32"

_BREAKS = str.maketrans("[](),;|", "       ")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{10,}={0,2}")
_LOOKED_AT = 20


def form_of(texts: Sequence[str | None]) -> str | None:
    """How vectors stand in the texts: ``LISTED``, ``BASE64``, or None where there are none.

    Args:
      texts: cells of one column, None or empty where missing. The first few are looked at.

    Returns:
      The form that all of them have. Base64 has to give plausible float32, all of one length.
    """
    known = [text for text in texts if text][:_LOOKED_AT]
    if not known:
        return None
    if all(map(_is_listed, known)):
        return LISTED
    if not all(len(text) == len(known[0]) and _BASE64.fullmatch(text) for text in known):
        return None
    try:
        found = [np.frombuffer(base64.b64decode(text, validate=True), "<f4") for text in known]
    except (ValueError, binascii.Error):
        return None
    sizes = np.abs(np.concatenate(found).astype(np.float64))
    plausible = (sizes == 0) | ((sizes > 1e-12) & (sizes < 1e12))
    return BASE64 if plausible.all() and len(found[0]) > 1 else None


def _is_listed(text: str) -> bool:
    """Whether a text is a list: in brackets, or of three numbers at least; two may be a name."""
    try:
        found = _numbers(text)
    except ValueError:
        return False
    return len(found) >= (1 if text.lstrip()[:1] in ("[", "(") else 3)


def _numbers(text: str) -> list[float]:
    if "_" in text:
        raise ValueError("_ is no part of a number")
    return list(map(float, text.translate(_BREAKS).split()))


def values(
    where: str,
    texts: Sequence[str | None],
    form: str | None,
    *,
    dim: int | None = None,
    first: int = 0,
) -> np.ndarray:
    """Vectors from cells of text.

    Args:
      where: file and column, for the error.
      texts: the cells; an empty one is a row of NaN.
      form: what :func:`form_of` found, or None where all are empty.
      dim: numbers in each; by default those of the first.
      first: number of the first row, for the error.

    Returns:
      Rows, float32 ``[len(texts), dim]``.

    Raises:
      ValueError: a cell that is no vector, or one of another length, with its row.
    """
    rows: list[np.ndarray | None] = []
    for row, text in enumerate(texts, first):
        found = _vector(where, row, text, form) if text else None
        if found is not None:
            dim = len(found) if dim is None else dim
            if len(found) != dim:
                raise ValueError(
                    f"{where}, row {row}: found {len(found)} values, expected {dim} as in the rows "
                    "before"
                )
        rows.append(found)
    made = np.full((len(rows), dim or 0), np.nan, np.float32)
    for row, found in enumerate(rows):
        if found is not None:
            made[row] = found
    return made


def _vector(where: str, row: int, text: str, form: str | None) -> np.ndarray:
    try:
        if form == BASE64:
            return np.frombuffer(base64.b64decode(text, validate=True), "<f4")
        return np.array(_numbers(text), np.float32)
    except (ValueError, binascii.Error) as error:
        raise ValueError(
            f"{where}, row {row}: found {text[:60]!r}; expected {form or LISTED}"
        ) from error
