"""Ratings as rows of users, split into three as the authors of infinity-AE do."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files
from kernlens.datasets import synthetic

TRAIN, VALIDATION, TEST = 0, 1, 2


class Ratings(NamedTuple):
    """Who rated what, a line each, in the order of the file; users and items are numbered."""

    users: np.ndarray
    items: np.ndarray


def read(root: Path) -> Ratings:
    """The lines of a folder with one RecBole ``.inter`` file.

    Raises:
      FileNotFoundError: no folder, or no such file in it.
      ValueError: several such files, or a file without the two columns.
    """
    import pandas as pd

    found = sorted(files.folder("recbole", root, ["<name>.inter"]).glob("*.inter"))
    if len(found) != 1:
        raise ValueError(f"{root}: expected one .inter file; found {len(found)}")
    columns = ["user_id:token", "item_id:token"]
    names = pd.read_csv(found[0], sep="\t", nrows=0).columns
    if not set(columns) <= set(names):
        raise ValueError(f"{found[0]}: expected columns {columns}; found {list(names)}")
    lines = pd.read_csv(found[0], sep="\t", usecols=columns, dtype=str)
    return Ratings(*(pd.factorize(lines[name])[0] for name in columns))


def made(interactions: int) -> Ratings:
    """Ratings of synthetic users, each item once."""
    data = synthetic.load(num_items=60, num_users=80, num_interactions=interactions, num_classes=4)
    users = np.repeat(data.users, np.diff(data.offsets))
    pairs = np.unique(np.stack([users, data.items], axis=1), axis=0)
    return Ratings(*(np.unique(column, return_inverse=True)[1] for column in pairs.T))


def published(index: Path, ratings: Ratings) -> np.ndarray:
    """The authors' own split: their ``index.npz``, a part for each line of ``ratings.dat``.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another number of lines, or a part that is none of theirs.
    """
    with np.load(files.existing(index, ["index.npz"]), allow_pickle=False) as stored:
        parts = np.asarray(stored["data"], np.int64)
    if parts.shape != ratings.users.shape:
        raise ValueError(
            f"{index} has parts for {len(parts):,} lines; the ratings have {len(ratings.users):,}"
        )
    if not np.isin(parts, (-1, TRAIN, VALIDATION, TEST)).all():
        raise ValueError(f"{index}: parts must be -1, 0, 1 or 2; got {np.unique(parts)}")
    return parts


def drawn(ratings: Ratings, seed: int) -> np.ndarray:
    """A split by the authors' rule: 80, 10 and 10 percent of each user, one line at least to test.

    Users of fewer than three lines are left out, part -1.
    """
    rng, parts = np.random.default_rng(seed), np.full(len(ratings.users), -1)
    order = np.argsort(ratings.users, kind="stable")
    for lines in np.split(order, np.flatnonzero(np.diff(ratings.users[order])) + 1):
        n = len(lines)
        if n < 3:
            continue
        shuffled = rng.permutation(lines)
        first, second = int(0.8 * n), int(0.9 * n)
        parts[shuffled[:first]] = TRAIN
        parts[shuffled[first:second]] = VALIDATION
        parts[shuffled[second:]] = TEST
        parts[shuffled[0]] = TEST
    return parts


def matrices(ratings: Ratings, parts: np.ndarray) -> tuple[Any, Any, Any]:
    """Whether each user holds each item in each part, SciPy CSR float64 ``[users, items]``."""
    from scipy import sparse

    kept = parts >= 0
    users, items = (np.unique(column[kept], return_inverse=True)[1] for column in ratings)
    shape = (users.max() + 1, items.max() + 1)
    found = []
    for part in (TRAIN, VALIDATION, TEST):
        own = parts[kept] == part
        x = sparse.csr_array((np.ones(np.sum(own)), (users[own], items[own])), shape=shape)
        found.append(sparse.csr_array(x > 0).astype(np.float64))
    return found[0], found[1], found[2]
