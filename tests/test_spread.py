"""Intervals of one training, of the mean of ten and of another sample: coverage, and laws."""

import numpy as np
import pytest
from scipy.stats import hypergeom
from sklearn.metrics import balanced_accuracy_score, f1_score

from kernlens import probes, targets
from kernlens.probes import paired, splits, spread
from kernlens.probes.folds import class_of_groups, share_out
from kernlens.probes.held_out import HeldOut
from kernlens.probes.prediction import Prediction
from kernlens.train.heads.splits import stratified_split
from kernlens.types import Classification, Labels

NAMES = ("accuracy", "micro_f1", "macro_f1", "balanced_accuracy")


def folds_of(codes, rng, count=5):
    """Stratified folds; the only row of a class is in none."""
    folds = np.full(len(codes), -1, np.int32)
    for c in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == c))
        if len(rows) > 1:
            folds[rows] = (np.arange(len(rows)) + c) % count
    return folds


def held_out(target, predicted, folds=None, groups=None):
    target = np.asarray(target, np.int32)
    n = len(target)
    folds = folds_of(target, np.random.default_rng(0)) if folds is None else folds
    groups = np.arange(n, dtype=np.int32) if groups is None else groups
    names = tuple(f"class {c}" for c in range(int(target.max()) + 1))
    return HeldOut(None, np.asarray(predicted, np.int32), target, folds, names, groups)


def made(seed, n=400, sizes=(0.5, 0.3, 0.15, 0.05), right=0.7):
    """Classes and answers of which a share is right."""
    rng = np.random.default_rng(seed)
    target = np.repeat(np.arange(len(sizes)), np.round(np.array(sizes) * n).astype(int))
    guess = rng.integers(len(sizes), size=len(target))
    return target, np.where(rng.random(len(target)) < right, target, guess)


def nearest_means(x, codes, train, size):
    sums = np.zeros((size, x.shape[1]))
    np.add.at(sums, codes[train], x[train])
    means = sums / np.maximum(np.bincount(codes[train], minlength=size), 1)[:, None]
    return np.argmin(((x[:, None] - means) ** 2).sum(axis=2), axis=1)


def value_of(name, target, predicted):
    """A metric of one test set, without the library; scikit-learn's take milliseconds."""
    table = np.zeros((4, 4))
    np.add.at(table, (target, predicted), 1)
    true, given, right = table.sum(axis=1), table.sum(axis=0), np.diag(table)
    if name == "macro_f1":
        met = true + given > 0
        return np.mean(2.0 * right[met] / (true + given)[met])
    if name == "balanced_accuracy":
        return np.mean(right[true > 0] / true[true > 0])
    return right.sum() / table.sum()


def test_the_metrics_of_a_test_set_are_scikit_learns():
    target, predicted = made(9, n=50)
    expected = f1_score(target, predicted, average="macro", zero_division=0)
    assert value_of("macro_f1", target, predicted) == pytest.approx(expected)
    expected = balanced_accuracy_score(target, predicted)
    assert value_of("balanced_accuracy", target, predicted) == pytest.approx(expected)


def test_test_sets_are_drawn_as_a_split_draws_them():
    target, predicted = made(0, n=60, sizes=(0.6, 0.3, 0.1))
    held = held_out(target, predicted)
    rows = splits.answers_of(held)
    sets = splits.test_sets(rows, (predicted,), draws=4000, seed=0)
    (drawn,) = sets.metrics()
    drawn_by = [stratified_split(seed, target) for seed in range(1500)]
    for name in NAMES:
        own = [value_of(name, target[at], predicted[at]) for at in drawn_by]
        error = np.std(own) / np.sqrt(len(own))
        assert abs(np.mean(own) - np.mean(getattr(drawn, name))) < 4 * error * 1.3
        assert np.std(getattr(drawn, name)) == pytest.approx(np.std(own), rel=0.1)


