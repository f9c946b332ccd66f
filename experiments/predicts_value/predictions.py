"""What kernlens predicts of every head, a cell for each set and head, through its verbs alone."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import kernlens as kl
from experiments.predicts_value.contexts import NATURAL, Context, judged
from experiments.predicts_value.heads import METRICS
from experiments.predicts_value.settings import PENALTIES, Config
from kernlens import probes
from kernlens.kernels import rbf
from kernlens.lens.compare import Entry, compared
from kernlens.lens.verdicts import TIED, WORSE
from kernlens.models import decoders
from kernlens.probes import Prediction, pairwise_differences
from kernlens.types import Labels

VERSION = 6
"""Of the predictions: a change of the library's probes counts it up."""

FIELDS = ("rows", "class_rows", "embeddings", "scores", "peer", "level", "seed")
"""Fields of a configuration that predictions, rankers and curves depend on."""

PATH = tuple(1.0 / c for c in PENALTIES)
"""The penalties that the trained head chooses from."""


def asked(head: str, context: Context) -> dict[str, Any] | None:
    """The arguments of ``kl.predict`` that ask for a head; None of one that it does not predict."""
    d = context.x.shape[1]
    lengthscale = float(np.sqrt(d / 2.0))  # scikit-learn's gamma="scale" on standardised columns
    found: dict[str, dict[str, Any]] = {
        "logistic": {"probe": functools.partial(probes.logistic, penalties=PATH)},
        "logistic, C = 1": {"probe": functools.partial(probes.logistic, penalties=1.0)},
        "MLP(32)": {"decoder": decoders.Mlp(32)},
        "MLP(256)": {"decoder": decoders.Mlp(256)},
        "class means": {"decoder": decoders.InnerProduct()},
        "cosine": {"decoder": decoders.Cosine()},
        "k-NN": {"decoder": decoders.Neighbours()},
        "kernel SVM": {"kernel": functools.partial(rbf, lengthscale=lengthscale)},
    }
    if head == "logistic" and not judged(context):
        apart = np.arange(len(context.labelled))
        return {"probe": functools.partial(probes.logistic, penalties=PATH, groups=apart)}
    return found.get(head)


def rows_of(head: str, context: Context) -> tuple[np.ndarray, Labels]:
    """The rows with labels as the head reads them, and their labels."""
    x, codes = context.x[context.labelled], context.codes[context.labelled]
    names = tuple(map(str, range(int(context.codes.max()) + 1)))
    if head == "kernel SVM":
        spread = x.std(axis=0)
        x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return x, Labels(codes.astype(np.int32), names)


def asker(head: str, context: Context, config: Config) -> Callable[[], Prediction]:
    """What predicts a head of an embedding."""
    options = asked(head, context)
    assert options is not None
    rows, labels = rows_of(head, context)
    return functools.partial(
        kl.predict, rows, labels, level=config.level, seed=config.seed, **options
    )


def predicted(head: str, contexts: Sequence[Context], config: Config) -> dict[str, Any]:
    """Predictions of some embeddings of the same rows, and what follows from them in pairs.

    Returns:
      ``values``, by embedding and metric; and for natural embeddings ``pairs``, each ``[first,
      second, difference, low, high]``, whose signs hold together, and ``worse``, the embeddings
      that :func:`kernlens.compare` calls so.
    """
    found: dict[str, Prediction] = {}
    for context in contexts:
        name = context.embedding if context.damage == NATURAL else context.damage
        found[name] = asker(head, context, config)()
    made: dict[str, Any] = {"values": {name: values(one) for name, one in found.items()}}
    if contexts[0].damage == NATURAL and len(contexts) > 1:
        made |= in_pairs(contexts, found, config)
    return made


def values(prediction: Prediction) -> dict[str, dict[str, float]]:
    """Metrics with the interval of one training and that of the mean, by name."""
    found = {}
    for name in METRICS:
        if name in prediction.metrics:
            own = prediction.metrics[name]
            found[name] = {
                "value": own.value,
                "low": own.low,
                "high": own.high,
                **of_mean(prediction, name),
            }
    return found


def of_mean(prediction: Prediction, metric: str) -> dict[str, float]:
    """Ends of the interval of the mean over trainings."""
    mean = getattr(prediction, "means", {}).get(metric)
    return {} if mean is None else {"mean_low": mean.low, "mean_high": mean.high}


def in_pairs(
    contexts: Sequence[Context], found: Mapping[str, Prediction], config: Config
) -> dict[str, Any]:
    """Differences between all pairs of embeddings, and the verdicts of a comparison."""
    names = list(found)
    metric = found[names[0]].metric
    gaps = pairwise_differences(list(found.values()), metric, level=config.level, seed=config.seed)
    pairs = [[names[i], names[j], *map(float, gap[:3])] for (i, j), gap in gaps.items()]
    entries = [
        Entry(context.embedding, "", found[context.embedding], context.x.shape[1], 0.0, TIED)
        for context in contexts
    ]
    told = compared(entries, level=config.level, seed=config.seed)
    worse = [entry.name for entry in told.entries if entry.verdict == WORSE]
    return {"pairs": pairs, "best": told.best.name, "worse": worse}
