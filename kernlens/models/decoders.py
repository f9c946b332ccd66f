"""Decoders: Flax modules from embeddings, or pairs of them, to logits.

A pair decoder scores two embeddings, ``decoder(z1, z2) -> logits``; a head reads one,
``head(z) -> logits``. Each has a kernel: the tangent kernel of the decoder on top of the embedding.
:class:`Neighbours` compares rows and has no logits.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from kernlens.types import Array


class InnerProduct(nn.Module):
    r"""Pair decoder :math:`\langle z, z'\rangle`, the one item2vec trains with.

    Attributes:
      priors: whether a head of classes, which scores a row by its inner products with the class
        means, adds the log of each class's share.

    References:
      Xu and Yang (2023), section 3.
    """

    priors: bool = False

    @nn.compact
    def __call__(self, z1: Array, z2: Array) -> Array:
        """Scores pairs; ``z1`` and ``z2`` are ``[..., d]`` and broadcast, the result ``[...]``."""
        return jnp.sum(z1 * z2, axis=-1)


class Cosine(nn.Module):
    r"""Pair decoder :math:`\langle z, z'\rangle / (\tau \|z\| \|z'\|)`.

    Attributes:
      temperature: :math:`\tau > 0`.
      eps: floor on squared norms; a zero vector scores 0 with a finite gradient.
      priors: as for :class:`InnerProduct`, of cosines times ``1 / temperature``.
    """

    temperature: float = 0.1
    eps: float = 1e-12
    priors: bool = False

    @nn.compact
    def __call__(self, z1: Array, z2: Array) -> Array:
        """Scores pairs; ``z1`` and ``z2`` are ``[..., d]`` and broadcast, the result ``[...]``."""
        squares = jnp.maximum(jnp.sum(z1**2, -1), self.eps) * jnp.maximum(
            jnp.sum(z2**2, -1), self.eps
        )
        return jnp.sum(z1 * z2, axis=-1) / (self.temperature * jnp.sqrt(squares))


class Linear(nn.Module):
    """Head ``W z + b``: logistic regression under a softmax loss.

    Attributes:
      num_outputs: number of logits C; whoever trains the head sets it from the task.
      use_bias: whether ``b`` is there.
    """

    num_outputs: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Logits ``[..., num_outputs]`` of embeddings ``[..., d]``."""
        return nn.Dense(
            self.num_outputs, use_bias=self.use_bias, kernel_init=nn.initializers.zeros
        )(z)


class Mlp(nn.Module):
    """Head with hidden ReLU layers.

    Attributes:
      hidden: width of the hidden layer; of several in turn, a tuple.
      num_outputs: number of logits C; whoever trains the head sets it from the task.
    """

    hidden: int | tuple[int, ...] = 32
    num_outputs: int = 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers, first to last."""
        return (self.hidden,) if isinstance(self.hidden, int) else tuple(self.hidden)

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Logits ``[..., num_outputs]`` of embeddings ``[..., d]``."""
        last = nn.Dense(self.num_outputs)  # made first: names, and so initial values, follow order
        for width in self.widths:
            z = nn.relu(nn.Dense(width)(z))
        return last(z)


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Classifier by the nearest rows; it has no parameters, and nothing to train.

    Attributes:
      k: number of neighbours; None for the best on held-out rows.
      metric: ``"euclidean"``, or ``"cosine"`` where the length of a row says nothing of its class.
      standardised: whether columns are first brought to mean 0 and standard deviation 1. The
        default reads them as they are, as ``KNeighborsClassifier`` does; then a column of large
        scale decides.
    """

    k: int | None = None
    metric: str = "euclidean"
    standardised: bool = False

    def __post_init__(self):
        if self.k is not None and not (isinstance(self.k, int) and self.k >= 1):
            raise ValueError(f"k must be a whole number of 1 or more, or None; got {self.k!r}")
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric must be 'euclidean' or 'cosine'; got {self.metric!r}")


PAIR_DECODERS = {"inner_product": InnerProduct, "cosine": Cosine}
HEADS = {"linear": Linear, "mlp": Mlp}