def test_of_two_classes_the_width_is_that_of_the_hypergeometric_distribution():
    target = np.repeat([0, 1], [200, 100])
    predicted = target.copy()
    predicted[:60] = 1
    rows = splits.answers_of(held_out(target, predicted))
    sets = splits.test_sets(rows, (predicted,), draws=20_000, seed=1)
    variance = hypergeom(200, 140, 40).var() / 60**2
    assert np.var(sets.metrics()[0].accuracy) == pytest.approx(variance, rel=0.05)


def test_the_mean_over_test_sets_needs_few_draws():
    target, predicted = made(1)
    rows = splits.answers_of(held_out(target, predicted))
    found = []
    for seed in range(12):
        sets = splits.test_sets(rows, (predicted,), draws=100, seed=seed)
        (drawn,) = sets.metrics()
        psi = spread.INFLUENCES["macro_f1"](target, predicted)
        found.append((sets.mean(drawn.macro_f1, psi), np.mean(drawn.macro_f1)))
    better, plain = np.std(found, axis=0)
    assert better < 0.3 * plain
    exact = spread.of_classes(held_out(target, predicted), draws=2)["accuracy"].one.value
    assert exact == pytest.approx(
        np.mean(target == predicted), abs=1e-12
    )  # quotas are in proportion


@pytest.mark.parametrize("seed", range(6))
def test_the_point_lies_in_each_interval_also_with_rare_classes(seed):
    rng = np.random.default_rng(seed)
    target = np.concatenate([np.zeros(200), np.ones(60), np.repeat(np.arange(2, 40), 2)])
    predicted = np.where(rng.random(len(target)) < 0.6, target, rng.integers(40, size=len(target)))
    found = spread.of_classes(held_out(target, predicted), seed=seed)
    for own in found.values():
        for interval in own:
            assert interval.value == own.one.value
            assert 0.0 <= interval.low < interval.value < interval.high <= 1.0


def test_intervals_grow_with_the_level_and_the_mean_is_the_narrowest():
    held = held_out(*made(2))
    low, high = (spread.of_classes(held, level=level) for level in (0.5, 0.95))
    for name in NAMES:
        for narrow, wide in zip(low[name], high[name], strict=True):
            assert wide.low < narrow.low < narrow.high < wide.high
        one, mean, sample = (own.high - own.low for own in high[name])
        assert mean < sample < one


def test_the_order_of_rows_and_the_names_of_classes_do_not_matter():
    target, predicted = made(3)
    held = held_out(target, predicted)
    order = np.random.default_rng(0).permutation(len(target))
    same = held._replace(
        predicted=held.predicted[order], target=held.target[order], folds=held.folds[order]
    )
    losses = np.random.default_rng(1).exponential(size=len(target))
    base = [*spread.of_classes(held).values(), spread.of_mean(held, losses)]
    moved = [*spread.of_classes(same).values(), spread.of_mean(same, losses[order])]
    for first, second in zip(base, moved, strict=True):
        for one, other in zip(first, second, strict=True):
            np.testing.assert_allclose(one[:3], other[:3], rtol=1e-10)


def test_a_perfect_answer_may_still_miss():
    target = np.repeat([0, 1], 100)
    found = spread.of_classes(held_out(target, target))["accuracy"]
    assert found.one.high == 1.0
    assert 0.95 < found.one.low < 0.999


def test_copies_count_once():
    target, predicted = made(4, n=100)
    held = held_out(target, predicted)
    five = held_out(
        np.repeat(target, 5), np.repeat(predicted, 5), np.repeat(held.folds, 5),
        np.repeat(held.groups, 5),
    )  # fmt: skip
    apart = five._replace(groups=np.arange(500, dtype=np.int32))
    for name in NAMES:
        own, copied, wrong = (
            spread.of_classes(one, draws=2000)[name] for one in (held, five, apart)
        )
        for i in range(3):
            width, same, narrow = (one[i].high - one[i].low for one in (own, copied, wrong))
            assert same == pytest.approx(width, rel=0.12)
            assert narrow < 0.8 * width


