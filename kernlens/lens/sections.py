"""Sections of a report: what each result has to show, as text, charts and tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kernlens.embeddings import as_named, as_rows
from kernlens.kernels.mapped import sampled
from kernlens.lens import mistakes
from kernlens.lens.compare import Comparison
from kernlens.lens.diagnosis import Diagnosis
from kernlens.lens.fuse import Fusion
from kernlens.lens.next_items import NextItemsPrediction, title_of
from kernlens.lens.next_items_compare import NextItemsComparison
from kernlens.lens.stability import Stability
from kernlens.lens.standings import Standing
from kernlens.lens.upgrade import Upgrade
from kernlens.probes import TITLES, Prediction
from kernlens.show import charts
from kernlens.show.page import Chart, Section
from kernlens.show.table import Column, Table
from kernlens.types import Interval, Stream

OTHERS = 3
"""Embeddings next to the best whose classes are shown."""

BLAMED = 12
"""Ids of blamed or flipped rows that are listed."""

SPECTRUM_ROWS = 100_000
"""Most rows of a stream from which its spectrum is computed."""


def spectrum(embeddings: Any) -> Section:
    """How the variance of each embedding is spread over directions."""
    is_many = isinstance(embeddings, Mapping | list | tuple)
    named = as_named(embeddings) if is_many else {"this embedding": as_rows(embeddings)}
    drawn, rows = [], []
    for name, own in named.items():
        x = sampled(own, min(SPECTRUM_ROWS, own.shape[0])) if isinstance(own, Stream) else own
        x = np.asarray(x)
        x = x[np.all(np.isfinite(x), axis=1)]
        if len(x) < 2:
            continue
        values = np.linalg.eigvalsh(np.atleast_2d(np.cov(x.astype(np.float64), rowvar=False)))[::-1]
        total = values.sum()
        if not total > 0:
            continue
        share = values / total
        kept = share > 1e-9
        places = np.flatnonzero(kept)
        drawn.append(charts.Line(name, (places + 1).tolist(), share[kept].tolist()))
        within = np.cumsum(share)
        rows.append(
            {
                "embedding": name,
                "rows": len(x),
                "d": x.shape[1],
                "first": float(share[0]),
                **{
                    f"d{p}": int(np.searchsorted(within, p / 100 - 1e-12) + 1) for p in (50, 90, 99)
                },
            }
        )
    if not rows:
        return Section("Spectrum", ["No embedding has variance."])
    columns = (
        Column("embedding"),
        Column("rows"),
        Column("d", "dimensions"),
        Column("first", "variance in the first", ".1%"),
        *(Column(f"d{p}", f"directions with {p}%") for p in (50, 90, 99)),
    )
    chart = charts.lines(
        "Share of the variance by direction",
        "A line that falls early means that few directions carry the rows.",
        drawn,
        x_axis="direction, largest first",
        y_axis="share of the variance",
        log_x=True,
        log_y=True,
        markers=False,
        spec=".2e",
    )
    return Section("Spectrum", (), [chart], [Table(rows, columns, "Spread of the rows")])


def _of_prediction(result: Prediction) -> list[Section | None]:
    chart = charts.intervals(
        "Predicted value",
        _over(result),
        {TITLES[result.metric]: result.value},
        axis=TITLES[result.metric],
        marks=_marks(result.value, best=False),
    )
    value = Section("Predicted value", [*result.others()], [chart], [result.table()])
    return [value, _curves({"this embedding": result})]


def _of_comparison(result: Comparison) -> list[Section | None]:
    values = {entry.label: entry.prediction.value for entry in result.entries}
    title, best = TITLES[result.metric], result.best.prediction
    gaps = {
        entry.label: gap for entry in result.entries if (gap := result.to_best(entry)) is not None
    }
    value = Section(
        "Predicted value",
        [
            "Each value has the interval of one training. Differences are paired, row by row, so "
            "they separate embeddings whose own intervals overlap."
        ]
        if gaps
        else (),
        [
            charts.intervals(
                "Predicted value by embedding and head",
                _over(best),
                values,
                axis=title,
                marks=_marks(best.value, len(values) > 1),
            ),
            *_gaps("Difference to the best", gaps, title, result.level),
        ],
        [result.table()._replace(title="Embeddings, best first")],
    )
    return [value, _curves({entry.label: entry.prediction for entry in result.entries})]


def _of_next_items(result: NextItemsPrediction) -> list[Section | None]:
    ranked = {"this embedding": result.ranks, **result.baselines}
    return [_ranks(ranked, result.metric, [result.table()])]


def _of_next_items_comparison(result: NextItemsComparison) -> list[Section | None]:
    ranked = {entry.label: entry.ranks for entry in result.entries}
    baselines = {f"{name} (no embedding)": own for name, own in result.baselines.items()}
    section = _ranks(
        {**ranked, **baselines},
        result.metric,
        [
            result.table()._replace(title="Embeddings, best first"),
            result.baseline_table()._replace(title="Baselines without an embedding"),
        ],
    )
    gaps = {entry.label: entry.to_baseline for entry in result.entries}
    more = _gaps(
        f"Difference to {result.best_baseline}", gaps, title_of(result.metric), result.level
    )
    return [section._replace(charts=[*section.charts, *more])]


def _ranks(ranked: Mapping[str, Any], metric: str, tables: Sequence[Table]) -> Section:
    values = {name: own.metrics[metric] for name, own in ranked.items()}
    null = next(iter(values.values())).null
    chart = charts.intervals(
        f"{title_of(metric)} of next items",
        "Points are values, lines their intervals over users.",
        values,
        axis=title_of(metric),
        marks={} if null is None else {"random order": null},
    )
    return Section("Predicted value", (), [chart], tables)


def _of_upgrade(result: Upgrade) -> list[Section | None]:
    title = TITLES[result.metric]
    values = {"old version": result.before.value}
    values |= {name: way.prediction.value for name, way in result.ways.items()}
    table, flips, *new = result.tables()
    ways = Section(
        "Ways to serve the new version",
        (),
        [
            charts.intervals(
                f"{title} of each way",
                "Ways are listed from the cheapest to serve to retraining.",
                values,
                axis=title,
                marks={"old version": result.before.value.value},
            )
        ],
        [table._replace(title="What each way reaches")],
    )
    wrong = {name: way.flips.negative_flips for name, way in result.ways.items()}
    own = result.ways[result.advised].flips
    held = result.chosen.prediction
    before = mistakes.answers(result.before)
    changed = [
        {
            "id": str(result.ids[at]),
            "change": kind,
            "true": mistakes.said(held, before.target[at]),
            "before": mistakes.said(held, before.predicted[at]),
            "after": mistakes.said(held, mistakes.answers(held).predicted[at]),
        }
        for kind, places in (
            ("becomes wrong", own.negative_rows),
            ("becomes right", own.positive_rows),
        )
        for at in places[:BLAMED]
    ]
    columns = (
        Column("id"),
        Column("change"),
        Column("true"),
        Column("before", "old version"),
        Column("after", f"new version, {result.advised}"),
    )
    said = [] if result.floor is None else [result.floor_sentence()]
    flipped = Section(
        "Items that change",
        said,
        [
            charts.intervals(
                "Items that become wrong",
                "Share of all items, by way.",
                wrong,
                axis="share of the items",
            )
        ],
        [
            flips._replace(title="What each way changes, and needs"),
            Table(
                changed, columns, f"Items that change with the advised way, at most {BLAMED} a kind"
            ),
            *new,
        ],
    )
    return [ways, flipped]


def _of_stability(result: Stability) -> list[Section | None]:
    title, drawn = TITLES[result.metric], {}
    for own in result.moves:
        for run, prediction in own.predictions.items():
            drawn[f"{run} · {own.decoder}" if own.decoder else run] = prediction.value
    first, *more = result.tables()
    runs = Section(
        "How much moves",
        (),
        [
            charts.intervals(
                f"{title} of each run", "Every run is judged on the same folds.", drawn, axis=title
            )
        ],
        [first._replace(title="What moves between runs, by head")],
    )
    pairs, *rest = more
    return [runs, Section("Pairs, classes and items", (), (), [pairs, *rest])]


def _of_diagnosis(result: Diagnosis) -> list[Section | None]:
    table, answers, absent = result.tables()
    helps = {row["what"]: row["gain"] for row in answers.rows}
    gains = {
        own.measure.action or own.name: own.gain for own in result.found if own.gain is not None
    }
    charts_ = _gaps(
        "What would help", helps, TITLES[result.prediction.metric], result.prediction.level
    )
    if len(gains) > len(helps):
        charts_ += _gaps(
            "Gain of each remedy for this head",
            gains,
            TITLES[result.prediction.metric],
            result.prediction.level,
        )
    blamed = [
        {
            "cause": own.name,
            "rows": len(own.worst()),
            "ids": ", ".join(map(str, own.worst(BLAMED)))
            + (" …" if len(own.worst()) > BLAMED else ""),
        }
        for own in result.found
        if len(own.worst())
    ]
    rows = Table(
        blamed,
        (Column("cause"), Column("rows"), Column("ids", "worst ids")),
        "Rows that are to blame",
    )
    causes = Section(
        "What is wrong, and what helps",
        (),
        charts_,
        [table._replace(title=f"Found. {table.title}"), answers, rows],
    )
    why = [own.paragraph() for own in result.faults]
    sections = [causes]
    if why:
        sections.append(Section("The faults, in words", why))
    sections.append(Section("Looked for and not found", (), (), [absent._replace(title="")]))
    return [*sections, _curves({result.decoder: result.prediction})]


def _of_fusion(result: Fusion) -> list[Section | None]:
    title = TITLES[result.metric]
    values = {own.name: own.prediction.value for own in result.alone}
    values |= {f"joined, {own.name}": own.prediction.value for own in result.joined}
    gains = {f"joined, {own.name}": own.gain for own in result.joined if own.gain is not None}
    best = result.best.prediction
    return [
        Section(
            "Predicted value",
            (),
            [
                charts.intervals(
                    "Alone and joined",
                    _over(best),
                    values,
                    axis=title,
                    marks=_marks(best.value, best=False),
                ),
                *_gaps(f"Gain over {result.alone[0].name} alone", gains, title, result.level),
            ],
            [result.table()._replace(title="Embeddings alone, then joined")],
        )
    ]


def _of_standings(result: Sequence[Standing]) -> list[Section | None]:
    return [
        Section(
            own.score,
            (),
            [
                charts.intervals(
                    f"{own.score} of each embedding",
                    "Scores rank embeddings; they are not in the unit of a metric.",
                    own.intervals,
                    axis=own.score,
                    spec=".3g",
                )
            ],
            [own.table()],
        )
        for own in result
    ]


SECTIONS: dict[type, Callable[[Any], list[Section | None]]] = {
    Prediction: _of_prediction,
    Comparison: _of_comparison,
    NextItemsPrediction: _of_next_items,
    NextItemsComparison: _of_next_items_comparison,
    Upgrade: _of_upgrade,
    Stability: _of_stability,
    Diagnosis: _of_diagnosis,
    Fusion: _of_fusion,
    Standing: _of_standings,
}
"""The first sections of a page, by the result."""


def rows_sections(result: Any, ids: np.ndarray | None) -> list[Section | None]:
    """Classes that are lost and confused, and the worst rows."""
    found = mistakes.judged(result)
    if found is None:
        return []
    prediction, others = found.prediction, {}
    if isinstance(result, Comparison):
        others = {own.label: own.prediction for own in result.entries[1 : 1 + OTHERS]}
    confused = mistakes.confused(prediction)
    drawn = []
    if confused is not None:
        pairs = {
            f"{row['true']}{charts.ARROW}{row['given']}": row["share"]
            for row in sorted(confused.rows, key=lambda row: -row["share"])[:10]
        }
        drawn = [
            charts.bars(
                "Most confused",
                "Share of the true class that is given the other.",
                pairs,
                axis="share of the true class",
            )
        ]
    classes = mistakes.by_class(prediction, others)
    tables = [
        own for own in (classes, confused, mistakes.worst(prediction, ids)) if own is not None
    ]
    title = "Classes and rows that are missed" if classes else "Rows that are missed"
    said = f"Held-out answers of {found.label}: no head saw the row that it answers."
    return [Section(title, [said], drawn, tables)]


def _curves(predictions: Mapping[str, Prediction]) -> Section | None:
    """Learning curves, where the predictions have them."""
    curves = {name: own.curve for name, own in predictions.items() if own.curve is not None}
    if not curves:
        return None
    drawn = []
    for name, curve in curves.items():
        found = [curve.at(t) for t in curve.times]
        band = ([own.low for own in found], [own.high for own in found])
        x = [round(t * curve.labels) for t in curve.times]
        drawn.append(charts.Line(name, x, [own.value for own in found], band))
    name, curve = next(iter(curves.items()))
    title = TITLES[curve.metric]
    chart = charts.lines(
        f"{title} by number of labels",
        f"There are {curve.labels:,} labels; what lies beyond is a forecast.",
        drawn,
        x_axis="labels",
        y_axis=title,
        log_x=True,
    )
    told = [f"{name}: {curve.sentence()}." for name, curve in curves.items()][:OTHERS]
    table = curve.table()._replace(title=f"{name}, by number of labels")
    return Section("More or fewer labels", [*told, *curve.notes], [chart], [table])


def _gaps(
    title: str, gaps: Mapping[str, Interval | None], metric: str, level: float
) -> list[Chart]:
    held = {name: own for name, own in gaps.items() if own is not None}
    if not held:
        return []
    said = f"{level:.0%} intervals, paired. One that holds 0 shows no difference."
    return [
        charts.intervals(
            title,
            said,
            held,
            axis=f"difference in {metric}",
            spec="+.3f",
            marks={"no difference": 0.0},
        )
    ]


def _marks(value: Interval, best: bool) -> dict[str, float]:
    marks = {} if value.null is None else {"chance": value.null}
    return marks | ({"best": value.value} if best else {})


def _over(prediction: Prediction) -> str:
    return f"{prediction.heading()}."
