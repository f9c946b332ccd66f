"""Which sessions made an item's vector fail: item2vec, spoilt for some items, and the scores."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens import datasets
from kernlens.ntk import influence

ITEMS, SESSIONS, EVENTS, CLASSES = 150, 600, 6000, 4
WINDOW, DIM, NEGATIVES, STEPS = 2, 16, 3.0, 400
SHARE = 0.5
"""Sessions that are added for a spoilt item, a share of its own."""

RIDGE = 1e-2


class Sessions(NamedTuple):
    """Items of sessions in their order, the class of each item, and which sessions were added."""

    items: list[np.ndarray]
    classes: np.ndarray
    added_for: np.ndarray


def spoil(spoilt: int, draw: int) -> tuple[Sessions, np.ndarray]:
    """Sessions in which some items stand among those of another class as well."""
    data = datasets.load(
        "synthetic", num_items=ITEMS, num_users=SESSIONS, num_interactions=EVENTS,
        num_classes=CLASSES, seed=draw,
    )  # fmt: skip
    classes = np.asarray(data.labels["class"].codes)
    found = [np.asarray(own) for own in np.split(data.items, data.offsets[1:-1])]
    rng, added_for = np.random.default_rng(draw), [-1] * len(found)
    often = np.flatnonzero(data.counts >= np.median(data.counts))
    chosen = rng.choice(often, spoilt, replace=False)
    for item in chosen:
        own = sum(int(np.any(one == item)) for one in found)
        other = (classes[item] + 1 + rng.integers(CLASSES - 1)) % CLASSES
        for _ in range(int(np.ceil(SHARE * own))):
            company = rng.choice(np.flatnonzero(classes == other), 2 * WINDOW)
            found.append(np.insert(company, WINDOW, item))
            added_for.append(item)
    return Sessions(found, classes, np.array(added_for)), chosen


def pairs(sessions: Sessions) -> tuple[np.ndarray, np.ndarray]:
    """Ordered pairs of near items ``[pairs, 2]``, and the session of each."""
    rows, owners = [], []
    for number, own in enumerate(sessions.items):
        for step in range(1, WINDOW + 1):
            for a, b in ((own[:-step], own[step:]), (own[step:], own[:-step])):
                rows.append(np.stack([a, b], axis=1))
                owners.append(np.full(len(a), number))
    return np.concatenate(rows), np.concatenate(owners)


@partial(jax.jit, static_argnames="num_items")
def item2vec(key: Any, counts: Any, *, num_items: int) -> dict[str, Any]:
    """Skip-gram with negative samples in expectation, from counts of pairs ``[V, V]``."""
    keys = jax.random.split(key)
    params: Any = {
        name: 0.1 * jax.random.normal(k, (num_items, DIM))
        for name, k in zip(("item", "context"), keys, strict=True)
    }
    noise = NEGATIVES * counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    optimizer = optax.adam(0.02)

    def loss(params):
        logits = params["item"] @ params["context"].T
        wrong = jnp.sum(noise * jax.nn.softplus(logits))
        return (jnp.sum(counts * jax.nn.softplus(-logits)) + wrong) / counts.sum()

    def step(state, _):
        params, moments = state
        with jax.numpy_dtype_promotion("standard"):  # optax counts steps in integers
            updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return (optax.apply_updates(params, updates), moments), None

    start = (params, optimizer.init(params))
    trained: Any = jax.lax.scan(step, start, None, length=STEPS)[0][0]
    return trained


def head_of(vectors: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Weights ``[DIM + 1, C]`` of a ridge head on one-hot classes."""
    x = np.append(vectors, np.ones((len(vectors), 1)), axis=1)
    target = np.eye(CLASSES)[classes]
    return np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ target)


def found(spoilt: int, draw: int, features: int) -> dict[str, Any]:
    """Share of the worst sessions that were added, a mean over the spoilt items."""
    sessions, chosen = spoil(spoilt, draw)
    rows, owners = pairs(sessions)
    counts = np.zeros((ITEMS, ITEMS), np.float32)
    np.add.at(counts, (rows[:, 0], rows[:, 1]), 1.0)
    key = jax.random.key(draw)
    params = item2vec(key, jnp.asarray(counts), num_items=ITEMS)
    vectors = np.asarray(params["item"], np.float64)
    rest = np.setdiff1d(np.arange(ITEMS), chosen)
    weights = jnp.asarray(head_of(vectors[rest], sessions.classes[rest]), jnp.float32)

    def logit(params, pair):
        return jnp.sum(params["item"][pair[:, 0]] * params["context"][pair[:, 1]], axis=-1)

    margin_of = influence.margin_fn(
        lambda params, item: params["item"][item] @ weights[:-1] + weights[-1]
    )
    test = (jnp.asarray(chosen), jnp.asarray(sessions.classes[chosen]))
    residuals = np.asarray(jax.nn.sigmoid(-logit(params, rows)))
    scores = influence.trak(
        key, logit, params, jnp.asarray(rows), residuals, test, f_test=margin_of,
        num_features=features, ridge=RIDGE,
    )  # fmt: skip
    margins = np.asarray(margin_of(params, test))
    by_influence, by_class, of_all = [], [], []
    for item, own in zip(chosen, scores, strict=True):
        by_session = np.bincount(owners, weights=own, minlength=len(sessions.items))
        holds = np.array([np.any(one == item) for one in sessions.items])
        added = sessions.added_for[holds] == item
        worst = np.argsort(by_session[holds])[: np.sum(added)]
        by_influence.append(np.mean(added[worst]))
        # What needs no model: items of other classes in the session, ties by their order.
        others = [
            np.mean(sessions.classes[one] != sessions.classes[item])
            for one in (sessions.items[i] for i in np.flatnonzero(holds))
        ]
        most = np.argsort(-np.array(others), kind="stable")[: np.sum(added)]
        by_class.append(np.mean(added[most]))
        of_all.append(np.mean(added))
    return {
        "part": "items",
        "draw": draw,
        "by influence": float(np.mean(by_influence)),
        "by class": float(np.mean(by_class)),
        "of all": float(np.mean(of_all)),
        "failed": float(np.mean(margins < 0)),
    }
