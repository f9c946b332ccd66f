"""Instacart: 3 million grocery orders of 200,000 users (2017)."""

from pathlib import Path

import numpy as np

from kernlens import files
from kernlens.datasets import table
from kernlens.io import raw
from kernlens.types import Interactions

_DAY, _HOUR = 86_400, 3_600
_FILES = (
    "orders.csv",
    "order_products__prior.csv",
    "products.csv",
    "aisles.csv",
    "departments.csv",
)
_LINES = {"order_id": "int32", "product_id": "int32", "add_to_cart_order": "int32"}


def load(
    root: str | Path | None = None,
    *,
    train: bool = True,
    min_count: int = 20,
    seed: int = 0,
) -> Interactions:
    """Orders of the Instacart data, user after user in the order they were placed.

    Sessions are orders; inside an order items stand as they were put in the cart, which was
    observed. The data has no dates: ``times`` count from each user's first order, days since the
    prior order times 86,400 plus the hour, so they are relative to an epoch of each user's own and
    are not comparable between users. Gaps are whole days and capped at 30 in the source; where the
    hour would make an order earlier than the one before it, it gets that one's time.

    Labels are ``department`` and ``aisle``, ``text`` the product name. Sessions have
    ``order_number``, ``day_of_week`` (0 to 6, as published) and ``hour`` (0 to 23). Columns
    are read as 32-bit integers, and no others are kept: eight million lines took 1.2 GB of memory
    and ten seconds, so allow 5 GB and a minute for all 33 million.

    Args:
      root: folder with orders, order_products__prior, products, aisles and departments as csv;
        order_products__train.csv is read too where it exists.
      train: whether to read order_products__train.csv.
      min_count: least number of lines of a product, at least 1.
      seed: taken as by every loader; the order was observed, so nothing is shuffled.

    Returns:
      Interactions.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a malformed line (file, line, column), a repeated id, a line of an order that
        orders.csv lacks, or nothing left.
    """
    source = "instacart"
    table.check_options(source, min_count=min_count, seed=seed)
    where = files.folder(source, root, _FILES)
    for name in _FILES:
        files.existing(where / name, _FILES)
    orders = raw.read_csv(
        where / "orders.csv",
        {
            "order_id": "int32",
            "user_id": "int32",
            "order_number": "int32",
            "order_dow": "int32",
            "order_hour_of_day": "int32",
            "days_since_prior_order": "float64?",
        },
        unique="order_id",
    )
    orders = {name: column.to_numpy() for name, column in orders.items()}
    in_turn = np.lexsort((orders["order_number"], orders["user_id"]))
    orders = {name: column[in_turn] for name, column in orders.items()}
    times = _times(orders["user_id"], orders["days_since_prior_order"], orders["order_hour_of_day"])

    parts = ["order_products__prior.csv"]
    if train and (where / "order_products__train.csv").is_file():
        parts.append("order_products__train.csv")
    of_order, items, places = [], [], []
    for name in parts:
        read = raw.read_csv(where / name, _LINES)
        order_id = read["order_id"].to_numpy()
        of_order.append(table.place_in(orders["order_id"], order_id).astype(np.int32))
        if of_order[-1].min() < 0:
            row = int(np.argmin(of_order[-1]))
            raise ValueError(
                f"{where / name}, line {row + 2}: order_id {order_id[row]} is not in orders.csv"
            )
        items.append(read["product_id"].to_numpy())
        places.append(read["add_to_cart_order"].to_numpy())
    order = np.concatenate(of_order)
    data, rows = table.assemble(
        source,
        users=orders["user_id"][order],
        items=np.concatenate(items),
        sessions=order,
        times=times[order],
        positions=np.concatenate(places),
        order="position",
        ties="stored",
        min_count=min_count,
        seed=seed,
        notes={"lines_read": len(order), "orders_read": len(times)},
    )
    products = raw.read_csv(
        where / "products.csv",
        {
            "product_id": "int32",
            "product_name": "string?",
            "aisle_id": "int32",
            "department_id": "int32",
        },
        unique="product_id",
    )
    at = table.place_in(products["product_id"].to_numpy(), data.item_keys)
    labels = {}
    for field in ("department", "aisle"):
        names = raw.read_csv(
            where / f"{field}s.csv",
            {f"{field}_id": "int32", field: "string"},
            unique=f"{field}_id",
        )
        of_product = table.place_in(
            names[f"{field}_id"].to_numpy(), products[f"{field}_id"].to_numpy()
        )
        labels[field] = table.labels_at(table.take(names[field], of_product), at)
    first = order[rows[data.offsets[:-1]]]
    return data._replace(
        labels=labels,
        text=table.text_at(products["product_name"], at),
        session_attributes={
            "order_number": orders["order_number"][first],
            "day_of_week": orders["order_dow"][first],
            "hour": orders["order_hour_of_day"][first],
        },
        notes={**data.notes, "products_not_in_catalogue": int(np.sum(at < 0))},
    )


def _times(users: np.ndarray, gaps: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Seconds since midnight of the day of the user's first order; never falling for a user."""
    first = np.diff(users, prepend=users[0] - 1) != 0
    gaps = np.where(first | np.isnan(gaps), 0, gaps).astype(np.int64)
    days = np.cumsum(gaps)
    user = np.cumsum(first) - 1
    days = days - days[first][user]
    times = days * _DAY + hours.astype(np.int64) * _HOUR
    span = int(times.max()) + 1  # one running maximum over all users, each lifted above the last
    return np.maximum.accumulate(times + user * span) - user * span
