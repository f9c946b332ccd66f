"""Pages: what is in the file, and what a browser makes of it."""

import json
import re
from importlib import resources

import numpy as np
import pytest

from kernlens.show import charts
from kernlens.show.page import Page, Section, bare, filled, rendered, write_page
from kernlens.show.table import Column, Table
from kernlens.types import Interval
from tests import browser

HOSTILE = 'x<script>alert("1")</script><a href="https://example.org">&amp;\x1b[31m'
NAMES = (HOSTILE, "second", "third of a name that is much longer than what fits above a line")
VALUES = {
    name: Interval(value, value - 0.05, value + 0.05, 0.9, 0.1)
    for name, value in zip(NAMES, (0.8, 0.55, 0.7), strict=True)
}
TABLE = Table(
    [
        {"name": name, "value": own, "rows": rows, "note": "a note that is as long as notes are"}
        for (name, own), rows in zip(VALUES.items(), (12_000, 900, None), strict=True)
    ],
    [Column("name"), Column("value", format=".2f"), Column("rows"), Column("note")],
    f"All of {HOSTILE}",
)
MANY = Table([{"id": f"sku{i}", "n": i} for i in range(14)], [Column("id"), Column("n")], "Many")


@pytest.fixture(scope="module")
def page():
    x = [10.0, 100.0, 1000.0]
    line = charts.Line(HOSTILE, x, [0.3, 0.5, 0.6], ([0.2, 0.4, 0.5], [0.4, 0.6, 0.7]))
    other = charts.Line("second", x, [0.2, 0.3, 0.4])
    drawn = [
        charts.intervals(
            "Values", f"Of {HOSTILE}.", VALUES, axis="macro-F1", marks={"chance": 0.1, "best": 0.8}
        ),
        charts.lines("Curves", "By labels.", [line, other], x_axis="n", y_axis="F1", log_x=True),
        charts.bars("Bars", "Shares.", {HOSTILE: 0.4, "b": 0.0}, axis="share"),
        charts.points(
            "Points", "Of both.", {"trained": [(HOSTILE, VALUES[HOSTILE], 0.7, 0.01)] * 2},
            x_axis="predicted", y_axis="trained", diagonal=True,
        ),
    ]  # fmt: skip
    sections = [Section("First", [HOSTILE], drawn, [TABLE, MANY], f"$ kernlens '{HOSTILE}'")]
    return Page(f"Report of {HOSTILE}", f"{HOSTILE} is best.", ["lead"], sections)


def test_names_from_outside_are_text(page):
    text = rendered(page)
    assert "\x1b" not in text
    # One script each for charts, plotly and what the page does.
    assert text.count("<script") == 3
    assert "<a href=" in text
    assert "<a href=&quot;" not in text.replace("&lt;a href=&quot;", "")
    drawn = json.loads(re.search(r'id="charts">(.*?)</script>', text, re.S)[1])
    assert len(drawn) == 4
    assert "<script" not in re.sub(r"<br>", "", json.dumps(drawn))
    assert "&lt;script" in json.dumps(drawn)


