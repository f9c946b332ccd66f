"""The verbs: what will this embedding do, and which of these is best?"""

from kernlens.lens.compare import Comparison, Entry, compare, decoder_name
from kernlens.lens.next_items import NextItemsPrediction, Ranks
from kernlens.lens.next_items_compare import NextItemsComparison, NextItemsEntry
from kernlens.lens.predict import predict
from kernlens.lens.standings import Standing, standings
from kernlens.lens.verdicts import ABOVE, BEST, CHANCE, TIED, WORSE

__all__ = [
    "ABOVE",
    "BEST",
    "CHANCE",
    "TIED",
    "WORSE",
    "Comparison",
    "Entry",
    "NextItemsComparison",
    "NextItemsEntry",
    "NextItemsPrediction",
    "Ranks",
    "Standing",
    "compare",
    "decoder_name",
    "predict",
    "standings",
]