def test_folds_that_differ_widen_and_equal_ones_do_not():
    target = np.tile([0, 1], 250)
    folds = (np.arange(500) // 100).astype(np.int32)
    even = np.where(np.arange(500) % 10 < 2, 1 - target, target)
    uneven = np.where((folds == 0) & (np.arange(500) % 100 < 90), 1 - target, target)
    rows = splits.answers_of(held_out(target, even, folds))
    psi = spread.INFLUENCES["accuracy"](target, even)
    assert spread.fold_excess(psi, rows) == 1.0
    psi = spread.INFLUENCES["accuracy"](target, uneven)
    assert spread.fold_excess(psi, rows) > 5.0
    each = rows._replace(folds=np.arange(500))
    assert spread.fold_excess(psi, each) == 1.0


def test_the_fold_of_a_group_of_mixed_classes_does_not_hang_on_the_order_of_rows():
    rng = np.random.default_rng(4)
    groups, codes = rng.integers(0, 30, 200), rng.integers(0, 3, 200)
    order = rng.permutation(200)
    folds = share_out(codes, groups)
    np.testing.assert_array_equal(share_out(codes[order], groups[order]), folds[order])
    assert class_of_groups(np.array([2, 1, 1, 2, 0]), np.array([0, 0, 0, 1, 1])).tolist() == [1, 0]
    rows = splits.Answers(codes, folds, groups)
    taken = splits.test_sets(rows, (codes,), draws=4000, seed=0).expected
    again = splits.Answers(codes[order], folds[order], groups[order])
    other = splits.test_sets(again, (codes[order],), draws=4000, seed=0).expected
    np.testing.assert_array_equal(taken, other)


def test_a_difference_does_not_hang_on_which_side_has_copies():
    rng = np.random.default_rng(5)
    target = np.arange(240) % 3
    groups = np.arange(240) // 12 * 3 + target  # four copies of a row, its class their own
    sides = []
    for own, spoilt in ((np.arange(240), 0.3), (groups, 0.4)):
        wrong = rng.random(240)[own] < spoilt
        folds = share_out(target, own)
        given = np.where(wrong, (target + 1) % 3, target)
        held = HeldOut(None, given, target, folds, tuple("abc"), own.astype(np.int32))
        kinds = spread.of_answers(held, 1.0 * wrong, "error_rate", draws=50)
        sides.append(
            Prediction(kinds.metrics, "macro_f1", "error_rate", given, target, 1.0 * wrong,
                       tuple("abc"), held_out=held)
        )  # fmt: skip
    a, b = sides
    found, turned = paired.paired_difference(a, b), paired.paired_difference(b, a)
    assert found.high - found.low == pytest.approx(turned.high - turned.low, rel=1e-9)
    alone = a._replace(held_out=a.held_out._replace(folds=b.held_out.folds))
    bare = b._replace(held_out=b.held_out._replace(groups=a.held_out.groups))
    narrow = paired.paired_difference(alone, bare)
    # Copies answer alike: taken for rows of their own they say too much.
    assert found.high - found.low > 1.3 * (narrow.high - narrow.low)


def test_classes_too_small_to_judge_are_named():
    target = np.repeat([0, 1, 2, 3], [50, 19, 3, 20])
    held = held_out(target, target)
    (note,) = spread.too_few(held, held.names)
    assert note.startswith("2 of 4 classes have fewer than 20 rows")
    assert note.endswith("class 2 (3), class 1 (19)")
    assert spread.too_few(held_out([0] * 30 + [1] * 30, [0] * 60), ("a", "b")) == ()


def test_quotas_are_those_of_a_split():
    codes = np.repeat(np.arange(6), [1, 2, 3, 8, 40, 101])
    held = stratified_split(3, codes)
    np.testing.assert_array_equal(
        targets.held_out_of(np.bincount(codes)), np.bincount(codes[held], minlength=6)
    )


def trained_and_held(seed, *, n=300, dim=8, splits=20):
    """Nearest class means: metrics of trained splits, and answers by five folds."""
    rng = np.random.default_rng(seed)
    codes = np.sort(rng.choice(4, n, p=(0.5, 0.25, 0.15, 0.1))).astype(np.int32)
    x = 0.7 * rng.normal(size=(4, dim))[codes] + rng.normal(size=(n, dim))
    folds, predicted = folds_of(codes, rng), np.zeros(n, np.int32)
    for fold in range(5):
        at = folds == fold
        predicted[at] = nearest_means(x, codes, ~at, 4)[at]
    values = {name: [] for name in NAMES}
    for split in range(splits):
        at = stratified_split(split, codes)
        given = nearest_means(x, codes, ~at, 4)[at]
        for name in NAMES:
            values[name].append(value_of(name, codes[at], given))
    return {name: np.array(own) for name, own in values.items()}, held_out(codes, predicted, folds)


@pytest.mark.thorough
@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 460), marks=pytest.mark.slow)])
def test_intervals_hold_what_is_trained_as_often_as_they_say(seeds):
    """Made data that no constant was chosen on."""
    ones, means = {name: [] for name in NAMES}, {name: [] for name in NAMES}
    for seed in seeds:
        trained, held = trained_and_held(seed)
        found = spread.of_classes(held, draws=200, seed=seed)
        for name, own in trained.items():
            one, mean = found[name].one, found[name].mean
            ones[name].append(np.mean((own >= one.low) & (own <= one.high)))
            means[name].append(mean.low <= np.mean(own[:10]) <= mean.high)
    for name in NAMES:
        assert 0.85 <= np.mean(ones[name]) <= 0.96
        # 60 sets at 90%: below 47 with probability 0.001.
        assert np.mean(means[name]) >= (0.78 if len(means[name]) < 100 else 0.87)


