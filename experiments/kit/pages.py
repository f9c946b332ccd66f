"""Writes the tables of the pages under docs, from committed results alone.

    python -m experiments.kit.pages

A page is prose with blocks between ``<!-- results: NAME -->`` and ``<!-- end -->``, NAME that
of committed results, such as ``prop1_bound/movielens``. The block named ``claims`` has every claim
of every experiment, ``verdicts`` how many of them hold, ``headline`` the numbers that lead the
README.
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


def verdicts_block() -> str:
    """How many claims of each experiment came to which verdict."""
    rows = []
    for name in CLAIMED:
        every = [committed.read(folder) for folder in committed.folders()]
        found = [
            claim.verdict
            for results in every
            if name_of(results) == name
            for claim in experiment_of(results).claims(results)
        ]
        rows.append({"experiment": name} | {one: found.count(one) or "" for one in VERDICTS})
    return table(rows).markdown()


def headline_block() -> str:
    """What leads the README, and the command that made it."""
    results = committed.read("predicts_value")
    return "\n\n".join([tables.headline(results).markdown(), footer(results)])


BLOCKS: dict[str, Callable[[], str]] = {
    "claims": claims_block, "verdicts": verdicts_block, "headline": headline_block,
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
