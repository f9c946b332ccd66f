"""Causes that lie in rows: outliers, copies, their order, their lengths."""

import numpy as np

from kernlens.lens.causes import remedies
from kernlens.lens.causes.cause import Measure, blame, share
from kernlens.lens.causes.evidence import Evidence

COPIED = 0.01
"""Share of copies from which it is predicted what a split that ignores them would show."""

NAIVE = "a random split of these rows puts copies on both sides and shows too much"


def outlier_rows(evidence: Evidence) -> Measure:
    """Share of rows whose log length is six robust standard deviations above the median."""
    lengths, bound = evidence.log_lengths, evidence.length_bound
    middle = float(np.median(lengths))
    beyond = lengths > bound
    count = int(np.count_nonzero(beyond))
    longest = float(np.exp(lengths.max() - middle))
    said = f"{share(count, len(lengths))} are outliers, the longest {longest:,.0f} x the median"
    score = count / len(lengths) if count > 1 else 0.0  # one row alone is no pattern
    return Measure(
        score, 0.0, said, blame((lengths - middle) / (bound - middle)),
        remedies.clip_lengths, "clip the lengths of rows",
    )  # fmt: skip


def duplicates(evidence: Evidence) -> Measure | None:
    """Share of rows that are copies, and what a split that ignores them would show."""
    groups = evidence.groups
    if groups is None:
        return None
    sizes = np.bincount(groups)[groups]
    count = len(groups) - int(groups.max()) - 1
    said = f"{share(count, len(groups))} are copies of another row"
    equal = len(groups) - evidence.num_distinct - count
    if equal > 0:
        said += f"; {equal:,} more equal a row of another class, which no head can separate"
    if count < COPIED * len(groups) or evidence.codes is None:
        return Measure(count / len(groups), 0.0, said, (sizes > 1).astype(np.float64))
    gain = evidence.gain(evidence.naive)
    said += f"; a split that ignores them shows {gain:+.3f}"
    return Measure(
        count / len(groups), 0.0, said, (sizes > 1).astype(np.float64),
        invalid=NAIVE if gain.separated else "",
    )  # fmt: skip


def row_order(evidence: Evidence) -> Measure | None:
    """How much likelier neighbours in the table share a class than any two rows."""
    codes = evidence.codes
    if codes is None or len(codes) < 2:
        return None
    shares = np.bincount(codes) / len(codes)
    chance = float(np.sum(shares**2))
    same = float(np.mean(codes[1:] == codes[:-1]))
    said = f"{same:.0%} of rows have the class of the row before, {chance:.0%} by chance"
    return Measure((same - chance) / max(1.0 - chance, 1e-12), 0.0, said)


def row_scales(evidence: Evidence) -> Measure:
    """Robust standard deviation of the log lengths of rows."""
    lengths = evidence.log_lengths
    spread = 1.4826 * float(np.median(np.abs(lengths - np.median(lengths))))
    low, high = np.exp(np.quantile(lengths, [0.05, 0.95]))
    said = f"lengths of rows run from {low:.3g} to {high:.3g} (5% to 95%)"
    return Measure(
        spread, 0.1, said, remedy=remedies.unit_lengths, action="bring rows to unit length"
    )
