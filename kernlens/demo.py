"""The demo: predict a small grid of embeddings of real grocery data, then train, and compare."""

import functools
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kernlens import datasets, files, moments, probes, targets
from kernlens.kernels import features
from kernlens.lens.compare import Comparison, Entry, compared
from kernlens.lens.report import Provenance, page_of
from kernlens.lens.verdicts import BEST
from kernlens.metrics.agreement import Agreement, agreement
from kernlens.models import decoders
from kernlens.probes import Prediction
from kernlens.scores import SCORES
from kernlens.show import charts, page, report
from kernlens.show.table import Column, Table
from kernlens.train import heads, loop, pretrain, sampling
from kernlens.types import Interactions, Interval, Labels, Outcome

SCORE = "published_class_cosine"
"""The score that the paper published, shown next to the prediction."""
TITLE = "Predicted without training, then trained"


class Setting(NamedTuple):
    """How an embedding is pretrained.

    Attributes:
      window: tokens to either side that are positives.
      negatives: negatives per anchor.
      epochs: passes over the data.
    """

    window: int
    negatives: int
    epochs: int

    @property
    def name(self) -> str:
        """Short name, such as ``w8 k3 e5``."""
        return f"w{self.window} k{self.negatives} e{self.epochs}"


SETTINGS = (
    Setting(2, 1, 1),
    Setting(8, 1, 1),
    Setting(2, 3, 1),
    Setting(8, 8, 1),
    Setting(2, 3, 2),
    Setting(8, 3, 2),
    Setting(2, 1, 4),
    Setting(8, 8, 4),
)
SHORT = (SETTINGS[0], SETTINGS[4])


class Row(NamedTuple):
    """One embedding: what was predicted of it, and what training gave.

    Attributes:
      setting: how it was pretrained.
      seed: pretraining seed.
      predicted: macro-F1 in closed form, each row left out.
      predict_seconds: time to predict it.
      score: the published score.
      mean_cosine: mean cosine between its items; 1 where all of them point one way.
      trained: macro-F1 of each split and initialisation, by trained head.
      train_seconds: time to train all of these, by head.
    """

    setting: str
    seed: int
    predicted: Interval
    predict_seconds: float
    score: float
    mean_cosine: float
    trained: Mapping[str, np.ndarray]
    train_seconds: Mapping[str, float]

    def mean(self, head: str) -> float:
        """Mean macro-F1 of a trained head."""
        return float(np.mean(self.trained[head]))

    def spread(self, head: str) -> float:
        """Standard deviation of the same; 0 for one training."""
        values = self.trained[head]
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Config:
    """Predicts, then trains, a small grid of item embeddings, and compares the two.

    Example: kernlens demo --short
    """

    out: Path = Path("demo")
    """Folder for table.txt, results.json, figure.png and index.html."""
    data: str = "complete_journey"
    """Data set; `synthetic` needs no extra package."""
    label: str = "department"
    """Item label to classify; for `synthetic` it is `class`."""
    seeds: int = 1
    """Pretraining runs of each setting."""
    head_seeds: int = 10
    """Splits and initialisations of each trained head."""
    min_class_count: int = 50
    """Classes with fewer items are left out."""
    short: bool = False
    """Two cheap settings only."""


def run(config: Config, console: Console | None = None) -> dict[str, Any]:
    """Runs the demo and writes its report.

    Args:
      config: what to run.
      console: where the table is printed.

    Returns:
      The content of results.json.

    Raises:
      ValueError, OSError: data, label or folder cannot be used.
      ImportError: a package that reads the data or draws the figure is not installed.
    """
    console = console or report.console()
    files.check_folder("--out", config.out)
    for package in ("matplotlib", "plotly"):
        files.optional(package, extra="report")
    with console.status(f"reading {config.data}"):
        data = datasets.load(config.data)
    if config.label not in data.labels:
        raise ValueError(
            f"{config.data} has no label {config.label!r}; choices: {', '.join(data.labels)}"
        )
    task = targets.drop_rare(data.labels[config.label], config.min_class_count)
    num_items = len(targets.labelled_rows(task))
    console.print(
        f"{config.data}: {len(data.items):,} interactions, {data.num_sessions:,} sessions, "
        f"{data.num_items:,} items; task: {config.label}, {len(task.names)} classes, "
        f"{num_items:,} items"
    )
    config.out.mkdir(parents=True, exist_ok=True)
    with files.held("--out", config.out):
        files.clean(config.out)
        found_of: dict[str, Found] = {}
        rows = grid(config, data, task, console, found_of)
        found = {
            "command": command_of(config),
            "config": config,
            "num_items": num_items,
            "classes": task.names,
            "conclusion": conclusion(rows),
            "agreement": agreement_line(rows),
            "failure": failure_line(rows, "LR"),
            "rows": rows,
        }
        write(config, found, console)
        items = data.item_keys[targets.labelled_rows(task)]
        page.write_page(config.out / "index.html", show(config, found, found_of, items))
        console.print(f"wrote {config.out}/index.html, figure.png, table.txt, results.json")
    return report.to_json(found)


