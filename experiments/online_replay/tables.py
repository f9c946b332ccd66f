"""Tables and claims of the replay."""

from collections.abc import Mapping
from typing import Any

from experiments.kit.shown import Claim, data_of, interval, table
from kernlens.show.table import Table


def tables(results: Mapping[str, Any]) -> list[Table]:
    """What each chooser's recommender reached, and how good the estimates are."""
    summary = results["summary"]
    rows = [
        {
            "chosen by": line["chooser"],
            "embeddings": ", ".join(line["chosen"]),
            "recall@10": interval(line["recall"]),
            "kernlens less it": interval(line["kernlens less it"]),
            "kernlens' share of credits": interval(line["interleaved"]),
            **({"coupons, AUC": interval(line["coupons"])} if "coupons" in line else {}),
            "lift over popularity": interval(line["lift"]["self-normalised"]),
            "replayed": interval(line["lift"]["replayed"]),
        }
        for line in summary["lines"]
    ]
    digits = {"recall@10": ".4f", "kernlens less it": ".4f", "coupons, AUC": ".3f"}
    digits |= {"lift over popularity": "+.0%", "replayed": "+.0%"}
    estimated = [
        {
            "estimate": f"{one['of']}, {one['estimator']}",
            "mean error": one["error"],
            "intervals that hold the replayed value": one["covered"],
        }
        for one in summary["estimated"]
    ]
    held = {"mean error": ".4f", "intervals that hold the replayed value": ".0%"}
    about = f"Over {results['config']['logs']} simulated logs and all embeddings:"
    made = [
        table(rows, digits, "Lift is by self-normalised propensities from one simulated log."),
        table(estimated, held, about),
    ]
    if "coupons" in summary:
        ranks = [
            {"coupons ranked without households": name, "AUC": interval(summary["coupons"][name])}
            for name in ("number of products", "purchases of its products")
        ]
        made.append(table(ranks, {"AUC": ".3f"}))
    return made


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Whether choosing by the kernel pays."""
    by = {line["chooser"]: line for line in results["summary"]["lines"]}
    measured = {
        "recall@10": format(interval(by["kernlens"]["recall"]), ".4f"),
        "oracle": format(by["oracle"]["recall"]["value"], ".4f"),
        "less random": format(interval(by["random"]["kernlens less it"]), ".4f"),
        "less the published score's choice": format(
            interval(by["published score"]["kernlens less it"]), ".4f"
        ),
    }
    text = f"4. {data_of(results)}: choosing by the kernel pays online"
    return [Claim(text, measured, results["summary"]["verdict"])]
