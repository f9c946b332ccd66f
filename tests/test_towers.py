import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernlens.models import towers

LENGTHS = (5, 1, 3, 0, 4)
NEW = {
    **{name: tower() for name, tower in towers.TOWERS.items()},
    "causal": towers.SelfAttentionTower((6, 4), heads=2, layers=2, causal=True, max_length=3),
    "layers": towers.SelfAttentionTower((6,), heads=3, layers=2),
    "state": towers.GruTower((4,)),
    "sum": towers.DiscountedAverage(0.02, normalise=False),
}


def histories(dim=3, length=5):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(len(LENGTHS), length, dim)).astype(np.float32)
    mask = np.arange(length) >= length - np.array(LENGTHS)[:, None]
    frequency = rng.uniform(0, 0.1, mask.shape).astype(np.float32)
    return jnp.asarray(z), jnp.asarray(mask), jnp.asarray(frequency)


@functools.partial(jax.jit, static_argnums=0)
def read(tower, params, *inputs):
    return tower.apply(params, *inputs)


@functools.cache
def started(tower):
    """Parameters away from zero, so that no term of a formula is left untried."""
    params = jax.jit(tower.init)(jax.random.key(1), *histories())
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(2)
    noise = [leaf + jnp.asarray(rng.normal(size=leaf.shape) * 0.4, leaf.dtype) for leaf in leaves]
    return jax.tree.unflatten(tree, noise)


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def mlp(params, x):
    for i in range(len(params)):
        x = dense(params[f"Dense_{i}"], x if i == 0 else np.maximum(x, 0))
    return x


def readout(params, state):
    return mlp(params["Mlp_0"], np.maximum(state, 0)) if "Mlp_0" in params else state


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(params, rows):
    size = len(params["bias"])
    h = np.zeros(size)
    w, b, u = params["input"]["kernel"], params["input"]["bias"], params["recurrent"]
    part = [slice(i * size, (i + 1) * size) for i in range(3)]
    for x in rows:
        r, g = (sigmoid(x @ w[:, p] + b[p] + h @ u[:, p]) for p in part[:2])
        p = part[2]
        c = np.tanh(x @ w[:, p] + b[p] + r * (h @ u[:, p] + params["bias"]))
        h = g * h + (1 - g) * c
    return readout(params, h)


def attention(tower, params, rows):
    n, size = len(rows), tower.hidden[0]
    ages = [min(n - 1 - i, tower.max_length - 1) for i in range(n)]
    x = np.stack([dense(params["input"], row) for row in rows]) + params["position"][ages]
    width = size // tower.heads
    for layer in range(tower.layers):
        q, k, v = np.split(dense(params[f"attention_{layer}"], x), 3, axis=1)
        mixed = np.zeros((n, size))
        for i in range(n):
            seen = i + 1 if tower.causal else n
            for head in range(tower.heads):
                at = slice(head * width, (head + 1) * width)
                shares = softmax(k[:seen, at] @ q[i, at] / np.sqrt(width))
                mixed[i, at] = shares @ v[:seen, at]
        x = x + dense(params[f"output_{layer}"], mixed)
    return readout(params, x[-1] if tower.causal else x.mean(0))


def reference(tower, params, rows, frequency):
    """One history, items alone, in float64, from the definitions."""
    match tower:
        case towers.MeanPool():
            return rows.mean(0)
        case towers.DiscountedAverage():
            weights = tower.alpha / (tower.alpha + frequency)
            total = sum(w * row for w, row in zip(weights, rows, strict=True))
            return total / weights.sum() if tower.normalise else total
        case towers.DenseTower():
            return mlp(params["Mlp_0"], rows.mean(0))
        case towers.GruTower():
            return gru(params, rows)
        case _:
            return attention(tower, params, rows)


@pytest.mark.parametrize("name", NEW)
def test_tower_agrees_with_a_loop(name):
    tower, (z, mask, frequency) = NEW[name], histories()
    params = started(tower)
    found = np.asarray(read(tower, params, z, mask, frequency))
    own = float64(params).get("params", {})
    for row, length in enumerate(LENGTHS):
        if length == 0:
            expected = np.zeros(found.shape[1])
        else:
            inputs = float64((z[row, -length:], frequency[row, -length:]))
            expected = reference(tower, own, *inputs)
        # float32 sums of a few dozen terms.
        np.testing.assert_allclose(found[row], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", NEW)
def test_padding_is_never_read(name):
    tower, (z, mask, frequency) = NEW[name], histories()
    params = started(tower)
    plain = read(tower, params, z, mask, frequency)
    wide = [jnp.pad(a, ((0, 0), (4, 0), (0, 0))[: a.ndim]) for a in (z, mask, frequency)]
    hostile = jnp.where(wide[1][..., None], wide[0], jnp.nan)
    broken = jnp.where(wide[1], wide[2], jnp.nan)
    found = read(tower, params, hostile, wide[1], broken)
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=3e-5)  # of values to 17


