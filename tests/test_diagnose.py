"""The verb diagnose: verdicts, the final sentence, what it refuses, and the command."""

import json
import sys

import numpy as np
import pytest

import kernlens as kl
from kernlens import lens, targets
from kernlens.cli.command import main
from kernlens.lens.causes import ASKED, CAUSES, FACT, HEAD, NATURAL, Measure
from kernlens.lens.diagnosis import MATTERS, Diagnosis, Finding, gains, place, verdict
from kernlens.lens.verdicts import ABSENT, FAULT, HARMLESS, INVALID, OPEN, STATED
from kernlens.models import decoders
from kernlens.types import Interval
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=400, dim=6, num_classes=3, separation=0.7)
RNG = np.random.default_rng(4)
PROBLEM = PROBLEM._replace(x=PROBLEM.x + 0.7 * RNG.standard_normal(PROBLEM.x.shape))
UP = Interval(0.05, 0.02, 0.08, 0.9)
WIDE = Interval(0.05, -0.01, 0.11, 0.9)
SMALL = Interval(0.5 * MATTERS, 0.4 * MATTERS, 0.6 * MATTERS, 0.9)
BETTER = Interval(0.2, 0.15, 0.25, 0.9)
DOWN = Interval(-0.05, -0.08, -0.02, 0.9)


def with_outliers():
    x = PROBLEM.x.copy()
    x[::40] = 3000.0 * np.random.default_rng(2).standard_normal((10, 6))
    return x


@pytest.fixture(scope="module")
def outliers():
    return kl.diagnose(with_outliers(), PROBLEM.codes, ids=[f"i{k}" for k in range(400)])


@pytest.mark.parametrize(
    ("group", "found", "gain", "invalid", "said"),
    [
        (FACT, False, UP, "why", ABSENT),
        (FACT, True, None, "", STATED),
        (FACT, True, UP, "", FAULT),
        (FACT, True, WIDE, "", HARMLESS),
        (NATURAL, True, SMALL, "", HARMLESS),
        (NATURAL, True, DOWN, "", HARMLESS),
        (NATURAL, True, UP, "", FAULT),
        (FACT, True, None, "why", INVALID),
        (ASKED, True, UP, "why", OPEN),
        (HEAD, True, UP, "", FAULT),
        (HEAD, True, WIDE, "", HARMLESS),
    ],
)
def test_an_alarm_needs_a_gain_or_an_invalid_value(group, found, gain, invalid, said):
    assert verdict(group, found, gain, invalid) == said


def test_alarms_come_first_then_facts_and_what_does_no_harm_later():
    shown = [
        (INVALID, FACT, None, 1.0), (FAULT, NATURAL, 0.3, 1.0), (FAULT, FACT, 0.1, 2.0),
        (FAULT, HEAD, 0.5, 1.0), (STATED, FACT, None, 2.0), (STATED, FACT, None, 1.5),
        (HARMLESS, FACT, 0.2, 4.0), (HARMLESS, NATURAL, 0.2, 3.0), (OPEN, ASKED, None, 4.0),
        (ABSENT, FACT, None, 0.0),
    ]  # fmt: skip
    turned = shown[::-1]
    assert sorted(turned, key=lambda one: place(*one)) == shown


def test_a_gain_counts_where_its_interval_leaves_out_zero_and_it_matters():
    assert [gains(gain) for gain in (UP, WIDE, SMALL, DOWN, None)] == [True, *[False] * 4]


def test_outliers_are_a_fault_and_their_remedy_gains_what_predict_says(outliers):
    first = outliers.findings[0]
    assert (first.name, first.verdict) == ("outlier rows", FAULT)
    assert set(first.worst()) == {f"i{k}" for k in range(0, 400, 40)}
    np.testing.assert_array_equal(first.worst(3), first.worst()[:3])
    x = with_outliers()
    groups = np.arange(400)
    before, after = (
        kl.predict(rows, PROBLEM.codes, groups=groups).metrics["macro_f1"].value
        for rows in (x, first.remedy(x))
    )
    np.testing.assert_allclose(first.gain[0], after - before, atol=1e-6)
    assert outliers.sentence().startswith("The embedding: remedy (clip the lengths of rows) +")
    assert outliers.sentence().endswith("at its noise floor: no.")
    assert "more labels (4x)" in outliers.sentence()
    assert "another head (" in outliers.sentence()


