"""The report of the demo: what was predicted against what was trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from kernlens.cli.demo.grid import SCORE, Found, Row, name_of
from kernlens.cli.demo.story import agree, table
from kernlens.cli.options.demo import Demo
from kernlens.lens.compare import Comparison, Entry, compared
from kernlens.lens.report import Provenance, page_of
from kernlens.lens.verdicts import BEST
from kernlens.show import charts, page, report
from kernlens.types import Interval


def figure(rows: Sequence[Row], title: str) -> Any:
    """The prediction against each trained head, and the score against the first, side by side."""
    value, low, high = np.array([row.predicted[:3] for row in rows]).T
    score, heads_trained = np.array([row.score for row in rows]), list(rows[0].trained)

    def panel(x: np.ndarray, head: str, **options: Any) -> report.Panel:
        agreed = agree(rows, x.tolist(), head)
        note = f"Spearman {agreed.spearman.value:.2f}"
        if options.get("same_unit"):
            note += f", mean |error| {agreed.mean_absolute_error.value:.4f}"
        return report.Panel(
            x=x,
            y=np.array([row.mean(head) for row in rows]),
            y_label=f"trained {head} macro-F1",
            colour=np.array([row.mean_cosine for row in rows]),
            note=note,
            **options,
        )

    panels = [
        panel(
            value,
            head,
            title=f"{title}: {head}",
            x_label="predicted macro-F1 (no training)",
            x_interval=(low, high),
            y_spread=np.array([row.spread(head) for row in rows]),
            same_unit=True,
        )
        for head in heads_trained
    ]
    panels.append(panel(score, heads_trained[0], title=f"{title}: {SCORE}", x_label=SCORE))
    return report.figure(panels, "mean cosine between items (1 = collapsed)")


def write(config: Demo, found: Mapping[str, Any], console: Console) -> None:
    """Prints the table and writes the report."""
    rows, lines = found["rows"], [found["agreement"], found["failure"]]
    made, drawn = table(rows), figure(rows, config.label)
    console.print(made.rich(console.width))
    for line in lines:
        console.print(line)
    out = config.out
    report.write_text(out / "table.txt", "\n".join([made.text(), *lines]) + "\n")
    report.write_json(out / "results.json", found)
    report.write_figure(out / "figure.png", drawn)


def show(
    config: Demo, found: Mapping[str, Any], kept: Mapping[str, Found], items: np.ndarray
) -> page.Page:
    """The page: what was predicted against what was trained, then the report of the predictions.

    Args:
      config: what was run.
      found: the content of results.json.
      kept: by name of the embedding.
      items: ids of the labelled items, ``[n]``.
    """
    rows: Sequence[Row] = found["rows"]
    first, *_ = heads_trained = list(rows[0].trained)
    names = [name_of(row.setting, row.seed) for row in rows]

    def points(value: Callable[[Row], Interval], shown: Sequence[str]) -> dict[str, Any]:
        return {
            f"trained {head}": [
                (name, value(row), row.mean(head), row.spread(head))
                for name, row in zip(names, rows, strict=True)
            ]
            for head in shown
        }

    drawn = [
        charts.points(
            "Predicted against trained macro-F1",
            "A point on the dashed line was predicted exactly. Bars are the interval of the "
            "prediction and the standard deviation of the trainings.",
            points(lambda row: row.predicted, heads_trained),
            x_axis="predicted macro-F1 (no training)", y_axis="trained macro-F1", diagonal=True,
        ),
        charts.points(
            f"The published score, {SCORE}, against trained macro-F1",
            "A score that ranked embeddings well would rise from left to right.",
            points(lambda row: Interval(row.score, row.score, row.score, 0.9), [first]),
            x_axis=SCORE, y_axis="trained macro-F1", diagonal=False,
        ),
    ]  # fmt: skip
    told = (
        f"Each row is an item embedding, pretrained on {config.data} with the window (w), "
        f"negatives (k) and epochs (e) named, and used to classify {found['num_items']:,} items "
        f"into {len(found['classes'])} classes ({config.label}). What is predicted is "
        "a linear head, in closed form, with the interval (90%) of one training; MLPs stand beside "
        f"it for comparison. Trained values are means over {config.head_seeds} splits, ± their "
        "standard deviation."
    )
    truth = page.Section(
        "Did the predictions come true?", [found["agreement"], found["failure"]], drawn,
        [table(rows)],
    )  # fmt: skip
    comparison = compared_of(rows, kept)
    ids = np.array([str(item) for item in items])
    made = Provenance(
        ["What was predicted and trained is in results.json too."], (), found["command"]
    )
    whole = page_of(
        comparison, {name: own.rows for name, own in kept.items()}, ids, made
    )  # fmt: skip
    first_section, *others = whole.sections
    alone = first_section._replace(
        title="The predictions alone",
        paragraphs=[comparison.sentence(), *first_section.paragraphs],
    )
    return page.Page(
        "kernlens demo: predicted without training, then trained", found["conclusion"], [told],
        [truth, alone, *others],
    )  # fmt: skip


def compared_of(rows: Sequence[Row], kept: Mapping[str, Found]) -> Comparison:
    """The predictions of the demo as ``kernlens compare`` has them."""
    seconds = {name_of(row.setting, row.seed): row.predict_seconds for row in rows}
    return compared(
        [
            Entry(name, "", own.prediction, own.rows.shape[1], seconds[name], BEST)
            for name, own in kept.items()
        ]
    )
