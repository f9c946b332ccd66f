"""Options of ``kernlens demo``."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from kernlens import datasets, files, targets
from kernlens.cli import memory, progress
from kernlens.cli.helptext import explained
from kernlens.cli.options.kinds import DatasetName, Folder
from kernlens.types import Interactions, Labels


class Task(NamedTuple):
    """Interactions to pretrain on, and the classes of their items."""

    data: Interactions
    labels: Labels


@explained
@dataclass(frozen=True)
class Demo:
    """Predicts, then trains, a small grid of item embeddings, and compares the two.

    Example: kernlens demo --short
    """

    out: Path = Path("demo")
    """Folder for table.txt, results.json, figure.png and index.html."""
    data: DatasetName = "complete_journey"
    """Data set; `synthetic` needs no extra package, the others but for the default need --root."""
    root: Folder = None
    """Folder with the files that the data set's owner publishes; for `table`, a file of events."""
    label: str = "department"
    """Item label to classify; for `synthetic` it is `class`."""
    seeds: int = 1
    """Pretraining runs of each setting."""
    head_seeds: int = 10
    """Splits and initialisations of each trained head."""
    min_class_count: int = 50
    """Classes with fewer items are left out."""
    short: bool = False
    """Two cheap settings only."""
    max_memory: memory.Size = None
    """Most memory to take, such as 2GB; the demo is refused where it needs more. Default: what
    is free."""
    cache: bool = True
    """Keep compiled programs for the next run, in KERNLENS_CACHE or the user's cache folder."""

    def __post_init__(self):
        memory.parse(self.max_memory)

    def check(self) -> None:
        """Refuses, before anything is read, a folder that cannot be written and missing packages.

        Raises:
          ValueError, OSError, ImportError: says which and why.
        """
        files.check_folder("--out", self.out)
        for package in ("matplotlib", "plotly"):
            files.optional(package, extra="report")

    def read(self) -> Task:
        """Reads the data.

        Raises:
          ValueError, OSError: data or label cannot be used.
          ImportError: a package that reads the data is not installed.
        """
        needs = memory.check(memory.DEMO, self.max_memory)
        with progress.shown(f"reading {self.data}", needs):
            data = datasets.load(self.data, self.root)
        if self.label not in data.labels:
            raise ValueError(
                f"{self.data} has no label {self.label!r}; choices: {', '.join(data.labels)}"
            )
        return Task(data, targets.drop_rare(data.labels[self.label], self.min_class_count))


def command_of(config: Demo) -> str:
    """The command that repeats a run; where it wrote to, its memory and cache do not matter."""
    words = ["kernlens", "demo"]
    for field in fields(Demo):
        value = getattr(config, field.name)
        if field.name not in ("out", "max_memory", "cache") and value != field.default:
            flag = f"--{field.name.replace('_', '-')}"
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)
