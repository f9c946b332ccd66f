"""The table of probes, with the source, the null and the pitfalls of each."""

from collections.abc import Callable

from kernlens.probes.class_means import class_means
from kernlens.probes.discriminant import discriminant
from kernlens.probes.logistic import logistic
from kernlens.probes.mlp import mlp
from kernlens.probes.neighbours import neighbours
from kernlens.probes.prediction import Prediction
from kernlens.probes.ridge import ridge
from kernlens.scores import Estimator

PROBES: dict[str, Callable[..., Prediction]] = {
    "logistic": logistic,
    "mlp": mlp,
    "discriminant": discriminant,
    "ridge": ridge,
    "class_means": class_means,
    "neighbours": neighbours,
}
"""Held-out predictions of classes, by name."""

TUNED: frozenset[Callable[..., Prediction]] = frozenset({logistic, neighbours})
"""Those that take the ``metric`` that is asked."""

ABOUT: dict[str, Estimator] = {
    "logistic": Estimator(
        logistic,
        formula=r"\min_{W, b} \sum_i -\log \mathrm{softmax}(W z_i + b)_{y_i} + "
        r"\tfrac\lambda2 \|W\|^2",
        source="Hastie, Tibshirani and Friedman (2009), sections 4.4 and 7.10, by five folds",
        range="[0, 1] for the metrics, [0, inf) for the log loss",
        null="the share of the largest class, and the entropy of the labels",
        predicts="accuracy, macro-F1 and log loss of trained logistic regression, in value",
        pitfalls="linear: boosting and neighbours may read more; on few columns one training "
        "costs as little",
        shift_free=True,
    ),
    "mlp": Estimator(
        mlp,
        formula=r"f_{-k}(x) = W_2 \max(0, W_1 z + b_1) + b_2",
        source="Stone (1974), cross-validation, by five folds",
        range="[0, 1] for the metrics, [0, inf) for the log loss",
        null="the share of the largest class, and the entropy of the labels",
        predicts="accuracy, macro-F1 and log loss of a trained MLP head, in value",
        pitfalls="it trains five heads: their recipe is part of the answer",
        shift_free=True,
    ),
    "discriminant": Estimator(
        discriminant,
        formula=r"g_k(x) = \log \pi_k - \tfrac\nu2 (x - m_k)^\top (W + \lambda I)^{-1} (x - m_k)",
        source="Hastie, Tibshirani and Friedman (2009), sections 4.3 and 12.6, each row left out",
        range="[0, 1] for the metrics, [0, inf) for the log loss",
        null="the share of the largest class, and the entropy of the labels",
        predicts="accuracy, macro-F1 and log loss of a trained linear classifier, in value",
        pitfalls="linear: boosting and neighbours may read more; accuracies of few rows tie, where "
        "log loss does not; the intervals do not hold another pretraining run",
        shift_free=True,
    ),
    "ridge": Estimator(
        ridge,
        formula=r"r_i = (y_i - f_i) / (1 - h_i)",
        source="Allen (1974), PRESS; Hastie, Tibshirani and Friedman (2009), equation 7.52",
        range="[0, 1] for the metrics, [0, inf) for the squared error",
        null="the share of the largest class, and the variance of the labels",
        predicts="order of trained linear classifiers; squared error of ridge, in value",
        pitfalls="macro-F1 of unbalanced classes far below that of a trained classifier",
        shift_free=True,
    ),
    "class_means": Estimator(
        class_means,
        formula=r"g_k(x) = \langle x, m_k\rangle",
        source="Xu and Yang (2023), the inner-product decoder of entity tasks, by folds",
        range="[0, 1] for the metrics and the error rate",
        null="the share of the largest class",
        predicts="accuracy and macro-F1 of an inner-product head with class means, in value",
        pitfalls="a mean that all rows share, or rows of unlike lengths, decide for one class",
        shift_free=False,
    ),
    "neighbours": Estimator(
        neighbours,
        formula=r"\arg\max_c \#\{j \in N_k(x) : y_j = c\}",
        source="Cover and Hart (1967), by folds",
        range="[0, 1] for the metrics and the error rate",
        null="the share of the largest class",
        predicts="accuracy and macro-F1 of a k-nearest-neighbour classifier, in value",
        pitfalls="time grows with the square of the rows; a column of large scale decides alone",
        shift_free=True,
    ),
}
"""What to know of each of :data:`PROBES`."""