def test_it_prints_a_dozen_lines_and_tables_of_everything(outliers):
    assert len(repr(outliers).splitlines()) <= 12
    assert repr(outliers).splitlines()[-1] == outliers.sentence()
    assert "outlier rows" in outliers._repr_html_()
    table, answers, absent = outliers.tables()
    assert len(table.rows) + len(absent.rows) == len(outliers.findings)
    assert answers.rows[0]["what"].startswith("remedy")
    assert "clip the lengths" in outliers["outlier rows"].paragraph()
    with pytest.raises(KeyError, match=r"no cause 'nothing' was measured; .*outlier rows"):
        outliers["nothing"]


def test_what_is_found_comes_before_what_is_not(outliers):
    absent = [own.verdict == ABSENT for own in outliers.findings]
    assert absent == sorted(absent)
    assert outliers.found == outliers.findings[: absent.count(False)]


def test_a_linear_head_does_not_mind_a_large_column_and_class_means_do():
    noise = np.random.default_rng(1).standard_normal((400, 1))
    x = np.hstack([PROBLEM.x, 1000.0 * noise])
    causes = {"column scales": CAUSES["column scales"]}
    linear = kl.diagnose(x, PROBLEM.codes, causes=causes, curve=False)
    assert linear["column scales"].verdict == HARMLESS
    assert abs(linear["column scales"].gain[0]) < 1e-6
    means = kl.diagnose(
        x, PROBLEM.codes, causes=causes, curve=False, decoder=decoders.InnerProduct()
    )
    assert means["column scales"].verdict == FAULT
    assert means["column scales"].gain[0] > 0.1


HEADS = ("decoder mismatch", DOWN, ABSENT)


def finding(name, gain, word):
    made = Measure(1.0, 0.0, "said", action="act now", remedy=np.asarray)
    return Finding(name, CAUSES[name], made, gain, word, np.arange(3))


@pytest.mark.parametrize(
    ("findings", "more", "begins", "floor"),
    [
        ([("outlier rows", UP, FAULT)], None, "The embedding", "no"),
        ([("outlier rows", UP, FAULT)], UP._replace(value=0.06), "The embedding", "no"),
        ([("outlier rows", UP, FAULT)], BETTER, "The number of labels", "no"),
        ([("decoder mismatch", UP, FAULT)], WIDE, "The head", "no"),
        ([("suspect labels", None, OPEN), HEADS], SMALL, "The labels, the join or an", "yes"),
        ([("outlier rows", WIDE, HARMLESS), HEADS], WIDE, "None of these is shown to help", "yes"),
        ([("no signal", None, INVALID)], UP, "Nothing: no relation of these rows", "no"),
        ([("duplicates", None, INVALID), HEADS], SMALL, "The split (duplicates)", "yes"),
    ],
)
def test_the_sentence_names_what_gains_most(outliers, findings, more, begins, floor):
    made = tuple(finding(*one) for one in findings)
    found = Diagnosis(made, outliers.prediction, "Linear", more, 400)
    assert found.sentence().startswith(begins)
    assert found.sentence().endswith(f"at its noise floor: {floor}.")


@pytest.mark.parametrize(
    ("findings", "more", "unknown"),
    [([HEADS], None, "more labels"), ([("outlier rows", WIDE, HARMLESS)], SMALL, "another head")],
)
def test_what_was_not_measured_is_not_ruled_out(outliers, findings, more, unknown):
    made = tuple(finding(*one) for one in findings)
    said = Diagnosis(made, outliers.prediction, "Linear", more, 400).sentence()
    assert said.startswith("Nothing that was measured is shown to help: ")
    assert said.endswith(f"; {unknown}: not measured; at its noise floor: not known.")
    assert "cleaner labels" not in said


def test_no_signal_makes_the_value_invalid():
    rng = np.random.default_rng(0)
    causes = {name: CAUSES[name] for name in ("outlier rows", "row order", "no signal")}
    found = kl.diagnose(
        rng.standard_normal((300, 5)), rng.integers(0, 3, 300), causes=causes, curve=False
    )
    assert found.findings[0].name == "no signal"
    assert found.findings[0].verdict == INVALID
    assert found.sentence().startswith("Nothing: no relation of these rows to the labels is seen")


