"""What the demo runs, and its data."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from kernlens import datasets, files, targets
from kernlens.types import Interactions, Labels


class Task(NamedTuple):
    """Interactions to pretrain on, and the classes of their items."""

    data: Interactions
    labels: Labels


@dataclass(frozen=True)
class Config:
    """Predicts, then trains, a small grid of item embeddings, and compares the two.

    Example: kernlens demo --short
    """

    out: Path = Path("demo")
    """Folder for table.txt, results.json, figure.png and index.html."""
    data: str = "complete_journey"
    """Data set; `synthetic` needs no extra package."""
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
        data = datasets.load(self.data)
        if self.label not in data.labels:
            raise ValueError(
                f"{self.data} has no label {self.label!r}; choices: {', '.join(data.labels)}"
            )
        return Task(data, targets.drop_rare(data.labels[self.label], self.min_class_count))


def command_of(config: Config) -> str:
    """The command that repeats a run; the folder it wrote to does not matter."""
    words = ["kernlens", "demo"]
    for field in fields(Config):
        value = getattr(config, field.name)
        if field.name != "out" and value != field.default:
            flag = f"--{field.name.replace('_', '-')}"
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)
