"""The verbs: what will an embedding do, which is best, what moves between runs, what do two add?"""

from kernlens.lens.advice import Upgrade
from kernlens.lens.compare import Comparison, Entry, compare, decoder_name
from kernlens.lens.diagnose import diagnose
from kernlens.lens.diagnosis import Diagnosis, Finding
from kernlens.lens.explore import Explorer, explore
from kernlens.lens.export import export
from kernlens.lens.fuse import Fused, Fusion, fuse
from kernlens.lens.joins import JOINS
from kernlens.lens.mistakes import Judged, judged
from kernlens.lens.moves import Moves
from kernlens.lens.next_items import NextItemsPrediction, Ranks
from kernlens.lens.next_items_compare import NextItemsComparison, NextItemsEntry
from kernlens.lens.predict import predict
from kernlens.lens.report import Provenance, report
from kernlens.lens.stability import Stability, stability
from kernlens.lens.standings import Standing, standings
from kernlens.lens.upgrade import upgrade
from kernlens.lens.verdicts import (
    ABOVE,
    ADDS,
    ALONE,
    BEST,
    CHANCE,
    LOSES,
    TIED,
    UNCLEAR,
    WORSE,
)

__all__ = [
    "ABOVE",
    "ADDS",
    "ALONE",
    "BEST",
    "CHANCE",
    "JOINS",
    "LOSES",
    "TIED",
    "UNCLEAR",
    "WORSE",
    "Comparison",
    "Diagnosis",
    "Entry",
    "Explorer",
    "Finding",
    "Fused",
    "Fusion",
    "Judged",
    "Moves",
    "NextItemsComparison",
    "NextItemsEntry",
    "NextItemsPrediction",
    "Provenance",
    "Ranks",
    "Stability",
    "Standing",
    "Upgrade",
    "compare",
    "decoder_name",
    "diagnose",
    "explore",
    "export",
    "fuse",
    "judged",
    "predict",
    "report",
    "stability",
    "standings",
    "upgrade",
]
