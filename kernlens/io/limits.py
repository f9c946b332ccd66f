"""What a file may cost: bounds that hostile and damaged files run into before memory is taken."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Limits(NamedTuple):
    """Bounds on what is read of one file.

    Attributes:
      expansion: bytes of values that a byte of the file may stand for, beyond ``free``. Packed
        embeddings reach 2, packed text 10; a packed file of zeros reaches 1,000.
      free: bytes of values that any file may hold, however small it is.
      text: characters of the longest id or label.
      line: bytes of the longest line of a text file.
      columns: columns of a table.
    """

    expansion: float = 100.0
    free: int = 2**25
    text: int = 4096
    line: int = 2**24
    columns: int = 2**16

    def bytes_of(self, path: Path) -> int:
        """How many bytes a file may become."""
        return int(max(self.free, self.expansion * path.stat().st_size))

    def check_shape(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Refuses a declared shape that a file of this size should not hold; takes no memory."""
        declared = int(np.prod([int(side) for side in shape], dtype=object)) * dtype.itemsize
        if declared > self.bytes_of(path):
            raise ValueError(
                f"{path}: declares {declared:,} bytes, shape {tuple(map(int, shape))} of {dtype}, "
                f"in a file of {path.stat().st_size:,}; a damaged file or a bomb? Raise "
                "--max-expansion (Limits.expansion) if it is right"
            )

    def check_text(self, where: str, longest: int) -> None:
        """Refuses an id or label that is longer than any should be."""
        if longest > self.text:
            raise ValueError(
                f"{where}: a text of {longest:,} characters; expected at most {self.text:,} in an "
                "id or a label. Is another column meant? Name it with --id-column or --label-column"
            )


LIMITS = Limits()
"""What is allowed where nothing is said."""


class Asked(NamedTuple):
    """What a user says about the columns or arrays of a file.

    Attributes:
      id_column: name of the ids, or None to find them.
      columns: names or patterns of the columns that hold the vectors; none to find them.
      key: name of the array that holds them, in formats of named arrays.
      by_row: whether ids are passed over.
      limits: bounds on what is read.
    """

    id_column: str | None = None
    columns: tuple[str, ...] = ()
    key: str | None = None
    by_row: bool = False
    limits: Limits = LIMITS


ASKED = Asked()
"""What a user who says nothing asks."""
