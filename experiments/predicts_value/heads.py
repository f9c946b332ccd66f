"""Trained heads, none of them by a probe: SciPy's and scikit-learn's, and the library's MLP.

Linear heads, kernel SVM and MLPs read standardised columns; class means, cosine, neighbours and
trees read the rows as they are. Metrics are macro-F1 over the classes that occur, accuracy, and log
loss in nats where a head has probabilities.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.predicts_value import optimum
from experiments.predicts_value.contexts import Context, Split
from experiments.predicts_value.settings import NEIGHBOURS, PENALTIES, Config

METRICS = ("macro_f1", "accuracy", "log_loss")
SMALLEST = 1e-15
"""Least probability of a class, which keeps a log loss finite."""


class Measured(NamedTuple):
    """Metrics of one trained head, in the order of :data:`METRICS`; log loss may be NaN.

    Attributes:
      judged: on the rows that are the truth.
      single: on its own held-out rows.
      seconds: of the processor, to train and to judge.
      chosen: the penalty or the number of neighbours that it took, NaN without.
    """

    judged: tuple[float, ...]
    single: tuple[float, ...]
    seconds: float
    chosen: float = float("nan")


def metrics_of(codes: np.ndarray, predicted: np.ndarray, losses: np.ndarray | None) -> Any:
    """Macro-F1, accuracy and log loss of some rows."""
    classes = 1 + max(codes.max(), predicted.max())
    hits = np.bincount(codes[codes == predicted], minlength=classes)
    sizes = np.bincount(codes, minlength=classes) + np.bincount(predicted, minlength=classes)
    f1 = 2.0 * hits[sizes > 0] / sizes[sizes > 0]
    loss = float("nan") if losses is None else float(np.mean(losses))
    return float(f1.mean()), float(np.mean(codes == predicted)), loss


def measured(
    context: Context, split: Split, predicted: np.ndarray, losses: np.ndarray | None
) -> tuple[Any, Any]:
    """Metrics on the rows that judge, and on those that a single training sees."""
    return tuple(
        metrics_of(context.codes[rows], predicted[rows], None if losses is None else losses[rows])
        for rows in (split.judged, split.single)
    )  # type: ignore[return-value]


def standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Columns less their mean, over their standard deviation, of the training rows."""
    x = x.astype(np.float64)
    mean, spread = x[train].mean(axis=0), x[train].std(axis=0)
    blur = 1e-6 * np.abs(mean)
    return np.where(spread > blur, x - mean, 0.0) / np.where(spread > blur, spread, 1.0)


def logistic(context: Context, split: Split, config: Config) -> dict[str, Measured]:
    """Logistic regression, its penalty tuned by inner cross-validation for macro-F1, and at C = 1.

    ``logistic, log loss`` is the same with the penalty of the least log loss. Penalties fall until
    two running are worse in macro-F1 and in log loss than one before them, and C = 1 is reached.
    """
    from sklearn.model_selection import StratifiedKFold

    begin = time.process_time()
    train = np.flatnonzero(split.train)
    groups = None if context.groups is None else context.groups[train]
    splitter = StratifiedKFold(config.folds, shuffle=True, random_state=0)
    whole = Path(context.x, context.codes, train, np.arange(len(context.x)))
    parts = [
        Path(context.x, context.codes, train[fitted], train[held], whole)
        for fitted, held in folds(splitter, context.codes[train], groups)
    ]
    place = np.empty(len(context.x), int)
    place[train] = np.arange(len(train))
    answers, inner, plain = [], [], 0.0
    for c in PENALTIES:
        start = time.process_time()
        answers.append(whole.at(c))
        plain += time.process_time() - start
        predicted, losses = np.zeros(len(train), int), np.zeros(len(train))
        for part in parts:
            own = place[part.rows]
            predicted[own], losses[own] = part.at(c)
        inner.append(metrics_of(context.codes[train], predicted, losses))
        if c >= 1.0 and past(inner):
            break
    took = time.process_time() - begin
    scored = np.array(inner)
    one = PENALTIES.index(1.0)
    choices = {
        "logistic": (int(np.argmax(scored[:, 0])), took),
        "logistic, log loss": (int(np.argmin(scored[:, 2])), took),
        "logistic, C = 1": (one, plain / len(inner)),
    }
    return {
        name: Measured(*measured(context, split, *answers[at]), seconds, PENALTIES[at])
        for name, (at, seconds) in choices.items()
    }


