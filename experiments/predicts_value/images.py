"""Embeddings of Fashion-MNIST's product images: projections, random filters, a trained encoder."""

import gzip
import struct
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.predicts_value.settings import Config

SIDE, PRETRAINED, BATCH, STEPS = 28, 20_000, 256, 400
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")


class Encoder(nn.Module):
    """Two convolutions and a dense layer; ``dim`` columns."""

    dim: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Rows ``[n, dim]`` of images ``[n, 28, 28]``."""
        x = nn.relu(nn.Conv(16, (3, 3), strides=2)(x[..., None]))
        x = nn.relu(nn.Conv(32, (3, 3), strides=2)(x))
        return nn.Dense(self.dim)(x.reshape(len(x), -1))


def fashion(config: Config, cells: Any) -> Any:
    """Images in ten classes; the encoder is pretrained on images that are not among the rows."""
    if config.fashion_mnist is None:
        cells.tell("Fashion-MNIST: no folder given with --fashion-mnist; left out")
        return None
    images, codes = (read_idx(config.fashion_mnist, name) for name in FILES)
    pixels = images.astype(np.float32) / 255.0
    rng = np.random.default_rng(config.seed)
    order = rng.permutation(len(pixels))
    rows, others = np.sort(order[: config.rows]), order[config.rows :][:PRETRAINED]
    made = cells.arrays(
        "Fashion-MNIST: contrastive encoder",
        lambda: contrastive(pixels[others], pixels[rows], config.seed),
    )
    x = pixels[rows]
    flat = x.reshape(len(x), -1)
    left, singular, _ = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    turned = left * singular
    return {
        "PCA 64": turned[:, :64],
        "PCA 16": turned[:, :16],
        "PCA 4": turned[:, :4],
        "pooled pixels": x.reshape(len(x), 7, 4, 7, 4).mean(axis=(2, 4)).reshape(len(x), -1),
        "random filters": random_filters(x, rng),
        "edges": edges(x),
        "contrastive": made["late"],
        "contrastive, early": made["early"],
    }, codes[rows]


def read_idx(folder: Path, name: str) -> np.ndarray:
    """An array from an idx file, packed by gzip or not.

    Raises:
      FileNotFoundError: the folder has neither.
      ValueError: not an idx file of unsigned bytes.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            break
    else:
        raise FileNotFoundError(f"no {name} or {name}.gz in {folder}")
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an idx file of unsigned bytes")
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def random_filters(x: np.ndarray, rng: np.random.Generator, count: int = 32) -> np.ndarray:
    """Rectified responses to random 5 x 5 filters, pooled to 2 x 2 fields."""
    filters = rng.standard_normal((5, 5, count)).astype(np.float32)
    filters -= filters.mean(axis=(0, 1))
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))
    found = np.maximum(np.tensordot(windows, filters, ((3, 4), (0, 1))), 0.0)
    return found.reshape(len(x), 2, 12, 2, 12, count).mean(axis=(2, 4)).reshape(len(x), -1)


def edges(x: np.ndarray, angles: int = 4) -> np.ndarray:
    """Histograms of gradient directions in 4 x 4 fields."""
    down, along = np.gradient(x, axis=(1, 2))
    size = np.hypot(down, along)
    place = np.floor(np.mod(np.arctan2(down, along), np.pi) / np.pi * angles).astype(int) % angles
    fields = [
        np.where(place == a, size, 0.0).reshape(len(x), 4, 7, 4, 7).mean(axis=(2, 4))
        for a in range(angles)
    ]
    return np.stack(fields, axis=-1).reshape(len(x), -1)


def contrastive(pixels: np.ndarray, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Embeddings of ``rows`` by an encoder trained on two moved views of each of ``pixels``.

    Views are shifted by up to 3 pixels, mirrored, and scaled in brightness; the loss is InfoNCE at
    temperature 0.2 within a batch. ``early`` is the encoder after a twentieth of the steps.
    """
    encoder, optimizer = Encoder(), optax.adam(1e-3)
    params = encoder.init(jax.random.key(seed), jnp.zeros((1, SIDE, SIDE)))
    state, rng = optimizer.init(params), np.random.default_rng(seed)

    def loss(params: Any, views: jax.Array) -> jax.Array:
        z: Any = encoder.apply(params, views)
        z = z / jnp.sqrt(jnp.sum(z**2, axis=1, keepdims=True) + 1e-6)
        first, second = jnp.split(z, 2)
        logits = first @ second.T / 0.2
        own = jnp.arange(len(first))
        both = jnp.concatenate([logits, logits.T])
        losses = optax.softmax_cross_entropy_with_integer_labels(both, jnp.tile(own, 2))
        return 2.0 * jnp.mean(losses)

    @jax.jit
    def step(params: Any, state: Any, views: jax.Array) -> tuple[Any, Any]:
        update, state = optimizer.update(jax.grad(loss)(params, views), state)
        return optax.apply_updates(params, update), state

    embed = jax.jit(encoder.apply)
    early = None
    for i in range(STEPS):
        drawn = pixels[rng.integers(len(pixels), size=BATCH)]
        views = np.concatenate([moved(drawn, rng), moved(drawn, rng)])
        params, state = step(params, state, views)
        if i + 1 == STEPS // 20:
            early = np.asarray(embed(params, rows))
    assert early is not None
    return {"late": np.asarray(embed(params, rows)), "early": early}


def moved(x: np.ndarray, rng: np.random.Generator, reach: int = 3) -> np.ndarray:
    """Views of images: shifted, mirrored, of another brightness."""
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2))
    at = rng.integers(2 * reach + 1, size=(2, len(x)))
    found = windows[np.arange(len(x)), at[0], at[1]]
    mirrored = np.where(rng.random((len(x), 1, 1)) < 0.5, found[:, :, ::-1], found)
    return mirrored * rng.uniform(0.6, 1.4, (len(x), 1, 1)).astype(np.float32)
