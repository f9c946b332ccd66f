"""Verdicts on the paper's claims that did not follow from the rows, and values not shown."""

import copy
import functools

from experiments.joint_embeddings import experiment as joint_embeddings
from experiments.kit import committed, study, summaries
from experiments.online_replay import experiment as online_replay
from experiments.prop1_bound import experiment as prop1_bound
from experiments.prop1_entity_score import experiment as prop1_entity_score
from tests.corrected.case import Case

_committed = functools.cache(committed.read)


@functools.cache
def _inequality() -> dict:
    return summaries.summary_of(_committed("prop1_bound/movielens_random"))


def _violated() -> float:
    return max(line["violated"]["alignment, printed"] for line in _inequality()["lines"])


def _joint() -> str:
    kept = _committed("joint_embeddings")
    config = summaries.config_of(joint_embeddings, kept["config"])
    return joint_embeddings.summarise(config, kept["rows"])["verdict"]


def _error(data: str) -> float:
    """Mean absolute error that the summary gives cross-validation; 0 would be none."""
    rows = [row for row in _committed("prop1_entity_score")["rows"] if row["data"] == data]
    values = {prop1_entity_score.CROSS_VALIDATED: "macro_f1"}
    (found,) = (
        one
        for one in study.predictors(rows, values=values)
        if one.name == prop1_entity_score.CROSS_VALIDATED and "macro_f1" in one.metrics
    )
    return study.agree(rows, found, "LR", "macro_f1", draws=1).mean_absolute_error.value


def _replayed() -> str:
    """The verdict of a gain over the random choice whose interval holds 0."""
    ends = {"low": -0.0025, "high": 0.0022}
    return online_replay.verdict(
        [
            {"chooser": name, "kernlens less it": ends, "recall": {"value": 0.05}}
            for name in ("kernlens", "random", "published score", "oracle")
        ]
    )


def _other_chances() -> str:
    kept = copy.deepcopy(_committed("prop1_bound/movielens"))
    kept["config"]["deltas"] = [0.1]
    kept["summary"] = summaries.summary_of(kept)
    try:
        (table,) = prop1_bound.tables(kept)
    except KeyError as error:
        return f"KeyError: {error}"
    (head,) = (column.head for column in table.columns if column.head.startswith("√δ"))
    return head


ERRORS = {
    "Complete Journey departments": 0.00239260,
    "MovieLens-1M genres by time": 0.00436400,
    "MovieLens-1M genres in random order": 0.01146636,
}
"""Mean over 54 embeddings of |cv_logistic - mean of the trained macro-F1|, from the rows."""

CASES: tuple[Case, ...] = (
    Case(
        fault="a statement with probability 1 - δ was judged at δ = 1",
        call="prop1_bound.summarise(config, rows)['verdict'], MovieLens-1M in random order",
        before="fails",
        right="holds",
        measure=lambda: _inequality()["verdict"],
    ),
    Case(
        fault="splits that violate the inequality at δ = 1 alone were counted",
        call="the same, largest share of splits in violation",
        before=0.1125,
        right=0.0,
        measure=_violated,
    ),
    Case(
        fault="an interval that contains 0 was said to hold in part",
        call="joint_embeddings.summarise(config, rows)['verdict']",
        before="holds in part",
        right="undecided",
        measure=_joint,
    ),
    Case(
        fault="a difference too small to be seen was said to fail",
        call="online_replay.verdict(lines), less random [-0.0025, 0.0022]",
        before="fails",
        right="undecided",
        measure=_replayed,
    ),
    *(
        Case(
            fault=f"cross-validation's error in value was not shown: {data}",
            call="study.agree(rows, cv_logistic, 'LR', 'macro_f1').mean_absolute_error",
            before="–",
            right=right,
            measure=functools.partial(_error, data),
            tolerance=1e-8,
            digits=3,
        )
        for data, right in ERRORS.items()
    ),
    Case(
        fault="without δ = 0.05 a run ended in an error when it was over",
        call="python -m experiments.prop1_bound --deltas 0.1",
        before="KeyError: '0.05'",
        right="√δ a, δ = 0.1",
        measure=_other_chances,
    ),
)
