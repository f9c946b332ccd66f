"""The command: numbers, several labels and next items, which the verbs answer in the same way."""

import json

import numpy as np
import pandas as pd
import pytest

import kernlens as kl
from kernlens import targets
from tests.cases import gaussian_classes
from tests.test_cli import files, run
from tests.test_next_items_verb import IDS, NOISE, RING, favourites_log, ring_log

__all__ = ["files"]

X = gaussian_classes(0, n=150, separation=0.8).x
AMOUNTS = np.round(X[:, 0] + 0.1 * np.random.default_rng(3).standard_normal(150), 3)
TAGS = ["|".join(name for name, on in zip("abc", row > 0, strict=True) if on) for row in X[:, :3]]


def label_file(path, values):
    path.write_text("id,label\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)))
    return path.name


def intervals(metrics):
    keep = ("value", "low", "high", "null")
    return {name: {key: own.get(key) for key in keep} for name, own in metrics.items()}


def expected(metrics):
    return {
        name: pytest.approx(dict(zip(("value", "low", "high", "null"), (*own[:3], own.null),
                                     strict=True)), rel=1e-6)
        for name, own in metrics.items()
    }  # fmt: skip


def test_fractions_are_regression(files, capsys):
    np.save("noise.npy", np.random.default_rng(5).standard_normal((150, 4)))
    labels = label_file(files / "price.csv", ["", *AMOUNTS[1:]])
    given = ("compare", "noise.npy", "good.npy", "--labels", labels, "--json", "c.json")
    code, out, err = run(capsys, *given)
    assert (code, err) == (0, "")
    found = json.loads((files / "c.json").read_text())
    reference = kl.predict(X, np.array([np.nan, *AMOUNTS[1:]]))
    best = found["entries"][0]
    assert best["name"] == "good"
    assert intervals(best["metrics"]) == expected(reference.metrics)
    assert "R²" in out
    assert "150 rows joined by row number, 1 of them without a label; numbers from" in out
    spread = np.std(AMOUNTS[1:])
    assert f"always answering the mean: R² 0, RMSE {spread:.3g}" in out
    assert found["baseline"]["rmse"] == pytest.approx(spread)
    code, out, err = run(capsys, *given, "--metric", "rmse", "--decoder", "mlp:8")
    assert (code, err) == (0, "")
    assert "ordered by RMSE" in out


def test_whole_numbers_and_joined_labels_wait_for_a_word(files, capsys):
    stars = label_file(files / "views.csv", np.round(100 * AMOUNTS).astype(int))
    code, out, err = run(capsys, "predict", "good.npy", "--labels", stars)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "views.csv, column 'label': whole numbers" in err
    assert "(--target classes) if each is a class" in err
    assert "(--target numbers) if they are amounts" in err
    code, out, _ = run(capsys, "predict", "good.npy", "--labels", stars, "--target", "numbers")
    assert code == 0
    assert "R²" in out
    tags = label_file(files / "genres.csv", TAGS)
    code, _, err = run(capsys, "predict", "good.npy", "--labels", tags)
    assert code == 1
    assert "(--separator '|') if it stands between labels" in err
    code, _, err = run(capsys, "predict", "good.npy", "--labels", tags, "--target", "labels")
    assert code == 1
    assert "(--separator '|')" in err
    code, out, _ = run(capsys, "predict", "good.npy", "--labels", tags, "--target", "classes")
    assert code == 0
    assert f"; {len(set(TAGS) - {''})} classes" in out


def test_several_labels_by_their_separator(files, capsys):
    tags = label_file(files / "genres.csv", TAGS)
    given = ("predict", "good.npy", "--labels", tags, "--separator", "|", "--json", "p.json")
    code, out, err = run(capsys, *given)
    assert code == 0
    assert err.count("\n") == 1
    assert f"genres.csv: {TAGS.count('')} empty cells: an empty cell is no label; " in err
    reference = kl.predict(X, targets.multi_labels(TAGS, separator="|"))
    found = json.loads((files / "p.json").read_text())
    assert intervals(found["metrics"]) == expected(reference.metrics)
    assert found["labels_of_rows"] == {name: sum(name in tag for tag in TAGS) for name in "abc"}
    assert "; 3 labels, " in out
    assert "average precision" in out


@pytest.mark.thorough
def test_next_items_are_what_the_verbs_say(files, capsys):
    """Embeddings with ids, of which one lacks items; unknown items in the log."""
    log = ring_log().assign(
        time=lambda rows: pd.Timestamp("2024-01-01") + pd.to_timedelta(rows["time"], "D")
    )
    extra = pd.DataFrame({"user": ["u0"], "item": ["gone"], "time": [log["time"].max()]})
    log = pd.concat([log, extra], ignore_index=True).rename(columns={"user": "who", "item": "sku"})
    log.to_csv("events.csv", index=False)
    log.to_parquet("events.parquet")
    for name, x, rows in (("noise", NOISE, range(40)), ("ring", RING, range(3, 40))):
        table = {"id": [IDS[i] for i in rows], "vector": list(x[list(rows)])}
        pd.DataFrame(table).to_parquet(f"{name}.parquet")
    ask = targets.next_items(log["who"], log["sku"], log["time"], ids=IDS)
    cold = RING.copy()
    cold[:3] = np.nan
    reference = kl.compare({"noise": NOISE, "ring": cold}, ask)
    for events in ("events.csv", "events.parquet"):
        given = ("compare", "noise.parquet", "ring.parquet", "--interactions", events, "--user",
                 "who", "--item", "sku", "--json", "c.json")  # fmt: skip
        code, out, err = run(capsys, *given)
        assert (code, err) == (0, "")
        found = json.loads((files / "c.json").read_text())
        assert [entry["name"] for entry in found["entries"]] == ["ring", "noise"]
        assert found["conclusion"] == reference.sentence()
        for entry, own in zip(found["entries"], reference.entries, strict=True):
            assert intervals(entry["metrics"]) == expected(own.ranks.metrics)
            assert entry["difference_to_baseline"]["low"] == pytest.approx(own.to_baseline.low)
        assert list(found["baselines"]) == list(reference.baselines)
        words = " ".join(out.split())
        assert "ring: 3 items without a finite row" in words
        assert "1 events of unknown items" in words
        for name in reference.baselines:
            assert name in words
    columns = ("--user", "who", "--item", "sku", "--k", "5")
    code, out, err = run(
        capsys, "predict", "ring.parquet", "--interactions", "events.csv", *columns
    )
    assert (code, err) == (0, "")
    assert "NDCG@5" in out
    assert "popularity" in out


def test_columns_of_a_log_are_found_by_their_names(files, capsys):
    """Ids with zeros in front stay as they are; a log may be JSON lines."""
    log = favourites_log()
    items = [f"{item:03}" for item in log["item"]]
    log = log.assign(item=items).set_axis(["User_ID", "sku", "timestamp"], axis=1)
    log.to_csv("log.csv", index=False)
    log.to_json("log.jsonl", orient="records", lines=True)
    ids = [f"{i:03}" for i in range(40)]
    pd.DataFrame({"id": ids, "vector": list(RING)}).to_parquet("ring.parquet")
    ask = targets.next_items(log["User_ID"], log["sku"], log["timestamp"], ids=ids)
    reference = kl.predict(RING, ask)
    for events in ("log.csv", "log.jsonl"):
        given = ("predict", "ring.parquet", "--interactions", events, "--json", "p.json")
        code, out, err = run(capsys, *given)
        assert (code, err) == (0, "")
        found = json.loads((files / "p.json").read_text())
        assert intervals(found["metrics"]) == expected(reference.metrics)
        told = "id id · 8 dimensions in vector · user User_ID, item sku, time timestamp"
        assert found["taken"] == told
        assert told in " ".join(out.split())


@pytest.mark.thorough
def test_a_cutoff_learns_from_what_was_before_it(files, capsys):
    log = favourites_log()
    log.to_csv("log.csv", index=False)
    np.save("ring.npy", RING)
    ask = targets.next_items(log["user"], log["item"], log["time"], ids=range(40), cutoff=5)
    assert np.array_equal(ask.known_rows, log["time"] < 5)
    last = log.loc[log.groupby("user")["time"].idxmax()].sort_values("user")
    np.testing.assert_array_equal(ask.split.test.target, last["item"])
    assert len(ask.split.train.target) == 100 * 4
    reference = kl.predict(RING, ask)
    given = (
        "predict",
        "ring.npy",
        "--interactions",
        "log.csv",
        "--cutoff",
        "5",
        "--json",
        "p.json",
    )
    code, out, err = run(capsys, *given)
    assert (code, err) == (0, "")
    found = json.loads((files / "p.json").read_text())
    assert intervals(found["metrics"]) == expected(reference.metrics)
    assert (found["cutoff"], found["k"]) == ("5", 10)
    assert "users" in out


def test_a_cutoff_is_a_moment_in_any_form_of_the_times():
    log = favourites_log()
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(log["time"], "D")
    expected = targets.next_items(log["user"], log["item"], log["time"], cutoff=5)
    for times, cutoff in (
        (days, "2024-01-06"),
        (days, pd.Timestamp("2024-01-06")),
        (days.dt.strftime("%Y-%m-%d"), "2024-01-06T00:00:00+00:00"),
        (days.dt.tz_localize("UTC"), "2024-01-06T01:00+01:00"),
        (log["time"] / 7, 5 / 7),
    ):
        found = targets.next_items(log["user"], log["item"], times, cutoff=cutoff)
        np.testing.assert_array_equal(found.known_rows, expected.known_rows)
        np.testing.assert_array_equal(found.split.test.target, expected.split.test.target)
    for times, cutoff, message in (
        (days, "soon", "a date or time in ISO 8601, as times are; got 'soon'"),
        (log["time"], "2024-01-06", "cutoff must be a number"),
        (log["time"], 99, "two with a next item whose last event is at the cutoff or later; got 0"),
        (log["time"], 1, "before the cutoff, no user has a history"),
    ):
        with pytest.raises(ValueError, match=message):
            targets.next_items(log["user"], log["item"], times, cutoff=cutoff)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ((), 2, "--labels FILE, or --interactions FILE"),
        (("--labels", "labels.csv", "--user", "who"), 2, "--user needs --interactions"),
        (("--labels", "labels.csv", "--cutoff", "5"), 2, "--cutoff needs --interactions"),
        (("--labels", "labels.csv", "--interactions", "e.csv"), 2, "--labels does not go with"),
        (("--interactions", "e.csv", "--target", "numbers"), 2, "--target does not go with"),
        (("--labels", "labels.csv", "--target", "numbers", "--separator", ","), 2, "splits labels"),
        (("--interactions", "gone.csv"), 1, "gone.csv: no such file"),
        (("--interactions", "e.csv", "--item", "sku"), 1, "no column 'sku'; found"),
        (("--interactions", "e.csv", "--item", "user"), 1, "must be three columns"),
        (("--interactions", "e.csv", "--time", "note"), 1, "ISO 8601"),
        (("--interactions", "e.csv", "--metric", "accuracy"), 1, "'ndcg@10', 'recall@10'"),
        (("--interactions", "half.csv"), 1, "half.csv, row 1: no value in column 'item'"),
        (("--interactions", "half.parquet"), 1, "row 1: no value in column 'item'"),
        (("--interactions", "e.csv", "--probe", "ridge"), 1, "expected probe=None"),
    ],
)
def test_what_does_not_fit_is_said(files, capsys, argv, code, message):
    favourites_log().assign(note="x").to_csv("e.csv", index=False)
    np.save("ring.npy", RING)
    half = pd.DataFrame({"user": ["a", "b"], "item": ["1", None], "time": [1, 2]})
    half.to_csv("half.csv", index=False)
    half.to_parquet("half.parquet")
    found, out, err = run(capsys, "predict", "ring.npy", *argv)
    assert (found, out) == (code, "")
    assert message in " ".join(err.split())
