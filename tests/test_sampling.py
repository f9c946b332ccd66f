import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlens.datasets import synthetic
from kernlens.train import sampling
from tests.cases import toy_interactions


def brute_force_pairs(interactions, window):
    """Every ordered skip-gram pair, counted by a plain loop."""
    found = {}
    for start, end in zip(interactions.offsets[:-1], interactions.offsets[1:], strict=True):
        sequence = interactions.items[start:end]
        for i, anchor in enumerate(sequence):
            for j in range(max(0, i - window), min(len(sequence), i + window + 1)):
                if j != i:
                    pair = int(anchor), int(sequence[j])
                    found[pair] = found.get(pair, 0) + 1
    return found


def block_pairs(blocks, window):
    found = {}
    for items, sequences in zip(blocks.items, blocks.sequences, strict=True):
        anchor, positive, valid = sampling.pairs(
            jnp.asarray(items), jnp.asarray(sequences), window=window
        )
        for a, p in zip(items[anchor[valid]], items[positive[valid]], strict=True):
            found[int(a), int(p)] = found.get((int(a), int(p)), 0) + 1
    return found


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("block", [3, 7, 64])
def test_blocks_hold_every_pair_once(window, block):
    data = toy_interactions([[0, 1, 2, 3], [4], [2, 2, 5], [], [1, 0, 3, 5, 4, 2, 1]])
    made = sampling.blocks((0, 0), data, block=block, window=window)
    assert block_pairs(made, window) == brute_force_pairs(data, window)


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda v: sum(v) > 0),
    block=st.integers(1, 20),
    window=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=30, deadline=None)
def test_blocks_hold_every_token_once(lengths, block, window, seed):
    rng = np.random.default_rng(seed)
    data = toy_interactions([rng.integers(0, 6, n) for n in lengths])
    made = sampling.blocks((seed,), data, block=block, window=window)
    owned = made.items[:, :block][made.sequences[:, :block] >= 0]
    assert sorted(owned) == sorted(data.items)


def test_blocks_repeat_by_seed_and_differ_between_epochs():
    data = toy_interactions([[i, i + 1, i + 2] for i in range(40)])
    first = sampling.blocks((3, 0), data, block=16, window=2)
    again = sampling.blocks((3, 0), data, block=16, window=2)
    other = sampling.blocks((3, 1), data, block=16, window=2)
    np.testing.assert_array_equal(first.items, again.items)
    assert not np.array_equal(first.items, other.items)


def test_subsampling_keeps_the_expected_share():
    data = synthetic.load(num_items=50, num_users=50, num_interactions=40_000, seed=1)
    counts, keep = data.counts, sampling.keep_probability(data.counts, 1e-2)
    made = sampling.blocks((0,), data, block=512, window=2, subsample=1e-2)
    owned = made.items[:, :512][made.sequences[:, :512] >= 0]
    kept = np.bincount(owned, minlength=50)
    spread = np.sqrt(counts * keep * (1 - keep))
    # Six standard deviations: a false alarm once in 10^8 items.
    assert np.all(np.abs(kept - counts * keep) <= 6 * spread + 1e-9)
    assert keep.min() < 0.6


def test_keep_probability_is_word2vecs():
    counts = np.array([900, 90, 10])
    ratio = 0.01 / (counts / 1000)
    np.testing.assert_allclose(
        sampling.keep_probability(counts, 0.01), np.minimum(1, np.sqrt(ratio) + ratio)
    )
    with pytest.raises(ValueError, match=r"subsample must be None or in \(0, 1\]; got 2"):
        sampling.keep_probability(counts, 2)


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (sampling.log_uniform(7), np.log1p(1 / np.arange(1, 8)) / np.log(8)),
        (
            sampling.unigram(np.array([8, 4, 2, 1]), power=0.5),
            np.sqrt([8, 4, 2, 1]) / np.sqrt([8, 4, 2, 1]).sum(),
        ),
    ],
)
def test_noise_has_its_probabilities(noise, expected):
    slots = np.bincount(np.asarray(noise.owners), minlength=len(expected)) / len(noise.owners)
    np.testing.assert_allclose(slots, expected, atol=1e-5)  # one slot in 2^20
    drawn = sampling.draw(jax.random.key(0), noise, jnp.zeros((1, 0), jnp.int32), 200_000)
    shares = np.bincount(np.asarray(drawn[0]), minlength=len(expected)) / drawn.size
    np.testing.assert_allclose(shares, expected, atol=6 * 0.5 / np.sqrt(drawn.size))


@pytest.mark.parametrize("excluded", [[2], [0, 3], [3, 3], [4, 0, 4]])
def test_draw_excludes_exactly(excluded):
    noise = sampling.unigram(np.array([50, 20, 10, 10, 10]), power=1.0)
    rows = jnp.asarray([excluded], jnp.int32)
    drawn = np.asarray(sampling.draw(jax.random.key(1), noise, rows, 100_000))[0]
    expected = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
    expected[list(set(excluded))] = 0
    shares = np.bincount(drawn, minlength=5) / drawn.size
    assert np.all(shares[list(set(excluded))] == 0)
    np.testing.assert_allclose(
        shares, expected / expected.sum(), atol=6 * 0.5 / np.sqrt(drawn.size)
    )


@pytest.mark.thorough
@pytest.mark.parametrize("share", [True, False])
def test_triplets_never_take_anchor_or_positive(share):
    data = synthetic.load(num_items=30, num_users=20, num_interactions=3_000, seed=2)
    made = sampling.blocks((0,), data, block=256, window=3)
    triplets = sampling.triplets(
        jax.random.key(0),
        sampling.log_uniform(30),
        jnp.asarray(made.items[0]),
        jnp.asarray(made.sequences[0]),
        window=3,
        k=4,
        share_negatives=share,
    )
    used = np.asarray(triplets.negative_weight * triplets.weight[:, None]) > 0
    negatives = np.asarray(triplets.negatives)
    assert used.mean() > 0.3
    assert not np.any(used & (negatives == np.asarray(triplets.anchor)[:, None]))
    assert not np.any(used & (negatives == np.asarray(triplets.positive)[:, None]))


@pytest.mark.thorough
def test_shared_negatives_are_the_first_of_two_draws_outside_the_window():
    data = synthetic.load(num_items=25, num_users=20, num_interactions=2_000, seed=3)
    made = sampling.blocks((0,), data, block=128, window=2)
    items, sequences = made.items[0], made.sequences[0]
    key, noise, k = jax.random.key(0), sampling.log_uniform(25), 5
    drawn, counts = sampling.negatives(
        key, noise, jnp.asarray(items), jnp.asarray(sequences), window=2, k=k
    )
    draws = np.asarray(sampling.draw(key, noise, jnp.asarray(items)[:, None], 2 * k))
    again = 0
    for i in range(len(items)):
        near = {
            int(items[j])
            for j in range(max(0, i - 2), min(len(items), i + 3))
            if sequences[j] == sequences[i]
        }
        for j in range(k):
            outside = [int(item) for item in draws[i, [j, k + j]] if item not in near]
            assert bool(counts[i, j]) == bool(outside)
            if outside:
                assert drawn[i, j] == outside[0]
                again += outside[0] != draws[i, j]
    assert again > 20  # many are second draws, and count
