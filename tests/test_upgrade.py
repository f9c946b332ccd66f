"""upgrade: against heads that are trained by scikit-learn fold by fold; bad input; the command."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import kernlens as kl
from kernlens import decoders
from kernlens.cli import gate
from kernlens.cli.command import main
from kernlens.lens import maps, refits
from kernlens.lens.flips import flips, share
from kernlens.lens.number_ways import few_numbers
from kernlens.probes.folds import share_out
from kernlens.probes.held_out import HeldOut

NAMES = np.array(["ale", "bread", "cake", "dill"])


def _versions(n=400, d=5, seed=0, turned=True):
    rng = np.random.default_rng(seed)
    codes = rng.choice(4, n, p=(0.5, 0.25, 0.15, 0.1))
    items = rng.normal(size=(4, d))[codes] * 1.2 + rng.normal(size=(n, d))
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0] if turned else np.eye(d)
    old = items + 0.3 * rng.normal(size=(n, d))
    return old, (items + 0.3 * rng.normal(size=(n, d))) @ turn, NAMES[codes]


@pytest.fixture(scope="module")
def made():
    old, new, names = _versions()
    return old, new, names, kl.upgrade(old, new, names, penalty=1.0)


def _by_sklearn(learnt, codes, folds, asked):
    """Classes that scikit-learn's heads without each fold give to other rows."""
    found = np.empty(len(codes), np.int64)
    for k in range(5):
        rest = folds != k
        scaler = StandardScaler().fit(learnt[rest])
        head = LogisticRegression(tol=1e-8, max_iter=5000)
        head.fit(scaler.transform(learnt[rest]), codes[rest])
        found[folds == k] = head.predict(scaler.transform(asked[folds == k]))
    return found


@pytest.fixture(scope="module")
def before(made):
    old, _, names, found = made
    codes = np.unique(names, return_inverse=True)[1]
    return _by_sklearn(old, codes, found.before.held_out.folds, old)


@pytest.mark.parametrize("name", ["raw", "rotation", "ridge map", "retrained"])
def test_ways_and_flips_are_those_of_trained_heads(made, before, name):
    old, new, names, found = made
    codes = np.unique(names, return_inverse=True)[1]
    folds = found.before.held_out.folds
    if name == "retrained":
        after = _by_sklearn(new, codes, folds, new)
    else:
        mapped = np.empty_like(old)
        for k in range(5):
            moments = maps.joint(new[folds != k], old[folds != k])
            mapped[folds == k] = maps.fit(name, moments)(new[folds == k])
        after = _by_sklearn(old, codes, folds, mapped)
    way = found.ways[name]
    assert np.mean(way.prediction.predicted == after) > 0.99
    wrong = np.mean((before == codes) & (after != codes))
    assert way.flips.negative_flips.value == pytest.approx(wrong, abs=0.008)
    own = found.flipped(name)["negative"]
    np.testing.assert_array_equal(own, way.flips.negative_rows)


def test_distilled_learns_the_old_heads_classes(made):
    old, new, names, found = made
    codes = np.unique(names, return_inverse=True)[1]
    folds, after = found.before.held_out.folds, np.empty(len(codes), np.int64)
    for k in range(5):
        rest = folds != k
        scaler = StandardScaler().fit(old[rest])
        head = LogisticRegression(tol=1e-8, max_iter=5000)
        head.fit(scaler.transform(old[rest]), codes[rest])
        taught = head.predict(scaler.transform(old))
        scaler = StandardScaler().fit(new[rest])
        head = LogisticRegression(tol=1e-8, max_iter=5000)
        head.fit(scaler.transform(new[rest]), taught[rest])
        after[folds == k] = head.predict(scaler.transform(new[folds == k]))
    assert np.mean(found.ways["distilled"].prediction.predicted == after) > 0.99


