"""``kernlens embed``: from a log of events to a file that the verbs read."""

import json

import numpy as np
import pandas as pd
import pytest

from kernlens import datasets, io
from kernlens.cli.command import main
from kernlens.train import pretrain
from kernlens.train.cooccurrence import ppmi_svd

RNG = np.random.default_rng(1)
ITEMS, USERS, EACH = 60, 80, 12
TASTE = np.arange(USERS) % 3


@pytest.fixture
def events(tmp_path, monkeypatch):
    """Users who meet items of one of three kinds, out of order, in events.csv; and labels.csv."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    own = [RNG.choice(np.arange(taste, ITEMS, 3), EACH, replace=False) for taste in TASTE]
    frame = pd.DataFrame(
        {
            "customer": np.repeat([f"u{i}" for i in range(USERS)], EACH),
            "sku": [f"p{i}" for i in np.concatenate(own)],
            "at": pd.Timestamp("2024-05-01") + pd.to_timedelta(np.arange(USERS * EACH), unit="h"),
        }
    )
    frame = pd.concat([frame, frame.iloc[:3]]).sample(frac=1, random_state=0)
    frame.to_csv("events.csv", index=False)
    rows = "".join(f"p{i},kind {i % 3}\n" for i in range(ITEMS))
    (tmp_path / "labels.csv").write_text("sku,kind\n" + rows)
    return tmp_path


def run(capsys, *argv):
    code = main([str(word) for word in argv])
    return code, *capsys.readouterr()


NAMED = ("--user", "customer", "--item", "sku", "--time", "at", "--dim", "8", "--min-count", "1")


@pytest.mark.parametrize("method", ["ppmi", "item2vec"])
def test_what_is_written_is_what_the_library_learns(events, capsys, method):
    given = ("embed", "events.csv", *NAMED, "--method", method, "--out", "items.parquet")
    code, out, err = run(capsys, *given, "--epochs", "2")
    assert (code, err) == (0, "")
    assert f"{USERS * EACH:,} events of {USERS} users in {USERS} sessions; {ITEMS} items" in out
    assert f"{USERS * EACH + 3:,} rows read; 3 repeated rows" in out
    data = datasets.load("table", "events.csv", user="customer", item="sku", time="at", min_count=1)
    if method == "ppmi":
        expected = ppmi_svd(data, dim=8).embeddings
    else:
        expected = pretrain.contrastive(data, dim=8, epochs=2, seeds=[0]).embeddings[0]
    found = io.open_embeddings("items.parquet")
    assert found.ids.tolist() == data.item_keys.tolist()
    np.testing.assert_allclose(found.read().values, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.thorough
def test_the_verbs_read_it(events, capsys):
    assert run(capsys, "embed", "events.csv", *NAMED)[0] == 0
    code, out, _ = run(capsys, "predict", "embedding.parquet", "--labels", "labels.csv",
                       "--json", "a.json")  # fmt: skip
    assert code == 0
    assert "id id · 8 dimensions in vector · label kind (id sku)" in out
    found = json.loads((events / "a.json").read_text())
    assert found["metrics"]["macro_f1"]["value"] > 0.95  # users meet one kind alone


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "which column holds the users? found ['customer', 'sku', 'at']; name it with user="),
        (("--user", "customer"), None),
        (("--user", "who"), "no column 'who'"),
        ((*NAMED, "--out", "a.csv"), "--out must end in .parquet"),
        ((*NAMED, "--out", "absent/a.parquet"), "absent: no such folder"),
        ((*NAMED, "--order", "random", "--method", "item2vec"), "expected --method ppmi"),
        ((*NAMED[:-4], "--dim", "200"), "dim must be in 1..58"),
        (("--user", "customer", "--dim", "0"), "--dim must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_used_is_one_line(events, capsys, argv, message):
    code, _, err = run(capsys, "embed", "events.csv", *argv)
    if message is None:
        assert code == 1
        message = "no column of times"
    assert message in err
    assert err.count("\n") == 1 or code == 2
