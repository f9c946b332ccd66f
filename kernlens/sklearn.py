"""The probes as a scikit-learn classifier, and their held-out value as a scorer.

    from kernlens.sklearn import EveryRow, KernlensClassifier, held_out

    head = KernlensClassifier().fit(x, y)
    head.prediction_                       # what it reaches on rows that it has not seen
    head.predict(new_rows)

    search = GridSearchCV(
        make_pipeline(PCA(), KernlensClassifier()), {"pca__n_components": [8, 16, 32]},
        scoring=held_out("macro_f1"), cv=EveryRow(),
    )

Needs scikit-learn, the extra ``train``.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from kernlens.lens.heads import heads
from kernlens.probes.prediction import LOWER_IS_BETTER, MACRO_F1, Prediction
from kernlens.types import Decoder, Kernel, Labels


class KernlensClassifier(ClassifierMixin, BaseEstimator):
    """The head behind a prediction, as a classifier of scikit-learn.

    ``fit`` finds the head of all rows and, from heads that left rows out, what it will reach on
    rows that it has not seen. So a held-out value needs no cross-validation.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(200, 4))
    >>> head = KernlensClassifier().fit(rows, np.where(rows[:, 0] > 0, "up", "down"))
    >>> head.predict([[2.0, 0.0, 0.0, 0.0]]).tolist()
    ['up']
    >>> head.prediction_.metrics["accuracy"].value > 0.9
    True

    Args:
      decoder: the head, as for :func:`kernlens.predict`: ``decoders.Linear()``, ``Mlp(32)``,
        ``InnerProduct()``, ``Cosine()``, another Flax module or ``(init_fn, apply_fn)``. Default:
        a linear head. k nearest neighbours have no head to keep; scikit-learn has its own.
      kernel: any kernel ``(x1, x2) -> K``, in place of a decoder.
      penalty: of the weights, above 0. Default: that of the decoder, or chosen on held-out rows.
      metric: the metric that chooses the penalty, and that ``prediction_`` shows first.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of folds, landmarks and random features.

    Attributes:
      classes_: the classes, sorted, ``[C]``.
      prediction_: a :class:`kernlens.Prediction`, what such a head reaches on held-out rows.
      penalty_: the penalty that was taken, or None of a head without one.
      n_features_in_: columns of the rows.
    """

    def __init__(
        self,
        decoder: Decoder | None = None,
        *,
        kernel: Kernel | None = None,
        penalty: float | None = None,
        metric: str = MACRO_F1,
        level: float = 0.9,
        seed: int = 0,
    ):
        self.decoder = decoder
        self.kernel = kernel
        self.penalty = penalty
        self.metric = metric
        self.level = level
        self.seed = seed

    def fit(self, X: Any, y: Any) -> "KernlensClassifier":
        """Fits the head to all rows, and to rows without each fold.

        Args:
          X: rows of the embedding, ``[n, d]``.
          y: class of each row, ``[n]``.

        Returns:
          Itself.

        Raises:
          ValueError: rows that are not finite, one class alone, a target that is continuous, and
            what :func:`kernlens.predict` raises.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"expected at least two classes; got one class, {self.classes_[0]!r}, in all "
                f"{len(y):,} rows"
            )
        labels = Labels(codes.astype(np.int32), tuple(map(str, self.classes_)))
        self._heads = heads(
            X, labels, decoder=self.decoder, kernel=self.kernel, penalty=self.penalty,
            metric=self.metric, level=self.level, seed=self.seed,
        )  # fmt: skip
        self.prediction_: Prediction = self._heads.prediction
        self.penalty_ = self._heads.penalty
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes.

        Args:
          X: rows, ``[m, d]``.

        Returns:
          Float64 ``[m, C]``; of two classes how much the second is above the first, ``[m]``.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row, ``[m]``."""
        scores = self._scores(X)
        return self.classes_[np.argmax(scores, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, ``[m, C]``: the softmax of the scores.

        Those of class means (inner-product and cosine heads) are no calibrated probabilities.
        """
        scores = self._scores(X)
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        return likely / likely.sum(axis=1, keepdims=True)

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        features = np.asarray(self._heads.features_fn(X), np.float64)
        weights = np.asarray(self._heads.whole_weights, np.float64)
        # One product a row, so that an answer does not depend on the rows that come with it.
        return np.einsum("ip,cp->ic", features, weights) + self._heads.whole_bias


class EveryRow:
    """Splitter for ``cv=`` with one split, in which every row is fitted and every row is scored.

    Right together with :func:`held_out` alone, whose value is of rows that were held out already.
    Each setting of a search is then fitted once.
    """

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple]:
        """The only split."""
        del y, groups
        rows = np.arange(X.shape[0] if hasattr(X, "shape") else len(X))
        yield rows, rows

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """One."""
        del X, y, groups
        return 1


def held_out(metric: str = MACRO_F1) -> Callable[..., float]:
    """A scorer for ``scoring=``: what the fitted head reaches on rows that it has not seen.

    It reads ``prediction_`` of a fitted :class:`KernlensClassifier`, at the end of a pipeline too,
    and not the rows that it is given. Steps of a pipeline that learn from labels have seen them, so
    only steps without labels (scaling, PCA) go before it.

    Args:
      metric: a metric of the prediction; of those where less is better, the negative is given, as
        scikit-learn's ``neg_log_loss`` does.

    Returns:
      ``(estimator, X, y) -> float``.

    Raises:
      ValueError: from the scorer, an estimator without a prediction or with other metrics.
    """
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0

    def score(estimator: Any, X: Any = None, y: Any = None) -> float:
        del X, y
        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        found = getattr(last, "prediction_", None)
        if not isinstance(found, Prediction):
            raise ValueError(
                "held_out scores a fitted KernlensClassifier, alone or at the end of a pipeline; "
                f"got {type(last).__name__}"
            )
        if metric not in found.metrics:
            raise ValueError(f"metric must be one of {', '.join(found.metrics)}; got {metric!r}")
        return sign * float(found.metrics[metric].value)

    return score