def test_a_rotated_version_keeps_the_head_and_raw_rows_do_not(made):
    found = made[3]
    assert found.advised == "rotation"
    assert found.sentence().startswith("Keep the head with a rotation: macro-F1 0.")
    assert "items become wrong" in found.sentence()
    raw, rotated = (found.ways[name].prediction.value.value for name in ("raw", "rotation"))
    assert rotated - raw > 0.3
    assert found.ways["raw"].difference.high < 0
    assert found.map.name == "rotation"
    assert len(repr(found).splitlines()) <= 12
    assert "<table>" in found._repr_html_()
    assert [row["way"] for row in found.table().rows] == ["old version", *found.ways]


@pytest.mark.parametrize("metric", ["macro_f1", "log_loss"])
def test_a_worse_version_is_called_worse_with_what_the_old_one_reaches(metric):
    old, new, names = _versions()
    noisy = new + 3.0 * np.random.default_rng(1).normal(size=new.shape)
    found = kl.upgrade(old, noisy, names, penalty=1.0, maps=("rotation",), metric=metric)
    said, before = found.sentence(), found.before.metrics[metric].value
    assert found.worse
    assert found.change.separated
    assert said.startswith("The new version is worse: at best it reaches ")
    assert f"the old one reaches {before:.3f}" in said
    assert "To serve the new one, " in said
    assert f"old version {before:.3f}); " in said
    values = [way.prediction.metrics[metric].value for way in found.ways.values()]
    best = min(values) if metric == "log_loss" else max(values)
    assert found.change.value == pytest.approx(best - before)
    back = kl.upgrade(noisy, old, names, penalty=1.0, maps=("rotation",), metric=metric)
    assert back.change.separated
    assert not back.worse
    assert f"old version {back.before.metrics[metric].value:.3f}); " in back.sentence()
    assert not found._replace(tolerance=2 * abs(found.change.value)).worse


@pytest.mark.thorough
def test_a_version_that_says_nothing_of_the_old_one_is_retrained():
    rng = np.random.default_rng(1)
    old, new, names = _versions(seed=1)
    other = rng.normal(size=old.shape)
    other[:, 0] += 3.0 * (names == "ale")
    old = rng.normal(size=old.shape) + (names == "bread")[:, None]
    found = kl.upgrade(old, other, names, penalty=1.0, few_labels=5)
    assert found.advised == "retrained"
    assert found.sentence().startswith("Retrain: no map comes within 0.")
    assert all(way.r2 < 0.3 for way in found.ways.values() if way.r2 is not None)
    del new


def test_copies_do_not_answer_for_one_another_where_labels_are_few():
    """Rows that say nothing of classes drawn at random, each of them four times."""
    rng = np.random.default_rng(2)
    codes = np.repeat(rng.integers(0, 3, 150), 4)
    new = np.repeat(rng.normal(size=(150, 40)), 4, axis=0)
    groups = np.repeat(np.arange(150), 4)
    folds = share_out(codes, groups)
    held = HeldOut(None, codes, codes, folds, ("a", "b", "c"), groups)
    none = np.zeros((len(codes), 3), np.float32)
    found, _ = refits.few_labels(new, none, held, number=60, standardised=True)
    assert abs(np.mean(np.argmax(found, axis=1) == codes) - 1 / 3) < 0.12
    apart = held._replace(groups=np.arange(len(codes)))
    leaked, _ = refits.few_labels(new, none, apart, number=60, standardised=True)
    assert np.mean(np.argmax(leaked, axis=1) == codes) > 0.6
    noise = np.repeat(rng.normal(size=150), 4)
    options = {"number": 60}
    numbers, _ = few_numbers(new, np.zeros(600), noise, folds, groups, **options)
    assert np.mean((numbers - noise) ** 2) > 0.9 * np.var(noise)
    numbers, _ = few_numbers(new, np.zeros(600), noise, folds, np.arange(600), **options)
    assert np.mean((numbers - noise) ** 2) < 0.7 * np.var(noise)


