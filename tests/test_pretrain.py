import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kernlens.datasets import synthetic
from kernlens.models import decoders, encoders
from kernlens.train import loop, pretrain, sampling
from tests.cases import toy_interactions

DATA = synthetic.load(
    num_items=60, num_users=80, num_interactions=8_000, num_classes=3, noise=0.05, seed=0
)


def block_of(data, block, window):
    made = sampling.blocks((0, 0), data, block=block, window=window)
    return sampling.Blocks(jnp.asarray(made.items[0]), jnp.asarray(made.sequences[0]))


def loss_of(contrast=pretrain.SOFTMAX, *, share=True, separate=False, decoder=None, dim=5):
    return pretrain.SkipGramLoss(
        encoders.Lookup(DATA.num_items, dim, scale=2.0), decoder, contrast, 3, 4, share, separate
    )


def reference_loss(anchor, positive, negatives, used, contrast, decoder):
    """Float64 loss of one example, from its definition."""
    score = {
        "inner": lambda a, b: a @ b,
        "cosine": lambda a, b: a @ b / (0.1 * np.linalg.norm(a) * np.linalg.norm(b)),
    }[decoder]
    right = score(anchor, positive)
    wrong = np.array([score(anchor, z) for z, u in zip(negatives, used, strict=True) if u])
    if contrast is pretrain.SOFTMAX:
        return np.log(np.exp(right) + np.exp(wrong).sum()) - right
    return np.log1p(np.exp(-right)) + np.log1p(np.exp(wrong)).sum()


