"""The verbs: one prediction, many compared, and the floor under all."""

import functools
import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import studentized_range, ttest_1samp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from kernlens import lens, metrics, moments, probes, targets
from kernlens.models import decoders
from kernlens.probes import PROBES, paths, spread
from kernlens.scores import SCORES
from kernlens.types import Classification, Interval, Labels
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=150, separation=0.8)
NAMES = np.array(["tea", "salt", "bread", "apples"])
LABELS = Labels(PROBLEM.codes, tuple(NAMES))


def test_rows_without_a_label_are_counted():
    raw: list[str | None] = NAMES[PROBLEM.codes].tolist()
    raw[3] = raw[7] = None
    found = lens.predict(PROBLEM.x, raw)
    assert "2 of 150 rows have no label and are left out" in found.notes
    assert not any("no label" in note for note in lens.predict(PROBLEM.x, LABELS).notes)


def noisy(amount, seed=1):
    return PROBLEM.x + amount * np.random.default_rng(seed).standard_normal(PROBLEM.x.shape)


@pytest.mark.parametrize("name", PROBES)
def test_predict_is_the_probe_on_coded_labels(name):
    raw = NAMES[PROBLEM.codes]
    expected = PROBES[name](PROBLEM.x, targets.labels(raw), draws=50, level=0.8, seed=3)
    for given in (raw, raw.tolist(), targets.labels(raw)):
        found = lens.predict(PROBLEM.x, given, probe=PROBES[name], draws=50, level=0.8, seed=3)
        assert found.metrics == expected.metrics
        assert found.level == 0.8
        assert found.names == ("apples", "bread", "salt", "tea")


def test_predict_agrees_with_refitted_discriminant_analysis():
    # At a vanishing ridge strength the probe is plain LDA, refitted without each row; its priors
    # are those of all rows.
    rows = np.flatnonzero(PROBLEM.codes >= 0)
    x, y = PROBLEM.x[rows], PROBLEM.codes[rows]
    model = LinearDiscriminantAnalysis(priors=np.bincount(y) / len(y))
    refitted = cross_val_predict(model, x, y, cv=LeaveOneOut())
    plain = functools.partial(probes.discriminant, strengths=[1e-8])
    found = lens.predict(x, y, probe=plain)
    np.testing.assert_allclose(
        found.metrics["accuracy"].value, accuracy_score(y, refitted), rtol=1e-12
    )
    macro = f1_score(y, refitted, average="macro")
    np.testing.assert_allclose(found.metrics["macro_f1"].value, macro, rtol=1e-12)


def test_compare_orders_and_says_what_cannot_be_told_apart():
    given = {"bad": noisy(6.0), "good": PROBLEM.x, "wide": np.hstack([PROBLEM.x, noisy(8.0)])}
    given["shifted"] = 3.0 * PROBLEM.x + 1.0
    found = lens.compare(given, LABELS)
    values = [entry.prediction.metrics["macro_f1"].value for entry in found.entries]
    assert values == sorted(values, reverse=True)
    verdicts = {entry.name: entry.verdict for entry in found.entries}
    assert found.entries[0].verdict == lens.BEST
    assert verdicts["bad"] == lens.WORSE
    # The probe does not see scale or shift, so one of this pair ties with the other.
    assert {verdicts["good"], verdicts["shifted"]} <= {lens.BEST, lens.TIED}
    assert [entry.dim for entry in found.entries if entry.name == "wide"] == [12]
    assert all(entry.seconds > 0 for entry in found.entries)


