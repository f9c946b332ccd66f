"""The rule for functions whose derivatives are written by hand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from kernlens.ntk.walk.calls import CALLS, opened
from kernlens.ntk.walk.flow import Walk, bind, plain
from kernlens.ntk.walk.products import Roles, product_sites
from kernlens.ntk.walk.shapes import shape_of
from kernlens.ntk.walk.sites import Read, Site
from kernlens.ntk.walk.views import View
from kernlens.types import Array


class _Linear(NamedTuple):
    """A value that is linear in cotangents; ``source`` is the number of the one that it is."""

    value: Any
    source: int | None


class _Product(NamedTuple):
    """A product of a value that no cotangent enters with one that is linear in them.

    ``dims`` tells for each dimension where it comes from: ``("left", d)`` of the one, ``("right",
    d)`` of the other, or ``("both", d)``. Both factors have those first that both have, then those
    that are summed over, then their own. ``source`` is the number of the cotangent that ``right``
    is, or None where it is none of them.
    """

    value: Any
    left: Any
    right: Any
    dims: tuple[tuple[str, int], ...]
    source: int | None = None


def custom(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A function with derivatives by hand whose cotangent of a leaf is a product, or its own."""
    views_at = [i for i, value in enumerate(values) if isinstance(value, View)]
    outs = [var.aval for var in eqn.outvars]
    if not views_at or not all(jnp.issubdtype(out.dtype, jnp.floating) for out in outs):
        return None
    ops = [plain(value) for value in values]
    floats = [i for i, op in enumerate(ops) if jnp.issubdtype(jnp.result_type(op), jnp.floating)]

    def pull(ops: Sequence[Array], cotangents: Sequence[Array]) -> Any:
        def call(*own: Array) -> Any:
            args = list(ops)
            for i, value in zip(floats, own, strict=True):
                args[i] = value
            return bind(eqn, args)

        return jax.vjp(call, *[ops[i] for i in floats])[1](list(cotangents))

    units = [jax.ShapeDtypeStruct(out.shape, out.dtype) for out in outs]
    closed = jax.make_jaxpr(pull)(shape_of(ops), units)

    def trace(ops: Sequence[Array], cotangents: Sequence[Array]) -> list[Any]:
        marked = [_Linear(ct, k) for k, ct in enumerate(cotangents)]
        return _trace(closed.jaxpr, closed.consts, [*ops, *marked])

    met = trace(ops, [jnp.zeros(out.shape, out.dtype) for out in outs])
    at = {i: met[floats.index(i)] for i in views_at if i in floats}
    passed = {i: own.source for i, own in at.items() if _is_passed(values[i], own, outs)}
    taps: dict[int, Any] = {}
    # Sites whose right factor is the cotangent of an output, which can have the tap itself.
    written: dict[int, list[Any]] = {}
    for i in views_at:
        own = at.get(i)
        if i in passed:
            continue
        found = _product_of(values[i], own) if isinstance(own, _Product) else None
        source = own.source if isinstance(own, _Product) else None
        if found is not None and source is not None and source not in passed.values():
            written.setdefault(source, []).extend(found)
        elif isinstance(own, _Product) and found is not None:
            taps[i] = walk.note(own.right.shape, own.right.dtype, found)
        else:
            walk.settle(values[i])
    plains = [op if i in views_at else walk.settle(values[i]) for i, op in enumerate(ops)]
    if walk.taps is None or not taps:
        results = bind(eqn, plains)
    else:
        results = _call(lambda args: bind(eqn, args), trace, floats, taps)(
            plains, list(taps.values())
        )
    for k in sorted(written):
        results[k] = walk.add(results[k], written[k])
    for k in sorted(set(passed.values())):
        blocks = [b for i, source in passed.items() if source == k for b in values[i].blocks]
        results[k] = View(results[k], tuple(blocks), len(values) > 1)
    return results


def _is_passed(view: View, own: Any, outs: Sequence[Any]) -> bool:
    if not isinstance(own, _Linear) or own.source is None:
        return False
    return outs[own.source].shape == view.value.shape


def _product_of(view: View, product: _Product) -> list[tuple[Site, Read]] | None:
    shared = sum(kind == "both" for kind, _ in product.dims)
    roles = Roles(
        tuple((d, place) for d, (kind, place) in enumerate(product.dims) if kind == "left"),
        tuple((d, place) for d, (kind, place) in enumerate(product.dims) if kind == "right"),
        tuple((d, place, place) for d, (kind, place) in enumerate(product.dims) if kind == "both"),
    )
    if shared + len(roles.contract) + len(roles.free) != view.value.ndim:
        return None
    return product_sites(view, roles, product.left, product.right.shape, product.right.dtype)


