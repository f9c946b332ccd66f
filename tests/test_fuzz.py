"""Damaged files of every format end in an answer or in a sentence, never in a crash."""

import os
from pathlib import Path

import pytest

from tests.fuzz.runs import MEGABYTES, SECONDS, Ending, Worker, endings
from tests.fuzz.samples import EMBEDDINGS, EVENT_FILES, LABEL_FILES

NAMES = [*EMBEDDINGS, *LABEL_FILES, *EVENT_FILES]
SHORT, LONG = 8, 600


@pytest.fixture(scope="module")
def worker():
    with Worker() as found:
        yield found


def check(name: str, found: list[Ending]) -> None:
    """Writes the log where one is wanted, and names every fault."""
    log = os.environ.get("KERNLENS_FUZZ_LOG")
    faults = [(one.number, one.fault) for one in found if one.fault or one.seconds > SECONDS]
    if log:
        with Path(log).open("a") as file:
            refused = sum(one.code == 1 for one in found)
            signals = sum(one.code is None or one.code < 0 for one in found)
            traces = sum("not caught" in (one.fault or "") for one in found)
            file.write(
                f"{name:16} {len(found):5} mutations, {refused:5} refused, {signals} signals or "
                f"hangs, {traces} tracebacks, worst {max(one.peak for one in found):.0f} MB and "
                f"{max(one.seconds for one in found):.2f} s\n"
            )
    assert not faults, f"{len(faults)} of {len(found)}: {faults[:5]}"


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_refused_in_a_sentence(name, tmp_path, worker):
    check(name, list(endings(name, SHORT, tmp_path, worker)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_files_are_refused_in_a_sentence(name, tmp_path, worker):
    check(name, list(endings(name, LONG, tmp_path, worker)))


def test_the_committed_log_has_every_format_and_no_fault():
    """Of a full run: 600 mutations of each format, none of which crashed."""
    page = Path(__file__).parents[1] / "docs" / "damaged_files.md"
    lines = page.read_text().partition("```text\n")[2].partition("```")[0].splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    for line in lines:
        assert f" {LONG} mutations, " in line
        assert " 0 signals or hangs, 0 tracebacks, " in line
        assert int(line.partition("worst ")[2].split()[0]) < MEGABYTES
