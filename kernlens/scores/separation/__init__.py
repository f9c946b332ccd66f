"""Class separation from one pass: H-scores, coding rates and Bhattacharyya overlaps."""

from kernlens.scores.estimator import Estimator
from kernlens.scores.separation.h_scores import H_SCORES, h_score, shrunk_h_score
from kernlens.scores.separation.overlaps import OVERLAPS, gbc_diagonal, gbc_full, gbc_spherical
from kernlens.scores.separation.rates import (
    RATES,
    coding_rates,
    projected_coding_rates,
    transrate,
    transrate_of_rows,
    transrate_weighted,
)

SEPARATION: dict[str, Estimator] = {**H_SCORES, **RATES, **OVERLAPS}
"""Scores of class separation by name."""

__all__ = [
    "SEPARATION",
    "coding_rates",
    "gbc_diagonal",
    "gbc_full",
    "gbc_spherical",
    "h_score",
    "projected_coding_rates",
    "shrunk_h_score",
    "transrate",
    "transrate_of_rows",
    "transrate_weighted",
]
