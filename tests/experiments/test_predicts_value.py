"""What is predicted against what is trained: heads, splits, damages, orders, targets."""

import dataclasses
import gzip
import itertools

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.kit.cells import Cells
from experiments.kit.verdicts import FAILS, HOLDS, PART
from experiments.predicts_value import (
    contexts,
    costs,
    experiment,
    heads,
    images,
    items,
    orders,
    rankers,
    rows,
    sets,
    settings,
    small,
    summary,
    tables,
    targets,
)
from experiments.predicts_value.settings import PENALTIES, TINY, Config
from kernlens.metrics import agreement
from kernlens.show import report

CONFIG = dataclasses.replace(TINY, sets=("digits",))


@pytest.fixture(scope="module")
def digits():
    made = sets.load("digits", dataclasses.replace(CONFIG, embeddings=2), None)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def context(digits):
    """Noisy rows of four classes of unequal size."""
    rng = np.random.default_rng(0)
    codes = rng.choice(4, 240, p=[0.5, 0.25, 0.15, 0.1]).astype(np.int32)
    x = (rng.standard_normal((4, 6))[codes] + rng.standard_normal((240, 6))).astype(np.float32)
    x *= np.geomspace(0.01, 100.0, 6, dtype=np.float32)
    return contexts.Context("made", "rows", contexts.NATURAL, False, x, codes, np.arange(240))


def test_metrics_are_scikit_learns(context):
    rng = np.random.default_rng(1)
    predicted = rng.integers(0, 5, 240)
    losses = rng.random(240)
    found = heads.metrics_of(context.codes, predicted, losses)
    # Classes that occur as target or as prediction count, as in scikit-learn.
    assert found[0] == pytest.approx(sk.f1_score(context.codes, predicted, average="macro"))
    assert found[1:] == (sk.accuracy_score(context.codes, predicted), losses.mean())


@pytest.mark.parametrize("collinear", [False, True])
def test_logistic_regression_is_scikit_learns_at_every_penalty(context, collinear):
    x = context.x.astype(float)
    if collinear:
        x[:, 5] = x[:, 0] + 1e-3 * x[:, 1]
    train, every = np.flatnonzero(contexts.splits(context, 1)[0].train), np.arange(240)
    whole = heads.Path(x, context.codes, every, every)
    path = heads.Path(x, context.codes, train, every, whole)
    for c in PENALTIES:
        whole.at(c)
        predicted, losses = path.at(c)
        cold = LogisticRegression(C=c, tol=1e-9, max_iter=99999, solver="newton-cholesky")
        cold = make_pipeline(StandardScaler(), cold).fit(x[train], context.codes[train])
        own = -np.log(cold.predict_proba(x)[every, context.codes])
        # The gradient is 3e-5 a row where the search ends, and curvature falls with the penalty.
        np.testing.assert_allclose(losses, own, rtol=5e-3, atol=2e-3 * max(1.0, c) ** 0.5)
        assert np.sum(predicted != cold.predict(x)) <= 1


def test_a_path_ends_where_two_penalties_running_are_worse():
    good, worse, mixed = (0.8, 0.0, 0.5), (0.7, 0.0, 0.6), (0.7, 0.0, 0.4)
    assert heads.past([good, worse, worse])
    assert not heads.past([good, worse])
    assert not heads.past([good, worse, mixed])
    assert not heads.past([worse, good, worse])


def test_the_penalty_is_chosen_without_the_held_out_rows(context):
    split = contexts.splits(context, 1)[0]
    found = heads.logistic(context, split, CONFIG)
    codes = np.where(split.train, context.codes, (context.codes + 1) % 4).astype(np.int32)
    other = heads.logistic(context._replace(codes=codes), split, CONFIG)
    for name, own in found.items():
        assert own.chosen == other[name].chosen
        assert own.judged[1] != other[name].judged[1]
    assert found["logistic, C = 1"].chosen == 1.0


def test_neighbours_are_scikit_learns(context):
    split = contexts.splits(context, 1)[0]
    own = heads.neighbours(context, split, CONFIG)["k-NN"]
    reference = KNeighborsClassifier(int(own.chosen))
    reference.fit(context.x[split.train], context.codes[split.train])
    predicted = reference.predict(context.x[split.single])
    assert own.single[1] == np.mean(predicted == context.codes[split.single])


