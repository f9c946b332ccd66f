"""Summaries of results files, made again from their rows; nothing is run.

    python -m experiments.kit.summaries
    python -m experiments.kit.summaries prop1_bound prop1_bound/movielens

Names are those of `experiments.kit.committed`, all of them by default. The summary and the figure
are replaced by what today's code makes of the rows, and every number that changed is printed with
what it was. Rows, configuration, command, environment and seconds stay as the run left them.
"""

import dataclasses
import json
import math
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from experiments.kit import committed
from experiments.kit.committed import experiment_of
from kernlens.show import report

ROUNDING = 1e-9
"""Relative difference of two sums of the same numbers that is no change."""


class Change(NamedTuple):
    """A number or word that differs, by its place, as ``lines[2].order.low``; None if missing."""

    place: str
    before: Any
    after: Any


def config_of(experiment: ModuleType, kept: Mapping[str, Any]) -> Any:
    """A configuration from what its results file holds; fields that it lacks are the default's.

    Raises:
      ValueError: a field that the experiment does not have.
    """
    fields = {field.name for field in dataclasses.fields(experiment.Config)}
    unknown = sorted(set(kept) - fields)
    if unknown:
        raise ValueError(
            f"{committed.name_in_command(experiment)} has no option {', '.join(unknown)}"
        )
    hints = typing.get_type_hints(experiment.Config)

    def typed(name: str, value: Any) -> Any:
        if isinstance(value, str) and Path in (hints[name], *typing.get_args(hints[name])):
            return Path(value)
        return _tuples(value)

    return experiment.Config(**{name: typed(name, value) for name, value in kept.items()})


def summary_of(results: Mapping[str, Any]) -> Any:
    """What today's code makes of the rows, in JSON's types."""
    experiment = experiment_of(results)
    config = config_of(experiment, results["config"])
    return report.to_json(experiment.summarise(config, results["rows"]))


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers and words of a JSON value by their places; an empty list or object is one too."""
    if isinstance(value, Mapping) and value:
        for key, inside in value.items():
            yield from leaves(inside, f"{place}.{key}" if place else key)
    elif isinstance(value, list) and value:
        for i, inside in enumerate(value):
            yield from leaves(inside, f"{place}[{i}]")
    else:
        yield place, value


def same(before: Any, after: Any, *, rtol: float = ROUNDING, atol: float = 0.0) -> bool:
    """Whether two leaves are equal: counts and words exactly, other numbers to a tolerance."""
    numbers = (int, float)
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if isinstance(before, int) and isinstance(after, int):
        return before == after
    if isinstance(before, numbers) and isinstance(after, numbers):
        return math.isclose(before, after, rel_tol=rtol, abs_tol=atol)
    return before == after


def changes(before: Any, after: Any, **tolerance: float) -> list[Change]:
    """Where two JSON values differ, numbers by more than the tolerance of :func:`same`."""
    old, new = dict(leaves(before)), dict(leaves(after))
    return [
        Change(place, old.get(place), new.get(place))
        for place in dict.fromkeys([*old, *new])
        if (place in old) != (place in new) or not same(old[place], new[place], **tolerance)
    ]


def renew(folder: Path) -> list[Change]:
    """Replaces the summary and the figure of a folder's results; returns what changed."""
    path = folder / "results.json"
    kept = json.loads(path.read_text())
    found = {**kept, "summary": summary_of(kept)}
    if found["summary"] != kept["summary"]:
        report.write_json(path, found)
    report.write_figure(folder / "figure.png", experiment_of(kept).draw(found))
    return changes(kept["summary"], found["summary"])


def main(names: Sequence[str]) -> int:
    """Command line: names of results, all by default."""
    there = committed.folders()
    unknown = [name for name in names if name not in there]
    if unknown:
        print(
            f"error: no results {', '.join(unknown)}; there are {', '.join(there)}", file=sys.stderr
        )
        return 1
    for name in names or there:
        changed = renew(there[name])
        print(f"{name}: {len(changed) or 'no'} change{'s' * (len(changed) != 1)}")
        for place, before, after in changed:
            print(f"  {place}: {before} -> {after}")
    return 0


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
