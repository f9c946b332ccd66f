"""Encoders: Flax modules from raw inputs to embeddings."""

import flax.linen as nn
import jax.numpy as jnp

from kernlens.types import Array


class Lookup(nn.Module):
    r"""One free vector per item, :math:`\phi(i) = E_{i\cdot}`.

    Attributes:
      num_items: rows of the table.
      dim: embedding dimension d.
      scale: entries start as :math:`N(0, scale^2 / d)`, so norms start near ``scale``.

    Examples:
      >>> import jax
      >>> encoder = Lookup(num_items=100, dim=8)
      >>> params = encoder.init(jax.random.key(0), jnp.array([0]))
      >>> encoder.apply(params, jnp.array([[3, 5], [5, 7]])).shape
      (2, 2, 8)
    """

    num_items: int
    dim: int
    scale: float = 0.1

    @nn.compact
    def __call__(self, items: Array) -> Array:
        """Embeds ids.

        Args:
          items: item ids in ``0..num_items-1``, any shape; an id outside is clipped into range.

        Returns:
          Embeddings, ``[*items.shape, dim]``.
        """
        table = self.param(
            "table",
            nn.initializers.normal(self.scale / self.dim**0.5),
            (self.num_items, self.dim),
            jnp.float32,
        )
        return table.at[items].get(mode="clip")
