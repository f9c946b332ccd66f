"""Sections of a report: what each result has to show, as text, charts and tables."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kernlens.lens import mistakes
from kernlens.lens.advice import Upgrade
from kernlens.lens.compare import Comparison
from kernlens.lens.diagnosis import Diagnosis
from kernlens.lens.fuse import Fusion
from kernlens.lens.next_items import NextItemsPrediction, title_of
from kernlens.lens.next_items_compare import NextItemsComparison
from kernlens.lens.stability import Stability
from kernlens.lens.standings import Standing
from kernlens.probes import TITLES, Prediction
from kernlens.show import charts
from kernlens.show.page import Chart, Section
from kernlens.show.table import Column, Table
from kernlens.types import Interval

OTHERS = 3
"""Embeddings next to the best whose classes are shown."""

BLAMED = 12
"""Ids of blamed or flipped rows that are listed."""

UNNAMED = "this head"
"""A head that was not named."""


def _of_prediction(result: Prediction) -> list[Section | None]:
    chart = charts.intervals(
        f"{TITLES[result.metric]} on held-out rows",
        _over(result),
        {"this embedding": result.value},
        axis=TITLES[result.metric],
        marks=_marks(result, best=False),
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
            "Differences are paired, row by row, so they separate embeddings whose own intervals "
            "overlap."
        ]
        if gaps
        else (),
        [
            charts.intervals(
                "Predicted value by embedding and head",
                _over(best),
                values,
                axis=title,
                marks=_marks(best, len(values) > 1),
            ),
            *_gaps("Difference to the best", gaps, title, result.level),
        ],
        [result.table()._replace(title="Embeddings, best first")],
    )
    return [value, _curves({entry.label: entry.prediction for entry in result.entries})]


def _of_next_items(result: NextItemsPrediction) -> list[Section | None]:
    baselines = {f"{name}*": own for name, own in result.baselines.items()}
    ranked = {"this embedding": result.ranks, **baselines}
    return [_ranks(ranked, result.metric, [result.table()])]


def _of_next_items_comparison(result: NextItemsComparison) -> list[Section | None]:
    ranked = {entry.label: entry.ranks for entry in result.entries}
    baselines = {f"{name}*": own for name, own in result.baselines.items()}
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
        "Points are values, lines their intervals over users. * needs no embedding.",
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
    said = [] if result.floor is None else [result.floor_sentence()]
    flipped = Section(
        "Items that change",
        said,
        [
            charts.intervals(
                f"Items that {result.become_wrong}",
                "Share of all items, by way.",
                wrong,
                axis="share of the items",
            )
        ],
        [
            flips._replace(title="What each way changes, and needs"),
            mistakes.changed(result, BLAMED),
            *new,
        ],
    )
    return [ways, flipped]


def _of_stability(result: Stability) -> list[Section | None]:
    title, drawn = TITLES[result.metric], {}
    for own in result.moves:
        for run, prediction in own.predictions.items():
            drawn[f"{run} · {own.decoder}" if own.decoder else run] = prediction.value
    if result.names:
        what, unit = "Answers that change", "share of the answers"
        said = (
            "κ is the agreement of two runs beyond chance: 1 where all answers are equal, 0 for "
            "chance. Churn is the share of the answers that change."
        )
    else:
        what, unit = "Change of the predictions", "standard deviations of the target"
        said = (
            "Concordance is 1 where two runs predict the same numbers, 0 where they do not agree."
        )
    first, *more = result.tables()
    # On a phone a row is headed by its first cell, which has to say what the row is of.
    heads = first._replace(
        rows=[{**row, "decoder": row["decoder"] or UNNAMED} for row in first.rows],
        columns=[Column("decoder", "head"), *(c for c in first.columns if c.key != "decoder")],
    )
    runs = Section(
        "What changes between runs",
        [said],
        [
            charts.intervals(
                what,
                "Mean over pairs of runs, by head.",
                {own.decoder or UNNAMED: own.churn for own in result.moves},
                axis=unit,
            ),
            charts.intervals(
                f"{title} of each run", "Every run is judged on the same folds.", drawn, axis=title
            ),
        ],
        [heads._replace(title="Change between runs, by head")],
    )
    details = "Pairs, classes and items" if result.names else "Pairs and items"
    return [runs, Section(details, (), (), more)]


def _of_diagnosis(result: Diagnosis) -> list[Section | None]:
    table, answers, absent = result.tables()
    # A phone has room for a short name.
    helps = {re.sub(r"^remedy \((.*)\)$", r"\1", row["what"]): row["gain"] for row in answers.rows}
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
        [table._replace(title="What was found"), answers, rows],
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
                    marks=_marks(best, best=False),
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
    what = "labels" if prediction.target.ndim == 2 else "classes"
    title = f"Missed {what} and rows" if classes else "Missed rows"
    said = f"Held-out predictions of {found.label}: no head saw the row that it predicts."
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


def _marks(prediction: Prediction, best: bool) -> dict[str, float]:
    value = prediction.value
    marks = {} if value.null is None else {prediction.guess: value.null}
    return marks | ({"best": value.value} if best else {})


def _over(prediction: Prediction) -> str:
    return f"{prediction.heading()}."
