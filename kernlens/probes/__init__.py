"""Probes: closed-form held-out prediction of what a trained head would reach.

A probe is ``(features, labels, *, draws, level, seed) -> Prediction``; :data:`PROBES` has them by
name. Discriminant analysis and ridge refit without each row in turn, exactly, for every row and a
whole path of ridge strengths, at the cost of one fit.
"""

from kernlens.probes.about import ABOUT, PROBES
from kernlens.probes.class_means import class_means
from kernlens.probes.discriminant import discriminant
from kernlens.probes.neighbours import neighbours
from kernlens.probes.paired import (
    influence,
    level_together,
    paired_difference,
    simultaneous_level,
    widened,
)
from kernlens.probes.paths import MIN_STRENGTH, NEAR, STRENGTHS
from kernlens.probes.prediction import (
    ACCURACY,
    BALANCED_ACCURACY,
    LOG_LOSS,
    LOWER_IS_BETTER,
    MACRO_F1,
    MICRO_F1,
    SQUARED_ERROR,
    TITLES,
    Path,
    Prediction,
)
from kernlens.probes.ridge import ridge

METRICS = (ACCURACY, MICRO_F1, MACRO_F1, BALANCED_ACCURACY, LOG_LOSS)
"""What predictions of classes can be compared by; of the log loss less is better."""

__all__ = [
    "ABOUT",
    "LOG_LOSS",
    "LOWER_IS_BETTER",
    "METRICS",
    "MIN_STRENGTH",
    "NEAR",
    "PROBES",
    "SQUARED_ERROR",
    "STRENGTHS",
    "TITLES",
    "Path",
    "Prediction",
    "class_means",
    "discriminant",
    "influence",
    "level_together",
    "neighbours",
    "paired_difference",
    "ridge",
    "simultaneous_level",
    "widened",
]
