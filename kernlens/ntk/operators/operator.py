"""The kernel matrix as a linear operator: products without the matrix.

An operator is a pytree, so it passes through ``jit`` as an argument; what fixes shapes (block
size, dtype) is static. It is a registered dataclass rather than a NamedTuple for that reason alone.
Its products are compiled, once for operators of the same kernel function and shapes.
"""

import dataclasses
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from kernlens.ntk import checks
from kernlens.types import Array, Kernel


class Operator(Protocol):
    """What a solver needs of a kernel matrix ``K [N1, N2]``."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(N1, N2)``."""
        ...

    @property
    def dtype(self) -> Any:
        """Dtype of the entries."""
        ...

    def matvec(self, v: Array) -> Array:
        """``K v``, for ``v [N2]`` or ``[N2, m]``."""
        ...

    def column(self, index: Array) -> Array:
        """Column ``index`` of ``K``, ``[N1]``."""
        ...

    def diagonal(self) -> Array:
        """The diagonal of a symmetric ``K``, ``[N1]``."""
        ...

    def at(self, x: Any) -> "Operator":
        """The operator ``k(x, x2)`` of the same kernel: rows at ``x``, columns as they are."""
        ...


def from_kernel(kernel: Kernel, x1: Any, x2: Any = None, *, block_size: int = 1024) -> Operator:
    """The matrix of a kernel function as an operator, multiplied tile by tile.

    A product evaluates every kernel value once, or for a symmetric matrix one half of them, each
    tile serving both of its places. Memory is one tile and the vectors; the last tiles pad.

    Args:
      kernel: ``(x1, x2) -> [n1, n2]``, of one pair of rows an entry. Hyperparameters that change
        under ``jit`` or ``grad`` go in a :class:`jax.tree_util.Partial`.
      x1: rows, a pytree of arrays with a common leading axis ``n1``.
      x2: rows of the columns, of the same structure; None for the symmetric ``k(x1, x1)``.
      block_size: rows of a tile, at least 1.

    Returns:
      An operator of shape ``(n1, n2)``.

    Raises:
      ValueError: no rows, rows that do not agree or are not finite, a block size below 1, or a
        kernel that does not return ``[n1, n2]`` real numbers.
    """
    check_block_size(block_size)
    x1 = as_rows(x1, "x1")
    x2 = None if x2 is None else as_rows(x2, "x2")
    for x, name in ((x1, "x1"), (x2, "x2")):
        checks.check_inputs(x, name)
    kernel = kernel if isinstance(kernel, Partial) else Partial(kernel)
    columns = x1 if x2 is None else x2
    block = check_kernel(kernel, x1, columns)
    if len(block.shape) > 2:
        raise ValueError(f"kernel(x1, x2) must return [n1, n2]; got output axes {block.shape[2:]}")
    shape = (num_rows(x1), num_rows(columns))
    return _KernelOperator(
        kernel, x1, x2, shape=shape, dtype=jnp.dtype(block.dtype), block_size=block_size
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _KernelOperator:
    kernel: Partial
    x1: Any
    x2: Any
    shape: tuple[int, int] = dataclasses.field(metadata={"static": True})
    dtype: Any = dataclasses.field(metadata={"static": True})
    block_size: int = dataclasses.field(metadata={"static": True})

    @jax.jit
    def matvec(self, v: Array) -> Array:
        check_vector(self, v)
        symmetric = self.x2 is None
        tiles1 = tiles(self.x1, self.block_size)
        tiles2 = tiles1 if symmetric else tiles(self.x2, self.block_size)
        vectors = zero_tiles(v.reshape(self.shape[1], -1), self.block_size)
        counts = [jax.tree.leaves(t)[0].shape[:2] for t in (tiles1, tiles2)]
        (count1, size1), (count2, _) = counts
        i, j = np.triu_indices(count1) if symmetric else np.indices((count1, count2)).reshape(2, -1)

        def step(product: Array, place: tuple[Array, Array]) -> tuple[Array, None]:
            i, j = place
            tile = self.kernel(_take(tiles1, i), _take(tiles2, j))
            product = product.at[i].add(_matmul(tile, vectors[j]))
            if symmetric:
                mirrored = _matmul(tile.T, vectors[i])
                product = product.at[j].add(jnp.where(i == j, 0.0, mirrored))
            return product, None

        start = jnp.zeros((count1, size1, vectors.shape[-1]), self.dtype)
        product, _ = jax.lax.scan(step, start, (jnp.asarray(i), jnp.asarray(j)))
        return product.reshape(count1 * size1, -1)[: self.shape[0]].reshape(-1, *v.shape[1:])

    @jax.jit
    def column(self, index: Array) -> Array:
        row = jax.tree.map(lambda leaf: leaf[index][None], self.x1 if self.x2 is None else self.x2)
        blocks = jax.lax.map(lambda tile: self.kernel(tile, row)[:, 0], self._tiles1())
        return blocks.reshape(-1)[: self.shape[0]]

    @jax.jit
    def diagonal(self) -> Array:
        check_square(self, "the diagonal")

        def own(row: Any) -> Array:
            one = jax.tree.map(lambda leaf: leaf[None], row)
            return self.kernel(one, one)[0, 0]

        return jax.lax.map(jax.vmap(own), self._tiles1()).reshape(-1)[: self.shape[0]]

    def at(self, x: Any) -> Operator:
        columns = self.x1 if self.x2 is None else self.x2
        return from_kernel(self.kernel, x, columns, block_size=self.block_size)

    def _tiles1(self) -> Any:
        return tiles(self.x1, self.block_size)


def as_rows(x: Any, name: str) -> Any:
    """The pytree with device arrays for leaves, checked by :func:`check_rows`."""
    x = jax.tree.map(jnp.asarray, x)
    check_rows(x, name)
    return x


def check_rows(x: Any, name: str) -> None:
    """Refuses a pytree that is not one of rows.

    Raises:
      ValueError: no array, no rows, or leaves of different lengths.
    """
    shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
    if not shapes or any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(f"{name}: expected arrays with a common leading axis; got shapes {shapes}")
    if shapes[0][0] == 0:
        raise ValueError(f"{name}: expected at least one row; got shapes {shapes}")


def num_rows(x: Any) -> int:
    """Length of the leading axis."""
    return jax.tree.leaves(x)[0].shape[0]


def tiles(x: Any, size: int) -> Any:
    """Rows in tiles, ``[count, min(size, n), ...]``; the last one repeats the last row.

    A repeated row is a valid input for any function of rows, ids included, where zeros may not be.
    """
    n = num_rows(x)
    size = min(size, n)

    def tiled(leaf: Array) -> Array:
        last = jnp.broadcast_to(leaf[-1:], (-n % size, *leaf.shape[1:]))
        return jnp.concatenate([leaf, last]).reshape(-1, size, *leaf.shape[1:])

    return jax.tree.map(tiled, x)


def zero_tiles(v: Array, size: int) -> Array:
    """A vector in the tiles of :func:`tiles`, padded with zeros, so that padding adds nothing."""
    size = min(size, v.shape[0])
    padded = jnp.pad(v, [(0, -v.shape[0] % size)] + [(0, 0)] * (v.ndim - 1))
    return padded.reshape(-1, size, *v.shape[1:])


def check_block_size(block_size: int) -> None:
    """Refuses a block of no rows."""
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1; got {block_size}")


def check_kernel(kernel: Kernel, x1: Any, x2: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a kernel's block of 2 and 3 rows, found without evaluating it.

    Raises:
      ValueError: the block is not ``[2, 3, ...]`` real numbers.
    """
    block = jax.eval_shape(kernel, like_rows(x1, 2), like_rows(x2, 3))
    shape, dtype = getattr(block, "shape", ()), getattr(block, "dtype", bool)
    if shape[:2] != (2, 3) or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"kernel(x1, x2) of 2 and 3 rows must return floats of shape (2, 3); got {block}"
        )
    return block


def like_rows(x: Any, n: int) -> Any:
    """Shapes and dtypes of ``n`` rows as they are on the device."""

    def like(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((n, *leaf.shape[1:]), jnp.result_type(leaf.dtype))

    return jax.tree.map(like, x)


def check_square(operator: Operator, what: str) -> None:
    """Refuses a rectangular operator where a symmetric one is needed."""
    if operator.shape[0] != operator.shape[1]:
        raise ValueError(f"{what} needs a symmetric operator; got one of shape {operator.shape}")


def check_vector(operator: Operator, v: Array) -> None:
    """Asserts that an operator can be applied to ``v``."""
    chex.assert_rank(v, {1, 2})
    chex.assert_axis_dimension(v, 0, operator.shape[1])
    chex.assert_type(v, operator.dtype)


def _take(tiled: Any, index: Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tiled)


def _matmul(tile: Array, v: Array) -> Array:
    return jnp.matmul(tile, v, precision="highest")
