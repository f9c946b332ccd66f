"""upgrade of a head that gives numbers: against ridge regressions of scikit-learn, fold by fold."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.preprocessing import StandardScaler

import kernlens as kl
from kernlens import decoders
from kernlens.cli.command import main
from kernlens.lens import maps
from kernlens.lens.flips import CLOSE
from kernlens.lens.number_ways import ridge_heads


def _versions(n=400, d=5, seed=0):
    """Two noisy copies of rows, the second turned, in columns of unlike units, and a number."""
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(n, d)) * np.array([1.0, 5.0, 0.2, 1.0, 3.0])[:d] + 2.0
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    old = items + 0.1 * rng.normal(size=(n, d))
    new = (items + 0.1 * rng.normal(size=(n, d))) @ turn
    return old, new, items @ rng.normal(size=d) + rng.normal(size=n)


def _trained(rows, values, penalty):
    scaler = StandardScaler().fit(rows)
    head = Ridge(alpha=penalty).fit(scaler.transform(rows), values)
    return lambda asked: head.predict(scaler.transform(asked))


@pytest.fixture(scope="module")
def made():
    old, new, values = _versions()
    return old, new, values, kl.upgrade(old, new, values, penalty=3.0)


def _folds(values):
    from kernlens.probes.folds import share_out

    return share_out(np.zeros(len(values), int), np.arange(len(values)), seed=0)


@pytest.mark.parametrize("name", ["raw", "rotation", "ridge map", "distilled", "retrained"])
def test_numbers_and_flips_are_those_of_trained_regressions(made, name):
    old, new, values, found = made
    folds = _folds(values)
    before, after = np.empty(len(values)), np.empty(len(values))
    for k in range(5):
        rest, out = folds != k, folds == k
        own = _trained(old[rest], values[rest], 3.0)
        before[out] = own(old[out])
        if name == "retrained":
            after[out] = _trained(new[rest], values[rest], 3.0)(new[out])
        elif name == "distilled":
            after[out] = _trained(new[rest], own(old[rest]), 3.0)(new[out])
        else:
            after[out] = own(maps.fit(name, maps.joint(new[rest], old[rest]))(new[out]))
    way = found.ways[name]
    np.testing.assert_allclose(found.before.predicted, before, rtol=1e-8)
    tolerance = 1e-3 if name == "ridge map" else 1e-8  # its strength is chosen, not the first
    np.testing.assert_allclose(way.prediction.predicted, after, rtol=tolerance, atol=tolerance)
    assert way.prediction.value.value == pytest.approx(r2_score(values, after), abs=tolerance)
    mae = mean_absolute_error(values, after)
    assert way.prediction.metrics["mae"].value == pytest.approx(mae, abs=10 * tolerance)
    if name != "ridge map":
        near = CLOSE * values.std()
        worse = np.abs(after - values) - np.abs(before - values) > near
        np.testing.assert_array_equal(way.flips.negative_rows, np.flatnonzero(worse))
        moved = np.abs(after - before) > near
        assert way.flips.churn.value == pytest.approx(np.mean(moved))
        kinds = (way.flips.negative_flips, way.flips.positive_flips, way.flips.other_flips)
        assert sum(kind.value for kind in kinds) == pytest.approx(np.mean(moved))


def test_the_penalty_is_chosen_by_held_out_error_and_nearly_the_probes():
    _, rows, values = _versions(n=150)
    rows = np.hstack([rows, np.random.default_rng(1).normal(size=(150, 60))])
    found = ridge_heads(rows, values, _folds(values))
    own = kl.predict(rows, values).path.chosen * len(values)
    assert 0.1 < found.penalties[-1] / own < 10
    assert found.penalties[-1] > 1.0
    fixed = ridge_heads(rows, values, _folds(values), penalty=2.0)
    np.testing.assert_allclose(fixed.whole(rows)[:, 0], _trained(rows, values, 2.0)(rows))


def test_a_constant_column_has_no_weight():
    old, _, values = _versions()
    rows = np.column_stack([old, np.full(len(old), 1e6)])
    whole = ridge_heads(rows, values, _folds(values), penalty=3.0).whole
    assert whole.weights[-1, 0] == 0.0
    np.testing.assert_allclose(whole(rows)[:, 0], _trained(old, values, 3.0)(old), rtol=1e-7)


def test_it_says_what_it_advises_and_prints(made):
    found = made[3]
    assert found.of_numbers
    assert found.metric == "r2"
    assert found.advised == "rotation"
    text = repr(found)
    assert text.startswith("Keep the head with a rotation: R² 0.")
    assert "move away from the truth by over 0.1 standard deviations" in text
    assert "moves nearer" in found.flips_table().text()
    assert len(text.splitlines()) <= 12
    assert found.ways["raw"].difference.high < 0 < found.ways["rotation"].prediction.value.value
    assert [row["way"] for row in found.table().rows] == ["old version", *found.ways]


def test_equal_numbers_are_refused():
    x = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(ValueError, match=r"the numbers are all 2\.5; there is nothing to predict"):
        kl.upgrade(x, x, np.full(40, 2.5))


def test_few_labels_mend_a_shifted_head_and_are_none_for_a_right_one():
    old, new, values = _versions(n=1000)
    bent = old.copy()
    bent[:, 0] = 3.0 * old[:, 0] - 7.0
    found = kl.upgrade(old, bent, values, maps=("raw",), few_labels=60, penalty=1.0)
    raw, few, whole = (found.ways[n].prediction.value.value for n in ("raw", "few labels",
                                                                      "retrained"))  # fmt: skip
    assert found.ways["few labels"].labels == 60
    assert few - raw > 0.5 * (whole - raw) > 0.1
    same = kl.upgrade(old, old, values, maps=("raw",), few_labels=60, penalty=1.0)
    kept = same.ways["raw"].prediction.value.value
    assert same.ways["few labels"].prediction.value.value == pytest.approx(kept, abs=0.01)
    del new


def test_a_given_regressor_answers_itself_and_learnt_items_do_not_count():
    old, new, values = _versions()
    learnt = np.arange(len(old)) < 200
    head = Ridge().fit(old[learnt], values[learnt])
    found = kl.upgrade(old, new, values, head=head, trained_on=learnt)
    np.testing.assert_array_equal(found.before.predicted, head.predict(old)[~learnt])
    raw = found.ways["raw"]
    expected = r2_score(values[~learnt], head.predict(new)[~learnt])
    assert raw.prediction.value.value == pytest.approx(expected)
    assert np.all(found.flipped("raw")["negative"] >= 200)
    same = kl.upgrade(old, new, values, head=lambda x: head.predict(x)[:, None], trained_on=learnt)
    assert same.ways["raw"].prediction.metrics == raw.prediction.metrics


@pytest.mark.thorough
def test_new_items_are_predicted_apart_and_wider():
    old, new, values = _versions(n=800)
    ids = np.arange(800)
    found = kl.upgrade(old[:700], new[100:], values[:700], ids=(ids[:700], ids[100:]))
    for name, own in found.new_items.ways.items():
        plain = found.ways[name].prediction.value
        assert own["r2"].value == pytest.approx(plain.value, abs=0.1)
        assert own["r2"].high - own["r2"].low > plain.high - plain.low
    assert "R²" in found.new_items.table().text()


def test_copies_share_a_fold_and_missing_numbers_only_help_the_maps():
    old, new, values = _versions(n=100)
    values = np.append(np.repeat(values, 2), np.nan)
    old, new = (np.vstack([np.repeat(x, 2, axis=0), x[:1]]) for x in (old, new))
    found = kl.upgrade(old, new, values)
    assert any("100 of 200 rows are copies" in note for note in found.notes)
    assert any("1 items without a target only help the maps" in note for note in found.notes)
    assert len(found.ids) == 200


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"decoder": decoders.Mlp(4)}, "of numbers upgrade predicts linear heads; Mlp has no"),
        ({"decoder": decoders.InnerProduct()}, "of numbers upgrade predicts linear heads"),
        ({"metric": "macro_f1"}, "metric must be one"),
        ({"head": 3}, "expected a fitted scikit-learn regressor"),
        ({"head": decoders.Mlp(4)}, "no trained parameters"),
        ({"head": lambda x: 1 / 0}, "head: failed on rows .*Zero"),
        ({"head": lambda x: x}, r"expected a number for each row, \[400\]; got shape \(400, 5\)"),
        ({"head": lambda x: np.full(len(x), np.nan)}, "not finite, first for row 0"),
        ({"head": Ridge()}, "head: failed on rows .*not fitted"),
        ({"level": 2.0}, "level in"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        kl.upgrade(*_versions(), **options)


def test_a_classifier_is_no_head_of_numbers():
    old, new, values = _versions()
    head = LogisticRegression().fit(old, values > values.mean())
    with pytest.raises(ValueError, match="gives classes, and the target has numbers"):
        kl.upgrade(old, new, values, head=head)
    with pytest.raises(ValueError, match="numbers must be finite"):
        kl.upgrade(old, new, np.where(np.arange(400) == 3, np.inf, values))
    with pytest.raises(ValueError, match="5 distinct items"):
        kl.upgrade(old[:4], new[:4], values[:4])


def test_the_command_serves_numbers_and_gates_them(tmp_path, capsys):
    old, new, values = _versions(n=200)
    for name, rows in (("old", old), ("new", new)):
        np.save(tmp_path / f"{name}.npy", rows)
    pd.DataFrame({"price": values}).to_csv(tmp_path / "prices.csv", index=False)
    told = tmp_path / "found.json"
    asked = [
        "upgrade", str(tmp_path / "old.npy"), str(tmp_path / "new.npy"), "--labels",
        str(tmp_path / "prices.csv"), "--no-cache", "--json", str(told),
    ]  # fmt: skip
    assert main([*asked, "--gate", "r2>0.5", "negative_flips<0.5"]) == 0
    printed = capsys.readouterr()
    assert "moves away" in printed.out
    found = json.loads(told.read_text())
    assert found["old_version"]["metrics"]["r2"]["value"] > 0.5
    assert main([*asked, "--gate", "raw.r2>0.5"]) == 1
