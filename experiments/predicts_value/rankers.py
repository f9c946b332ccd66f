"""What orders embeddings otherwise: cross-validation, neighbours, scores, and what costs nothing.

A ranker gives each embedding a number, more is better. Those that predict a value, in accuracy or
macro-F1, are judged by their errors too.
"""

import json
import subprocess
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.predicts_value import heads
from experiments.predicts_value.contexts import Context
from experiments.predicts_value.sets import Set
from experiments.predicts_value.settings import PENALTIES, Config
from kernlens import moments
from kernlens.scores import SCORES, Score

VERSION = 1
"""Of rankers: a change of them gives it another number."""

FOLDS = 5
"""Folds of the cross-validation that stands beside the predictions."""

STATIC = (
    "item2vec + GloVe", "item2vec + TF-IDF 64", "MiniLM", "USE", "PPMI + TF-IDF 8", "TF-IDF 64",
    "GloVe", "TF-IDF 8", "item2vec + PPMI", "PPMI 64", "PPMI 16", "item2vec w8 k8 e4 d32",
    "item2vec w2 k3 e4 d32", "item2vec w8 k3 e4 d8", "item2vec w8 k8 e1 d32",
    "item2vec w2 k1 e1 d32", "titles, TF-IDF 32", "contrastive", "edges", "random filters",
    "PCA 64", "pooled pixels", "contrastive, early", "PCA 16", "PCA 4", "random features",
    "pixels", "noise",
)  # fmt: skip
"""Embeddings from best to worst before any was measured, as a static list has them."""

PEER = Path(__file__).with_name("peer_randalo.py")

CV, NEAREST, RANDALO = "5-fold CV", "k-NN, best k", "randalo"


def ranked(given: Set, contexts: list[Context], config: Config) -> dict[str, Any]:
    """Values of every ranker by embedding, ``{ranker: {embedding: value}}``.

    :data:`CV` and :data:`NEAREST` give ``macro_f1`` and ``accuracy``, CV ``log_loss`` too.
    """
    found: dict[str, dict[str, Any]] = {"static list": {}, "dimension": {}, "pretraining loss": {}}
    for context in contexts:
        name = context.embedding
        if name in STATIC:
            found["static list"][name] = -STATIC.index(name)
        found["dimension"][name] = context.x.shape[1]
        if name in given.losses:
            found["pretraining loss"][name] = -given.losses[name]
        own = cross_validated(context)
        found.setdefault(CV, {})[name] = {metric: own[metric] for metric in heads.METRICS}
        found.setdefault(NEAREST, {})[name] = nearest(context)
        if config.peer is not None and len(set(context.codes.tolist())) == 2:
            found.setdefault(RANDALO, {})[name] = randalo(context, config.peer)
        for score, value in scores(context, config).items():
            found.setdefault(score, {})[name] = value
    return {ranker: values for ranker, values in found.items() if values}


def cross_validated(context: Context) -> dict[str, float]:
    """scikit-learn's logistic regression, its defaults, by five stratified folds, copies together.

    The penalty is the best of the path for macro-F1 on the same folds, as people choose it; a fit
    starts from the one before it. A metric is the mean over folds, as ``cross_val_score`` has it.
    Beside the metrics, ``seconds`` of the processor.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits

    begin = time.process_time()
    rows = context.labelled
    x, codes = context.x[rows], context.codes[rows]
    groups = None if context.groups is None else context.groups[rows]
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    found = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for train, held in heads.folds(splitter, codes, groups):
            inside = np.zeros(len(rows), bool)
            inside[train] = True
            z = heads.standardised(x, inside)
            fitted, own = LogisticRegression(warm_start=True), []
            for c in PENALTIES:
                fitted.set_params(C=c).fit(z[train], codes[train])
                shares = fitted.predict_proba(z[held])
                own.append(
                    heads.metrics_of(
                        codes[held], *heads.answered(fitted.classes_, shares, codes[held])
                    )
                )
            found.append(own)
    means = np.mean(found, axis=0)
    best = means[int(np.argmax(means[:, 0]))]
    took = time.process_time() - begin
    return dict(zip(heads.METRICS, map(float, best), strict=True)) | {"seconds": took}


def nearest(context: Context) -> dict[str, float]:
    """Leave-one-out of nearest neighbours, how many of them the best for macro-F1."""
    x, codes = context.x[context.labelled], context.codes[context.labelled]
    groups = np.arange(len(x)) if context.groups is None else context.groups[context.labelled]
    found = heads.by_neighbours(x, codes, groups)
    best = max(found, key=lambda one: one[0])
    return {"macro_f1": best[0], "accuracy": best[1]}


def randalo(context: Context, python: Path) -> dict[str, float]:
    """RandALO's estimates, by a Python that has it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        rows = context.labelled
        np.savez(path, x=context.x[rows], y=context.codes[rows])
        done = subprocess.run(
            [str(python), str(PEER), str(path)], check=True, capture_output=True, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def scores(context: Context, config: Config) -> Mapping[str, float]:
    """Every score of the table, signed so that more is better; NaN where one is not defined."""
    x = context.x[context.labelled]
    codes = context.codes[context.labelled].astype(np.int32)
    passes: dict[Any, Any] = {}
    found = {}
    for name, row in SCORES.items():
        if config.scores and name not in config.scores:
            continue
        if row.features not in passes:
            passes[row.features] = moments.from_arrays(
                row.features(jnp.asarray(x)), codes, int(codes.max()) + 1, class_scatters=True
            )
        value = row.fn(passes[row.features])
        found[name] = row.sign * float(value.value if isinstance(value, Score) else value)
    return found
