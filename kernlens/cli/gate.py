"""Gates: conditions on an upgrade, typed as ``negative_flips<0.03``, that a pipeline stops at."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kernlens.cli.words import CLASS_METRICS
from kernlens.types import Interval

if TYPE_CHECKING:
    from kernlens import lens

FLIPS = ("negative_flips", "positive_flips", "other_flips", "churn")
NAMES = (*FLIPS, *CLASS_METRICS, "r2", "rmse", "mae")
"""What a gate can be about."""

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
GATE = re.compile(r"\s*(?:([\w -]+)\.)?(\w+)\s*(<=|>=|<|>)\s*(-?[\d.]+(?:e-?\d+)?)(%?)\s*")
EXPECTED = (
    "expected NAME<NUMBER, with <, <=, > or >=, such as negative_flips<0.03 or "
    f"rotation.macro_f1>=0.3; names are {', '.join(NAMES)}"
)


class Gate(NamedTuple):
    """A condition.

    Attributes:
      text: as it was typed.
      way: that it is about; the advised one where it is "".
      name: of :data:`NAMES`.
      comparison: of :data:`COMPARISONS`.
      limit: a number.
    """

    text: str
    way: str
    name: str
    comparison: str
    limit: float


class Outcome(NamedTuple):
    """A gate, the value that it was asked of, and whether it is passed."""

    gate: Gate
    value: Interval
    passed: bool

    def sentence(self) -> str:
        """What came of it."""
        what = "passed" if self.passed else "not passed"
        return f"gate {self.gate.text!r} {what}: {self.gate.name} is {self.value:.4f}"


def parse(texts: Sequence[str]) -> tuple[Gate, ...]:
    """Gates as they are typed; commas and ``and`` join several.

    Raises:
      ValueError: something else.
    """
    found = []
    for text in texts:
        for part in re.split(r",|\band\b", text):
            match = GATE.fullmatch(part)
            if match is None or match[2] not in NAMES:
                raise ValueError(f"--gate {text!r}: {EXPECTED}")
            try:
                limit = float(match[4]) / (100.0 if match[5] else 1.0)
            except ValueError:
                raise ValueError(f"--gate {text!r}: {match[4]} is no number; {EXPECTED}") from None
            found.append(Gate(part.strip(), (match[1] or "").strip(), match[2], match[3], limit))
    return tuple(found)


def outcomes(gates: Sequence[Gate], found: "lens.Upgrade") -> list[Outcome]:
    """What comes of each gate; a value that is undefined passes none.

    Raises:
      ValueError: a way or metric that the upgrade does not have.
    """
    made = []
    names = {name.replace(" ", "-"): name for name in found.ways} | {n: n for n in found.ways}
    for gate in gates:
        if gate.way and gate.way not in names:
            raise ValueError(
                f"--gate {gate.text!r}: no way {gate.way!r}; choose one of {', '.join(found.ways)}"
            )
        way = found.ways[names[gate.way]] if gate.way else found.chosen
        if gate.name in FLIPS:
            value = getattr(way.flips, gate.name)
        elif gate.name in way.prediction.metrics:
            value = way.prediction.metrics[gate.name]
        else:
            raise ValueError(f"--gate {gate.text!r}: this head has no {gate.name}")
        passed = COMPARISONS[gate.comparison](value.value, gate.limit)
        made.append(Outcome(gate, value, passed and not math.isnan(value.value)))
    return made
