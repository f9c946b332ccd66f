"""Tables: one set of rows in every form, names from outside as text."""

import io as text_io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from kernlens.show.table import Column, Table, printable
from kernlens.types import Interval

GAP = Interval(0.1234, 0.05, 0.2, 0.9)
HOSTILE = ["[red]x[/red]", "x[/bold]", "$x^{$", "<script>alert(1)</script>", "\x1b[31mred", "a|b"]
COLUMNS = (Column("name"), Column("gap", "gain", "+.2f"), Column("n", format=","))


def table(*names):
    rows = [{"name": name, "gap": GAP, "n": 12345} for name in names]
    return Table(rows, COLUMNS, "Title")


def in_terminal(made, width=120):
    buffer = text_io.StringIO()
    Console(file=buffer, width=width, force_terminal=True, color_system=None).print(
        made.rich(width)
    )
    return buffer.getvalue()


def test_an_interval_prints_as_people_write_it():
    assert str(Interval(0.314, 0.29, 0.331, 0.9)) == "0.31 [0.29, 0.33]"
    assert f"{GAP:+.3f}" == "+0.123 [+0.050, +0.200]"
    assert float(GAP) == 0.1234


@pytest.mark.parametrize(
    ("low", "high", "null", "separated"),
    [
        (0.1, 0.2, None, True),
        (-0.2, -0.1, None, True),
        (-0.1, 0.1, None, False),
        (0.0, 0.1, None, False),
        (0.1, 0.2, 0.15, False),
        (0.1, 0.2, 0.3, True),
        (float("nan"), float("nan"), None, False),
    ],
)
def test_an_interval_is_separated_where_it_leaves_out_its_null(low, high, null, separated):
    assert Interval(0.15, low, high, 0.9, null).separated == separated


def test_every_form_holds_the_same_cells():
    made = table("a", "b")
    for text in (in_terminal(made), made.text(), made.html()):
        for cell in ("name", "gain", "+0.12 [+0.05, +0.20]", "12,345"):
            assert cell in text
    assert made.markdown().splitlines()[2] == "| a | +0.12 \\[+0.05, +0.20\\] | 12,345 |"
    found = json.loads(json.dumps(made.json()))
    assert found[0]["gap"] == {"value": 0.1234, "low": 0.05, "high": 0.2}


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_in_every_form(name):
    made = table(name)
    shown = printable(name)
    assert shown in in_terminal(made)
    assert shown in made.text()
    for text in (in_terminal(made), made.text(), made.markdown(), made.html()):
        assert "\x1b" not in text
    assert "<script" not in made.html()
    assert "<script" not in made.markdown()
    assert made.markdown().splitlines()[2].count("|") - made.markdown().count("\\|") == 4


def test_what_is_missing_or_undefined_is_no_number():
    nan = float("nan")
    rows = [{"name": None, "gap": Interval(nan, nan, nan, 0.9)}, {"name": "b", "n": nan}]
    cells = Table(rows, COLUMNS).cells()
    assert cells == [["", "-", ""], ["b", "", "-"]]
    assert Table(rows, COLUMNS).json()[0]["gap"]["value"] is None


def test_a_number_of_full_precision_does_not_end_in_a_point():
    columns = (Column("loss", format="#.3g"),)
    rows = [{"loss": value} for value in (199.4, 2.9, 0.0)]
    assert Table(rows, columns).cells() == [["199"], ["2.90"], ["0.00"]]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_cut_off_in_a_narrow_terminal(width):
    made = table("a", "a long name of an embedding")
    text = in_terminal(made, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert text.count("+0.12 [+0.05, +0.20]") == 2


def compared(name):
    """A row of a comparison under decoders, with two metrics and the longest verdict."""
    gap = Interval(-0.009, -0.029, 0.011, 0.9)
    row = {
        "embedding": name,
        "decoder": "mlp:32",
        "d": 32,
        "f1": Interval(0.861, 0.827, 0.895, 0.9),
    }
    row |= {"accuracy": row["f1"], "gap": gap, "verdict": "cannot be told apart from the best"}
    columns = (
        Column("embedding"), Column("decoder"), Column("d", format="d", spare=True),
        Column("f1", "macro-F1", ".3f"), Column("accuracy", format=".3f", spare=True),
        Column("gap", "difference to best", "+.3f"), Column("verdict"),
    )  # fmt: skip
    return Table([row, row], columns)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_no_interval_is_broken_and_no_column_lost_at_any_width(width):
    made = compared("behaviour_2024_q3_v2_final")
    text = in_terminal(made, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("0.861 [0.827, 0.895]") == 4
    assert text.count("-0.009 [-0.029, +0.011]") == 2
    # Spare columns are the first to stand below.
    first, _, below = text.partition("\n\n")
    assert "macro-F1" in first
    assert "verdict" in first
    assert ("accuracy" in below) == (width < 120)
    # A verdict takes three lines at most.
    assert len(first.splitlines()) <= 2 + 3 * 2


def test_a_title_stands_on_one_line_above_a_narrow_table():
    made = Table([{"n": 1}], (Column("n"),), "A title that is longer than the table is wide")
    assert in_terminal(made).startswith("A title that is longer than the table is wide\n")


def test_text_gives_way_where_nothing_else_can():
    made = compared("behaviour_2024_q3_v2_final")
    text = in_terminal(made, 44)
    assert max(map(len, text.splitlines())) <= 44
    assert text.count("0.861 [0.827, 0.895]") == 4


def of_intervals(low):
    return Interval(0.5, low, 0.9, level=0.9, null=0.1)


def test_a_frame_has_a_column_for_each_part_of_an_interval():
    rows = [{"name": "a", "f1": of_intervals(0.2), "n": 3}, {"name": "b", "f1": None, "n": 4}]
    table = Table(rows, (Column("name"), Column("f1")))
    frame = table.frame()
    assert list(frame.columns) == ["name", "f1", "f1_low", "f1_high", "f1_null", "n"]
    assert frame["f1_low"].tolist()[0] == 0.2
    assert np.isnan(frame["f1_low"].tolist()[1])
    other = table.frame("polars")
    assert type(other).__module__.startswith("polars")
    assert other["n"].to_list() == [3, 4]
    with pytest.raises(ValueError, match=r"'pandas' or 'polars'; got 'arrow'"):
        table.frame("arrow")


def test_flat_names_are_those_that_loggers_take_and_never_collide():
    rows = [
        {"name": name, "head": "Mlp(32)", "f1": of_intervals(low), "best": True, "said": "worse"}
        for name, low in (("a b", 0.2), ("a·b", 0.3))
    ]
    flat = Table(rows, (Column("name"),)).flat()
    assert flat["a_b/Mlp_32/f1_low"] == 0.2
    assert flat["a_b/Mlp_32/f1_low_2"] == 0.3
    assert len(flat) == 8
    assert all(isinstance(value, float) for value in flat.values())
    assert all(re.fullmatch(r"[\w./ :-]+", name, re.ASCII) for name in flat)
