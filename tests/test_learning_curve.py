"""Learning curves on made data whose truth is known, and laws of them."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from kernlens import io, lens, probes
from kernlens.probes import growth, learning_curve, power_laws
from kernlens.probes.learning_curve import _ill_behaved
from kernlens.show.values import to_json
from kernlens.types import Labels


def items(seed, n, *, dim=16, spread=0.45, shares=(0.4, 0.3, 0.2, 0.1)):
    """Normal classes about the same means whatever the seed."""
    rng = np.random.default_rng([11, seed])
    centres = spread * np.random.default_rng(5).normal(size=(len(shares), dim))
    codes = rng.choice(len(shares), n, p=shares).astype(np.int32)
    names = tuple(f"class {c}" for c in range(len(shares)))
    return centres[codes] + rng.normal(size=(n, dim)), Labels(codes, names)


def test_power_laws_find_the_law_that_made_the_points():
    times = 2.0 ** -np.arange(5)
    for exponent in (0.3, 0.6, 1.0):
        values = 0.8 - 0.1 * times**-exponent
        laws = power_laws.fit(times, values, np.full(5, 1e-3), exponent=exponent)
        mean, error = laws.at(np.array([1.0, 4.0, 16.0]))
        truth = 0.8 - 0.1 * np.array([1.0, 4.0, 16.0]) ** -exponent
        np.testing.assert_allclose(mean, truth, atol=0.012)  # the exponents are a grid
        assert error[0] < error[1] < error[2]
        assert laws.exponent == pytest.approx(exponent, rel=0.25)


def test_more_labels_a_parameter_fall_faster():
    found = [power_laws.typical_exponent(labels, 100) for labels in (10, 100, 1000, 1e6)]
    assert found == sorted(found)
    assert found[-1] == 1.0
    assert 0.2 <= found[0] < 0.4


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("times", "n", "bound"),
    [(4, 400, 0.025), pytest.param(16, 400, 0.03, marks=pytest.mark.slow)],
)
def test_the_curve_says_what_more_items_bring(times, n, bound):
    """From 400 items to the probe's own value on 1,600 and 6,400 others."""
    truth = np.mean(
        [
            probes.class_means(*items(100 + i, times * n), draws=2).metrics["macro_f1"].value
            for i in range(4)
        ]
    )
    now, errors, inside = [], [], []
    for seed in range(12):
        x, labels = items(seed, n)
        found = learning_curve(x, labels, probe=probes.class_means, seed=seed)
        own = found.at(times)
        now.append(found.at(1.0).value - truth)
        errors.append(own.value - truth)
        inside.append(own.low <= truth <= own.high)
    # The 400 items at hand are off by themselves; the mean over sets shows what the curve adds.
    assert abs(np.mean(errors)) < 0.012
    assert np.mean(np.abs(errors)) < bound
    assert abs(np.mean(errors)) < 0.5 * abs(np.mean(now))
    assert np.mean(inside) >= 0.75


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("dim", "spread"), [(16, 0.45), pytest.param(64, 0.25, marks=pytest.mark.slow)]
)
def test_a_linear_head_grows_as_normal_classes_do(dim, spread):
    """From 100 rows to logistic regression on 1,600 others; a power law alone is off by more."""
    given = {"dim": dim, "spread": spread}
    truth = np.mean(
        [probes.logistic(*items(100 + i, 1600, **given), draws=2).metrics["accuracy"].value
         for i in range(2)]
    )  # fmt: skip
    errors, by_law = [], []
    for seed in range(4):
        x, labels = items(seed, 100, **given)
        whole = probes.logistic(x, labels, draws=2)
        options = {"metric": "accuracy", "whole": whole, "seed": seed}
        errors.append(learning_curve(x, labels, **options).at(16.0).value - truth)
        # Of a function of its own nothing is known but what it reaches.
        own = learning_curve(x, labels, probe=lambda *a, **k: probes.logistic(*a, **k), **options)
        by_law.append(own.at(16.0).value - truth)
    assert np.mean(np.abs(errors)) < 0.1  # most of it is that of the 100 rows at hand
    assert np.mean(np.abs(errors)) < 0.8 * np.mean(np.abs(by_law))


def test_classes_that_only_sampling_parts_have_one_mean():
    rng = np.random.default_rng(3)
    x, codes = rng.normal(size=(200, 30)), rng.integers(0, 5, 200)
    assert not np.any(growth.normal_classes(x, codes).means)
    reached = {"accuracy": 0.2, "macro_f1": 0.19}
    assert growth.beyond(x, codes, reached, (4.0, 16.0)) == {}


