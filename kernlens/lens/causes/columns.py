"""Causes that lie in columns and directions: scales, rank, digits, a common mean, a leak."""

from functools import partial

import numpy as np

from kernlens.lens.causes import remedies
from kernlens.lens.causes.cause import Measure
from kernlens.lens.causes.evidence import Evidence

RANK = 1e-10
"""Eigenvalue of the correlation matrix, relative to the largest, that is none: float32 leaves
1e-14 of an exact dependence."""


def column_scales(evidence: Evidence) -> Measure:
    """Largest variance of a column over the median one."""
    varied = np.sort(evidence.variances[evidence.variances > 0])
    score = float(varied[-1] / np.median(varied)) if len(varied) else 1.0
    worst = int(np.argmax(evidence.variances))
    said = f"column {worst} has {score:,.3g} x the median variance"
    return Measure(score, 1.0, said, remedy=remedies.standardise, action="standardise the columns")


def rank_loss(evidence: Evidence) -> Measure:
    """Share of dimensions that are constant or follow exactly from the others."""
    n, d = evidence.rows.shape
    most = min(n - 1, d)
    rank = int(np.sum(evidence.spectrum > RANK * max(evidence.spectrum[0], 1e-300)))
    constant = int(np.sum(evidence.variances == 0))
    lost = max(most - rank, 0)
    said = f"rank {rank} of {most}"
    if constant:
        said += f"; {constant} columns are constant"
    return Measure(lost / most, 0.0, said)


def collapse(evidence: Evidence) -> Measure | None:
    """Share of dimensions that the spectrum leaves unused: 1 - effective rank / rank."""
    values = evidence.spectrum[evidence.spectrum > RANK * max(evidence.spectrum[0], 1e-300)]
    if len(values) < 8:
        return None
    shares = values / values.sum()
    effective = float(np.exp(-np.sum(shares * np.log(shares))))
    said = f"variance spreads over {effective:.1f} of {len(values)} directions"
    return Measure(
        1.0 - effective / len(values), 0.0, said, remedy=remedies.whiten,
        action="whiten the directions",
    )  # fmt: skip


def quantised(evidence: Evidence) -> Measure:
    """How much shorter the list of a column's values is than that of the rows, in logarithms."""
    rows, n = evidence.rows, evidence.num_distinct
    varied = np.flatnonzero(evidence.variances > 0)
    counts = [len(np.unique(rows[:, j])) for j in varied]
    middle = float(np.median(counts)) if counts else 1.0
    said = f"columns have {middle:,.0f} distinct values (median) in {n:,} distinct rows"
    return Measure(1.0 - np.log(max(middle, 1.0)) / np.log(max(n, 2)), 0.0, said)


def anisotropy(evidence: Evidence) -> Measure:
    """Share of the mean square of rows that their common mean has."""
    mean = evidence.rows.mean(axis=0)
    whole = float(np.mean(np.sum(evidence.rows**2, axis=1)))
    score = float(mean @ mean) / whole if whole > 0 else 0.0
    said = f"{score:.0%} of the rows' mean square is one common direction"
    return Measure(score, 0.0, said, remedy=remedies.centre, action="subtract the mean")


def leak(evidence: Evidence) -> Measure | None:
    """Largest share of a column's variance that lies between the classes."""
    codes, z = evidence.codes, evidence.standard
    if codes is None or z.shape[1] < 2:
        return None
    counts = np.bincount(codes)
    sums = np.zeros((len(counts), z.shape[1]))
    np.add.at(sums, codes, z)
    known = counts > 0
    between = np.sum(sums[known] ** 2 / counts[known, None], axis=0) / len(z)
    worst = int(np.argmax(between))
    null = (int(known.sum()) - 1) / max(len(z) - 1, 1)
    said = f"classes explain {between[worst]:.0%} of column {worst}'s variance"
    return Measure(
        float(between[worst]), null, said,
        remedy=partial(remedies.without_columns, columns=(worst,)), action=f"drop column {worst}",
    )  # fmt: skip