def test_neighbours_without_copies_are_those_of_the_distinct_rows(context):
    x, codes = context.x[:60], context.codes[:60]
    alone = heads.by_neighbours(x, codes, np.arange(60))
    twice = heads.by_neighbours(np.vstack([x, x]), np.tile(codes, 2), np.tile(np.arange(60), 2))
    # One neighbour is the same row either way; more of them come in pairs.
    assert twice[0][:2] == alone[0][:2]
    naive = heads.by_neighbours(np.vstack([x, x]), np.tile(codes, 2), np.arange(120))
    assert naive[0][1] == 1.0 > alone[0][1]


def test_class_means_are_a_loop(context):
    split = contexts.splits(context, 1)[0]
    own = heads.class_means(context, split, CONFIG)["class means"]
    train = np.flatnonzero(split.train)
    means = [context.x[train][context.codes[train] == c].astype(float).mean(0) for c in range(4)]
    predicted = [int(np.argmax([row @ m for m in means])) for row in context.x.astype(float)]
    right = np.array(predicted) == context.codes
    assert own.single[1] == pytest.approx(right[split.single].mean())


def test_splits_keep_copies_together_and_judge_outside_a_sample(context):
    rng = np.random.default_rng(0)
    copied = contexts.copies(context, rng)
    assert copied.groups is not None
    assert np.all(np.bincount(copied.groups) == contexts.COPIES)
    for split in contexts.splits(copied, 3):
        both = set(copied.groups[split.train]) & set(copied.groups[split.single])
        assert not both
        np.testing.assert_array_equal(split.judged, split.single)
    few = context._replace(labelled=contexts.few(context.codes, 8, rng, each=True))
    assert np.bincount(context.codes[few.labelled]).tolist() == [8] * 4
    split = contexts.splits(few, 1)[0]
    assert split.train.sum() + split.single.sum() == 32
    assert split.judged.sum() == 240 - 32


def test_equal_rows_of_one_class_are_copies():
    x = np.array([[1.0], [2.0], [1.0], [2.0], [-0.0], [0.0]], np.float32)
    found = contexts.groups(x, np.array([0, 0, 0, 1, 1, 1]))
    assert found is not None
    same = found[:, None] == found[None, :]
    expected = np.eye(6, dtype=bool)
    expected[0, 2] = expected[2, 0] = expected[4, 5] = expected[5, 4] = True
    np.testing.assert_array_equal(same, expected)
    assert contexts.groups(x[:2], np.array([0, 0])) is None


def spectrum(x):
    return np.linalg.svd(x - x.mean(axis=0), compute_uv=False)


@pytest.mark.parametrize("name", contexts.DAMAGES)
def test_damages_are_what_they_say(context, name):
    made = contexts.DAMAGES[name](context, np.random.default_rng(0))
    x, was = made.x.astype(float), context.x.astype(float)
    assert np.isfinite(x).all()
    assert len(x) == len(made.codes)
    said = {
        "outlier rows": lambda: np.sum(np.any(x != was, axis=1)) == 2,
        "heavy tails": lambda: np.max(np.abs(x - was) / was.std(0)) > 30,
        "row scales": lambda: np.ptp(x / was, axis=1).max() < 1e-4 < np.ptp((x / was)[:, 0]),
        "one large column": lambda: x.shape[1] == 7 and x[:, 6].std() > 10 * was.std(0).max(),
        "common direction": lambda: np.linalg.norm(x.mean(0)) > 20 * np.sqrt(np.var(x, 0).sum()),
        "collapse": lambda: spectrum(x)[2] < 0.02 * spectrum(x)[1],
        "label noise": lambda: 0.05 < np.mean(made.codes != context.codes) < 0.2,
        "quantised": lambda: set(np.unique(x)) <= {0.0, 1.0, 2.0, 3.0},
        "whitened": lambda: np.allclose(np.cov(x.T, bias=True), np.eye(6), atol=1e-4),
    }
    if "five times" in name:
        assert len(np.unique(x, axis=0)) == len(x) / 5
        assert (made.groups is None) == (contexts.NAIVE in name)
        assert contexts.judged(made._replace(damage=name)) == (contexts.NAIVE not in name)
    else:
        assert said[name]()