def past(inner: list[Any]) -> bool:
    """Whether the last two of several metrics are worse than the best before them."""
    if len(inner) < 3:
        return False
    best = max(one[0] for one in inner[:-2]), min(one[2] for one in inner[:-2])
    return all(one[0] < best[0] and one[2] > best[1] for one in inner[-2:])


class Path:
    """Optima at falling penalties, each from the one before it; rows standardised by themselves.

    Args:
      x: all rows, ``[n, d]``.
      codes: class of each.
      train: rows to train on.
      rows: rows to predict.
      near: a path of more rows, asked at each penalty first: a search starts from its optimum,
        moved as at the penalty before.
    """

    def __init__(
        self, x: np.ndarray, codes: np.ndarray, train: np.ndarray, rows: np.ndarray,
        near: "Path | None" = None,
    ):  # fmt: skip
        inside = np.zeros(len(x), bool)
        inside[train] = True
        z = standardised(x, inside)
        self.rows = rows
        self.classes, self._own = np.unique(codes[train], return_inverse=True)
        self.axes = optimum.axes(z[train])
        self._asked, self._codes = z[rows], codes[rows]
        self.weights: np.ndarray | None = None
        if near is not None and not np.array_equal(near.classes, self.classes):
            near = None
        self._near, self._shift = near, 0.0

    def at(self, c: float) -> tuple[np.ndarray, np.ndarray]:
        """Classes and log losses of the rows that are asked, at one penalty."""
        start, turned = self.weights, None
        if self._near is not None and self._near.weights is not None:
            turned = optimum.turned(self._near.weights, self._near.axes, self.axes)
            start = turned + self._shift
        self.weights = optimum.fit(self.axes, self._own, len(self.classes), c, start)
        if turned is not None:
            self._shift = self.weights - turned
        logits = optimum.logits(self.axes, self.weights, self._asked)
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        shares /= shares.sum(axis=1, keepdims=True)
        return answered(self.classes, shares, self._codes)


