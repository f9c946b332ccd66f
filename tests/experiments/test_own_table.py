"""Every experiment that takes --data takes a table of the user's own."""

import dataclasses
import io
import json
import os

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.kit import committed, runner, shift, sources
from experiments.kit.cells import Cells
from experiments.kit.shown import title_of
from experiments.lens_stability import runs
from kernlens import datasets
from tests.experiments.test_experiments import EXPERIMENTS

COLUMNS = ("user=customer", "item=sku", "time=bought_at", "session=basket", "text=name")
WITH_DATA = [
    experiment
    for experiment in EXPERIMENTS
    if "data" in {field.name for field in dataclasses.fields(experiment.Config)}
]
OTHERS = {
    "online_replay": ["--cut", "5"],
    "robust_to_shift": ["--cut", "5"],
    "prop1_bound": ["--cut", "5"],
}
"""Options besides that fit ten weeks."""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Baskets of ten weeks whose items have two labels and a title, with names of their own."""
    made = datasets.load(
        "synthetic", num_items=300, num_users=150, num_interactions=8_000, num_classes=4
    )
    basket = np.repeat(np.arange(made.num_sessions), np.diff(made.offsets))
    start = pd.Timestamp("2024-01-01")
    codes, names = made.labels["class"]
    frame = pd.DataFrame(
        {
            "customer": made.users[basket],
            "basket": basket,
            "bought_at": start + pd.to_timedelta(basket * 70 * 24 * 60 // made.num_sessions, "min"),
            "sku": [f"p{item}" for item in made.items],
            "kind": [names[code] for code in codes[made.items]],
            "class": [names[code] for code in codes[made.items]],
            "name": [f"thing {item % 7} of {item % 11}" for item in made.items],
        }
    )
    path = tmp_path_factory.mktemp("own") / "events.parquet"
    frame.to_parquet(path, index=False)
    return path


def source(table, **fields):
    return sources.Source(data="table", root=table, columns=COLUMNS, min_count=1, **fields)


def test_every_experiment_with_data_is_here():
    assert {committed.name_in_command(experiment) for experiment in WITH_DATA} == {
        "head_mismatch", "lens_fuse", "lens_stability", "lens_upgrade", "online_replay",
        "prop1_bound", "prop2_sequence_average", "robust_to_shift", "thm1_decoder_mismatch",
    }  # fmt: skip
    for experiment in WITH_DATA:
        names = {field.name for field in dataclasses.fields(experiment.Config)}
        assert {"data", "root", "columns", "synthetic"} <= names


def test_its_interactions_labels_and_weeks_are_read(table):
    frame = pd.read_parquet(table)
    data = sources.interactions(source(table))
    assert len(data.items) == len(frame.drop_duplicates(["customer", "sku", "bought_at", "basket"]))
    assert data.num_items == frame["sku"].nunique()
    assert data.num_sessions == frame["basket"].nunique()
    name, found = sources.classes(data, source(table))
    assert name == "class"
    kind = dict(zip(frame["sku"], frame["kind"], strict=True))
    for own in (found, sources.interactions(source(table, label="kind")).labels["kind"]):
        given = [own.names[code] for code in own.codes]
        assert given == [kind[key] for key in data.item_keys]
    assert data.text is not None
    title = dict(zip(frame["sku"], frame["name"], strict=True))
    assert data.text.tolist() == [title[key] for key in data.item_keys]
    week = shift.load(source(table)).session_attributes["week"]
    assert (week.min(), week.max()) == (1, 10)


@pytest.mark.thorough
def test_items_of_the_experiments_on_versions_are_read(table, tmp_path):
    config = runs_config(table)
    cells = Cells(tmp_path, Console(file=io.StringIO()))
    items = runs.items(config, cells)
    assert set(items.labels) == {"kind", "class"}
    assert items.text is not None
    embedded = items.embed(runs.Run(window=2, negatives=1, epochs=1, dim=4))
    assert embedded.shape == (len(items.text), 4)


def runs_config(table, **fields):
    experiment = next(own for own in WITH_DATA if "lens_stability" in own.__name__)
    return experiment.Config(
        data="table", root=table, columns=COLUMNS, labels=("kind", "class"), **fields
    )


def test_cells_belong_to_what_the_table_holds(table, tmp_path):
    copy = tmp_path / "events.parquet"
    copy.write_bytes(table.read_bytes())
    os.utime(copy, ns=(1, 1))
    fingerprints, names = set(), set()
    for when in (1, 2):
        os.utime(copy, ns=(when, when))
        for columns in (COLUMNS, COLUMNS[:4]):
            config = dataclasses.replace(source(copy), columns=columns)
            fingerprints.add(runner.fingerprint(config))
            names.add(sources.identity("table", copy, columns, 0))
    assert len(fingerprints) == len(names) == 4
    assert sources.identity("movielens", tmp_path, (), 0) == "movielens"
    assert sources.identity("table", copy, COLUMNS, 300) == "table 300"


def test_a_field_that_came_later_leaves_finished_cells_where_they_are():
    fields = [f.name for f in dataclasses.fields(sources.Source) if f.name != "columns"]
    plain = sources.Source()
    assert runner.fingerprint(plain) == runner.fingerprint(plain, fields)
    assert runner.fingerprint(source(None)) != runner.fingerprint(source(None), fields)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--columns", "sku"], "--columns must be as user=NAME, of user, item, time, session"),
        (["--columns", "price=x"], "--columns must be as user=NAME"),
        (["--columns", "user=nobody"], "no column 'nobody'"),
        (["--columns", *COLUMNS, "--label", "colour"], "no column 'colour'"),
        ([], "which column holds the users?"),
        (["--data", "complete_journey", "--columns", *COLUMNS], "--columns are of --data table"),
    ],
)
def test_mistakes_are_one_line(table, tmp_path, capsys, words, message):
    experiment = next(own for own in WITH_DATA if "prop1_bound" in own.__name__)
    given = ["--tiny", "--synthetic", "0", "--data", "table", "--root", str(table), *words]
    code = runner.main(experiment, [*given, "--out", str(tmp_path), "--cells", str(tmp_path)])
    error = capsys.readouterr().err
    assert code == 1
    assert message in error
    assert error.count("\n") == 1


def test_a_table_is_called_by_its_file():
    assert title_of({"root": "events.parquet", "data": "table"}) == "events.parquet"
    assert title_of({"root": None, "data": "complete_journey"}) == "Complete Journey"
    assert title_of({"root": "ml-1m", "data": "recbole"}) == "MovieLens-1M"


def tiny_run(experiment, table, folder, capsys):
    name = committed.name_in_command(experiment)
    fields = {field.name for field in dataclasses.fields(experiment.Config)}
    label = ["--label", "kind"] if "label" in fields else ["--labels", "kind"]
    if name in ("prop2_sequence_average", "head_mismatch"):
        label = []
    words = ["--tiny", "--synthetic", "0", "--data", "table", "--root", str(table)]
    words += ["--columns", *COLUMNS, *label, *OTHERS.get(name, [])]
    if "mlp_labels" in fields:
        words += ["--mlp-labels", "kind"]
    code = runner.main(
        experiment, [*words, "--out", str(folder / "out"), "--cells", str(folder / "cells")]
    )
    assert code == 0, capsys.readouterr().err
    results = json.loads((folder / "out" / "results.json").read_text())
    assert results["rows"]
    assert "--data table --root events.parquet" in results["command"].replace(" --cut 5", "")
    for claim in getattr(experiment, "claims", lambda _: [])(results):
        assert claim


@pytest.mark.slow
@pytest.mark.parametrize("experiment", WITH_DATA, ids=committed.name_in_command)
def test_its_tiny_version_runs_on_the_table(experiment, table, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    tiny_run(experiment, table, tmp_path, capsys)