def test_a_page_is_one_file_of_less_than_six_megabytes(page, tmp_path):
    pytest.importorskip("plotly", reason="the extra 'report' is not installed")
    write_page(tmp_path / "report.html", page)
    assert [own.name for own in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").stat().st_size < 6_000_000
    text = (tmp_path / "report.html").read_text()
    assert filled(rendered(page)) == text
    assert bare(text) == rendered(page)
    for asset in ("page.css", "page.js"):
        assert resources.files("kernlens.show").joinpath(asset).read_text() in text
    with pytest.raises(ValueError, match="no <style"):
        filled("<html></html>")


def test_without_plotly_the_error_names_the_extra(page, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"kernlens\[report\]"):
        write_page(tmp_path / "report.html", page)
    assert not list(tmp_path.iterdir())


def test_a_table_of_a_page_is_one_to_a_screen_reader(page):
    text = rendered(page)
    assert text.count('scope="col"') == len(TABLE.columns) + len(MANY.columns)
    assert text.count('role="columnheader"') == text.count('scope="col"')
    assert text.count('role="row"') == 2 + len(TABLE.rows) + len(MANY.rows)
    assert 'data-label="value"' in text
    assert len(re.findall(r'role="img" aria-label="[^"]{10,}"', text)) == 4


def test_an_undefined_or_infinite_number_does_not_stop_a_chart():
    nan = float("nan")
    values = {"a": Interval(nan, nan, nan, 0.9), "b": Interval(0.5, nan, nan, 0.9)}
    made = charts.intervals("t", "s", values, axis="x", marks={"floor": nan})
    assert made.traces[0]["x"] == [0.5]
    json.dumps(made._asdict(), allow_nan=False)


def test_what_a_chart_leaves_out_it_says():
    values = {str(i): Interval(i, i - 1, i + 1, 0.9) for i in range(charts.MOST_ROWS + 3)}
    made = charts.intervals("t", "All of them.", values, axis="x")
    assert len(made.traces[0]["x"]) == charts.MOST_ROWS
    assert made.says == "All of them. 3 more are in the table."


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.011 * 1.2**i for i in range(12)], ["0.02", "0.05"]),
        ([3.1 * 1.02**i for i in range(12)], ["3.1", "3.85"]),
        ([2.0**i for i in range(18)], ["1", "10", "100", "1,000", "10,000", "100,000"]),
        ([10.0**-i for i in range(20)], None),
        ([70, 140, 280, 559, 1118], ["1,118", "280", "70"]),
    ],
)
def test_a_logarithmic_axis_says_what_its_ticks_are(values, ticks):
    drawn = charts.Line("a", values, values)
    made = charts.lines("t", "s", [drawn], x_axis="x", y_axis="y", log_x=True, log_y=True)
    for axis in (made.layout["xaxis"], made.layout["yaxis"]):
        assert ticks in (None, axis["ticktext"])
        assert 2 <= len(axis["tickvals"]) <= 10
        told = [float(text.replace(",", "")) for text in axis["ticktext"]]
        np.testing.assert_allclose(told, axis["tickvals"], rtol=5e-3)


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    """Ratio of WCAG 2.2, from 1 to 21."""
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("place", range(3), ids=["light", "dark by choice", "dark by system"])
def test_colours_have_contrast(place):
    style = resources.files("kernlens.show").joinpath("page.css").read_text()
    blocks = re.findall(r"\{([^{}]*--bg:[^{}]*)\}", style)
    assert len(blocks) == 3
    assert blocks[1].split() == blocks[2].split()
    colours = dict(re.findall(r"(--\w+): (#\w{6})", blocks[place]))
    for name in ("--text", "--quiet", "--link", "--good", "--bad", "--warn"):
        for behind in ("--bg", "--card"):
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for i in range(1, 7):
        assert contrast(colours[f"--c{i}"], colours["--bg"]) >= 3.0, i


@pytest.fixture(scope="module")
def tab(page, tmp_path_factory):
    if browser.found() is None:
        pytest.skip(f"no browser among {', '.join(browser.NAMES)}")
    pytest.importorskip("plotly", reason="the extra 'report' is not installed")
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, page)
    with browser.Browser() as tab:
        tab.path = path
        yield tab


def column(tab, table, index):
    rows = f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows]"
    return tab.run(f"{rows}.map(row => row.cells[{index}].textContent)")


def test_it_loads_without_a_word_and_asks_nobody(tab):
    tab.media()
    tab.open(tab.path)
    assert tab.errors() == []
    assert tab.requests() == [tab.path.as_uri()]
    assert tab.run("document.querySelectorAll('.plot .main-svg').length") >= 4
    assert tab.run("typeof window.alert1") == "undefined"
    assert tab.run("document.querySelectorAll('.plot a').length") == 0


@pytest.mark.thorough
def test_columns_sort_by_mouse_and_by_keyboard(tab):
    tab.open(tab.path)
    given = column(tab, 0, 1)
    head = "document.querySelectorAll('table')[0].tHead.rows[0].cells[1]"
    tab.run(f"{head}.querySelector('button').click()")
    assert column(tab, 0, 1) == sorted(given, reverse=True)
    assert tab.run(f"{head}.getAttribute('aria-sort')") == "descending"
    tab.run(f"{head}.querySelector('button').focus()")
    tab.press("Enter")
    assert column(tab, 0, 1) == sorted(given)
    assert tab.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    rows = "document.querySelectorAll('table')[0].tHead.rows[0].cells[2].querySelector('button')"
    for _ in range(2):
        tab.run(f"{rows}.click()")
        assert column(tab, 0, 2)[-1] == ""  # what has no number is last either way
    assert column(tab, 0, 2)[:2] == ["900", "12,000"]


