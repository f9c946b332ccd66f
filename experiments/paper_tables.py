"""The README's tables of the experiments on the paper's claims, from committed results alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.markdown import interval, markdown
from experiments.online_replay import lifts
from experiments.score_limits.shown import number


def thm1_decoder_mismatch(results: Mapping[str, Any]) -> str:
    """Spread between runs by reader, what the unlike decoder adds, and the bounds' terms."""
    parts = []
    for name, found in results["summary"]["families"].items():
        count = sum(row["family"] == name and row["kind"] == "run" for row in results["rows"])
        rows = [
            [
                line["reader"],
                f"{line['macro_f1']:.3f}",
                interval(line["macro_f1 sd"], 4),
                f"{line['macro_f1 sd of the head']:.4f}",
                interval(line["changed"], 3),
                f"{line['changed by the head']:.3f}",
                interval(line["kappa"]),
            ]
            for line in found["readers"]
        ]
        head = ["", "macro-F1", "its sd between runs", "between seeds of the head"]
        head += ["items that change class", "by the head", "κ of two runs"]
        parts += [f"{name}, {count} runs, {_converged(found)}:", markdown(head, rows)]
        parts += [_unlike(found), _whitening(found)]
        if "bounds" in found:
            parts += _bounds(found)
    return "\n\n".join([*parts, f"`{results['command']}`."])


def _converged(found: Mapping[str, Any]) -> str:
    """The spread of final losses in words."""
    loss = found["final_loss"]
    said = "final loss {mean:.4f}, sd {sd:.4f}".format(**loss)
    return f"{said} ({'' if loss['converged_alike'] else 'not '}alike)"


def _unlike(found: Mapping[str, Any]) -> str:
    """The decoder unlike the pretraining's against the one like it."""
    rows = [
        [
            f"{one['unlike']} against {one['like']}",
            interval(one["sd"]),
            interval(one["disagreement"]["difference"], 3),
            interval(one["changed"]["difference"], 3),
        ]
        for one in found["unlike and like"].values()
    ]
    head = ["decoder unlike the pretraining's against like", "sd, ratio", "1 - κ, difference"]
    return markdown([*head, "items that change class, difference"], rows)


def _whitening(found: Mapping[str, Any]) -> str:
    """What whitening adds to the disagreement of two runs."""
    means, l2 = (
        interval(found["whitening"][key]["difference"], 3) for key in ("class means", "L2")
    )
    return (
        f"Whitening adds to 1 - κ: of class means {means}; of balanced logistic regression, less "
        f"the strongest L2, {l2}."
    )


def _bounds(found: Mapping[str, Any]) -> list[str]:
    """Both bounds, term by term."""
    terms = ("excess", "bound", "representation", "head", "confidence")
    rows = [[str(one["n"]), *(f"{one[key]:.3g}" for key in terms)] for one in found["bounds"]]
    own = found["contrastive"]
    parts = [
        markdown(["labels", "excess log loss", *terms[1:]], rows),
        f"Contrastive bound: R_CL {own['R_CL']:.3f}, q {own['q']:.3f}, so (R_CL - q) / (1 - q) = "
        f"{own['bound']:.3f}, against {own['measured']:.3f} measured; R {own['radius']:.2f}, "
        f"‖cov‖ inside classes {own['within']:.3f}, their product {own['extra']:.3f}; ‖cov‖ ranks "
        f"runs by what is measured with ρ {interval(own['within-class covariance orders runs'])}.",
    ]
    if "triplets" in found:
        rows = [
            [str(one["n"]), f"{one['complexity']:.3g}", f"{one['generalisation']:.3g}"]
            for one in found["triplets"]
        ]
        parts.append(markdown(["triplets", "R_n(Φ)", "3√2 L R / B · R_n(Φ)"], rows))
    return parts


def head_mismatch(results: Mapping[str, Any]) -> str:
    """How far recommenders differ between pretraining runs, by head."""
    rows = [
        [
            f"{line['embeddings']}, {line['head']}",
            f"{line['recall']:.4f}",
            interval(line["sd between runs"], 4),
            f"{line['sd between seeds']:.4f}",
            f"{line['replaced by a run']:.3f}",
            f"{line['replaced by a seed']:.3f}",
            interval(line["by the run alone"], 3),
        ]
        for line in results["summary"]["lines"]
    ]
    head = ["embeddings, head", "recall@10", "its sd between runs", "between seeds"]
    head += ["items of a list that a run replaces", "a seed", "the run alone"]
    return f"{markdown(head, rows)}\n\n`{results['command']}`: {results['summary']['verdict']}."


