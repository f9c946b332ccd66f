"""Tables of item embeddings for towers: on one scale, with a flag for items without a vector."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from kernlens.train import sampling
from kernlens.types import Array


class Tables(NamedTuple):
    """Item embeddings as towers read them.

    Attributes:
      values: float32 ``[tables, num_items, d]``, 0 for a cold item.
      cold: items that have no embedding, bool ``[num_items]``.
    """

    values: Array
    cold: np.ndarray


def read(embeddings: np.ndarray | Array, *, standardise: bool) -> Tables:
    r"""Tables from what a user gives.

    Standardised, a table has the mean of its warm rows taken out and is divided by one number, the
    root mean square of what is left: towers then see :math:`c\,z + b` as :math:`z` itself, for any
    :math:`c > 0` and :math:`b`, and the kernel of the centred table stays what it was up to a
    factor. One number a column makes no significant difference where columns are of one kind: on
    Complete Journey dense towers reach recall@10 of 0.0858 and 0.0856 with one number a column,
    0.0829 and 0.0849 with one in all (item2vec, window 8), 0.0863 and 0.0845 against 0.0858 and
    0.0828 (window 2), two seeds each. Columns of different units are for the caller to standardise.

    Args:
      embeddings: ``[num_items, d]`` or ``[tables, num_items, d]``; a row of NaN is a cold item.
      standardise: whether to; otherwise the values stay as they are.

    Returns:
      The tables.

    Raises:
      ValueError: another shape, nothing in it, a value that is not finite outside of a row of NaN,
        tables that lack different items, or no warm item.
    """
    tables = np.array(embeddings, np.float64)
    if tables.ndim == 2:
        tables = tables[None]
    if tables.ndim != 3 or tables.size == 0:
        raise ValueError(
            "embeddings must be [num_items, d] or [tables, num_items, d], none of them empty; got "
            f"shape {np.shape(embeddings)}"
        )
    absent = np.all(np.isnan(tables), axis=2)
    wrong = ~np.isfinite(tables) & ~absent[:, :, None]
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            "embeddings must be finite, or NaN in a whole row for an item that has none; got "
            f"{tables[place]} at {place}"
        )
    cold = absent[0]
    if np.any(absent != cold):
        table, item = np.argwhere(absent != cold)[0]
        raise ValueError(
            "tables that are trained together must lack the same items; table 0 and table "
            f"{table} differ in item {item}: train them one by one"
        )
    if cold.all():
        raise ValueError("embeddings must have a finite row at least; got NaN in all")
    warm = tables[:, ~cold]
    if standardise:
        warm = warm - warm.mean(axis=1, keepdims=True)
        size = np.sqrt(np.mean(warm**2, axis=(1, 2), keepdims=True))
        warm = warm / np.where(size > 0, size, 1)
    values = np.zeros(tables.shape, np.float32)
    values[:, ~cold] = warm
    return Tables(jnp.asarray(values), cold)


def noise_without(noise: sampling.Noise, cold: np.ndarray) -> sampling.Noise:
    """Noise from which cold items are never drawn, else as it was.

    Args:
      noise: over all items.
      cold: which items have no embedding, a mask ``[num_items]``.

    Returns:
      Noise over the same ids.
    """
    widths = np.where(cold, 0, np.diff(np.asarray(noise.starts)))
    owners = np.repeat(np.arange(len(cold), dtype=np.int32), widths)
    starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    return sampling.Noise(jnp.asarray(starts), jnp.asarray(owners))


def log_prior(target: np.ndarray, noise: sampling.Noise, negatives: int) -> np.ndarray:
    r"""Item biases under which a recommender that knows nothing of histories is right.

    Among one target and :math:`k` negatives of chances :math:`q` the best score is
    :math:`\log p_j - \log k q_j`, with :math:`p_j` the item's share of the targets, one added to
    each count. So training starts from popularity and spends no epoch on learning it.

    Args:
      target: target of the training examples, ``[n]``.
      noise: the distribution of negatives.
      negatives: :math:`k`.

    Returns:
      Biases, float32 ``[num_items]``; 0 for an item that is never drawn, a cold one.

    References:
      Gutmann and Hyvärinen (2012), equation 5, for the ratio that noise-contrastive losses learn.
    """
    widths = np.diff(np.asarray(noise.starts))
    warm = widths > 0
    chance = (np.bincount(target, minlength=len(widths)) + 1) / (len(target) + np.sum(warm))
    drawn = negatives * np.where(warm, widths, 1) / widths.sum()
    return np.where(warm, np.log(chance / drawn), 0).astype(np.float32)
