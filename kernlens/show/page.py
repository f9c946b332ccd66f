"""Pages: one self-contained HTML file of text, charts and tables, written for people.

A page asks nothing of the network: styles, scripts and plotly are in it, and its policy forbids
everything else. Names from outside are escaped wherever they stand, in charts too.
"""

import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from kernlens.files import optional, write_atomically
from kernlens.show.table import Table, printable

STYLE, PLOTLY, SCRIPT = '<style id="style">', '<script id="plotly">', '<script id="page">'
"""Starts of what is equal in every page; :func:`filled` puts it in, :func:`bare` takes it out."""

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
"""Content security policy of a page."""


class Chart(NamedTuple):
    """A chart of plotly, whose numbers a table next to it has too.

    Attributes:
      title: its caption.
      says: what it shows, in a sentence: read out in place of the chart, and shown below the title.
      traces: plotly's traces in JSON's types. A colour is ``"var(--c1)"``, which follows the theme.
        Texts from outside have been through :func:`escaped`.
      layout: plotly's layout, likewise.
      height: in pixels.
    """

    title: str
    says: str
    traces: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    height: int


class Section(NamedTuple):
    """A heading and what stands below it, in this order.

    Attributes:
      title: heading.
      paragraphs: plain text.
      charts: charts.
      tables: sortable tables, each under its title.
      code: a command, in plain text.
    """

    title: str
    paragraphs: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    code: str = ""


class Page(NamedTuple):
    """A page, the verdict first.

    Attributes:
      title: name of the report.
      verdict: the answer in one sentence.
      lead: plain text below it.
      sections: in the order shown.
    """

    title: str
    verdict: str
    lead: Sequence[str]
    sections: Sequence[Section]


def escaped(text: str) -> str:
    """Text for a chart, in which plotly would read ``<b>`` and links as markup."""
    return html.escape(printable(text), quote=False)


def write_page(path: str | Path, page: Page) -> None:
    """Writes a page, aside first and then renamed.

    Raises:
      ImportError: plotly is not installed; names the extra.
      OSError: the file cannot be written.
    """
    write_atomically(path, filled(rendered(page)))


def rendered(page: Page) -> str:
    """The page without style and scripts, which :func:`filled` adds."""
    charts = [chart for section in page.sections for chart in section.charts]
    numbers = iter(range(len(charts)))
    links = "".join(
        f'<li><a href="#s{i}">{_text(section.title)}</a></li>'
        for i, section in enumerate(page.sections)
    )
    body = [
        '<a class="skip" href="#verdict">Skip to the verdict</a>',
        f'<header class="top"><p>{_text(page.title)}</p>',
        '<button type="button" id="theme" hidden>Dark colours</button></header>',
        f'<main><h1 id="verdict">{_words(page.verdict)}</h1>',
        *(f'<p class="lead">{_text(line)}</p>' for line in page.lead),
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
        "<noscript><p>Charts and sorting need JavaScript; the tables have every number."
        "</p></noscript>",
        *(_section(i, section, numbers) for i, section in enumerate(page.sections)),
        "</main>",
    ]
    drawn = json.dumps(
        [{"traces": c.traces, "layout": c.layout, "height": c.height} for c in charts],
        allow_nan=False,
    )
    # No text in JSON may end its script.
    drawn = drawn.replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{_text(page.title)}</title>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + f'\n<script type="application/json" id="charts">{drawn}</script>\n'
        + f"{PLOTLY}</script>\n{SCRIPT}</script>\n</body></html>\n"
    )


def filled(text: str) -> str:
    """A page of :func:`rendered` with its style, its script and plotly.

    Raises:
      ImportError: plotly is not installed; names the extra.
      ValueError: the text has no place for them.
    """
    plotly = optional("plotly.offline", extra="report").get_plotlyjs()
    for start, source in (
        (STYLE, f"\n{_asset('page.css')}"),
        (PLOTLY, plotly),
        (SCRIPT, f"\n{_asset('page.js')}"),
    ):
        before, found, after = text.partition(start)
        if not found:
            raise ValueError(f"expected a page of rendered(); it has no {start}")
        text = f"{before}{start}{source}{after}"
    return text


def bare(text: str) -> str:
    """A page of :func:`filled` as :func:`rendered` had it."""
    starts = "|".join(map(re.escape, (STYLE, PLOTLY, SCRIPT)))
    return re.sub(rf"({starts}).*?(?=</(?:style|script)>)", r"\1", text, flags=re.DOTALL)


def _section(i: int, section: Section, numbers: Any) -> str:
    parts = [f'<section aria-labelledby="s{i}"><h2 id="s{i}">{_text(section.title)}</h2>']
    parts += [f"<p>{_text(line)}</p>" for line in section.paragraphs]
    parts += [_figure(next(numbers), chart) for chart in section.charts]
    parts += [
        f'<div class="scroll">{table.html(stacked=True)}</div>'
        for table in section.tables
        if table.rows
    ]
    if section.code:
        parts.append(f"<pre><code>{_words(section.code)}</code></pre>")
    return "\n".join([*parts, "</section>"])


def _figure(i: int, chart: Chart) -> str:
    label = html.escape(printable(f"{chart.title}. {chart.says}"))
    return (
        f"<figure><figcaption>{_text(chart.title)}<span>{_text(chart.says)}</span></figcaption>"
        f'<div class="plot" id="plot-{i}" role="img" aria-label="{label}" '
        f'style="min-height:{chart.height}px"></div></figure>'
    )


def _words(text: str) -> str:
    """Text as HTML that no browser breaks after a hyphen, as in macro-F1 or an option."""
    return " ".join(
        f"<span>{_text(word)}</span>" if "-" in word else _text(word) for word in text.split(" ")
    )


def _text(text: str) -> str:
    """Text as HTML, control characters shown."""
    return html.escape(printable(text))


def _asset(name: str) -> str:
    return resources.files("kernlens.show").joinpath(name).read_text(encoding="utf-8")
