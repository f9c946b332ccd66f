"""Trained outcomes: heads of the old version, and of the new one, on splits 80/20."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens import metrics
from kernlens.lens import maps
from kernlens.lens.corrections import CORRECTIONS, PARTS
from kernlens.models import decoders
from kernlens.probes.folds import halves, in_order
from kernlens.probes.serving import shared_groups
from kernlens.train import heads
from kernlens.types import Labels

MEANS = "class means"
HEADS = {"LR": decoders.Linear(), "MLP(32)": decoders.Mlp(32), MEANS: decoders.InnerProduct()}
"""Heads by name; logistic regression at C = 1. Class means that were stored meet the rows of the
new version; to retrain them is to compute them again."""

OLD = "old version"

FRESH = "fresh head, few labels"
"""A head of the new version that learns from the few labels alone."""

FEW_SPLITS = 4
"""Most splits on which heads with few labels are trained."""

STEPS = 500
"""Steps of Adam by which a correction is trained."""


class Means(NamedTuple):
    """Inner products with class means, a head for each split.

    Attributes:
      means: of the training rows, ``[S, C, d]``; NaN of a class without any.
    """

    means: np.ndarray

    def only(self, s: int) -> "Means":
        """The head of one split."""
        return Means(self.means[s : s + 1])

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Inner products, ``[S, n, C]``; minus infinity of a class without training rows."""
        found = np.asarray(rows, np.float64) @ np.swapaxes(self.means, 1, 2)
        return np.where(np.isnan(found), -np.inf, found)


def train(
    head: str, rows: np.ndarray, labels: Labels, *, held_out: np.ndarray, seeds: Sequence[int]
) -> Any:
    """Heads on the rows that each split leaves, with ``only`` and ``scores``."""
    if head != MEANS:
        return heads.train(rows, labels, decoder=HEADS[head], held_out=held_out, seeds=seeds)
    x, size = np.asarray(rows, np.float64), len(labels.names)
    found = np.full((len(held_out), size, x.shape[1]), np.nan)
    for own, held in zip(found, held_out, strict=True):
        for c in np.unique(labels.codes[~held]):
            own[c] = x[~held & (labels.codes == c)].mean(axis=0)
    return Means(found)


def outcomes(
    old: np.ndarray, new: np.ndarray, labels: Labels, *, head: str, names: list[str], splits: int
) -> dict[str, dict[str, list[float]]]:
    """Macro-F1, accuracy and flips of each way on the held-out rows of each split.

    Heads and maps learn from the training rows of a split alone.

    Args:
      old: rows of the old version.
      new: rows of the new version.
      labels: their classes.
      head: of :data:`HEADS`.
      names: maps.
      splits: how many splits.
    """
    codes = labels.codes
    held = np.stack([split(s, old, new, labels) for s in range(splits)])
    deployed = train(head, old, labels, held_out=held, seeds=range(splits))
    later = range(splits, 2 * splits)
    again = train(head, new, labels, held_out=held, seeds=later)
    retrained, found = again.scores(new), {}
    for s in range(splits):
        own, test = deployed.only(s), held[s]
        given = {OLD: own.scores(old)[0], "retrained": retrained[s]}
        moments = maps.joint(new[~test], old[~test])
        for name in names:
            strength = 1e-6
            mapped = maps.fit(name, moments, strength=strength)(np.asarray(new))
            given[name] = own.scores(mapped)[0]
        taught = labels._replace(codes=np.argmax(given[OLD], axis=1).astype(np.int32))
        made = train(head, new, taught, held_out=test[None], seeds=(s,))
        given["distilled"] = made.scores(new)[0]
        before = np.argmax(given[OLD][test], axis=1)
        for name, scores in given.items():
            for key, value in _measured(codes[test], before, scores[test]).items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    return found


def with_few_labels(
    old: np.ndarray, new: np.ndarray, labels: Labels, *, start: str, number: int, splits: int
) -> dict[str, dict[str, list[float]]]:
    """The way with few labels, and a fresh head with the same ones, of logistic regression.

    The mapped head of a split is corrected by labels of half of the rows that it did not learn
    from, and judged on the other half; copies in either version are in one half.

    Args:
      old: rows of the old version.
      new: rows of the new version.
      labels: their classes.
      start: the map of the mapped head.
      number: labels of a head.
      splits: how many splits.
    """
    decoder, codes = HEADS["LR"], labels.codes
    splits = min(splits, FEW_SPLITS)
    held = np.stack([split(s, old, new, labels) for s in range(splits)])
    groups = shared_groups([old, new], labels)
    deployed = heads.train(old, labels, decoder=decoder, held_out=held, seeds=range(splits))
    z = (new - new.mean(axis=0)) / np.where(new.std(axis=0) > 0, new.std(axis=0), np.inf)
    found: dict[str, dict[str, list[float]]] = {}
    for s, test in enumerate(held):
        own = deployed.only(s)
        mapped = maps.fit(start, maps.joint(new[~test], old[~test]))(np.asarray(new))
        before = np.argmax(own.scores(old)[0][test], axis=1)
        logits = np.maximum(np.asarray(own.scores(mapped)[0]), -30.0)
        parts = halves(np.random.default_rng(s).permutation(np.flatnonzero(test)), groups)
        made = {name: logits.copy() for name in ("few labels", FRESH)}
        for learnt, asked in (parts, parts[::-1]):
            rows = learnt[:number]
            penalty = _chosen(z[rows], logits[rows], codes[rows], in_order(groups[rows]))
            weights = corrected(z[rows], logits[rows], codes[rows], penalty)
            made["few labels"][asked] += z[asked] @ weights[:-1] + weights[-1]
            mask = np.ones(len(codes), bool)
            mask[rows] = False
            alone = heads.train(new, labels, decoder=decoder, held_out=mask[None], seeds=(s,))
            made[FRESH][asked] = np.asarray(alone.scores(new)[0])[asked]
        for name, scores in made.items():
            for key, value in _measured(codes[test], before, scores[test]).items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    return found


