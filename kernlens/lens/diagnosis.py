"""What a diagnosis says: findings with numbers, verdicts, and one sentence."""

import html
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kernlens.lens.causes.cause import ASKED, FACT, HEAD, NATURAL, Cause, Measure, Remedy
from kernlens.lens.verdicts import (
    ABSENT,
    FAULT,
    FINDING_STYLES,
    HARMLESS,
    INVALID,
    OPEN,
    STATED,
)
from kernlens.probes import TITLES, Prediction
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.types import Interval

MATTERS = 0.01
"""Least gain that is called one: less is not seen in one training."""

MAX_SHOWN = 8
"""Findings that a printed diagnosis shows."""

ALARMS = (INVALID, FAULT)
GROUPS = (FACT, NATURAL, HEAD, ASKED)
"""In the order in which they are shown."""


def verdict(group: str, found: bool, gain: Interval | None, invalid: str) -> str:
    """What a measured cause is called.

    Args:
      group: of the cause.
      found: whether its score is beyond the threshold.
      gain: of its remedy for the named head, above 0 better; None where there is no remedy.
      invalid: why the predicted value means something else, or "".

    Returns:
      A word of :mod:`kernlens.lens.verdicts`: ``ABSENT``, ``OPEN`` for what one table cannot
      settle, ``INVALID``, ``STATED`` for a fact without a remedy, ``FAULT`` where the interval of
      the gain leaves out 0 and the gain matters, else ``HARMLESS``.
    """
    if not found:
        return ABSENT
    if group == ASKED:
        return OPEN
    if invalid:
        return INVALID
    if gain is None:
        return STATED
    return FAULT if gains(gain) else HARMLESS


def gains(gain: Interval | None) -> bool:
    """Whether a gain's interval lies above 0, and the gain is one that matters."""
    return gain is not None and gain.low > 0 and gain.value >= MATTERS


class Finding(NamedTuple):
    """One cause on one table.

    Attributes:
      name: of the cause.
      cause: the row of the table of causes.
      measure: what was measured; its ``rows`` are of all rows of the table, NaN where unknown.
      gain: of the remedy for the named head, paired, above 0 better; None where there is none, or
        where the cause was not found.
      verdict: by :func:`verdict`.
      ids: name of each row, ``[n]``.
    """

    name: str
    cause: Cause
    measure: Measure
    gain: Interval | None
    verdict: str
    ids: np.ndarray

    @property
    def score(self) -> float:
        """The statistic."""
        return self.measure.score

    @property
    def rows(self) -> np.ndarray | None:
        """How much each row is to blame, in ``[0, 1]``, above 0.5 blamed; None without rows."""
        return self.measure.rows

    @property
    def remedy(self) -> Remedy | None:
        """``remedy(embeddings) -> embeddings``, or None."""
        return self.measure.remedy

    @property
    def severity(self) -> float:
        """How far beyond its threshold, in steps from null to threshold."""
        return self.cause.severity(self.measure.score, self.measure.null)

    def worst(self, count: int | None = None) -> np.ndarray:
        """Names of the blamed rows, worst first.

        Args:
          count: most names; all by default.
        """
        if self.rows is None:
            return self.ids[:0]
        scores = np.nan_to_num(self.rows, nan=0.0)
        order = np.argsort(-scores, kind="stable")
        return self.ids[order[scores[order] > 0.5][:count]]

    def paragraph(self) -> str:
        """What was measured, what it is, why it matters and what to do."""
        gain = "" if self.gain is None else f" To {self.measure.action}: {self.gain:+.3f}."
        return f"{self.name}: {self.measure.said}.{gain} {self.cause.paragraph()}"


