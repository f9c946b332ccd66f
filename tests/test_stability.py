"""How much answers move between runs: kappa, churn, spread, seeds, odd runs, items and classes."""

import functools

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.preprocessing import StandardScaler

from kernlens import lens, probes
from kernlens.lens import run_pairs, seed_noise
from kernlens.metrics import disagreement
from kernlens.models import decoders
from kernlens.probes.folds import FOLDS, share_out
from kernlens.train import heads
from kernlens.types import Interval, Labels, MultiLabels
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=240, separation=0.8, unlabelled=7)
NAMES = ("tea", "salt", "bread", "apples")
LABELS = Labels(PROBLEM.codes, NAMES)
KNOWN = np.flatnonzero(PROBLEM.codes >= 0)


def run(seed, amount=0.6):
    return PROBLEM.x + amount * np.random.default_rng(seed).standard_normal(PROBLEM.x.shape)


RUNS = {f"run {seed}": run(seed) for seed in range(4)}
FIXED = functools.partial(probes.logistic, penalties=1.0)


@pytest.fixture(scope="module")
def found():
    return lens.stability(RUNS, LABELS, probe=FIXED)


def refitted(x, codes, folds):
    """Classes given to held-out rows by scikit-learn, fold by fold."""
    given = np.empty(len(codes), int)
    for k in range(FOLDS):
        kept = folds != k
        scaler = StandardScaler().fit(x[kept])
        model = LogisticRegression(C=1.0, max_iter=3000, tol=1e-8)
        model.fit(scaler.transform(x[kept]), codes[kept])
        given[~kept] = model.predict(scaler.transform(x[~kept]))
    return given


