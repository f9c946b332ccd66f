"""Tables and claims of the decoder mismatch."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.kit.shown import Claim, data_of, interval, table
from experiments.thm1_decoder_mismatch.encoders import READS_HISTORIES
from kernlens.show.table import Table

TERMS = ("excess", "bound", "representation", "head", "confidence")


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Spread between runs by reader, what the unlike decoder adds, and the bounds' terms."""
    made = []
    for name, found in results["summary"]["families"].items():
        count = sum(row["family"] == name and row["kind"] == "run" for row in results["rows"])
        made += [
            _readers(found, f"{name}, {count} runs, {_converged(found)}:"),
            _unlike(found),
            _whitening(found),
            *(_bounds(found) if "bounds" in found else ()),
        ]
    return made


def _converged(found: Mapping[str, Any]) -> str:
    """The spread of final losses in words."""
    loss = found["final_loss"]
    said = "final loss {mean:.4f}, sd {sd:.4f}".format(**loss)
    return f"{said} ({'' if loss['converged_alike'] else 'not '}alike)"


def _readers(found: Mapping[str, Any], title: str) -> Table:
    rows = [
        {
            "classifier": line["reader"],
            "macro-F1": line["macro_f1"],
            "its sd between runs": interval(line["macro_f1 sd"]),
            "between seeds of the head": line["macro_f1 sd of the head"],
            "items that change class": interval(line["changed"]),
            "by the head": line["changed by the head"],
            "κ of two runs": interval(line["kappa"]),
        }
        for line in found["readers"]
    ]
    digits = dict.fromkeys(rows[0], ".3f")
    digits |= {"its sd between runs": ".4f", "between seeds of the head": ".4f"}
    return table(rows, digits | {"κ of two runs": ".2f"}, title)


def _unlike(found: Mapping[str, Any]) -> Table:
    """The decoder unlike the pretraining's against the one like it."""
    rows = [
        {
            "unlike the pretraining, against like": f"{one['unlike']} against {one['like']}",
            "sd, ratio": interval(one["sd"]),
            "1 - κ, difference": interval(one["disagreement"]["difference"]),
            "items that change class, difference": interval(one["changed"]["difference"]),
        }
        for one in found["unlike and like"].values()
    ]
    return table(rows, dict.fromkeys(rows[0], ".3f") | {"sd, ratio": ".2f"})


def _whitening(found: Mapping[str, Any]) -> Table:
    """What whitening adds to the disagreement of two runs."""
    titles = {"class means": "class means", "L2": "balanced LR, less the strongest L2"}
    rows = [
        {"whitening adds": title, "to 1 - κ": interval(found["whitening"][key]["difference"])}
        for key, title in titles.items()
    ]
    return table(rows, {"to 1 - κ": ".3f"})


def _bounds(found: Mapping[str, Any]) -> Iterator[Table]:
    """Both bounds, term by term."""
    own = found["contrastive"]
    yield table(
        [
            {"labels": one["n"], "excess log loss": one["excess"]}
            | {key: one[key] for key in TERMS[1:]}
            for one in found["bounds"]
        ]
    )
    row = {
        "R_CL": own["R_CL"], "q": own["q"], "(R_CL - q) / (1 - q)": own["bound"],
        "measured": own["measured"], "R": own["radius"], "‖cov‖ inside classes": own["within"],
        "R ‖cov‖": own["extra"],
        "ρ of ‖cov‖ with what is measured": interval(own["within-class covariance orders runs"]),
    }  # fmt: skip
    yield table([row], dict.fromkeys(row, ".3f"), "The contrastive bound:")
    if "triplets" in found:
        yield table(
            [
                {
                    "triplets": one["n"], "R_n(Φ)": one["complexity"],
                    "3√2 L R / B · R_n(Φ)": one["generalisation"],
                }
                for one in found["triplets"]
            ]
        )  # fmt: skip


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """What the paper says of runs and of both bounds, by family of encoders."""
    made, data = [], data_of(results)
    for name, found in results["summary"]["families"].items():
        given, white = found["verdicts"], found["whitening"]
        of = f"1. {data if name in READS_HISTORIES else data.removesuffix(' by time')}, {name}"
        unlike = {}
        for one in found["unlike and like"].values():
            pair = f"{one['unlike']} against {one['like']}"
            unlike[f"{pair}: sd of macro-F1 ×"] = interval(one["sd"])
            unlike[f"{pair}: added to 1 - κ"] = interval(one["disagreement"]["difference"])
        made += [
            Claim(
                f"{of}: a decoder unlike the pretraining's makes runs differ",
                unlike,
                given["mismatch"],
            ),
            Claim(
                f"{of}: whitening makes classifiers differ between runs",
                {
                    "added to 1 - κ of class means": interval(white["class means"]["difference"]),
                    "of balanced LR, less strong L2": interval(white["L2"]["difference"]),
                },
                given["whitening"],
            ),
            Claim(
                f"{of}: the distance of two runs' kernels tells how far they differ",
                {"ρ": interval(found["kernel"]["spearman"])},
                given["kernel distance"],
            ),
        ]
        if "bounds" in found:
            own = found["contrastive"]
            made += [
                Claim(
                    f"1. {data}: Theorem 1's bound on excess risk",
                    {
                        "excess over bound, at most": max(
                            one["excess"] / one["bound"] for one in found["bounds"]
                        ),
                        "ranks runs with ρ": interval(found["bound orders runs"]),
                    },
                    given["bound"],
                ),
                Claim(
                    f"1. {data}: the contrastive bound on the class-mean classifier",
                    {
                        "measured": own["measured"],
                        "bound": own["bound"],
                        "ranks runs with ρ": interval(own["orders runs"]),
                        "within-class covariance with ρ": interval(
                            own["within-class covariance orders runs"]
                        ),
                    },
                    given["contrastive bound"],
                ),
            ]
    return made
