"""Writes SCORES.md from the tables of the library, so that nothing in it is typed by hand.

python -m experiments.kit.scores_page
"""

from collections.abc import Mapping
from pathlib import Path

from kernlens import probes, scores
from kernlens.files import write_atomically
from kernlens.scores import Estimator, curves, discriminant, rows, source

PAGE = Path(__file__).parents[2] / "SCORES.md"

TABLES: dict[str, Mapping[str, Estimator]] = {
    "Probes: each row answered by a head that did not see it": probes.ABOUT,
    "Alignment, from moments and labels": scores.ALIGNMENTS,
    "Evidence and errors in closed form, from moments and labels": scores.EVIDENCE,
    "Class separation, from moments and labels": scores.SEPARATION,
    "Spectrum, from moments without labels": scores.SPECTRA,
    "Two embeddings of the same rows, from moments": scores.PAIRS,
    "Rows, or a sample of them": rows.ROWS,
    "Rows of two embeddings, and rows beside their moments": rows.ROWS_BESIDE,
    "Discriminants in sample": discriminant.IN_SAMPLE,
    "A source classifier's posteriors": source.SOURCES,
    "Forecasts at more labels": curves.CURVES,
}
"""Estimators by what they read."""


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page() -> str:
    """The page's text."""
    parts = [
        "# Scores",
        "Every estimator: where it comes from, the values it can take, what labels that carry "
        "nothing give, what it predicts, and where it misleads. ↓ marks those of which less is "
        "better. The formulas stand in the docstrings and in the tables of the library "
        "(`SCORES[name].formula`). Which of them to trust is [measured]"
        "(docs/results/score_tournament.md).",
    ]
    for title, table in TABLES.items():
        head = ["", "source", "range", "null", "predicts", "pitfalls"]
        lines = [
            [
                f"`{name}`{'' if row.sign > 0 else ' ↓'}",
                row.source,
                f"`{row.range}`" if "`" not in row.range else row.range,
                *(text.replace("|", "\\|") for text in (row.null, row.predicts, row.pitfalls)),
            ]
            for name, row in table.items()
        ]
        parts += [f"## {title}", markdown(head, lines)]
    parts += [
        "## Peers",
        "Released code that these do not follow, and what is at fault in it or unlike its paper.",
        markdown(["peer", "fault"], [[name, fault] for name, fault in scores.PEERS.items()]),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    write_atomically(PAGE, page())