def test_kappa_and_churn_are_those_of_refitted_heads_on_shared_folds(found):
    codes = PROBLEM.codes[KNOWN]
    folds = share_out(codes, np.arange(len(codes)))
    given = [refitted(x[KNOWN], codes, folds) for x in RUNS.values()]
    (own,) = found.moves
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    kappas = [cohen_kappa_score(given[i], given[j]) for i, j in pairs]
    churns = [np.mean(given[i] != given[j]) for i, j in pairs]
    np.testing.assert_allclose(own.kappa.value, np.mean(kappas), atol=1e-9)
    np.testing.assert_allclose(own.churn.value, np.mean(churns), atol=1e-9)
    names = list(RUNS)
    for (i, j), kappa in zip(pairs, kappas, strict=True):
        np.testing.assert_allclose(own.pairs[names[i], names[j]][0].value, kappa, atol=1e-9)
    moved = np.mean([given[i] != given[j] for i, j in pairs], axis=0)
    np.testing.assert_allclose(own.moved, moved, atol=1e-12)
    values = [own.predictions[name].metrics["macro_f1"].value for name in names]
    np.testing.assert_allclose(own.spread.value, np.std(values, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(own.metric.value, np.mean(values), rtol=1e-12)
    assert own.seed_noise is None
    assert own.excess is None


def test_tables_name_what_moves(found):
    (own,) = found.moves
    ids = np.array([f"sku{i}" for i in range(len(PROBLEM.codes))])
    named = lens.stability(RUNS, LABELS, probe=FIXED, ids=ids)
    items = named.items(shown=None).rows
    assert len(items) == np.count_nonzero(own.moved)
    assert [row["moved"] for row in items] == sorted((row["moved"] for row in items), reverse=True)
    places = {f"sku{place}": at for at, place in enumerate(KNOWN)}
    for row in items[:5]:
        at = places[row["item"]]
        assert row["moved"] == own.moved[at]
        assert row["true"] == NAMES[PROBLEM.codes[KNOWN[at]]]
        given = [NAMES[answers[at]] for answers in own.answers.values()]
        for name in set(given):
            assert f"{name} ×{given.count(name)}" in row["given"]
    classes = {row["class"]: row for row in found.classes(shown=None).rows}
    codes = PROBLEM.codes[KNOWN]
    for code, name in enumerate(NAMES):
        assert classes[name]["rows"] == np.sum(codes == code)
        np.testing.assert_allclose(classes[name]["churn"], own.moved[codes == code].mean())
    assert len(found.pairs().rows) == 6
    assert len(repr(found).splitlines()) <= 12
    assert "κ" in found.sentence()
    assert "<table>" in found._repr_html_()
    moved = np.count_nonzero(own.moved)
    assert found.items(shown=5).title == f"What moves most, 5 of {moved} that move"
    assert found.items(shown=None).title == "What moves most"
    assert found.classes(shown=2).title == f"What moves, by class, 2 of {len(NAMES)}"


def test_an_interval_holds_the_spread_between_runs_by_deleting_a_run():
    rng = np.random.default_rng(0)
    answers = [rng.integers(0, 3, 500) for _ in range(4)]
    found = run_pairs.pairs_of(answers, disagreement.of_classes, level=0.9)

    def churn(kept):
        pairs = [(i, j) for i in kept for j in kept if i < j]
        return np.mean([np.mean(answers[i] != answers[j]) for i, j in pairs])

    left = np.array([churn([r for r in range(4) if r != out]) for out in range(4)])
    over_runs = stats.t(3).ppf(0.95) * np.sqrt(3 / 4 * np.sum((left - left.mean()) ** 2))
    moved = np.mean([answers[i] != answers[j] for i in range(4) for j in range(i + 1, 4)], axis=0)
    over_items = stats.norm.ppf(0.95) * moved.std() / np.sqrt(500)
    np.testing.assert_allclose(found.churn.value, churn(range(4)), rtol=1e-12)
    np.testing.assert_allclose(
        found.churn.high - found.churn.value, np.hypot(over_runs, over_items), rtol=1e-9
    )


@pytest.mark.thorough
def test_intervals_over_runs_and_items_hold_the_mean_of_many_runs():
    # Runs flip answers with a rate of their own: the spread that an item bootstrap does not see.
    rng = np.random.default_rng(3)
    rates = lambda size: rng.uniform(0.02, 0.30, size)  # noqa: E731
    true = rng.integers(0, 2, 3000)

    def drawn(rate, rows):
        return np.where(rng.random(len(rows)) < rate, 1 - rows, rows)

    many = rates(4000)
    a, b = many[::2], many[1::2]
    expected = np.mean(a + b - 2 * a * b)
    held = 0
    for _ in range(200):
        answers = [drawn(rate, true[:800]) for rate in rates(5)]
        own = run_pairs.pairs_of(answers, disagreement.of_classes, level=0.9).churn
        held += own.low <= expected <= own.high
    assert 0.84 <= held / 200 <= 0.98


def test_spread_has_the_interval_of_chi_square():
    values = [0.31, 0.35, 0.30, 0.36]
    found = run_pairs.spread(values, level=0.8)
    sd = np.std(values, ddof=1)
    low, high = (sd * np.sqrt(3 / stats.chi2(3).ppf(q)) for q in (0.9, 0.1))
    np.testing.assert_allclose(found[:3], (sd, low, high), rtol=1e-9)


def test_intervals_of_a_metric_end_where_it_does():
    apart = [0.80, 0.99]
    assert run_pairs.mean_over_runs(apart).high > 1.0
    mean = run_pairs.mean_over_runs(apart, bounds=(0.0, 1.0))
    assert mean == run_pairs.mean_over_runs(apart)._replace(high=1.0)
    assert run_pairs.spread(apart).high > 0.5
    sd = run_pairs.spread(apart, bounds=(0.0, 1.0))
    assert sd == run_pairs.spread(apart)._replace(high=0.5)
    assert run_pairs.spread([0.0, 1.0], bounds=(0.0, 1.0)).high == np.std([0.0, 1.0], ddof=1)


def test_the_odd_run_is_the_one_apart_and_equal_runs_have_none(found):
    assert found.moves[0].odd is None
    shuffled = {**RUNS, "broken": run(9, amount=4.0)}
    other = lens.stability(shuffled, LABELS, probe=FIXED)
    assert other.moves[0].odd == "broken"
    assert "broken is apart" in other.sentence()
    assert "broken" in other.table().text()


def test_two_runs_say_that_they_are_two_and_one_is_refused():
    two = lens.stability([run(0), run(1)], LABELS, probe=FIXED)
    assert any("two runs" in note for note in two.notes)
    (own,) = two.moves
    pair = own.pairs["0", "1"]
    np.testing.assert_allclose(own.churn[:3], pair[1][:3], rtol=1e-12)
    three = lens.stability(np.stack([run(s) for s in range(3)]), LABELS, probe=FIXED)
    assert not any("two runs" in note for note in three.notes)
    assert f"macro-F1 {own.metric.value:.3f}, sd between runs {own.spread:.3f}." in two.sentence()
    assert "±" not in repr(two)
    assert "over items, those of the metric and of its sd over the two runs\n" in repr(two)
    assert "intervals over items and runs, those of the metric and of its sd over runs" in repr(
        three
    )
    assert "not the spread" not in repr(two)
    assert f"± {three.moves[0].spread.value:.3f}" in three.sentence()
    with pytest.raises(ValueError, match="at least two runs"):
        lens.stability([run(0)], LABELS)


def test_equal_runs_agree_fully():
    (own,) = lens.stability([run(0), run(0), run(0)], LABELS, probe=FIXED).moves
    assert (own.kappa.value, own.churn.value, own.spread.value) == (1.0, 0.0, 0.0)
    assert own.odd is None


def test_copies_in_one_run_share_a_fold_in_all():
    x = run(0)
    rows = np.flatnonzero(PROBLEM.codes == 1)[:2]
    x[rows[1]] = x[rows[0]]
    found = lens.stability({"copied": x, "other": run(1)}, LABELS, probe=FIXED)
    folds = [p.held_out.folds for p in found.moves[0].predictions.values()]
    np.testing.assert_array_equal(*folds)
    first, second = np.searchsorted(KNOWN, rows)
    assert folds[1][first] == folds[1][second]


@pytest.mark.thorough
def test_seed_noise_is_that_of_two_trained_heads_on_the_same_split():
    codes = PROBLEM.codes[KNOWN]
    labels, x = Labels(codes, NAMES), run(0)[KNOWN]
    found = seed_noise.seed_noise(x, labels, decoders.Mlp(8), splits=1)
    held = heads.stratified_split(0, codes)
    trained = heads.classify(
        x, labels, decoder=decoders.Mlp(8), seeds=(0, 1), held_out=np.stack([held, held])
    )
    np.testing.assert_array_equal(trained.held_out, [held, held])
    given = trained.predicted[:, held]
    assert found[0].churn == np.mean(given[0] != given[1])
    assert seed_noise.has_seed_noise(decoders.Mlp(8), 6)
    for other in (decoders.Linear(), decoders.Cosine(), decoders.Neighbours(3), None):
        assert not seed_noise.has_seed_noise(other, 6)


def test_churn_of_two_causes_adds_by_squares():
    def interval(value, reach):
        return Interval(value, value - reach, value + reach, 0.9)

    pairs = run_pairs.Pairs(interval(0.7, 0.1), interval(0.03, 0.003), {}, np.zeros(3), None)
    noise = np.array([[0.8, 0.04], [0.8, 0.04], [0.8, 0.04]])
    kappa, churn = seed_noise.with_seed_noise(pairs, noise)
    np.testing.assert_allclose(churn[:3], (0.05, 0.05 - 0.6 * 0.003, 0.05 + 0.6 * 0.003))
    # Heads that move .04 at kappa .8 would move .2 by chance.
    np.testing.assert_allclose(kappa.value, 1.0 - 0.05 / 0.2)
    assert kappa.low < kappa.value < kappa.high


def test_the_law_of_squares_holds_for_margins_that_two_causes_move():
    rng = np.random.default_rng(0)
    margin = rng.standard_normal(400_000)

    def churn(*moves):
        return np.mean(np.sign(margin) != np.sign(margin + sum(moves)))

    a, b = (scale * rng.standard_normal(len(margin)) for scale in (0.15, 0.1))
    np.testing.assert_allclose(churn(a, b), np.hypot(churn(a), churn(b)), rtol=0.03)


@pytest.mark.thorough
def test_mlps_are_trained_without_each_fold_with_seeds_of_their_own():
    named = {name: RUNS[name][KNOWN] for name in ("run 0", "run 1")}
    codes = PROBLEM.codes[KNOWN]
    labels = Labels(codes, NAMES)
    found = lens.stability(named, labels, decoders=decoders.Mlp(8))
    (own,) = found.moves
    folds = share_out(codes, np.arange(len(codes)))
    masks = np.stack([folds == k for k in range(FOLDS)] * 2)
    trained = heads.train(
        named["run 0"], labels, decoder=decoders.Mlp(8), held_out=masks,
        seeds=np.repeat([0, 1], FOLDS).tolist(),
    )  # fmt: skip
    scores = trained.scores(named["run 0"])
    given = [np.argmax(scores[FOLDS * i + folds, np.arange(len(codes))], axis=1) for i in range(2)]
    first, second = own.answers.values()
    np.testing.assert_array_equal(first, given[0])
    assert own.churn.value == np.mean(first != second)
    assert own.seed_noise.low <= np.mean(given[0] != given[1]) <= own.seed_noise.high
    assert any("were trained" in note for note in found.notes)


@pytest.mark.slow
def test_an_mlp_has_its_seed_noise_told_apart():
    found = lens.stability(
        RUNS, LABELS, decoders={"lr": decoders.Linear(), "mlp": decoders.Mlp(8)}, train=False
    )
    assert not any("were trained" in note for note in found.notes)
    linear, mlp = found.moves
    assert linear.seed_noise is None
    assert mlp.churn.value >= mlp.seed_noise.value
    assert mlp.excess.value == pytest.approx(mlp.churn.value - mlp.seed_noise.value)
    assert "by another seed of the head alone" in found.sentence()
    assert {"churn of its seed", "churn beyond its seed's"} <= {
        c.head for c in found.table().columns
    }


@pytest.mark.thorough
def test_numbers_and_several_labels_have_churn_too():
    values = PROBLEM.x @ np.arange(6.0)
    found = lens.stability(RUNS, values)
    (own,) = found.moves
    given = [p.predicted for p in own.predictions.values()]
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    rms = [np.sqrt(np.mean((given[i] - given[j]) ** 2)) / values.std() for i, j in pairs]
    np.testing.assert_allclose(own.churn.value, np.mean(rms), rtol=1e-9)
    assert "concordance" in found.sentence()
    with pytest.raises(ValueError, match="no classes"):
        found.classes()

    membership = PROBLEM.x[:, :3] > 0
    several = lens.stability(
        RUNS, MultiLabels(membership, np.ones(len(membership), bool), ("a", "b", "c"))
    )
    (own,) = several.moves
    given = [p.predicted for p in own.predictions.values()]
    np.testing.assert_allclose(
        own.churn.value, np.mean([np.mean(given[i] != given[j]) for i, j in pairs]), rtol=1e-9
    )
    assert {row["class"] for row in several.classes().rows} == {"a", "b", "c"}
    assert several.items().rows


def test_distances_are_facts_of_pairs(found):
    values = found.distances["run 0", "run 1"]
    assert set(values) == set(lens.distances.DISTANCES)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    same = lens.distances.distances(run(0), 3.0 * run(0) @ turn + 5.0)
    np.testing.assert_allclose(
        [same["CKA"], same["k-NN overlap"], same["Procrustes R²"]], 1.0, atol=2e-3
    )
    np.testing.assert_allclose(same["eigenspace instability"], 0.0, atol=1e-4)
    # The share of variance that the best rotation and scale explains, by a float64 loop.
    a, b = (x - x.mean(axis=0) for x in (run(0)[KNOWN], run(1)[KNOWN]))
    left, singular, right = np.linalg.svd(a.T @ b)
    scale = singular.sum() / np.sum(a**2)
    r2 = 1.0 - np.sum((scale * a @ (left @ right) - b) ** 2) / np.sum(b**2)
    np.testing.assert_allclose(values["Procrustes R²"], r2, rtol=1e-4)


@pytest.mark.parametrize(
    ("runs", "target", "options", "match"),
    [
        ([run(0), run(1)[:-1]], LABELS, {}, "same rows"),
        ([run(0), run(1)], Labels(np.full(240, -1, np.int32), NAMES), {}, "target: no row"),
        ([run(0), run(1)], LABELS, {"ids": ["a"]}, "one name a row"),
        ([run(0), np.full((240, 6), np.nan)], LABELS, {}, "1: .*finite"),
        ([run(0), run(1)], LABELS, {"level": 1.0}, "level"),
        ([run(0), run(1)], LABELS, {"metric": "r2"}, "metric"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_words(runs, target, options, match):
    with pytest.raises(ValueError, match=match):
        lens.stability(runs, target, **options)


def test_an_unknown_decoder_is_refused(found):
    with pytest.raises(ValueError, match="decoder must be one of"):
        found.items("trees")
