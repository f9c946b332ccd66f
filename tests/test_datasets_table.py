"""Assembly: the laws of `Interactions`, against a plain Python reference."""

from collections import Counter

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest

from kernlens.datasets import histories, table
from kernlens.types import Interactions


def check_laws(data: Interactions) -> None:
    """What every loader promises."""
    counts = data.counts
    assert data.items.dtype == np.int32
    assert data.offsets.dtype == np.int64
    assert data.users.dtype == np.int32
    assert data.offsets[0] == 0
    assert data.offsets[-1] == len(data.items)
    assert np.all(np.diff(data.offsets) > 0)
    assert len(data.users) == data.num_sessions
    np.testing.assert_array_equal(np.unique(data.users), np.arange(data.num_users))
    assert np.all(np.diff(data.users) >= 0)
    assert len(counts) == data.num_items
    assert np.all(counts > 0)
    assert np.all(np.diff(counts) <= 0)
    tied = np.diff(counts) == 0
    assert np.all(data.item_keys[1:][tied] > data.item_keys[:-1][tied])
    assert np.all(data.user_keys[1:] > data.user_keys[:-1])
    for labels, rows in (
        *((labels, data.num_items) for labels in data.labels.values()),
        *((labels, data.num_users) for labels in data.user_labels.values()),
    ):
        assert labels.codes.dtype == np.int32
        assert labels.codes.shape == (rows,)
        assert labels.codes.min() >= -1
        assert labels.codes.max() < len(labels.names)
    if data.text is not None:
        assert data.text.shape == (data.num_items,)
        assert data.text.dtype.kind == "U"
    for values in data.session_attributes.values():
        assert len(values) == data.num_sessions
    if data.times is not None:
        assert data.times.dtype == np.int64
        start = np.minimum.reduceat(data.times, data.offsets[:-1])
        same = np.diff(data.users) == 0
        assert np.all(np.diff(start)[same] >= 0)
    assert all(type(value) is int and value >= 0 for value in data.notes.values())


def session_sets(data: Interactions) -> list[tuple]:
    """User and sorted items of each session, by the source's own keys."""
    return [
        (
            data.user_keys[data.users[s]],
            tuple(sorted(data.item_keys[data.items[data.offsets[s] : data.offsets[s + 1]]])),
        )
        for s in range(data.num_sessions)
    ]


@st.composite
def events(draw):
    """Rows of user, session, time and item; a session belongs to one user."""
    rows = draw(
        st.lists(st.tuples(st.integers(-3, 20), st.integers(-5, 5), st.integers(-9, 9)), min_size=1)
    )
    session, time, item = (np.array(column) for column in zip(*rows, strict=True))
    return session % 4, session, time, item


@pytest.mark.thorough
@hypothesis.given(
    events(),
    st.sampled_from(("time", "random")),
    st.sampled_from(table.TIES),
    st.integers(1, 3),
    st.booleans(),
)
@hypothesis.settings(max_examples=150, deadline=None)
def test_assembly_keeps_the_laws_and_every_kept_row(rows, order, ties, min_count, as_text):
    user, session, time, item = rows
    keys = np.array([f"k{value:+03d}" for value in item]) if as_text else item
    frequency = Counter(keys.tolist())
    kept = [i for i, key in enumerate(keys.tolist()) if frequency[key] >= min_count]
    arguments = {
        "users": user, "items": keys, "sessions": session, "times": time, "order": order,
        "ties": ties, "min_count": min_count, "seed": 3,
    }  # fmt: skip
    if not kept:
        with pytest.raises(ValueError, match=f"source: nothing left.*min_count={min_count}"):
            table.assemble("source", **arguments)
        return
    data, source_rows = table.assemble("source", **arguments)
    check_laws(data)
    np.testing.assert_array_equal(np.sort(source_rows), kept)
    np.testing.assert_array_equal(data.item_keys[data.items], keys[source_rows])
    np.testing.assert_array_equal(data.times, time[source_rows])
    lengths = np.diff(data.offsets)
    np.testing.assert_array_equal(data.user_keys[np.repeat(data.users, lengths)], user[source_rows])
    assert len({*session[kept].tolist()}) == data.num_sessions
    for s in range(data.num_sessions):
        inside = source_rows[data.offsets[s] : data.offsets[s + 1]]
        assert len({*session[inside].tolist()}) == 1
        if order == "time":
            expected = sorted(inside, key=lambda row: (time[row], row))
            assert [time[row] for row in inside] == [time[row] for row in expected]
            if ties == "stored":
                assert inside.tolist() == expected


def test_ids_are_popularity_ranks_with_ties_by_rising_key():
    data, _ = table.assemble(
        "source", users=[1] * 6, items=["b", "c", "a", "c", "d", "d"], order="random"
    )
    assert data.item_keys.tolist() == ["c", "d", "a", "b"]


def test_shuffle_is_seeded_and_unbiased_by_the_stored_order():
    items = np.tile(np.arange(50), 200)
    sessions = np.repeat(np.arange(200), 50)
    arguments = {
        "users": np.zeros(10_000, int), "items": items, "sessions": sessions, "order": "random",
    }  # fmt: skip
    one, _ = table.assemble("source", **arguments, seed=1)
    again, _ = table.assemble("source", **arguments, seed=1)
    other, _ = table.assemble("source", **arguments, seed=2)
    np.testing.assert_array_equal(one.items, again.items)
    assert session_sets(one) == session_sets(other)
    assert np.mean(one.items == other.items) < 0.1  # 1/50 by chance
    rising = np.mean(np.diff(one.items.reshape(200, 50), axis=1) > 0)
    # 9,800 nearly independent comparisons: 0.5 with a standard error of 0.005 at most.
    np.testing.assert_allclose(rising, 0.5, atol=0.03)


