"""The command ``kernlens``: the only place where a word typed becomes a function.

Exit codes: 0 done, 1 an input cannot be used, 2 a wrong command line, 130 interrupted.
"""

import json as json_text
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from kernlens import io, lens
from kernlens.files import check_writable, use_compilation_cache
from kernlens.probes import METRICS, PROBES
from kernlens.scores import SCORES
from kernlens.show import answers, report

if TYPE_CHECKING:
    ProbeName = str
    MetricName = str
    ScoreName = str
else:
    ProbeName = tyro.extras.literal_type_from_choices(PROBES)
    MetricName = tyro.extras.literal_type_from_choices(METRICS)
    ScoreName = tyro.extras.literal_type_from_choices(SCORES)

DESCRIPTION = (
    "See what a pretrained embedding will do downstream, before you train anything. "
    "`kernlens --version` prints the version."
)


@dataclass(frozen=True)
class Compare:
    """Says which embedding will classify best, with intervals, without training a classifier."""

    embeddings: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="(at least one)"),
    ]
    """Embeddings: .npy, .npz, .parquet, .arrow, .feather, .safetensors, .h5, .hdf5, or word2vec's
    .txt, .vec, .bin; a folder, or a quoted pattern, of such files is one embedding."""
    labels: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Labels: .csv or .parquet, an id and a label column, or labels alone in row order."""
    id_column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Id column in every file with columns; else `id`, or the one that can only be it."""
    label_column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Label column; else `label`, or the only other one."""
    key: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Array of embeddings in .npz, .safetensors and HDF5; else the only one of rank 2."""
    scale: Annotated[float | None, tyro.conf.arg(metavar="NUMBER")] = None
    """What integers are multiplied with; else the `scale` beside them in their file, or 1."""
    drop_nonfinite: bool = False
    """Leave out rows that hold NaN, infinity or no value, instead of refusing the file."""
    max_unjoined: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 1.0
    """Largest share of an embedding's rows that may be missing from another file, in [0, 1]."""
    max_unjoined_labels: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 1.0
    """Largest share of the label rows that may be missing from an embedding, in [0, 1]."""
    metric: MetricName = "macro_f1"
    """What to order by; of log_loss the least, which tells apart what accuracies tie."""
    probe: ProbeName = "discriminant"
    """Closed-form classifier that the prediction comes from."""
    scores: tuple[ScoreName, ...] = ()
    """Scores to tell beside the prediction, with intervals."""
    level: float = 0.9
    """Nominal coverage of the intervals, in (0, 1)."""
    seed: int = 0
    """Of the bootstrap draws, at least 0."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE|-")] = None
    """Write everything as JSON; `-`: to standard output, and the table to standard error."""
    cache: bool = True
    """Keep compiled programs for the next run, in KERNLENS_CACHE or the user's cache folder."""

    def __post_init__(self):
        if not self.embeddings:
            raise ValueError("expected at least one embedding file; got none")
        if len(set(self.embeddings)) < len(self.embeddings):
            raise ValueError("an embedding file is given twice")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"--level must be in (0, 1); got {self.level}")
        for name in ("max_unjoined", "max_unjoined_labels"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be in [0, 1]; got {getattr(self, name)}")
        if self.scale is not None and (self.scale == 0 or not np.isfinite(self.scale)):
            raise ValueError(f"--scale must be finite and not 0; got {self.scale}")
        if self.seed < 0:
            raise ValueError(f"--seed must be at least 0; got {self.seed}")


@dataclass(frozen=True)
class _Demo:
    """Predicts, then trains, a small grid of item embeddings, and sets the two side by side."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      argv: arguments after the command's name; those of the process by default.

    Returns:
      Exit code.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--version"]:
        print(f"kernlens {version('kernlens')}")
        return 0
    try:
        config = _parse(argv)
        if config.cache:
            use_compilation_cache()
        if isinstance(config, Compare):
            compare(config)
        else:
            _run_demo(config)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


def compare(config: Compare) -> None:
    """Reads the files, compares the embeddings, prints the table and writes the JSON.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file that cannot be used; says which and why.
    """
    start = time.perf_counter()
    to_stdout = config.json == Path("-")
    if config.json is not None and not to_stdout:
        check_writable(config.json)
    console = Console(stderr=to_stdout, markup=False, highlight=False, emoji=False)
    with Console(stderr=True).status("reading"):
        names = _names(config.embeddings)
        embeddings = {
            name: io.open_embeddings(
                path,
                id_column=config.id_column,
                key=config.key,
                scale=config.scale,
                drop_nonfinite=config.drop_nonfinite,
            ).read()
            for name, path in zip(names, config.embeddings, strict=True)
        }
        label_file = io.read_labels(
            config.labels, id_column=config.id_column, label_column=config.label_column
        )
        joined = io.join(
            embeddings,
            label_file,
            max_unjoined=config.max_unjoined,
            max_unjoined_labels=config.max_unjoined_labels,
        )
    for note in label_file.notes:
        print("warning:", note, file=sys.stderr)
    dropped = {name: given.dropped_ids for name, given in embeddings.items()}
    with Console(stderr=True).status("predicting"):
        found = lens.compare(
            joined.values,
            joined.labels,
            probe=PROBES[config.probe],
            metric=config.metric,
            level=config.level,
            seed=config.seed,
        )
        scores = {name: SCORES[name] for name in config.scores}
        standings = lens.standings(joined.values, joined.labels, scores, level=config.level)
    seconds = time.perf_counter() - start
    # Written before anything is shown: a table on the screen means that the file is there too.
    if config.json is not None:
        asked = {
            "labels": str(config.labels),
            "metric": config.metric,
            "probe": config.probe,
            "level": config.level,
            "seed": config.seed,
        }
        files = dict(zip(names, map(str, config.embeddings), strict=True))
        content = answers.content(asked, files, joined, dropped, found, standings, seconds)
        if to_stdout:
            print(json_text.dumps(content, indent=1, ensure_ascii=False))
        else:
            report.write_json(config.json, content)
    console.width = max(console.width, answers.MIN_WIDTH)
    console.print(answers.table(found, console.width))
    for standing in standings:
        console.print(answers.standing_table(standing))
    console.print(answers.notes(joined, dropped, found, seconds))


def _parse(argv: list[str]) -> Any:
    demo: Any = _Demo
    if argv[:1] == ["demo"]:
        demo = _demo_config()
    return tyro.extras.subcommand_cli_from_dict(
        {"compare": Compare, "demo": demo},
        prog="kernlens",
        description=DESCRIPTION,
        args=argv,
    )


def _demo_config() -> type:
    """The demo's options and the command's own; made late, for the demo imports all of kernlens."""
    from kernlens import demo

    @dataclass(frozen=True)
    class Demo(demo.Config):
        cache: bool = True
        """Keep compiled programs for the next run, in KERNLENS_CACHE or the user's cache folder."""

    Demo.__doc__ = demo.Config.__doc__
    return Demo


def _run_demo(config: Any) -> None:
    from kernlens import demo

    demo.run(config)


def _names(paths: Sequence[Path]) -> list[str]:
    """File stems; whole paths where stems are equal."""
    stems = [path.stem for path in paths]
    return [
        str(path) if stems.count(stem) > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]