def test_the_largest_classes_are_cut_and_the_others_whole():
    counts = np.array([900, 40, 300, 25])
    assert items.cut(counts, 400) == 167  # 167 + 40 + 167 + 25 = 399
    assert items.cut(counts, 5000) == 900
    for total in (100, 365, 1265, 1264):
        most = items.cut(counts, total)
        assert np.minimum(counts, most).sum() <= total
        assert most == 900 or np.minimum(counts, most + 1).sum() > total


def test_every_base_is_an_embedding_of_its_set():
    """Those of sets whose files are at hand."""
    names = {items.title(setting) for setting in items.SETTINGS}
    assert settings.BASES["CJ departments, behaviour"] in names
    assert settings.BASES["ML-1M by time"] in names
    assert set(settings.BASES) <= set(sets.SETS)
    assert set(settings.TUNED) <= set(sets.SETS)
    assert set(Config().sets) == set(sets.SETS)


def test_drawn_sets_have_the_truth_that_they_are_drawn_with():
    for name in ("Gaussian", "noise", "rings"):
        embeddings, codes, labelled = small.synthetic(name, Config(), None)
        assert len(labelled) == 2000
        assert len(codes) == 22_000
        counts = np.bincount(codes)
        assert counts.min() > 0.95 * counts.mean()
        (x,) = embeddings.values()
        assert np.abs(np.corrcoef(x[:, 0], codes)[0, 1]) < 0.3
    radius = np.sum(x[:, :4] ** 2, axis=1)
    means = [radius[codes == c].mean() for c in range(5)]
    assert means == sorted(means)
    assert means[-1] > 4 * means[0]


def test_idx_files_are_read_packed_or_not(tmp_path):
    data = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in data.shape)
    (tmp_path / "plain").write_bytes(head + data.tobytes())
    (tmp_path / "packed.gz").write_bytes(gzip.compress(head + data.tobytes()))
    for name in ("plain", "packed"):
        np.testing.assert_array_equal(images.read_idx(tmp_path, name), data)
    (tmp_path / "other").write_bytes(b"no idx")
    with pytest.raises(ValueError, match="not an idx file"):
        images.read_idx(tmp_path, "other")
    with pytest.raises(FileNotFoundError, match="no gone"):
        images.read_idx(tmp_path, "gone")


def test_edges_see_directions():
    stripes = np.tile(np.arange(28) % 4 < 2, (28, 1)).astype(np.float32)
    across, down = images.edges(np.stack([stripes, stripes.T])).reshape(2, -1, 4).sum(axis=1)
    assert across[0] > 10 * across[2]
    assert down[2] > 10 * down[0]


def test_orders_are_the_agreements():
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(9)]
    trained = dict(zip(names, rng.random(9), strict=True))
    told = {name: 0.5 * value + 0.2 for name, value in trained.items()}
    found = orders.ordered(told, trained)
    assert found is not None
    assert found["spearman"] == pytest.approx(1.0)
    assert found["fidelity"] == pytest.approx(2.0)
    assert found["regret"] == 0.0
    other = dict(zip(names, rng.random(9), strict=True))
    found = orders.ordered(other, trained)
    assert found is not None
    x, y = np.array(list(other.values())), np.array(list(trained.values()))
    assert found["kendall"] == pytest.approx(agreement.kendall(x, y))
    assert orders.ordered({"0": 1.0, "1": 2.0}, trained) is None


def test_a_pair_is_called_only_in_its_true_order():
    trained = {"a": 0.5, "b": 0.4, "c": 0.39}
    pairs = [
        ("a", "b", 0.1, 0.05, 0.15), ("a", "c", 0.1, -0.01, 0.2), ("b", "c", 0.0, -0.1, 0.1),
    ]  # fmt: skip
    assert rows.calls(pairs, trained) == [True, False]
    assert rows.calls([("b", "a", 0.1, 0.05, 0.15)], trained) == [False]


