"""k nearest neighbours and class means against float64 loops and scikit-learn, fold by fold."""

import importlib

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize

import kernlens as kl
from kernlens import io, probes
from kernlens.cli import words
from kernlens.kernels.of_decoder import TREE_WORDS
from kernlens.models import decoders
from kernlens.probes import nearest as nearest_
from kernlens.probes.folds import share_out
from kernlens.probes.nearest import nearest
from kernlens.types import Labels
from tests.cases import gaussian_classes

neighbours_ = importlib.import_module("kernlens.probes.neighbours")  # the package has the function
PROBLEM = gaussian_classes(0, n=260, dim=5, separation=0.8)
X, CODES = PROBLEM.x, PROBLEM.codes
LABELS = Labels(CODES, tuple("abcd"))


def by_loop(x, apart, num):
    """Row numbers by distance, then by number; -1 where there are no more."""
    x, found = x.astype(np.float64), np.full((len(x), num), -1)
    for i, row in enumerate(x):
        others = np.flatnonzero(apart != apart[i])
        far = np.sum((x[others] - row) ** 2, axis=1)
        own = others[np.lexsort((others, far))][:num]
        found[i, : len(own)] = own
    return found


def refitted(target, folds, fit):
    """Classes of each fold by a classifier that saw the others, and means over folds."""
    predicted, scores = np.empty_like(target), []
    for k in range(5):
        at = folds == k
        predicted[at] = fit(~at).predict_of(at)
        f1 = f1_score(target[at], predicted[at], average="macro", zero_division=0)
        scores.append([accuracy_score(target[at], predicted[at]), f1])
    return predicted, np.mean(scores, axis=0)


def partitions(groups):
    """Ten, of which the first is that of the answers."""
    return [share_out(CODES, groups, seed=[0, i] if i else 0) for i in range(10)]


class Refit:
    def __init__(self, answer):
        self.predict_of = answer


@pytest.mark.parametrize(("n", "p", "num"), [(300, 4, 7), (40, 60, 12), (9, 2, 20)])
def test_the_nearest_are_those_of_a_loop(n, p, num, monkeypatch):
    monkeypatch.setattr(nearest_, "MAX_BYTES", 2**12)
    rng = np.random.default_rng(1)
    x, apart = 1e3 + rng.standard_normal((n, p)), rng.integers(-1, 4, n)
    np.testing.assert_array_equal(nearest(x, apart, num), by_loop(x, apart, num))


@pytest.mark.thorough
def test_a_column_of_large_scale_and_outliers_keep_the_nearest_exact():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((400, 6))
    x[:, 0] *= 1e4
    x[:200:100] *= 1e3
    x[200:] = np.tile(x[200:210], (20, 1)) + 1e-2 * rng.standard_normal((200, 6))
    apart = np.arange(400)
    # In float32 the products alone have lost them.
    z = (x - x.mean(axis=0)).astype(np.float32)
    far = np.sum(z**2, axis=1) - 2.0 * (z @ z.T)
    np.fill_diagonal(far, np.inf)
    assert np.mean(np.argsort(far, axis=1)[:, 0] == by_loop(x, apart, 1)[:, 0]) < 0.9
    np.testing.assert_array_equal(nearest(x, apart, 5), by_loop(x, apart, 5))


@pytest.mark.thorough
@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("options", [{}, {"metric": "cosine"}, {"standardised": True}])
def test_votes_are_scikit_learns(k, options):
    rows = X * np.geomspace(1.0, 30.0, 5)
    found = kl.predict(rows, LABELS, decoder=decoders.Neighbours(k, **options))
    z = StandardScaler().fit_transform(rows) if options.get("standardised") else rows
    z = normalize(z) if options.get("metric") else z

    def fit(train):
        model = KNeighborsClassifier(k, algorithm="brute").fit(z[train], CODES[train])
        return Refit(lambda at: model.predict(z[at]))

    every = partitions(np.arange(260))
    np.testing.assert_array_equal(found.held_out.folds, every[0])
    refits = [refitted(CODES, folds, fit) for folds in every]
    np.testing.assert_array_equal(found.predicted, refits[0][0])
    accuracy, macro_f1 = np.mean([scores for _, scores in refits], axis=0)
    assert found.metrics["accuracy"].value == pytest.approx(accuracy, abs=1e-12)
    assert found.metrics["macro_f1"].value == pytest.approx(macro_f1, abs=1e-12)
    assert found.metrics["error_rate"].value == pytest.approx(1 - accuracy, abs=1e-12)


