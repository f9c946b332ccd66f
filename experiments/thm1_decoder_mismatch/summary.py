"""What the runs of a family of embeddings say together: spreads, agreements, verdicts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.kit import spread, verdicts
from experiments.thm1_decoder_mismatch import readers
from experiments.thm1_decoder_mismatch.encoders import LR, PRETRAINED_BY

ALIKE = 0.02
"""Most sd of final losses over their mean, of runs that converged alike."""
TELLS = 0.5
"""Least rank correlation that would tell how far two runs differ."""
DISTANCES = ("1 - CKA", "coordinates")
CORRELATION = (-1.0, 1.0)


def family(rows: list[dict[str, Any]], config: Any) -> dict[str, Any]:
    """Spreads, agreements and verdicts of one family of runs.

    Args:
      rows: in JSON's types: a run's, and a pair of runs', of one family.
      config: of the experiment.
    """
    name = rows[0]["family"]
    alone = [row for row in rows if row["kind"] == "run"]
    both = [row for row in rows if row["kind"] == "pair"]
    count = len(alone)
    f1 = {name: np.array([row["macro_f1"][name] for row in alone]) for name in readers.READERS}

    def pairs(what: str, name: str) -> np.ndarray:
        return spread.table(both, count, lambda row: row[what][name])

    def mean(table: np.ndarray):
        return lambda kept: float(np.mean(spread.off_diagonal(table, kept)))

    def ranked(distance: str, reader: str):
        """Rank correlation of a distance with disagreement, over pairs of runs."""
        apart, disagree = pairs("distances", distance), 1.0 - pairs("kappa", reader)
        return lambda kept: spread.spearman(
            spread.off_diagonal(apart, kept), spread.off_diagonal(disagree, kept)
        )

    def disagreement(reader: str):
        return mean(1.0 - pairs("kappa", reader))

    lines = []
    for reader in readers.READERS:
        within = [row["within"][reader] for row in alone]
        lines.append(
            {
                "reader": reader,
                "macro_f1": float(f1[reader].mean()),
                "macro_f1 sd": spread.between_sd(f1[reader]),
                "macro_f1 sd of the head": float(np.sqrt(spread.parts(f1[reader])[1])),
                "changed": spread.jackknife(count, mean(pairs("changed", reader)), bounds=(0, 1)),
                "changed by the head": float(np.mean(within)),
                "kappa": spread.jackknife(
                    count, mean(pairs("kappa", reader)), bounds=CORRELATION
                ),
            }
        )  # fmt: skip

    compared = {}
    for priors, (inner, logistic) in readers.ALIKE.items():
        unlike, like = (inner, logistic) if PRETRAINED_BY[name] == LR else (logistic, inner)
        compared[priors] = {
            "unlike": unlike,
            "like": like,
            "sd": spread.ratio_of_sds(f1[unlike], f1[like]),
            "disagreement": spread.more(count, disagreement(unlike), disagreement(like)),
            "changed": spread.more(
                count, mean(pairs("changed", unlike)), mean(pairs("changed", like))
            ),
        }
    weakest = max(readers.PATH, key=lambda reader: readers.PATH[reader])
    whitening = {
        "class means": spread.more(
            count, disagreement(readers.MEANS_WHITE), disagreement(readers.MEANS)
        ),
        "L2": spread.more(count, disagreement(readers.LR_BALANCED), disagreement(weakest)),
    }
    unlike = compared["classes of equal weight"]["unlike"]
    near, plain = (ranked(distance, unlike) for distance in DISTANCES)
    kernel = spread.jackknife(count, near, bounds=CORRELATION)
    lead = spread.jackknife(count, lambda kept: near(kept) - plain(kept), bounds=(-2.0, 2.0))
    losses = np.array([row["loss"] for row in alone])
    alike = bool(losses.std(ddof=1) <= ALIKE * losses.mean())
    return {
        "verdicts": {
            "mismatch": mismatch(compared) if alike else verdicts.UNDECIDED,
            "whitening": verdicts.together(verdicts.twofold(one) for one in whitening.values()),
            "kernel distance": kernel_distance(kernel, lead),
        },
        "final_loss": {
            "mean": losses.mean(), "sd": losses.std(ddof=1), "least": losses.min(),
            "most": losses.max(), "relative_sd": losses.std(ddof=1) / losses.mean(),
            "converged_alike": alike,
        },
        "readers": lines,
        "unlike and like": compared,
        "whitening": whitening,
        "kernel": {"reader": unlike, "spearman": kernel, "lead on coordinates": lead},
    }  # fmt: skip


def mismatch(compared: Mapping[str, Any]) -> str:
    """Whether the decoder unlike the pretraining's makes runs differ more.

    Of both treatments of the classes' shares, by the spread of macro-F1 and by disagreement.
    """
    return verdicts.together(
        part
        for one in compared.values()
        for part in (
            verdicts.exceeds(one["sd"], none=1.0, matters=verdicts.TWOFOLD),
            verdicts.twofold(one["disagreement"]),
        )
    )


def kernel_distance(kernel: Mapping[str, Any], lead: Mapping[str, Any]) -> str:
    """Whether a distance of kernels tells how far readers differ, and better than coordinates."""
    return verdicts.also(verdicts.exceeds(kernel, matters=TELLS), verdicts.exceeds(lead))


def bounds(alone: list[dict[str, Any]], config: Any) -> dict[str, Any]:
    """Theorem 1's bounds against measured risks, of runs that have them."""
    count = len(alone)
    excess = [one for row in alone for one in row["excess"]]
    measured = np.array([np.mean([one["excess"] for one in row["excess"]]) for row in alone])
    bound = np.array([np.mean([one["bound"] for one in row["excess"]]) for row in alone])
    risk, limit, inner = (
        np.array([row["contrastive"][k] for row in alone]) for k in ("measured", "bound", "within")
    )

    def orders(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        return spread.jackknife(
            count, lambda kept: spread.spearman(a[kept], b[kept]), bounds=CORRELATION
        )

    ordered, ordered_risk = orders(bound, measured), orders(limit, risk)
    held = all(one["excess"] <= one["bound"] for one in excess)
    return {
        "verdicts": {
            "bound": bounded(held, ordered),
            "contrastive bound": bounded(bool(np.all(risk <= limit)), ordered_risk),
        },
        "bounds": [
            {"n": n} | {
                key: float(np.mean([one[key] for one in excess if one["n"] == n]))
                for key in excess[0] if key != "n"
            }
            for n in config.sizes
        ],
        "bound orders runs": ordered,
        "triplets": [
            {"n": n} | {
                key: float(np.mean([o[key] for r in alone for o in r["triplets"] if o["n"] == n]))
                for key in ("complexity", "generalisation")
            }
            for n in config.sizes
        ],
        "contrastive": {
            key: float(np.mean([row["contrastive"][key] for row in alone]))
            for key in alone[0]["contrastive"]
        } | {
            "orders runs": ordered_risk,
            "within-class covariance orders runs": orders(inner, risk),
        },
    }  # fmt: skip


def bounded(held: bool, orders: Mapping[str, Any]) -> str:
    """Whether a bound holds in every run and size, and also orders the runs."""
    return verdicts.also(verdicts.known(held), verdicts.exceeds(orders))
