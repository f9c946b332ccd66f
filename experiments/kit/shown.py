"""What an experiment shows: tables and claims, from its results file alone.

An experiment gives ``tables(results) -> [Table]`` and, where it tests a claim,
``claims(results) -> [Claim]``. ``python -m experiments.kit.pages`` writes the pages from them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kernlens.show.table import Column, Table, shown
from kernlens.types import Interval

LEVEL = 0.9
"""Nominal coverage of every interval in committed results."""

MET = {True: "met", False: "missed", None: "not judged"}
TITLES = {"complete_journey": "Complete Journey", "ml-1m": "MovieLens-1M"}
"""What a data set, or the folder that it was read from, is called."""


class Claim(NamedTuple):
    """A claim, what was measured, and whether it holds.

    Attributes:
      text: the claim, with its number in the paper and the data.
      measured: what was measured, with its interval, by what it is of.
      verdict: by the rule at the head of the experiment.
    """

    text: str
    measured: Mapping[str, Any]
    verdict: str

    def said(self) -> str:
        """What was measured, in a line."""
        return "; ".join(f"{name} {shown(value, '.3f')}" for name, value in self.measured.items())


def interval(found: Mapping[str, Any] | None) -> Interval:
    """An interval as results files keep it; NaN where it is undefined."""
    if found is None or found["value"] is None or found["low"] is None:
        return Interval(math.nan, math.nan, math.nan, LEVEL)
    return Interval(found["value"], found["low"], number(found["high"]), LEVEL)


def number(value: float | None) -> float:
    """A number, or NaN for what results files keep as null."""
    return math.nan if value is None else value


def table(
    rows: Sequence[Mapping[str, Any]], formats: Mapping[str, str] | None = None, title: str = ""
) -> Table:
    """A table of rows whose keys are its heads.

    Args:
      rows: cells by head; a head may be missing from a row.
      formats: format specification of a column's numbers, by head.
      title: a line above the table.
    """
    heads = dict.fromkeys(head for row in rows for head in row)
    return Table(
        rows, [Column(head, format=(formats or {}).get(head, "")) for head in heads], title
    )


def data_of(results: Mapping[str, Any]) -> str:
    """The data set of a results file, with the order inside a history where that is a choice."""
    config = results["config"]
    if config["root"] is None:
        return title_of(config)
    order = {"time": "by time", "stored": "as stored", "random": "in random order"}
    return f"{title_of(config)} {order[config['order']]}"


def title_of(config: Mapping[str, Any]) -> str:
    """What a configuration's data set is called: by its folder or file, where it has one."""
    name = str(config["root"] or config["data"])
    return TITLES.get(name, name)


def footer(results: Mapping[str, Any]) -> str:
    """The command, how long it took, on what, and the verdict where there is one."""
    command = re.sub(r" --peer \S+", " --peer PYTHON", results["command"])
    told, cpus = results["environment"], results["environment"].get("cpus")
    cores = "one CPU core" if cpus == 1 else f"{cpus} CPU cores" if cpus else told["platform"]
    minutes = max(1, round(results["seconds"] / 60))
    said = f"`{command}`, {minutes:,} minute{'s' * (minutes > 1)}, jax {told['jax']} on {cores}"
    summary = results["summary"]
    verdict = summary.get("verdict") if isinstance(summary, Mapping) else None
    return f"{said}: {verdict}." if verdict else f"{said}."
