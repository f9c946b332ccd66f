"""What a jaxpr holds, the jaxprs inside its equations included."""

from collections.abc import Iterator
from math import prod
from typing import Any

from jax.extend.core import ClosedJaxpr

from kernlens.ntk.precision import is_narrow

RANDOM = frozenset(("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform"))
"""Primitives that draw random numbers."""


def operations(closed: ClosedJaxpr) -> float:
    """Multiply-adds of the matrix products and convolutions of a jaxpr.

    A loop counts as often as it runs, where that is known. Of a conditional the dearest branch
    counts: one that depends on the example is no conditional, since a batch takes all its branches.
    """
    return _operations(closed.jaxpr)


def written_bytes(closed: ClosedJaxpr) -> int:
    """Bytes of all that a jaxpr computes, each loop's body once."""
    outs = (v.aval for eqn in equations(closed.jaxpr) for v in eqn.outvars)
    return sum(
        prod(aval.shape) * aval.dtype.itemsize
        for aval in outs
        if hasattr(aval, "shape") and hasattr(aval.dtype, "itemsize")
    )


def has_custom_vjp(closed: ClosedJaxpr) -> bool:
    """Whether a jaxpr holds a function with a reverse-mode rule alone."""
    return any(eqn.primitive.name.startswith("custom_vjp_call") for eqn in equations(closed.jaxpr))


def draws_random(closed: ClosedJaxpr) -> bool:
    """Whether a jaxpr draws random numbers."""
    return any(eqn.primitive.name in RANDOM for eqn in equations(closed.jaxpr))


def is_rounded(closed: ClosedJaxpr) -> bool:
    """Whether a jaxpr takes or makes floating-point numbers narrower than float32.

    Inputs that it only widens count too: they may be parameters.
    """
    names = [*closed.jaxpr.invars, *(v for eqn in equations(closed.jaxpr) for v in eqn.outvars)]
    return any(is_narrow(getattr(v.aval, "dtype", bool)) for v in names)


def equations(jaxpr: Any) -> Iterator[Any]:
    """All equations of a jaxpr, and of the jaxprs inside them."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in _inside(eqn):
            yield from equations(inner)


def _operations(jaxpr: Any) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        out = prod(eqn.outvars[0].aval.shape) if eqn.outvars else 0
        if name == "dot_general":
            contract = params["dimension_numbers"][0][0]
            total += out * prod(eqn.invars[0].aval.shape[d] for d in contract)
        elif name == "conv_general_dilated":
            kernel_shape = eqn.invars[1].aval.shape
            total += (
                out * prod(kernel_shape) / kernel_shape[params["dimension_numbers"].rhs_spec[0]]
            )
        times = params.get("length", 1) if name == "scan" else 1
        inside = [_operations(inner) for inner in _inside(eqn)]
        total += max(inside) if name == "cond" else times * sum(inside)
    return total


def _inside(eqn: Any) -> Iterator[Any]:
    """The jaxprs that an equation holds: one that it calls, or several branches."""
    for value in eqn.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            inner = one.jaxpr if isinstance(one, ClosedJaxpr) else one
            if hasattr(inner, "eqns"):
                yield inner
