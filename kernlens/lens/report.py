"""Reports: a result of any verb as one HTML page, the verdict first."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens.lens import mistakes
from kernlens.lens.advice import Upgrade
from kernlens.lens.compare import Comparison
from kernlens.lens.diagnosis import Diagnosis
from kernlens.lens.fuse import Fusion
from kernlens.lens.next_items import NextItemsPrediction
from kernlens.lens.next_items_compare import NextItemsComparison
from kernlens.lens.sections import SECTIONS, rows_sections
from kernlens.lens.spectrum import spectrum
from kernlens.lens.stability import Stability
from kernlens.lens.standings import Standing
from kernlens.probes import TITLES, Prediction
from kernlens.show.page import Page, Section, write_page
from kernlens.show.table import Column, Table
from kernlens.targets import as_target, labelled_rows, num_rows


class Provenance(NamedTuple):
    """What an answer was made from.

    Attributes:
      lines: what was read and how it was taken, in plain text.
      tables: files, ids, what was not joined or dropped.
      command: to repeat the answer.
    """

    lines: Sequence[str] = ()
    tables: Sequence[Table] = ()
    command: str = ""


def report(
    result: Any,
    path: str | Path,
    *,
    embeddings: Any = None,
    ids: Any = None,
    target: Any = None,
    made: Provenance | None = None,
    title: str = "kernlens report",
) -> None:
    """Writes a result as one self-contained page: verdict, charts, tables, worst rows, versions.

    The page needs no network and no server. It follows the reader's light or dark theme, and
    prints.

    Args:
      result: of ``predict``, ``compare``, ``upgrade``, ``stability``, ``diagnose`` or ``fuse``, or
        a list of standings by scores.
      path: file to write, such as ``"report.html"``.
      embeddings: what the verb was given, by name or one alone; adds the spectrum. Default: no
        spectrum.
      ids: names of the rows, ``[n]``, by which the worst rows are listed. Default: their places
        among the labelled rows.
      target: what the verb was given. Set it where some rows have no label, so that ``ids`` meet
        the rows that have one.
      made: files, ids and command that the answer was made from. The command line gives them.
      title: name of the report.

    Raises:
      TypeError: ``result`` is no result of a verb.
      ValueError: ``ids`` that are not one a row.
      ImportError: plotly is not installed; names the extra.
      OSError: the file cannot be written.
    """
    write_page(path, page_of(result, embeddings, names_of(result, ids, target), made, title))


def page_of(
    result: Any,
    embeddings: Any = None,
    ids: np.ndarray | None = None,
    made: Provenance | None = None,
    title: str = "kernlens report",
) -> Page:
    """The page of :func:`report`; ``ids`` are those of the labelled rows."""
    if isinstance(result, Sequence) and result and isinstance(result[0], Standing):
        kind = Standing
    else:
        kind = next((own for own in SECTIONS if isinstance(result, own)), None)
    if kind is None:
        raise TypeError(
            f"report takes a result of predict, compare, upgrade, stability, diagnose or fuse; got "
            f"{type(result).__name__}"
        )
    sections = [*SECTIONS[kind](result), *rows_sections(result, ids)]
    if embeddings is not None:
        sections.append(spectrum(embeddings))
    lead, notes = _lead(result)
    sections.append(made_section(made or Provenance(), notes))
    return Page(title, verdict(result), lead, [own for own in sections if own is not None])


def names_of(result: Any, ids: Any, target: Any) -> np.ndarray | None:
    """Names of the labelled rows, or None.

    Raises:
      ValueError: not one name a row, or a labelled row.
    """
    found = mistakes.judged(result)
    if ids is None or found is None:
        return None
    names, count = np.asarray(ids), len(found.prediction.target)
    if target is not None:
        target = as_target(target)
        if len(names) == num_rows(target):
            names = names[labelled_rows(target)]
    if len(names) != count:
        raise ValueError(
            f"ids must have one name for each of the {count:,} labelled rows, or one for each row "
            f"of target=; got {len(names):,}"
        )
    return names


def verdict(result: Any) -> str:
    """The answer in one sentence."""
    if isinstance(result, Prediction):
        value, title = result.value, TITLES[result.metric]
        said = f"A trained head will reach {title} {value:.3f} on held-out rows"
        if value.null is None:
            return f"{said}."
        if result.is_chance:
            return f"{said}, which is no better than {result.guess} ({value.null:.3f})."
        return f"{said}; {result.guess} gives {value.null:.3f}."
    if not hasattr(result, "sentence"):
        best: dict[str, list[str]] = {}
        for own in result:
            best.setdefault(own.best, []).append(own.score)
        told = "; ".join(f"{name} by {', '.join(scores)}" for name, scores in best.items())
        return f"Best by score: {told}."
    return result.sentence()


def _lead(result: Any) -> tuple[list[str], list[str]]:
    """What was asked, for the top of the page, and notes for its end."""
    notes: list[str] = list(getattr(result, "notes", ()))
    if isinstance(result, Diagnosis):
        return [result.heading()], list(result.prediction.notes)
    if isinstance(result, Comparison):
        own = dict.fromkeys(note for e in result.entries for note in e.prediction.notes)
        return [result.best.prediction.heading()], list(own)
    if isinstance(result, Prediction):
        return [result.heading()], notes
    if isinstance(result, NextItemsPrediction | NextItemsComparison):
        return [result.heading], notes
    if isinstance(result, Fusion):
        return [result.best.prediction.heading()], notes
    if isinstance(result, Upgrade):
        return [result.before.heading(), *result.warnings], notes
    if isinstance(result, Stability):
        return [
            f"{len(result.runs)} runs, {len(result.target):,} rows, {result.level:.0%} intervals"
        ], notes
    return [], notes


def made_section(made: Provenance, notes: Sequence[str] = ()) -> Section:
    """What was read, with what, and the command to repeat it."""
    rows = [{"what": name, "version": version(name)} for name in ("kernlens", "jax", "numpy")]
    rows.append({"what": "Python", "version": platform.python_version()})
    versions = Table(rows, (Column("what", "package"), Column("version")), "Versions")
    command = f"$ {made.command}" if made.command else ""
    return Section(
        "How this was made", [*made.lines, *notes], (), [*made.tables, versions], command
    )
