"""The verbs: what will this embedding do, and which of these is best?"""

from kernlens.lens.compare import (
    ABOVE,
    BEST,
    CHANCE,
    TIED,
    WORSE,
    Comparison,
    Entry,
    compare,
    decoder_name,
)
from kernlens.lens.predict import predict
from kernlens.lens.standings import Standing, standings

__all__ = [
    "ABOVE",
    "BEST",
    "CHANCE",
    "TIED",
    "WORSE",
    "Comparison",
    "Entry",
    "Standing",
    "compare",
    "decoder_name",
    "predict",
    "standings",
]