def test_cross_validation_is_the_mean_over_folds(context):
    found = rankers.cross_validated(context)
    assert 0.5 < found["macro_f1"] < 1.0
    assert found["seconds"] > 0
    lucky = rankers.cross_validated(context._replace(codes=np.arange(240) % 4))
    assert abs(lucky["accuracy"] - 0.25) < 0.15


@pytest.mark.slow
def test_costs_are_taken_on_one_core(context):
    found = costs.in_a_process(context, 0)
    assert set(found) == {"logistic", "MLP(32)", "cv", "trained logistic", "trained MLP(32)"}
    assert all(seconds > 0 for seconds in found.values())
    assert found["MLP(32)"] < found["trained MLP(32)"]


def test_every_target_has_its_truth_table():
    """Each is met at the edge of what was wanted, missed beyond it, and not judged without it."""
    edges = {
        "linear.macro_f1": 0.007, "linear.accuracy": 0.007, "cv.macro_f1": 0.008,
        "cv.accuracy": 0.008, "linear.damaged.macro_f1": 0.012, "linear.damaged.accuracy": 0.012,
        "mlp.macro_f1": 0.012, "mlp.accuracy": 0.012, "k-NN.macro_f1": 0.007,
        "k-NN.accuracy": 0.007, "class means.macro_f1": 0.007, "class means.accuracy": 0.007,
        "linear.log_loss": 0.03, "worse.wrong": 0.05, "curve.4": 1.0, "curve.16": 2.0,
        "cost.linear.cv": 0.2, "cost.linear.trained": 0.05, "cost.mlp": 0.2,
        "large.wide.seconds": 120.0, "large.wide.gigabytes": 2.9, "large.long.seconds": 20.0,
        "mean.half_width": 0.015, "small.macro_f1": 1.0,
    }  # fmt: skip
    least = {
        "linear.spearman": 0.97, "linear.spearman_over_cv": -0.01, "mlp.spearman": 0.95,
        "mlp.spearman_over_cv": -0.01, "single.least": 0.8, "single.coverage": 0.85,
        "mean.coverage": 0.9, "pairs.called": 0.9,
    }  # fmt: skip
    good = edges | least
    asked = set(itertools.chain.from_iterable(one.measured for one in targets.TARGETS))
    assert asked == set(good)
    for target in targets.TARGETS:
        assert targets.judge(target, good)["verdict"] == targets.MET, target.text
        for name in target.measured:
            worse = 0.5 * good[name] if name.startswith("cv.") else 1.2 * good[name]
            if name in least:
                worse = good[name] - 0.02
            told = targets.judge(target, good | {name: worse})
            assert told["verdict"] == targets.MISSED, name
            assert targets.judge(target, good | {name: None})["verdict"] == targets.NOT_JUDGED
    wide = next(t for t in targets.TARGETS if t.measured[0] == "single.least")
    assert targets.judge(wide, good | {"single.coverage": 0.96})["verdict"] == targets.MISSED


def test_the_verdict_has_its_truth_table():
    assert [tables.verdict(*given) for given in ((3, 0), (2, 1), (0, 3))] == [HOLDS, PART, FAILS]


def row(context: contexts.Context, predicted: float, low: float, high: float) -> dict:
    values = {"macro_f1": [0.5, 0.7], "accuracy": [0.6, 0.8], "log_loss": [np.nan, np.nan]}
    own = {"value": predicted, "low": low, "high": high, "mean_low": 0.55, "mean_high": 0.59}
    trained = {"judged": values, "single": values}
    return rows.row(
        context, {"logistic": trained, "logistic, log loss": trained},
        {"logistic": {"macro_f1": own}},
    )  # fmt: skip