def test_the_distance_of_two_classes_is_that_of_their_parents():
    rng = np.random.default_rng(4)
    codes = np.arange(4000) % 2
    x = rng.normal(size=(4000, 20)) * np.geomspace(0.01, 100.0, 20)
    x[:, 0] += 0.02 * codes  # two deviations
    means = growth.normal_classes(x, codes).means
    np.testing.assert_allclose(np.linalg.norm(means[1] - means[0]), 2.0, rtol=0.15)


def test_growth_is_drawn_where_it_can_be():
    x, labels = items(0, 200)
    reached = {"accuracy": 0.5, "macro_f1": 0.5}
    assert growth.beyond(x, np.zeros(200, int), reached, (4.0,)) == {}
    with np.errstate(over="ignore"):
        assert growth.beyond(1e307 * x, labels.codes, reached, (4.0,)) == {}
    assert growth.beyond(np.ones((200, 3)), labels.codes, reached, (4.0,)) == {}
    more = np.hstack([x, np.full((200, 5), 7.0)])
    found = growth.beyond(x, labels.codes, reached, (4.0,))
    assert growth.beyond(more, labels.codes, reached, (4.0,)) == found
    assert list(growth.beyond(x, labels.codes, reached, (4.0, 1e9))["accuracy"]) == [4.0]
    wide = np.zeros((200, growth.MOST_COLUMNS + 1))
    assert growth.beyond(wide, labels.codes, reached, (4.0,)) == {}
    parted = np.eye(4)[labels.codes]  # nothing is left within the classes
    assert growth.beyond(parted, labels.codes, reached, (4.0,))["accuracy"][4.0] > 0.99


def test_the_curve_goes_through_the_prediction_and_what_was_measured():
    x, labels = items(0, 400)
    whole = probes.class_means(x, labels)
    found = learning_curve(x, labels, probe=probes.class_means, whole=whole)
    assert found.at(1.0).value == pytest.approx(whole.metrics["macro_f1"].value, abs=1e-9)
    sample = whole.samples["macro_f1"]
    own = found.at(1.0)
    assert sample.high - sample.low <= own.high - own.low < 1.2 * (sample.high - sample.low)
    forecast = found.forecasts["macro_f1"]
    kept = whole.held_out.folds >= 0
    pooled = f1_score(whole.target[kept], whole.predicted[kept], average="macro")
    assert forecast.measured[0] == pytest.approx(pooled)
    np.testing.assert_allclose(found.sizes, [400, 200, 100, 50])
    for t, value in zip(found.sizes / 400, forecast.measured, strict=True):
        assert abs(found.at(t).value - value) < 0.06
    widths = [found.at(t).high - found.at(t).low for t in (1.0, 2.0, 4.0, 16.0)]
    assert widths == sorted(widths)


def test_labels_needed_are_where_the_curve_crosses():
    x, labels = items(1, 400)
    found = learning_curve(x, labels, probe=probes.class_means)
    target = found.at(3.0).value
    assert found.needed(target) == pytest.approx(1200, rel=0.05)
    assert found.needed(0.99) == np.inf
    with pytest.raises(ValueError, match="the curve has"):
        found.needed(0.5, "r2")
    for wrong in (0.0, 1e-6, 300, "4", None, np.array([1.0, 2.0])):
        with pytest.raises(ValueError, match="times must be numbers from 1/16 to 256"):
            found.at(wrong)
    for wrong in (np.nan, np.inf, "a"):
        with pytest.raises(ValueError, match="value must be a finite number"):
            found.needed(wrong)


def test_labels_are_needed_from_where_the_curve_stays_above():
    x, labels = items(1, 400)
    found = learning_curve(x, labels, probe=probes.class_means)
    own = found.forecasts["macro_f1"]
    falling = own._replace(laws=own.laws._replace(means=own.laws.means * np.array([1.0, -1.0])))
    found = found._replace(forecasts={"macro_f1": falling})
    assert found.at(0.1).value > found.at(1.0).value > found.at(16.0).value
    assert found.needed(found.at(1.0).value) == np.inf


@pytest.mark.thorough
def test_features_that_say_nothing_have_a_flat_curve():
    codes = np.random.default_rng(0).integers(0, 4, 200).astype(np.int32)
    found = learning_curve(np.ones((200, 3), np.float32), Labels(codes, tuple("abcd")))
    assert abs(found.at(16.0).value - found.at(1.0).value) < 0.02


@pytest.mark.thorough
def test_a_file_has_the_curve_of_its_array(tmp_path):
    x, labels = items(3, 240)
    x = x.astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    plain = learning_curve(x, labels)
    read = learning_curve(io.open_embeddings(tmp_path / "x.npy"), labels)
    for t in (0.25, 4.0, 16.0):
        assert read.at(t).value == pytest.approx(plain.at(t).value, abs=2e-3)


