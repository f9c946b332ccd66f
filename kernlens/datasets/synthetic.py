"""Synthetic interactions with a known truth, and the item embeddings that go with them."""

from pathlib import Path

import numpy as np

from kernlens.datasets import table
from kernlens.types import Interactions, Labels

_DAY, _MINUTE = 86_400, 60


def load(
    root: str | Path | None = None,
    *,
    num_items: int | None = None,
    num_users: int | None = None,
    num_interactions: int | None = None,
    num_classes: int | None = None,
    imbalance: float = 0.0,
    popularity_skew: float = 1.0,
    sequence_dependence: float = 0.8,
    noise: float = 0.1,
    session_length: int = 10,
    anisotropy: float = 0.0,
    within_class_spread: float = 1.0,
    dim: int = 32,
    min_count: int = 1,
    seed: int = 0,
) -> Interactions:
    r"""Sessions that walk through classes of items.

    Item :math:`i` of popularity rank :math:`r_i` (drawn independently of its class) has weight
    :math:`p_i \propto r_i^{-\text{popularity\_skew}}`. A session starts at an item drawn by
    :math:`p`. Each next item is drawn, with probability ``sequence_dependence``, by :math:`p`
    within the class of the one before, else by :math:`p` over all items; so the marginal law of
    items is :math:`p` whatever the dependence. A share ``noise`` of the interactions, at random
    places, is then replaced by items drawn uniformly. Items that were never drawn take the place of
    a random repeat of another, so every item occurs.

    The label ``class`` is the truth. The true vectors of the items are `embeddings` of the result.

    Args:
      root: unused; there are no files.
      num_items: number of items, at least ``num_classes``. Default: 10,000, or what the other
        numbers given allow.
      num_users: number of users; sessions are dealt to them evenly, so at most as many as sessions.
        Default: 2,000, or one a session where there are fewer sessions.
      num_interactions: length of all sessions together, at least ``num_items``. Default: 1,000,000,
        or ``num_items`` if that is more.
      num_classes: number of classes, at least 1. Default: 10, or ``num_items`` if that is less.
      imbalance: class :math:`c = 1, 2, \dots` has a share of the items :math:`\propto
        c^{-\text{imbalance}}` and at least one; 0 makes classes equal.
      popularity_skew: exponent of the Zipf law, at least 0 (uniform).
      sequence_dependence: probability of staying in the class, 0 to 1.
      noise: share of uniformly random interactions, 0 to 1.
      session_length: interactions a session; the last one may be shorter.
      anisotropy: for `embeddings`; checked here and not used otherwise, so that one set of options
        describes a whole problem.
      within_class_spread: as ``anisotropy``.
      dim: as ``anisotropy``.
      min_count: least number of interactions of an item that is kept.
      seed: random seed of everything.

    Returns:
      Interactions; ``item_keys`` are the generator's own numbers, ``0..num_items-1``. A user has
      one session a day, an interaction a minute.

    Raises:
      ValueError: a knob outside its range.
    """
    del root
    source = "synthetic"
    table.check_options(source, min_count=min_count, seed=seed)
    given = {"num_classes": num_classes, "num_items": num_items}
    given |= {"num_interactions": num_interactions, "session_length": session_length}
    for name, value in given.items():
        if value is not None:
            _check_whole(name, value, 1)
    if num_items is None:  # a default gives way to what was given
        most = 10_000 if num_interactions is None else min(10_000, num_interactions)
        num_items = max(most, num_classes or 1)
    num_classes = min(10, num_items) if num_classes is None else num_classes
    _check_whole("num_items", num_items, num_classes)
    if num_interactions is None:
        num_interactions = max(1_000_000, num_items)
    _check_whole("num_interactions", num_interactions, num_items)
    num_sessions = -(-num_interactions // session_length)
    num_users = min(2_000, num_sessions) if num_users is None else num_users
    _check_whole("num_users", num_users, 1, num_sessions)
    _check_number("imbalance", imbalance, 0, np.inf)
    _check_number("popularity_skew", popularity_skew, 0, np.inf)
    _check_number("sequence_dependence", sequence_dependence, 0, 1)
    _check_number("noise", noise, 0, 1)
    _check_geometry(anisotropy, within_class_spread, dim)

    rng = np.random.default_rng(seed)
    classes = rng.permutation(
        np.repeat(np.arange(num_classes), _sizes(num_items, num_classes, imbalance))
    )
    weights = rng.permutation(np.arange(1, num_items + 1, dtype=np.float64) ** -popularity_skew)
    items = _walk(rng, classes, weights, num_interactions, session_length, sequence_dependence)
    if noise > 0:
        noisy = np.flatnonzero(rng.random(num_interactions, np.float32) < noise)
        items[noisy] = rng.integers(num_items, size=len(noisy), dtype=items.dtype)
    _place_missing(rng, items, num_items)

    place = np.arange(num_interactions)
    session = place // session_length
    users = np.arange(num_sessions) * num_users // num_sessions
    started = np.searchsorted(users, np.arange(num_users))
    day = np.arange(num_sessions) - started[users]
    times = day[session] * _DAY + (place - session * session_length) * _MINUTE
    data, _ = table.assemble(
        source,
        users=users[session],
        items=items,
        sessions=session,
        times=times,
        order="time",
        ties="stored",
        min_count=min_count,
        seed=seed,
        notes={"interactions_drawn": num_interactions},
    )
    names = tuple(f"class {c}" for c in range(num_classes))
    return data._replace(labels={"class": Labels(classes[data.item_keys].astype(np.int32), names)})


def embeddings(
    interactions: Interactions,
    *,
    dim: int = 32,
    anisotropy: float = 0.0,
    within_class_spread: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    r"""True item vectors, in the order of the item ids.

    .. math:: \phi_i = \mu_{c(i)} + \text{within\_class\_spread}\; \varepsilon_i
        + \text{anisotropy}\; u

    with :math:`\mu_c, \varepsilon_i \sim N(0, I / d)`, so that both have a squared norm of 1 on
    average, and one unit vector :math:`u` common to all items.

    Args:
      interactions: what `load` gave.
      dim: dimension d, at least 1.
      anisotropy: length of the common direction, at least 0.
      within_class_spread: root mean square distance of items from their class mean, at least 0.
      seed: of the vectors; with one seed an item keeps its directions whatever the two knobs.

    Returns:
      Embeddings, float32 ``[num_items, dim]``.

    Raises:
      ValueError: a knob outside its range.
    """
    _check_geometry(anisotropy, within_class_spread, dim)
    table.check_options("synthetic", min_count=1, seed=seed)
    common_rng, mean_rng, item_rng = np.random.default_rng([seed, 1]).spawn(3)
    codes, names = interactions.labels["class"]
    common = common_rng.standard_normal(dim)
    common /= np.linalg.norm(common)
    means = mean_rng.standard_normal((len(names), dim)) / np.sqrt(dim)
    keys = interactions.item_keys
    spread = item_rng.standard_normal((int(keys.max()) + 1, dim))[keys] / np.sqrt(dim)
    vectors = means[codes] + within_class_spread * spread + anisotropy * common
    return vectors.astype(np.float32)


def _walk(
    rng: np.random.Generator,
    classes: np.ndarray,
    weights: np.ndarray,
    length: int,
    session_length: int,
    dependence: float,
) -> np.ndarray:
    """Items of all sessions, before noise."""
    by_class = np.argsort(classes, kind="stable")
    ends = np.concatenate([[0.0], np.cumsum(weights[by_class])])
    ends /= ends[-1]
    bounds = np.concatenate([[0.0], ends[np.cumsum(np.bincount(classes))]])
    draws = rng.random(length)
    jumps = rng.random(length, np.float32) >= dependence
    jumps[::session_length] = True
    # A jump draws from all items; the class it lands in holds until the next jump, and draws
    # between are squeezed into that class's stretch of the cumulative weights.
    at = np.flatnonzero(jumps)
    landed = np.searchsorted(bounds, draws[at], side="right") - 1
    held = np.repeat(landed, np.diff(at, append=length))
    stay = ~jumps
    held = held[stay]
    draws[stay] = bounds[held] + draws[stay] * (bounds[held + 1] - bounds[held])
    # Rounding could push a squeezed draw onto the end of its class; the clip keeps it inside.
    return by_class[_invert(ends, draws)].astype(np.int32)


def _invert(ends: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Place of each draw between cumulative weights."""
    return np.minimum(np.searchsorted(ends, draws, side="right") - 1, len(ends) - 2)


def _place_missing(rng: np.random.Generator, items: np.ndarray, num_items: int) -> None:
    """Writes items that never occur over random repeats of others, in place."""
    missing = np.flatnonzero(np.bincount(items, minlength=num_items) == 0)
    if len(missing) == 0:
        return
    last = np.full(num_items, -1, np.int64)
    last[items] = np.arange(len(items))
    repeat = np.ones(len(items), bool)
    repeat[last[last >= 0]] = False
    items[rng.choice(np.flatnonzero(repeat), len(missing), replace=False)] = missing


def _sizes(num_items: int, num_classes: int, imbalance: float) -> np.ndarray:
    """Items of each class: one each, the rest by share, remainders to the largest."""
    share = np.arange(1, num_classes + 1, dtype=np.float64) ** -imbalance
    ideal = share / share.sum() * (num_items - num_classes)
    sizes = np.floor(ideal).astype(np.int64)
    left = num_items - num_classes - int(sizes.sum())
    sizes[np.argsort(sizes - ideal, kind="stable")[:left]] += 1
    return sizes + 1


def _check_whole(name: str, value: int, low: int, high: float = np.inf) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | np.integer)
        or not low <= value <= high
    ):
        raise ValueError(f"synthetic: {name} must be an integer in [{low}, {high}]; got {value!r}")


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if not np.isfinite(value) or not low <= value <= high:
        raise ValueError(f"synthetic: {name} must lie in [{low}, {high}]; got {value!r}")


def _check_geometry(anisotropy: float, within_class_spread: float, dim: int) -> None:
    _check_whole("dim", dim, 1)
    _check_number("anisotropy", anisotropy, 0, np.inf)
    _check_number("within_class_spread", within_class_spread, 0, np.inf)