def test_a_point_is_judged_against_the_mean_of_the_trainings(context):
    kept = row(context._replace(labelled=np.arange(240).repeat(10)), 0.57, 0.55, 0.72)
    assert set(kept["heads"]) == {"logistic"}
    own = {"macro_f1", "accuracy", "splits"}
    assert set(kept["heads"]["logistic"]) == own
    found = {
        "contexts": [kept],
        "sets": [
            {"set": "made", "tuned": False, "pairs": {},
             "rankers": {rankers.CV: {"rows": {"macro_f1": 0.64}}}}
        ],
        "curves": [
            {"tuned": False, "times": 4, "metric": "macro_f1", "predicted": 0.5, "trained": 0.52}
        ],
        "costs": [
            {"tuned": False, "logistic": 0.2, "MLP(32)": 1.0, "cv": 2.0, "trained logistic": 4.0,
             "trained MLP(32)": 5.0},
            {"tuned": True, "logistic": 9.0, "MLP(32)": 9.0, "cv": 1.0, "trained logistic": 1.0,
             "trained MLP(32)": 1.0},
        ],
        "large": [],
    }  # fmt: skip
    (point,) = summary.points_of(found)
    assert point["trained"] == pytest.approx(0.6)
    assert point["error"] == pytest.approx(0.03)
    assert point["of_cv"] == pytest.approx(0.04)
    assert point["of_one"] == pytest.approx(0.1)
    assert point["blur"] == pytest.approx(0.1)
    assert (point["held"], point["mean_held"]) == (0.5, 0.0)
    found = summary.measured(found, [point])
    assert found["cost.linear.cv"] == pytest.approx(0.1)
    assert found["cost.linear.trained"] == pytest.approx(0.05)
    assert found["cost.mlp"] == pytest.approx(0.2)
    assert found["curve.4"] == pytest.approx(2.0)
    assert found["mean.half_width"] == pytest.approx(0.02)
    own = {"mean_low": 0.45, "mean_high": 0.55}
    tens = np.repeat([0.5, 0.6, 0.54], 10)
    assert rows.of_mean(own, tens)["mean_held"] == pytest.approx(2 / 3, abs=1e-5)
    assert found["mlp.macro_f1"] is None


def test_verdicts_are_counted_over_sets_and_heads(context):
    made = [
        row(context._replace(embedding=name), value, 0.0, 1.0)
        for name, value in (("a", 0.5), ("b", 0.4), ("c", 0.3))
    ]
    for one, mean in zip(made, (0.5, 0.45, 0.44), strict=True):
        one["heads"]["logistic"]["macro_f1"]["trained"] = mean
    assert orders.truths(made, "made", "logistic") == {"a": 0.5, "b": 0.45, "c": 0.44}
    told = {
        "best": "b", "worse": ["a", "c"],
        "pairs": [("b", "a", -0.1, -0.2, -0.01), ("c", "a", -0.1, -0.2, 0.01),
                  ("c", "b", -0.1, -0.2, -0.01)],
    }  # fmt: skip
    kept = rows.pairs(told, orders.truths(made, "made", "logistic"))
    assert kept == {"best": "b", "worse": ["a", "c"], "apart": 2, "called": 1}
    one = {"set": "made", "tuned": False, "pairs": {"logistic": kept}, "rankers": {}}
    found = orders.verdicts({"contexts": made, "sets": [one, {**one, "tuned": True}]})
    assert found == {"worse.wrong": 0.5, "worse.count": 2, "pairs.called": 0.5, "pairs.count": 2}
    (line,) = orders.averaged(orders.of_sets({"contexts": made, "sets": [one]}))
    assert (line["ranker"], line["orders"], line["spearman"]) == (orders.KERNLENS, 1, 1.0)


def test_options_that_cannot_be_run_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--sets must be of .*; got nothing"):
        experiment.check(dataclasses.replace(TINY, sets=("nothing",)))
    with pytest.raises(FileNotFoundError, match=r"--fashion-mnist: .* is not there"):
        experiment.check(dataclasses.replace(TINY, fashion_mnist=tmp_path / "gone"))
    with pytest.raises(ValueError, match="--rows must be at least 100"):
        experiment.check(dataclasses.replace(TINY, rows=5))


def test_sets_without_files_are_left_out_with_a_word(tmp_path):
    console = report.console()
    with console.capture() as said:
        cells = Cells(tmp_path, console)
        assert sets.load("Fashion-MNIST", Config(), cells) is None
        assert sets.load("ML-1M by time", Config(), cells) is None
    assert "--fashion-mnist" in said.get()
    assert "--movielens" in said.get()
