"""The scikit-learn classifier: its conventions, and its answers against scikit-learn's own."""

import copy

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import kernlens as kl
from kernlens import decoders
from kernlens.sklearn import EveryRow, KernlensClassifier, held_out


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.mark.slow
def test_the_classifier_passes_the_checks_of_scikit_learn():
    found = check_estimator(KernlensClassifier(), on_skip=None)
    passed = [row for row in found if row["status"] == "passed"]
    assert len(passed) > 40
    assert all(row["status"] in ("passed", "skipped") for row in found)


def test_a_fitted_head_answers_as_the_logistic_regression_of_scikit_learn(iris):
    x, y = iris
    ours = KernlensClassifier(penalty=1.0).fit(x, y)
    scaled = StandardScaler().fit_transform(x)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(scaled, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(scaled), atol=2e-3)
    assert ours.penalty_ == 1.0
    assert ours.score(x, y) == pytest.approx(theirs.score(scaled, y))


def test_its_held_out_value_is_that_of_predict(iris):
    x, y = iris
    names = np.asarray(["setosa", "versicolor", "virginica"])[y]
    head = KernlensClassifier(decoder=decoders.InnerProduct()).fit(x, names)
    found = kl.predict(x, names, decoder=decoders.InnerProduct())
    assert head.prediction_.metrics["macro_f1"].value == found.metrics["macro_f1"].value
    assert head.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert set(head.predict(x)) <= set(names)


def test_a_search_orders_pipelines_by_their_held_out_value(iris):
    x, y = iris
    x = x + np.random.default_rng(0).normal(scale=1.0, size=x.shape)
    search = GridSearchCV(
        make_pipeline(PCA(), KernlensClassifier()), {"pca__n_components": [1, 4]},
        scoring=held_out("log_loss"), cv=EveryRow(),
    ).fit(x, y)  # fmt: skip
    expected = [-kl.predict(PCA(k).fit_transform(x), y).metrics["log_loss"].value for k in (1, 4)]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected, rtol=1e-4)
    assert search.best_params_ == {"pca__n_components": (1, 4)[int(np.argmax(expected))]}
    assert search.predict(x).shape == y.shape


def test_a_copy_of_a_fitted_head_answers_alike(iris):
    x, y = iris
    head = KernlensClassifier(penalty=1.0).fit(x, y)
    again = copy.deepcopy(head)
    np.testing.assert_array_equal(head.predict_proba(x), again.predict_proba(x))


def test_what_cannot_be_scored_is_named(iris):
    x, y = iris
    with pytest.raises(ValueError, match=r"fitted KernlensClassifier.*got LogisticRegression"):
        held_out()(LogisticRegression(max_iter=10_000).fit(x, y), x, y)
    with pytest.raises(ValueError, match=r"metric must be one of .*macro_f1.*; got 'auc'"):
        held_out("auc")(KernlensClassifier(penalty=1.0).fit(x, y))
    with pytest.raises(ValueError, match="at least two classes; got one class"):
        KernlensClassifier().fit(x[:20], np.zeros(20))
    assert EveryRow().get_n_splits(x) == 1
