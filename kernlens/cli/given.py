"""Options that all verbs share: the files, how they are read, and what is written."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
import tyro
from rich.console import Console

from kernlens import datasets, io, targets
from kernlens.cli import memory
from kernlens.cli.helptext import choices, explained, one_of
from kernlens.cli.words import DECODERS, KERNELS, METRICS, TARGETS
from kernlens.datasets import NextItems
from kernlens.files import check_writable, optional
from kernlens.probes import PROBES
from kernlens.show import report, terminal
from kernlens.show.table import Table, one_line, printable
from kernlens.types import Target

if TYPE_CHECKING:
    MetricName = str | None
    ProbeName = str | None
    TargetName = str | None
else:
    MetricName, ProbeName, TargetName = map(one_of, (METRICS, PROBES, TARGETS))

MIN_WIDTH = 80

SLOW = 5e8
"""Rows times columns times classes from which on logistic regression may take minutes."""

Files = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="(at least one)"),
]
DECODER = choices(*DECODERS, "module:name")
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
    labels: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Label file: .csv, .tsv (also .gz) or .parquet, with an id and a label column, or labels alone
    in row order."""
    id_column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Id column in every file that has columns. Default: `id`, or the only column that can be it.
    Name it where the files have several."""
    label_column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
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
    key: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
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
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
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
        for name, low in (("min_class_count", 1), ("max_expansion", 1)):
            if not getattr(self, name) >= low:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be at least {low}; got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"--seed must be at least 0; got {self.seed}")
        memory.parse(self.max_memory)
        if self.export is not None:
            if self.export.suffix != ".parquet":
                raise ValueError(f"--export {self.export}: rows are written as .parquet")
            if getattr(self, "interactions", None) is not None:
                raise ValueError(
                    "--export writes a row an item with its class; next items have none"
                )

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
    interactions: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Log of events, .csv, .tsv or .jsonl (also .gz) or .parquet, one row an event: predicts each
    user's next item, in place of --labels."""
    user: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Column of the log with the user of an event. Default: `user_id`, `customer_id` or another
    usual name."""
    item: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Column of the log with the item of an event: an id of the embedding files, or a row number
    where they have no ids. Default: `item_id`, `sku` or another usual name."""
    time: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
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


class Rows(NamedTuple):
    """What the files hold.

    Attributes:
      values: embeddings by name.
      target: what is predicted of their rows.
      joined: the rows that all files have; None of next items.
      dropped: ids of the rows left out because they were not finite, by embedding.
      files: file of each embedding.
      told: what was taken as id, dimensions and label, or columns of the log, in one line.
      warnings: what makes the answer suspicious.
      embeddings: all rows of each; none of next items.
      needs: what the verb takes of memory at most.
    """

    values: dict[str, np.ndarray]
    target: Target | NextItems
    joined: io.Joined | None
    dropped: dict[str, np.ndarray]
    files: dict[str, str]
    told: str = ""
    warnings: tuple[str, ...] = ()
    embeddings: Mapping[str, io.Embeddings] = MappingProxyType({})
    needs: memory.Needs = memory.Needs()


def read(config: Given, *others: Path) -> Rows:
    """Reads and joins the files; what a label file has to say goes to standard error.

    Args:
      config: the command line.
      *others: further embedding files of the same items.

    Raises:
      ValueError, OSError, ImportError: a file that cannot be used; says which and why.
    """
    json = None if config.json == Path("-") else config.json
    for path in (json, config.html, config.export):
        if path is not None:
            check_writable(path)
    if config.html is not None:
        optional("plotly", extra="report")
    given = (*config.embeddings, *others)
    names = _names(given)
    paths = dict(zip(names, map(str, given), strict=True))
    limits = io.Limits(expansion=config.max_expansion)
    with Console(stderr=True).status("reading"):
        opened = {
            name: io.open_embeddings(
                path,
                id_column=config.id_column,
                columns=config.columns,
                key=config.key,
                by_row=config.by_row,
                scale=config.scale,
                drop_nonfinite=config.drop_nonfinite,
                limits=limits,
            )
            for name, path in zip(names, given, strict=True)
        }
        taken = {name: own.told for name, own in opened.items()}
        shapes = [own.shape for own in opened.values()]
        if isinstance(config, Read) and config.interactions is not None:
            needs = _checked_memory(config, shapes, shapes[0][0], 1)
            embeddings = {name: own.read() for name, own in opened.items()}
            dropped = {name: own.dropped_ids for name, own in embeddings.items()}
            values, ids = io.align(embeddings)
            log = io.read_events(
                config.interactions, user=config.user, item=config.item, time=config.time
            )
            ask = datasets.next_items(*log[:3], ids=ids, cutoff=config.cutoff, k=config.k)
            told = _told(taken, log.told)
            return Rows(values, ask, None, dropped, paths, told, needs=needs)
        assert config.labels is not None
        label_file = io.read_labels(
            config.labels,
            id_column=config.id_column,
            label_column=config.label_column,
            target=_target(config),
            by_row=config.by_row,
            missing=config.missing,
            min_class_count=config.min_class_count,
            limits=limits,
        )
        outputs = len(getattr(label_file.labels, "names", "1"))
        num_labels = targets.num_rows(label_file.labels)
        needs = _checked_memory(config, shapes, num_labels, outputs)
        _propose(config, shapes, num_labels, outputs)
        embeddings = {name: own.read() for name, own in opened.items()}
        dropped = {name: own.dropped_ids for name, own in embeddings.items()}
        joined = io.join(
            embeddings,
            label_file,
            max_unjoined=config.max_unjoined,
            max_unjoined_labels=config.max_unjoined_labels,
        )
        warnings = tuple(
            f"dimension {', '.join(map(str, dims[:5]))} of {name} alone gives the label: is it the "
            "label, or made of it? Leave it out with --columns"
            for name, dims in io.telling(joined.values, joined.labels).items()
        )
    for note in (*label_file.notes, *warnings):
        print("warning:", one_line(note), file=sys.stderr)
    told = _told(taken, label_file.told)
    return Rows(
        joined.values, joined.labels, joined, dropped, paths, told, warnings, embeddings, needs
    )  # fmt: skip


