"""Types of options, shared by the verbs, and the least values of numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kernlens.cli.helptext import choices, one_of
from kernlens.cli.words import DATASETS, DECODERS, MAPS, METRICS, PROBES, SCORES, TARGETS
from kernlens.io.event_times import UNITS

METHODS = ("ppmi", "item2vec")

if TYPE_CHECKING:
    MetricName = str | None
    ProbeName = str | None
    TargetName = str | None
    ScoreName = MapName = MethodName = UnitName = DatasetName = str
else:
    MetricName, ProbeName, TargetName = map(one_of, (METRICS, PROBES, TARGETS))
    ScoreName, MapName, MethodName, UnitName, DatasetName = map(
        tyro.extras.literal_type_from_choices, (SCORES, MAPS, METHODS, ("auto", *UNITS), DATASETS)
    )

DECODER = choices(*DECODERS, "module:name")
Decoder = Annotated[str | None, tyro.conf.arg(metavar=DECODER)]
Decoders = Annotated[tuple[str, ...], tyro.conf.arg(metavar=f"{DECODER} [...]")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")]


def check_least(options: Any, **least: float) -> None:
    """Refuses numbers below the least that they may be.

    Args:
      options: the options, as they were typed.
      least: by the name of an option.

    Raises:
      ValueError: names the option, and says what it was and what it must be.
    """
    for name, low in least.items():
        if not getattr(options, name) >= low:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be at least {low}; got {getattr(options, name)}")
