"""What ``--json`` writes is what ``docs/schema.json`` describes, of every verb."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from kernlens.cli import command, records
from tests.cases import gaussian_classes

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "schema.json").read_text())
PROBLEM = gaussian_classes(0, n=160, separation=0.8)
LABELS = ("--labels", "labels.csv")
COMMANDS = {
    "predict": ("a.npy", *LABELS),
    "predict numbers": ("a.npy", "--labels", "numbers.csv"),
    "predict next": ("a.npy", "--interactions", "events.csv"),
    "compare": ("a.npy", "b.npy", *LABELS, "--scores", "h_score"),
    "compare next": ("a.npy", "b.npy", "--interactions", "events.csv"),
    "score": ("a.npy", "b.npy", *LABELS, "--scores", "h_score"),
    "upgrade": ("a.npy", "b.npy", *LABELS, "--gate", "negative_flips<0.9"),
    "upgrade numbers": ("a.npy", "b.npy", "--labels", "numbers.csv", "--gate", "r2>-9"),
    "stability": ("a.npy", "b.npy", *LABELS),
    "fuse": ("a.npy", "b.npy", *LABELS),
    "diagnose": ("a.npy", *LABELS, "--no-curve"),
}


def check(found, verb):
    jsonschema.Draft202012Validator({"$ref": f"#/$defs/{verb}", **SCHEMA}).validate(found)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    rng = np.random.default_rng(1)
    np.save("a.npy", PROBLEM.x)
    np.save("b.npy", PROBLEM.x + 0.5 * rng.standard_normal(PROBLEM.x.shape))
    for name, column in (
        ("labels", [f"k{c}" for c in PROBLEM.codes]),
        ("numbers", PROBLEM.x[:, 0]),
    ):
        lines = [f"{i},{value}\n" for i, value in enumerate(column)]
        Path(f"{name}.csv").write_text("id,label\n" + "".join(lines))
    events = [
        f"u{user},{item},{1_700_000_000 + 60 * step}\n" for user in range(60)
        for step, item in enumerate(rng.integers(0, 160, 6))
    ]  # fmt: skip
    Path("events.csv").write_text("user_id,item_id,timestamp\n" + "".join(events))


def test_the_schema_is_one_and_has_the_version_that_is_written():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["head"]["properties"]["schema"]["const"] == records.SCHEMA
    assert set(command.VERBS) - {"embed", "demo"} <= set(SCHEMA["$defs"])


@pytest.mark.slow
@pytest.mark.parametrize("case", COMMANDS)
def test_what_is_written_is_described(case, files, capsys):
    verb = case.split()[0]
    assert command.main([verb, *COMMANDS[case], "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    check(found, verb)
    with pytest.raises(jsonschema.ValidationError, match="Unevaluated properties"):
        check({**found, "never_described": 1}, verb)
    with pytest.raises(jsonschema.ValidationError, match="'taken' is a required property"):
        check({name: value for name, value in found.items() if name != "taken"}, verb)