@pytest.mark.parametrize("metric", Classification._fields)
def test_differences_are_the_paired_ones_to_the_best_and_between_neighbours(metric):
    given = {str(amount): noisy(amount) for amount in (4.0, 0.5, 2.0, 1.0)}
    found = lens.compare(given, LABELS, metric=metric, draws=300, level=0.8, seed=5)
    names = [entry.name for entry in found.entries]
    to_best = {(name, names[0]) for name in names[1:]}
    to_previous = set(zip(names[1:], names[:-1], strict=True))
    assert set(found.differences) == to_best | to_previous
    by_name = {entry.name: entry for entry in found.entries}
    predictions = [entry.prediction for entry in found.entries]
    gaps = probes.pairwise_differences(predictions, metric, level=0.8, seed=5)
    for (a, b), difference in found.differences.items():
        expected = probes.paired_difference(
            by_name[a].prediction, by_name[b].prediction, metric=metric, level=0.8
        )
        assert difference == gaps[names.index(a), names.index(b)]
        assert difference.value == expected.value
        assert difference.low <= expected.low + 1e-12
        assert difference.high >= expected.high - 1e-12
        assert difference.value <= 0.0
        if b == names[0]:
            verdict = lens.WORSE if difference.separated else lens.TIED
            assert by_name[a].verdict in (verdict, lens.CHANCE)
    assert (found.metric, found.level) == (metric, 0.8)


def test_worse_is_worse_than_the_best_not_than_the_one_before():
    bad = noisy(6.0)
    found = lens.compare({"good": PROBLEM.x, "bad": bad, "its copy": bad}, LABELS)
    assert [(entry.name, entry.verdict) for entry in found.entries] == [
        ("good", lens.BEST),
        ("bad", lens.WORSE),
        ("its copy", lens.WORSE),
    ]
    assert not found.differences["its copy", "bad"].separated


def test_equal_embeddings_keep_the_order_given():
    found = lens.compare({"b": PROBLEM.x, "a": PROBLEM.x}, LABELS)
    assert [(entry.name, entry.verdict) for entry in found.entries] == [
        ("b", lens.BEST),
        ("a", lens.TIED),
    ]
    assert found.differences["a", "b"].value == 0.0


@pytest.mark.parametrize(("amount", "verdict"), [(0.0, lens.ABOVE), (300.0, lens.CHANCE)])
def test_one_embedding_stands_beside_chance_and_is_never_best(amount, verdict):
    found = lens.compare({"only": noisy(amount)}, LABELS)
    assert [entry.verdict for entry in found.entries] == [verdict]
    assert found.differences == {}
    assert ("no better than chance" in found.sentence()) == (verdict == lens.CHANCE)


def test_of_a_good_a_bad_and_a_copy_of_the_bad_both_bad_ones_are_worse():
    bad = noisy(6.0)
    found = lens.compare({"bad": bad, "good": PROBLEM.x, "copy": bad}, LABELS)
    assert [entry.verdict for entry in found.entries] == [lens.BEST, lens.WORSE, lens.WORSE]


@pytest.mark.thorough
def test_intervals_of_many_equal_predictions_hold_together():
    rng = np.random.default_rng(0)
    labels = Labels((np.arange(300) % 2).astype(np.int32), ("a", "b"))
    alone = together = 0
    for trial in range(40):
        found = []
        for _ in range(12):
            right = rng.random(300) < 0.7
            given = np.where(right, labels.codes, 1 - labels.codes)
            held = paths.each_row_left_out(given, labels.codes, labels.names, np.arange(300))
            wrong = 1.0 - right
            own = spread.of_answers(held, wrong, "error_rate", draws=2, seed=0)
            found.append(
                probes.Prediction(
                    metrics=own.metrics, metric="accuracy", loss="error_rate", predicted=given,
                    target=labels.codes, losses=wrong, names=labels.names, held_out=held,
                )
            )  # fmt: skip
        found.sort(key=lambda one: -one.value.value)
        wide = probes.simultaneous_level(found, "accuracy", seed=trial)
        options = {"metric": "accuracy", "draws": 400, "seed": trial}
        gap = probes.paired_difference(found[-1], found[0], **options)
        alone, together = alone + gap.separated, together + probes.widened(gap, wide).separated
    # The best and the worst of twelve equal ones: one by one they nearly always seem to differ.
    assert alone > 20
    assert together <= 10  # 40 trials at 10%: above 10 with probability 0.001