@pytest.mark.parametrize("name", NEW)
def test_gradients_are_finite_and_zero_at_padding(name):
    tower, (z, mask, frequency) = NEW[name], histories()
    params = started(tower)

    def total(params, z):
        return jnp.sum(jnp.sin(tower.apply(params, z, mask, frequency)))

    gradient = jax.jit(jax.grad(total, (0, 1)))
    by_params, by_z = gradient(params, jnp.where(mask[..., None], z, jnp.nan))
    at_zero = gradient(params, jnp.where(mask[..., None], z, 0.0))
    jax.tree.map(np.testing.assert_array_equal, (by_params, by_z), at_zero)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(at_zero))
    np.testing.assert_array_equal(by_z[~np.asarray(mask)], 0)
    assert np.all(np.any(np.asarray(by_z[:3])[np.asarray(mask[:3])] != 0, -1))


@pytest.mark.parametrize("name", NEW)
def test_leading_axes_and_vmap_change_nothing(name):
    tower, inputs = NEW[name], histories()
    params = started(tower)
    plain = read(tower, params, *inputs)
    assert plain.dtype == jnp.float32
    by_row = jax.jit(jax.vmap(lambda *row: tower.apply(params, *row)))(*inputs)
    np.testing.assert_allclose(by_row, plain, rtol=1e-5, atol=3e-5)
    boxed = read(tower, params, *(a[None] for a in inputs))
    np.testing.assert_allclose(boxed[0], plain, rtol=1e-5, atol=3e-5)


@pytest.mark.thorough
def test_order_matters_to_gru_and_attention_alone():
    z, mask, frequency = histories()
    level = jnp.full_like(frequency[:1], 0.01)
    for name, tower in NEW.items():
        params = started(tower)
        ends = [read(tower, params, a[:1], mask[:1], level) for a in (z, z[:, ::-1])]
        same = np.allclose(*ends, rtol=1e-4, atol=1e-5)
        assert same == (name in {"mean", "discounted", "dense", "sum"}), name


@pytest.mark.thorough
def test_concatenation_is_an_mlp_on_both():
    rng = np.random.default_rng(0)
    z1, z2 = (jnp.asarray(rng.normal(size=(4, d)), jnp.float32) for d in (3, 5))
    join = towers.Concatenation((6, 2))
    params = join.init(jax.random.key(0), z1, z2)
    own = float64(params)["params"]
    kernel = np.concatenate([own["query"]["kernel"], own["item"]["kernel"]])
    both = np.concatenate([z1, z2], 1).astype(np.float64)
    hidden = np.maximum(both @ kernel + own["query"]["bias"], 0)
    expected = mlp(own["Mlp_0"], hidden)[:, 0]
    np.testing.assert_allclose(join.apply(params, z1, z2), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("join", [None, towers.Concatenation((6,))])
@pytest.mark.parametrize("item", [None, towers.DenseLayers((8, 3))])
def test_two_towers_score_all_pairs_as_one_by_one(item, join):
    z, mask, frequency = histories()
    both = towers.TwoTowers(towers.DenseTower((4, 3)), item, join)
    z_item = jnp.asarray(np.random.default_rng(1).normal(size=(len(LENGTHS), 3)), jnp.float32)
    params = both.init(jax.random.key(0), z, mask, z_item, frequency)
    queries = both.apply(params, z, mask, frequency, method="query")
    items = both.apply(params, z_item, method="items")
    cross = both.apply(params, queries, items, method="cross")
    np.testing.assert_allclose(
        jnp.diagonal(cross), both.apply(params, z, mask, z_item, frequency), rtol=1e-5, atol=1e-6
    )
    if item is None and join is None:
        np.testing.assert_allclose(cross, queries @ z_item.T, rtol=1e-5, atol=1e-6)


def test_discount_from():
    np.testing.assert_allclose(towers.discount_from(0.2, 100.0), 0.04)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda *a: towers.discount_from(1.0, 3.0), r"lam must be in \(0, 1\); got 1.0"),
        (lambda *a: towers.discount_from(0.5, 0.0), "z must be positive and finite; got 0.0"),
        (lambda z, m, p: run(towers.DiscountedAverage(0.1), z, m), "needs the frequency"),
        (lambda *a: run(towers.DiscountedAverage(-0.1), *a), "alpha must be positive; got -0.1"),
        (lambda *a: run(towers.GruTower(()), *a), "hidden must name at least one width"),
        (lambda *a: run(towers.SelfAttentionTower((6,), heads=4), *a), "heads must divide"),
        (
            lambda z, m, p: run(towers.TwoTowers(towers.DenseTower((4, 2))), z, m, z[:, 0]),
            "one width; the sequence tower gives 2, the item tower 3",
        ),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call(*histories())


def run(module: nn.Module, *inputs):
    return module.init(jax.random.key(0), *inputs)


@pytest.mark.parametrize(
    "module",
    [towers.DenseTower((-3, 4)), towers.GruTower((0,)), towers.SelfAttentionTower((4, 0))],
    ids=lambda module: type(module).__name__,
)
def test_widths_below_one_are_refused(module):
    with pytest.raises(ValueError, match="hidden must be widths of at least 1"):
        module.init(jax.random.key(0), jnp.zeros((1, 2, 3)), jnp.ones((1, 2), bool))
