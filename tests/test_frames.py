"""Results as frames and as flat numbers, of every verb."""

import numpy as np
import pytest

import kernlens as kl
from kernlens import decoders


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    codes = np.arange(240) % 3
    x = rng.normal(size=(3, 6))[codes] + rng.normal(size=(240, 6))
    return x, x + 0.3 * rng.normal(size=x.shape), np.asarray(["tea", "milk", "salt"])[codes]


def check(result, key, interval):
    """A frame with a row for each line, and the same numbers under flat names."""
    frame, flat = result.to_frame(), result.to_dict()
    assert len(frame) == len(result.table().rows)
    assert frame[key].tolist()[0] == pytest.approx(interval.value)
    assert frame[f"{key}_low"].tolist()[0] == pytest.approx(interval.low)
    assert interval.value in flat.values()
    assert all(type(value) is float for value in flat.values())
    return frame, flat


def test_a_prediction(rows):
    x, _, kind = rows
    found = kl.predict(x, kind)
    own = found.metrics["macro_f1"]
    _, flat = check(found, "value", own)
    assert flat["macro_f1"] == own.value
    assert flat["macro_f1_high"] == own.high
    assert flat["macro_f1_null"] == own.null
    assert flat["macro_f1_sample_low"] == found.samples["macro_f1"].low


def test_a_comparison(rows):
    x, other, kind = rows
    heads = {"linear": decoders.Linear(), "means": decoders.InnerProduct()}
    found = kl.compare({"a": x, "b": other}, kind, decoders=heads)
    frame, flat = check(found, "macro_f1", found.best.prediction.metrics["macro_f1"])
    assert frame["verdict"].tolist()[0] == "best"
    own = found.entries[-1]
    assert flat[f"{own.name}/{own.decoder}/to_best"] == found.to_best(own).value
    # Metrics that the printed table has no room for are there too.
    assert flat[f"{own.name}/{own.decoder}/log_loss" if own.decoder == "linear" else
                f"{own.name}/{own.decoder}/balanced_accuracy"] > 0  # fmt: skip
    assert found.to_frame("polars").shape[0] == 4


@pytest.mark.thorough
def test_an_upgrade_has_the_flips_too(rows):
    x, other, kind = rows
    found = kl.upgrade(x, other, kind)
    frame, flat = check(found, "macro_f1", found.before.metrics["macro_f1"])
    way = found.ways["rotation"]
    assert flat["rotation/negative_flips"] == way.flips.negative_flips.value
    assert frame["way"].tolist()[1:] == list(found.ways)


@pytest.mark.thorough
def test_stability_and_fusion(rows):
    x, other, kind = rows
    found = kl.stability({"a": x, "b": other}, kind)
    check(found, "kappa", found.moves[0].kappa)
    both = kl.fuse({"a": x, "b": other}, kind, decoder=decoders.InnerProduct())
    check(both, "macro_f1", both.alone[0].prediction.metrics["macro_f1"])