def place(
    word: str, group: str, gain: float | None, severity: float
) -> tuple[int, bool, float, int, bool, float]:
    """Key that puts findings in the order in which they are shown.

    Alarms come first, by gain, the head's last. Then what was found: facts before all else, then
    what had no remedy to try before what no remedy helps, by severity. The rest is last.

    Args:
      word: the verdict.
      group: of the cause.
      gain: of its remedy, or None.
      severity: steps from null to threshold.
    """
    is_alarm = word in ALARMS
    first = ALARMS.index(word) if is_alarm else 3 if word == ABSENT else 2
    worth = gain if is_alarm and gain is not None else 0.0
    return (
        first, is_alarm and group == HEAD, -worth, GROUPS.index(group), word == HARMLESS, -severity
    )  # fmt: skip


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """Findings about a table under a head; ``diagnosis["outlier rows"]`` is one of them.

    Attributes:
      findings: alarms first, then what was found, then what was looked for in vain.
      prediction: of the named head.
      decoder: its name.
      more_labels: gain of four times the labels, above 0 better; None where it was not measured.
      num_rows: labelled rows.
    """

    findings: tuple[Finding, ...]
    prediction: Prediction
    decoder: str
    more_labels: Interval | None
    num_rows: int

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        measured = ", ".join(finding.name for finding in self.findings)
        raise KeyError(f"no cause {name!r} was measured; there are {measured}")

    @property
    def found(self) -> tuple[Finding, ...]:
        """What was found, alarms first."""
        return tuple(own for own in self.findings if own.verdict != ABSENT)

    @property
    def faults(self) -> tuple[Finding, ...]:
        """Alarms alone."""
        return tuple(own for own in self.findings if own.verdict in (FAULT, INVALID))

    def table(self) -> Table:
        """A row for each cause that was found."""
        return Table([_line(own) for own in self.found], COLUMNS, self.heading())

    def absent(self) -> Table:
        """A row for each cause that was looked for in vain."""
        return Table(
            [_line(own) for own in self.findings if own.verdict == ABSENT],
            (Column("cause"), Column("measured"), Column("score", format=".3g"),
             Column("threshold", format=".3g")),
            "Looked for and not found",
        )  # fmt: skip

    def answers(self) -> Table:
        """What more labels, another head and the best remedy would gain."""
        rows = [{"what": what, "gain": gain} for what, gain in self._answers().items()]
        return Table(rows, (Column("what"), Column("gain", format="+.3f")), "What would help")

    def tables(self) -> tuple[Table, ...]:
        """Findings, what would help, and what was not found."""
        return self.table(), self.answers(), self.absent()

    def heading(self) -> str:
        """What the head reaches."""
        value, title = self.prediction.value, TITLES[self.prediction.metric]
        return f"{self.decoder}: {title} {value:.3f} on {self.num_rows:,} rows"

    def sentence(self) -> str:
        """Is it the embedding, the labels, their number, or the head?"""
        told = [f"{what} {gain:+.3f}" for what, gain in self._answers().items()]
        unknown = self._unmeasured()
        told += [f"{what}: not measured" for what in unknown]
        if any(map(gains, self._answers().values())):
            floor = "no"
        else:
            floor = "not known" if unknown else "yes"
        parts = [*told, f"at its noise floor: {floor}"]
        return printable(f"{self.answer()}: {'; '.join(parts)}.")

    def answer(self) -> str:
        """The first words of the sentence."""
        invalid = [own for own in self.faults if own.verdict == INVALID]
        if any(own.name == "no signal" for own in invalid):
            return "Nothing: no relation of these rows to the labels is seen"
        if invalid:
            return f"The split ({invalid[0].name})"
        best = self.best_remedy()
        choices = {
            "The embedding": None if best is None else best.gain,
            "The number of labels": self.more_labels,
            "The head": self._head_gain(),
        }
        worth = {what: gain for what, gain in choices.items() if gain and gains(gain)}
        if worth:
            most = max(worth, key=lambda what: worth[what].value)
            # A remedy of the table is the cheapest of them.
            cheap = next(iter(worth))
            return cheap if worth[cheap].value >= worth[most].low else most
        if any(own.verdict == OPEN and own.name == "suspect labels" for own in self.found):
            return "The labels, the join or an overlap of classes (asked)"
        if self._unmeasured():
            return "Nothing that was measured is shown to help"
        return (
            "None of these is shown to help; what is left is another embedding, or cleaner labels"
        )

    def best_remedy(self) -> Finding | None:
        """The remedy of the embedding that gains most, where one does."""
        worth = [
            own for own in self.found
            if own.verdict == FAULT and own.cause.group != HEAD and own.gain is not None
        ]  # fmt: skip
        return max(worth, key=lambda own: own.gain.value, default=None)  # type: ignore[union-attr]

    def json(self) -> dict[str, Any]:
        """Everything in JSON's types, the blamed rows by id."""
        return {
            "decoder": self.decoder,
            "metric": self.prediction.metric,
            "metrics": dict(self.prediction.metrics),
            "conclusion": self.sentence(),
            "more_labels": self.more_labels,
            "findings": [
                {
                    "cause": own.name, "group": own.cause.group, "verdict": own.verdict,
                    "measured": own.measure.said, "score": own.score, "null": own.measure.null,
                    "threshold": own.cause.threshold, "reason": own.cause.reason,
                    "action": own.measure.action, "gain": own.gain,
                    "invalid": own.measure.invalid, "paragraph": own.cause.paragraph(),
                    "rows": own.worst() if own.verdict != ABSENT else [],
                }
                for own in self.findings
            ],
        }  # fmt: skip

    to_frame, to_dict = to_frame, to_dict

    def __repr__(self) -> str:
        return "\n".join([*self.table().first_lines(MAX_SHOWN), self.sentence()])

    def _repr_html_(self) -> str:
        said = f"<p>{html.escape(self.sentence())}</p>"
        return self.table().html() + said

    def _head_gain(self) -> Interval | None:
        found = [own.gain for own in self.findings if own.cause.group == HEAD]
        return found[0] if found else None

    def _unmeasured(self) -> list[str]:
        """What could help and was not measured, so that nothing is concluded about it."""
        known = {"more labels": self.more_labels, "another head": self._head_gain()}
        return [what for what, gain in known.items() if gain is None]

    def _answers(self) -> dict[str, Interval]:
        found = {}
        best = self.best_remedy()
        if best is not None and best.gain is not None:
            found[f"remedy ({best.measure.action})"] = best.gain
        if self.more_labels is not None:
            found["more labels (4x)"] = self.more_labels
        for own in self.findings:
            if own.cause.group == HEAD and own.gain is not None:
                found[f"another head ({own.measure.action.rsplit(' ', 1)[-1]})"] = own.gain
        return found


COLUMNS = (
    Column("cause"),
    Column("measured"),
    Column("action", "what would undo it"),
    Column("gain", "gain for this head", "+.3f"),
    Column("verdict", styles=FINDING_STYLES),
)


def _line(own: Finding) -> dict[str, Any]:
    return {
        "cause": own.name, "measured": own.measure.said, "action": own.measure.action,
        "gain": own.gain, "verdict": own.verdict, "score": own.score,
        "threshold": own.cause.threshold,
    }  # fmt: skip
