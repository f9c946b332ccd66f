"""The embedding was retrained: does the deployed head still work, mapped or refitted?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernlens.lens import maps as maps_of
from kernlens.lens.advice import TOLERANCE, NewItems, Upgrade, advised, best_way
from kernlens.lens.number_ways import number_ways
from kernlens.lens.versions import Versions, versions_of
from kernlens.lens.ways import ways_of
from kernlens.probes import paired_difference
from kernlens.probes.prediction import MACRO_F1, R2
from kernlens.types import Decoder, Labels

MAPS = tuple(maps_of.MAPS)
"""Names of the label-free maps that are tried by default."""

FEW_LABELS = 200
"""Labels on the new version that the way with few labels has."""


def upgrade(
    old: Any,
    new: Any,
    target: Any,
    *,
    decoder: Decoder | None = None,
    head: Any = None,
    maps: Sequence[str] = MAPS,
    new_items: Any = None,
    ids: Any = None,
    trained_on: Any = None,
    few_labels: int = FEW_LABELS,
    penalty: float | None = None,
    train: bool | None = None,
    metric: str | None = None,
    tolerance: float = TOLERANCE,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Upgrade:
    """Will a head of the old version serve the new one, and what if one maps or refits?

    Ways to serve, each predicted on items that no head, and no map, has learnt from: the new rows
    as they are (``raw``), mapped into the old version without labels (a rotation, a ridge map,
    whitened, rotated and coloured again), a head on the new version that is distilled on the old
    head's classes, one that starts from the mapped head and has few labels, and one retrained.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> old = rng.normal(size=(400, 4))
    >>> new = old[:, ::-1] + 0.1 * rng.normal(size=(400, 4))
    >>> found = upgrade(old, new, np.where(old[:, 0] + old[:, 1] > 0, "up", "down"))
    >>> found.ways["rotation"].prediction.value.value > 0.9
    True
    >>> found.map(new).shape
    (400, 4)

    Args:
      old: rows of the old version, ``[n, d1]``, as :func:`kernlens.predict` takes them.
      new: rows of the new version, ``[n, d2]``, the same items in the same order; or, with
        ``ids`` of both, any items.
      target: classes of the items of ``old``, or a number for each (a ridge regression). Of
        numbers a flip is a move by over 0.1 standard deviations of the target, away from the truth
        or nearer to it.
      decoder: the head that is deployed, as for :func:`kernlens.predict`; linear by default, and
        for numbers.
      head: the deployed head itself, trained: a fitted scikit-learn classifier or regressor, or a
        function ``apply_fn(rows [n, d1])`` that gives logits ``[n, C]`` in the order of the
        classes, or numbers ``[n]``. Its own answers are then judged; ``decoder`` is what it would
        be retrained as.
      maps: names of the maps to try, of :data:`kernlens.lens.maps.MAPS`.
      new_items: rows that only the new version has, ``[m, d2]``, predicted apart.
      ids: of the items, ``[n]``; or a pair, ids of ``old`` and of ``new``, which are then joined,
        and the items of ``new`` alone become ``new_items``. Row numbers by default.
      trained_on: with ``head``, whether it learnt from an item, bool ``[n]``; such items are not
        counted.
      few_labels: labels on the new version of the way with few labels, at least 1.
      penalty: of a linear head on standardised columns, where it is fixed; chosen on held-out
        rows by default.
      train: whether an MLP is trained, fold by fold, instead of predicted. Default: it is, since
        that is quicker and right; random features extrapolate otherwise than a trained head, and
        do not know what its seed changes. False predicts.
      metric: what a way is chosen by, and is shown first; macro-F1, or R² of numbers, by default.
      tolerance: how much of it a way that is cheaper to serve may lack and still be advised.
      draws: bootstrap draws, at least 1; those of numbers are normal.
      level: nominal coverage of the intervals, of one test set of a fifth of the items, in
        ``(0, 1)``.
      seed: of folds, draws, random features and labels that are drawn.

    Returns:
      Upgrade, which prints itself.

    Raises:
      ValueError: rows that do not match, no common item, next items, several labels an item, a
        head of other classes or one that fails, maps that there are not, k nearest neighbours, or
        an argument out of its range; the message names the argument.
    """
    found = versions_of(old, new, target, ids=ids, new_items=new_items, trained_on=trained_on)
    if few_labels < 1:
        raise ValueError(f"few_labels must be at least 1; got {few_labels}")
    if not (tolerance >= 0 and np.isfinite(tolerance)):
        raise ValueError(f"tolerance must be 0 or more; got {tolerance}")
    asked: dict[str, Any] = {
        "decoder": decoder, "head": head, "maps": _asked(maps, found), "few_labels": few_labels,
        "penalty": penalty, "draws": draws, "level": level, "seed": seed,
    }  # fmt: skip
    if isinstance(found.target, Labels):
        name = metric or MACRO_F1
        made = ways_of(found, train=train, metric=name, **asked)
    else:
        name = metric or R2
        made = number_ways(found, metric=name, **asked)
    new_part = None
    if made.new_items is not None:
        shifted, by_way = made.new_items
        new_part = NewItems(shifted.count, shifted.separation, by_way)
    best = made.ways[best_way(made.ways, name)].prediction
    change = paired_difference(best, made.before, metric=name, level=level)
    return Upgrade(
        before=made.before, ways=made.ways, advised=advised(made.ways, name, tolerance),
        metric=name, level=level, maps=made.maps, ids=found.ids, floor=made.floor,
        new_items=new_part, warnings=made.warnings, notes=(*found.notes, *made.notes),
        change=change, tolerance=tolerance,
    )  # fmt: skip


def _asked(maps: Sequence[str], found: Versions) -> tuple[str, ...]:
    """The maps to try; raw only where widths are equal, unless it was asked for by name."""
    if isinstance(maps, str):
        raise ValueError(f"maps must be a list of names; got {maps!r}")
    other = [name for name in maps if name not in maps_of.MAPS]
    if other:
        raise ValueError(f"maps must be among {MAPS}; got {other[0]!r}")
    unequal = found.old.shape[1] != found.new.shape[1]
    return tuple(n for n in MAPS if n in maps and not (n == maps_of.RAW and unequal))
