"""Towers: Flax modules from the embeddings of a history or an item to one vector; pairs of them.

A sequence tower is called ``tower(z [..., L, d], mask [..., L], frequency=None [..., L])`` and
gives ``[..., h]``. The latest item stands in the last column, padding on the left; what ``z``
holds at padding is never read. A history of padding alone is the zero vector, and has a zero
gradient.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kernlens.types import Array


def discount_from(lam: float, z: float) -> float:
    r"""The discount of proposition 2, :math:`\alpha = (1 - \lambda) / (\lambda Z)`.

    Args:
      lam: share of choices that follow popularity, :math:`\lambda` in ``(0, 1)``.
      z: partition function :math:`Z > 0`, the sum over items of :math:`e^{\langle\phi(x),
        \phi(s)\rangle}`, near the number of items where products are small.

    Returns:
      :math:`\alpha > 0`.

    Raises:
      ValueError: an argument out of range.

    References:
      Xu and Yang (2023), proposition 2.
    """
    if not 0 < lam < 1:
        raise ValueError(f"lam must be in (0, 1); got {lam}")
    if not 0 < z < float("inf"):
        raise ValueError(f"z must be positive and finite; got {z}")
    return (1 - lam) / (lam * z)


def masked_mean(z: Array, mask: Array, weights: Array | None = None) -> Array:
    """Mean over the places where ``mask`` is True, weighted; zeros where there is none.

    Args:
      z: ``[..., L, d]``.
      mask: bool ``[..., L]``.
      weights: non-negative, ``[..., L]``; None is 1.

    Returns:
      Means, ``[..., d]``.
    """
    w = mask.astype(z.dtype) if weights is None else jnp.where(mask, weights.astype(z.dtype), 0)
    total = jnp.sum(w, -1)
    shares = w / jnp.where(total > 0, total, 1)[..., None]
    return jnp.einsum("...l,...ld->...d", shares, jnp.where(mask[..., None], z, 0))


class DenseLayers(nn.Module):
    """Dense layers with ReLU between them and none after the last; no layer is the identity.

    Inside a tower its parameters are named ``Mlp_0``; Flax draws initial values by name.

    Attributes:
      hidden: widths, the last one that of the output.
    """

    hidden: tuple[int, ...] = (32, 16)

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """``[..., d]`` to ``[..., hidden[-1]]``; ValueError for a width below 1."""
        _check_widths(self.hidden)
        for i, width in enumerate(self.hidden):
            z = nn.Dense(width)(z if i == 0 else nn.relu(z))
        return z


class MeanPool(nn.Module):
    """Mean of the history."""

    @nn.compact
    def __call__(self, z: Array, mask: Array, frequency: Array | None = None) -> Array:
        """Reads histories; see the module for shapes."""
        return masked_mean(z, mask)


class DiscountedAverage(nn.Module):
    r"""Discounted average, :math:`\sum_i \frac{\alpha}{\alpha + p_0(x_i)} \phi(x_i)`.

    Attributes:
      alpha: :math:`\alpha > 0`, in the unit of a share of all interactions, as `discount_from`
        gives.
      normalise: divide by the sum of the weights. Proposition 2 leaves the scale of a history
        open; its ranking by inner products is the same either way.

    References:
      Xu and Yang (2023), proposition 2.
    """

    alpha: float = 1e-3
    normalise: bool = True

    @nn.compact
    def __call__(self, z: Array, mask: Array, frequency: Array | None = None) -> Array:
        """Reads histories; ``frequency`` is :math:`p_0` of each item in them, in ``[0, 1]``."""
        if not self.alpha > 0:
            raise ValueError(f"alpha must be positive; got {self.alpha}")
        if frequency is None:
            raise ValueError("DiscountedAverage needs the frequency of each item; got None")
        weights = self.alpha / (self.alpha + jnp.where(mask, frequency, 1).astype(z.dtype))
        if self.normalise:
            return masked_mean(z, mask, weights)
        kept = jnp.where(mask[..., None], z, 0)
        return jnp.einsum("...l,...ld->...d", jnp.where(mask, weights, 0), kept)


class DenseTower(nn.Module):
    """Mean of the history, then dense layers.

    Attributes:
      hidden: their widths, as in `DenseLayers`.
    """

    hidden: tuple[int, ...] = (32, 16)

    @nn.compact
    def __call__(self, z: Array, mask: Array, frequency: Array | None = None) -> Array:
        """Reads histories; see the module for shapes."""
        return _zero_if_empty(DenseLayers(self.hidden, name="Mlp_0")(masked_mean(z, mask)), mask)


class GruTower(nn.Module):
    r"""Gated recurrent unit from the oldest item to the latest, then dense layers.

    :math:`r, u = \sigma(W x + b + U h)`, :math:`c = \tanh(W_c x + b_c + r (U_c h + b'_c))`,
    :math:`h \leftarrow u h + (1 - u) c`; padding leaves :math:`h = 0`.

    Attributes:
      hidden: width of the state, then widths of dense layers as in `DenseLayers`, with a ReLU
        on the state where there are any.

    References:
      Cho et al. (2014), with the reset gate after the product.
    """

    hidden: tuple[int, ...] = (32, 16)

    @nn.compact
    def __call__(self, z: Array, mask: Array, frequency: Array | None = None) -> Array:
        """Reads histories; see the module for shapes."""
        size = _first(self.hidden)
        inputs = nn.Dense(3 * size, name="input")(jnp.where(mask[..., None], z, 0))
        recurrent = self.param("recurrent", _stacked_orthogonal, (size, 3 * size), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (size,), jnp.float32)
        dtype = jnp.result_type(inputs, recurrent)
        recurrent, bias = recurrent.astype(dtype), bias.astype(dtype)

        def step(h: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
            x, there = now
            product = h @ recurrent
            gates = jax.nn.sigmoid(x[..., : 2 * size] + product[..., : 2 * size])
            reset, update = gates[..., :size], gates[..., size:]
            candidate = jnp.tanh(x[..., 2 * size :] + reset * (product[..., 2 * size :] + bias))
            new = update * h + (1 - update) * candidate
            return jnp.where(there[..., None], new, h), None

        start = jnp.zeros((*z.shape[:-2], size), dtype)
        steps = (jnp.moveaxis(inputs.astype(dtype), -2, 0), jnp.moveaxis(mask, -1, 0))
        state, _ = jax.lax.scan(step, start, steps)
        return _zero_if_empty(_readout(self.hidden, state), mask)


class SelfAttentionTower(nn.Module):
    """Self-attention over the history with residual connections, then dense layers.

    Attributes:
      hidden: width of the attention, then widths of dense layers as in `DenseLayers`, with a
        ReLU on the attention's output where there are any.
      heads: attention heads; divides ``hidden[0]``.
      layers: attention layers.
      causal: an item sees what stood before it and itself, and the last item is read out;
        otherwise all see all, and the mean is read out. With one layer, causal is attention of the
        last item alone.
      max_length: number of positions, counted from the latest item; older items share the last.
    """

    hidden: tuple[int, ...] = (32, 16)
    heads: int = 1
    layers: int = 1
    causal: bool = False
    max_length: int = 64

    @nn.compact
    def __call__(self, z: Array, mask: Array, frequency: Array | None = None) -> Array:
        """Reads histories; see the module for shapes."""
        size, length = _first(self.hidden), z.shape[-2]
        if size % self.heads:
            raise ValueError(f"heads must divide hidden[0] = {size}; got {self.heads}")
        shape = (self.max_length, size)
        table = self.param("position", nn.initializers.normal(0.02), shape, jnp.float32)
        age = jnp.minimum(jnp.arange(length - 1, -1, -1), self.max_length - 1)
        x = nn.Dense(size, name="input")(jnp.where(mask[..., None], z, 0))
        x = x + table[age].astype(x.dtype)
        sees = mask[..., None, None, :]
        if self.causal:
            sees = sees & jnp.tril(jnp.ones((length, length), bool))
        for layer in range(self.layers):
            x = x + self._attention(x, sees, layer)
        state = x[..., -1, :] if self.causal else masked_mean(x, mask)
        return _zero_if_empty(_readout(self.hidden, state), mask)

    def _attention(self, x: Array, sees: Array, layer: int) -> Any:
        width = x.shape[-1] // self.heads
        joint = nn.Dense(3 * x.shape[-1], name=f"attention_{layer}")(x)
        q, k, v = jnp.split(joint.reshape(*x.shape[:-1], 3 * self.heads, width), 3, axis=-2)
        logits = jnp.einsum("...qhw,...khw->...hqk", q, k) / width**0.5
        # Finite, so that a row of padding alone has finite shares and gradients.
        shares = jax.nn.softmax(jnp.where(sees, logits, jnp.asarray(-1e9, logits.dtype)), -1)
        mixed = jnp.einsum("...hqk,...khw->...qhw", shares, v).reshape(x.shape)
        return nn.Dense(x.shape[-1], name=f"output_{layer}")(mixed)


class Concatenation(nn.Module):
    """Pair decoder: dense layers with ReLU on the two vectors end to end, down to one number.

    The first layer is the sum of one for each side, so that a side that many pairs share is
    multiplied once.

    Attributes:
      hidden: widths of the hidden layers, at least one.
    """

    hidden: tuple[int, ...] = (32, 16)

    @nn.compact
    def __call__(self, z1: Array, z2: Array) -> Array:
        """Scores pairs; ``z1 [..., h1]`` and ``z2 [..., h2]`` broadcast, the result ``[...]``."""
        size = _first(self.hidden)
        first = nn.Dense(size, name="query")(z1) + nn.Dense(size, use_bias=False, name="item")(z2)
        return jnp.squeeze(DenseLayers((*self.hidden[1:], 1), name="Mlp_0")(nn.relu(first)), -1)


class TwoTowers(nn.Module):
    """A sequence tower and an item tower, joined to scores.

    Attributes:
      sequence: the tower of histories.
      item: module from item embeddings ``[..., d]`` to ``[..., h]``; None takes them as they are.
      join: pair decoder ``(z1, z2) -> [...]``; None is the inner product, which needs both towers
        to give vectors of one width.
    """

    sequence: nn.Module
    item: nn.Module | None = None
    join: nn.Module | None = None

    def query(self, z: Array, mask: Array, frequency: Array | None = None) -> Any:
        """Vectors of histories, ``[..., h]``."""
        return self.sequence(z, mask, frequency)

    def items(self, z: Array) -> Any:
        """Vectors of items ``[..., d]``, ``[..., h]``."""
        return z if self.item is None else self.item(z)

    def pair(self, queries: Array, items: Array) -> Any:
        """Scores of pairs of vectors, ``[..., h]`` each, which broadcast."""
        if self.join is not None:
            return self.join(queries, items)
        self._check_widths(queries, items)
        return jnp.sum(queries * items, -1)

    def cross(self, queries: Array, items: Array) -> Any:
        """Scores of all pairs of ``[n, h]`` and ``[m, h]``, ``[n, m]``."""
        if self.join is not None:
            return self.join(queries[:, None], items[None])
        self._check_widths(queries, items)
        return queries @ items.T

    def __call__(self, z: Array, mask: Array, z_item: Array, frequency: Array | None = None) -> Any:
        """Scores one item ``[..., d]`` for each history, ``[...]``."""
        return self.pair(self.query(z, mask, frequency), self.items(z_item))

    def _check_widths(self, queries: Array, items: Array) -> None:
        if queries.shape[-1] != items.shape[-1]:
            raise ValueError(
                "an inner product needs two vectors of one width; the sequence tower gives "
                f"{queries.shape[-1]}, the item tower {items.shape[-1]}: give "
                "item=DenseLayers(...) the widths of the sequence tower, or a join"
            )


def _stacked_orthogonal(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Any:
    """Three square orthogonal blocks side by side."""
    one = nn.initializers.orthogonal()
    keys = jax.random.split(key, 3)
    return jnp.concatenate([one(k, (shape[0], shape[0]), dtype) for k in keys], axis=1)


def _first(hidden: tuple[int, ...]) -> int:
    if not hidden:
        raise ValueError("hidden must name at least one width; got ()")
    _check_widths(hidden)
    return hidden[0]


def _check_widths(hidden: tuple[int, ...]) -> None:
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden must be widths of at least 1; got {hidden}")


def _readout(hidden: tuple[int, ...], state: Array) -> Array:
    return DenseLayers(hidden[1:], name="Mlp_0")(nn.relu(state)) if hidden[1:] else state


def _zero_if_empty(vectors: Array, mask: Array) -> Array:
    return jnp.where(jnp.any(mask, -1)[..., None], vectors, 0)


TOWERS = {
    "mean": MeanPool,
    "discounted": DiscountedAverage,
    "dense": DenseTower,
    "gru": GruTower,
    "attention": SelfAttentionTower,
}