class Found(NamedTuple):
    """What the report shows of an embedding, and results.json does not hold.

    Attributes:
      prediction: row by row.
      rows: labelled rows of the embedding, ``[n, d]``.
    """

    prediction: Prediction
    rows: np.ndarray


def command_of(config: Config) -> str:
    """The command that repeats a run; the folder it wrote to does not matter."""
    words = ["kernlens", "demo"]
    for field in fields(Config):
        value = getattr(config, field.name)
        if field.name != "out" and value != field.default:
            flag = f"--{field.name.replace('_', '-')}"
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)


def grid(
    config: Config, data: Interactions, task: Labels, console: Console,
    kept: dict[str, Found] | None = None,
) -> list[Row]:  # fmt: skip
    """A row for each setting and seed, with bars of progress; ``kept`` gets predictions by name."""
    trained = {
        name: functools.partial(heads.classify, decoder=decoder, seeds=config.head_seeds)
        for name, decoder in (("LR", decoders.Linear()), ("MLP", decoders.Mlp(32)))
    }
    noise = sampling.log_uniform(data.num_items)
    settings = SHORT if config.short else SETTINGS
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    rows = []
    with Progress(*columns, console=console, transient=True) as bars:
        whole, one = bars.add_task("settings", total=len(settings)), bars.add_task("", total=None)
        for setting in settings:
            bars.reset(one, description=f"pretrain {setting.name}", total=None)

            def on_round(progress: loop.Progress, name: str = setting.name) -> None:
                bars.update(one, total=progress.rounds, completed=progress.done)
                if progress.done == progress.rounds:
                    bars.update(one, description=f"predict, train heads {name}")

            fitted = pretrain.contrastive(
                data, seeds=config.seeds, noise=noise, on_round=on_round, **setting._asdict()
            )
            rows += [
                judge(embeddings, task, trained, setting=setting.name, seed=seed, kept=kept)
                for seed, embeddings in enumerate(fitted.embeddings)
            ]
            bars.advance(whole)
    return rows


def judge(
    embeddings: np.ndarray,
    task: Labels,
    trained: Mapping[str, Callable[[np.ndarray, Labels], Outcome]],
    *,
    setting: str,
    seed: int,
    kept: dict[str, Found] | None = None,
) -> Row:
    """Predicts one embedding, scores it, and trains heads on it.

    Args:
      embeddings: one row per item, ``[n, d]``.
      task: one label per item, ``[n]``; items without one are left out.
      trained: heads to train, by name.
      setting: how the embedding was pretrained.
      seed: its pretraining seed.
      kept: gets what was predicted of each row, by name.
    """
    rows = targets.labelled_rows(task)
    x, labels = embeddings[rows], task._replace(codes=task.codes[rows])
    start = time.perf_counter()
    prediction = probes.PROBES["discriminant"](x, labels)
    seconds = time.perf_counter() - start
    if kept is not None:
        kept[name_of(setting, seed)] = Found(prediction, x)
    estimator = SCORES[SCORE]
    summary = moments.from_arrays(
        estimator.features(jnp.asarray(x)),
        jnp.asarray(labels.codes),
        len(labels.names),
        scatter=estimator.scatter,
    )
    outcomes = {name: train(x, labels) for name, train in trained.items()}
    unit = features.unit(jnp.asarray(x))
    return Row(
        setting=setting,
        seed=seed,
        predicted=prediction.metrics["macro_f1"],
        predict_seconds=seconds,
        score=float(estimator.fn(summary).value),
        mean_cosine=float(jnp.sum(jnp.mean(unit, axis=0) ** 2)),
        trained={name: np.asarray(o.metrics.macro_f1, float) for name, o in outcomes.items()},
        train_seconds={name: o.seconds for name, o in outcomes.items()},
    )


