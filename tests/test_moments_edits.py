"""Answers from stored moments equal those from the rows, in float64."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kernlens import moments, scores
from tests.test_moments import assert_close, problem, reference

# A few sums of hundreds of float64 terms; the mean of 10 spreads costs a digit, a difference two.
TOLERANCE = 1e-10


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def case(seed, *, every=True, **kwargs):
    """Moments with all that can be kept, and what they are of."""
    x, codes, num_classes, t = problem(seed, n=200, mean=10.0, dtype=np.float64, **kwargs)
    if every:
        codes = np.maximum(codes, 0)
    return of(x, codes, num_classes, t), x, codes, num_classes, t


def of(x, codes, num_classes, t, weights=None, *, kept=True):
    return moments.from_arrays(x, codes, num_classes, t, weights, class_scatters=kept, fourths=kept)


def same(got, *rows, without=()):
    """Equal to what the rows give; but for what is not known, which has no entries."""
    expected = reference(*rows)
    for name in without:
        assert getattr(got, name).size == 0
        expected[name] = np.asarray(getattr(got, name))
    if "third" in without:
        got = got._replace(third=np.zeros(1), fourth=np.zeros(()))
        expected["third"], expected["fourth"] = np.zeros(1), np.zeros(())
    assert_close(got, expected, TOLERANCE)


@pytest.mark.thorough
def test_a_subset_of_dimensions():
    m, x, codes, num_classes, t = case(1, every=False)
    dims = np.array([4, 0, 3])
    same(moments.select(m, dims), x[:, dims], codes, num_classes, t)
    # A second cut, and rows that come after it, are as good as the first.
    again = moments.select(moments.select(m, dims), np.array([2, 0]))
    more = moments.update(again, x[:50][:, [3, 4]], codes[:50], t[:50])
    both = [np.concatenate([a, a[:50]]) for a in (x[:, [3, 4]], codes, t)]
    same(more, both[0], both[1], num_classes, both[2])


@pytest.mark.thorough
def test_a_subset_without_fourths_tells_all_but_the_higher_moments():
    _, x, codes, num_classes, t = case(2)
    dims = np.array([1, 5])
    got = moments.select(of(x, codes, num_classes, t, kept=False), dims)
    same(got, x[:, dims], codes, num_classes, t, without=("third", "fourth"))
    with pytest.raises(ValueError, match="do not hold their fourth moment"):
        moments.fourth(got)
    full = of(x[:, dims], codes, num_classes, t)
    assert moments.fourth(full) == full.fourth
    # They merge with their like, and a score that needs no fourth moment is the same.
    twice = moments.merge(got, got)
    assert twice.third.shape == twice.fourth.shape == (0,)
    np.testing.assert_allclose(scores.h_score(got).value, scores.h_score(full).value, rtol=1e-10)


@pytest.mark.thorough
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_that_change(weighted):
    m, x, codes, num_classes, t = case(3, every=False)
    rng = np.random.default_rng(4)
    w = rng.integers(1, 4, 200).astype(float) if weighted else np.ones(200)
    m = of(x, codes, num_classes, t, w)
    changed = rng.permutation(200)[:60]
    new = codes.copy()
    new[changed] = rng.integers(-1, num_classes, 60)
    got = moments.relabel(m, x[changed], codes[changed], new[changed], w[changed])
    same(got, x, new, num_classes, t, w)
    assert_array_equal(got.scatter, m.scatter)
    everything = moments.relabel(m, x, codes, np.arange(200) % 2, w)
    same(everything, x, np.arange(200) % 2, num_classes, t, w)
    assert not np.asarray(everything.class_scatters[2:]).any()


@pytest.mark.thorough
@pytest.mark.parametrize("every", [False, True])
def test_labels_that_are_wholly_new(every):
    m, x, _, _, t = case(5)
    new = np.random.default_rng(6).integers(0 if every else -1, 7, 200)
    for rows in (x, [x[:90], x[90:]]):
        got = moments.with_labels(m, rows, new, 7, rows=64)
        same(got, x, new, 7, t, without=("class_scatters",))
    with pytest.raises(ValueError, match="rows of weight 150 and moments of weight 200"):
        moments.with_labels(m, x[:150], new[:150], 7)


def test_classes_taken_together():
    m, x, codes, num_classes, t = case(7, every=False)
    groups = np.array([1, 0, 1, 3])
    new = np.where(codes >= 0, groups[codes], -1)
    same(moments.merge_classes(m, groups), x, new, 4, t)
    bare = moments.merge_classes(of(x, codes, num_classes, t, kept=False), groups)
    same(bare, x, new, 4, t)


@pytest.mark.thorough
def test_rows_appended_and_taken_away():
    m, x, codes, num_classes, t = case(8, every=False)
    head, tail = (of(a, c, num_classes, b) for a, c, b in zip(
        np.split(x, [150]), np.split(codes, [150]), np.split(t, [150]), strict=True
    ))  # fmt: skip
    same(moments.merge(head, tail), x, codes, num_classes, t)
    same(moments.remove(m, tail), x[:150], codes[:150], num_classes, t[:150])
    for value in moments.remove(m, m):
        assert not np.asarray(value).any()


@pytest.mark.thorough
def test_two_embeddings_side_by_side():
    m, x, codes, num_classes, _ = case(9, targets=0)
    b = np.random.default_rng(10).standard_normal((200, 3)) + x[:, :3] ** 2
    with_cross = moments.from_stream([x], codes, num_classes, b)
    other = of(b, codes, num_classes, b[:, :0])
    got = moments.concatenate(moments.drop_targets(with_cross), other, with_cross.cross)
    unknown = ("third", "fourth", "thirds", "fourths", "class_scatters")
    rows = np.concatenate([x, b], axis=1), codes, num_classes, b[:, :0]
    same(got, *rows, without=unknown)
    half = np.where(np.arange(200) < 100, codes, -1)
    with pytest.raises(ValueError, match="100 of 200 rows have a label"):
        moments.concatenate(*(of(a, half, num_classes, b[:, :0]) for a in (x, b)), with_cross.cross)
    with pytest.raises(ValueError, match="not of the same rows and labels"):
        moments.concatenate(m, of(b[:9], codes[:9], num_classes, b[:9, :0]), with_cross.cross)
    with pytest.raises(ValueError, match=r"cross has shape \(3, 6\); expected \(6, 3\)"):
        moments.concatenate(m, other, with_cross.cross.T)
    with pytest.raises(ValueError, match="3 and 0 targets; expected the same"):
        moments.concatenate(with_cross, other, with_cross.cross)


def test_mistakes_are_named():
    m, x, codes, _, _ = case(11)
    for dims in (np.array([6]), np.array([-1]), np.array([0.0]), np.array([[0]])):
        with pytest.raises(ValueError, match=r"integers in 0\.\.5"):
            moments.select(m, dims)
    for groups in (np.array([0, 1]), np.array([0, 0, 0, -1])):
        with pytest.raises(ValueError, match="one for each of 4 classes"):
            moments.merge_classes(m, groups)
    with pytest.raises(ValueError, match="must lie in"):
        moments.relabel(m, x[:1], codes[:1], np.array([9]))
