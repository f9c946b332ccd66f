"""Interactions before and after a week, in some stores and in others."""

import dataclasses
from typing import NamedTuple

import numpy as np

from experiments.kit.sources import Source, interactions
from kernlens.targets import sequences
from kernlens.types import Interactions, Labels

WEEK = 7 * 24 * 3600
RELATIVE = ("instacart",)
"""Data sets whose times are not comparable between users."""


class Parts(NamedTuple):
    """Baskets by when and where they were bought; all share one numbering of items.

    Attributes:
      before: baskets up to the cut, all stores.
      after: baskets after it, all stores.
      known: those before in one half of the stores, or of the users where there are no stores.
      later: those after in the same half.
      elsewhere: those before in the other half.
    """

    before: Interactions
    after: Interactions
    known: Interactions
    later: Interactions
    elsewhere: Interactions


def load(source: Source) -> Interactions:
    """Sessions of a source with the week of each, from 1 on: baskets, or what a user met in a week.

    Synthetic ones have stores and brands too. Histories in random order are so inside each week.

    Raises:
      ValueError: as :func:`experiments.kit.sources.interactions`, neither weeks nor times, or times
        that are not of one calendar.
    """
    if source.synthetic:
        return _synthetic(source)
    if source.data in RELATIVE:
        raise ValueError(
            f"{source.data} counts times from each user's own first session, so it has no calendar "
            "weeks to cut at; predictions ahead of time need another data set"
        )
    data = interactions(source)
    if "week" in data.session_attributes:
        return data
    return by_week(interactions(dataclasses.replace(source, order="time")), source.order)


def check_cut(cut: int, week: np.ndarray, held: int = 0) -> None:
    """Refuses a cut with no weeks on one side, or none before those held out.

    Args:
      cut: the last week that is known.
      week: of each session.
      held: weeks up to the cut that are held out.

    Raises:
      ValueError: names the weeks that there are.
    """
    first, last = int(week.min()), int(week.max())
    least, most = first + held, last - 1
    if not least <= cut <= most:
        choices = f"be in {least}..{most}" if least <= most else "cannot be"
        beside = f", of which --held {held} are held out," if held else ""
        raise ValueError(
            f"--cut must leave weeks before{beside} and after it, so {choices}: sessions are of "
            f"weeks {first} to {last}; got {cut}"
        )


def by_week(data: Interactions, order: str) -> Interactions:
    """Cuts sessions where a week ends; the week of each is an attribute, the first one 1.

    Args:
      data: interactions by time.
      order: "time", or "random" for weeks that are shuffled inside and told by no finer time.

    Raises:
      ValueError: there are no times.
    """
    if data.times is None:
        raise ValueError("predictions ahead of time need interactions with times; these have none")
    week = (data.times - data.times.min()) // WEEK + 1
    owner = np.repeat(np.arange(data.num_sessions), np.diff(data.offsets))
    starts = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(week, prepend=-1) != 0))
    attributes = {name: values[owner[starts]] for name, values in data.session_attributes.items()}
    by_time = data._replace(
        offsets=np.append(starts, len(data.items)),
        users=data.users[owner[starts]],
        session_attributes={**attributes, "week": week[starts]},
    )
    if order == "time":
        return by_time
    # One time a week, so that whoever shuffles ties again shuffles weeks and no more.
    return sequences.shuffle_ties(by_time._replace(times=week * WEEK, ordered=False), seed=0)


def _synthetic(source: Source) -> Interactions:
    data = interactions(source)
    rng = np.random.default_rng(0)
    sessions, codes = data.num_sessions, data.labels["class"].codes
    flipped = rng.random(data.num_items) < 0.2
    brand = Labels(((codes % 2) ^ flipped).astype(np.int32), ("National", "Private"))
    return data._replace(
        session_attributes={
            "week": rng.integers(1, 54, sessions),
            "store": rng.integers(0, 20, sessions),
        },
        labels={"department": data.labels["class"], "brand": brand},
    )


def parts(data: Interactions, *, cut: int, seed: int) -> Parts:
    """Cuts baskets by week and store.

    Args:
      data: with the ``week`` of each session, and its ``store`` where it has one.
      cut: the last week that is known.
      seed: of the halves of stores, or of users.
    """
    week = data.session_attributes["week"]
    store = data.session_attributes.get("store", data.users)
    names = np.random.default_rng(seed).permutation(np.unique(store))
    here = np.isin(store, names[: len(names) // 2])
    before = week <= cut
    return Parts(
        *(
            sequences.sessions(data, kept)
            for kept in (before, ~before, before & here, ~before & here, before & ~here)
        )
    )


def shares(data: Interactions, items: np.ndarray) -> np.ndarray:
    """Share of each item in the purchases of the items that a mask keeps, ``[num_items]``."""
    counts = np.where(items, data.counts, 0).astype(np.float64)
    if counts.sum() == 0:
        raise ValueError("none of these items was bought here")
    return counts / counts.sum()
