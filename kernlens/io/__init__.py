"""Embedding and label files in, whole or in chunks; arrays, text and bytes out.

Rows are matched by id. Ids compare as text: the integer 7, the float 7.0 that a table with gaps
makes of it, and the text "7" are one id; "007" is another. A file without ids goes by row number,
from 0.

Columns are found so, unless an argument names them:

- vectors are the only column of lists (or of texts that hold vectors), or the numbered columns of
  one name, ``d0, d1, ...``; no other column becomes a dimension unless it is named;
- with one list column of integers, a column ``scale`` multiplies each row;
- the id is the column called ``id`` (in any case), the one with the name of an id (``item_id``,
  ``movieId``, ``sku``, ...), pandas' saved index, or the only text; where several columns may be
  it, it has to be named;
- the label is the column called ``label`` (in any case), or the only one that is not the id; of two
  columns that neither name settles, the id is the one without repeated values.

What was taken as what stands in ``told``, and the command line prints it.
"""

from kernlens.io.arrays import arrays_from_bytes, arrays_to_bytes, read_arrays, write_arrays
from kernlens.io.embeddings import check_readable, open_embeddings, read_embeddings
from kernlens.io.events import Events, align, read_events
from kernlens.io.join import Joined, JoinedStream, Unjoined, join, join_stream, some
from kernlens.io.label_columns import LabelColumn, read_label_column
from kernlens.io.labels import LabelFile, read_labels
from kernlens.io.limits import Limits
from kernlens.io.shards import parse
from kernlens.io.stream import Chunk, EmbeddingFiles, Embeddings, fingerprint
from kernlens.io.suspicions import telling

__all__ = [
    "Chunk",
    "EmbeddingFiles",
    "Embeddings",
    "Events",
    "Joined",
    "JoinedStream",
    "LabelColumn",
    "LabelFile",
    "Limits",
    "Unjoined",
    "align",
    "arrays_from_bytes",
    "arrays_to_bytes",
    "check_readable",
    "fingerprint",
    "join",
    "join_stream",
    "open_embeddings",
    "parse",
    "read_arrays",
    "read_embeddings",
    "read_events",
    "read_label_column",
    "read_labels",
    "some",
    "telling",
    "write_arrays",
]
