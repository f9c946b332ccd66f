"""Tables and claims of the averages of histories."""

from collections.abc import Mapping
from typing import Any

from experiments.kit.outcomes import SAMPLED
from experiments.kit.shown import Claim, data_of, interval, number, table
from experiments.prop2_sequence_average.summary import TRAINED, levels
from kernlens.show.table import Table


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Rank correlation and error of every training-free ranking, and the level of each ranker."""
    summary = results["summary"]
    rows = [_row(line["predictor"], line, " recall") for line in summary["predictors"]]
    if summary.get("ceiling"):
        rows.append(_row("two seeds of the tower itself", summary["ceiling"], ""))
    reached = [
        {
            "ranker": line["ranker"],
            "recall@10, over users": interval(line["over users"]),
            **{key: line[key] for key in ("least", "most")},
            "NDCG@10": line["ndcg"],
            "MRR": line["mrr"],
            "recall@10, repeated targets": number(line["repeated"]),
            "new targets": number(line["new"]),
            **{f"recall@10 of 100 {name}": number(line[name]) for name in SAMPLED},
        }
        for line in levels(results["rows"])
    ]
    digits = dict.fromkeys(reached[0], ".4f") | {f"recall@10 of 100 {k}": ".3f" for k in SAMPLED}
    errors = {f"error, {tower}": ".4f" for tower in TRAINED}
    told = (
        f"{len(results['rows'])} embeddings. Order: {summary['verdict']}. Value: "
        f"{summary['value']}. {ranked(summary['ranked'])}."
    )
    return [table(rows, errors, told), table(reached, digits)]


def _row(name: str, found: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    own = {tower: found[f"{tower}{suffix}"] for tower in TRAINED}
    valued = name != "pretraining loss"
    return {
        "predictor": name,
        **{f"ρ with {tower}": interval(one["spearman"]) for tower, one in own.items()},
        **{
            f"error, {tower}": number(one["error"]["value"] if valued else None)
            for tower, one in own.items()
        },
    }


def ranked(told: Mapping[str, Any]) -> str:
    """What was asked, and among which items."""
    if told["queries"] is None:
        return f"Measured under an earlier protocol: {told['protocol']}"
    return (
        f"Candidates: {told['protocol']}; {told['queries']:,} queries, {told['repeated']:,} "
        f"of them for an item that the user had met before, {told['dropped']:,} more not asked"
    )


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Order and value of the discounted average."""
    found, told = results["summary"], results["summary"]["ranked"]
    average = {tower: found["predictors"][0][f"{tower} recall"] for tower in TRAINED}
    # What was measured under another protocol says so in its own row.
    under = "" if told["queries"] is not None else f" ({told['protocol']})"
    data = data_of(results)
    if results["config"].get("published"):
        data += ", the paper's grid and towers"
    return [
        Claim(
            f"3. {data}: the discounted average orders embeddings as trained towers do{under}",
            {f"{tower}: ρ": interval(one["spearman"]) for tower, one in average.items()},
            found["verdict"],
        ),
        Claim(
            f"{data}: and gives their recall, which the paper does not claim{under}",
            {
                f"{tower}: error over recall": interval(one["relative_error"])
                for tower, one in average.items()
            },
            found["value"],
        ),
    ]