def prop1_bound(results: Mapping[str, Any]) -> str:
    """Both sides of the inequality for embeddings as they come, by task and distribution."""
    rows = [
        [
            f"{line['task']}, {line['place']}",
            f"{line['measured']:.3f}",
            f"{line['trivial']:.3f}",
            f"{line['alignment']:.3f}",
            f"{line['bound']['0.05']['printed']:.3f}",
            f"{line['bound']['0.05']['Cauchy-Schwarz']:.3f}",
            f"{line['violated']['alignment, printed']:.0%}",
            f"{line['violated_at']['1']:.0%}",
            interval(line["order"]),
        ]
        for line in results["summary"]["lines"]
        if line["form"] == "raw"
    ]
    head = [
        "",
        "1 - R",
        "majority",
        "a",
        "√δ a, δ = 0.05",
        "a²",
        "violated, δ ≤ 0.5",
        "at δ = 1",
        "ρ of a, before",
    ]
    return f"{markdown(head, rows)}\n\n`{results['command']}`: {results['summary']['verdict']}."


def robust_to_shift(results: Mapping[str, Any]) -> str:
    """Agreement of predictions with outcomes before and after the cut."""
    parts = []
    for task in dict.fromkeys(line["task"] for line in results["summary"]["lines"]):
        lines = [line for line in results["summary"]["lines"] if line["task"] == task]
        places = [key for key in lines[0] if key not in ("task", "predictor")]
        rows = []
        for line in lines:
            cells = [line["predictor"]]
            for place in places:
                error = line[place]["error"]
                cells += [
                    interval(line[place]["spearman"]),
                    "–" if error is None else number(error["value"]),
                ]
            rows.append(cells)
        head = [task, *(part for place in places for part in (f"ρ, {place}", "error"))]
        parts.append(markdown(head, rows))
    summary = results["summary"]
    mean = next(line for line in summary["levels"] if line["task"] == "next items")
    popular = (
        f"Recall@10 of popularity {summary['popularity']['before']:.4f} before the cut and "
        f"{summary['popularity']['after']:.4f} after it, of the towers on average "
        f"{mean['before']:.4f} and {mean['after']:.4f}."
    )
    return "\n\n".join([*parts, popular, f"`{results['command']}`: {summary['verdict']}."])


def online_replay(results: Mapping[str, Any]) -> str:
    """What each chooser's recommender reached."""
    rows = [
        [
            line["chooser"],
            ", ".join(line["chosen"]) or "–",
            interval(line["recall"], 4),
            interval(line["kernlens less it"], 4),
            interval(line["interleaved"]),
            *([interval(line["coupons"], 3)] if "coupons" in line else []),
            lifts(line),
        ]
        for line in results["summary"]["lines"]
    ]
    head = [
        "chosen by",
        "embeddings",
        "recall@10",
        "kernlens less it",
        "kernlens' share of credits",
    ]
    summary = results["summary"]
    told = "; ".join(
        f"{one['of']}, {one['estimator']}: mean error {one['error']:.4f}, intervals hold the "
        f"replayed value in {one['covered']:.0%}"
        for one in summary["estimated"]
    )
    coupons = ""
    if "coupons" in summary:
        head.append("coupons, AUC")
        without = ", ".join(
            f"{name} {interval(summary['coupons'][name], 3)}"
            for name in ("number of products", "purchases of its products")
        )
        coupons = f" AUC of coupons without households: {without}."
    return "\n\n".join(
        [
            markdown([*head, "lift over popularity (replayed)"], rows),
            "Lift is by self-normalised propensities from one simulated log. Over "
            f"{results['config']['logs']} logs and all embeddings, {told}.{coupons}",
            f"`{results['command']}`: {results['summary']['verdict']}.",
        ]
    )


def joint_embeddings(results: Mapping[str, Any]) -> str:
    """Macro-F1 by variant, readers' means."""
    rows = [
        [
            f"{line['task']}, {line['text']}",
            line["variant"],
            *(f"{line[reader]:.3f}" for reader in ("LR", "k-NN", "SVM", "predicted")),
            "–" if line["log_ratio"] is None else f"{np.exp(line['log_ratio']):.2g}",
        ]
        for line in results["summary"]["lines"]
    ]
    head = ["", "", "LR", "k-NN", "SVM", "discriminant probe", "text over behaviour"]
    took = results["summary"].get("text_seconds", {})
    encoded = ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items())
    parts = [
        markdown(head, rows),
        *([f"Seconds of encoding all items: {encoded}."] if encoded else []),
        f"`{results['command']}`: {results['summary']['verdict']}.",
    ]
    return "\n\n".join(parts)