@pytest.mark.thorough
def test_a_gain_by_scale_alone_is_warned_of():
    rng = np.random.default_rng(0)
    codes = rng.choice(3, 1500, p=(0.8, 0.1, 0.1))
    old = 0.6 * np.eye(3)[codes] @ rng.normal(size=(3, 6)) + rng.normal(size=(1500, 6))
    mean = old.mean(axis=0)
    grown = 2.0 * (old - mean) + mean
    found = kl.upgrade(old, grown, NAMES[codes], penalty=1.0, maps=("raw",))
    assert any("is scale alone" in warning for warning in found.warnings)
    assert found.ways["raw"].prediction.metrics["log_loss"].value > (
        found.before.metrics["log_loss"].value
    )
    assert not kl.upgrade(old, old, NAMES[codes], penalty=1.0, maps=("raw",)).warnings


def test_the_same_version_flips_nothing_and_folds_are_shared():
    old, _, names = _versions()
    found = kl.upgrade(old, old, names, penalty=1.0)
    for name in ("raw", "rotation", "retrained"):
        assert found.ways[name].flips.churn.value == 0.0
    assert found.advised == "raw"
    assert found.before.metrics == found.ways["raw"].prediction.metrics


def test_a_given_head_answers_itself():
    old, new, names = _versions()
    learnt = np.arange(len(old)) < 200
    head = LogisticRegression(max_iter=2000).fit(old[learnt], names[learnt])
    found = kl.upgrade(old, new, names, head=head, trained_on=learnt)
    counted = found.before.held_out.folds >= 0
    np.testing.assert_array_equal(counted, ~learnt)
    np.testing.assert_array_equal(NAMES[found.before.predicted], head.predict(old))
    raw = found.ways["raw"]
    after = head.predict(new)
    wrong = (head.predict(old) == names) & (after != names)
    assert raw.flips.negative_flips.value == pytest.approx(np.mean(wrong[~learnt]))

    def apply_fn(rows):
        return np.log(head.predict_proba(rows))

    same = kl.upgrade(old, new, names, head=apply_fn, trained_on=learnt)
    np.testing.assert_array_equal(same.ways["raw"].prediction.predicted, raw.prediction.predicted)


@pytest.mark.thorough
def test_items_of_the_new_version_alone_are_predicted_apart_and_wider():
    old, new, names = _versions(n=800)
    ids = np.array([f"i{i}" for i in range(800)])
    found = kl.upgrade(
        old[:700], new[100:], names[:700], ids=(ids[:700], ids[100:]), penalty=1.0,
        maps=("rotation",),
    )  # fmt: skip
    assert found.new_items.count == 100
    assert len(found.ids) == 600
    assert any(
        "600 items joined; 100 of old are gone, 100 of new are new" in n for n in found.notes
    )
    for name, own in found.new_items.ways.items():
        plain = found.ways[name].prediction.value
        assert own["macro_f1"].value == pytest.approx(plain.value, abs=0.06)
        assert own["macro_f1"].high - own["macro_f1"].low > plain.high - plain.low
    assert len(found.tables()) == 3


@pytest.mark.slow
def test_mlps_are_trained_and_have_a_floor_by_seed():
    old, new, names = _versions()
    found = kl.upgrade(old, new, names, decoder=decoders.Mlp(4), maps=("rotation",))
    assert 0.0 < found.floor.value < 0.3
    assert any("MLPs were trained" in note for note in found.notes)
    values = {name: way.prediction.value.value for name, way in found.ways.items()}
    assert min(values["rotation"], values["distilled"], values["retrained"]) > 0.5
    plain = kl.upgrade(
        old, new, names, decoder=decoders.Mlp(4), maps=("rotation",), train=False, draws=10
    )
    assert plain.floor is None
    assert not any("trained" in note for note in plain.notes)
    assert plain.ways["rotation"].prediction.value.value == pytest.approx(
        values["rotation"], abs=0.1
    )


def test_class_means_and_unequal_widths():
    old, new, names = _versions()
    wide = np.hstack([new, new[:, :2] ** 2])
    found = kl.upgrade(old, wide, names, decoder=decoders.InnerProduct())
    assert "raw" not in found.ways
    assert "few labels" not in found.ways
    codes = np.unique(names, return_inverse=True)[1]
    folds, taught = found.before.held_out.folds, found.before.held_out
    assert found.ways["rotation"].prediction.value.value > 0.3
    after = np.empty(len(codes), np.int64)
    for k in range(5):
        rest = folds != k
        means = np.stack([old[rest][codes[rest] == c].mean(axis=0) for c in range(4)])
        given = np.argmax(old @ means.T, axis=1)
        means = np.stack([wide[rest][given[rest] == c].mean(axis=0) for c in range(4)])
        after[folds == k] = np.argmax(wide[folds == k] @ means.T, axis=1)
    np.testing.assert_array_equal(found.ways["distilled"].prediction.predicted, after)
    assert len(taught.folds) == len(codes)


