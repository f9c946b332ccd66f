"""The split and the measures of the authors of infinity-AE, against their loops."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from experiments.closed_form_recommenders import experiment, split
from experiments.closed_form_recommenders.rankers import RANKERS
from kernlens.probes import recommenders

RNG = np.random.default_rng(0)


def parts(n=30, m=25):
    which = RNG.integers(-1, 3, (n, m))
    which[:, 0] = split.TEST
    return tuple(sparse.csr_array((which == part).astype(float)) for part in range(3))


def test_measures_are_those_of_the_authors_loops():
    train, _, test = parts()
    scores = RNG.standard_normal(train.shape)
    found = experiment.measured(lambda rows: scores, train, train, test, (3, 10))
    for user in range(train.shape[0]):
        wanted = set(test[[user]].indices.tolist())
        left = np.where(train[[user]].toarray()[0] > 0, -np.inf, scores[user])
        order = np.argsort(-left)
        for k in (3, 10):
            hits = len(set(order[:k].tolist()) & wanted) / min(len(wanted), k)
            dcg = sum(1 / np.log2(at + 2) for at in range(k) if order[at] in wanted)
            ideal = sum(1 / np.log2(at + 2) for at in range(k) if at < len(wanted))
            assert_allclose(found[f"hits@{k}"][user], hits)
            assert_allclose(found[f"ndcg@{k}"][user], dcg / ideal)


def test_a_user_without_held_out_items_counts_as_zero():
    train, _, test = parts()
    test = sparse.csr_array(test.toarray() * (np.arange(30) > 0)[:, None])
    found = experiment.measured(lambda rows: rows, train, train, test, (3,))
    assert found["ndcg@3"][0] == 0.0


def test_a_drawn_split_is_the_authors_rule():
    users = np.repeat(np.arange(4), [2, 3, 10, 57])
    ratings = split.Ratings(RNG.permutation(users), np.arange(len(users)))
    found = split.drawn(ratings, 0)
    sizes = {
        user: [int(np.sum(found[ratings.users == user] == part)) for part in (-1, 0, 1, 2)]
        for user in range(4)
    }
    # Of n lines: int(.8 n) less the one that goes to test, int(.9 n) - int(.8 n), and the rest.
    assert sizes == {0: [2, 0, 0, 0], 1: [0, 1, 0, 2], 2: [0, 7, 1, 2], 3: [0, 44, 6, 7]}
    assert not np.array_equal(found, split.drawn(ratings, 1))
    train, validation, test = split.matrices(ratings, found)
    assert train.shape == (3, 70)
    assert train.nnz + validation.nnz + test.nnz == 70


def test_the_published_split_must_be_of_the_same_lines(tmp_path):
    ratings = split.Ratings(np.zeros(3, int), np.arange(3))
    np.savez(tmp_path / "index.npz", data=np.array([0, 1, 2]))
    assert_array_equal(split.published(tmp_path / "index.npz", ratings), [0, 1, 2])
    np.savez(tmp_path / "other.npz", data=np.array([0, 1]))
    with pytest.raises(ValueError, match="parts for 2 lines; the ratings have 3"):
        split.published(tmp_path / "other.npz", ratings)
    np.savez(tmp_path / "wrong.npz", data=np.array([0, 1, 7]))
    with pytest.raises(ValueError, match="parts must be -1, 0, 1 or 2"):
        split.published(tmp_path / "wrong.npz", ratings)
    with pytest.raises(FileNotFoundError):
        split.published(tmp_path / "absent.npz", ratings)


@pytest.mark.thorough
def test_rankers_score_as_the_library_does():
    train, validation, _ = parts()
    known = (train + validation).toarray()
    fit, _ = RANKERS["infinity-AE"]
    got = fit(train)(5.0)(known)
    model = recommenders.fit_user_ridge(train, strengths=[5.0])
    # Products in float32.
    assert_allclose(got, model.scores(known), rtol=1e-4, atol=1e-5)
    fit, _ = RANKERS["EASE"]
    expected = known @ recommenders.fit_ease(train, strengths=[20.0]).weights
    assert_allclose(fit(train)(20.0)(known), expected, rtol=1e-4, atol=1e-5)


def test_ratings_of_a_folder_keep_the_order_of_its_lines(tmp_path):
    text = "user_id:token\titem_id:token\trating:float\nb\tx\t1\na\ty\t2\nb\ty\t3\n"
    (tmp_path / "own.inter").write_text(text)
    found = split.read(tmp_path)
    assert_array_equal(found.users, [0, 1, 0])
    assert_array_equal(found.items, [0, 1, 1])
    (tmp_path / "own.inter").write_text("user\titem\n1\t2\n")
    with pytest.raises(ValueError, match="expected columns"):
        split.read(tmp_path)