def _call(bound: Any, trace: Any, floats: Sequence[int], taps: dict[int, Any]) -> Any:
    """The function with taps whose cotangents are the right factors of its products."""

    @jax.custom_vjp
    def call(ops: list[Array], taps: list[Array]) -> list[Array]:
        return bound(ops)

    def forward(ops: list[Array], taps: list[Array]) -> Any:
        return bound(ops), ops

    def backward(ops: list[Array], cotangents: list[Array]) -> Any:
        traced = trace(ops, cotangents)
        rights = [traced[floats.index(i)].right for i in taps]
        found = dict(zip(floats, (_flat(own) for own in traced), strict=True))
        own = [
            found[i] if i in found else np.zeros(jnp.shape(op), jax.dtypes.float0)
            for i, op in enumerate(ops)
        ]
        return own, rights

    call.defvjp(forward, backward)
    return call


def _flat(value: Any) -> Any:
    return value.value if isinstance(value, _Linear | _Product) else value


def _trace(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Evaluates a jaxpr, and notes which values are products with cotangents."""
    env: dict[Any, Any] = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True)
    )

    def read(var: Any) -> Any:
        return var.val if isinstance(var, Literal) else env[var]

    for eqn in jaxpr.eqns:
        values = [read(var) for var in eqn.invars]
        inner = eqn.params.get(CALLS.get(eqn.primitive.name, ""))
        if inner is not None:
            outs = _trace(*opened(inner), values)
        elif any(isinstance(value, _Linear | _Product) for value in values):
            flat = bind(eqn, [_flat(value) for value in values])
            outs = [_linear_rule(eqn, values, flat[0])] if len(flat) == 1 else flat
            outs = [
                out if isinstance(out, _Linear | _Product) else _Linear(out, None) for out in outs
            ]
        else:
            outs = bind(eqn, values)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(var) for var in jaxpr.outvars]


def _linear_rule(eqn: Any, values: Sequence[Any], out: Any) -> Any:
    """What is known of a function of values of which some are linear in cotangents."""
    name = eqn.primitive.name
    moving = [value for value in values if isinstance(value, _Linear | _Product)]
    (first, *more) = moving
    if more:
        return out
    others = [value for value in values if value is not first]
    if name in ("convert_element_type", "copy", "mul", "div", "neg") and isinstance(
        first, _Product
    ):
        if name == "div" and values[0] is not first:
            return out
        factors = [jnp.asarray(other, first.left.dtype) for other in others]
        if any(jnp.size(factor) != 1 for factor in factors):
            return out
        left = -first.left if name == "neg" else first.left
        for factor in factors:
            number = jnp.reshape(factor, ())
            left = left / number if name == "div" else left * number
        return first._replace(value=out, left=left)
    if name in ("convert_element_type", "copy") and isinstance(first, _Linear):
        return _Linear(out, first.source)
    if name == "transpose" and isinstance(first, _Product):
        return first._replace(
            value=out, dims=tuple(first.dims[d] for d in eqn.params["permutation"])
        )
    if name == "dot_general":
        return _dot(eqn, values, out)
    if name == "reduce_sum" and isinstance(first, _Linear):
        axes = sorted(eqn.params["axes"])
        rest = [d for d in range(first.value.ndim) if d not in axes]
        right = first.value.transpose([*axes, *rest])
        left = jnp.ones(right.shape[: len(axes)], right.dtype)
        dims = tuple(("right", len(axes) + i) for i in range(len(rest)))
        source = first.source if [*axes, *rest] == sorted([*axes, *rest]) else None
        return _Product(out, left, right, dims, source)
    return out


def _dot(eqn: Any, values: Sequence[Any], out: Any) -> Any:
    contracts, batches = eqn.params["dimension_numbers"]
    moving = 0 if isinstance(values[0], _Linear | _Product) else 1
    factors, own, source = [], [], None
    for i, value in enumerate(values):
        flat = jnp.asarray(_flat(value))
        rest = [d for d in range(flat.ndim) if d not in (*contracts[i], *batches[i])]
        order = [*batches[i], *contracts[i], *rest]
        factors.append(flat.transpose(order))
        if isinstance(value, _Linear) and order == sorted(order):
            source = value.source
        own.append(len(rest))
    shared, before = len(batches[0]), len(batches[0]) + len(contracts[0])
    dims = [("both", i) for i in range(shared)]
    for i in range(2):
        dims += [("right" if i == moving else "left", before + k) for k in range(own[i])]
    return _Product(out, factors[1 - moving], factors[moving], tuple(dims), source)
