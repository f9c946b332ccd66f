import itertools

import numpy as np
import pytest

from kernlens.targets import sequences
from kernlens.train import cooccurrence, pretrain
from tests.cases import toy_interactions


def random_interactions(seed=0, *, sessions=40, num_items=12):
    """Sessions of 0 to 7 items with ties in time, several sessions a user, times rising."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 8, sessions)
    lengths[:3] = 0, 1, 2
    users = np.sort(rng.integers(0, 10, sessions)).astype(np.int32)
    made = toy_interactions([[0]])
    total = lengths.sum()
    return made._replace(
        items=rng.integers(0, num_items, total).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        users=users,
        times=np.cumsum(rng.integers(0, 2, total)).astype(np.int64),
        item_keys=np.arange(num_items),
        user_keys=np.arange(10),
        session_attributes={"week": np.arange(sessions)},
    )


def rows_of(data, per_user):
    """Sequences as lists of (item, time), with their user, by a loop."""
    found = {}
    for s, user in enumerate(data.users):
        name = int(user) if per_user else s
        found.setdefault(name, (int(user), []))[1].extend(
            (int(data.items[i]), int(data.times[i]))
            for i in range(data.offsets[s], data.offsets[s + 1])
        )
    return list(found.values())


def listed(histories):
    np.testing.assert_array_equal(histories.lengths, np.sum(histories.items >= 0, axis=1))
    return [
        (tuple(row[row >= 0].tolist()), int(target), int(user))
        for row, target, user in zip(histories.items, histories.target, histories.user, strict=True)
    ]


@pytest.mark.parametrize("per_user", [False, True])
@pytest.mark.parametrize("targets", [None, 1, 2])
def test_leave_last_out_agrees_with_a_loop(per_user, targets):
    data = random_interactions()
    split = sequences.leave_last_out(data, length=3, per_user=per_user, targets=targets, seed=None)
    train, test = [], []
    for user, row in rows_of(data, per_user):
        items = [item for item, _ in row]
        cases = [(tuple(items[max(0, t - 3) : t]), items[t], user) for t in range(1, len(items))]
        test += cases[-1:]
        train += cases[:-1] if targets is None else cases[:-1][-targets:]
    assert listed(split.train) == train
    assert listed(split.test) == test
    held = sum(len(row) > 1 for _, row in rows_of(data, per_user))
    assert len(split.known.items) == len(data.items) - held
    left = [row if len(row) < 2 else row[:-1] for _, row in rows_of(data, per_user)]
    kept = [row for _, row in rows_of(split.known, per_user)]
    assert [row for row in kept if row] == [row for row in left if row]
    sizes = np.array([len(row) for _, row in rows_of(data, per_user)])
    assert split.notes["empty_sequences"] == np.sum(sizes == 0)
    assert split.notes["sequences_of_one_item"] == np.sum(sizes == 1)
    assert split.notes["test_targets_in_history"] == sum(t in h for h, t, _ in test)
    seen = {i for h, t, _ in train for i in (*h, t)}
    assert split.notes["test_targets_unseen_in_training"] == sum(t not in seen for _, t, _ in test)


@pytest.mark.parametrize("per_user", [False, True])
@pytest.mark.parametrize("targets", [None, 1, 2])
def test_split_by_time_agrees_with_a_loop(per_user, targets):
    data = random_interactions(3)
    time = int(np.median(data.times))
    split = sequences.split_by_time(
        data, time, length=3, per_user=per_user, targets=targets, seed=None
    )
    train, test = [], []
    for user, row in rows_of(data, per_user):
        cases = [
            ((tuple(item for item, _ in row[max(0, t - 3) : t]), row[t][0], user), row[t][1])
            for t in range(1, len(row))
        ]
        before = [case for case, at in cases if at < time]
        train += before if targets is None else before[-targets:]
        test += [case for case, at in cases[-1:] if at >= time]
    assert train
    assert test
    assert split.known.times.max() < time
    assert len(split.known.items) == np.sum(data.times < time)
    assert listed(split.train) == train
    assert listed(split.test) == test


def test_histories_stand_to_the_right():
    split = sequences.leave_last_out(toy_interactions([[0, 1, 2, 3, 4]]), length=3, seed=None)
    np.testing.assert_array_equal(split.train.items, [[-1, -1, 0], [-1, 0, 1], [0, 1, 2]])
    np.testing.assert_array_equal(split.train.lengths, split.train.mask.sum(1))
    np.testing.assert_array_equal(split.test.items, [[1, 2, 3]])
    assert split.train.items.dtype == split.train.target.dtype == np.int32


def test_ties_are_shuffled_within_a_session_and_nowhere_else():
    data = random_interactions(1, sessions=300)
    shuffled = sequences.shuffle_ties(data, seed=4)
    assert np.any(shuffled.items != data.items)
    session = np.repeat(np.arange(300), np.diff(data.offsets))
    for place in set(zip(session.tolist(), data.times.tolist(), strict=True)):
        rows = (session == place[0]) & (data.times == place[1])
        assert sorted(shuffled.items[rows]) == sorted(data.items[rows])
    again = sequences.shuffle_ties(data, seed=4)
    np.testing.assert_array_equal(again.items, shuffled.items)
    assert np.any(sequences.shuffle_ties(data, seed=5).items != shuffled.items)


def test_ties_take_every_order_equally_often():
    data = toy_interactions([[0, 1, 2]])._replace(times=np.zeros(3, np.int64))
    orders = [tuple(sequences.shuffle_ties(data, seed=s).items.tolist()) for s in range(1200)]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    # 1,200 draws of probability 1/6: mean 200, standard deviation 12.9; five of them.
    np.testing.assert_allclose(counts, 200, atol=65)


def test_an_order_that_was_observed_is_kept():
    data = random_interactions(1)._replace(ordered=True)
    np.testing.assert_array_equal(sequences.shuffle_ties(data, seed=4).items, data.items)


def test_without_times_no_tie_is_known():
    data = random_interactions()._replace(times=None)
    np.testing.assert_array_equal(sequences.shuffle_ties(data, seed=0).items, data.items)


def test_sort_by_time_undoes_a_disorder():
    data = random_interactions(2)
    rng = np.random.default_rng(0)
    order = np.concatenate(
        [rng.permutation(np.arange(a, b)) for a, b in itertools.pairwise(data.offsets)]
    ).astype(int)
    broken = data._replace(items=data.items[order], times=data.times[order])
    sorted_ = sequences.sort_by_time(broken)
    for per_user in (False, True):
        for _, row in rows_of(sorted_, per_user):
            times = [time for _, time in row]
            assert times == sorted(times)
    kept = sorted_.session_attributes["week"]
    for place, session in enumerate(kept):
        new = slice(*sorted_.offsets[place : place + 2])
        old = slice(*data.offsets[session : session + 2])
        assert sorted(zip(sorted_.items[new], sorted_.times[new], strict=True)) == sorted(
            zip(data.items[old], data.times[old], strict=True)
        )
    np.testing.assert_array_equal(sorted_.users, data.users[kept])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda d: sequences.leave_last_out(d, length=0), "length must be at least 1; got 0"),
        (lambda d: sequences.leave_last_out(d, targets=0), "targets must be None or at least 1"),
        (lambda d: sequences.leave_last_out(d._replace(items=d.items + 9)), r"item ids .* got"),
        (lambda d: sequences.leave_last_out(d._replace(items=d.items - 1)), "got -1 at inter"),
        (lambda d: sequences.split_by_time(d._replace(times=None), 3), "must have times"),
        (lambda d: sequences.sort_by_time(d._replace(times=None)), "must have times"),
        (
            lambda d: sequences.split_by_time(d._replace(times=d.times[::-1]), 3),
            "times must not fall inside a sequence; got",
        ),
        (lambda d: sequences.leave_last_out(toy_interactions([[0], [1]])), "no sequence has two"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call(random_interactions())


READERS = {
    "leave_last_out": sequences.leave_last_out,
    "split_by_time": lambda d: sequences.split_by_time(d, 3),
    "contrastive": lambda d: pretrain.contrastive(d, window=1, negatives=1, dim=2, epochs=1),
    "ppmi_svd": lambda d: cooccurrence.ppmi_svd(d, dim=1),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: {"items": d.items + 9}, r"item ids must be in 0\.\..* at interaction"),
        (lambda d: {"offsets": d.offsets[:-1]}, "offsets must rise from 0 to"),
        (lambda d: {"offsets": d.offsets[::-1]}, "offsets must rise from 0 to"),
        (lambda d: {"users": d.users[:-1]}, "users must have one entry a session"),
        (lambda d: {"times": d.times[:-1]}, "times must have one entry an interaction"),
        (lambda d: {"items": d.items.astype(float)}, "item ids must be integers; got dtype float"),
        (lambda d: {"items": d.items * np.nan}, "item ids must be integers; got dtype float"),
        (lambda d: {"users": d.users - 1}, r"users must be in 0\.\..*; got -1 at session 0"),
        (lambda d: {"users": d.users[::-1]}, "users must not fall, .* at session"),
        (lambda d: {"user_keys": d.user_keys[:1]}, r"users must be in 0\.\.0; got 1 at session"),
        (lambda d: {"times": d.times + np.nan}, "times must be finite; got nan at interaction 0"),
    ],
)
def test_parts_that_do_not_fit_are_named_by_all_who_read(read, change, match):
    data = random_interactions()
    with pytest.raises(ValueError, match=match):
        read(data._replace(**change(data)))
