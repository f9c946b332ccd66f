"""Terminals that lack characters: what they cannot show is spelt, and never ends a command."""

import codecs
import json
import sys
from typing import Any

from kernlens.show.values import to_json

SPELT = {
    "─": "-", "━": "-", "–": "-", "—": "-", "·": "-", "×": "x", "±": "+-", "≤": "<=", "≥": ">=",
    "→": "->", "…": "...", "²": "^2", "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip
"""Signs of our own, in ASCII; other characters become ``\\xe9`` or ``\\u03b1``."""

_NAME = "kernlens.spelt"


def any_text() -> None:
    """Has standard output and error take any text, whatever their encoding.

    File names that are no UTF-8 are shown with their bytes, as ``\\udcff``.
    """
    codecs.register_error(_NAME, _spelt)
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_NAME)


def print_json(value: Any) -> None:
    """Prints the value as JSON, in ASCII where standard output takes no more."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    wide = encoding.lower().startswith("utf")
    print(json.dumps(to_json(value), indent=1, ensure_ascii=not wide))


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    spelt = (SPELT.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(spelt), error.end
