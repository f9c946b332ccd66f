"""Options that all verbs share: the files, how they are read, and what is written."""

import json as json_text
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console

from kernlens import io
from kernlens.cli.words import KERNEL_HELP
from kernlens.files import check_writable
from kernlens.probes import PROBES
from kernlens.show import report
from kernlens.show.table import printable

if TYPE_CHECKING:
    ProbeName = str
else:
    ProbeName = tyro.extras.literal_type_from_choices(PROBES)

MIN_WIDTH = 80

Files = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="(at least one)"),
]
DecoderWord = Annotated[str, tyro.conf.arg(metavar="DECODER")]


@dataclass(frozen=True)
class Given:
    """The files, and how they are read."""

    embeddings: Files
    """Embedding files: .npy, .npz, .parquet, .arrow, .feather, .safetensors, .h5, .hdf5, or
    word2vec's .txt, .vec, .bin. A folder, or a quoted pattern, of such files is one embedding."""
    labels: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Label file: .csv or .parquet, with an id and a label column, or labels alone in row order."""
    id_column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Id column in every file that has columns. Default: `id`, or the only column that can be it.
    Name it where the files have several."""
    label_column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Label column. Default: `label`, or the only column that is not the id. Name it where the
    file has several."""
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
    level: float = 0.9
    """Nominal coverage of the intervals, in (0, 1). Raise it to be warier of differences."""
    seed: int = 0
    """Random seed of the bootstrap, of landmarks and of random features, an integer >= 0."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE|-")] = None
    """Write everything as JSON to a file; `-` writes it to standard output, and the table to
    standard error."""
    cache: bool = True
    """Keep compiled programs for the next run, in KERNLENS_CACHE or the user's cache folder."""

    def __post_init__(self):
        if not self.embeddings:
            raise ValueError("expected at least one embedding file; got none")
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
        if self.seed < 0:
            raise ValueError(f"--seed must be at least 0; got {self.seed}")


@dataclass(frozen=True)
class Read(Given):
    """The files, and the head that is predicted."""

    kernel: Annotated[str | None, tyro.conf.arg(metavar="KERNEL", help=KERNEL_HELP)] = None
    probe: ProbeName | None = None
    """Closed-form classifier behind the prediction. Default: the one that goes with the decoder,
    discriminant for linear heads and MLPs."""


class Rows(NamedTuple):
    """What the files hold.

    Attributes:
      joined: the rows that all files have.
      dropped: ids of the rows left out because they were not finite, by embedding.
      files: file of each embedding.
      embeddings: all rows of each.
    """

    joined: io.Joined
    dropped: dict[str, np.ndarray]
    files: dict[str, str]
    embeddings: dict[str, io.Embeddings]


def read(config: Given) -> Rows:
    """Reads and joins the files; what a label file has to say goes to standard error.

    Raises:
      ValueError, OSError, ImportError: a file that cannot be used; says which and why.
    """
    if config.json is not None and config.json != Path("-"):
        check_writable(config.json)
    with Console(stderr=True).status("reading"):
        names = _names(config.embeddings)
        embeddings = {
            name: io.open_embeddings(
                path,
                id_column=config.id_column,
                key=config.key,
                scale=config.scale,
                drop_nonfinite=config.drop_nonfinite,
            ).read()
            for name, path in zip(names, config.embeddings, strict=True)
        }
        label_file = io.read_labels(
            config.labels, id_column=config.id_column, label_column=config.label_column
        )
        joined = io.join(
            embeddings,
            label_file,
            max_unjoined=config.max_unjoined,
            max_unjoined_labels=config.max_unjoined_labels,
        )
    for note in label_file.notes:
        print("warning:", printable(note), file=sys.stderr)
    dropped = {name: given.dropped_ids for name, given in embeddings.items()}
    files = dict(zip(names, map(str, config.embeddings), strict=True))
    return Rows(joined, dropped, files, embeddings)


def console(config: Given) -> Console:
    """Where tables go: standard error where JSON has standard output."""
    made = Console(stderr=config.json == Path("-"), markup=False, highlight=False, emoji=False)
    made.width = max(made.width, MIN_WIDTH)
    return made


def write_json(config: Given, content: Any) -> None:
    """Writes what was asked for as JSON, before anything is shown: a table on the screen means
    that the file is there too."""
    if config.json == Path("-"):
        print(json_text.dumps(report.to_json(content), indent=1, ensure_ascii=False))
    elif config.json is not None:
        report.write_json(config.json, content)


def _names(paths: Sequence[Path]) -> list[str]:
    """File stems; whole paths where stems are equal."""
    stems = [path.stem for path in paths]
    return [
        str(path) if stems.count(stem) > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]