@pytest.mark.parametrize("contrast", [pretrain.SOFTMAX, pretrain.SIGMOID])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("decoder", ["inner", "cosine"])
def test_loss_is_its_definition_over_triplets(contrast, share, separate, decoder):
    module = None if decoder == "inner" else decoders.Cosine()
    loss = loss_of(contrast, share=share, separate=separate, decoder=module)
    params = loss.init(jax.random.key(0))
    noise = sampling.log_uniform(DATA.num_items)
    block = block_of(DATA, 40, 3)
    key = jax.random.key(5)
    triplets = jax.tree.map(
        np.asarray,
        sampling.triplets(key, noise, *block, window=3, k=4, share_negatives=share),
    )
    z = np.asarray(params["encoder"]["params"]["table"], np.float64)
    context = np.asarray(params["context"]["params"]["table"], np.float64) if separate else z
    losses = [
        reference_loss(z[a], context[p], context[n], u > 0, contrast, decoder)
        for a, p, n, u, w in zip(
            *triplets[:3], triplets.negative_weight, triplets.weight, strict=True
        )
        if w > 0
    ]
    # float32 sums of about a hundred losses
    np.testing.assert_allclose(loss(params, key, block, noise), np.mean(losses), rtol=2e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("contrast", pretrain.CONTRASTS.values(), ids=pretrain.CONTRASTS)
def test_gradient_where_no_negative_is_left_is_that_of_the_positives(contrast):
    # Two items, each within the other's window: neither can be a negative.
    data = toy_interactions([[0, 1, 0, 1, 0, 1]])
    loss = pretrain.SkipGramLoss(encoders.Lookup(2, 3), None, contrast, 2, 3, True, False)
    params = loss.init(jax.random.key(0))
    block = block_of(data, 6, 2)
    noise = sampling.unigram(np.array([1, 1]))
    grad = jax.grad(loss)(params, jax.random.key(0), block, noise)["encoder"]["params"]["table"]
    z = np.asarray(params["encoder"]["params"]["table"], np.float64)
    expected, pairs = np.zeros_like(z), 0
    for i, j in np.argwhere(np.abs(np.subtract.outer(np.arange(6), np.arange(6))) <= 2):
        a, p = data.items[[i, j]]
        if i != j:
            pairs += 1
            # softmax over the positive alone costs nothing; -log sigmoid(s) falls by sigmoid(-s)
            slope = 0.0 if contrast is pretrain.SOFTMAX else -1 / (1 + np.exp(z[a] @ z[p]))
            expected[a] += slope * z[p]
            expected[p] += slope * z[a]
    np.testing.assert_allclose(grad, expected / pairs, rtol=1e-5, atol=1e-8)


@pytest.mark.thorough
def test_inner_product_module_is_the_default():
    kwargs = {"window": 2, "negatives": 3, "dim": 4, "epochs": 1, "block": 256}
    default = pretrain.contrastive(DATA, **kwargs)
    explicit = pretrain.contrastive(DATA, decoder=decoders.InnerProduct(), **kwargs)
    np.testing.assert_array_equal(default.embeddings, explicit.embeddings)


@pytest.mark.thorough
def test_training_recovers_the_classes_of_synthetic_data():
    fitted = pretrain.contrastive(DATA, window=3, negatives=4, dim=8, epochs=12, block=256, seeds=2)
    codes = DATA.labels["class"].codes
    for z in fitted.embeddings:
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        cosine = unit @ unit.T
        same = codes[:, None] == codes
        off = ~np.eye(len(codes), dtype=bool)
        assert cosine[same & off].mean() > cosine[~same].mean() + 0.2
    assert np.all(fitted.losses[-1] < fitted.losses[0])
    assert fitted.embeddings.shape == (2, DATA.num_items, 8)
    assert fitted.final_loss.shape == (2,)


@pytest.mark.thorough
def test_seeds_axis_equals_single_runs_and_differs_between_seeds():
    kwargs = {"window": 2, "negatives": 2, "dim": 4, "epochs": 2, "block": 512}
    both = pretrain.contrastive(DATA, seeds=(3, 7), **kwargs)
    alone = pretrain.contrastive(DATA, seeds=(7,), **kwargs)
    # the same sums in another order, over a few dozen float32 steps
    np.testing.assert_allclose(both.embeddings[1], alone.embeddings[0], atol=2e-4)
    assert np.abs(both.embeddings[0] - both.embeddings[1]).max() > 1e-2


@pytest.mark.thorough
def test_apply_fn_gives_the_embeddings():
    fitted = pretrain.contrastive(
        DATA, window=2, negatives=2, dim=4, epochs=1, seeds=2, encoder=encoders.Lookup(60, 4)
    )
    params = jax.tree.map(lambda leaf: leaf[1], fitted.params)
    items = jnp.array([4, 0, 59])
    np.testing.assert_array_equal(fitted.apply_fn(params, items), fitted.embeddings[1][items])


class Stop(Exception):
    pass


def test_interrupted_run_resumes_to_the_same_bits(tmp_path):
    kwargs = {
        "window": 2, "negatives": 2, "dim": 4, "epochs": 4, "block": 512, "seeds": 2,
        "subsample": 1e-2, "optimizer": optax.adam(1e-2),
    }  # fmt: skip
    whole = pretrain.contrastive(DATA, **kwargs)

    def stop(progress):
        if progress.done == 2:
            raise Stop

    with pytest.raises(Stop):
        pretrain.contrastive(DATA, checkpoint=tmp_path / "run", on_round=stop, **kwargs)
    told = []
    resumed = pretrain.contrastive(
        DATA, checkpoint=tmp_path / "run", on_round=lambda p: told.append(p.done), **kwargs
    )
    assert told == [3, 4]
    np.testing.assert_array_equal(resumed.embeddings, whole.embeddings)
    np.testing.assert_array_equal(resumed.losses, whole.losses)


class Frozen(nn.Module):
    """A table that starts as given values, under an initialiser that no repr can tell."""

    values: tuple[tuple[float, ...], ...]

    @nn.compact
    def __call__(self, items):
        return self.param("table", lambda _: jnp.asarray(self.values))[items]


def renamed(scale):
    """A contrast whose functions always have the same names."""
    return pretrain.Contrast(
        lambda logits, counts: scale * pretrain.SIGMOID.summary(logits, counts),
        lambda positive, summary: pretrain.SIGMOID.pair(positive, summary),
    )


START = tuple(map(tuple, np.random.default_rng(0).standard_normal((60, 3)).tolist()))
RUN = {
    "window": 2, "negatives": 2, "dim": 3, "epochs": 1, "seeds": 1, "encoder": Frozen(START),
    "decoder": decoders.Cosine(0.2), "contrast": renamed(1.0), "noise": sampling.log_uniform(60),
    "optimizer": optax.adam(1e-2), "subsample": 0.1, "separate_context": True,
    "share_negatives": True, "block": 512,
}  # fmt: skip
OTHER = {
    "window": [1], "negatives": [3], "epochs": [2], "seeds": [2, (1,)],
    "encoder": [Frozen(START[::-1]), encoders.Lookup(60, 3)],
    "decoder": [decoders.Cosine(0.3), None], "contrast": [renamed(0.5), pretrain.SOFTMAX],
    "noise": [sampling.log_uniform(60, num_slots=1 << 19), None],
    "optimizer": [optax.adam(2e-2), optax.sgd(1e-2)], "subsample": [0.2, None],
    "separate_context": [False], "share_negatives": [False], "block": [256],
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder that holds a finished run of ``RUN``."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, pretrain.contrastive(DATA, checkpoint=folder, **RUN)


def test_every_argument_is_checked_when_a_run_is_resumed():
    arguments = set(inspect.signature(pretrain.contrastive).parameters)
    # dim says nothing where an encoder is given; the last three change no number but by rounding.
    free = {"dim", "seeds_at_once", "checkpoint", "on_round"}
    assert set(OTHER) | {"interactions"} == arguments - free
    assert set(RUN) == set(OTHER) | {"dim"}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OTHER.items() for value in values]
)
def test_a_run_with_another_argument_is_refused(finished, name, value):
    with pytest.raises(ValueError, match="holds the checkpoint of another run"):
        pretrain.contrastive(DATA, checkpoint=finished[0], **(RUN | {name: value}))


