"""What a target asks: a class, an amount or several labels for each row.

:func:`as_target` finds out from the values; :func:`labels`, :func:`values` and :func:`multi_labels`
are told. Row ``i`` of a target belongs to row ``i`` of the embeddings: the index of a pandas Series
is not read. None, NaN, NA, NaT and the empty string are missing, and such a row has no label.
"""

from kernlens.targets.ambiguity import as_target
from kernlens.targets.kinds import labels, multi_labels, values
from kernlens.targets.rows import drop_rare, held_out_of, labelled_rows, num_rows, take

__all__ = [
    "as_target",
    "drop_rare",
    "held_out_of",
    "labelled_rows",
    "labels",
    "multi_labels",
    "num_rows",
    "take",
    "values",
]