def answered(
    classes: np.ndarray, shares: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Classes and log losses by probabilities of the classes that were trained on."""
    own = np.searchsorted(classes, codes).clip(max=len(classes) - 1)
    given = np.where(classes[own] == codes, shares[np.arange(len(own)), own], 0.0)
    return classes[shares.argmax(axis=1)], -np.log(np.maximum(given, SMALLEST))


def folds(splitter: Any, codes: np.ndarray, groups: np.ndarray | None) -> Any:
    """Stratified folds, copies together; classes of fewer rows than folds are allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if groups is None:
            yield from splitter.split(codes, codes)
            return
        _, first, place = np.unique(groups, return_index=True, return_inverse=True)
        for _, held in splitter.split(first, codes[first]):
            inside = np.isin(place, held)
            yield np.flatnonzero(~inside), np.flatnonzero(inside)


def class_means(context: Context, split: Split, config: Config) -> dict[str, Measured]:
    """Inner products with the class means of the rows as they are."""
    return {"class means": _by_means(context, split, context.x.astype(np.float64))}


def cosine(context: Context, split: Split, config: Config) -> dict[str, Measured]:
    """Inner products with the class means of the rows at unit length."""
    x = context.x.astype(np.float64)
    return {
        "cosine": _by_means(
            context, split, x / np.maximum(np.linalg.norm(x, axis=1), 1e-12)[:, None]
        )
    }


def _by_means(context: Context, split: Split, x: np.ndarray) -> Measured:
    begin = time.process_time()
    train = split.train
    classes, own = np.unique(context.codes[train], return_inverse=True)
    means = np.zeros((len(classes), x.shape[1]))
    np.add.at(means, own, x[train])
    means /= np.bincount(own)[:, None]
    predicted = classes[np.argmax(x @ means.T, axis=1)]
    return Measured(*measured(context, split, predicted, None), time.process_time() - begin)


def neighbours(context: Context, split: Split, config: Config) -> dict[str, Measured]:
    """Votes of the nearest rows as they are, in Euclidean distance.

    How many vote is chosen for macro-F1 by leaving out each training row with its copies.
    """
    from sklearn.neighbors import NearestNeighbors

    begin = time.process_time()
    train = np.flatnonzero(split.train)
    x, known = context.x, context.codes[train]
    groups = np.arange(len(x)) if context.groups is None else context.groups
    tried = by_neighbours(x[train], known, groups[train])
    k = NEIGHBOURS[int(np.argmax([one[0] for one in tried]))]
    found: Any = NearestNeighbors(algorithm="brute").fit(x[train])
    rows = np.flatnonzero(split.judged | split.single)
    predicted = np.zeros(len(x), int)
    near = found.kneighbors(x[rows], k, return_distance=False)
    predicted[rows] = _votes(known[near])
    took = time.process_time() - begin
    return {"k-NN": Measured(*measured(context, split, predicted, None), took, k)}


def by_neighbours(x: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> list[Any]:
    """Metrics of votes without a row and its copies, by number of neighbours."""
    from sklearn.neighbors import NearestNeighbors

    counts = [k for k in NEIGHBOURS if k < len(x)]
    most = min(counts[-1] + int(np.bincount(groups).max()), len(x)) - 1
    found: Any = NearestNeighbors(algorithm="brute").fit(x)
    near = found.kneighbors(n_neighbors=most, return_distance=False)
    # Copies go last; the order of all others is kept.
    order = np.argsort(groups[near] == groups[:, None], axis=1, kind="stable")
    near = np.take_along_axis(near, order, axis=1)
    return [metrics_of(codes, _votes(codes[near[:, :k]]), None) for k in counts]


def _votes(codes: np.ndarray) -> np.ndarray:
    """The most frequent class of each row of ``codes [n, k]``, of those that tie the first."""
    counts = np.zeros((len(codes), codes.max() + 1), int)
    np.add.at(counts, (np.arange(len(codes))[:, None], codes), 1)
    return np.argmax(counts, axis=1)


def kernel_svm(context: Context, split: Split, config: Config) -> dict[str, Measured]:
    """Support vectors with an RBF kernel on standardised columns, scikit-learn's defaults."""
    from sklearn.svm import SVC

    return {"kernel SVM": _fitted(SVC(), context, split, standardised(context.x, split.train))}


def boosting(context: Context, split: Split, config: Config) -> dict[str, Measured]:
    """Gradient-boosted trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    made: Any = HistGradientBoostingClassifier  # its early_stopping is "auto" or a bool
    trees = made(
        max_iter=50, learning_rate=0.15, max_leaf_nodes=15, early_stopping=False, random_state=0
    )
    return {"boosting": _fitted(trees, context, split, context.x)}


def _fitted(head: Any, context: Context, split: Split, x: np.ndarray) -> Measured:
    begin = time.process_time()
    head.fit(x[split.train], context.codes[split.train])
    rows = np.flatnonzero(split.judged | split.single)
    predicted, losses = np.zeros(len(x), int), None
    if hasattr(head, "predict_proba"):
        losses, shares = np.zeros(len(x)), head.predict_proba(x[rows])
        predicted[rows], losses[rows] = answered(head.classes_, shares, context.codes[rows])
    else:
        predicted[rows] = head.predict(x[rows])
    return Measured(*measured(context, split, predicted, losses), time.process_time() - begin)


LIGHT: dict[str, Callable[[Context, Split, Config], dict[str, Measured]]] = {
    "logistic": logistic,
    "class means": class_means,
    "cosine": cosine,
    "k-NN": neighbours,
    "kernel SVM": kernel_svm,
    "boosting": boosting,
}
"""Heads that are trained split by split; the first gives the one at C = 1 too."""


def light(head: str, context: Context, split: Split, config: Config) -> dict[str, Measured]:
    """What a head of :data:`LIGHT` reaches on one split, on one thread."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # steps spent: that is the head's outcome
        return LIGHT[head](context, split, config)


def mlp(width: int, context: Context, splits: Sequence[Split], config: Config) -> list[Measured]:
    """The library's trained MLP on standardised columns, all splits together."""
    from kernlens.models import decoders
    from kernlens.train import heads
    from kernlens.types import Labels

    begin = time.process_time()
    names = tuple(map(str, range(int(context.codes.max()) + 1)))
    outcome = heads.classify(
        context.x, Labels(context.codes, names), decoder=decoders.Mlp(width),
        seeds=len(splits), held_out=np.stack([~split.train for split in splits]),
    )  # fmt: skip
    took = (time.process_time() - begin) / len(splits)
    assert outcome.losses is not None
    return [
        Measured(*measured(context, split, predicted, losses), took)
        for split, predicted, losses in zip(splits, outcome.predicted, outcome.losses, strict=True)
    ]
