"""Sequences: Interactions to next-item examples, split into training and test.

A sequence is a session, or all sessions of a user laid end to end. An example is one of its items,
the target, and the items before it. All is NumPy on the host, with no loop over sequences.
"""

from kernlens.targets.sequences.histories import Histories, Past, take
from kernlens.targets.sequences.order import check, keep, sessions, shuffle_ties, sort_by_time
from kernlens.targets.sequences.splits import Split, leave_last_out, split_by_time

__all__ = [
    "Histories",
    "Past",
    "Split",
    "check",
    "keep",
    "leave_last_out",
    "sessions",
    "shuffle_ties",
    "sort_by_time",
    "split_by_time",
    "take",
]
