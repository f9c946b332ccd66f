"""The targets that were set, what was measured of each, and whether it is met."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

MET, MISSED, NOT_JUDGED = "met", "missed", "not judged"


class Target(NamedTuple):
    """What was wanted.

    Attributes:
      text: what is measured, on the sets that the method was not tuned on.
      wanted: as people read it.
      measured: by name in a summary's ``measured``; the first is the number of the table.
      rule: whether they suffice.
    """

    text: str
    wanted: str
    measured: tuple[str, ...]
    rule: Callable[..., bool]


def at_most(limit: float) -> Callable[..., bool]:
    """All are at most a limit."""
    return lambda *found: all(one <= limit for one in found)


def at_least(limit: float) -> Callable[..., bool]:
    """All are at least a limit."""
    return lambda *found: all(one >= limit for one in found)


def below_cv(limit: float) -> Callable[..., bool]:
    """Errors in macro-F1 and accuracy at most a limit, and each below cross-validation's."""
    return lambda f1, acc, cv_f1, cv_acc: max(f1, acc) <= limit and f1 < cv_f1 and acc < cv_acc


def order(limit: float) -> Callable[..., bool]:
    """The least correlation of a set, and the least gap to cross-validation's."""
    return lambda least, gap: least >= limit and gap >= -0.01


def held(least: float, low: float, high: float) -> bool:
    """Coverage over all sets between its limits, and of every set above its own."""
    return 0.85 <= low <= high <= 0.95 and least >= 0.80


TARGETS = (
    Target("mean absolute error of macro-F1 and accuracy, linear head, natural embeddings",
           "<= .007, and below 5-fold CV's",
           ("linear.macro_f1", "linear.accuracy", "cv.macro_f1", "cv.accuracy"), below_cv(0.007)),
    Target("the same, damaged embeddings", "<= .012",
           ("linear.damaged.macro_f1", "linear.damaged.accuracy"), at_most(0.012)),
    Target("MLP heads", "<= .012", ("mlp.macro_f1", "mlp.accuracy"), at_most(0.012)),
    Target("k-NN", "<= .007", ("k-NN.macro_f1", "k-NN.accuracy"), at_most(0.007)),
    Target("class means", "<= .007", ("class means.macro_f1", "class means.accuracy"),
           at_most(0.007)),
    Target("log loss, linear head", "<= .03", ("linear.log_loss",), at_most(0.03)),
    Target("least Spearman of a set of 8 or more, linear", ">= .97, CV's less .01",
           ("linear.spearman", "linear.spearman_over_cv"), order(0.97)),
    Target("least Spearman of a set of 8 or more, MLP", ">= .95, CV's less .01",
           ("mlp.spearman", "mlp.spearman_over_cv"), order(0.95)),
    Target("90% intervals of one training hold single splits", "85 to 95%, each set >= 80%",
           ("single.least", "single.coverage"), lambda least, all_: held(least, all_, all_)),
    Target("90% intervals of the mean hold the trained mean", ">= 90%",
           ("mean.coverage",), at_least(0.90)),
    Target("median half-width of the mean's interval, 2,000 rows and more", "<= .015",
           ("mean.half_width",), at_most(0.015)),
    Target("\"worse\" verdicts that training contradicts", "<= 5%", ("worse.wrong",),
           at_most(0.05)),
    Target("pairs over .02 apart in training that are called", ">= 90%", ("pairs.called",),
           at_least(0.90)),
    Target("learning curve, macro-F1 at 4x the labels, points", "<= 1", ("curve.4",),
           at_most(1.0)),
    Target("learning curve, macro-F1 at 16x the labels, points", "<= 2", ("curve.16",),
           at_most(2.0)),
    Target("cost: linear, of scikit-learn's 5-fold CV over the same penalties", "<= 1/5",
           ("cost.linear.cv",), at_most(1 / 5)),
    Target("cost: linear, of 20 trained splits", "<= 1/20", ("cost.linear.trained",),
           at_most(1 / 20)),
    Target("cost: MLP(32), of 20 trained splits", "<= 1/5", ("cost.mlp",), at_most(1 / 5)),
    Target("10^5 x 768, 100 classes, one path: seconds and gigabytes", "<= 120 s, < 3 GB",
           ("large.wide.seconds", "large.wide.gigabytes"), lambda s, gb: s <= 120 and gb < 3),
    Target("10^6 x 64, 10 classes: seconds", "<= 20 s", ("large.long.seconds",), at_most(20.0)),
    Target("below 1,000 rows: error of macro-F1 in that of one trained split", "<= 1",
           ("small.macro_f1",), at_most(1.0)),
)  # fmt: skip
"""All targets, in the order of the table."""


def judge(target: Target, measured: Mapping[str, float | None]) -> dict[str, Any]:
    """A line of the table of targets.

    Args:
      target: one of :data:`TARGETS`.
      measured: by name; None or missing where it was not measured.

    Returns:
      Its text, what was wanted, what was measured, and ``met``, ``missed`` or ``not judged``.
    """
    found: Sequence[Any] = [measured.get(name) for name in target.measured]
    known = all(one is not None and one == one for one in found)
    verdict = NOT_JUDGED if not known else MET if target.rule(*found) else MISSED
    return {
        "target": target.text,
        "wanted": target.wanted,
        "measured": dict(zip(target.measured, found, strict=True)),
        "verdict": verdict,
    }