@pytest.mark.thorough
def test_a_log_loss_of_heads_chosen_by_another_metric_is_told():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 200).astype(np.int32)
    x = 20.0 * rng.normal(size=(3, 10))[codes] + rng.normal(size=(200, 10))
    labels = Labels(codes, tuple("abc"))
    whole = probes.logistic(x, labels, draws=2)
    assert any("one chosen by log loss has" in note for note in whole.notes)
    assert any("heads chosen by macro-F1" in n for n in learning_curve(x, labels).notes)
    assert not any("log loss" in n for n in probes.logistic(x, labels, metric="log_loss").notes)


@pytest.mark.thorough
def test_a_loss_falls_and_never_below_nothing():
    x, labels = items(2, 320)
    found = learning_curve(x, labels, probe=probes.discriminant, metric="log_loss")
    values = [found.at(t) for t in (0.25, 1.0, 4.0, 16.0)]
    assert [own.value for own in values] == sorted((own.value for own in values), reverse=True)
    assert all(0.0 < own.low < own.value < own.high for own in values)
    assert found.needed(found.at(2.0).value) == pytest.approx(640, rel=0.05)


@pytest.mark.thorough
def test_a_curve_that_bends_down_is_called_ill_behaved():
    x, labels = items(3, 640, spread=1.0)

    def worse_with_more(features, labels, **options):
        """Answers that are wrong the more often the more rows there are."""
        found = probes.class_means(features, labels, **options)
        wrong = np.random.default_rng(0).random(len(found.target)) < len(labels.codes) / 1000
        predicted = np.where(wrong, (found.predicted + 1) % 4, found.predicted).astype(np.int32)
        return found._replace(
            predicted=predicted, held_out=found.held_out._replace(predicted=predicted)
        )

    found = learning_curve(x, labels, probe=worse_with_more)
    assert any(note.startswith("ill-behaved: macro-F1 is worse at 640") for note in found.notes)
    good = learning_curve(x, labels, probe=probes.class_means)
    assert not any("ill-behaved" in note for note in good.notes)


def test_rare_classes_that_parts_lack_are_told():
    x, labels = items(4, 400)
    codes = labels.codes.copy()
    codes[:3] = 4
    rare = Labels(codes, (*labels.names, "rare"))
    found = learning_curve(x, rare, probe=probes.class_means)
    assert any("1 of 5 classes are too small" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": ()}, "times must have at least one"),
        ({"times": (1.0, -2.0)}, "times must be numbers"),
        ({"level": 1.0}, "level in"),
        ({"metric": "r2"}, "metric must be one"),
        ({"metric": "balanced_accuracy"}, "a learning curve has"),
    ],
)
def test_mistakes_are_named(options, message):
    x, labels = items(0, 200)
    with pytest.raises(ValueError, match=message):
        learning_curve(x, labels, probe=probes.class_means, **options)


def test_too_few_rows_and_other_targets_are_refused():
    x, labels = items(0, 60)
    with pytest.raises(ValueError, match="needs 80 labelled rows or more; got 60"):
        learning_curve(x, labels, probe=probes.class_means)
    with pytest.raises(ValueError, match="made for a target of classes"):
        lens.predict(x, x[:, 0] + 0.5, curve=True)


def test_verbs_print_and_write_the_curve():
    x, labels = items(5, 400)
    found = lens.predict(x, labels, probe=probes.class_means, curve=True)
    expected = f"at 4x the labels macro-F1 {found.curve.at(4.0):.3f}"
    lines = repr(found).splitlines()
    assert lines[1].endswith(expected)
    assert len(lines) <= 12
    assert lens.predict(x, labels, probe=probes.class_means).curve is None
    compared = lens.compare(
        {"all": x, "half": x[:, :8]}, labels, probe=probes.class_means, curve=True
    )
    assert "; at 4x the labels macro-F1 " in compared.sentence()
    written = json.loads(json.dumps(to_json(found.curve.json())))
    assert [row["times"] for row in written["rows"]][3:6] == ["1x", "2x", "4x"]
    assert written["rows"][5]["macro_f1"]["value"] == found.curve.at(4.0).value
    assert "16x" in repr(found.curve)
    assert "<table>" in found.curve._repr_html_()


@pytest.mark.thorough
def test_growth_beyond_the_labels_is_no_ill_behaviour():
    """What is drawn may lie off the law of what was measured, which is judged alone."""
    x, labels = items(1, 400)
    found = learning_curve(x, labels)
    own = found.forecasts["macro_f1"]
    off = own.laws._replace(means=own.laws.means + np.array([0.2, 0.0]))
    assert _ill_behaved("macro_f1", own._replace(laws=off), found.sizes) == []
    (note,) = _ill_behaved("macro_f1", own._replace(alone=off), found.sizes)
    assert note.startswith("ill-behaved: no power law goes through macro-F1")
