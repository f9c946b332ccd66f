"""Probes: closed-form held-out prediction of what a trained head would reach."""

from kernlens.probes.closed_form import (
    ABOUT,
    LOG_LOSS,
    METRICS,
    MIN_STRENGTH,
    NEAR,
    PROBES,
    SQUARED_ERROR,
    STRENGTHS,
    Difference,
    discriminant,
    paired_difference,
    ridge,
    value_of,
)

__all__ = [
    "ABOUT",
    "LOG_LOSS",
    "METRICS",
    "MIN_STRENGTH",
    "NEAR",
    "PROBES",
    "SQUARED_ERROR",
    "STRENGTHS",
    "Difference",
    "discriminant",
    "paired_difference",
    "ridge",
    "value_of",
]
