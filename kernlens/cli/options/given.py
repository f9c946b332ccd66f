"""Options that all verbs share: the files, how they are read, and what is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import tyro

from kernlens import io
from kernlens.cli import memory, rows, samples, words
from kernlens.cli.helptext import choices, explained
from kernlens.cli.options.kinds import (
    File,
    MetricName,
    Name,
    ProbeName,
    TargetName,
    check_least,
)
from kernlens.cli.words import KERNELS
from kernlens.files import check_apart, check_writable, existing, optional
from kernlens.types import Target

Files = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="(at least one)"),
]
KERNEL = choices(*KERNELS, "module:name")


@explained
@dataclass(frozen=True)
class Given:
    """The files, and how they are read."""

    embeddings: Files
    """Embedding files: .npy, .npz, .parquet, .arrow, .feather, .ipc, .csv, .tsv, .item,
    .safetensors, .h5, .hdf5, gensim's .kv, or word2vec's .txt, .vec, .bin; text also as .gz. A
    folder, or a quoted pattern, of such files is one embedding. FILE::NAME is one column or array
    of several, FILE::id=NAME says which is the id."""
    labels: File = None
    """Label file: .csv, .tsv (also .gz) or .parquet, with an id and a label column, or labels alone
    in row order."""
    id_column: Name = None
    """Id column in every file that has columns. Default: `id`, or the only column that can be it.
    Name it where the files have several."""
    label_column: Name = None
    """Label column. Default: `label`, or the only column that is not the id. Name it where the
    file has several."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATTERN")] = ()
    """Columns that hold the vectors, as names or quoted patterns ('d*'). Default: the only column
    of lists, or the numbered columns of one name."""
    by_row: bool = False
    """Join by row number, whatever ids the files have. They need as many rows."""
    missing: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="TEXT")] = None
    """Texts in the label column that mean no label, besides an empty cell. Default: nan, NA, N/A,
    null, None and their like, each of which is told. Give an empty text to keep those as
    classes."""
    min_class_count: int = 1
    """Smallest class that is kept, in labelled rows; rows of smaller classes lose their label.
    Raise it to leave out classes too small to judge."""
    key: Name = None
    """Array of embeddings in .npz, .safetensors and HDF5 files. Default: the only one of rank 2.
    Name it where a file holds several."""
    scale: Annotated[float | None, tyro.conf.arg(metavar="NUMBER")] = None
    """Scale factor for quantised embeddings. Default: the `scale` stored in the file, else 1."""
    drop_nonfinite: bool = False
    """Leave out rows that hold NaN, infinity or no value. Default: refuse a file with such rows."""
    max_unjoined: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 1.0
    """Largest share of an embedding's rows that may be missing from another file, in [0, 1]. Lower
    it in a pipeline, to stop where files no longer match."""
    max_unjoined_labels: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 1.0
    """Largest share of the label rows that may be missing from an embedding, in [0, 1]."""
    max_expansion: Annotated[float, tyro.conf.arg(metavar="NUMBER")] = io.Limits().expansion
    """Largest ratio of what a file unpacks to and its size, a guard against damaged files and
    bombs. Raise it for files of very repetitive values."""
    level: float = 0.9
    """Nominal coverage of the intervals, in (0, 1). Raise it to be warier of differences."""
    seed: int = 0
    """Random seed of the bootstrap, of landmarks and of random features, an integer >= 0."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE|-")] = None
    """Write everything as JSON to a file; `-` writes it to standard output, and the table to
    standard error."""
    html: File = None
    """Write a report to show to others: one HTML page with charts, tables, the worst rows, and what
    was read."""
    export: Annotated[Path | None, tyro.conf.arg(metavar="FILE.parquet")] = None
    """Write a row an item, with a 2-D map, the class predicted, its held-out loss and what is wrong
    with it, for tools such as embedding-atlas."""
    max_memory: memory.Size = None
    """Most memory to take, such as 2GB or 500MB; what needs more is refused before it starts.
    Default: what is free."""
    cache: bool = True
    """Keep compiled programs for the next run, in KERNLENS_CACHE or the user's cache folder."""

    _needs: ClassVar[str] = "expected --labels FILE"
    _work: ClassVar[memory.Work] = memory.Work()
    _beside: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        if not self.embeddings:
            raise ValueError("expected at least one embedding file; got none")
        if self.labels is None and getattr(self, "interactions", None) is None:
            raise ValueError(self._needs)
        if len(set(self.embeddings)) < len(self.embeddings):
            raise ValueError("an embedding file is given twice")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"--level must be in (0, 1); got {self.level}")
        for name in ("max_unjoined", "max_unjoined_labels"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be in [0, 1]; got {getattr(self, name)}")
        if self.scale is not None and (self.scale == 0 or not np.isfinite(self.scale)):
            raise ValueError(f"--scale must be finite and not 0; got {self.scale}")
        check_least(self, min_class_count=1, max_expansion=1, seed=0)
        memory.parse(self.max_memory)
        if self.export is not None:
            if self.export.suffix != ".parquet":
                raise ValueError(f"--export {self.export}: rows are written as .parquet")
            if getattr(self, "interactions", None) is not None:
                raise ValueError(
                    "--export writes a row an item with its class; next items have none"
                )

    def check(self) -> None:
        """Refuses, before anything is read, files, outputs, packages and words that cannot do.

        Raises:
          ValueError, OSError, ImportError: says which and why.
        """
        given = [getattr(self, name, None) for name in ("labels", "interactions", *self._beside)]
        outputs = {
            f"--{name}": getattr(self, name, None) for name in ("json", "html", "export", "save")
        }
        check_apart(outputs, [path for path in (*self.read_together(), *given) if path is not None])
        json = None if self.json == Path("-") else self.json
        for path in (json, self.html, self.export):
            if path is not None:
                check_writable(path)
        if self.html is not None:
            optional("plotly", extra="report")
        for path in self.read_together():
            io.check_readable(path)
        for name in ("labels", *self._beside):
            path = getattr(self, name, None)
            if path is not None:
                existing(path)
        words.check(self)

    def read(self) -> rows.Rows:
        """Reads and joins the files.

        Raises:
          ValueError, OSError, ImportError: a file that cannot be used, or an export of all rows by
            a head that reads a sample.
        """
        found = rows.read(self)
        samples.check_export(self, found)
        return found

    def read_together(self) -> tuple[Path, ...]:
        """Embedding files of the same items: those to judge, and others that are read with them."""
        return self.embeddings

    def most_rows(self, dims: Sequence[int], target: Target) -> float:
        """Labelled rows up to which the verb's heads read all."""
        return samples.most_rows(self, dims, target)

    def work(self, files: int) -> memory.Work:
        """What the verb does with so many embedding files, as far as memory goes."""
        decoders = getattr(self, "decoder", None)
        heads = max(len(decoders), 1) if isinstance(decoders, tuple) else 1
        return self._work._replace(kept=self._work.kept * files * heads)


@explained
@dataclass(frozen=True)
class Read(Given):
    """The files, what is predicted from them, and the head that is predicted."""

    target: TargetName = None
    """What a label is: one class, a number (regression), or several labels in one row. Default:
    found from the column; one that may be two things is refused until you say which."""
    separator: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Text between several labels in one cell, such as `|` in `Action|Comedy`."""
    interactions: File = None
    """Log of events, .csv, .tsv or .jsonl (also .gz) or .parquet, one row an event: predicts each
    user's next item, in place of --labels."""
    user: Name = None
    """Column of the log with the user of an event. Default: `user_id`, `customer_id` or another
    usual name."""
    item: Name = None
    """Column of the log with the item of an event: an id of the embedding files, or a row number
    where they have no ids. Default: `item_id`, `sku` or another usual name."""
    time: Name = None
    """Column of the log with the time of an event, a number or a date. Default: `timestamp`, `date`
    or another usual name."""
    cutoff: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Moment from which events are held out, as the log writes times. Default: the last event of
    each user is held out. Set it to judge an embedding that was trained before that moment."""
    k: int = 10
    """Length of the list of next items that a user sees, an integer >= 1."""
    kernel: Annotated[str | None, tyro.conf.arg(metavar=KERNEL)] = None
    """Kernel to use in place of a decoder, by name or from a module of your own. Default: that of
    the decoder. Set it to try a similarity of your own."""
    probe: ProbeName = None
    """Classifier behind the prediction. Default: the one that goes with the decoder, logistic for
    linear heads and kernels, mlp for MLPs."""
    metric: MetricName = None
    """Metric to show first and to rank by. Default: macro_f1 of classes and labels, r2 of numbers,
    ndcg of next items. Lower is better for log_loss, rmse and mae; log_loss separates embeddings
    whose accuracies tie."""

    _beside: ClassVar[tuple[str, ...]] = ("interactions",)
    _needs: ClassVar[str] = "expected --labels FILE, or --interactions FILE for next items"

    def __post_init__(self):
        super().__post_init__()
        asked = [name for name in ("target", "separator") if getattr(self, name) is not None]
        if self.interactions is None:
            of_log = ("user", "item", "time", "cutoff")
            asked = [name for name in of_log if getattr(self, name) is not None]
            asked += ["k"] * (self.k != 10)
        elif self.labels is not None:
            asked = ["labels"]
        if asked:
            other = "needs" if self.interactions is None else "does not go with"
            raise ValueError(f"--{asked[0]} {other} --interactions")
        if self.separator is not None and self.target not in (None, "labels"):
            raise ValueError(f"--separator splits labels; got --target {self.target}")
