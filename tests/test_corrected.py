"""Wrong numbers of the past stay right; the page of them is written from what is measured."""

from pathlib import Path

import pytest

from tests.corrected import (
    guards,
    mismatch,
    rankings,
    recommenders,
    scores,
    tangent_kernels,
    verdicts,
)
from tests.corrected.case import Case

PAGE = Path(__file__).parent.parent / "docs" / "corrected.md"
AREAS = {
    "Tangent kernels": tangent_kernels.CASES,
    "Scores and probes": scores.CASES,
    "Rankings of next items": rankings.CASES,
    "Trained recommenders": recommenders.CASES,
    "Verdicts on the paper's claims": verdicts.CASES + mismatch.CASES,
    "Guards": guards.CASES,
}
HEAD = """# Wrong numbers, corrected

Each line is a call that gave a wrong number, or failed, until it was corrected: what it gave
before, what it gives now, and what is right by an independent reference.
`tests/test_corrected.py` measures every line and writes this page.
"""
CASES = [case for cases in AREAS.values() for case in cases]
_measured: dict[str, float | str] = {}


@pytest.mark.parametrize("case", CASES, ids=[case.fault for case in CASES])
def test_the_right_value_is_returned(case: Case):
    value = case.measure()
    _measured[case.fault] = value
    assert case.is_right(value), f"{case.call} gave {value}, not {case.right}"


@pytest.mark.parametrize("case", CASES, ids=[case.fault for case in CASES])
def test_the_value_before_would_be_noticed(case: Case):
    assert not case.is_right(case.before)


def test_faults_are_named_once():
    assert len({case.fault for case in CASES}) == len(CASES)


def test_page_holds_what_was_measured():
    if len(_measured) < len(CASES):
        pytest.skip("some cases were not selected")
    lines = [HEAD]
    for area, cases in AREAS.items():
        if cases:
            lines += [
                f"\n## {area}\n",
                "| fault | call | before | now | right |",
                "|---|---|---|---|---|",
            ]
            lines += [_row(case) for case in cases]
    page = "\n".join(lines) + "\n"
    committed = PAGE.read_text() if PAGE.exists() else ""
    if page != committed:
        PAGE.write_text(page)
    assert page == committed, f"{PAGE.name} did not hold what was measured; it has been rewritten"


def _row(case: Case) -> str:
    now = case.shown(_measured[case.fault])
    cells = [case.fault, f"`{case.call}`", case.shown(case.before), now, case.shown(case.right)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