def agree(rows: Sequence[Row], values: Sequence[float], head: str) -> Agreement:
    """Agreement of a value of each row with the macro-F1 of a trained head, without intervals."""
    return agreement(np.array(values), np.array([row.mean(head) for row in rows]), draws=1)


def name_of(setting: str, seed: int) -> str:
    """Name of an embedding; the seed only where there are several."""
    return f"{setting} seed {seed}" if seed else setting


def conclusion(rows: Sequence[Row]) -> str:
    """What the demo shows, in one sentence: whether the prediction came true."""
    head = next(iter(rows[0].trained))
    best = max(rows, key=lambda row: row.predicted.value)
    place = 1 + sum(row.mean(head) > best.mean(head) for row in rows)
    found = "is best" if place == 1 else f"is number {place} of {len(rows)}"
    missed = agree(rows, [row.predicted.value for row in rows], head).mean_absolute_error.value
    return (
        f"{name_of(best.setting, best.seed)} was predicted best, and {found} once {head} is "
        f"trained: predictions of {len(rows)} embeddings miss the trained macro-F1 by {missed:.3f} "
        "on average."
    )


def agreement_line(rows: Sequence[Row]) -> str:
    """How near the prediction came to the trained heads, in a sentence."""
    parts = []
    for head in rows[0].trained:
        agreed = agree(rows, [row.predicted.value for row in rows], head)
        parts.append(
            f"{head} Spearman {agreed.spearman.value:.2f}, "
            f"mean |error| {agreed.mean_absolute_error.value:.3f}"
        )
    seconds = sum(row.predict_seconds for row in rows)
    training = sum(sum(row.train_seconds.values()) for row in rows)
    return (
        f"Predicted against trained macro-F1 over {len(rows)} embeddings: {'; '.join(parts)}; "
        f"predicting took {seconds:.1f} s in all, training {training:.0f} s."
    )


def failure_line(rows: Sequence[Row], head: str) -> str:
    """Where the published score is most wrong, in a sentence.

    Names the embedding that it ranks furthest above its place by the trained head, and the common
    direction of the items where that makes up most of the score.
    """
    rank = 1 + np.argsort(np.argsort([-row.score for row in rows]))
    trained_rank = 1 + np.argsort(np.argsort([-row.mean(head) for row in rows]))
    worst = int(np.argmax(trained_rank - rank))
    gap, row = int(trained_rank[worst] - rank[worst]), rows[worst]
    if 4 * gap < len(rows):
        return (
            f"{SCORE} puts no embedding more than {max(gap, 0)} places of {len(rows)} above "
            f"its place by trained {head} macro-F1."
        )
    why = ": most of what the score reads is their common direction" * (
        2 * row.mean_cosine > row.score > 0
    )
    return (
        f"{SCORE} ranks {row.setting} (seed {row.seed}) number {rank[worst]} of {len(rows)}, at "
        f"{row.score:.2f}; trained {head} puts it number {trained_rank[worst]}, macro-F1 "
        f"{row.mean(head):.3f}. The mean cosine between its items is {row.mean_cosine:.2f}{why}."
    )


def table(rows: Sequence[Row]) -> Table:
    """The embeddings, best prediction first."""
    columns = [
        Column("setting"),
        Column("predicted", "predicted macro-F1", ".3f"),
        Column("predict_seconds", "seconds to predict", ".2f"),
    ]
    for head in rows[0].trained:
        columns += [
            Column(head, f"trained {head}", ".3f"),
            Column(f"{head} spread", f"± {head}", ".3f"),
            Column(f"{head} seconds", f"seconds to train {head}", ".1f"),
        ]
    cells = [
        {
            **row._asdict(),
            **{head: row.mean(head) for head in row.trained},
            **{f"{head} spread": row.spread(head) for head in row.trained},
            **{f"{head} seconds": took for head, took in row.train_seconds.items()},
        }
        for row in sorted(rows, key=lambda row: -row.predicted.value)
    ]
    return Table(cells, [*columns, Column("score", "published score", ".2f")], TITLE)


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


def write(config: Config, found: Mapping[str, Any], console: Console) -> None:
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
    config: Config, found: Mapping[str, Any], kept: Mapping[str, Found], items: np.ndarray
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
        f"into {len(found['classes'])} classes ({config.label}). The prediction is closed form; "
        "its interval (90%) is over the items. Trained values are means over "
        f"{config.head_seeds} splits, ± their standard deviation."
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