@pytest.mark.parametrize("order", ["time", "position"])
def test_ties_are_shuffled_by_seed_or_stay_as_stored(order):
    same = np.zeros(100, np.int64)
    arguments = {
        "users": same, "items": np.arange(100), "times": same, "positions": same, "order": order,
    }  # fmt: skip
    stored, rows = table.assemble("source", **arguments, ties="stored", seed=1)
    assert rows.tolist() == list(range(100))
    assert stored.item_keys[stored.items].tolist() == list(range(100))
    drawn = [table.assemble("source", **arguments, seed=seed)[1] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    for one, other in ((drawn[0], drawn[2]), (drawn[0], rows)):
        assert np.mean(one == other) < 0.1  # one in a hundred by chance


def test_keys_that_never_occur_count_as_no_item():
    items = table.Coded(np.array([0, 0, 2]), np.array([5, 6, 7]))
    data, _ = table.assemble("source", users=[0, 0, 0], items=items, order="random", min_count=2)
    assert data.item_keys.tolist() == [5]
    assert data.notes["items_under_min_count"] == 1
    assert data.notes["interactions_of_items_under_min_count"] == 1


@pytest.mark.parametrize("order", table.ORDERS)
@pytest.mark.parametrize("ties", table.TIES)
def test_only_a_stored_order_of_ties_is_said_to_be_observed(order, ties):
    data, _ = table.assemble(
        "source",
        users=[0, 0, 0],
        items=[7, 5, 9],
        times=np.array([4, 4, 4]),
        positions=np.array([2, 3, 1]),
        order=order,
        ties=ties,
    )
    observed = {("time", "stored"), ("position", "stored")}
    assert data.ordered == ((order, ties) in observed)


def test_observed_position_orders_a_session():
    data, _ = table.assemble(
        "source",
        users=[0, 0, 0],
        items=[7, 5, 9],
        times=np.array([4, 4, 4]),
        positions=np.array([2, 3, 1]),
        order="position",
    )
    assert data.item_keys[data.items].tolist() == [9, 7, 5]


def test_wide_times_take_the_general_sort():
    time = np.array([2**61, -(2**61), 0])
    data, _ = table.assemble("source", users=[0, 0, 0], items=[1, 2, 3], times=time)
    assert data.times.tolist() == [-(2**61), 0, 2**61]


def test_histories_join_the_sessions_of_a_user():
    data, _ = table.assemble(
        "source",
        users=[5, 5, 2, 5],
        items=[1, 2, 1, 3],
        sessions=[10, 11, 12, 10],
        times=np.array([30, 10, 5, 31]),
    )
    data = data._replace(session_attributes={"week": np.arange(3)})
    joined = histories(data)
    check_laws(joined)
    assert joined.num_sessions == joined.num_users == 2
    assert joined.offsets.tolist() == [0, 1, 4]
    assert joined.session_attributes == {}
    assert joined.items is data.items
    assert joined.times.tolist() == [5, 10, 30, 31]


@pytest.mark.parametrize(
    "values",
    [
        np.array([3, -1, 3, 2]),
        np.array([10**15, 1, 10**15]),
        np.array([120, -120, 7], np.int8),
        np.array(["b", "", "a", "b"]),
        pa.chunked_array([["b", "ä"], ["a", "b"]]),
        pa.chunked_array([[4, 2], [4]]),
    ],
)
def test_codes_name_sorted_distinct_values(values):
    codes, keys = table.code(values)
    plain = values.to_pylist() if hasattr(values, "to_pylist") else values.tolist()
    assert keys.tolist() == sorted(set(plain))
    assert keys[codes].tolist() == plain


@pytest.mark.parametrize("spread", [1, 10**9])
def test_place_in_finds_rows_and_marks_what_is_absent(spread):
    catalogue = np.array([5, -3, 9]) * spread
    wanted = np.array([9, 4, -3, -4, 100]) * spread
    assert table.place_in(catalogue, wanted).tolist() == [2, -1, 1, -1, -1]
    assert table.place_in(catalogue[:0], wanted).tolist() == [-1] * 5
    assert table.place_in(np.array(["q", "a"]), np.array(["a", "z"])).tolist() == [1, -1]


def test_distinct_keeps_the_first_of_an_item_in_a_session():
    assert table.distinct([1, 1, 2, 1, 2], ["a", "b", "a", "a", "b"]).tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_count": 0}, "min_count must be an integer >= 1; got 0"),
        ({"min_count": 2.0}, "min_count must be an integer >= 1; got 2.0"),
        ({"seed": -1}, "seed must be an integer >= 0; got -1"),
        ({"order": "file"}, "order must be one of time, position, random; got 'file'"),
        ({"ties": "first"}, "ties must be one of shuffle, stored; got 'first'"),
        ({"order": "time"}, "order='time' needs a time column"),
        ({"sessions": [4, 4, 5]}, "session 4 belongs to users 0 and 1|session 4.*1 and 0"),
        ({"min_count": 3}, "none of 2 items occurs min_count=3 times; the most frequent.* 2 times"),
        ({"users": [], "items": []}, "no interactions left"),
    ],
)
def test_mistakes_are_named(change, message):
    arguments = {"users": [0, 1, 1], "items": [1, 1, 2], "order": "random"} | change
    with pytest.raises(ValueError, match=message):
        table.assemble("source", **arguments)
