"""Batches of texts for an encoder: each distinct text once, sorted by length, in few shapes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kernlens.models.text.bert import Tokens

_FULL_WIDTH = 64


class Encoded(NamedTuple):
    """Embeddings of texts.

    Attributes:
      embeddings: float32 ``[n, d]``.
      read: pieces of each text (words or parts of words) that the encoder knows and that its row
        is made of, int32 ``[n]``; 0 where a row says nothing about its text.
      total: pieces of each text, int32 ``[n]``; 0 for an empty text.
    """

    embeddings: np.ndarray
    read: np.ndarray
    total: np.ndarray


def distinct(texts: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """Each text once, in the order of first occurrence, and which of them each text is.

    Raises:
      ValueError: one string, or something that is no text among the texts.
    """
    if texts is None or isinstance(texts, str | bytes):
        raise ValueError(f"expected a sequence of texts; got {texts and texts[:40]!r}")
    places: dict[str, int] = {}
    inverse = []
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{row}] is {text!r}; expected a str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"texts[{row}] holds half of a character: {error}") from error
        inverse.append(places.setdefault(str(text), len(places)))
    return list(places), np.array(inverse, np.int64)


def by_length(ids: Sequence[np.ndarray]) -> np.ndarray:
    """The order of texts by rising number of tokens, equal ones as they come, int64 ``[n]``."""
    return np.argsort([len(one) for one in ids], kind="stable")


def width(length: int, limit: int) -> int:
    """The least power of two, or three quarters of one, that a text fits in; at least 6."""
    power = 1 << max(length - 1, 7).bit_length()
    return min(limit, 3 * power // 4 if length <= 3 * power // 4 else power)


def filled(ids: Sequence[np.ndarray], rows: int, width: int) -> Tokens:
    """Token ids under each other, filled up to ``[rows, width]``."""
    tokens = Tokens(np.zeros((rows, width), np.int32), np.zeros((rows, width), bool))
    for row, one in enumerate(ids):
        tokens.ids[row, : len(one)] = one
        tokens.mask[row, : len(one)] = True
    return tokens


def batches(
    ids: Sequence[np.ndarray], batch_size: int, limit: int
) -> Iterator[tuple[int, int, Tokens]]:
    """Batches of texts that come sorted by length.

    Args:
      ids: token ids of each text, by rising length.
      batch_size: texts a batch, of up to 64 tokens each; of longer ones fewer.
      limit: most tokens of a text.

    Yields:
      First text, text behind the last, and their tokens, filled up to one of few shapes.
    """
    widths = np.array([width(len(one), limit) for one in ids])
    start = 0
    while start < len(ids):
        wide = int(widths[start])
        rows = max(1, batch_size * _FULL_WIDTH // max(wide, _FULL_WIDTH))
        stop = min(start + rows, int(np.searchsorted(widths, wide, side="right")))
        yield start, stop, filled(ids[start:stop], rows, wide)
        start = stop
