"""``kernlens score``: transferability scores of embeddings."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from kernlens import lens
from kernlens.cli import answers, given, pages
from kernlens.cli.helptext import explained
from kernlens.scores import SCORES
from kernlens.show.table import printable

if TYPE_CHECKING:
    ScoreName = str
else:
    ScoreName = tyro.extras.literal_type_from_choices(SCORES)


@explained
@dataclass(frozen=True)
class Score(given.Given):
    """Ranks embeddings by published transferability scores, with intervals.

    Example: kernlens score behaviour.npy text.npy --labels departments.csv --scores logme h_score
    """

    scores: tuple[ScoreName, ...] = ("centred_alignment", "logme", "h_score")
    """Scores to compute; SCORES.md says what each predicts and where it misleads."""

    def __post_init__(self):
        super().__post_init__()
        if not self.scores:
            raise ValueError("--scores must name at least one score")
        if self.export is not None:
            raise ValueError("--export writes an answer to each row, and a score gives none")


def score(config: Score) -> None:
    """Reads the files, computes the scores, prints the tables and writes the JSON.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file that cannot be used; says which and why.
    """
    start = time.perf_counter()
    rows = given.read(config)
    with Console(file=sys.stderr).status(f"scoring ({rows.needs})"):
        standings = lens.standings(
            rows.values,
            rows.target,
            {name: SCORES[name] for name in config.scores},
            level=config.level,
        )
    seconds = time.perf_counter() - start
    given.write_json(config, answers.scores(config, rows, standings, seconds))
    pages.write(config, rows, standings)
    how = f"{config.level:.0%} intervals over rows; {seconds:.1f} s"
    lines = [answers.joined_line(rows), printable(rows.told)]
    given.show(config, [own.table() for own in standings], lines, how)
