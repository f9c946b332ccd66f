"""Options of ``kernlens demo``."""

from dataclasses import dataclass

from kernlens.cli import memory, progress
from kernlens.cli.helptext import explained
from kernlens.demo.config import Config, Task


@explained
@dataclass(frozen=True)
class Demo(Config):
    """Predicts, then trains, a small grid of item embeddings, and compares the two.

    Example: kernlens demo --short
    """

    max_memory: memory.Size = None
    """Most memory to take, such as 2GB; the demo is refused where it needs more. Default: what
    is free."""
    cache: bool = True
    """Keep compiled programs for the next run, in KERNLENS_CACHE or the user's cache folder."""

    def __post_init__(self):
        memory.parse(self.max_memory)

    def read(self) -> Task:
        """Reads the data."""
        needs = memory.check(memory.DEMO, self.max_memory)
        with progress.shown(f"reading {self.data}", needs):
            return super().read()
