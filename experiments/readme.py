"""Writes the tables of docs from the committed results, so that no figure in it is typed by hand.

    python -m experiments.readme

A block stands between ``<!-- results: NAME -->`` and ``<!-- end -->``.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import claims, paper_tables
from experiments.markdown import interval, markdown
from experiments.next_items.outcomes import SAMPLED
from experiments.next_items.summary import levels
from experiments.runner import RESULTS
from experiments.score_limits.shown import number
from experiments.tournament.settings import ORDER
from kernlens.files import write_atomically

ROOT = Path(__file__).parent.parent
COVERED = 0.85
TITLES = {
    "discriminant": "**kernlens: discriminant probe**",
    "ridge": "kernlens: ridge probe",
    "published_class_cosine": "published class-cosine score",
    "proposition1": "proposition 1 as stated",
    "centred_alignment": "centred kernel-target alignment",
    "debiased_alignment": "the same, debiased",
    "cv_logistic": "5-fold cross-validated logistic regression",
    "pretraining_loss": "pretraining loss",
    "dimension": "dimension",
}


def cores(results: Mapping[str, Any]) -> str:
    """Cores that the run could use, maybe beside others."""
    count = results["environment"]["cpus"]
    return "one CPU core" if count == 1 else f"{count} CPU cores"


def prop1_entity_score(results: Mapping[str, Any]) -> str:
    """Agreement of every predictor, one table a data set."""
    parts = []
    every = results["summary"]["lines"]
    for name in dict.fromkeys(line["data"] for line in every):
        lines = [line for line in every if line["data"] == name]
        count = sum(row["data"] == name for row in results["rows"])
        rows = []
        for line in lines:
            error = line["LR macro_f1"].get("mean_absolute_error")
            accuracy = line["LR accuracy"].get("mean_absolute_error")
            rows.append(
                [
                    TITLES[line["predictor"]],
                    interval(line["LR macro_f1"]["spearman"]),
                    interval(line["MLP macro_f1"]["spearman"]),
                    interval(line["SVM macro_f1"]["spearman"]),
                    f"{error['value']:.4f}" if error else "–",
                    f"{accuracy['value']:.4f}" if accuracy else "–",
                    f"{1000 * line['seconds']:.0f}",
                ]
            )
        head = ["", "ρ with LR", "ρ with MLP", "ρ with SVM", "error, F1", "error, acc.", "ms"]
        parts.append(f"{name}, {count} embeddings:\n\n{markdown(head, rows)}")
    minutes = results["seconds"] / 60
    parts.append(
        f"`{results['command']}`, {minutes:.0f} minutes, "
        f"jax {results['environment']['jax']} on {results['environment']['platform']}: "
        f"{results['summary']['verdict']}."
    )
    return "\n\n".join(parts)


def bench_pretrain(results: Mapping[str, Any]) -> str:
    """Rates and quality of pretraining."""
    rows = [
        [
            row["model"],
            f"{row['window']}, {row['negatives']}",
            row["negatives_drawn_per"],
            f"{row['rate'] / 1e6:.2f}",
            f"{row['ratio']:.2f}",
            f"{np.mean(row['macro_f1']):.3f}",
        ]
        for row in results["rows"]
    ]
    head = ["", "window, k", "k drawn per", "M pairs/s", "× gensim", "probe macro-F1"]
    return f"{markdown(head, rows)}\n\n`{results['command']}`, two cores."


def bench_ntk(results: Mapping[str, Any]) -> str:
    """Time and memory of empirical tangent kernels, and the gates that failed or passed."""

    def ratio(value: float | None) -> str:
        return "–" if value is None else f"{value:.1f}"

    summary = results["summary"]
    rows = [
        [
            line["task"],
            f"{line['milliseconds']:,.1f}",
            line["against"] or "none finished",
            ratio(line["time"]),
            ratio(line["memory"]),
        ]
        for line in summary["ratios"]
        if line["dtype"] == "float32"
    ]
    head = ["", "ms", "fastest of neural-tangents", "its time, ×", "its memory, ×"]
    verdicts = {True: "met", False: "**missed**", None: "not judged"}
    gates = [
        [
            line["gate"],
            line["wanted"],
            "–" if line["measured"] is None else f"{line['measured']:.3g}",
            verdicts[line["passed"]],
        ]
        for line in summary["gates"]
    ]
    command = re.sub(r" --peer \S+", " --peer PYTHON", results["command"])
    return "\n\n".join(
        [
            markdown(head, rows),
            markdown(["target", "wanted", "measured", ""], gates),
            f"`{command}`, jax {results['environment']['jax']} on {cores(results)}.",
        ]
    )


def interval_coverage(results: Mapping[str, Any]) -> str:
    """Coverage of the intervals of scores, by method."""
    samples = {"bootstrap": "bootstrap_samples"}
    titles = {method: f"probes, {method}" for method in ("over rows", "refitted")}
    rows = []
    for method in dict.fromkeys(line["method"] for line in results["summary"]):
        key = samples.get(method, "samples")
        lines = [line for line in results["summary"] if line["method"] == method]
        found = np.array([line["coverage"] for line in lines])
        population = np.array([line["population_coverage"] for line in lines])
        low = [f"`{line['score']}`" for line in lines if line["coverage"] < COVERED]
        rows.append(
            [
                titles.get(method, method),
                str(results["config"][key] * len(results["config"]["populations"])),
                *(f"{value:.2f}" for value in (found.min(), np.median(found), found.max())),
                f"{len(found) - len(low)} of {len(found)}",
                f"{np.sum(population >= COVERED)} of {len(found)}",
                ", ".join(low) or "none",
            ]
        )
    head = ["", "samples", "least", "median", "most", f"scores at {COVERED} or more"]
    head += ["of the population's value", "below"]
    minutes = results["seconds"] / 60
    return f"{markdown(head, rows)}\n\n`{results['command']}`, {minutes:.0f} minutes."


def defaults(summary: Mapping[str, Any]) -> list[list[str]]:
    """The ranker to take in each slice.

    It is the one that the README names, unless one as cheap lies above its interval.
    """
    taus = {
        line["ranker"]: {"all": line["tau"]}
        | {name: part["tau"] for name, part in line["slices"].items()}
        for line in summary["rankers"]
    }
    found = []
    for line in summary["choices"]:
        own, where, cheap = taus[ORDER][line["slice"]], line["slice"], line["cheap"]
        best, reference = line["cheap_tau"]["value"], line["reference_tau"]["value"]
        said = f"τ {interval(own)}, cross-validation {reference:.2f}; "
        if best > own["high"]:
            found.append([where, cheap, f"τ {best:.2f}, above {ORDER}: {said.rstrip('; ')}"])
        elif cheap == ORDER:
            found.append([where, ORDER, said + "the best at a tenth of its cost"])
        else:
            found.append(
                [where, ORDER, said + f"{cheap}, as cheap, {best:.2f} within the interval"]
            )
    return found


def score_tournament(results: Mapping[str, Any]) -> str:
    """Rankers by their agreement with trained heads, whom to trust where, and the targets."""
    summary = results["summary"]
    first = [line["ranker"] for line in summary["rankers"][:12]]
    named = ["published_class_cosine", "proposition1", "transrate", "rankme", "parc", "uniformity"]
    named += ["dimension", "bytes", "mean_norm", "random"]
    slices = ("corrupted small sets", "item2vec and text", "60 labels", "all labels")
    rows = [
        [
            RANKERS.get(line["ranker"], line["ranker"])
            if line["group"] != "probe"
            else f"**{line['ranker']}**",
            interval(line["tau"]),
            *(f"{line['slices'][name]['tau']['value']:.2f}" for name in slices),
            f"{line['regret']['value']:.1f}",
            f"{1000 * line['seconds']:.1f}",
            f"{line['cost']:.2f}",
        ]
        for line in summary["rankers"]
        if line["ranker"] in (*first, *named)
    ]
    head = ["", "τ", "small sets", "items", "60 labels", "all labels", "regret, points", "ms"]
    choices = [
        [
            line["slice"],
            f"{line['best']} {line['best_tau']['value']:.2f}",
            f"{line['cheap']} {line['cheap_tau']['value']:.2f}",
            f"{line['default_tau']['value']:.2f}",
            f"{line['reference_tau']['value']:.2f}",
        ]
        for line in summary["choices"]
    ]
    verdicts = {True: "met", False: "**missed**"}
    gates = [
        [line["gate"], line["wanted"], f"{line['measured']:.3g}", verdicts[line["passed"]]]
        for line in summary["gates"]
    ]
    failed = [
        f"`{line['ranker']}` was not finite {line['not_finite']} times, which ranks last"
        for line in summary["rankers"]
        if line["not_finite"]
    ]
    return "\n\n".join(
        [
            markdown([*head, "of CV's time"], rows),
            *([f"Of all rankers, {'; '.join(failed)}."] if failed else []),
            "The default of each task, label budget and head, and why:",
            markdown(["where", "default", "why"], defaults(summary), right=False),
            markdown(["where", "best τ", "best at a tenth of CV", "discriminant", "CV"], choices),
            markdown(["target", "wanted", "measured", ""], gates),
            f"`{results['command']}`, {summary['contexts']} contexts, {cores(results)}.",
        ]
    )


def bench_scores(results: Mapping[str, Any]) -> str:
    """Every limit of moments and scores with what was measured."""
    verdicts = {True: "met", False: "**missed**"}
    rows = [
        [
            line["part"],
            line["what"],
            line["wanted"],
            f"{number(line['measured'])} {line['unit']}".strip(),
            verdicts[line["passed"]],
        ]
        for line in results["summary"]["gates"]
    ]
    low, high = results["summary"]["matmul_gflops"]
    return "\n\n".join(
        [
            markdown(["", "", "wanted", "measured", ""], rows),
            f"`{results['command']}`, jax {results['environment']['jax']} on {cores(results)}; "
            f"square products ran at {low:.0f} to {high:.0f} GFLOP/s.",
        ]
    )


def prop2_sequence_average(results: Mapping[str, Any]) -> str:
    """Rank correlation and error of every training-free ranking, and the level of each ranker."""
    rows = []
    for line in results["summary"]["predictors"]:
        own = [line[f"{tower} recall"] for tower in ("dense", "gru", "attention")]
        valued = line["predictor"] != "pretraining loss"
        rows.append(
            [
                line["predictor"],
                *(interval(tower["spearman"]) for tower in own),
                *(f"{tower['error']['value']:.4f}" if valued else "–" for tower in own),
            ]
        )
    head = ["", "ρ with dense", "ρ with GRU", "ρ with attention"]
    head += ["error, dense", "error, GRU", "error, attention"]
    ceiling = results["summary"].get("ceiling")
    if ceiling:
        own = list(ceiling.values())
        rows.append(
            [
                "two seeds of the tower itself",
                *(interval(tower["spearman"]) for tower in own),
                *(f"{tower['error']['value']:.4f}" for tower in own),
            ]
        )
    reached = [
        [
            line["ranker"],
            interval(line["over users"], 4),
            *(f"{line[key]:.4f}" for key in ("least", "most", "ndcg", "mrr")),
            *("–" if line[key] is None else f"{line[key]:.4f}" for key in ("repeated", "new")),
            *("–" if line[key] is None else f"{line[key]:.3f}" for key in SAMPLED),
        ]
        for line in levels(results["rows"])
    ]
    columns = ["", "recall@10, over users", "least", "most", "NDCG@10", "MRR"]
    columns += ["recall@10, repeated targets", "new targets"]
    columns += [f"recall@10 of 100 {name}" for name in SAMPLED]
    return "\n\n".join(
        [
            markdown(head, rows),
            markdown(columns, reached),
            f"`{results['command']}`, {len(results['rows'])} embeddings. Order: "
            f"{results['summary']['verdict']}. Value: {results['summary']['value']}. "
            f"{ranked(results['summary']['ranked'])}.",
        ]
    )


def ranked(told: Mapping[str, Any]) -> str:
    """What was asked, and among which items."""
    if told["queries"] is None:
        return f"Measured under an earlier protocol: {told['protocol']}"
    return (
        f"Candidates: {told['protocol']}; {told['queries']:,} queries, {told['repeated']:,} "
        f"of them for an item that the user had met before, {told['dropped']:,} more not asked"
    )


RANKERS = {"bytes": "file size, compressed", "mean_norm": "norm, mean over rows"}
"""What a reader calls the trivial rankers."""

BLOCKS = {
    "joint_embeddings": paper_tables.joint_embeddings,
    **dict.fromkeys(claims.PROP2.values(), prop2_sequence_average),
    **dict.fromkeys(claims.THM1.values(), paper_tables.thm1_decoder_mismatch),
    **dict.fromkeys(claims.HEADS.values(), paper_tables.head_mismatch),
    **dict.fromkeys(claims.BOUND.values(), paper_tables.prop1_bound),
    **dict.fromkeys(claims.SHIFT.values(), paper_tables.robust_to_shift),
    **dict.fromkeys(claims.REPLAY.values(), paper_tables.online_replay),
    "bench_scores": bench_scores,
    "prop1_entity_score": prop1_entity_score,
    "bench_pretrain": bench_pretrain,
    "bench_ntk": bench_ntk,
    "interval_coverage": interval_coverage,
    "score_tournament": score_tournament,
}


def _read(name: str) -> Mapping[str, Any]:
    return json.loads((RESULTS / name / "results.json").read_text())


def render(text: str) -> str:
    """The README's text with every block written anew, but those whose results are not there."""

    def block(match: re.Match) -> str:
        name = match["name"]
        if name != "claims" and not (RESULTS / name).exists():
            return match[0]
        written = claims.table(_read) if name == "claims" else BLOCKS[name](_read(name))
        return f"<!-- results: {name} -->\n\n{written}\n\n<!-- end -->"

    return re.sub(r"<!-- results: (?P<name>\w+) -->.*?<!-- end -->", block, text, flags=re.DOTALL)


if __name__ == "__main__":
    for path in sorted((ROOT / "docs").rglob("*.md")):
        write_atomically(path, render(path.read_text()))
