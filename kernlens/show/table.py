"""Tables: rows and columns once, shown in a terminal, a notebook, Markdown, a page or JSON.

Text from outside is data in every form: markup of the form is escaped, and control characters are
shown, as ``\\x1b``, instead of obeyed.
"""

import html
import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens.files import optional
from kernlens.show import fitting
from kernlens.show.values import to_json
from kernlens.types import Interval

_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|$~^])")


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      key: key of the rows.
      title: shown at its head; the key by default.
      format: format specification of its numbers and intervals, such as ``".3f"``.
      styles: style of the terminal by text of the cell, such as ``{"best": "bold green"}``.
      spare: whether it is the first to stand below, in a terminal that is too narrow for all.
    """

    key: str
    title: str | None = None
    format: str = ""
    styles: Mapping[str, str] = {}
    spare: bool = False

    @property
    def head(self) -> str:
        """What stands at its head."""
        return self.key if self.title is None else self.title


class Table(NamedTuple):
    """Rows of cells: text, numbers, :class:`kernlens.types.Interval` values, or None for nothing.

    >>> rows = [{"name": "a", "gain": Interval(0.1, 0.05, 0.15, level=0.9)}]
    >>> print(Table(rows, (Column("name"), Column("gain", format="+.2f"))).markdown())
    | name | gain |
    | :-- | --: |
    | a | +0.10 \\[+0.05, +0.15\\] |

    Attributes:
      rows: each a mapping from the keys of the columns; a key may be missing.
      columns: in the order shown.
      title: shown above, or "".
    """

    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[Column]
    title: str = ""

    def cells(self) -> list[list[str]]:
        """Text of every cell, row by row, control characters shown."""
        return [[shown(row.get(c.key), c.format) for c in self.columns] for row in self.rows]

    def rich(self, width: int | None = None) -> Any:
        """For a terminal; names are never read as markup.

        Args:
          width: of the terminal; where the table is wider, text is folded, and columns that find no
            room, spare ones first, follow below in tables of their own. No number and no interval
            is broken.

        Returns:
          A ``rich.console.Group`` of tables.
        """
        from rich.console import Group
        from rich.text import Text

        title = [Text(printable(self.title), style="bold")] if self.title else []
        made: list[Any] = []
        for block in [self] if width is None else self._blocks(width):
            made += ["", block._rich(width)] if made else [block._rich(width)]
        return Group(*title, *made)

    def _rich(self, width: int | None) -> Any:
        """As a ``rich.table.Table``."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        full, right = self._widths(), [self._is_right(c) for c in self.columns]
        narrow = width is not None and fitting.line(full) > width
        widths = fitting.shared(self._least(), full, width, right) if narrow and width else full
        made = RichTable(
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            show_edge=False,
            header_style="bold",
        )
        for i, column in enumerate(self.columns):
            head = printable(column.head)
            made.add_column(
                Text(textwrap.fill(head, widths[i]) if narrow and right[i] else head),
                justify="right" if right[i] else "left",
                no_wrap=right[i],
                overflow="fold",
                width=widths[i] if narrow else None,
            )
        for cells in self.cells():
            made.add_row(
                *(
                    Text(
                        fitting.folded(cell, width) if narrow and not number else cell,
                        style=column.styles.get(cell, ""),
                    )
                    for column, cell, width, number in zip(
                        self.columns, cells, widths, right, strict=True
                    )
                )
            )
        return made

    def _blocks(self, width: int) -> list["Table"]:
        """Tables that fit into the width, each with columns that the others lack."""
        right = [self._is_right(column) for column in self.columns]
        if fitting.line(self._widths()) <= width:
            return [self]
        spare = [column.spare for column in self.columns]
        groups = fitting.groups(self._least(), right, spare, width)
        return [self._replace(columns=[self.columns[i] for i in group]) for group in groups]

    def text(self) -> str:
        """Plain lines, columns lined up; trailing spaces cut."""
        lines = [[printable(column.head) for column in self.columns], *self.cells()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = [self._is_right(column) for column in self.columns]
        made = [
            "  ".join(
                cell.rjust(width) if on_right else cell.ljust(width)
                for cell, width, on_right in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([printable(self.title), *made] if self.title else made)

    def first_lines(self, most: int) -> list[str]:
        """The lines of :meth:`text` with the first rows, and how many more there are.

        Args:
          most: rows that are shown.

        Examples:
          >>> Table(({"n": 1}, {"n": 2}, {"n": 3}), (Column("n"),)).first_lines(1)
          ['n', '1', '... and 2 more: .table() has all']
        """
        left_out = len(self.rows) - most
        more = [f"... and {left_out} more: .table() has all"] if left_out > 0 else []
        return [*self._replace(rows=self.rows[:most]).text().splitlines(), *more]

    def markdown(self) -> str:
        """A table of GitHub's Markdown, without the title."""
        lines = [
            [_in_markdown(printable(column.head)) for column in self.columns],
            ["--:" if self._is_right(column) else ":--" for column in self.columns],
            *([_in_markdown(cell) for cell in cells] for cells in self.cells()),
        ]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def html(self, *, stacked: bool = False) -> str:
        """A ``<table>`` with the title as its caption.

        Args:
          stacked: whether it is for a page of :mod:`kernlens.show.page`: each cell then repeats the
            head of its column, shown where a phone stacks the cells of a row.
        """
        marked = ' class="right"'
        head = [printable(column.head) for column in self.columns]

        def line(tag: str, cells: Iterable[str]) -> str:
            own = [marked if self._is_right(column) else "" for column in self.columns]
            if stacked and tag == "th":
                own = [f'{mark} role="columnheader" scope="col"' for mark in own]
            elif stacked:
                own = [
                    f'{mark} role="cell" data-label="{html.escape(name)}"'
                    for mark, name in zip(own, head, strict=True)
                ]
            made = "".join(
                f"<{tag}{mark}>{text}</{tag}>" for mark, text in zip(own, cells, strict=True)
            )
            return f"<tr{role('row')}>{made}</tr>"

        def escaped(row: Mapping[str, Any], texts: Sequence[str]) -> list[str]:
            found = [html.escape(text) for text in texts]
            if not stacked:
                return found
            # Where a page has no room, an interval stands under its value, in one piece.
            return [
                text.replace(", ", ",&nbsp;") if isinstance(row.get(c.key), Interval) else text
                for c, text in zip(self.columns, found, strict=True)
            ]

        def role(name: str) -> str:
            # Cells that are stacked are no table to a screen reader unless it is told.
            return f' role="{name}"' if stacked else ""

        caption = f"<caption>{html.escape(printable(self.title))}</caption>" if self.title else ""
        body = "".join(
            line("td", escaped(row, texts))
            for row, texts in zip(self.rows, self.cells(), strict=True)
        )
        wide = " stacked" if len(self.columns) > 2 else ""
        classes = f' class="sorted{wide}"{role("table")}' if stacked else ""
        group = role("rowgroup")
        return (
            f"<table{classes}>{caption}<thead{group}>{line('th', map(html.escape, head))}</thead>"
            f"<tbody{group}>{body}</tbody></table>"
        )

    def json(self) -> list[dict[str, Any]]:
        """The rows in JSON's types, numbers in full."""
        return [
            {column.key: to_json(row[column.key]) for column in self.columns if column.key in row}
            for row in self.rows
        ]

    def frame(self, library: str = "pandas") -> Any:
        """The rows as a frame: all their text and numbers, those that no column shows too.

        Args:
          library: ``"pandas"`` or ``"polars"``.

        Returns:
          A frame with the columns ``key``, and of intervals ``key_low``, ``key_high`` and, where
          there is one, ``key_null``.

        Raises:
          ValueError: another library.
          ImportError: polars is not installed.
        """
        if library not in ("pandas", "polars"):
            raise ValueError(f"library must be 'pandas' or 'polars'; got {library!r}")
        rows = [_spread(row) for row in self.rows]
        names = list(dict.fromkeys(name for row in rows for name in row))
        held = {name: [row.get(name) for row in rows] for name in names}
        return optional(library, extra="dev").DataFrame(held)

    def flat(self) -> dict[str, float]:
        """Its numbers under one name each, as experiment loggers take them.

        A name is the text cells that begin the row and the key of the column, joined by slashes:
        ``behaviour/Mlp_32/macro_f1``, and ``behaviour/Mlp_32/macro_f1_low`` for the end of an
        interval. Characters that loggers refuse become underscores.

        >>> rows = [{"name": "a (1)", "gain": Interval(0.1, 0.0, 0.2, level=0.9)}]
        >>> Table(rows, (Column("name"), Column("gain"))).flat()
        {'a_1/gain': 0.1, 'a_1/gain_low': 0.0, 'a_1/gain_high': 0.2}

        Returns:
          Numbers by name; where rows have one name, later ones are numbered.
        """
        found: dict[str, float] = {}
        for row in self.rows:
            texts = itertools.takewhile(lambda value: isinstance(value, str), row.values())
            parts = [_logged(text) for text in texts if text]
            for key, value in _spread(row).items():
                if isinstance(value, bool | str) or value is None:
                    continue
                name = first = "/".join([*parts, _logged(key)])
                for i in itertools.count(2):
                    if name not in found:
                        break
                    name = f"{first}_{i}"
                found[name] = float(value)
        return found

    def _widths(self) -> list[int]:
        """Characters of each column on one line."""
        lines = [[printable(column.head) for column in self.columns], *self.cells()]
        return [max(map(len, column)) for column in zip(*lines, strict=True)]

    def _least(self) -> list[int]:
        """Least width of each column: that of its numbers, or what text may be folded to."""
        columns = zip(*self.cells(), strict=True) if self.rows else [()] * len(self.columns)
        return [
            fitting.least(printable(column.head), cells, self._is_right(column))
            for column, cells in zip(self.columns, columns, strict=True)
        ]

    def _is_right(self, column: Column) -> bool:
        """Whether a column holds numbers."""
        held = [row.get(column.key) for row in self.rows]
        held = [value for value in held if value is not None]
        return bool(held) and all(
            isinstance(v, Interval | int | float | np.number) and not isinstance(v, bool)
            for v in held
        )


def to_frame(result: Any, library: str = "pandas") -> Any:
    """The result as a frame, a row for each line of its table.

    Args:
      library: ``"pandas"`` or ``"polars"``.

    Returns:
      A frame; an interval is the columns ``key``, ``key_low``, ``key_high`` and, where there is a
      null, ``key_null``.

    Raises:
      ValueError: another library.
    """
    return getattr(result, "_record", result.table)().frame(library)


def to_dict(result: Any) -> dict[str, float]:
    """The numbers of a result under one flat name each, as experiment loggers take them.

    Returns:
      ``{"behaviour/macro_f1": 0.87, "behaviour/macro_f1_low": 0.84, ...}``.
    """
    return getattr(result, "_record", result.table)().flat()


def _spread(row: Mapping[str, Any]) -> dict[str, Any]:
    """The text and numbers of a row, an interval as its value, ends and null."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Interval):
            found |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
            if value.null is not None:
                found[f"{key}_null"] = value.null
        elif value is None or isinstance(value, str | bool | int | float | np.number):
            found[key] = value
    return found


def _logged(text: str) -> str:
    """A name that loggers take: other characters become underscores."""
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("_") or "_"


def shown(value: Any, spec: str = "") -> str:
    """A cell as text: ``""`` for None, ``"-"`` for a value that is undefined."""
    if value is None:
        return ""
    if isinstance(value, Interval):
        return "-" if math.isnan(value.value) else format(value, spec)
    if isinstance(value, float | np.floating):
        # The form "#", which keeps zeros at the end, would keep a point there too.
        return "-" if math.isnan(value) else format(float(value), spec or ".3g").rstrip(".")
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return format(int(value), spec or ",")
    return printable(str(value))


def printable(text: str) -> str:
    """Text with its control characters shown, so that a terminal does not obey them."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def one_line(text: str, longest: int = 400) -> str:
    """Text as one line of printable characters, its middle left out where it is long."""
    # What is cut below cannot show, and a text may have millions of characters.
    found = printable(" ".join(text[: 4 * longest].split()))
    if len(text) > 4 * longest:
        found = f"{found[: longest // 2]} ... {printable(' '.join(text[-longest // 2 :].split()))}"
    if len(found) > longest:
        found = f"{found[: longest // 2]} ... {found[-(longest // 2 - 5) :]}"
    return found


def _in_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", html.escape(text, quote=False))
