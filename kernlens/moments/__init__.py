r"""Moments of features and targets: a commutative monoid, filled in one pass.

:func:`init` is the identity, :func:`merge` the operation, :func:`update` takes a batch of rows;
so a file of any size streams (:func:`from_stream`), and shards merge across devices and machines in
any order (:func:`all_merge`). All second and higher moments are centred and merged with the
pairwise updates of Chan, Golub and LeVeque, and the mean is carried in two words, so a mean far
larger than the spread costs no accuracy.

Weights are multiplicities: a row of weight 2 counts as two equal rows, a row of weight 0 (padding)
as none. A row without a label (code below 0) counts in everything that does not name a class.

Edits are answered from what is stored, without the rows or with few of them:
:func:`select`, :func:`relabel`, :func:`with_labels`, :func:`merge_classes`, :func:`concatenate`,
:func:`remove`.
"""

from kernlens.moments.arrays import from_arrays
from kernlens.moments.derived import (
    between_scatter,
    class_means,
    class_spreads,
    class_sums,
    column_scatters,
    covariance,
    fourth,
    full_scatter,
    total_scatter,
)
from kernlens.moments.edits import (
    concatenate,
    drop_targets,
    merge_classes,
    relabel,
    select,
    with_labels,
)
from kernlens.moments.monoid import all_merge, merge, remove, update
from kernlens.moments.state import Moments, init
from kernlens.moments.stream import from_stream

__all__ = [
    "Moments",
    "all_merge",
    "between_scatter",
    "class_means",
    "class_spreads",
    "class_sums",
    "column_scatters",
    "concatenate",
    "covariance",
    "drop_targets",
    "fourth",
    "from_arrays",
    "from_stream",
    "full_scatter",
    "init",
    "merge",
    "merge_classes",
    "relabel",
    "remove",
    "select",
    "total_scatter",
    "update",
    "with_labels",
]