def corrected(z: np.ndarray, logits: np.ndarray, codes: np.ndarray, penalty: float) -> np.ndarray:
    """Weights ``[d + 1, C]``, the bias last, that are added to the logits of a head: those of the
    least cross-entropy with half their squares times the penalty, by Adam from 0."""
    x = jnp.asarray(np.column_stack([z, np.ones(len(z))]), jnp.float32)
    given = jnp.asarray(logits, jnp.float32), jnp.asarray(codes), jnp.float32(penalty)
    # Optax counts steps in integers and raises floats to them.
    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(_descended(x, *given))


@jax.jit
def _descended(x, logits, codes, penalty):
    def loss(weights):
        each = optax.softmax_cross_entropy_with_integer_labels(logits + x @ weights, codes)
        return jnp.sum(each) + 0.5 * penalty * jnp.sum(weights**2)

    optimiser = optax.adam(optax.cosine_decay_schedule(0.1, STEPS))
    start = jnp.zeros((x.shape[1], logits.shape[1]))

    def step(state, _):
        weights, inner = state
        updates, inner = optimiser.update(jax.grad(loss)(weights), inner)
        return (optax.apply_updates(weights, updates), inner), None

    (weights, _), _ = jax.lax.scan(step, (start, optimiser.init(start)), length=STEPS)
    return weights


def _chosen(z: np.ndarray, logits: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> float:
    """The penalty of the least held-out log loss."""
    part = groups % PARTS
    losses = []
    for penalty in CORRECTIONS:
        loss = 0.0
        for k in range(PARTS):
            rest, out = part != k, part == k
            weights = corrected(z[rest], logits[rest], codes[rest], penalty)
            given = jnp.asarray(logits[out] + z[out] @ weights[:-1] + weights[-1], jnp.float32)
            loss += float(
                jnp.sum(
                    optax.softmax_cross_entropy_with_integer_labels(given, jnp.asarray(codes[out]))
                )
            )
        losses.append(loss)
    return CORRECTIONS[int(np.argmin(losses))]


def on_fresh_items(
    old: np.ndarray, new: np.ndarray, labels: Labels, fresh: np.ndarray, codes: np.ndarray,
    *, names: Sequence[str], splits: int,
) -> dict[str, dict[str, list[float]]]:  # fmt: skip
    """What ways of logistic regression reach on items that heads and maps have not met.

    Args:
      old: rows of the old version of the common items.
      new: rows of the new version.
      labels: their classes.
      fresh: rows of the new version of the items that it alone has.
      codes: their classes.
      names: maps.
      splits: how many splits of the common items, whose training rows heads learn from.
    """
    decoder = HEADS["LR"]
    held = np.stack([split(s, old, new, labels) for s in range(splits)])
    train = functools.partial(heads.train, decoder=decoder)
    deployed = train(old, labels, held_out=held, seeds=range(splits))
    again = train(new, labels, held_out=held, seeds=range(splits, 2 * splits)).scores(fresh)
    found: dict[str, dict[str, list[float]]] = {}
    for s in range(splits):
        own, test = deployed.only(s), held[s]
        given = {"retrained": again[s]}
        moments = maps.joint(new[~test], old[~test])
        for name in names:
            given[name] = own.scores(maps.fit(name, moments)(np.asarray(fresh)))[0]
        taught = labels._replace(codes=np.argmax(own.scores(old)[0], axis=1).astype(np.int32))
        made = train(new, taught, held_out=test[None], seeds=(s,))
        given["distilled"] = made.scores(fresh)[0]
        for name, scores in given.items():
            measured = _measured(codes, codes, np.asarray(scores))
            for key in ("macro_f1", "accuracy"):
                found.setdefault(name, {}).setdefault(key, []).append(measured[key])
    return found


def split(seed: int, old: np.ndarray, new: np.ndarray, labels: Labels) -> np.ndarray:
    """Rows that a split holds out, bool ``[n]``; copies in either version stay together, since a
    held-out copy says nothing of items unlike those known."""
    groups = shared_groups([old, new], labels)
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    return heads.stratified_split(seed, labels.codes[first])[place]


def _measured(codes: np.ndarray, before: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    after = np.argmax(scores, axis=1)
    size = int(max(codes.max(), after.max())) + 1
    own = metrics.from_counts(*metrics.counts(codes, after[None], size))
    moved = before != after
    return {
        "macro_f1": float(own.macro_f1[0]),
        "accuracy": float(own.accuracy[0]),
        "negative_flips": float(np.mean(moved & (before == codes))),
        "churn": float(np.mean(moved)),
    }
