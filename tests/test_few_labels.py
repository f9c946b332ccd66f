"""The protocol of few labels a class, against scikit-learn on the same draws."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from kernlens import probes
from kernlens.probes import few_labels
from kernlens.types import Labels


def items(seed, n=300, dim=10, classes=4, spread=0.8, scale=1.0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), n // classes).astype(np.int32)
    x = spread * rng.normal(size=(classes, dim))[codes] + rng.normal(size=(len(codes), dim))
    return scale * x + 3.0, Labels(codes, tuple("abcdef"[:classes]))


def drawn(codes, draw, seed=0, per_class=8):
    """The rows of a draw: the first of each class in random order."""
    key = np.random.default_rng([seed, draw]).random(len(codes))
    rows = [np.flatnonzero(codes == c) for c in np.unique(codes)]
    return np.concatenate([own[np.argsort(key[own])][:per_class] for own in rows])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("scale", "penalty"),
    [
        (0.05, 1.0),
        (1.0, 0.01),
        *(pytest.param(scale, 1.0, marks=pytest.mark.slow) for scale in (1.0, 10.0)),
    ],
)
def test_each_draw_is_scikit_learns(scale, penalty):
    x, labels = items(0, scale=scale)
    found = few_labels(x, labels, penalty=penalty, draws=4)
    for draw in range(4):
        train = drawn(labels.codes, draw)
        test = np.delete(np.arange(len(x)), train)
        head = LogisticRegression(C=1.0 / penalty, tol=1e-8, max_iter=3000)
        given = head.fit(x[train], labels.codes[train]).predict(x[test])
        accuracy = np.mean(given == labels.codes[test])
        # A row at a border may fall to either side of it.
        assert abs(found.metrics.accuracy[draw] - accuracy) <= 2.1 / len(test)
        macro = f1_score(labels.codes[test], given, average="macro")
        assert abs(found.metrics.macro_f1[draw] - macro) <= 3.0 / len(test)


def test_mean_and_spread_are_over_draws():
    x, labels = items(1)
    found = few_labels(x, labels, draws=6)
    assert found.mean("accuracy") == pytest.approx(np.mean(found.metrics.accuracy))
    assert found.spread("macro_f1") == pytest.approx(np.std(found.metrics.macro_f1, ddof=1))
    assert repr(found).startswith("8 labels of each of 4 classes, 6 draws: macro-F1 0.")
    more = few_labels(x, labels, per_class=40, draws=6)
    assert more.mean("accuracy") > found.mean("accuracy")


def test_small_classes_and_rows_without_a_label_are_left_out():
    x, labels = items(2)
    codes = labels.codes.copy()
    codes[:70] = -1  # leaves five of the first class
    found = few_labels(x, labels._replace(codes=codes))
    assert found.classes == ("b", "c", "d")
    kept = codes > 0
    expected = few_labels(x[kept], Labels(codes[kept] - 1, ("b", "c", "d")))
    np.testing.assert_array_equal(found.metrics.accuracy, expected.metrics.accuracy)


def test_mistakes_are_named():
    x, labels = items(3, n=40)
    with pytest.raises(ValueError, match="need two classes of more rows"):
        few_labels(x, labels, per_class=10)
    with pytest.raises(ValueError, match="per_class must be >= 1"):
        few_labels(x, labels, draws=1)
    bad = x.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        few_labels(bad, labels)
    assert isinstance(few_labels(x, labels, per_class=4), probes.FewLabels)