def test_a_run_on_other_data_is_refused_and_the_same_run_read(finished):
    folder, whole = finished
    data = DATA._replace(items=DATA.items[::-1].copy())
    with pytest.raises(ValueError, match="holds the checkpoint of another run"):
        pretrain.contrastive(data, checkpoint=folder, **RUN)
    same = RUN | {"contrast": renamed(1.0), "optimizer": optax.adam(1e-2)}
    again = pretrain.contrastive(DATA, checkpoint=folder, **same)
    np.testing.assert_array_equal(again.embeddings, whole.embeddings)


@pytest.mark.thorough
def test_long_epochs_split_into_rounds():
    told = []
    fitted = pretrain.contrastive(
        DATA, window=1, negatives=1, dim=2, epochs=2, block=16, on_round=lambda p: told.append(p)
    )
    rounds = -(-8_000 // (16 * 256))
    assert len(told) == 2 * rounds == 4
    assert told[-1].done == told[-1].rounds
    # The last epoch's two rounds, not the last round.
    np.testing.assert_allclose(fitted.final_loss, fitted.losses[2:].mean(axis=0), rtol=1e-6)
    assert fitted.pairs == 2 * pretrain.count_pairs(DATA, 1)


def test_a_seed_has_blocks_of_its_own_in_each_epoch_and_other_keys_for_start_and_steps(monkeypatch):
    class Caught(Exception):
        pass

    def catch(loss, optimizer, params, keys, batches, *, rounds, shared, **options):
        raise Caught(params, keys, batches, rounds, shared)

    monkeypatch.setattr(loop, "fit", catch)
    kwargs = {"block": 512, "window": 2, "subsample": 1e-2}
    with pytest.raises(Caught) as caught:
        pretrain.contrastive(
            DATA, epochs=2, seeds=(5, 6), encoder=encoders.Lookup(60, 4), dim=4, **kwargs
        )
    params, keys, batches, rounds, noise = caught.value.args
    assert rounds == 2
    seen = set()
    for epoch in range(2):
        for place, seed in enumerate((5, 6)):
            made = sampling.blocks((seed, epoch), DATA, **kwargs)
            np.testing.assert_array_equal(batches(epoch).items[:, place], made.items)
            np.testing.assert_array_equal(batches(epoch).sequences[:, place], made.sequences)
            seen.add(made.items.tobytes())
    assert len(seen) == 4
    for place, seed in enumerate((5, 6)):
        first, second = jax.random.split(jax.random.key(seed))
        assert keys[place] == second
        table = encoders.Lookup(60, 4).init(jax.random.split(first, 3)[0], jnp.zeros(1, jnp.int32))
        found = params["encoder"]["params"]["table"][place]
        np.testing.assert_allclose(found, table["params"]["table"], rtol=1e-6)
    expected = sampling.unigram(DATA.counts, power=0.75)
    np.testing.assert_array_equal(noise.starts, expected.starts)


@pytest.mark.parametrize("window", [1, 3])
def test_count_pairs_is_a_loop(window):
    data = toy_interactions([[0, 1, 2, 3], [1], [], [2, 0]])
    expected = sum(
        abs(i - j) <= window and i != j for n in (4, 1, 0, 2) for i in range(n) for j in range(n)
    )
    assert pretrain.count_pairs(data, window) == expected


@pytest.mark.parametrize("name", ["window", "negatives", "dim", "epochs", "block"])
def test_arguments_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
        pretrain.contrastive(DATA, **{name: 0})


def test_data_without_pairs_and_no_seeds_are_refused():
    with pytest.raises(ValueError, match="no sequence has two items to pair: 2 sequences"):
        pretrain.contrastive(toy_interactions([[0], [1]]))
    with pytest.raises(ValueError, match="at least one run"):
        pretrain.contrastive(DATA, seeds=())


@pytest.mark.thorough
def test_any_encoder_module_goes():
    class Hashed(nn.Module):
        @nn.compact
        def __call__(self, items):
            return nn.Dense(3)(nn.Embed(7, 4)(items % 7))

    fitted = pretrain.contrastive(
        DATA, window=1, negatives=2, epochs=1, block=512, encoder=Hashed()
    )
    assert fitted.embeddings.shape == (1, DATA.num_items, 3)
    np.testing.assert_array_equal(fitted.embeddings[0, 0], fitted.embeddings[0, 7])


@pytest.mark.slow
def test_training_is_a_plain_adam_loop_over_the_same_blocks():
    kwargs = {"window": 2, "negatives": 3, "dim": 4}
    encoder = encoders.Lookup(DATA.num_items, 4)
    noise = sampling.unigram(DATA.counts)
    loss = pretrain.SkipGramLoss(encoder, None, pretrain.SOFTMAX, 2, 3, True, False)
    init_key, step_key = jax.random.split(jax.random.key(5))
    params = loss.init(init_key)
    optimizer = optax.adam(1e-2)
    state = optimizer.init(params)
    count = 0
    for epoch in range(2):
        made = sampling.blocks((5, epoch), DATA, block=512, window=2)
        for items, sequences in zip(made.items, made.sequences, strict=True):
            batch = sampling.Blocks(jnp.asarray(items), jnp.asarray(sequences))
            grad = jax.grad(loss)(params, jax.random.fold_in(step_key, count), batch, noise)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(grad, state, params)
            params = optax.apply_updates(params, updates)
            count += 1
    for at_once in (1, 2):  # one after the other, and side by side
        fitted = pretrain.contrastive(
            DATA, encoder=encoder, epochs=2, block=512, seeds=(5, 6), optimizer=optimizer,
            seeds_at_once=at_once, **kwargs,
        )  # fmt: skip
        # Adam divides by gradients' own size: rounding of 1e-7 grows over the 32 steps
        np.testing.assert_allclose(
            fitted.embeddings[0], params["encoder"]["params"]["table"], atol=2e-4
        )
