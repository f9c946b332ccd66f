"""Two versions of an embedding, and the targets of their items: joined, checked and counted."""

from typing import Any, NamedTuple

import numpy as np

from kernlens import arrays
from kernlens.arrays.embeddings import as_rows
from kernlens.targets import as_target, labelled_rows, num_rows, take
from kernlens.targets.next_items import NextItems
from kernlens.types import Labels, MultiLabels, Stream, Values


class Versions(NamedTuple):
    """Labelled items on two versions.

    Attributes:
      old: rows of the old version, ``[n, d1]``.
      new: rows of the new version, ``[n, d2]``.
      target: classes or numbers of the items, all known, ``[n]``.
      unlabelled: rows of both versions of common items without a target, for maps.
      new_items: rows that the new version alone has, ``[m, d2]``, or None.
      trained_on: whether a given head learnt from an item, bool ``[n]``, or None.
      ids: of these items, ``[n]``.
      notes: what was joined and left out.
    """

    old: np.ndarray
    new: np.ndarray
    target: Labels | Values
    unlabelled: tuple[np.ndarray, np.ndarray]
    new_items: np.ndarray | None
    trained_on: np.ndarray | None
    ids: np.ndarray
    notes: tuple[str, ...]

    @property
    def labels(self) -> Labels:
        """The classes, of a target that has some."""
        assert isinstance(self.target, Labels)
        return self.target


def versions_of(
    old: Any, new: Any, target: Any, *, ids: Any = None, new_items: Any = None,
    trained_on: Any = None,
) -> Versions:  # fmt: skip
    """Checks what a user gave and joins it; see :func:`kernlens.upgrade` for the arguments.

    Raises:
      ValueError: as :func:`kernlens.upgrade`.
    """
    if isinstance(target, NextItems):
        raise ValueError(
            "target: upgrade asks what a head answers to a new row of an item; of next items, "
            "compare of the two versions tells which recommends better"
        )
    arrays.check_same_order(old, target, names=("old", "target"))
    if ids is None:
        arrays.check_same_order(old, new, names=("old", "new"))
    tables = {"old": _rows(old, "old"), "new": _rows(new, "new")}
    asked = as_target(target)
    if isinstance(asked, MultiLabels):
        raise ValueError(
            "target: upgrade needs one class, or one number, for each item; got several labels an "
            "item. compare of the two versions tells which predicts them better, and a label at a "
            "time is a target of two classes"
        )
    if num_rows(asked) != len(tables["old"]):
        raise ValueError(
            "target must have a class or a number for each item of old; got "
            f"{num_rows(asked):,} and {len(tables['old']):,} rows"
        )
    extra = None if new_items is None else _rows(new_items, "new_items")
    if trained_on is not None:
        trained_on = _mask(trained_on, num_rows(asked))
    names, places, notes = _joined(ids, tables)
    if places is not None:
        at_old, at_new = places
        if extra is None:
            alone = np.ones(len(tables["new"]), bool)
            alone[at_new] = False
            extra = tables["new"][alone]
        tables = {"old": tables["old"][at_old], "new": tables["new"][at_new]}
        asked = take(asked, at_old)
        trained_on = None if trained_on is None else trained_on[at_old]
    if extra is not None and not len(extra):
        extra = None
    if extra is not None and extra.shape[1] != tables["new"].shape[1]:
        raise ValueError(
            f"new_items must have the columns of new, {tables['new'].shape[1]}; got "
            f"{extra.shape[1]}"
        )
    known = np.zeros(num_rows(asked), bool)
    known[labelled_rows(asked)] = True
    if not np.any(known):
        raise ValueError(
            "target: no common item has a label; expected classes or numbers for some of them"
        )
    for name, rows in (*tables.items(), ("new_items", extra)):
        _check_finite(rows, name)
    if not np.all(known):
        notes = (*notes, f"{np.count_nonzero(~known):,} items without a target only help the maps")
    return Versions(
        tables["old"][known], tables["new"][known], _one(take(asked, np.flatnonzero(known))),
        (tables["old"][~known], tables["new"][~known]), extra,
        None if trained_on is None else trained_on[known], names[known], notes,
    )  # fmt: skip


def _one(target: Any) -> Labels | Values:
    assert not isinstance(target, MultiLabels)
    return target


def _rows(x: Any, name: str) -> np.ndarray:
    try:
        found = as_rows(x)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if isinstance(found, Stream):
        raise ValueError(f"{name}: upgrade holds both versions in memory; expected rows, [n, d]")
    return np.asarray(found)


def _mask(trained_on: Any, n: int) -> np.ndarray:
    found = np.asarray(trained_on)
    if found.dtype != bool or found.shape != (n,):
        raise ValueError(
            f"trained_on must be bool [{n}], True for items that the head learnt from; got "
            f"{found.dtype} {found.shape}"
        )
    if found.all():
        raise ValueError(
            "trained_on: the head learnt from every item; expected some that it did not"
        )
    return found


def _joined(ids, tables) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None, tuple]:
    """Ids of the common items, their places in both tables, or None where they match, and notes."""
    sizes = {name: len(rows) for name, rows in tables.items()}
    if ids is None or not (isinstance(ids, tuple) and len(ids) == 2):
        if sizes["old"] != sizes["new"]:
            raise ValueError(
                "old and new must hold the same items in the same order; got "
                f"{sizes['old']:,} and {sizes['new']:,} rows. Give ids=(ids of old, ids of new) to "
                "join them"
            )
        if ids is None:
            return np.arange(sizes["old"]), None, ()
        return _ids(ids, "ids", sizes["old"]), None, ()
    own = {
        name: _ids(values, f"ids of {name}", sizes[name])
        for name, values in zip(tables, ids, strict=True)
    }
    for name, values in own.items():
        if len(np.unique(values)) < len(values):
            raise ValueError(f"ids of {name}: an id is there twice; expected each once")
    common, at_old, at_new = np.intersect1d(own["old"], own["new"], return_indices=True)
    if not len(common):
        first = {name: str(values[0]) if len(values) else "none" for name, values in own.items()}
        raise ValueError(
            f"old and new have no item in common; ids such as {first['old']!r} and {first['new']!r}"
        )
    order = np.argsort(at_old)
    at_old, at_new = at_old[order], at_new[order]
    gone, added = sizes["old"] - len(common), sizes["new"] - len(common)
    notes = (f"{len(common):,} items joined; {gone:,} of old are gone, {added:,} of new are new",)
    return own["old"][at_old], (at_old, at_new), notes


def _ids(values: Any, name: str, size: int) -> np.ndarray:
    found = np.asarray(values)
    if found.shape != (size,):
        raise ValueError(f"{name}: expected one for each row, [{size}]; got {found.shape}")
    return found.astype(str) if found.dtype == object else found


def _check_finite(rows: np.ndarray | None, name: str) -> None:
    if rows is None:
        return
    finite = np.all(np.isfinite(rows), axis=1)
    if not np.all(finite):
        raise ValueError(
            f"{name} must be finite; {np.count_nonzero(~finite):,} rows are not, first row "
            f"{int(np.argmin(finite))} of the common items"
        )
