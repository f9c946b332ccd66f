"""Probes: held-out prediction of what a trained head would reach.

A probe is ``(features, labels, *, draws, level, seed) -> Prediction``; :data:`PROBES` has them by
name. Logistic regression, the default, is refitted without each of five folds, along a path of
penalties; an MLP is trained without each. Discriminant analysis and ridge refit without each row in
turn, exactly, for every row and a whole path of ridge strengths, at the cost of one fit.
"""

from kernlens.probes.about import ABOUT, PROBES, TUNED
from kernlens.probes.class_means import class_means
from kernlens.probes.curve import Curve
from kernlens.probes.discriminant import discriminant
from kernlens.probes.few_labels import FewLabels, few_labels
from kernlens.probes.held_out import HeldOut
from kernlens.probes.label_influence import LabelInfluence, label_influence
from kernlens.probes.learning_curve import learning_curve
from kernlens.probes.logistic import PENALTIES, logistic
from kernlens.probes.logistic_path import METRICS
from kernlens.probes.mlp import mlp
from kernlens.probes.neighbours import neighbours
from kernlens.probes.paired import (
    differences,
    influence,
    level_together,
    paired_difference,
    pairwise_differences,
    simultaneous_level,
    step_down,
    widened,
)
from kernlens.probes.paths import MIN_STRENGTH, NEAR, STRENGTHS
from kernlens.probes.prediction import (
    LOG_LOSS,
    LOWER_IS_BETTER,
    SQUARED_ERROR,
    TITLES,
    Path,
    Prediction,
)
from kernlens.probes.ridge import ridge

__all__ = [
    "ABOUT",
    "LOG_LOSS",
    "LOWER_IS_BETTER",
    "METRICS",
    "MIN_STRENGTH",
    "NEAR",
    "PENALTIES",
    "PROBES",
    "SQUARED_ERROR",
    "STRENGTHS",
    "TITLES",
    "TUNED",
    "Curve",
    "FewLabels",
    "HeldOut",
    "LabelInfluence",
    "Path",
    "Prediction",
    "class_means",
    "differences",
    "discriminant",
    "few_labels",
    "influence",
    "label_influence",
    "learning_curve",
    "level_together",
    "logistic",
    "mlp",
    "neighbours",
    "paired_difference",
    "pairwise_differences",
    "ridge",
    "simultaneous_level",
    "step_down",
    "widened",
]