def test_copies_flip_together_so_that_shares_are_known_less_well():
    rng = np.random.default_rng(0)
    items = rng.random(200) < 0.2
    old = np.zeros(1000, np.int32)
    new = np.repeat(items, 5).astype(np.int32)
    folds = np.repeat(np.arange(200) % 5, 5).astype(np.int32)
    groups = np.repeat(np.arange(200), 5)
    held = HeldOut(None, old, np.zeros(1000, np.int32), folds, ("a", "b"), np.arange(1000))
    apart = flips(held, held._replace(predicted=new)).negative_flips
    together = flips(
        held._replace(groups=groups), held._replace(predicted=new, groups=groups)
    ).negative_flips
    assert together.value == apart.value == pytest.approx(np.mean(new))
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(np.sqrt(5), rel=0.05)


def test_flips_of_each_kind_and_wilson_s_interval():
    target = np.array([0, 0, 0, 1, 1, 2, 2, 2], np.int32)
    old = np.array([0, 0, 1, 1, 0, 0, 1, 2], np.int32)
    new = np.array([0, 1, 0, 1, 0, 1, 2, 0], np.int32)
    folds = np.array([0, 1, 2, 3, 4, 0, 1, -1], np.int32)
    held = HeldOut(None, old, target, folds, ("a", "b", "c"), np.arange(8, dtype=np.int32))
    found = flips(held, held._replace(predicted=new))
    np.testing.assert_array_equal(found.negative_rows, [1])
    np.testing.assert_array_equal(found.positive_rows, [2, 6])
    np.testing.assert_array_equal(found.other_rows, [5])
    assert found.churn.value == pytest.approx(4 / 7)
    # Wilson (1927) at 95%: 0 of 10 gives [0, 0.278], 1 of 10 [0.018, 0.404].
    assert share(0, 10, 0.95).high == pytest.approx(0.2775, abs=1e-4)
    assert share(1, 10, 0.95)[1:3] == pytest.approx((0.0179, 0.4042), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda o, n, y: ((o[:5], n, y[:5]), {}), "old and new must hold the same items"),
        (lambda o, n, y: ((o, n, y[:5]), {}), "target must have a class or a number for each item"),
        (lambda o, n, y: ((o, n, [None] * len(o)), {}), "target: no common item has a label"),
        (lambda o, n, y: ((o, n, [["a", "b"]] * len(o)), {}), "got several labels an item"),
        (
            lambda o, n, y: ((o, n, y), {"ids": (np.arange(len(o)), np.arange(len(o)) + 999)}),
            "no item in common",
        ),
        (
            lambda o, n, y: ((o, n, y), {"ids": (np.zeros(len(o)), np.arange(len(o)))}),
            "ids of old: an id is there twice",
        ),
        (lambda o, n, y: ((o, n * np.nan, y), {}), "new must be finite"),
        (lambda o, n, y: ((o, n, y), {"maps": ("linear",)}), "maps must be among"),
        (lambda o, n, y: ((o, n, y), {"maps": "rotation"}), "maps must be a list"),
        (lambda o, n, y: ((o, n, y), {"few_labels": 0}), "few_labels must be at least 1"),
        (lambda o, n, y: ((o, n, y), {"head": 3}), "head: expected a fitted"),
        (lambda o, n, y: ((o, n, y), {"head": LogisticRegression()}), "expected a fitted class"),
        (lambda o, n, y: ((o, n, y), {"head": decoders.Mlp(4)}), "no trained parameters"),
        (
            lambda o, n, y: ((o, n, y), {"head": LogisticRegression().fit(o, y == "ale")}),
            "head: has 2 classes that the target does not have, 'False', 'True'",
        ),
        (lambda o, n, y: ((o, n, y), {"head": lambda x: 1 / 0}), "head: failed on rows .*Zero"),
        (lambda o, n, y: ((o, n, y), {"head": lambda x: x[:, :2]}), r"expected scores \(400, 4\)"),
        (lambda o, n, y: ((o, n, y), {"decoder": decoders.Neighbours(3)}), "k nearest neighbours"),
        (lambda o, n, y: ((o, n, y), {"new_items": n[:, :2]}), "new_items must have the columns"),
        (
            lambda o, n, y: ((o, n, y), {"trained_on": np.ones(len(o), bool)}),
            "trained_on: the head",
        ),
    ],
)
def test_bad_input_is_named(change, match):
    given, options = change(*_versions())
    with pytest.raises(ValueError, match=match):
        kl.upgrade(*given, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("negative_flips<0.03", ("", "negative_flips", "<", 0.03)),
        ("churn <= 5%", ("", "churn", "<=", 0.05)),
        ("ridge-map.macro_f1>=.3", ("ridge-map", "macro_f1", ">=", 0.3)),
    ],
)
def test_gates_are_parsed(text, expected):
    assert gate.parse([text])[0][1:] == expected


