"""What a target asks: a class, an amount or several labels for each row, or the next item.

:func:`as_target` finds out from the values; :func:`labels`, :func:`values` and :func:`multi_labels`
are told. Row ``i`` of a target belongs to row ``i`` of the embeddings: the index of a pandas Series
is not read. None, NaN, NA, NaT and the empty string are missing, and such a row has no label.
:func:`next_items` turns a log of events into histories and the items that followed.
"""

from kernlens.targets.ambiguity import as_target
from kernlens.targets.kinds import labels, multi_labels, values
from kernlens.targets.next_items import NextItems, next_items, next_items_of
from kernlens.targets.rows import drop_rare, held_out_of, labelled_rows, num_rows, take

__all__ = [
    "NextItems",
    "as_target",
    "drop_rare",
    "held_out_of",
    "labelled_rows",
    "labels",
    "multi_labels",
    "next_items",
    "next_items_of",
    "num_rows",
    "take",
    "values",
]
