"""Widths of columns in a terminal: text is folded, numbers and intervals are never broken."""

import textwrap
from collections.abc import Sequence

FOLDED, NARROWEST = 14, 4
"""Characters to which a long name may be folded, and to which it is where there is no other way."""

LINES = 3
"""Lines of a text, about, before numbers give way to it."""

GAP = 2
"""Blanks between two columns."""


def line(widths: Sequence[int]) -> int:
    """Characters of a line of columns."""
    return sum(widths) + GAP * (len(widths) - 1)


def least(head: str, cells: Sequence[str], is_number: bool) -> int:
    """The least width of a column.

    Args:
      head: what stands above it.
      cells: texts of its rows.
      is_number: whether these are numbers, which are not folded.

    Returns:
      Characters.
    """
    words = head.split()
    if is_number:
        return max(map(len, ["", *words, *cells]))
    words += [word for cell in cells for word in cell.split(" ")]
    about = max(map(len, cells), default=0) // LINES + 2
    return min(max(about, *map(len, ["", *words])), FOLDED)


def folded(text: str, width: int) -> str:
    """A text in lines, broken at blanks and hyphens where it can be.

    Examples:
      >>> folded("whiten-rotate-colour", 19)
      'whiten-rotate-\\ncolour'
    """
    if len(text) <= width:
        return text
    return "\n".join(textwrap.wrap(text, width))


def groups(
    least: Sequence[int], is_number: Sequence[bool], spare: Sequence[bool], width: int
) -> list[list[int]]:
    """Columns that stand side by side, where there is no room for all.

    The first group has all texts and as many numbers as fit, spare ones last; each further one the
    texts that lead and numbers that found no room.

    Args:
      least: least width of each column.
      is_number: whether it holds numbers.
      spare: whether it is the first to give way.
      width: of the terminal.

    Returns:
      Column numbers of each group, rising.

    Examples:
      >>> groups([9, 20, 20, 7], [False, True, True, False], [False, True, False, False], 60)
      [[0, 2, 3], [0, 1]]
    """
    numbers = [i for i, number in enumerate(is_number) if number]
    if line(least) <= width or len(numbers) < 2:
        return [list(range(len(least)))]
    waiting = sorted(numbers, key=lambda i: spare[i])
    kept = [i for i, number in enumerate(is_number) if not number]
    lead = [i for i in kept if i < numbers[0]]
    found = []
    while waiting:
        own = [*kept, waiting.pop(0)]
        for i in list(waiting):
            if line([least[k] for k in (*own, i)]) <= width:
                own.append(i)
                waiting.remove(i)
        found.append(sorted(own))
        kept = lead
    return found


def shared(
    least: Sequence[int], full: Sequence[int], width: int, is_number: Sequence[bool]
) -> list[int]:
    """The least widths, and what is left over given to columns of text, from the first on.

    Where even the least are too wide, it is the widest text that gives way.
    """
    found, texts = list(least), [i for i, number in enumerate(is_number) if not number]
    for i in texts:
        found[i] += max(0, min(full[i] - found[i], width - line(found)))
    while line(found) > width and max((found[i] for i in texts), default=0) > NARROWEST:
        found[max(texts, key=lambda i: found[i])] -= 1
    return found