def _propose(config: Given, shapes: Sequence[tuple[int, int]], num_rows: int, outputs: int) -> None:
    """Names the fast probe where the usual one would take long."""
    rows, dim = min(num_rows, *(n for n, _ in shapes)), max(d for _, d in shapes)
    usual = isinstance(config, Read) and not (config.probe or config.kernel)
    if usual and not getattr(config, "decoder", None) and rows * dim * outputs > SLOW:
        print(
            f"note: logistic regression of {outputs:,} classes on {rows:,} rows of {dim} "
            "dimensions may take minutes; --probe discriminant takes seconds",
            file=sys.stderr,
        )


def _checked_memory(
    config: Given, shapes: Sequence[tuple[int, int]], num_rows: int, outputs: int
) -> memory.Needs:
    """What the command needs; ValueError where that is more than it may have."""
    rows, dim = min(n for n, _ in shapes), max(d for _, d in shapes)
    width = memory.width_of(config, rows, dim)
    needed = memory.of_rows(shapes, num_rows, outputs, config.work(len(shapes)), width)
    return memory.check(needed, config.max_memory)


def _told(embeddings: dict[str, str], asked: str) -> str:
    """What was taken as what, embeddings that are alike together."""
    alike: dict[str, list[str]] = {}
    for name, told in embeddings.items():
        alike.setdefault(told, []).append(name)
    if len(embeddings) == 1:
        (told,) = alike
        return f"{told} · {asked}"
    parts = [f"{', '.join(names)}: {told}" for told, names in alike.items()]
    return " · ".join([*parts, asked])


def show(config: Given, tables: Sequence[Table], lines: Sequence[str], how: str) -> None:
    """Prints tables and lines, to standard error where JSON has standard output."""
    console = Console(stderr=config.json == Path("-"), markup=False, highlight=False, emoji=False)
    console.width = max(console.width, MIN_WIDTH)
    for table in tables:
        console.print(table.rich(console.width))
        console.print()
    for line in (*lines, how):
        console.print(line)


def write_json(config: Given, content: Any) -> None:
    """Writes what was asked for as JSON, before anything is shown: a table on the screen means
    that the file is there too."""
    if config.json == Path("-"):
        terminal.print_json(content)
    elif config.json is not None:
        report.write_json(config.json, content)


def _target(config: Given) -> Callable[[Any], Target]:
    """What makes a target of a label column."""
    word, separator = getattr(config, "target", None), getattr(config, "separator", None)
    if separator is not None:
        return functools.partial(targets.multi_labels, separator=separator)
    return targets.as_target if word is None else TARGETS[word]


def _names(paths: Sequence[Path]) -> list[str]:
    """File stems, printable; with the column, or the whole path, where stems are equal."""
    parsed = [io.parse(path) for path in paths]
    stems = [path.name.removesuffix(".gz").rpartition(".")[0] or path.name for path, _ in parsed]
    longer = [
        f"{stem}::{behind['columns']}" if "columns" in behind else stem
        for stem, (_, behind) in zip(stems, parsed, strict=True)
    ]
    return [
        printable(
            stem if stems.count(stem) == 1 else long if longer.count(long) == 1 else str(path)
        )
        for stem, long, path in zip(stems, longer, paths, strict=True)
    ]
