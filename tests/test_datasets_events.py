"""A user's own events: every format and every way to write a time gives the same histories."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from kernlens import datasets
from kernlens.io.event_times import milliseconds
from tests.test_datasets_table import check_laws

RNG = np.random.default_rng(0)
N = 400
START = 1_577_934_245  # 2020-01-02 03:04:05 UTC
FRAME = pd.DataFrame(
    {
        "user_id": RNG.integers(0, 20, N),
        "sku": [f"p{i}" for i in RNG.integers(0, 30, N)],
        "seconds": START + RNG.permutation(N) * 1801,
        "visit": RNG.integers(0, 3, N),
    }
).assign(kind=lambda frame: "k" + frame["sku"].str[1:].astype(int).mod(4).astype(str))
OPTIONS = {"item": "sku", "time": "seconds", "min_count": 1}


def histories(data):
    """The items of each user, by key and in order."""
    data = datasets.histories(data)
    keys = data.item_keys[data.items]
    parts = np.split(keys, data.offsets[1:-1])
    return {
        str(data.user_keys[user]): part.tolist()
        for user, part in zip(data.users, parts, strict=True)
    }


EXPECTED = {
    str(user): own.sort_values("seconds")["sku"].tolist() for user, own in FRAME.groupby("user_id")
}
STAMPS = pd.to_datetime(FRAME["seconds"], unit="s")


def write(path, frame):
    name = path.name
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    elif "json" in name:
        lines = "".join(json.dumps(row) + "\n" for row in frame.astype(object).to_dict("records"))
        path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    return path


@pytest.mark.parametrize(
    "name",
    ["a.parquet", "a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.jsonl", "a.jsonl.gz", "a.json"],
)
def test_formats(tmp_path, name):
    data = datasets.load("table", write(tmp_path / name, FRAME), **OPTIONS)
    check_laws(data)
    assert histories(data) == EXPECTED
    assert data.user_keys.dtype.kind == "i"
    assert data.times.min() == START
    assert data.notes["rows_read"] == N
    assert data.notes["repeated_rows"] == 0


@pytest.mark.parametrize(
    "times",
    [
        STAMPS,
        STAMPS.dt.tz_localize("UTC"),
        STAMPS.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
        STAMPS.dt.strftime("%Y-%m-%d %H:%M:%S"),
        STAMPS.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        STAMPS.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo").map(lambda t: t.isoformat()),
        FRAME["seconds"].astype(float),
        FRAME["seconds"] * 1000,
        FRAME["seconds"] * 1_000_000,
        FRAME["seconds"] * 1_000_000_000,
        FRAME["seconds"].astype(str),
        (FRAME["seconds"] * 1000).astype(str),
    ],
    ids=["plain", "utc", "tokyo", "text", "text-z", "text-offset", "float", "ms", "us", "ns",
         "text-s", "text-ms"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_times(tmp_path, times, name):
    path = write(tmp_path / name, FRAME.assign(seconds=times))
    data = datasets.load("table", path, **OPTIONS)
    assert histories(data) == EXPECTED
    np.testing.assert_array_equal(np.sort(data.times), np.sort(FRAME["seconds"]))


def test_milliseconds_order_events_of_one_second(tmp_path):
    frame = pd.DataFrame({"user": 1, "item": list("abcdefgh"), "time": START * 1000})
    frame["time"] += np.array([700, 100, 300, 200, 0, 600, 500, 400])
    data = datasets.load("table", write(tmp_path / "a.csv", frame), min_count=1)
    assert histories(data) == {"1": list("ebdchgfa")}
    assert set(data.times) == {START}


def test_gaps_and_repeats_are_counted(tmp_path):
    frame = FRAME.astype({"user_id": object, "sku": object, "seconds": float})
    frame.loc[3, "user_id"] = None
    frame.loc[[4, 5], "sku"] = [None, ""]
    frame.loc[[6, 7, 8], "seconds"] = np.nan
    frame = pd.concat([frame, frame.iloc[10:14]])
    kept = FRAME.drop(range(3, 9))
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        path = write(tmp_path / name, frame if name != "a.jsonl" else frame.replace({np.nan: None}))
        data = datasets.load("table", path, **OPTIONS)
        counted = {key: data.notes[key] for key in data.notes if key.startswith(("rows_", "rep"))}
        assert counted == {"rows_read": N + 4, "rows_without_user": 1, "rows_without_item": 2,
                           "rows_without_time": 3, "repeated_rows": 4}  # fmt: skip
        assert len(data.items) == len(kept)
        again = datasets.load("table", path, **OPTIONS, duplicates="keep")
        assert len(again.items) == len(kept) + 4


def test_sessions_of_two_users_with_one_name_are_two(tmp_path):
    path = write(tmp_path / "a.parquet", FRAME)
    data = datasets.load("table", path, **OPTIONS, session="visit")
    check_laws(data)
    expected = FRAME.groupby(["user_id", "visit"]).ngroups
    assert data.num_sessions == expected
    found = sorted(map(len, np.split(data.items, data.offsets[1:-1])))
    assert found == sorted(FRAME.groupby(["user_id", "visit"]).size())


def test_labels_and_text_of_items(tmp_path):
    path = write(tmp_path / "a.csv", FRAME.assign(title="about " + FRAME["sku"]))
    data = datasets.load("table", path, **OPTIONS, labels=["kind"], text="title")
    names = [data.labels["kind"].names[code] for code in data.labels["kind"].codes]
    assert names == [f"k{int(key[1:]) % 4}" for key in data.item_keys]
    assert data.text.tolist() == [f"about {key}" for key in data.item_keys]
    assert data.notes["items_with_several_kind"] == 0
    odd = FRAME.assign(kind=np.where(np.arange(N) == N - 1, "other", FRAME["kind"]))
    data = datasets.load("table", write(tmp_path / "b.csv", odd), **OPTIONS, labels=["kind"])
    assert data.notes["items_with_several_kind"] == 1


def test_orders_and_folders(tmp_path):
    frame = FRAME.drop(columns="seconds").rename(columns={"sku": "item_id"})
    (tmp_path / "parts").mkdir()
    for i in range(3):
        write(tmp_path / "parts" / f"part-{i}.csv", frame.iloc[150 * i : 150 * i + 150])
    with pytest.raises(ValueError, match=r"no column of times; found .*order='stored'"):
        datasets.load("table", tmp_path / "parts", min_count=1)
    data = datasets.load("table", tmp_path / "parts", min_count=1, order="stored")
    expected = {str(user): own["item_id"].tolist() for user, own in frame.groupby("user_id")}
    assert histories(data) == expected
    assert data.times is None
    random = datasets.load("table", tmp_path / "parts", min_count=1, order="random")
    assert histories(random) != expected


@pytest.mark.parametrize(
    ("frame", "options", "match"),
    [
        (FRAME, {}, r"table: nothing left.*min_count=1000"),
        (FRAME.rename(columns={"user_id": "who"}), {}, "which column holds the users.*user="),
        (FRAME, {"user": "who"}, "no column 'who'; found"),
        (FRAME.assign(seconds="03/04/2020"), {}, "row 0: found '03/04/2020'; expected a time"),
        (FRAME.assign(seconds=np.inf), {}, "row 0: found inf, no time in"),
        (FRAME, {"time_unit": "h"}, "time_unit must be auto, s, ms, us, ns; got 'h'"),
        (FRAME, {"duplicates": "no"}, "duplicates must be one of drop, keep"),
        (FRAME, {"order": "up"}, "order must be one of time, stored, random"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path, frame, options, match):
    path = write(tmp_path / "a.csv", frame)
    with pytest.raises(ValueError, match=match):
        datasets.load("table", path, **{**OPTIONS, "min_count": 1000, **options})


def test_damaged_json_lines_name_their_line(tmp_path):
    path = write(tmp_path / "a.jsonl", FRAME.head(5))
    lines = path.read_text().splitlines()
    for bad, match in (('{"user_id": 1', "line 3: found"), ("[1]", "line 3: .* a JSON object")):
        path.write_text("\n".join([*lines[:2], bad]))
        with pytest.raises(ValueError, match=match):
            datasets.load("table", path, **OPTIONS)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (START, "auto", START * 1000), (START * 1000, "auto", START * 1000), (17.25, "s", 17250),
        (2**62, "ns", 2**62 // 10**6), (-5, "s", -5000), (1, "ms", 1), (0, "auto", 0),
    ],
)  # fmt: skip
def test_units_of_numbers(value, unit, expected):
    found, missing = milliseconds("x", np.array([value]), np.zeros(1, bool), unit=unit)
    assert found.tolist() == [expected]
    assert not missing.any()
