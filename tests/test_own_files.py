"""Files that were read wrongly give the right answer; the page of them is written from it."""

import functools
from pathlib import Path

import pytest

from kernlens import lens, probes, targets
from tests.own_files import embeddings, label_files
from tests.own_files.case import REFUSED, Case, measured

PAGE = Path(__file__).parent.parent / "docs" / "own_files.md"
AREAS = {"Embeddings": embeddings.CASES, "Labels": label_files.CASES}
CASES = [case for cases in AREAS.values() for case in cases]
HEAD = """# Own files, as other programs write them

Each line is a file that once gave a wrong answer without a word, or was refused though it is
common: the macro-F1 before (commit 178848f) and now, and what is right for the rows and labels
that the file means, by the discriminant probe. All files hold the same embedding.
`tests/test_own_files.py` measures every line and writes this page.
"""
_measured: dict[str, tuple[float | str, float | str]] = {}


@functools.cache
def right_of(case: Case) -> float | str:
    """Macro-F1 of the rows and labels that are right, without a file."""
    if isinstance(case.right, str):
        return case.right
    rows, names = case.right()
    found = lens.predict(rows, targets.labels(names), probe=probes.discriminant)
    return found.metrics["macro_f1"].value


@pytest.mark.parametrize("case", CASES, ids=[case.fault for case in CASES])
def test_the_right_answer_is_given(case: Case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    case.make(tmp_path)
    found, said = measured(case.words, tmp_path, capsys)
    right = right_of(case)
    _measured[case.fault] = found, right
    assert case.says in said
    if isinstance(right, str) or isinstance(found, str):
        assert found == right, said
    else:
        # Rows may come in another order, so the solver rounds otherwise; metrics are counts.
        assert abs(found - right) < 1e-9, said


def test_faults_are_named_once():
    assert len({case.fault for case in CASES}) == len(CASES)


def test_page_holds_what_was_measured():
    if len(_measured) < len(CASES):
        pytest.skip("some cases were not selected")
    lines = [HEAD]
    for area, cases in AREAS.items():
        lines += [f"\n## {area}\n", "| fault | command | before | now | right |"]
        lines += ["|---|---|---|---|---|", *map(_row, cases)]
    page = "\n".join(lines) + "\n"
    committed = PAGE.read_text() if PAGE.exists() else ""
    if page != committed:
        PAGE.write_text(page)
    assert page == committed, f"{PAGE.name} did not hold what was measured; it has been rewritten"


def _row(case: Case) -> str:
    found, right = _measured[case.fault]
    cells = [case.fault, f"`{case.call}`", *map(_shown, (case.before, found, right))]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(value: float | str) -> str:
    return REFUSED if isinstance(value, str) else f"{value:.3f}"
