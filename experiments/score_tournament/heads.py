"""Trained readers, scikit-learn's, and cross-validation: imported by worker processes too."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

FOLDS = 5
LEAST_PROBABILITY = 1e-6
"""Of a class that a fold lacks; the log loss would be infinite without it."""


def logistic() -> Any:
    """Logistic regression of standardised columns."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))


def mlp() -> Any:
    """32 hidden units on standardised columns."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    net = MLPClassifier((32,), solver="lbfgs", alpha=1.0, max_iter=100, random_state=0)
    return make_pipeline(StandardScaler(), net)


def nearest() -> Any:
    """Five nearest rows of the embedding as it is."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(5)


def boosting() -> Any:
    """Fifteen rounds of gradient boosting of small trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    made: Any = HistGradientBoostingClassifier  # its early_stopping is "auto" or a bool
    return made(
        max_iter=15, max_leaf_nodes=8, min_samples_leaf=5, learning_rate=0.3,
        early_stopping=False, random_state=0,
    )  # fmt: skip


HEADS: dict[str, Callable[[], Any]] = {
    "LR": logistic,
    "MLP": mlp,
    "k-NN": nearest,
    "boosting": boosting,
}
"""Readers by name."""


def accuracy(head: str, x: np.ndarray, codes: np.ndarray, train: np.ndarray) -> float:
    """Accuracy on the other rows of a head trained on the rows ``train``."""
    from threadpoolctl import threadpool_limits

    rest = np.setdiff1d(np.arange(len(codes)), train)
    x = x.astype(np.float64)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # steps spent: that is the head's outcome
        fitted = HEADS[head]().fit(x[train], codes[train])
        return float(np.mean(fitted.predict(x[rest]) == codes[rest]))


class CrossValidated(NamedTuple):
    """Accuracy and mean log loss, in nats, of rows held out in turn."""

    accuracy: float
    log_loss: float


def cross_validated(x: np.ndarray, codes: np.ndarray) -> CrossValidated:
    """Logistic regression over five stratified folds."""
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits

    probabilities = np.zeros((len(codes), codes.max() + 1))
    x = x.astype(np.float64)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes of fewer rows than folds
        for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, codes):
            fitted = logistic().fit(x[train], codes[train])
            probabilities[np.ix_(test, fitted.classes_)] = fitted.predict_proba(x[test])
    own = probabilities[np.arange(len(codes)), codes]
    return CrossValidated(
        float(np.mean(probabilities.argmax(axis=1) == codes)),
        float(-np.mean(np.log(np.maximum(own, LEAST_PROBABILITY)))),
    )


def ridge_error(x: np.ndarray, codes: np.ndarray, train: np.ndarray) -> float:
    """Squared error on the other rows of ridge on one-hot classes, its strength by leave-one-out.

    Strengths are relative to the mean eigenvalue of the scatter, as in :mod:`kernlens.probes`.
    """
    rest = np.setdiff1d(np.arange(len(codes)), train)
    x = x.astype(np.float64)
    mean = x[train].mean(axis=0)
    z, new = x[train] - mean, x[rest] - mean
    labels = np.eye(codes.max() + 1)[codes]
    share = labels[train].mean(axis=0)
    y = labels[train] - share
    left, singular, right = np.linalg.svd(z, full_matrices=False)
    unit = np.sum(singular**2) / x.shape[1] or 1.0
    fits = []
    for strength in np.logspace(-4.0, 3.0, 29):
        kept = singular**2 / (singular**2 + strength * unit)
        leverage = 1.0 / len(train) + np.sum(left**2 * kept, axis=1)
        residual = (y - (left * kept) @ (left.T @ y)) / np.maximum(1.0 - leverage, 1e-9)[:, None]
        fits.append((np.mean(np.sum(residual**2, axis=1)), strength))
    shrunk = singular / (singular**2 + min(fits)[1] * unit)
    given = share + new @ right.T @ (shrunk[:, None] * (left.T @ y))
    return float(np.mean(np.sum((labels[rest] - given) ** 2, axis=1)))
