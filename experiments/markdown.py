"""Markdown of results: tables and intervals."""

from collections.abc import Mapping
from typing import Any


def markdown(head: list[str], rows: list[list[str]], *, right: bool = True) -> str:
    """A Markdown table, its first column set left and the others right, or all left."""
    lines = [head, ["---"] + ["--:" if right else "---"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(found: Mapping[str, Any] | None, digits: int = 2) -> str:
    """A value with its interval; a dash where it, or its upper end, is undefined."""
    if found is None or found["value"] is None or found["low"] is None:
        return "–"
    value, low, high = (
        "–" if found[key] is None else f"{found[key]:.{digits}f}"
        for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"
