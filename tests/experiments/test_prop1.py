"""Claim 2: from rows, and from lines of a summary, to its two verdicts."""

import dataclasses

import numpy as np
import pytest

from experiments.kit.verdicts import FAILS, HOLDS, PART, UNDECIDED
from experiments.prop1_bound import experiment as prop1_bound
from experiments.prop1_entity_score import experiment as prop1_entity_score


def bound_line(form="raw", proof=0.0, before=0.0, low=0.2, high=0.9):
    """A line of prop1_bound: shares of violations on either side, the interval of the order."""
    return {
        "form": form,
        "violated": {"alignment, printed": proof, "known, printed": before, "known, Chebyshev": 1},
        "violated_at": {"1": 1.0},
        "order": {"value": 0.5, "low": low, "high": high},
    }


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{}], HOLDS),
        ([{}, {}], HOLDS),
        ([{"proof": 0.01}], FAILS),
        ([{}, {"proof": 0.01}], FAILS),  # one line is enough
        ([{}, {"proof": 0.01, "form": "centred"}], FAILS),  # in whatever form
        ([{"before": 0.01}], PART),
        ([{}, {"before": 0.01, "form": "unit rows"}], PART),
        ([{"low": 0.0}], PART),  # an interval that touches 0 ranks nothing
        ([{"low": -0.1}], PART),
        ([{"low": -0.9, "high": -0.1}], PART),
        ([{"low": None, "high": None}], PART),
        ([{}, {"low": -0.1}], PART),
        ([{}, {"low": -0.1, "form": "centred"}], HOLDS),  # the order is judged as they come
        ([{"low": -0.1, "proof": 0.01}], FAILS),
    ],
)
def test_the_verdict_on_the_inequality(lines, said):
    assert prop1_bound.verdict([bound_line(**line) for line in lines]) == said


def bound_rows(alignment, known, measured):
    """Rows of two settings and runs; a second split in which nothing comes near the bound."""
    rows = []
    for i, name in enumerate("abcd"):
        splits = [
            {"known": k, "alignment": a, "measured": m, "trivial": 0.4, "spread": 0.5}
            for k, a, m in ((known, alignment, measured), (0.1 + 0.1 * i, 0.1, 0.5 + 0.1 * i))
        ]
        means = {key: float(np.mean([one[key] for one in splits])) for key in splits[0]}
        rows.append(
            {
                "name": name, "seed": 0, "task": "t", "place": "p", "form": "raw",
                "splits": splits, **means,
            }
        )  # fmt: skip
    return rows


@pytest.mark.parametrize(
    ("alignment", "known", "measured", "said", "judged", "at"),
    [
        # √δ a against 1 - R: with a = 0.8 it is 0.8 at δ = 1, 0.57 at 0.5, 0.4 at 0.25.
        (0.8, 0.1, 0.9, HOLDS, (0.0, 0.0), (0.0, 0.0, 0.0)),
        (0.8, 0.1, 0.7, HOLDS, (0.0, 0.0), (0.0, 0.0, 0.5)),  # at δ = 1 alone: nothing is claimed
        (0.8, 0.1, 0.5, FAILS, (0.5, 0.0), (0.0, 0.5, 0.5)),
        (0.8, 0.1, 0.3, FAILS, (0.5, 0.0), (0.5, 0.5, 0.5)),
        (0.1, 0.8, 0.5, PART, (0.0, 0.5), (0.0, 0.0, 0.0)),
        (-0.8, 0.1, 0.3, HOLDS, (0.0, 0.0), (0.0, 0.0, 0.0)),  # no negative bound is violated
    ],
)
def test_violations_are_judged_where_the_statement_says_something(
    alignment, known, measured, said, judged, at
):
    config = dataclasses.replace(prop1_bound.TINY, deltas=(0.25, 0.5, 1.0), draws=50)
    found = prop1_bound.summarise(config, bound_rows(alignment, known, measured))
    (line,) = found["lines"]
    assert [line["violated"][f"{side}, printed"] for side in ("alignment", "known")] == list(judged)
    assert line["violated_at"] == dict(zip(("0.25", "0.5", "1"), at, strict=True))
    assert found["verdict"] == said


def test_a_list_of_which_none_is_judged_is_refused():
    config = dataclasses.replace(prop1_bound.TINY, deltas=(0.6, 1.0))
    with pytest.raises(ValueError, match=r"must hold one of at most 0.5.*got \(0.6, 1.0\)"):
        prop1_bound.check(config)


def score_line(low, high, predictor="proposition1"):
    return {"predictor": predictor, "LR macro_f1": {"spearman": {"low": low, "high": high}}}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([(0.1, 0.5)], HOLDS),
        ([(0.1, 0.5), (0.2, 0.9)], HOLDS),
        ([(-0.2, 0.6), (0.8, 0.9), (0.8, 1.0)], PART),
        ([(0.1, 0.5), (-0.5, -0.1)], PART),
        ([(0.0, 0.5)], UNDECIDED),
        ([(-0.2, 0.6)], UNDECIDED),
        ([(None, None)], UNDECIDED),
        ([(-0.5, -0.1)], FAILS),
        ([(-0.5, 0.0), (-0.5, -0.1)], FAILS),
        ([(-0.5, -0.1), (-0.5, 0.2)], UNDECIDED),
    ],
)
def test_the_verdict_on_the_score_is_by_the_intervals_of_that_score_alone(lines, said):
    others = [score_line(0.9, 1.0, "centred_alignment"), score_line(-1.0, -0.9, "dimension")]
    assert prop1_entity_score.verdict([score_line(*one) for one in lines] + others) == said


def score_rows(sign):
    """Eight settings that proposition 1 ranks rightly, or the other way round."""
    rows = []
    for i in range(8):
        value = {"value": sign * float(i), "seconds": 0.0}
        trained = {metric: [0.1 * i, 0.1 * i + 0.02] for metric in prop1_entity_score.METRICS}
        probed = dict.fromkeys(prop1_entity_score.METRICS, 0.1 * i + 0.03)
        rows.append(
            {
                "data": "d", "setting": f"s{i}", "seed": 0,
                "predicted": {"discriminant": {**probed, "seconds": 0.0}},
                "scores": {"proposition1": value},
                "baselines": {
                    "cv_logistic": {"value": 0.1 * i + 0.015, "seconds": 0.0},
                    "pretraining_loss": value,
                },
                "trained": {"LR": trained},
            }
        )  # fmt: skip
    return rows


def test_what_is_in_the_unit_of_the_outcome_has_an_error_and_nothing_else_has():
    config = dataclasses.replace(prop1_entity_score.TINY, draws=50)
    lines = prop1_entity_score.summarise(config, score_rows(1.0))["lines"]
    errors = {
        (line["predictor"], metric): line[f"LR {metric}"]["mean_absolute_error"]["value"]
        for line in lines
        for metric in prop1_entity_score.METRICS
        if "mean_absolute_error" in line[f"LR {metric}"]
    }
    # Trained means lie 0.01 above 0.1 i; cross-validation's value is a macro-F1.
    assert errors == pytest.approx(
        {
            ("discriminant", "macro_f1"): 0.02,
            ("discriminant", "accuracy"): 0.02,
            ("cv_logistic", "macro_f1"): 0.005,
        }
    )


@pytest.mark.parametrize(("sign", "said"), [(1.0, HOLDS), (-1.0, FAILS)])
def test_the_verdict_follows_the_sign_of_the_order(sign, said):
    config = dataclasses.replace(prop1_entity_score.TINY, draws=200)
    assert prop1_entity_score.summarise(config, score_rows(sign))["verdict"] == said
