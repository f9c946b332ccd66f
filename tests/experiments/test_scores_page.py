"""Every estimator is documented in one form, and the page of all of them is theirs."""

import inspect
import types

import pytest

from experiments.kit import scores_page
from kernlens import probes
from kernlens.scores import PEERS, Estimator, checks, curves, discriminant, intervals, rows, source

EVERY = [
    pytest.param(name, row, id=name)
    for table in scores_page.TABLES.values()
    for name, row in table.items()
]


@pytest.mark.parametrize(("name", "row"), EVERY)
def test_every_estimator_says_what_a_reader_must_know(name, row):
    assert row.fn.__name__ == name
    assert row.sign in (1, -1)
    said = (row.formula, row.source, row.range, row.null, row.predicts, row.pitfalls)
    assert all(isinstance(text, str) and text.strip() == text != "" for text in said)
    assert row.fn.__doc__
    low, high = intervals.bounds_of(row._replace(range=row.range.split(" for ")[0]))
    assert low < high


def test_every_public_function_of_rows_posteriors_and_curves_has_a_row():
    tables = {
        rows: {*rows.ROWS, *rows.ROWS_BESIDE},
        source: {*source.SOURCES, "hard"},  # a feature map
        discriminant: set(discriminant.IN_SAMPLE),
        curves: {*curves.CURVES, "coefficients"},  # what the curve is made of
        probes: {
            *probes.ABOUT,
            "differences",
            "few_labels",
            "learning_curve",
            "paired_difference",
            "influence",
            "label_influence",
            "simultaneous_level",
            "level_together",
            "pairwise_differences",
            "step_down",
            "widened",
        },
    }
    for module, named in tables.items():
        own = {
            name
            for name, value in vars(module).items()
            if callable(value)
            and not isinstance(value, type | types.ModuleType)
            and not name.startswith("_")
            and f"{inspect.unwrap(value).__module__}.".startswith(f"{module.__name__}.")
        }
        assert own <= named, module.__name__
    assert set(probes.ABOUT) == set(probes.PROBES)


def test_names_are_unique_and_the_page_is_of_the_tables():
    names = [name for table in scores_page.TABLES.values() for name in table]
    assert len(set(names)) == len(names)
    page = scores_page.PAGE.read_text()
    assert page == scores_page.page(), "run python -m experiments.kit.scores_page"
    assert all(f"`{name}`" in page for name in names)
    assert all(fault in page for fault in PEERS.values())
    assert isinstance(scores_page.TABLES["Forecasts at more labels"]["learning_curve"], Estimator)
    assert callable(checks.checked)
