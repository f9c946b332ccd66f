"""Loaders of text sources, on small samples in the published formats."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from kernlens import datasets
from kernlens.datasets import online_retail
from tests.cases import has_own_test
from tests.test_datasets_table import check_laws, session_sets

SAMPLES = Path(__file__).parent / "samples"
CASES = {
    "movielens_1m": "movielens",
    "movielens_100k": "movielens",
    "movielens_latest_small": "movielens",
    "recbole": "recbole",
    "instacart": "instacart",
    "amazon_2014": "amazon",
    "amazon_2018": "amazon",
    "online_retail": "online_retail",
    "online_retail_ii": "online_retail",
}
MOVIELENS = [folder for folder, name in CASES.items() if name == "movielens"]


def sample(folder, **options):
    return datasets.load(CASES[folder], SAMPLES / folder, **({"min_count": 1} | options))


def named(labels):
    return [labels.names[code] if code >= 0 else None for code in labels.codes]


@pytest.fixture
def copy(tmp_path):
    """A copy of a sample that a test may spoil."""

    def copied(folder):
        target = tmp_path / folder
        shutil.copytree(SAMPLES / folder, target)
        return target

    return copied


def replace(path, old, new):
    text = path.read_bytes()
    assert old.encode() in text
    path.write_bytes(text.replace(old.encode(), new.encode(), 1))


def test_every_data_set_has_a_sample_or_its_own_tests():
    others = set(datasets.DATASETS) - set(CASES.values())
    assert all(map(has_own_test, others)), others


@pytest.mark.parametrize("folder", CASES)
def test_samples_keep_the_laws_under_any_seed(folder):
    one, again, other = sample(folder), sample(folder), sample(folder, seed=5)
    for data in (one, other, datasets.histories(one)):
        check_laws(data)
    np.testing.assert_array_equal(one.items, again.items)
    assert session_sets(one) == session_sets(other)
    assert sample(folder, min_count=2).num_items < one.num_items or one.counts.min() >= 2


@pytest.mark.parametrize("folder", CASES)
def test_a_count_that_nothing_reaches_is_an_error(folder):
    with pytest.raises(ValueError, match=rf"{CASES[folder]}: nothing left.*min_count=1000"):
        sample(folder, min_count=1000)


@pytest.mark.parametrize("name", sorted({*CASES.values(), "complete_journey"}))
def test_a_missing_or_empty_folder_says_what_was_expected(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; expected"):
        datasets.load(name, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"expected .*\.(csv|json|parquet|inter|dat)"):
        datasets.load(name, tmp_path)


def test_unknown_names_and_options_list_the_choices():
    with pytest.raises(ValueError, match=r"no data set 'netflix'; choose one of complete_journey,"):
        datasets.load("netflix")
    with pytest.raises(
        ValueError, match=r"no option 'window'; its options: level, min_count, seed"
    ):
        datasets.load("complete_journey", window=3)


@pytest.mark.parametrize("folder", MOVIELENS)
def test_movielens_formats_agree(folder):
    data = sample(folder)
    assert data.item_keys.tolist() == [10, 20, 30, 40, 50]
    assert data.user_keys.tolist() == [1, 2, 3]
    assert data.offsets.tolist() == [0, 3, 7, 9]
    assert data.times.tolist() == [900, 950, 1000, 1990, 2000, 2000, 2100, 400, 500]
    assert data.item_keys[data.items[:3]].tolist() == [30, 20, 10]
    assert set(data.item_keys[data.items[4:6]]) == {10, 20}
    assert named(data.labels["genre"]) == ["Drama", "Animation", "Crime", "Comedy", None]
    assert named(data.labels["single_genre"]) == ["Drama", None, None, "Comedy", None]
    assert data.text[1].startswith("Café of Clouds")
    assert data.text[4] == {"movielens_1m": "", "movielens_100k": "unknown"}.get(
        folder, "Untitled Reel"
    )
    assert data.notes["ratings_read"] == 9
    assert data.notes["films_not_in_catalogue"] == int(folder == "movielens_1m")


def test_movielens_orders_and_ratings():
    stored = sample("movielens_1m", ties="stored")
    assert stored.item_keys[stored.items[3:7]].tolist() == [30, 10, 20, 40]
    random = {tuple(sample("movielens_1m", order="random", seed=s).items) for s in range(20)}
    assert len(random) > 10  # 3! 4! 2! orders
    ties = {tuple(sample("movielens_1m", seed=s).items) for s in range(20)}
    assert len(ties) == 2
    liked = sample("movielens_1m", min_rating=4)
    assert len(liked.items) == 5
    assert liked.notes["ratings_under_min_rating"] == 4
    with pytest.raises(ValueError, match=r"no rating reaches min_rating=6; the highest is 5"):
        sample("movielens_1m", min_rating=6)


@pytest.mark.parametrize(
    ("folder", "file", "old", "new", "message"),
    [
        ("movielens_1m", "ratings.dat", "1::30", "1:30", r"ratings.dat, line 2: found 3 values"),
        ("movielens_1m", "ratings.dat", "::950", "::late", r"line 3, column 'time': found 'late'"),
        ("movielens_1m", "movies.dat", "20::", "10::", r"item '10' occurs 2 times, on lines 1, 2"),
        ("movielens_100k", "u.data", "1\t30", "1\tx", r"u.data, line 2, column 'item': found 'x'"),
        ("movielens_100k", "u.item", "20|", "30|", r"item '30' occurs 2 times, on lines 2, 3"),
        ("movielens_100k", "u.genre", "Crime|3", "Crime|9", r"genre numbers .*expected 0..4"),
        ("movielens_latest_small", "ratings.csv", "userId", "user", r"no column 'userId'; found"),
        ("movielens_latest_small", "movies.csv", "20,", "10,", r"on lines 2, 3"),
        ("recbole", "tiny.inter", "item_id:token", "item:token", r"no column 'item_id'; found"),
        ("recbole", "tiny.inter", "rating:float", "rating", r"line 1: found field 'rating', exp"),
        ("recbole", "tiny.inter", "timestamp", "time", r"no field 'timestamp'.*order='random'"),
        ("recbole", "tiny.inter", "\nu1\t", "\nu1 ", r"tiny.inter, line 2: found 3 values"),
        ("recbole", "tiny.item", "\nb1\t", "\nb0\t", r"'b0' occurs 2 times, on lines 2, 3"),
        ("recbole", "tiny.user", "\nu2\t", "\nu1\t", r"'u1' occurs 2 times, on lines 2, 3"),
        ("instacart", "orders.csv", "user_id", "user", r"orders.csv: no column 'user_id'; found"),
        ("instacart", "orders.csv", "7,1,", "5,1,", r"order_id '5' occurs 2 times, on lines 2, 3"),
        ("instacart", "order_products__prior.csv", "5,101,1,0", "6,101,1,0", r"prior.csv, line 3: "
         r"order_id 6 is not in orders.csv"),
        ("instacart", "order_products__prior.csv", "101", "1o1", r"line 3, column 'product_id'"),
        ("instacart", "products.csv", "102,", "101,", r"product_id '101' occurs 2 times"),
        ("instacart", "aisles.csv", "2,breads", "2", r"aisles.csv, line 3: found 1 values"),
        ("amazon_2018", "Toys_5.json", '{"reviewerID"', '{"reviewerID', r"line 1: found '{\"rev"),
        ("amazon_2018", "Toys_5.json", '"asin"', '"item"', r"Toys_5.json, line 1: no field asin"),
        ("amazon_2018", "Toys_5.json", "86400", '"x"', r"line 1: found unixReviewTime 'x'"),
        ("amazon_2018", "meta_Toys.json", "Marble", "Glass", r"asin 'P2'.* on lines 2 and 3"),
        ("amazon_2014", "reviews_Toys_5.json", "{'rev", "__import__('os'), {'rev", r"line 1: f"),
        ("online_retail", "Online Retail.csv", "StockCode", "Code", r"no column 'StockCode'; fou"),
        ("online_retail", "Online Retail.csv", "12/2/2010", "32/2/2010", r"line 6, column 'Invoi"),
        ("online_retail", "Online Retail.csv", ",-1,", ",one,", r"line 5, column 'Quantity': fou"),
    ],
)  # fmt: skip
def test_a_fault_in_a_file_is_one_clear_error(copy, folder, file, old, new, message):
    root = copy(folder)
    replace(root / file, old, new)
    with pytest.raises(ValueError, match=message):
        datasets.load(CASES[folder], root, min_count=1)


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("movielens_1m", "ratings.dat"),
        ("movielens_100k", "u.item"),
        ("movielens_latest_small", "ratings.csv"),
        ("recbole", "tiny.inter"),
        ("instacart", "orders.csv"),
        ("instacart", "order_products__prior.csv"),
        ("amazon_2018", "Toys_5.json"),
        ("online_retail", "Online Retail.csv"),
    ],
)
def test_empty_truncated_and_wrong_files(copy, folder, file):
    root = copy(folder)
    path = root / file
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rstrip().rfind(b"\n") + 3])
    with pytest.raises(ValueError, match=rf"{file}, line \d+: (found|no field)"):
        datasets.load(CASES[folder], root, min_count=1)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{file}: empty file"):
        datasets.load(CASES[folder], root, min_count=1)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    with pytest.raises(ValueError, match=file):
        datasets.load(CASES[folder], root, min_count=1)
    if file != "tiny.inter":
        path.unlink()
        with pytest.raises(FileNotFoundError, match=r"expected"):
            datasets.load(CASES[folder], root, min_count=1)


def test_recbole_labels_text_and_options(copy):
    data = sample("recbole")
    book = {key: i for i, key in enumerate(data.item_keys.tolist())}
    assert set(data.labels) == {"genre", "single_genre", "shelf"}
    assert set(data.user_labels) == {"gender"}
    genre, single = named(data.labels["genre"]), named(data.labels["single_genre"])
    assert (genre[book["b1"]], single[book["b1"]]) == ("Sea", None)
    assert (genre[book["b4"]], single[book["b4"]]) == ("Cook", None)
    assert (genre[book["b0"]], single[book["b0"]]) == ("Sea", "Sea")
    assert data.text[book["b3"]] == 'A Book "Number" 3'
    assert named(data.user_labels["gender"])[:2] == ["F", "M"]
    assert set(sample("recbole", sequence_fields=()).labels) == {"shelf"}

    root = copy("recbole")
    (root / "tiny.item").unlink()
    (root / "tiny.user").unlink()
    bare = datasets.load("recbole", root, min_rating=3, min_count=1)
    assert bare.labels == bare.user_labels == {}
    assert bare.text is None
    assert bare.notes["ratings_under_min_rating"] > 0
    shutil.copy(root / "tiny.inter", root / "more.inter")
    with pytest.raises(ValueError, match=r"2 .inter files; pass name=, one of more, tiny"):
        datasets.load("recbole", root)
    assert datasets.load("recbole", root, name="more").num_users == 10
    with pytest.raises(FileNotFoundError, match=r"less.inter: no such file"):
        datasets.load("recbole", root, name="less")


def test_recbole_without_times_or_ratings(copy):
    root = copy("recbole")
    replace(root / "tiny.inter", "rating:float\ttimestamp:float", "stars:float\tmoment:float")
    data = datasets.load("recbole", root, order="random", min_count=1)
    check_laws(data)
    assert data.times is None
    timed = datasets.load("recbole", root, time_field="moment", min_count=1)
    assert session_sets(timed) == session_sets(data)
    with pytest.raises(ValueError, match=r"min_rating=2 was given, but there are no ratings"):
        datasets.load("recbole", root, order="random", min_rating=2)


def test_instacart_orders_carts_and_relative_times():
    data = sample("instacart")
    assert data.item_keys.tolist() == [101, 103, 102, 104, 999]
    assert data.user_keys.tolist() == [1, 2]
    carts = np.split(data.item_keys[data.items], data.offsets[1:-1])
    assert [cart.tolist() for cart in carts] == [
        [101, 102, 103], [103, 101], [101, 999], [101], [101, 104],
    ]  # fmt: skip
    day, hour = 86_400, 3_600
    starts = data.times[data.offsets[:-1]]
    # User 2's second order is of the same day at an earlier hour: it takes the first one's time.
    assert starts.tolist() == [
        10 * hour, 7 * day + 8 * hour, 37 * day + 12 * hour, 22 * hour, 22 * hour,
    ]  # fmt: skip
    assert named(data.labels["department"]) == ["pantry", "chilled", "pantry", "chilled", None]
    assert named(data.labels["aisle"]) == ["spreads", "milks", "breads", "milks", None]
    assert data.text.tolist()[2:] == ['Bread, Sliced "Thin"', "Soy Milk", ""]
    assert data.session_attributes["order_number"].tolist() == [1, 2, 3, 1, 2]
    assert data.session_attributes["day_of_week"].tolist() == [3, 3, 6, 0, 0]
    assert data.notes["products_not_in_catalogue"] == 1
    assert sample("instacart", train=False).num_sessions == 4


def test_amazon_layouts(copy):
    new, old = sample("amazon_2018"), sample("amazon_2014")
    assert session_sets(new) == session_sets(old)
    assert new.item_keys.tolist() == ["P1", "P2", "P3"]
    assert named(new.labels["main_category"]) == ["Toys & Games", "Toys & Games", None]
    assert named(old.labels["main_category"]) == ["Toys", "Toys", None]
    for data in (new, old):
        assert named(data.labels["category"]) == ["Outdoor", None, None]
    assert new.text.tolist() == ["Wooden Kite", "Marble Maze", ""]
    assert old.text.tolist() == ["Child's Kite", "", ""]
    assert new.notes["repeated_metadata_records"] == 1
    assert new.notes["items_not_in_metadata"] == 1

    root = copy("amazon_2018")
    for path in list(root.iterdir()):
        (root / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = datasets.load("amazon", root, min_count=1)
    np.testing.assert_array_equal(packed.items, new.items)
    assert packed.text.tolist() == new.text.tolist()
    path = root / "Toys_5.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"Toys_5.json.gz: truncated or damaged gzip"):
        datasets.load("amazon", root)


def test_amazon_choice_of_files_and_duplicates(copy):
    root = copy("amazon_2018")
    replace(root / "meta_Toys.json", "Marble Maze", "Glass Maze")
    data = datasets.load("amazon", root, min_count=1, duplicates="first")
    assert data.text[1] == "Glass Maze"
    (root / "meta_Toys.json").unlink()
    assert datasets.load("amazon", root, min_count=1).labels == {}
    shutil.copy(root / "Toys_5.json", root / "Games_5.json")
    with pytest.raises(
        ValueError, match=r"2 files could be reviews; pass reviews=, one of Games_5"
    ):
        datasets.load("amazon", root)
    chosen = datasets.load("amazon", root, reviews="Games_5.json", min_count=1, min_rating=3)
    assert chosen.notes["ratings_under_min_rating"] == 1
    (root / "one.json").write_text(json.dumps([1, 2]))
    with pytest.raises(ValueError, match=r"one.json, line 1: found '\[1, 2\]', expected one JSON"):
        datasets.load("amazon", root, reviews="one.json")


@pytest.mark.parametrize("folder", ["online_retail", "online_retail_ii"])
def test_online_retail_filters_and_counts(folder):
    data = sample(folder)
    assert session_sets(data) == [
        (13047, ("A1",)), (13047, ("B2",)), (17850, ("A1",)), (17850, ("A1", "B2")),
    ]  # fmt: skip
    assert data.times[0] == 1_291_284_300  # 2010-12-02 10:05 UTC
    assert data.text.tolist() == ["RED MUG", "BLUE BOWL, LARGE"]
    assert named(data.user_labels["country"]) == ["France", "United Kingdom"]
    counted = ("lines_read", "lines_of_cancellations", "lines_without_positive_quantity")
    assert [data.notes[name] for name in counted] == [9, 1, 1]
    assert data.notes["lines_without_customer"] == 1
    assert data.notes["duplicate_lines"] == 1


def test_online_retail_workbook(tmp_path):
    read = online_retail._read_text(SAMPLES / "online_retail_ii" / "online_retail_II.csv")
    book = openpyxl.Workbook()
    names = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price")
    for sheet, rows in ((book.active, range(4)), (book.create_sheet("second"), range(4, 9))):
        sheet.append([*names, "Customer ID", "Country"])
        for i in rows:
            invoice, user = str(read["invoice"][i]), read["user"][i]
            sheet.append([
                int(invoice) if invoice.isdigit() else invoice,
                str(read["item"][i]),
                str(read["text"][i]) or None,
                int(read["quantity"][i]),
                read["date"][i].astype("datetime64[s]").item(),
                1.25,
                None if np.isnan(user) else float(user),
                str(read["country"][i]),
            ])  # fmt: skip
    path = tmp_path / "online_retail_II.xlsx"
    book.save(path)
    data, text = datasets.load("online_retail", tmp_path, min_count=1), sample("online_retail_ii")
    np.testing.assert_array_equal(data.items, text.items)
    np.testing.assert_array_equal(data.times, text.times)
    assert data.text.tolist() == text.text.tolist()
    assert data.notes == text.notes

    book.active.cell(3, 4).value = "many"
    book.save(path)
    with pytest.raises(ValueError, match=r"sheet 'Sheet', line 3, column 'Quantity': found 'many'"):
        datasets.load("online_retail", tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"not a whole .xlsx workbook"):
        datasets.load("online_retail", tmp_path)
    shutil.copy(SAMPLES / "online_retail_ii" / "online_retail_II.csv", tmp_path / "other.csv")
    with pytest.raises(ValueError, match=r"2 tables; pass file=, one of"):
        datasets.load("online_retail", tmp_path)
    assert datasets.load("online_retail", tmp_path, file="other.csv", min_count=1).num_items == 2


def test_online_retail_with_nothing_but_cancellations(copy):
    path = copy("online_retail_ii") / "online_retail_II.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[4]]) + "\n")
    with pytest.raises(ValueError, match=r"no interactions left.*'lines_of_cancellations': 1"):
        datasets.load("online_retail", path.parent)
