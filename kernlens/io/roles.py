"""What each column or array of a file is: the id, the vectors, their scale, or none of these.

A column becomes a dimension only if it cannot be anything else: it belongs to the one family of
numbered columns (``d0, d1, ...``), or it is named. What is neither id nor dimension is left out,
and is told.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from kernlens import files
from kernlens.io.limits import Asked

LIST, CODES, CELL = "list of floats", "list of integers", "vector in a text"
FLOAT, INTEGER, BOOL, TEXT, OTHER = "float", "integer", "bool", "text", "other"
"""Kinds of columns."""

NUMBERS = (FLOAT, INTEGER, BOOL)
UNNAMED_INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0|", re.IGNORECASE)
"""What pandas calls an index without a name, in Parquet and in CSV."""

_EXACT_ID = re.compile("ids?", re.IGNORECASE)
_ID = re.compile(
    r"(?i:(.*[_\-. ])?(ids?|uid|uuid|guid|sku|asin|isbn|gtin|ean|upc|items?|keys?|words?|tokens?))"
    r"|.*[a-z0-9]I[Dd]s?"
)
_LABEL = re.compile(
    r"(?i:(.*[_\-. ])?(labels?|class|classes|target|category|department))|y", re.IGNORECASE
)
_NUMBERED = re.compile(r"(.*?)(\d{1,6})")
_SHOWN = 8


class Roles(NamedTuple):
    """Which columns of a table hold what.

    Attributes:
      ids: the id column, or None for row numbers.
      vectors: the column of vectors, or one column a dimension.
      kind: of the vectors: ``LIST``, ``CODES`` or ``CELL`` for one column, ``FLOAT`` for several.
      scale: the column that holds what each row of integers is multiplied with, or None.
      left: the columns that are none of these.
    """

    ids: str | None
    vectors: list[str]
    kind: str
    scale: str | None = None
    left: tuple[str, ...] = ()

    @property
    def lists(self) -> bool:
        """Whether one column holds all dimensions."""
        return self.kind in (LIST, CODES, CELL)

    def told(self, dim: int) -> str:
        """What was taken as what, for the line that every answer prints."""
        where = f"in {self.vectors[0]}" if self.lists else ends(self.vectors)
        return told(self.ids, dim, where, self.left)


def told(ids: str | None, dim: int, where: str, left: Sequence[str] = ()) -> str:
    """``id sku · 128 dimensions d0..d127 (left out: price)``."""
    parts = [f"id {ids}" if ids is not None else "by row number"]
    parts.append(f"{dim:,} dimensions {where}".rstrip())
    return " · ".join(parts) + (f" (left out: {some(left)})" if left else "")


def ends(names: Sequence[str]) -> str:
    """The first and the last of several names."""
    return names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"


def some(names: Sequence[str]) -> str:
    """The first few names, for a reader."""
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in names[:_SHOWN]]
    return ", ".join(shown) + (f", ... ({len(names):,} in all)" if len(names) > _SHOWN else "")


def is_id_name(name: str) -> bool:
    """Whether a column is an id by its name: ``id``, ``item_id``, ``movieId``, ``sku``, ..."""
    return _ID.fullmatch(name) is not None


def is_label_name(name: str) -> bool:
    """Whether a column is a label by its name, so that it is not taken for an id."""
    return _LABEL.fullmatch(name) is not None


def choose_columns(
    path: Path,
    fields: Mapping[str, str],
    asked: Asked,
    distinct: Callable[[str], bool],
    *,
    index: str | None = None,
) -> Roles:
    """Which columns of a table are the id, the vectors and the scale.

    Args:
      path: file, for the errors.
      fields: kind of each column, by name, in their order.
      asked: what the user named.
      distinct: says whether a column has no missing and no repeated value, so that it may be an id.
      index: the pandas index, which need not be a column.

    Returns:
      Roles.

    Raises:
      ValueError: a name that is not there, no vectors, several candidates; names them and the
        option that chooses.
    """
    names = list(fields)
    if asked.id_column is not None and asked.id_column != index:
        files.check_columns(path, names, [asked.id_column])
    own = {n: kind for n, kind in fields.items() if n != asked.id_column}
    if asked.columns:
        vectors, kind = _named_vectors(path, own, asked.columns)
    else:
        vectors, kind = _found_vectors(path, own, index)
    taken = set(vectors)
    rest = {name: kind for name, kind in own.items() if name not in taken}
    scale = None
    if kind == CODES:
        scale = next((n for n in rest if n.lower() == "scale" and rest[n] in NUMBERS), None)
    if scale is not None:
        del rest[scale]
    ids = asked.id_column
    if ids is None and not asked.by_row:
        ids = _id_among(path, rest, index, distinct)
    ids = None if asked.by_row else ids
    left = tuple(n for n in rest if n != ids and not UNNAMED_INDEX.fullmatch(n))
    return Roles(ids, vectors, kind, scale, left)


def _named_vectors(
    path: Path, fields: Mapping[str, str], patterns: Sequence[str]
) -> tuple[list[str], str]:
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in fields):
            raise ValueError(
                f"{path}: no column matches --columns {pattern!r}; found {some(list(fields))}"
            )
    found = [name for name in fields if any(_matches(name, one) for one in patterns)]
    kinds = {fields[name] for name in found}
    if len(found) == 1 and kinds <= {LIST, CODES, CELL}:
        return found, kinds.pop()
    wrong = [name for name in found if fields[name] not in NUMBERS]
    if wrong:
        raise ValueError(
            f"{path}: --columns names {some(found)}, and {wrong[0]!r} holds {fields[wrong[0]]}; "
            "expected one column of vectors, or a number in each column"
        )
    return found, FLOAT


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _found_vectors(
    path: Path, fields: Mapping[str, str], index: str | None
) -> tuple[list[str], str]:
    for kind in (LIST, CODES, CELL):
        found = [name for name in fields if fields[name] == kind]
        if len(found) > 1:
            raise ValueError(
                f"{path}: which column holds the vectors? found {some(found)}; name one, as in "
                f"--columns {found[0]} or {path.name}::{found[0]}"
            )
        if found:
            return found, kind
    families = _families([name for name in fields if name != index])
    families = [own for own in families if any(fields[name] in NUMBERS for name in own)]
    if len(families) == 1:
        odd = next((name for name in families[0] if fields[name] not in NUMBERS), None)
        if odd is not None:
            raise ValueError(
                f"{path}: column {odd!r} holds {fields[odd]}, expected a number as in the other "
                f"dimensions {ends(families[0])}; name the dimensions with --columns"
            )
        return families[0], FLOAT
    if families:
        shown = " and ".join(ends(family) for family in families[:4])
        raise ValueError(
            f"{path}: which columns are the dimensions? found {shown}; name them, as in "
            f"--columns '{_stem(families[0][0])}*'"
        )
    shown = [f"{name} ({kind})" for name, kind in fields.items()]
    raise ValueError(
        f"{path}: no vectors: found {some(shown)}; expected a column of lists of numbers, or "
        "numbered columns such as d0, d1, ...; name the dimensions, as in --columns 'pc_*'"
    )


def _stem(name: str) -> str:
    found = _NUMBERED.fullmatch(name)
    return name if found is None else found[1]


def _families(names: Sequence[str]) -> list[list[str]]:
    """Columns of one name with the numbers 0, 1, ... or 1, 2, ... at its end."""
    stems: dict[str, dict[int, str]] = {}
    for name in names:
        found = _NUMBERED.fullmatch(name)
        if found is not None and not is_label_name(found[1].rstrip("_-. ")):
            stems.setdefault(found[1], {})[int(found[2])] = name
    found = [
        [name for name in names if name in set(own.values())]
        for own in stems.values()
        if min(own) in (0, 1) and max(own) - min(own) == len(own) - 1
    ]
    # A number alone is one of a family only if it is 0: "item1" may be anything.
    single = [own for own in found if len(own) == 1 and own[0].endswith("0")]
    return [own for own in found if len(own) > 1] or single


def _id_among(
    path: Path, rest: Mapping[str, str], index: str | None, distinct: Callable[[str], bool]
) -> str | None:
    """The id, by its name, as the pandas index, or as the only text."""
    kinds = (FLOAT, INTEGER, TEXT)
    able = [n for n in rest if rest[n] in kinds and not UNNAMED_INDEX.fullmatch(n)]
    exact = [name for name in able if _EXACT_ID.fullmatch(name)]
    if len(exact) == 1:
        return exact[0]
    unnamed = next((n for n in rest if UNNAMED_INDEX.fullmatch(n) and rest[n] in kinds), None)
    by_name = [name for name in able if is_id_name(name)]
    if index and not UNNAMED_INDEX.fullmatch(index):
        by_name = [index, *(name for name in by_name if name != index)]
    if len(by_name) == 1:
        return by_name[0]
    text = [n for n in able if rest[n] == TEXT and not is_label_name(n)]
    if not by_name:
        if unnamed is not None or index is not None:
            return unnamed if unnamed is not None else index
        if len(text) == 1:
            return text[0]
    numbers = [n for n in able if rest[n] == INTEGER and not is_label_name(n) and distinct(n)]
    candidates = by_name or text or numbers
    if candidates:
        raise ValueError(
            f"{path}: which column is the id? found {some(candidates)}; name it with --id-column "
            f"(as in {path.name}::id={candidates[0]}), or join by row number with --by-row"
        )
    return None
