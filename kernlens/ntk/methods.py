"""Ways to compute a tangent kernel, and why one was taken."""

from enum import Enum, IntEnum
from typing import Literal, NamedTuple, TypeAlias

from kernlens.ntk import structured


class NtkImplementation(IntEnum):
    """Ways to compute the kernel, under the names and numbers that neural-tangents gives them."""

    AUTO = 0
    JACOBIAN_CONTRACTION = 1
    NTK_VECTOR_PRODUCTS = 2
    STRUCTURED_DERIVATIVES = 3


class Method(Enum):
    """Ways to compute the kernel.

    ``AUTO`` takes the cheapest by the operations that the shapes imply; ``STRUCTURED`` the
    cheapest contraction of factors for each leaf; ``JACOBIAN`` contracts exact per-example
    Jacobians of all leaves; ``VECTOR_PRODUCTS`` multiplies the kernel with unit vectors.
    """

    AUTO = "auto"
    STRUCTURED = "structured"
    JACOBIAN = "jacobian"
    VECTOR_PRODUCTS = "vector_products"


MethodName: TypeAlias = (
    Literal["auto", "structured", "jacobian", "vector_products"] | Method | NtkImplementation | int
)


IMPLEMENTATIONS = {
    NtkImplementation.AUTO: Method.AUTO,
    NtkImplementation.JACOBIAN_CONTRACTION: Method.JACOBIAN,
    NtkImplementation.NTK_VECTOR_PRODUCTS: Method.VECTOR_PRODUCTS,
    NtkImplementation.STRUCTURED_DERIVATIVES: Method.STRUCTURED,
}
"""Our method for each of neural-tangents' implementations."""


def method_of(method: MethodName) -> Method:
    """The method of a name or number, ours or neural-tangents'."""
    if isinstance(method, Method):
        return method
    if isinstance(method, int):
        return IMPLEMENTATIONS[NtkImplementation(method)]
    try:
        return Method(method)
    except ValueError:
        names = ", ".join(repr(known.value) for known in Method)
        raise ValueError(f"unknown method {method!r}; expected one of {names}") from None


class LeafChoice(NamedTuple):
    """How the share of one leaf (and the bias that goes with it) is computed.

    Attributes:
      path: the keys that lead to the leaf.
      bias: the keys that lead to a bias computed along with it, or None.
      contraction: the way chosen.
      positions: at how many positions of one example the leaf is used.
      operations: multiply-adds a pair of examples, elementwise ones weighted.
    """

    path: tuple[str, ...]
    bias: tuple[str, ...] | None
    contraction: structured.Contraction
    positions: int
    operations: float


class Explanation(NamedTuple):
    """Why a kernel is computed as it is.

    Attributes:
      method: the method that ``auto`` came to, or the one asked for.
      leaves: the choice for each leaf; empty for vector products.
      operations: multiply-adds a pair of examples, for each method.
      block_size: rows of a block.
      trial_rows: rows at a time of the trial before the first call, which looks for coupled
        batches and for a derivative.
      trial_bytes: bytes that the trial needs at a time, about.
    """

    method: Method
    leaves: tuple[LeafChoice, ...]
    operations: dict[Method, float]
    block_size: int
    trial_rows: int = 0
    trial_bytes: int = 0

    @property
    def exact(self) -> tuple[tuple[str, ...], ...]:
        """Paths of the leaves whose share comes from their exact Jacobian."""
        jacobian = structured.Contraction.JACOBIAN
        return tuple(leaf.path for leaf in self.leaves if leaf.contraction is jacobian)

    def __str__(self) -> str:
        costs = ", ".join(f"{m.value} {self.operations[m]:,.0f}" for m in self.operations)
        lines = [
            f"{self.method.value}, blocks of {self.block_size} rows; multiply-adds a pair: {costs}"
            f"; trial at first: {self.trial_rows} rows at a time, about "
            f"{self.trial_bytes / 1e6:,.1f} MB"
        ]
        for leaf in self.leaves:
            name = "/".join(leaf.path) + ("" if leaf.bias is None else f" with {leaf.bias[-1]}")
            lines.append(
                f"  {name}: {leaf.contraction.value}, {leaf.positions} position"
                f"{'s' * (leaf.positions != 1)}, {leaf.operations:,.0f} a pair"
            )
        return "\n".join(lines)
