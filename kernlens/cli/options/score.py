"""Options of ``kernlens score``."""

from dataclasses import dataclass
from typing import ClassVar

from kernlens.cli import memory
from kernlens.cli.helptext import explained
from kernlens.cli.options import given
from kernlens.cli.options.kinds import ScoreName


@explained
@dataclass(frozen=True)
class Score(given.Given):
    """Ranks embeddings by published transferability scores, with intervals.

    Example: kernlens score behaviour.npy text.npy --labels departments.csv --scores logme h_score
    """

    scores: tuple[ScoreName, ...] = ("centred_alignment", "logme", "h_score")
    """Scores to compute; SCORES.md says what each predicts and where it misleads."""

    _work: ClassVar[memory.Work] = memory.SCORES

    def __post_init__(self):
        super().__post_init__()
        if not self.scores:
            raise ValueError("--scores must name at least one score")
        if self.export is not None:
            raise ValueError("--export writes an answer to each row, and a score gives none")
