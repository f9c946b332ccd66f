"""The demo: predict a small grid of embeddings of real grocery data, then train, and compare."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kernlens import datasets, probes, study, targets
from kernlens.models import decoders
from kernlens.show import report
from kernlens.train import heads, sampling

PREDICTED = ("discriminant", "ridge")
"""Probes of the heads that the demo trains."""

SETTINGS = (
    study.Setting(2, 1, 1),
    study.Setting(8, 1, 1),
    study.Setting(2, 3, 1),
    study.Setting(8, 8, 1),
    study.Setting(2, 3, 2),
    study.Setting(8, 3, 2),
    study.Setting(2, 1, 4),
    study.Setting(8, 8, 4),
)


@dataclass(frozen=True)
class Config:
    """Predicts, then trains, a small grid of item embeddings, and sets the two side by side.

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
    reader_seeds: int = 10
    """Splits and initialisations of each trained reader."""
    min_class_count: int = 50
    """Classes with fewer items are left out."""
    short: bool = False
    """Two cheap settings only."""


def run(config: Config, console: Console | None = None) -> dict[str, Any]:
    """Runs the demo and writes its report.

    Args:
      config: what to run.
      console: where the table goes.

    Returns:
      What results.json holds.

    Raises:
      ValueError, FileNotFoundError: data, label or folder cannot be used.
    """
    console = console or report.console()
    if config.out.exists() and not config.out.is_dir():
        raise ValueError(f"--out {config.out} is a file; expected a folder")
    with console.status(f"reading {config.data}"):
        data = datasets.load(config.data)
    if config.label not in data.labels:
        raise ValueError(
            f"{config.data} has no label {config.label!r}; choices: {', '.join(data.labels)}"
        )
    task = targets.drop_rare(data.labels[config.label], config.min_class_count)
    rows_used = len(targets.labelled_rows(task))
    console.print(
        f"{config.data}: {len(data.items):,} interactions, {data.num_sessions:,} sessions, "
        f"{data.num_items:,} items; task: {config.label}, {len(task.names)} classes, "
        f"{rows_used:,} items"
    )
    readers = {
        "LR": functools.partial(
            heads.classify, decoder=decoders.Linear(), seeds=config.reader_seeds
        ),
        "MLP": functools.partial(
            heads.classify, decoder=decoders.Mlp(32), seeds=config.reader_seeds
        ),
    }
    rows = []
    settings = (SETTINGS[0], SETTINGS[4]) if config.short else SETTINGS
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bars:
        grid = bars.add_task("settings", total=len(settings))
        one = bars.add_task("", total=None)
        for setting in settings:
            bars.reset(one, description=f"pretrain {setting.name}", total=None)

            def on_round(progress, setting=setting):
                last = progress.done == progress.rounds
                bars.update(
                    one,
                    total=progress.rounds,
                    completed=progress.done,
                    description=f"{'predict, train readers' if last else 'pretrain'} "
                    f"{setting.name}",
                )

            rows += study.cell(
                data,
                task,
                setting,
                seeds=config.seeds,
                probes={name: probes.PROBES[name] for name in PREDICTED},
                readers=readers,
                noise=sampling.log_uniform(data.num_items),
                on_round=on_round,
            )
            bars.advance(grid)
    found = report.to_json(
        {
            "command": "kernlens demo",
            "config": config,
            "num_items": rows_used,
            "classes": task.names,
            "agreement": agreement_line(rows),
            "failure": study.failure_line(rows, "published_class_cosine", "LR"),
            "rows": rows,
        }
    )
    write(config.out, found, console)
    return found


def agreement_line(rows: Sequence[study.Row]) -> str:
    """How near the probe came to the trained readers, in a sentence."""
    parts = []
    predictor = study.Predictor("predicted", "discriminant", {"macro_f1": "macro_f1"})
    for reader in rows[0]["trained"]:
        agreed = study.agree(rows, predictor, reader, "macro_f1", draws=1)
        parts.append(
            f"{reader} Spearman {agreed.spearman.value:.2f}, "
            f"mean |error| {agreed.mean_absolute_error.value:.3f}"
        )
    seconds = sum(row["predicted"]["discriminant"]["seconds"] for row in rows)
    training = sum(sum(t["seconds"] for t in row["trained"].values()) for row in rows)
    return (
        f"Predicted against trained macro-F1 over {len(rows)} embeddings: {'; '.join(parts)}; "
        f"predicting took {seconds:.1f} s in all, training {training:.0f} s."
    )


def columns(readers: Sequence[str]) -> list[report.Column]:
    """Columns of the demo's table."""

    def predicted(row):
        p = row["predicted"]["discriminant"]
        return f"{p['macro_f1']:.3f} [{p['macro_f1_low']:.3f}, {p['macro_f1_high']:.3f}]"

    def trained(row, reader):
        values = row["trained"][reader]["macro_f1"]
        mean = sum(values) / len(values)
        spread = (sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)) ** 0.5
        return f"{mean:.3f} ± {spread:.3f}"

    made = [
        report.Column("\nsetting", lambda row: row["setting"], right=False),
        report.Column("predicted\nmacro-F1", predicted),
        report.Column("\ns", lambda row: f"{row['predicted']['discriminant']['seconds']:.2f}"),
    ]
    for reader in readers:
        made += [
            report.Column(f"trained\n{reader}", functools.partial(trained, reader=reader)),
            report.Column("\ns", lambda row, r=reader: f"{row['trained'][r]['seconds']:.1f}"),
        ]
    return [
        *made,
        report.Column(
            "published\nscore",
            lambda row: f"{row['scores']['published_class_cosine']['value']:.2f}",
        ),
    ]


def write(out: Path, found: Mapping[str, Any], console: Console) -> None:
    """Prints the table and writes the report, all of it from ``found``."""
    rows = sorted(found["rows"], key=lambda r: -r["predicted"]["discriminant"]["macro_f1"])
    readers = list(rows[0]["trained"])
    shown = columns(readers)
    title = "Predicted without training, then trained"
    made = report.table(rows, shown, title)
    console.print(made)
    console.print(found["agreement"])
    console.print(found["failure"])
    name = found["config"]["label"]
    panels = [study.probe_panel(rows, reader, name) for reader in readers]
    panels.append(study.score_panel(rows, "published_class_cosine", readers[0], name))
    drawn = report.figure(panels, "mean cosine between items (1 = collapsed)")
    out.mkdir(parents=True, exist_ok=True)
    text = f"{report.plain(made)}\n{found['agreement']}\n{found['failure']}\n"
    report.write_text(out / "table.txt", text)
    report.write_json(out / "results.json", found)
    report.write_figure(out / "figure.png", drawn)
    report.write_page(
        out / "index.html",
        title="kernlens demo: predicted without training, then trained",
        paragraphs=[
            f"Each row is an item embedding, pretrained on {found['config']['data']} with the "
            f"window (w), negatives (k) and epochs (e) named, and used to classify "
            f"{found['num_items']:,} items into {len(found['classes'])} classes ({name}). The "
            f"prediction is closed form; its interval (90%) is over the items. The trained values "
            f"are means over {found['config']['reader_seeds']} splits, ± their standard deviation.",
            found["agreement"],
            found["failure"],
        ],
        tables=[("All embeddings", rows, shown)],
        made=drawn,
        foot=f"Made by `{found['command']}`; every number stands in results.json.",
    )
    console.print(f"wrote {out}/index.html, figure.png, table.txt, results.json")