def test_numbers_and_several_labels_have_the_causes_of_rows_and_columns():
    x = with_outliers()
    values = PROBLEM.x @ np.arange(1.0, 7.0)
    causes = {name: own for name, own in CAUSES.items() if own.group != HEAD}
    found = kl.diagnose(x, values, causes=causes)
    assert found.findings[0].name == "outlier rows"
    assert found.findings[0].verdict == FAULT
    assert found.prediction.metric == "r2"
    several = PROBLEM.x[:, :3] > 0
    found = kl.diagnose(x, several, causes=causes)
    assert found["outlier rows"].verdict != ABSENT


def test_rows_without_a_label_are_left_out_and_keep_their_place():
    codes = PROBLEM.codes.astype(object)
    codes[:200] = None
    causes = {"outlier rows": CAUSES["outlier rows"]}
    found = kl.diagnose(with_outliers(), codes.tolist(), causes=causes, curve=False)["outlier rows"]
    assert set(found.worst()) == {200, 240, 280, 320, 360}
    assert np.all(np.isnan(found.rows[:200]))


def test_heads_are_predicted_on_a_sample_of_many_rows():
    causes = {name: CAUSES[name] for name in ("outlier rows", "suspect labels")}
    x = PROBLEM.x.copy()
    x[::40] *= 40.0
    found = kl.diagnose(x, PROBLEM.codes, max_rows=150, causes=causes, curve=False)
    assert 100 < len(found.prediction.target) <= 150
    assert len(found["outlier rows"].worst()) == 10
    assert found["suspect labels"].rows is not None
    known = np.isfinite(found["suspect labels"].rows)
    assert known.sum() == len(found.prediction.target)
    shares = np.bincount(found.prediction.target) / known.sum()
    np.testing.assert_allclose(shares, np.bincount(PROBLEM.codes) / 400, atol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interactions": np.ones(3)}, "interactions must be counts of at least 0, one a row"),
        ({"interactions": -np.ones(400)}, "interactions must be counts of at least 0"),
        ({"reference": np.ones((3, 2))}, "reference and the target need the same rows"),
        ({"reference": np.full((400, 2), np.nan)}, "reference must be finite; 400 of 400 rows"),
        ({"text": ["tea"] * 400}, "text: dim must be less than the distinct texts, 1,"),
        ({"ids": ["a"]}, r"ids must name each row, \[400\]; got shape \(1,\)"),
        ({"max_rows": 0}, "max_rows must be at least 1, or None; got 0"),
        ({"decoder": "mlp"}, "a decoder is a Flax module"),
        ({"metric": "nothing"}, "metric must be one"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        kl.diagnose(PROBLEM.x, PROBLEM.codes, **options)


def test_rows_that_do_not_match_are_refused_and_so_are_next_items():
    with pytest.raises(ValueError, match="embeddings and the target need the same rows"):
        kl.diagnose(PROBLEM.x[:9], PROBLEM.codes)
    bad = PROBLEM.x.copy()
    bad[7, 0] = np.nan
    with pytest.raises(ValueError, match=r"finite; 1 of 400 rows .* first of them number 7"):
        kl.diagnose(bad, PROBLEM.codes)
    events = targets.next_items([0, 0, 0, 1, 1, 1], [0, 1, 2, 2, 1, 0], [0, 1, 2, 0, 1, 2], k=1)
    with pytest.raises(ValueError, match="diagnose reads a target of rows"):
        kl.diagnose(np.eye(3), events)
    with pytest.raises(ValueError, match="groups must be integers, one a row"):
        kl.predict(PROBLEM.x, PROBLEM.codes, groups=np.ones(400))


@pytest.mark.thorough
def test_groups_are_held_out_together():
    """A head that met a product's variants knows it: held out together, it does not."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    x = rng.standard_normal((60, 30))[groups] + 0.01 * rng.standard_normal((300, 30))
    codes = rng.integers(0, 2, 60)[groups]
    apart, together = (
        kl.predict(x, codes, groups=own, decoder=decoders.Neighbours(1)).metrics["accuracy"].value
        for own in (None, groups)
    )
    assert apart > 0.8
    assert together < 0.65


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    monkeypatch.setenv("COLUMNS", "160")
    np.save("items.npy", with_outliers())
    np.save("old.npy", PROBLEM.x[:, :5])
    names = np.array(["tea", "salt", "bread"])[PROBLEM.codes]
    for name, column, values in (
        ("labels", "class", names), ("counts", "count", np.arange(400) % 17 + 1),
        ("texts", "text", [f"{name} a{i % 90} b{i % 70}" for i, name in enumerate(names)]),
    ):  # fmt: skip
        rows = [f"{i},{value}" for i, value in enumerate(values)]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"id,{column}", *rows]) + "\n")


@pytest.mark.thorough
def test_the_command_says_what_the_library_says(files, capsys):
    words = "diagnose items.npy --labels labels.csv --counts counts.csv --reference old.npy"
    code = main([*words.split(), "--no-curve", "--json", "found.json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    expected = lens.diagnose(
        with_outliers(), np.array(["tea", "salt", "bread"])[PROBLEM.codes],
        interactions=np.arange(400) % 17 + 1, reference=PROBLEM.x[:, :5], curve=False,
    )  # fmt: skip
    assert expected.sentence() in " ".join(out.split())
    assert "rows of outlier rows: " in out
    with open("found.json") as file:
        found = json.load(file)
    assert found["conclusion"] == expected.sentence()
    assert [one["cause"] for one in found["findings"]] == [own.name for own in expected.findings]
    (outliers,) = (one for one in found["findings"] if one["cause"] == "outlier rows")
    assert set(outliers["rows"]) == {str(k) for k in range(0, 400, 40)}
    gain = expected["outlier rows"].gain
    assert gain is not None
    np.testing.assert_allclose(outliers["gain"]["value"], gain.value)


def test_the_command_leaves_out_empty_tables(files, capsys, monkeypatch):
    causes = {"outlier rows": CAUSES["outlier rows"]}
    monkeypatch.setattr(sys.modules["kernlens.lens.diagnose"], "CAUSES", causes)
    np.save("clean.npy", PROBLEM.x)
    assert main(["diagnose", "clean.npy", "--labels", "labels.csv", "--no-curve"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Linear: macro-F1 ")
    assert "What would help" not in out
    assert "what would undo it" not in out
    assert "more labels: not measured" in out


@pytest.mark.thorough
def test_texts_reach_the_library(files, capsys, monkeypatch):
    causes = {name: CAUSES[name] for name in ("outlier rows", "suspect labels")}
    monkeypatch.setattr(sys.modules["kernlens.lens.diagnose"], "CAUSES", causes)
    x = 4.0 * np.eye(3)[PROBLEM.codes] + np.random.default_rng(3).standard_normal((400, 3))
    x[:60] = np.roll(x[:60], 1, axis=0)  # joined wrongly; the texts go with the labels
    np.save("moved.npy", x)
    words = ["diagnose", "moved.npy", "--labels", "labels.csv", "--text", "texts.csv", "--no-curve"]
    assert main([*words, "--json", "found.json"]) == 0
    assert "cause" in capsys.readouterr().out
    with open("found.json") as file:
        found = {one["cause"]: one for one in json.load(file)["findings"]}
    told = found["suspect labels"]["measured"].split("; by the text: ")[1]
    wrong_labels, wrong_rows = (int(part.split()[0]) for part in told.split(", ")[:2])
    assert wrong_labels < 5 < 20 < wrong_rows


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("diagnose items.npy old.npy --labels labels.csv", "diagnose takes one embedding file"),
        ("diagnose items.npy --labels labels.csv --reference items.npy", "is the embedding file"),
        ("diagnose items.npy", "expected --labels FILE"),
        ("diagnose items.npy --labels labels.csv --counts texts.csv", "texts.csv"),
        ("diagnose items.npy --labels labels.csv --decoder forest", "does not predict decision"),
        ("diagnose items.npy --labels labels.csv --separator | --target classes", "--separator"),
    ],
)
def test_a_bad_command_is_one_line(files, capsys, words, message):
    assert main(words.split()) in (1, 2)
    assert message in capsys.readouterr().err
