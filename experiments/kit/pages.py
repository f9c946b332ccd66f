"""Writes the tables of the pages under docs, from committed results alone.

    python -m experiments.kit.pages

A page is prose with blocks between ``<!-- results: NAME -->`` and ``<!-- end -->``, NAME that
of committed results, such as ``prop1_bound/movielens``. The block named ``claims`` has every claim
of every experiment, ``verdicts`` the paper's six with their verdicts, ``headline``
and ``peers`` the numbers of the README.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from experiments.kit import committed
from experiments.kit.committed import experiment_of, name_of
from experiments.kit.shown import footer, table
from experiments.kit.verdicts import VERDICTS
from experiments.predicts_value import tables
from kernlens.files import write_atomically

DOCS = committed.HOME.parent / "docs"
CLAIMED = (
    "thm1_decoder_mismatch", "head_mismatch", "prop1_entity_score", "prop1_bound",
    "prop2_sequence_average", "online_replay", "robust_to_shift", "joint_embeddings",
    "lens_upgrade", "predicts_value",
)  # fmt: skip
"""Experiments on a claim, in the order of the paper."""


def results_block(name: str) -> str:
    """The tables of some results, and the command that made them."""
    results = committed.read(name)
    parts = []
    for made in experiment_of(results).tables(results):
        parts += [*([made.title] if made.title else []), made.markdown()]
    return "\n\n".join([*parts, footer(results)])


def claims_block() -> str:
    """Every claim with what was measured and the verdict, by experiment."""
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in CLAIMED}
    for folder in committed.folders():
        results = committed.read(folder)
        if (name := name_of(results)) in found:
            found[name].append(results)
    return "\n\n".join(part for name in CLAIMED for part in _claims(name, found[name]))


PAPER = {
    "Runs that converged alike differ more under an unlike decoder (Theorem 1)": (
        "thm1_decoder_mismatch", "decoder unlike",
    ),
    "Theorem 1's and the contrastive bound hold and rank runs": ("thm1_decoder_mismatch", "bound"),
    "Proposition 1's score orders embeddings as trained classifiers do": (
        "prop1_entity_score", "score ranks",
    ),
    "Proposition 1's inequality, in and out of distribution": ("prop1_bound", "inequality"),
    "Proposition 2's average orders embeddings as trained recommenders do": (
        "prop2_sequence_average", "orders embeddings",
    ),
    "Choosing by the kernel pays online": ("online_replay", "pays online"),
}  # fmt: skip
"""What the paper claims: the experiment that tests it, and words that its claims there hold."""


def verdicts_block() -> str:
    """The claims of the paper, and on how many data sets and pretrainings each verdict fell."""
    every = [committed.read(folder) for folder in committed.folders()]
    rows = []
    for claim, (name, words) in PAPER.items():
        found = [
            one.verdict
            for results in every
            if name_of(results) == name
            for one in experiment_of(results).claims(results)
            if words in one.text
        ]
        linked = {"claim": claim, "tested by": name}
        rows.append(linked | {one: found.count(one) or "" for one in VERDICTS})
    return table(rows).markdown()


def peers_block() -> str:
    """How kernlens and its peers order embeddings."""
    return tables.peers(committed.read("predicts_value")).markdown()


def headline_block() -> str:
    """What leads the README, and the command that made it."""
    results = committed.read("predicts_value")
    return "\n\n".join([tables.headline(results).markdown(), footer(results)])


BLOCKS: dict[str, Callable[[], str]] = {
    "claims": claims_block, "verdicts": verdicts_block, "headline": headline_block,
    "peers": peers_block,
}  # fmt: skip
"""Blocks that are no experiment's."""


def _claims(name: str, every: list[Mapping[str, Any]]) -> Iterator[str]:
    yield f"## [{name}](results/{name}.md)"
    rows = [
        {"claim": claim.text, "measured, 90% intervals": claim.said(), "verdict": claim.verdict}
        for results in every
        for claim in experiment_of(results).claims(results)
    ]
    yield table(rows).markdown()


def render(text: str) -> str:
    """The text of a page with every block written again."""

    def block(match: re.Match) -> str:
        name = match["name"]
        written = BLOCKS[name]() if name in BLOCKS else results_block(name)
        return f"<!-- results: {name} -->\n\n{written}\n\n<!-- end -->"

    return re.sub(
        r"<!-- results: (?P<name>[\w/]+) -->.*?<!-- end -->", block, text, flags=re.DOTALL
    )


if __name__ == "__main__":
    for path in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        write_atomically(path, render(path.read_text()))