def test_gates_may_be_joined_and_others_are_refused():
    assert len(gate.parse(["churn<1 and accuracy>0", "log_loss<2,macro_f1>0"])) == 4
    for text in ("", "flips<1", "churn==1", "churn<x", "__import__('os')", "churn<1.2.3"):
        with pytest.raises(ValueError, match="--gate"):
            gate.parse([text])


@pytest.fixture
def files(tmp_path):
    old, new, names = _versions(n=300)
    ids = [f"i{i}" for i in range(300)]
    for name, rows, kept in (("old", old, slice(0, 280)), ("new", new, slice(20, 300))):
        frame = pd.DataFrame(rows[kept], columns=[f"x{j}" for j in range(5)])
        frame.insert(0, "id", ids[kept])
        frame.to_parquet(tmp_path / f"{name}.parquet")
    pd.DataFrame({"id": ids, "label": names}).to_csv(tmp_path / "labels.csv", index=False)
    return [
        "upgrade", str(tmp_path / "old.parquet"), str(tmp_path / "new.parquet"), "--labels",
        str(tmp_path / "labels.csv"), "--no-cache",
    ]  # fmt: skip


@pytest.mark.thorough
def test_the_command_joins_saves_and_gates(files, tmp_path, capsys):
    saved, told = tmp_path / "map.safetensors", tmp_path / "found.json"
    more = ["--save", str(saved), "--json", str(told), "--gate", "negative_flips<0.0001"]
    assert main([*files, *more]) == 1
    printed = capsys.readouterr()
    assert "260 rows joined" in printed.out
    assert "gate 'negative_flips<0.0001' not passed" in printed.err
    found = json.loads(told.read_text())
    assert found["advised"] in maps.MAPS
    assert " ".join(found["conclusion"].split()) in " ".join(printed.out.split())
    assert found["new_items"]["count"] == 20
    assert found["gates"][0]["passed"] is False
    flipped = found["ways"][found["advised"]]["flipped"]["negative"]
    assert all(id_.startswith("i") and 20 <= int(id_[1:]) < 280 for id_ in flipped)
    assert maps.load(saved).name == found["advised"]
    assert main([*files, "--gate", "rotation.macro_f1>0.2", "--maps", "rotation"]) == 0


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (["--gate", "flips<1"], 2, "expected NAME<NUMBER"),
        (["--save", "map.bin"], 2, "a map is saved as .safetensors"),
        (["--head", "nothing"], 1, "expected module:name"),
        (["--gate", "shift.churn<1"], 1, "no way 'shift'"),
    ],
)
def test_the_command_refuses(files, more, code, told, capsys):
    assert main([*files, *more]) == code
    printed = "".join(char for char in capsys.readouterr().err if char not in "│╭╮╰╯─")
    assert told in " ".join(printed.split())
