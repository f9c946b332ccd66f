"""The generator: its output has the law that its knobs say."""

import numpy as np
import pytest

from kernlens import datasets
from kernlens.datasets import synthetic
from tests.test_datasets_table import check_laws

SMALL = {"num_items": 200, "num_users": 50, "num_interactions": 100_000, "num_classes": 5}


def neighbours(data):
    """Items and true classes of adjacent interactions of one session."""
    inside = np.ones(len(data.items) - 1, bool)
    inside[data.offsets[1:-1] - 1] = False
    codes = data.labels["class"].codes[data.items]
    return codes[:-1][inside], codes[1:][inside]


def test_laws_and_seeds():
    one, again = datasets.load("synthetic", **SMALL), datasets.load("synthetic", **SMALL)
    other = datasets.load("synthetic", **SMALL, seed=1)
    for data in (one, other):
        check_laws(data)
        assert (data.num_items, data.num_users, len(data.items)) == (200, 50, 100_000)
        assert data.num_sessions == 10_000
    np.testing.assert_array_equal(one.items, again.items)
    np.testing.assert_array_equal(one.labels["class"].codes, again.labels["class"].codes)
    assert np.any(one.items != other.items)
    # A session a day from day 0 of each user, an interaction a minute.
    first = np.flatnonzero(np.diff(one.users, prepend=-1))
    day = np.arange(10_000) - first[one.users]
    expected = 86_400 * day[:, None] + 60 * np.arange(10)
    np.testing.assert_array_equal(one.times.reshape(10_000, 10), expected)


@pytest.mark.parametrize(
    ("given", "items", "users", "classes"),
    [
        ({"num_items": 400, "num_interactions": 8_000}, 400, 800, 10),
        ({"num_interactions": 8_000}, 8_000, 800, 10),
        ({"num_items": 6, "num_interactions": 60, "session_length": 5}, 6, 12, 6),
        ({"num_interactions": 900, "num_classes": 30, "num_users": 4}, 900, 4, 30),
    ],
)
def test_defaults_follow_what_was_given(given, items, users, classes):
    data = datasets.load("synthetic", **given)
    assert (data.num_items, data.num_users) == (items, users)
    assert len(data.items) == given["num_interactions"]
    assert len(data.labels["class"].names) == classes


def test_every_item_occurs_even_where_draws_are_few():
    data = datasets.load(
        "synthetic", num_items=500, num_users=3, num_interactions=500, popularity_skew=2.0
    )
    check_laws(data)
    assert data.counts.tolist() == [1] * 500
    assert sorted(data.item_keys.tolist()) == list(range(500))


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_popularity_follows_the_zipf_law_whatever_the_dependence(skew):
    data = datasets.load(
        "synthetic", **SMALL, popularity_skew=skew, noise=0.0, sequence_dependence=0.5
    )
    law = np.arange(1, 201.0) ** -skew
    expected = law / law.sum()
    # Sorted frequencies of 100,000 draws, dependent in runs of two on average: the error of a
    # frequency p is about sqrt(2 p / 100,000); the largest p is 0.17, so 0.002; five of those.
    np.testing.assert_allclose(data.counts / 100_000, expected, atol=0.01)


