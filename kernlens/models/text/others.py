"""Embeddings of texts by models of other libraries, known by their ``encode`` method alone."""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from kernlens import arrays
from kernlens.models.text.batching import distinct

BATCH = 64
"""Texts of a batch, for models that take batches."""


class Batches:
    """Batches of texts as MTEB's models take them: mappings with the texts under ``"text"``.

    Attributes:
      texts: all of them.
      dataset: a row for each text.
    """

    def __init__(self, texts: list[str]):
        self.texts = texts
        self.dataset = [{"text": text} for text in texts]

    def __iter__(self) -> Iterator[dict[str, list[str]]]:
        for start in range(0, len(self.texts), BATCH):
            yield {"text": self.texts[start : start + BATCH]}

    def __len__(self) -> int:
        return -(-len(self.texts) // BATCH)


def embed(texts: Iterable[str], model: Any, *, task: Any = None, split: str = "test") -> np.ndarray:
    """Embeds texts by a model of sentence-transformers, model2vec, MTEB or the like.

    Each distinct text is encoded once. What the model needs is found from the arguments that its
    ``encode`` requires: those of sentence-transformers and model2vec take texts, MTEB's take a
    task's name (version 1), or batches and a task's metadata (version 2).

    Args:
      texts: strings.
      model: an object with ``encode``, or a function ``texts -> rows``.
      task: task of MTEB that the texts belong to, for models that ask for one.
      split: split of the task.

    Returns:
      Rows, floats ``[n, d]``.

    Raises:
      ValueError: a model without ``encode``, one that needs a task where none is given, or one
        whose rows are not one a text.

    Examples:
      >>> embed(["tea", "milk", "tea"], lambda texts: [[len(text), 1.0] for text in texts])
      array([[3., 1.],
             [4., 1.],
             [3., 1.]])
    """
    encode = getattr(model, "encode", model)
    if not callable(encode):
        raise ValueError(
            "expected a model with encode(texts), as of sentence-transformers or model2vec, or a "
            f"function of texts; got {arrays.kind_of(model)}"
        )
    once, inverse = distinct(texts)
    needed = _required(encode)
    metadata = getattr(task, "metadata", task)
    asked = {"task_name": getattr(metadata, "name", metadata), "task_metadata": metadata,
             "hf_split": split, "hf_subset": "default"}  # fmt: skip
    given = {name: value for name, value in asked.items() if name in needed}
    if task is None and {"task_name", "task_metadata"} & set(given):
        raise ValueError(
            f"encode of {arrays.kind_of(model)} needs {', '.join(given)}; give task=, the task "
            "of MTEB whose texts these are"
        )
    found = encode(Batches(once) if "task_metadata" in needed else once, **given)
    rows = _stacked(found)
    if rows.ndim != 2 or len(rows) != len(once):
        raise ValueError(
            f"the model gave an array of shape {rows.shape} for {len(once):,} distinct texts; "
            f"expected one row a text, [{len(once):,}, d]"
        )
    return rows[inverse]


def _stacked(found: Any) -> np.ndarray:
    """An array, a tensor, or a list of either, as one array of floats."""
    if isinstance(found, list | tuple):
        found = np.stack([np.asarray(arrays.array(row) if arrays.is_array(row) else row)
                          for row in found])  # fmt: skip
    rows = np.asarray(arrays.array(found))
    return rows if rows.dtype.kind == "f" else rows.astype(np.float32)


def _required(function: Any) -> set[str]:
    """Names of the arguments after the first that a call has to give."""
    try:
        arguments = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):  # compiled functions do not tell
        return set()
    return {
        own.name for own in arguments
        if own.default is own.empty and own.kind not in (own.VAR_POSITIONAL, own.VAR_KEYWORD)
    }  # fmt: skip
