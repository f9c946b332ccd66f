"""A classification task of a text benchmark, answered in one call.

    from kernlens.lens import text_tasks

    task = mteb.get_task("Banking77Classification")          # or {"text": [...], "label": [...]}
    print(text_tasks.evaluate(model, task))

The model and the task are known by what they have, so neither MTEB nor sentence-transformers needs
to be installed: see :func:`kernlens.models.text.embed` and :func:`rows_of`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernlens import arrays
from kernlens.lens.predict import predict
from kernlens.models.text.others import embed
from kernlens.probes import FewLabels, Prediction, few_labels
from kernlens.show.table import to_frame
from kernlens.targets import labels as as_labels
from kernlens.types import Decoder, Labels


class Evaluated(NamedTuple):
    """What a text model reaches on a task.

    Attributes:
      name: name of the task.
      split: the split whose texts were embedded.
      prediction: a head trained on four fifths of the split, with intervals.
      few: the benchmarks' protocol on the same rows, eight labels a class drawn ten times, the
        others answered; None where classes have too few rows.
      embeddings: embeddings of the texts, ``[n, d]``.
      labels: labels of the texts.
    """

    name: str
    split: str
    prediction: Prediction
    few: FewLabels | None
    embeddings: np.ndarray
    labels: Labels

    def table(self):
        """The table of the prediction."""
        return self.prediction.table()

    to_frame = to_frame

    def to_dict(self) -> dict[str, float]:
        """The numbers of the prediction, and the means of the protocol with few labels."""
        found = self.prediction.to_dict()
        if self.few is not None:
            names = ("accuracy", "macro_f1")
            found |= {f"few_labels/{name}": self.few.mean(name) for name in names}
        return found

    def __repr__(self) -> str:
        heading = f"{self.name}, split {self.split}, {self.embeddings.shape[1]} dimensions"
        few = [] if self.few is None else [repr(self.few)]
        return "\n".join([heading, repr(self.prediction), *few])


def evaluate(
    model: Any,
    task: Any,
    *,
    split: str | None = None,
    subset: str | None = None,
    decoder: Decoder | None = None,
    level: float = 0.9,
    seed: int = 0,
) -> Evaluated:
    """Embeds a task's texts and says what a classifier of them will reach, with intervals.

    The benchmarks draw eight labels a class from a train split and answer the test split. Here all
    rows are of one split: a prediction of many labels, which is what intervals are for, and the
    same draws of eight. So the numbers are near those of a leaderboard and not the same.

    Args:
      model: with ``encode``, or a function of texts, as for :func:`kernlens.models.text.embed`.
      task: a classification task of MTEB, or a mapping or table with texts and labels, as for
        :func:`rows_of`.
      split: of the task. Default: the first of ``task.metadata.eval_splits``, else ``"test"``.
      subset: subset of a task that has several, such as a language. Default: the only one.
      decoder: the head, as for :func:`kernlens.predict`; a linear one by default.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of folds and draws.

    Returns:
      Evaluated, which prints itself.

    Raises:
      ValueError: a task without texts and labels, several subsets of which none is named, and what
        the model and :func:`kernlens.predict` raise.
    """
    metadata = getattr(task, "metadata", None)
    if split is None:
        split = str((getattr(metadata, "eval_splits", None) or ["test"])[0])
    texts, labels = rows_of(task, split=split, subset=subset)
    embeddings = embed(texts, model, task=task if metadata is not None else None, split=split)
    found = predict(embeddings, labels, decoder=decoder, level=level, seed=seed)
    counts = np.bincount(labels.codes[labels.codes >= 0])
    few = few_labels(embeddings, labels, seed=seed) if np.sum(counts > 8) > 1 else None
    name = str(getattr(metadata, "name", None) or type(task).__name__)
    return Evaluated(name, split, found, few, embeddings, labels)


def rows_of(
    task: Any, *, split: str = "test", subset: str | None = None
) -> tuple[list[str], Labels]:
    """Texts and labels of a task.

    Args:
      task: an object with ``dataset``, loaded by its ``load_data()`` where that is still to do, of
        splits or of subsets of splits; or such splits, or one of them: columns by name. Columns
        are those that the task names (``input_column_name``, ``label_column_name``), else
        ``text`` and ``label``.
      split: taken where there are several.
      subset: taken where there are several.

    Returns:
      Texts, and Labels of as many rows.

    Raises:
      ValueError: no such split, subset or column; tells of those that there are.
    """
    if hasattr(task, "load_data") and not getattr(task, "dataset", None):
        task.load_data()
    text_column = getattr(task, "input_column_name", "text")
    label_column = getattr(task, "label_column_name", "label")
    held = getattr(task, "dataset", task)
    for _ in range(2):
        names = _names(held)
        if text_column in names:
            break
        held = held[_choice(names, split, subset)]
    names = _names(held)
    for column in (text_column, label_column):
        if column not in names:
            raise ValueError(f"the task has no column {column!r}; it has {', '.join(names)}")
    texts = [str(text) for text in held[text_column]]
    return texts, as_labels(list(held[label_column]))


def _choice(names: list[str], split: str, subset: str | None) -> str:
    """The split among names, or the subset where they are no splits."""
    if split in names:
        return split
    if subset is not None and subset in names:
        return subset
    if subset is None and len(names) == 1:
        return names[0]
    wanted = f"split {split!r}" if subset is None else f"subset {subset!r}"
    raise ValueError(f"the task has no {wanted}; choose one of {', '.join(names)}")


def _names(held: Any) -> list[str]:
    """Names of the columns of a table, or of the splits or subsets of a mapping."""
    columns = getattr(held, "column_names", None)
    if isinstance(columns, list):  # a data set of one split; of several it is a mapping
        return columns
    if isinstance(held, Mapping):
        return [str(name) for name in held]
    columns = getattr(held, "columns", None)
    if columns is not None:
        return [str(name) for name in columns]
    raise ValueError(
        "expected a task with texts and labels, such as a classification task of MTEB or "
        f"{{'text': [...], 'label': [...]}}; got {arrays.kind_of(held)}"
    )