@pytest.mark.parametrize("dependence", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_neighbours_share_a_class_as_often_as_the_knobs_say(dependence, noise):
    options = SMALL | {"popularity_skew": 0.0, "sequence_dependence": dependence, "noise": noise}
    left, right = neighbours(datasets.load("synthetic", **options))
    # Uniform items, equal classes: by chance 1/5; both untouched by noise, the chain's own.
    chain = dependence + (1 - dependence) / 5
    expected = (1 - noise) ** 2 * chain + (1 - (1 - noise) ** 2) / 5
    np.testing.assert_allclose(np.mean(left == right), expected, atol=0.01)  # 90,000 pairs


def test_a_session_starts_by_popularity_whatever_the_one_before():
    # Were a session to begin in the class that the last one ended in, all would share one class.
    options = SMALL | {"popularity_skew": 0.0, "sequence_dependence": 1.0, "noise": 0.0}
    data = datasets.load("synthetic", **options)
    codes = data.labels["class"].codes[data.items].reshape(10_000, 10)
    assert np.ptp(codes, axis=1).max() == 0  # a session stays in its class
    # Uniform items, five equal classes, 10,000 sessions: four standard errors of a share.
    atol = 4 * np.sqrt(0.2 * 0.8 / 10_000)
    np.testing.assert_allclose(np.bincount(codes[:, 0]) / 10_000, 0.2, atol=atol)
    in_order = np.argsort(data.times[::10], kind="stable")
    for sessions in (np.arange(10_000), in_order):  # a user's sessions, and all of them by time
        starts = codes[sessions, 0]
        np.testing.assert_allclose(np.mean(starts[1:] == starts[:-1]), 0.2, atol=atol)


def test_class_sizes_follow_the_imbalance():
    even = datasets.load("synthetic", **SMALL)
    assert np.bincount(even.labels["class"].codes).tolist() == [40] * 5
    skewed = datasets.load("synthetic", **SMALL, imbalance=2.0)
    sizes = np.bincount(skewed.labels["class"].codes)
    share = np.arange(1, 6.0) ** -2 / np.sum(np.arange(1, 6.0) ** -2)
    np.testing.assert_allclose(sizes, 1 + 195 * share, atol=1)
    extreme = datasets.load("synthetic", **SMALL, imbalance=50.0)
    assert np.bincount(extreme.labels["class"].codes).min() == 1


def test_true_embeddings_have_the_geometry_that_the_knobs_say():
    data = datasets.load("synthetic", **SMALL)
    codes = data.labels["class"].codes
    tight = synthetic.embeddings(data, within_class_spread=0.0)
    assert tight.shape == (200, 32)
    assert tight.dtype == np.float32
    assert len(np.unique(tight, axis=0)) == 5
    for c in range(5):
        assert np.ptp(tight[codes == c], axis=0).max() == 0
    spread = synthetic.embeddings(data, within_class_spread=2.0)
    # Mean of 200 * 32 squared normals of mean 1: standard error 0.018, times 4.
    np.testing.assert_allclose(np.mean(np.sum((spread - tight) ** 2, 1)), 4.0, atol=0.4)
    skewed = synthetic.embeddings(data, within_class_spread=0.0, anisotropy=10.0)
    shift = (skewed - tight).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(shift, axis=1), 10.0, rtol=1e-5)  # float32 rounding
    np.testing.assert_allclose(np.ptp(shift, axis=0), 0.0, atol=1e-5)
    cosine = skewed @ skewed.T / np.linalg.norm(skewed, axis=1) ** 2
    assert cosine.min() > 0.8


def test_embeddings_belong_to_items_not_to_ids():
    one = datasets.load("synthetic", **SMALL)
    thinned = datasets.load("synthetic", **SMALL, min_count=300)
    assert thinned.num_items < one.num_items
    by_key = dict(zip(one.item_keys.tolist(), synthetic.embeddings(one), strict=True))
    kept = np.array([by_key[key] for key in thinned.item_keys.tolist()])
    np.testing.assert_array_equal(synthetic.embeddings(thinned), kept)
    assert np.any(synthetic.embeddings(one, seed=1) != synthetic.embeddings(one))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_items": 3}, r"num_items must be an integer in \[5, inf\]; got 3"),
        ({"num_interactions": 100}, r"num_interactions must be an integer in \[200"),
        ({"num_users": 20_000}, r"num_users must be an integer in \[1, 10000\]; got 20000"),
        ({"num_classes": 2.0}, r"num_classes must be an integer"),
        ({"noise": 1.5}, r"noise must lie in \[0, 1\]; got 1.5"),
        ({"sequence_dependence": float("nan")}, r"sequence_dependence must lie in .* got nan"),
        ({"popularity_skew": -1}, r"popularity_skew must lie in \[0, inf\]; got -1"),
        ({"imbalance": float("inf")}, r"imbalance must lie in"),
        ({"anisotropy": -1.0}, r"anisotropy must lie in"),
        ({"within_class_spread": -1.0}, r"within_class_spread must lie in"),
        ({"dim": 0}, r"dim must be an integer in"),
        ({"session_length": 0}, r"session_length must be an integer in"),
    ],
)  # fmt: skip
def test_knobs_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=f"synthetic: {message}"):
        datasets.load("synthetic", **(SMALL | change))