def test_what_is_decided_lets_the_rest_be_narrower():
    """Four independent values of equal variance, whose gaps have the studentised range."""
    rng = np.random.default_rng(0)
    psi, _ = np.linalg.qr(rng.standard_normal((400, 4)))
    psi = psi.T  # equal variances, no correlation: a gap has a standard error of sqrt(2)
    error = np.sqrt(2.0)
    reach = NormalDist().inv_cdf(0.95) * error

    def told(values):
        gaps = {
            (i, j): Interval(values[i] - values[j], values[i] - values[j] - reach,
                             values[i] - values[j] + reach, 0.9)
            for i in range(4) for j in range(i)
        }  # fmt: skip
        return gaps, probes.step_down(gaps, psi, level=0.9)

    # The largest of all six gaps needs 2.29 standard errors, half the studentised range of four.
    wide = probes.level_together(psi, level=0.9)
    z = NormalDist().inv_cdf(0.5 * (1.0 + wide))
    assert z == pytest.approx(studentized_range.ppf(0.9, 4, np.inf) / np.sqrt(2), rel=0.01)
    gaps, found = told(np.zeros(4))
    assert found == {pair: probes.widened(gap, wide) for pair, gap in gaps.items()}
    # One value far off: the other three are compared among themselves, as if they were alone.
    gaps, found = told(np.array([0.0, 0.6, 2.2 * error, 20.0]))
    z = studentized_range.ppf(0.9, 3, np.inf) / np.sqrt(2)
    assert z < 2.2 < wide_reach(found[3, 0], error)
    assert wide_reach(found[1, 0], error) < z
    assert found[2, 0].separated
    assert not found[1, 0].separated
    assert not probes.widened(gaps[2, 0], wide).separated


def wide_reach(found, error):
    """Half-width in standard errors."""
    return 0.5 * (found.high - found.low) / error


@pytest.mark.thorough
def test_no_sign_among_equal_values_is_wrong_more_often_than_the_level_says():
    """Two groups of equal values, far apart: all is decided between them, little within."""
    rng = np.random.default_rng(1)
    wrong = called = 0
    for trial in range(150):
        psi = rng.standard_normal((6, 50))
        psi -= psi.mean(axis=1, keepdims=True)
        values = np.repeat([0.0, 100.0], 3) + rng.standard_normal((6, 50)).sum(axis=1)
        reach = NormalDist().inv_cdf(0.95)
        gaps = {}
        for i in range(6):
            for j in range(i):
                value, half = values[i] - values[j], reach * float(np.linalg.norm(psi[i] - psi[j]))
                gaps[i, j] = Interval(value, value - half, value + half, 0.9)
        found = probes.step_down(gaps, psi, level=0.9, seed=trial)
        called += all(found[i, j].separated for i in range(3, 6) for j in range(3))
        within = [(1, 0), (2, 0), (2, 1), (4, 3), (5, 3), (5, 4)]
        wrong += any(found[pair].separated for pair in within)
    assert called == 150
    # 10% of 150, a little more as 50 rows tell the variances: above 31 with probability 1e-4.
    assert 3 < wrong <= 31


def test_two_embeddings_need_no_wider_interval():
    predictions = [probes.discriminant(noisy(amount), LABELS) for amount in (0.0, 1.0)]
    assert probes.simultaneous_level(predictions, "macro_f1", level=0.8) == 0.8
    three = [*predictions, probes.discriminant(noisy(2.0), LABELS)]
    assert 0.8 < probes.simultaneous_level(three, "macro_f1", level=0.8) < 0.97
    same = [predictions[0]] * 4
    assert probes.simultaneous_level(same, "macro_f1", level=0.8) == 0.8


def test_every_decoder_of_every_embedding_is_an_entry():
    given = {"good": PROBLEM.x, "bad": noisy(6.0)}
    made = lens.compare(given, LABELS, decoders=[decoders.Linear(), decoders.Cosine()])
    assert {(entry.name, entry.decoder) for entry in made.entries} == {
        (name, decoder) for name in given for decoder in ("Linear", "Cosine")
    }
    alone = lens.predict(PROBLEM.x, LABELS, decoder=decoders.Cosine(), draws=2000)
    (entry,) = (e for e in made.entries if (e.name, e.decoder) == ("good", "Cosine"))
    assert entry.prediction.metrics == alone.metrics
    titles = [column.head for column in made.table().columns]
    assert titles[:2] == ["embedding", "decoder"]
    named = lens.compare([PROBLEM.x], LABELS, decoders={"mine": decoders.Linear()})
    assert [entry.label for entry in named.entries] == ["0 · mine"]