@pytest.mark.thorough
def test_another_sample_moves_as_far_as_its_interval_says():
    values, widths = [], []
    for seed in range(120):
        rng = np.random.default_rng([7, seed])
        centres = 0.7 * np.random.default_rng(1).normal(size=(3, 6))  # the same kind of items
        codes = np.sort(rng.choice(3, 200, p=(0.5, 0.3, 0.2))).astype(np.int32)
        x = centres[codes] + rng.normal(size=(200, 6))
        folds, predicted = folds_of(codes, rng), np.zeros(200, np.int32)
        for fold in range(5):
            at = folds == fold
            predicted[at] = nearest_means(x, codes, ~at, 3)[at]
        own = spread.of_classes(held_out(codes, predicted, folds), draws=100)["macro_f1"].sample
        values.append(own.value)
        widths.append((own.high - own.low) / 2 / 1.645)
    # The standard deviation of 120 values is off by 6.5%, three of that either way.
    assert np.mean(widths) / np.std(values) == pytest.approx(1.0, abs=0.25)


def prediction_of(held, value="macro_f1"):
    losses = (held.predicted != held.target).astype(np.float32)
    kinds = spread.of_answers(held, losses, "error_rate")
    return Prediction(
        metrics=kinds.metrics, means=kinds.means, samples=kinds.samples, metric=value,
        loss="error_rate", predicted=held.predicted, target=held.target, losses=losses,
        names=held.names, held_out=held,
    )  # fmt: skip


def test_differences_are_paired_and_turn_with_their_sides():
    target, predicted = made(6)
    other = np.where(np.arange(len(target)) % 9 == 0, (predicted + 1) % 4, predicted)
    a, b = (prediction_of(held_out(target, own)) for own in (predicted, other))
    for metric in (*NAMES, "error_rate"):
        forth, back = (paired.differences(*pair, metric=metric) for pair in ((a, b), (b, a)))
        for ahead, behind in zip(forth, back, strict=True):
            np.testing.assert_allclose(
                [ahead.value, ahead.low, ahead.high],
                [-behind.value, -behind.high, -behind.low],
                atol=0.1 * (ahead.high - ahead.low),  # other draws
            )
        alone = a.metrics[metric].high - a.metrics[metric].low
        assert forth.one.high - forth.one.low < alone
        same = paired.differences(a, a, metric=metric)
        assert all(own[:3] == (0.0, 0.0, 0.0) for own in same)
    assert probes.paired_difference(a, b) == paired.differences(a, b, draws=2000).sample