@pytest.mark.thorough
def test_intervals_stand_under_their_values_before_a_table_scrolls(tab, tmp_path):
    names = [f"metric {i}" for i in range(7)]
    rows = [dict.fromkeys(names, Interval(-0.123, -0.456, 0.789, 0.9))]
    table = Table(rows, [Column(name, format="+.3f") for name in names], "Wide")
    write_page(tmp_path / "wide.html", Page("t", "v", [], [Section("s", (), (), [table])]))
    tab.open(tmp_path / "wide.html")
    scroll = "document.querySelector('.scroll')"
    assert tab.run(f"{scroll}.scrollWidth - {scroll}.clientWidth") == 0
    # Two lines: the value, and the interval in one piece.
    tops = tab.run(
        "(() => { const own = document.createRange(); "
        "own.selectNodeContents(document.querySelector('tbody td')); "
        "return [...own.getClientRects()].map(line => Math.round(line.top)); })()"
    )
    assert len(set(tops)) == 2


@pytest.mark.thorough
def test_a_long_table_opens(tab):
    tab.open(tab.path)
    shown = "[...document.querySelectorAll('table')[1].tBodies[0].rows].filter(r => r.offsetHeight)"
    assert tab.run(f"{shown}.length") == 10
    tab.run("document.querySelector('.more').click()")
    assert tab.run(f"{shown}.length") == 14
    assert tab.run("document.querySelector('.more').getAttribute('aria-expanded')") == "true"


@pytest.mark.thorough
def test_a_point_says_what_it_is(tab):
    tab.open(tab.path)
    place = tab.run(
        "(() => { const own = document.querySelector('#plot-0 .points path'); "
        "own.scrollIntoView({block: 'center', behavior: 'instant'}); "
        "const box = own.getBoundingClientRect(); "
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    tab.hover(*place)
    told = "document.querySelector('#plot-0 .hoverlayer').textContent"
    tab.run(f"new Promise(done => {{ const t = setInterval(() => {{ if ({told}) {{ "
            "clearInterval(t); done(); } }, 50); setTimeout(done, 10000); })")  # fmt: skip
    assert "0.800 [0.750, 0.850]" in tab.run(told)
    assert '<script>alert("1")' in tab.run(told)


@pytest.mark.thorough
def test_the_system_and_the_switch_choose_the_theme(tab):
    look = "getComputedStyle(document.body).backgroundColor"
    point = "getComputedStyle(document.querySelector('#plot-0 .points path')).fill"
    label = "document.getElementById('theme').textContent"
    tab.media(dark=False)
    tab.open(tab.path)
    light = tab.run(look), tab.run(point), tab.run(label)
    tab.media(dark=True)
    tab.size(1280)
    dark = tab.run(look), tab.run(point), tab.run(label)
    assert all(a != b for a, b in zip(light, dark, strict=True))
    tab.run("document.getElementById('theme').click()")
    assert (tab.run(look), tab.run(point), tab.run(label)) == light


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_runs_out_of_the_page(tab, width):
    tab.media()
    tab.open(tab.path, width=width)
    assert tab.run("document.documentElement.scrollWidth") <= width
    wide = (
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('svg') && "
        "e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll') "
        "&& !e.closest('thead')).map(e => e.outerHTML.slice(0, 80))"
    )
    assert tab.run(wide) == []
    if width < 600:
        inside = "[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= innerWidth)"
        assert tab.run(inside)
        first = "getComputedStyle(document.querySelector('td[data-label=value]'), '::before')"
        assert tab.run(f"{first}.content") == '"value"'


@pytest.mark.thorough
def test_it_prints_in_light_with_all_rows(tab, tmp_path):
    tab.media(dark=True)
    tab.open(tab.path)
    dark = tab.run("getComputedStyle(document.body).backgroundColor")
    tab.run(
        "window.seen = null; addEventListener('beforeprint', () => { window.seen = "
        "getComputedStyle(document.body).backgroundColor; }); 0"
    )
    tab.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes()[:5] == b"%PDF-"
    assert tab.run("window.seen") == "rgb(255, 255, 255)"
    assert tab.run("getComputedStyle(document.body).backgroundColor") == dark
    tab.media(kind="print")
    shown = "[...document.querySelectorAll('table')[1].tBodies[0].rows].filter(r => r.offsetHeight)"
    assert tab.run(f"{shown}.length") == 14
    assert tab.run("document.querySelector('nav').offsetHeight") == 0
    tab.size(700)
    wide = "[...document.querySelectorAll('table')].some(own => own.offsetWidth > innerWidth)"
    assert not tab.run(wide)
    tab.media()