def test_a_comparison_prints_itself_in_a_few_lines():
    many = {f"e{i}": noisy(0.2 * i) for i in range(20)}
    made = lens.compare(many, LABELS, draws=50)
    shown = repr(made)
    assert len(shown.splitlines()) <= 12
    assert made.best.name in shown
    assert "13 more" in shown
    hostile = lens.compare({"<b>x</b>": PROBLEM.x, "[red]y[/red]\x1b[0m": noisy(6.0)}, LABELS)
    assert "<b>" not in hostile._repr_html_()
    assert "\x1b" not in repr(hostile)
    assert "[red]y[/red]\\x1b[0m" in repr(hostile)


def test_a_prediction_prints_itself_in_a_few_lines():
    found = lens.predict(PROBLEM.x, LABELS)
    lines = repr(found).splitlines()
    assert len(lines) <= 12
    assert lines[0] == "150 rows in 4 classes, 90% intervals of one training on four fifths"
    assert lines[1].startswith(f"macro-F1 {found.value.value:.3f}: mean of ten trainings [")
    assert f"{found.value:.3f}" in lines[3]
    assert "<table>" in found._repr_html_()


@pytest.mark.thorough
def test_chance_is_the_expectation_over_rows_in_random_order():
    rng = np.random.default_rng(3)
    target, predicted = rng.integers(0, 3, 60), rng.choice(3, 60, p=[0.6, 0.3, 0.1])
    drawn = [
        [
            accuracy_score(target, order),
            f1_score(target, order, average="macro"),
            balanced_accuracy_score(target, order),
        ]
        for order in (rng.permutation(predicted) for _ in range(400))
    ]
    floor = metrics.majority(target)
    found = metrics.by_chance(target, predicted)
    spread = np.std(drawn, axis=0) / np.sqrt(400)
    expected = np.maximum(
        np.mean(drawn, axis=0), [floor.accuracy, floor.macro_f1, floor.balanced_accuracy]
    )
    got = [found.accuracy, found.macro_f1, found.balanced_accuracy]
    np.testing.assert_allclose(got, expected, rtol=0, atol=4 * np.max(spread))