@pytest.mark.parametrize("priors", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_class_means_are_refitted_without_each_fold(priors, temperature):
    found = probes.class_means(X, LABELS, priors=priors, temperature=temperature)

    def fit(train):
        means = np.stack([X[train & (c == CODES)].mean(axis=0) for c in range(4)])
        bias = np.log(np.bincount(CODES[train]) / np.sum(train)) if priors else 0.0
        return Refit(lambda at: np.argmax(X[at] @ means.T / temperature + bias, axis=1))

    predicted, (accuracy, macro_f1) = refitted(CODES, found.held_out.folds, fit)
    np.testing.assert_array_equal(found.predicted, predicted)
    assert found.metrics["accuracy"].value == pytest.approx(accuracy, abs=1e-12)
    assert found.metrics["macro_f1"].value == pytest.approx(macro_f1, abs=1e-12)


def test_priors_of_a_decoder_reach_the_probe():
    asked = kl.predict(X, LABELS, decoder=decoders.InnerProduct(priors=True))
    assert asked.metrics == probes.class_means(X, LABELS, priors=True).metrics
    assert asked.metrics != probes.class_means(X, LABELS).metrics
    asked = kl.predict(X, LABELS, decoder=decoders.Cosine(0.5, priors=True))
    unit = normalize(X).astype(np.float32)
    expected = probes.class_means(unit, LABELS, priors=True, temperature=0.5)
    np.testing.assert_array_equal(asked.predicted, expected.predicted)


@pytest.mark.thorough
def test_lists_that_end_too_soon_are_sought_again(monkeypatch):
    copied = np.concatenate([X, np.repeat(X[:4], 30, axis=0)])
    labels = Labels(np.concatenate([CODES, np.repeat(CODES[:4], 30)]), tuple("abcd"))
    asked = [{"groups": np.arange(380)}, {}]
    expected = [probes.neighbours(copied, labels, **options) for options in asked]
    monkeypatch.setattr(neighbours_, "_depth", lambda num, folds: 3)
    for options, one in zip(asked, expected, strict=True):
        assert probes.neighbours(copied, labels, **options).metrics == one.metrics


@pytest.mark.thorough
def test_a_value_hangs_little_on_how_rows_are_shared_out():
    """Of one partition into five it has three times the spread of the mean of ten."""
    found = [probes.neighbours(X, LABELS, k=3, seed=i).value.value for i in range(8)]
    refits = []
    for seed in range(8):
        folds, scores = share_out(CODES, np.arange(260), seed=seed), []
        for f in range(5):
            model = KNeighborsClassifier(3, algorithm="brute").fit(X[folds != f], CODES[folds != f])
            given = model.predict(X[folds == f])
            scores.append(f1_score(CODES[folds == f], given, average="macro", zero_division=0))
        refits.append(np.mean(scores))
    assert np.std(found) < 0.6 * np.std(refits)
    assert abs(np.mean(found) - np.mean(refits)) < np.std(refits)


def test_a_difference_that_no_held_out_answer_shows_is_not_told_apart():
    one = probes.neighbours(X, LABELS, k=3)
    lower = one.value._replace(value=one.value.value - 0.001)
    other = one._replace(metrics={**one.metrics, "macro_f1": lower})
    for found in (probes.paired_difference(other, one), *probes.differences(other, one)):
        assert (found.value, found.low, found.high) == (pytest.approx(-0.001), found.value, 0.0)


def test_each_fold_is_answered_with_the_k_that_is_best_on_the_others(monkeypatch):
    monkeypatch.setattr(neighbours_, "SPLITS", 5)
    found = probes.neighbours(X, LABELS)
    tried = {k: probes.neighbours(X, LABELS, k=k) for k in (1, 3, 5, 10, 20, 50)}
    folds, expected = found.held_out.folds, np.empty_like(found.predicted)
    quality = {
        k: [
            f1_score(CODES[folds == f], one.predicted[folds == f], average="macro", zero_division=0)
            for f in range(5)
        ]
        for k, one in tried.items()
    }
    for f in range(5):
        best = max(tried, key=lambda k: (round(sum(quality[k]) - quality[k][f], 9), k))
        expected[folds == f] = tried[best].predicted[folds == f]
    np.testing.assert_array_equal(found.predicted, expected)
    best = max(tried, key=lambda k: (round(sum(quality[k]), 9), k))
    assert found.notes[0].startswith(f"{best} nearest rows, chosen by macro_f1 among 1, 3, 5")


@pytest.mark.parametrize("name", ["neighbours", "class_means", "discriminant", "ridge"])
def test_copied_rows_say_no_more_than_the_rows_themselves(name):
    rng = np.random.default_rng(3)
    x, codes = rng.standard_normal((60, 6)), rng.integers(0, 3, 60).astype(np.int32)
    options = {"k": 1} if name == "neighbours" else {}
    copied = Labels(np.repeat(codes, 5), tuple("abc"))
    found = probes.PROBES[name](np.repeat(x, 5, axis=0), copied, **options)
    # Chance is a third: with copies in training k-NN has all of these right, the others many.
    assert found.metrics["accuracy"].value < 0.55
    assert "240 of 300 rows are copies of another row" in found.notes[-1]
    apart = np.arange(300)
    flattered = probes.PROBES[name](np.repeat(x, 5, axis=0), copied, groups=apart, **options)
    assert flattered.metrics["accuracy"].value > found.metrics["accuracy"].value + 0.02


def test_rows_alone_in_their_class_count_in_no_metric():
    codes = CODES.copy()
    codes[[5, 9]] = 4
    codes[9] = 5
    labels = Labels(codes, tuple("abcdef"))
    for probe in (probes.neighbours, probes.class_means):
        found = probe(X, labels)
        np.testing.assert_array_equal(np.flatnonzero(np.isinf(found.losses)), [5, 9])
        assert any("2 of 6 classes have one distinct row" in note for note in found.notes)
        assert not np.any(found.predicted == found.target, where=np.isinf(found.losses))


def test_a_stream_is_read_as_its_rows(tmp_path):
    np.save(tmp_path / "a.npy", X.astype(np.float32))
    stream = io.open_embeddings(tmp_path / "a.npy")
    found = kl.predict(stream, LABELS, decoder=decoders.Neighbours(3, "cosine"))
    expected = kl.predict(X.astype(np.float32), LABELS, decoder=decoders.Neighbours(3, "cosine"))
    np.testing.assert_array_equal(found.predicted, expected.predicted)


def test_words_name_decoders_and_their_fields():
    for word, made in {
        "knn": decoders.Neighbours(),
        "knn:10": decoders.Neighbours(10),
        "knn:10:cosine": decoders.Neighbours(10, "cosine"),
        "knn:cosine:standardised": decoders.Neighbours(None, "cosine", standardised=True),
        "inner-product:priors": decoders.InnerProduct(priors=True),
        "cosine:0.5:priors": decoders.Cosine(0.5, priors=True),
    }.items():
        assert words.decoder(word) == made
    for word, match in (
        ("knn:0", "a whole number of at least 1"),
        ("knn:near", "any of the words euclidean"),
        *((word, "does not predict decision trees") for word in TREE_WORDS),
    ):
        with pytest.raises(ValueError, match=match):
            words.decoder(word)


def test_what_cannot_be_predicted_is_named():
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    for estimator, match in (
        (HistGradientBoostingClassifier(), "HistGradientBoosting.*does not predict decision trees"),
        (DecisionTreeClassifier(), "DecisionTreeClassifier: kernlens does not predict"),
        (LogisticRegression(), r"got the estimator LogisticRegression.*decoders.Linear\(\)"),
    ):
        with pytest.raises(ValueError, match=match):
            kl.predict(X, LABELS, decoder=estimator)
    with pytest.raises(ValueError, match="k-NN by votes"):
        kl.predict(X, X[:, 0], decoder=decoders.Neighbours(3))
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.\d+, the rows"):
        probes.neighbours(X, LABELS, k=300)
    with pytest.raises(ValueError, match="metric must be 'euclidean' or 'cosine'"):
        decoders.Neighbours(metric="dot")
    with pytest.raises(ValueError, match="temperature must be positive"):
        probes.class_means(X, LABELS, temperature=0.0)
    with pytest.raises(ValueError, match="metric must be one of"):
        probes.neighbours(X, LABELS, metric="f1")


@pytest.mark.parametrize("name", ["discriminant", "ridge"])
def test_a_column_of_large_scale_drowns_no_other(name):
    price = np.random.default_rng(4).lognormal(6.0, 2.0, len(X))
    with_price = np.column_stack([X, price])
    plain, found = (probes.PROBES[name](x, LABELS) for x in (X, with_price))
    assert found.metrics["macro_f1"].value > plain.metrics["macro_f1"].value - 0.03
    drowned = probes.PROBES[name](with_price, LABELS, standardised=False)
    assert drowned.metrics["macro_f1"].value < plain.metrics["macro_f1"].value - 0.1


@pytest.mark.parametrize("name", ["discriminant", "ridge"])
def test_a_strength_at_the_edge_of_the_path_is_told(name):
    probe = probes.PROBES[name]
    noise = np.random.default_rng(5).standard_normal((260, 5))
    (note,) = probe(noise, LABELS, strengths=(1e-4, 1e-3)).notes
    assert "is the" in note
    assert "of the path" in note
    assert probe(noise, LABELS, strengths=(1e-4,)).notes == ()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["discriminant", "ridge"])
