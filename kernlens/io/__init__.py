"""Embedding and label files in, whole or in chunks; arrays, text and bytes out.

Rows are matched by id. Ids compare as text: the integer 7, the float 7.0 that a table with gaps
makes of it, and the text "7" are one id; "007" is another. A file without ids goes by row number,
from 0.

Columns are found so, in Parquet, Arrow and CSV, unless ``id_column`` or ``label_column`` names
them:

- the id is the column called ``id`` (in any case) or pandas' saved index;
- vectors are the only column of lists, or else all numeric columns but the id;
- beside one list column of integers, ``scale`` is what each row is multiplied with;
- beside one list column, the only other column is the id; among numeric columns, the only column of
  text or, where all others hold floats, the only one of integers;
- the label is the column called ``label`` (in any case), or the only one that is not the id; of two
  columns that neither name settles, the first is the id.
"""

from kernlens.io.arrays import arrays_from_bytes, arrays_to_bytes, read_arrays, write_arrays
from kernlens.io.embeddings import open_embeddings, read_embeddings
from kernlens.io.events import Events, align, read_events
from kernlens.io.join import Joined, JoinedStream, Unjoined, join, join_stream, some
from kernlens.io.labels import LabelFile, read_labels
from kernlens.io.stream import Chunk, EmbeddingFiles, Embeddings, fingerprint

__all__ = [
    "Chunk",
    "EmbeddingFiles",
    "Embeddings",
    "Events",
    "Joined",
    "JoinedStream",
    "LabelFile",
    "Unjoined",
    "align",
    "arrays_from_bytes",
    "arrays_to_bytes",
    "fingerprint",
    "join",
    "join_stream",
    "open_embeddings",
    "read_arrays",
    "read_embeddings",
    "read_events",
    "read_labels",
    "some",
    "write_arrays",
]