@pytest.mark.parametrize("seed", range(3))
def test_the_floor_is_always_answering_the_largest_class(seed):
    target = gaussian_classes(seed, n=80).codes
    answered = DummyClassifier(strategy="most_frequent").fit(target, target).predict(target)
    found = metrics.majority(target)
    expected = Classification(
        accuracy_score(target, answered),
        f1_score(target, answered, average="micro"),
        f1_score(target, answered, average="macro", zero_division=0),
        balanced_accuracy_score(target, answered),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_titles_cover_all_metrics():
    assert set(probes.METRICS) == {*Classification._fields, "log_loss"} <= set(probes.TITLES)


def test_log_loss_orders_from_the_least_and_is_compared_row_by_row():
    given = {"bad": noisy(6.0), "good": PROBLEM.x, "near": noisy(0.05)}
    found = lens.compare(given, LABELS, metric="log_loss", level=0.8)
    errors = {entry.name: entry.prediction.value.value for entry in found.entries}
    assert list(errors.values()) == sorted(errors.values())
    assert list(errors)[-1] == "bad"
    verdicts = {entry.name: entry.verdict for entry in found.entries}
    assert verdicts["bad"] == lens.WORSE
    best = found.entries[0]
    together = probes.simultaneous_level(
        [e.prediction for e in found.entries], "log_loss", level=0.8
    )
    for entry in found.entries[1:]:
        gap = found.differences[entry.name, best.name]
        rows = entry.prediction.losses.astype(np.float64) - best.prediction.losses
        # The t interval of n = 150 rows is 0.4% wider than the normal one at 80%.
        # Those that are left when others are decided need less width than all together.
        alone, all_ = (
            np.sqrt(spread.OTHER_GAP) * np.ptp(ttest_1samp(rows, 0.0).confidence_interval(level))
            for level in (0.8, together)
        )
        # Folds that differ by more than chance widen it.
        assert 0.98 * alone < gap.high - gap.low < 1.5 * all_
        np.testing.assert_allclose(
            gap.value,
            errors[entry.name] - errors[best.name],
            atol=1e-6,
        )
    shares = np.bincount(PROBLEM.codes) / len(PROBLEM.codes)
    expected = log_loss(PROBLEM.codes, np.tile(shares, (len(PROBLEM.codes), 1)))
    np.testing.assert_allclose(best.prediction.value.null, expected, rtol=1e-12)


def test_only_a_probe_with_a_log_loss_is_ordered_by_it():
    with pytest.raises(ValueError, match=r"a: metric must be one that .* got 'log_loss'"):
        lens.compare({"a": PROBLEM.x}, LABELS, probe=probes.ridge, metric="log_loss")


@pytest.mark.parametrize(
    ("embeddings", "options", "match"),
    [
        ({}, {}, "at least one embedding"),
        ({"a": PROBLEM.x, "b": PROBLEM.x[:-1]}, {}, r"same rows; got shapes .*150.*149"),
        ({"a": PROBLEM.x, "b": np.full_like(PROBLEM.x, np.nan)}, {}, "b: features must be finite"),
        (
            {"a": PROBLEM.x[:, 0]},
            {},
            r"a: expected an embedding, .* \[n, d\]",
        ),
        ({"a": PROBLEM.x}, {"metric": "f1"}, "a: metric must be one that .*macro_f1.*got 'f1'"),
        ({"a": PROBLEM.x}, {"level": 1.5}, r"level in \(0, 1\)"),
    ],
)
def test_compare_refuses(embeddings, options, match):
    with pytest.raises(ValueError, match=match):
        lens.compare(embeddings, LABELS, **options)


def test_the_front_door_hands_on_the_verbs_and_nothing_heavy():
    code = (
        "import sys, kernlens as kl, importlib.metadata as m\n"
        "assert kl.__version__ == m.version('kernlens')\n"
        "assert {'compare', 'predict', 'Labels', 'Interval', 'Prediction'} <= set(kl.__all__)\n"
        "assert callable(kl.predict) and callable(kl.compare)\n"
        "heavy = {'flax', 'optax', 'pandas', 'pyarrow', 'sklearn', 'matplotlib', 'rich', 'tyro'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.thorough
def test_standings_give_scores_with_intervals_and_what_they_separate():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 240)
    clear = np.eye(3)[labels] * 4 + rng.standard_normal((240, 3))
    noise = rng.standard_normal((240, 3))
    same = clear + 1e-3 * rng.standard_normal((240, 3))
    # Of gcv, an error, less is better.
    wanted = {name: SCORES[name] for name in ("h_score", "logme", "gcv")}
    found = lens.standings({"noise": noise, "clear": clear, "same": same}, labels, wanted)
    assert [standing.score for standing in found] == list(wanted)
    for standing in found:
        assert list(standing.intervals)[-1] == "noise"
        assert standing.differences["noise"].separated
        (other,) = {"clear", "same"} - {standing.best}
        assert not standing.differences[other].separated
        for name, own in standing.intervals.items():
            assert own.low <= own.value <= own.high
            x = {"noise": noise, "clear": clear, "same": same}[name]
            alone = SCORES[standing.score].fn(moments.from_arrays(x.astype(np.float32), labels, 3))
            np.testing.assert_allclose([own.value, own.null], alone, rtol=1e-3)


@pytest.mark.thorough
def test_standings_refuse_other_rows_and_name_the_embedding():
    labels = np.arange(20) % 2
    with pytest.raises(ValueError, match="same rows"):
        lens.standings({"a": np.ones((20, 2)), "b": np.ones((19, 2))}, labels, {})
    x = np.ones((20, 2), np.float32)
    x[3] = np.nan
    with pytest.raises(ValueError, match="a: "):
        lens.standings({"a": x}, labels, {"logme": SCORES["logme"]})
    assert lens.standings({"a": np.ones((20, 2))}, labels, {}) == ()


def test_values_beyond_float32_are_refused_without_a_warning():
    x = np.ones((20, 2)) * 1e300
    with pytest.raises(ValueError, match=r"a: .* not finite, or whose square exceeds"):
        lens.standings({"a": x}, np.arange(20) % 2, {"logme": SCORES["logme"]})
