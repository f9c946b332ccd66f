"""Charts of a page: values with intervals, bars, curves and points, in plotly's JSON types.

Names stand above what they name, not left of it, so that they fit a phone.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens.show.page import Chart, escaped
from kernlens.show.table import printable
from kernlens.types import Interval

COLOURS = tuple(f"var(--c{i})" for i in range(1, 7))
QUIET = "var(--quiet)"
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
"""Colours are never alone in telling lines apart."""

LONGEST = 26
"""Characters of a name in a chart; its table has all of it."""

ARROW = " → "
"""Between two names in one."""

MOST_ROWS = 24
MOST_LINES = 6
MOST_TICKS = 8

ROW = 46
"""Height of a named row, in pixels."""


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
      name: its name.
      x: places, ``[m]``.
      y: heights, ``[m]``.
      band: lower and upper ends, each ``[m]``, or None.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None = None


def intervals(
    title: str,
    says: str,
    values: Mapping[str, Interval],
    *,
    axis: str,
    spec: str = ".3f",
    marks: Mapping[str, float] | None = None,
) -> Chart:
    """Values with their intervals, a row each, and vertical lines such as the floor.

    Args:
      title: caption.
      says: what it shows.
      values: by name, in the order shown; the first ``MOST_ROWS`` are.
      axis: what the values are.
      spec: format of the numbers.
      marks: vertical lines by name.
    """
    shown = {name: own for name, own in values.items() if math.isfinite(own.value)}
    names = list(shown)[:MOST_ROWS]
    kept = [shown[name] for name in names]
    marks = {name: at for name, at in (marks or {}).items() if math.isfinite(at)}
    says += _more(len(shown) - len(kept))
    value, low, high = (np.array([own[i] for own in kept], float) for i in range(3))
    low, high = np.where(np.isfinite(low), low, value), np.where(np.isfinite(high), high, value)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": value.tolist(),
        "y": list(range(len(kept))),
        "marker": {"size": 10, "color": COLOURS[0]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": (high - value).tolist(),
            "arrayminus": (value - low).tolist(),
            "color": COLOURS[0],
            "thickness": 2.5,
            "width": 5,
        },
        "hoverinfo": "text",
        "hovertext": [
            f"{escaped(name)}<br>{format(own, spec)}" for name, own in zip(names, kept, strict=True)
        ],
    }
    ends = [*low.tolist(), *high.tolist(), *marks.values()]
    span = _span(ends)
    layout = _rows(names, [format(own, spec) for own in kept], span, axis)
    layout["shapes"] = [
        {
            "type": "line",
            "x0": at,
            "x1": at,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": QUIET, "width": 1.5, "dash": DASHES[1 + i % 2]},
            "layer": "below",
        }
        for i, at in enumerate(marks.values())
    ]
    layout["annotations"] += [
        {
            "x": at,
            "yref": "paper",
            "y": 1,
            "yanchor": "bottom",
            "yshift": 2 + 17 * i,
            "xanchor": "left" if at < sum(span) / 2 else "right",
            "showarrow": False,
            "text": escaped(f"{name} {format(at, spec)}" if at else name),
            "font": {"color": QUIET, "size": 12},
        }
        for i, (name, at) in enumerate(marks.items())
    ]
    layout["margin"] = {"l": 8, "r": 14, "t": 12 + 17 * len(marks), "b": 44}
    return Chart(title, says, [trace], layout, ROW * len(kept) + 66 + 17 * len(marks))


def bars(
    title: str, says: str, values: Mapping[str, float], *, axis: str, spec: str = ".1%"
) -> Chart:
    """Amounts, at least 0, a row each; the first ``MOST_ROWS`` are shown."""
    names = list(values)[:MOST_ROWS]
    kept = [float(values[name]) for name in names]
    says += _more(len(values) - len(kept))
    told = [format(value, spec) for value in kept]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": kept,
        "y": list(range(len(kept))),
        "width": 0.26,
        "marker": {"color": COLOURS[0]},
        "hoverinfo": "text",
        "hovertext": [
            f"{escaped(name)}<br>{value}" for name, value in zip(names, told, strict=True)
        ],
    }
    layout = _rows(names, told, (0.0, 1.05 * max(kept) or 1.0), axis)
    layout["xaxis"]["range"][0] = 0.0
    layout["margin"] = {"l": 8, "r": 14, "t": 10, "b": 44}
    if spec.endswith("%"):
        layout["xaxis"]["tickformat"] = ".0%" if max(kept) > 0.06 else ".1%"
    return Chart(title, says, [trace], layout, ROW * len(kept) + 66)


def lines(
    title: str,
    says: str,
    drawn: Sequence[Line],
    *,
    x_axis: str,
    y_axis: str,
    log_x: bool = False,
    log_y: bool = False,
    markers: bool = True,
    spec: str = ".3f",
) -> Chart:
    """Lines with bands; the first ``MOST_LINES`` are shown."""
    kept, traces = drawn[:MOST_LINES], []
    says += _more(len(drawn) - len(kept))
    for i, line in enumerate(kept):
        colour, name = COLOURS[i], escaped(_short(line.name))
        x = [float(value) for value in line.x]
        if line.band is not None:
            low, high = ([float(v) for v in end] for end in line.band)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": [*x, *x[::-1]],
                    "y": [*high, *low[::-1]],
                    "fill": "toself",
                    "fillcolor": f"{colour} 0.16",
                    "line": {"width": 0},
                    "hoverinfo": "skip",
                    "showlegend": False,
                }
            )
            told = [
                f"{y:{spec}} [{a:{spec}}, {b:{spec}}]"
                for y, a, b in zip(line.y, low, high, strict=True)
            ]
        else:
            told = [f"{y:{spec}}" for y in line.y]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if markers else "lines",
                "x": x,
                "y": [float(value) for value in line.y],
                "name": name,
                "line": {"color": colour, "width": 2, "dash": DASHES[i]},
                "marker": {"color": colour, "size": 8, "symbol": SYMBOLS[i]},
                "hoverinfo": "text",
                "hovertext": [
                    f"{escaped(line.name)}<br>{escaped(x_axis)} {at:,.6g}<br>{own}"
                    for at, own in zip(x, told, strict=True)
                ],
            }
        )
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": escaped(x_axis)}},
        "yaxis": {"title": {"text": escaped(y_axis)}},
        "showlegend": len(kept) > 1,
        "legend": _LEGEND,
        "margin": {"l": 8, "r": 14, "t": 10, "b": 8},
    }
    if log_x:
        layout["xaxis"] |= _log_axis(at for line in kept for at in line.x)
    if log_y:
        layout["yaxis"] |= _log_axis(at for line in kept for at in line.y)
    return Chart(title, says, traces, layout, 380 if len(kept) > 1 else 330)


def points(
    title: str,
    says: str,
    drawn: Mapping[str, Sequence[tuple[str, Interval, float, float]]],
    *,
    x_axis: str,
    y_axis: str,
    diagonal: bool,
) -> Chart:
    """Points with intervals, one series a name.

    Args:
      title: caption.
      says: what it shows.
      drawn: by name of the series: name, place with its interval, height and its standard deviation
        of each point.
      x_axis: what the places are.
      y_axis: what the heights are.
      diagonal: whether to draw where both are equal.
    """
    traces: list[dict[str, Any]] = []
    ends = [v for own in drawn.values() for _, x, y, _ in own for v in (x.value, y)]
    if diagonal:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [min(ends), max(ends)],
                "name": "equal",
                "y": [min(ends), max(ends)],
                "line": {"color": QUIET, "dash": "dash", "width": 1.5},
                "hoverinfo": "skip",
            }
        )
    for i, (series, own) in enumerate(drawn.items()):
        x = [point[1] for point in own]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escaped(series),
                "x": [float(v.value) for v in x],
                "y": [float(point[2]) for point in own],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "color": f"{COLOURS[i]} 0.45",
                    "width": 0,
                    "array": [max(float(v.high - v.value), 0.0) for v in x],
                    "arrayminus": [max(float(v.value - v.low), 0.0) for v in x],
                },
                "error_y": {
                    "type": "data",
                    "array": [float(point[3]) for point in own],
                    "width": 0,
                    "color": f"{COLOURS[i]} 0.45",
                },
                "marker": {"size": 10, "color": COLOURS[i], "symbol": SYMBOLS[i]},
                "hoverinfo": "text",
                "hovertext": [
                    f"{escaped(name)}<br>{escaped(x_axis)} {at:.3f}<br>{escaped(series)} "
                    f"{y:.3f} ± {spread:.3f}"
                    for name, at, y, spread in own
                ],
            }
        )
    layout = {
        "xaxis": {"title": {"text": escaped(x_axis)}},
        "yaxis": {"title": {"text": escaped(y_axis)}},
        "showlegend": len(traces) > 1,
        "legend": _LEGEND,
        "margin": {"l": 8, "r": 14, "t": 10, "b": 8},
    }
    return Chart(title, says, traces, layout, 420)


_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}


def _rows(
    names: Sequence[str], told: Sequence[str], span: tuple[float, float], axis: str
) -> dict[str, Any]:
    """Layout of rows: the name above each, its number at the right."""
    notes = []
    for i, (name, said) in enumerate(zip(names, told, strict=True)):
        place = {
            "xref": "paper",
            "y": i,
            "yshift": 17,
            "showarrow": False,
            "bgcolor": "var(--bg)",
            "borderpad": 1,
        }
        notes.append(
            {**place, "x": 0, "xanchor": "left", "text": escaped(_short(name)), "xshift": 3}
        )
        notes.append(
            {
                **place,
                "x": 1,
                "xanchor": "right",
                "text": escaped(said),
                "font": {"color": QUIET, "size": 12},
            }
        )
    room = 0.04 * (span[1] - span[0])
    return {
        "xaxis": {
            "title": {"text": escaped(axis)},
            "range": [span[0] - room, span[1] + room],
            "nticks": 6,
            "zeroline": True,
        },
        "yaxis": {
            "range": [len(names) - 0.6, -0.85],
            "showgrid": False,
            "zeroline": False,
            "showticklabels": False,
            "ticks": "",
        },
        "annotations": notes,
    }


def _span(ends: Sequence[float]) -> tuple[float, float]:
    """Where values lie, with some width."""
    low, high = min(ends), max(ends)
    return (low, high) if high > low else (low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1))


def _log_axis(values: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis whose ticks are written in full."""
    ticks = _log_ticks(sorted({float(value) for value in values}))
    return {
        "type": "log",
        "tickvals": ticks,
        "ticktext": [f"{tick:,.0f}" if tick >= 10 else f"{tick:.3g}" for tick in ticks],
    }


def _log_ticks(values: Sequence[float]) -> list[float]:
    """At few values, each second one; else 1, 2 and 5 times powers of ten; else powers of ten."""
    if len(values) <= 9:
        # Each second one: a phone has no room for all.
        return list(values[::-2])
    powers = range(math.floor(math.log10(values[0])), math.ceil(math.log10(values[-1])) + 1)
    for steps in ((1, 2, 5), (1,)):
        found = [step * 10.0**power for power in powers for step in steps]
        found = [tick for tick in found if values[0] <= tick <= values[-1]]
        if 2 <= len(found) <= MOST_TICKS:
            return found
    # Either none of these lies between the ends, or too many powers do.
    return found[:: len(found) // MOST_TICKS + 1] or [values[0], values[-1]]


def _short(name: str, longest: int = LONGEST) -> str:
    """A name with its middle left out; of two with an arrow, each."""
    name = printable(name)
    if ARROW in name and len(name) > longest:
        return ARROW.join(_short(part, longest // 2) for part in name.split(ARROW, 1))
    end = longest // 3
    return name if len(name) <= longest else f"{name[: longest - 1 - end]}…{name[-end:]}"


def _more(count: int) -> str:
    return f" {count:,} more are in the table." if count > 0 else ""