@pytest.mark.thorough
def test_differences_hold_what_is_trained():
    """Two views of the same rows, on the same folds and the same splits."""
    inside, wrong, called = [], 0, 0
    for seed in range(50):
        rng = np.random.default_rng([3, seed])
        codes = np.sort(rng.choice(3, 300, p=(0.5, 0.3, 0.2))).astype(np.int32)
        x = 0.6 * rng.normal(size=(3, 8))[codes] + rng.normal(size=(300, 8))
        views, folds = (x[:, :6], x[:, 2:]), folds_of(codes, rng)
        found = []
        for view in views:
            predicted = np.zeros(300, np.int32)
            for fold in range(5):
                at = folds == fold
                predicted[at] = nearest_means(view, codes, ~at, 3)[at]
            found.append(prediction_of(held_out(codes, predicted, folds)))
        gaps = np.empty(0)
        for split in range(10):
            at = stratified_split(split, codes)
            sides = [nearest_means(view, codes, ~at, 3)[at] for view in views]
            values = [value_of("macro_f1", codes[at], one) for one in sides]
            gaps = np.append(gaps, values[0] - values[1])
        own = paired.differences(*found, draws=200, seed=seed)
        inside.append([np.mean((own.one.low <= gaps) & (gaps <= own.one.high)),
                       own.mean.low <= np.mean(gaps) <= own.mean.high])  # fmt: skip
        called += own.sample.separated
        wrong += own.sample.separated and np.sign(np.mean(gaps)) != np.sign(own.sample.value)
    ones, means = np.mean(inside, axis=0)
    assert 0.82 <= ones <= 0.97
    assert means >= 0.76
    assert called > 10
    assert wrong <= 0.05 * called


@pytest.mark.parametrize("probe", [probes.discriminant, probes.ridge])
def test_probes_that_leave_out_one_row_have_the_same_kinds(probe):
    rng = np.random.default_rng(0)
    codes = np.append(rng.integers(3, size=120), 3).astype(np.int32)  # the last class has one row
    x = rng.normal(size=(4, 5))[codes] + rng.normal(size=(121, 5))
    found = probe(x, Labels(codes, ("a", "b", "c", "d")))
    assert set(found.metrics) == set(found.means) == set(found.samples)
    assert found.held_out.folds[-1] == -1
    assert np.all(found.held_out.folds[:-1] == np.arange(120))
    for name in Classification._fields:
        one, mean, sample = (kind[name] for kind in (found.metrics, found.means, found.samples))
        assert one.value == mean.value == sample.value
        assert mean.high - mean.low < sample.high - sample.low < one.high - one.low
    assert any("fewer than 20 rows" in note and "d (1)" in note for note in found.notes)
    lines = repr(found).splitlines()
    assert len(lines) <= 12
    assert "one training" in lines[0]
    assert "mean of ten trainings [" in lines[1]
    assert "another sample of items [" in lines[1]


def test_where_most_test_sets_hold_no_mistake_the_interval_of_one_training_reaches_one():
    target = np.repeat(np.arange(4), 500).astype(np.int32)
    predicted = target.copy()
    predicted[[7, 900]] = 3
    held = HeldOut(
        None, predicted, target, np.tile(np.arange(5, dtype=np.int32), 400), tuple("abcd"),
        np.arange(2000, dtype=np.int32),
    )  # fmt: skip
    found = spread.of_classes(held)
    for name in ("accuracy", "macro_f1"):
        assert found[name].one.high == 1.0
        assert found[name].one.low < 1.0 - 1.0 / 500