def test_copies_are_left_out_as_refits_leave_them_out(name):
    """At one strength, each distinct row three times over: the fit without all three."""
    rng = np.random.default_rng(6)
    few = rng.choice(260, 40, replace=False)
    x, codes = np.repeat(X[few], 3, axis=0), np.repeat(CODES[few], 3)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    found = probes.PROBES[name](x, Labels(codes, tuple("abcd")), strengths=[0.3])
    classes = np.unique(codes)
    y = (codes[:, None] == classes).astype(float)
    share = y.mean(axis=0)
    losses = []
    for i in range(0, 120, 3):
        left = np.ones(120, bool)
        left[i : i + 3] = False
        own = np.searchsorted(classes, codes[i])
        if name == "ridge":
            unit = np.sum(x**2) / 5
            mean, mean_y = x[left].mean(axis=0), y[left].mean(axis=0)
            z = x[left] - mean
            weights = np.linalg.solve(z.T @ z + 0.3 * unit * np.eye(5), z.T @ (y[left] - mean_y))
            losses.append(np.sum((y[i] - mean_y - (x[i] - mean) @ weights) ** 2))
            continue
        if not np.any(left & (codes == codes[i])):
            continue
        deviation = x - np.stack([x[codes == c].mean(axis=0) for c in codes])
        unit = np.sum(deviation**2) / 5
        means = np.stack([x[left & (codes == c)].mean(axis=0) for c in classes])
        a = (x - means[np.searchsorted(classes, codes)])[left]
        inner = np.linalg.inv(a.T @ a + 0.3 * unit * np.eye(5))
        b = x[i] - means
        scores = np.log(share) - 0.5 * (117 - len(classes)) * np.einsum("kp,pq,kq->k", b, inner, b)
        losses.append(np.log(np.sum(np.exp(scores - scores[own]))))
    counted = found.losses[::3][np.isfinite(found.losses[::3])]
    np.testing.assert_allclose(counted, losses, rtol=1e-4, atol=1e-6)
