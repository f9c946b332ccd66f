"""What the runs of a family of embeddings say together: spreads, agreements, verdicts."""

import functools
from typing import Any

import numpy as np

from experiments.mismatch import readers, spread

ALIKE = 0.02
"""Most sd of final losses over their mean, of runs that converged alike."""
DISTANCES = ("1 - CKA", "coordinates", "Procrustes", "GULP", "PIP loss")


def family(rows: list[dict[str, Any]], config: Any) -> dict[str, Any]:
    """Spreads, agreements and verdicts of one family of runs.

    Args:
      rows: in JSON's types: a run's, and a pair of runs', of one family.
      config: of the experiment.
    """
    alone = [row for row in rows if row["kind"] == "run"]
    both = [row for row in rows if row["kind"] == "pair"]
    count = len(alone)
    boot = functools.partial(spread.bootstrap, count, draws=config.draws)

    def square(value) -> np.ndarray:
        made = np.zeros((count, count))
        for row in both:
            a, b = row["runs"]
            made[a, b] = made[b, a] = value(row)
        return made

    values = {
        metric: {name: np.array([row[metric][name] for row in alone]) for name in readers.READERS}
        for metric in ("macro_f1", "balanced_accuracy")
    }
    moved = {name: square(lambda row, name=name: row["changed"][name]) for name in readers.READERS}
    own = {name: np.array([row["within"][name] for row in alone]) for name in readers.READERS}
    apart = {name: square(lambda row, name=name: row["distances"][name]) for name in DISTANCES}

    def moves(name, drawn):
        """Share changed between runs beyond what another head seed changes."""
        return float(np.mean(spread.off_diagonal(moved[name], drawn)) - own[name][drawn].mean())

    def ranked(distance, name, drawn):
        return spread.spearman(
            spread.off_diagonal(apart[distance], drawn), spread.off_diagonal(moved[name], drawn)
        )

    lines = []
    for name in readers.READERS:
        line: dict[str, Any] = {"reader": name}
        for metric, table in values.items():
            mine = table[name]
            line[metric] = float(mine.mean())
            line[f"{metric} sd"] = boot(lambda i, mine=mine: spread.between_sd(mine[i]))
            line[f"{metric} variances"] = spread.parts(mine)
        line["changed"] = float(np.mean(spread.off_diagonal(moved[name], np.arange(count))))
        line["changed by the head"] = float(own[name].mean())
        line["changed by the run"] = boot(lambda i, name=name: moves(name, i))
        line["spearman"] = {d: boot(lambda i, d=d, name=name: ranked(d, name, i)) for d in apart}
        turned = [row["rotated"][name] for row in alone if row["rotated"]]
        line["changed by rotation"] = float(np.mean(turned))
        lines.append(line)
    controls = {
        name: float(np.mean([row["rotated"][name] for row in alone if row["rotated"]]))
        for name in readers.CONTROLS
    }
    lr, ip = "LR SGD", "IP class mean"
    f1 = values["macro_f1"]
    gap_sd = boot(lambda i: spread.between_sd(f1[lr][i]) - spread.between_sd(f1[ip][i]))
    gap_moved = boot(lambda i: moves(lr, i) - moves(ip, i))
    kernel = boot(lambda i: ranked("1 - CKA", lr, i))
    lead = boot(lambda i: ranked("1 - CKA", lr, i) - ranked("coordinates", lr, i))
    probed = np.array([row["probe_macro_f1"] for row in alone])
    noise = float(own[lr].mean())
    losses = np.array([row["loss"] for row in alone])
    above = [gap_sd["low"] > 0, gap_moved["low"] > 0]
    return {
        "verdicts": {
            "mismatch": verdict(any(above), all(above)),
            "kernel distance": verdict(kernel["low"] > 0, lead["low"] > 0),
            "coordinates": verdict(controls["LR exact"] > noise, controls[lr] > noise),
        },
        "final_loss": {
            "mean": losses.mean(), "sd": losses.std(ddof=1), "least": losses.min(),
            "most": losses.max(), "relative_sd": losses.std(ddof=1) / losses.mean(),
            "converged_alike": bool(losses.std(ddof=1) <= ALIKE * losses.mean()),
        },
        "readers": lines,
        "rotation": controls,
        "head_noise": noise,
        "LR less IP": {"sd": gap_sd, "changed": gap_moved},
        "kernel": {"spearman": kernel, "lead on coordinates": lead},
        "probe": {
            "sd": boot(lambda i: spread.between_sd(probed[i, None])),
            "error": float(np.mean(np.abs(probed - f1["LR exact"][:, 0]))),
            "spearman": boot(lambda i: spread.spearman(probed[i], f1["LR exact"][i, 0])),
        },
    }  # fmt: skip


def bounds(alone: list[dict[str, Any]], config: Any) -> dict[str, Any]:
    """Theorem 1's bounds against measured risks, of runs that have them."""
    boot = functools.partial(spread.bootstrap, len(alone), draws=config.draws)
    excess = [one for row in alone for one in row["excess"]]
    measured = np.array([np.mean([one["excess"] for one in row["excess"]]) for row in alone])
    bound = np.array([np.mean([one["bound"] for one in row["excess"]]) for row in alone])
    orders = boot(lambda i: spread.spearman(bound[i], measured[i]))
    risk, limit, inner = (
        np.array([row["contrastive"][k] for row in alone]) for k in ("measured", "bound", "within")
    )
    orders_risk = boot(lambda i: spread.spearman(limit[i], risk[i]))
    held = all(one["excess"] <= one["bound"] for one in excess)
    return {
        "verdicts": {
            "bound": verdict(held, orders["low"] > 0),
            "contrastive bound": verdict(bool(np.all(risk <= limit)), orders_risk["low"] > 0),
        },
        "bounds": [
            {"n": n} | {
                key: float(np.mean([one[key] for one in excess if one["n"] == n]))
                for key in excess[0] if key != "n"
            }
            for n in config.sizes
        ],
        "bound orders runs": orders,
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
            "orders runs": orders_risk,
            "within-class covariance orders runs": boot(
                lambda i: spread.spearman(inner[i], risk[i])
            ),
        },
    }  # fmt: skip


def verdict(part: bool, whole: bool) -> str:
    """``whole`` counts only where ``part`` is met."""
    return ("holds" if whole else "holds in part") if part else "fails"
