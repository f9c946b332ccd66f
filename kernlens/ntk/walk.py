r"""Where parameters enter a function: a walk over its jaxpr.

Most parameters enter a network through an operation that is linear in them: a matrix product, an
embedding lookup, a convolution. The gradient of output :math:`o` with respect to such a leaf is
then :math:`\sum_p a_p \otimes \delta_{o,p}`: what the operation read at position :math:`p`
(:math:`a`) times the cotangent of what it wrote (:math:`\delta`). The walk finds these *sites*,
and evaluates the function with a zero *tap* added to what each wrote, so that the gradient with
respect to the taps is :math:`\delta`, and no gradient of the leaf is ever built. A bias added to
what a site wrote shares its cotangent and is noted there. Any other use makes a leaf *opaque*.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from math import prod
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from kernlens.types import Array

Split: TypeAlias = tuple[Any, Any]
"""Which axes of a leaf a site reads from (left) and writes to (right)."""


class Kind(Enum):
    """What a site's left factor is."""

    MATMUL = "matrix product"
    CONVOLUTION = "convolution"
    LOOKUP = "lookup"


class Lookup(NamedTuple):
    """Left factor of a lookup: weighted one-hot rows.

    Attributes:
      ids: rows read, int ``[..., positions, bag]``; -1 where nothing was read.
      weights: what each is multiplied by, of the same shape.
    """

    ids: Array
    weights: Array


class Site(NamedTuple):
    """One use of a leaf that is linear in it.

    Attributes:
      leaf: index of the leaf.
      kind: what the left factor is.
      split: left and right axes, equal for uses whose factors share coordinates.
      positions: number of positions P at which the leaf is used.
      left: width of the left factor; for a lookup the number of rows of the table.
      right: width of the right factor.
      shape: shape of the tap.
      right_dims: dimensions of the tap that make up the right factor, in order.
      bag: rows that a lookup sums at each position; 1 for the other kinds.
      bias: leaf added to what the site wrote, or None.
      dtype: dtype of the tap.
    """

    leaf: int
    kind: Kind
    split: Split
    positions: int
    left: int
    right: int
    shape: tuple[int, ...]
    right_dims: tuple[int, ...]
    bag: int
    bias: int | None
    dtype: Any


class Sites(NamedTuple):
    """What a walk found.

    Attributes:
      sites: the linear uses, in the order of evaluation.
      opaque: leaves that enter in any other way.
      biases: leaves added to what sites wrote, each with the indices of these sites.
      last: sites that wrote the output itself, so that their cotangents are unit vectors.
      next_to_last: sites whose writing reaches the output through an elementwise function and
        then one site of ``last`` alone, by that site: their cotangents are a constant matrix
        times one slope for each entry.
    """

    sites: tuple[Site, ...]
    opaque: frozenset[int]
    biases: dict[int, tuple[int, ...]]
    last: frozenset[int]
    next_to_last: dict[int, int]


class Read(NamedTuple):
    """What one site met during an evaluation.

    Attributes:
      left: left factor: an array ``[positions, left]`` or a :class:`Lookup`.
      weights: what a matrix product multiplied with, ``[left, right]``; None for other kinds.
      activation: what it multiplied, of the shape that an earlier site wrote; None elsewhere.
    """

    left: Any
    weights: Any = None
    activation: Any = None


class _View(NamedTuple):
    """A leaf, or a reordering or multiple of it: ``value`` and how it came from the leaf.

    ``axes`` gives the leaf's axis behind each dimension (None where its size is 1 or it was
    broadcast), or is None where a reshape mixed axes; ``history`` tells such reshapes apart.
    """

    leaf: int
    value: Any
    axes: tuple[int | None, ...] | None
    history: tuple[Any, ...]
    scale: Any


class _Tapped(NamedTuple):
    """What a site wrote, as long as nothing else has read it."""

    value: Any
    site: int


class _Bent(NamedTuple):
    """An elementwise function of what a site wrote (and its bias); ``same`` while it is that."""

    value: Any
    site: int
    same: bool


class _Rows(NamedTuple):
    """Rows of a table on their way to a site: a lookup, weighted and summed.

    ``ids`` and ``weights`` are ``[*value.shape without width, bag]``; the width is the last axis.
    """

    leaf: int
    value: Any
    ids: Any
    weights: Any
    split: Split
    num_rows: int


class _Spread(NamedTuple):
    """A value that is constant along its last axis: ``narrow`` has size 1 there."""

    value: Any
    narrow: Any


class _Walk:
    """State of one evaluation: the sites met so far and what they read."""

    def __init__(self, taps: Sequence[Array] | None) -> None:
        self.taps = taps
        self.sites: list[Site] = []
        self.read: list[Read | None] = []
        self.exits: dict[int, list[int | None]] = {}
        self.opaque: set[int] = set()
        self.biases: dict[int, list[int]] = {}

    def add(self, site: Site, value: Array, read: Read) -> _Tapped:
        index = len(self.sites)
        self.sites.append(site)
        self.read.append(read)
        if self.taps is not None:
            value = value + self.taps[index]
        return _Tapped(value, index)

    def settle(self, value: Any) -> Any:
        """The plain value of anything that flows; a view that ends here makes its leaf opaque."""
        if isinstance(value, _View):
            self.opaque.add(value.leaf)
            return value.value
        if isinstance(value, _Rows):
            return _settle_rows(self, value).value
        if isinstance(value, _Tapped | _Bent):
            self.exits.setdefault(value.site, []).append(None)
            return value.value
        return value.value if isinstance(value, _Spread) else value


OUTPUT = -1
"""Where a site's writing goes when it is the output."""


def find(closed: ClosedJaxpr, num_leaves: int, tracked: frozenset[int]) -> Sites:
    """Finds the sites of some leaves, without computing anything.

    Args:
      closed: a function of one example, ``(*leaves, *x) -> outputs``.
      num_leaves: how many of its arguments are parameter leaves.
      tracked: leaves to look for.

    Returns:
      Sites of leaves that have no other use; the rest of ``tracked`` is opaque.
    """
    found: list[_Walk] = []

    def run(*args: Array) -> list[Array]:
        found.append(_Walk(None))
        return _run(found[-1], closed, num_leaves, tracked, args)

    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in closed.in_avals]
    jax.eval_shape(run, *shapes)
    walk = found[-1]
    biases = {leaf: tuple(sites) for leaf, sites in walk.biases.items()}
    exits = {site: out[0] for site, out in walk.exits.items() if len(out) == 1}
    last = {site for site, out in exits.items() if out == OUTPUT}
    before = {site: out for site, out in exits.items() if out in last and out is not None}
    return Sites(tuple(walk.sites), frozenset(walk.opaque), biases, frozenset(last), before)


def evaluate(
    closed: ClosedJaxpr,
    num_leaves: int,
    tracked: frozenset[int],
    taps: Sequence[Array],
    args: Sequence[Array],
) -> tuple[list[Array], list[Read]]:
    """Evaluates the function with a tap added to what each site wrote.

    Args:
      closed: a function of one example, ``(*leaves, *x) -> outputs``.
      num_leaves: how many of its arguments are parameter leaves.
      tracked: leaves whose sites are tapped, none of them opaque.
      taps: one array for each site that :func:`find` found for ``tracked``.
      args: the function's arguments.

    Returns:
      Its outputs, and what each site read.
    """
    walk = _Walk(taps)
    outputs = _run(walk, closed, num_leaves, tracked, args)
    return outputs, [read for read in walk.read if read is not None]


def right_factor(site: Site, cotangent: Array) -> Array:
    """Brings a tap's cotangent ``[..., *site.shape]`` to ``[..., positions, right]``."""
    lead = cotangent.ndim - len(site.shape)
    right = [lead + dim for dim in site.right_dims]
    rest = [dim for dim in range(lead, cotangent.ndim) if dim not in right]
    order = [*range(lead), *rest, *right]
    return cotangent.transpose(order).reshape(*cotangent.shape[:lead], site.positions, site.right)


def _run(
    walk: _Walk,
    closed: ClosedJaxpr,
    num_leaves: int,
    tracked: frozenset[int],
    args: Sequence[Array],
) -> list[Array]:
    values = [
        _View(i, arg, tuple(_axis(i, s) for i, s in enumerate(arg.shape)), (), 1.0)
        if i < num_leaves and i in tracked
        else arg
        for i, arg in enumerate(args)
    ]
    return [_emit(walk, out) for out in _walk(walk, closed.jaxpr, closed.consts, values)]


def _emit(walk: _Walk, value: Any) -> Any:
    same = isinstance(value, _Tapped) or (isinstance(value, _Bent) and value.same)
    if not same or walk.sites[value.site].kind is not Kind.MATMUL:
        return walk.settle(value)
    site = walk.sites[value.site]
    ordered = site.positions == 1 and list(site.right_dims) == sorted(site.right_dims)
    walk.exits.setdefault(value.site, []).append(OUTPUT if ordered else None)
    return value.value


def _axis(axis: int, size: int) -> int | None:
    return axis if size > 1 else None


def _walk(walk: _Walk, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    names = [*jaxpr.constvars, *jaxpr.invars]
    env: dict[Any, Any] = dict(zip(names, [*consts, *args], strict=True))
    readers = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal))
    readers.update(v for v in jaxpr.outvars if not isinstance(v, Literal))

    def read(var: Any) -> Any:
        if isinstance(var, Literal):
            return var.val
        value = env[var]
        if isinstance(value, _Rows) and readers[var] > 1:
            value = _settle_rows(walk, value)
        if isinstance(value, _Tapped) and readers[var] > 1:
            # Two readers: a bias that one of them adds has not the cotangent of both.
            value = _Bent(value.value, value.site, True)
        env[var] = value
        return value

    for eqn in jaxpr.eqns:
        values = [read(var) for var in eqn.invars]
        outs = _apply(walk, eqn, values)
        for var, out in zip(eqn.outvars, outs, strict=True):
            env[var] = out
    return [read(var) for var in jaxpr.outvars]


def _apply(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    inner = eqn.params.get(CALLS.get(name, ""))
    if inner is not None:
        if isinstance(inner, ClosedJaxpr):
            return _walk(walk, inner.jaxpr, inner.consts, values)
        return _walk(walk, inner, (), values)
    if any(isinstance(value, _View | _Tapped | _Bent | _Rows) for value in values) or (
        name == SPREAD
    ):
        rule = RULES.get(name)
        out = None if rule is None else rule(walk, eqn, values)
        out = _bend(eqn, values) if out is None else out
        if out is not None:
            return out
    return _bind(eqn, [walk.settle(value) for value in values])


def _bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    bound = eqn.primitive.get_bind_params(eqn.params)
    # jax 0.9 and before hand back (functions, params).
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outs = eqn.primitive.bind(*functions, *values, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]


def _bend(eqn: Any, values: list[Any]) -> list[Any] | None:
    """Elementwise functions of what one site wrote, and of constants."""
    bent = [value for value in values if isinstance(value, _Tapped | _Bent)]
    if not bent or len({value.site for value in bent}) != 1 or len(eqn.outvars) != 1:
        return None
    shape = jnp.shape(bent[0].value)
    if eqn.outvars[0].aval.shape != shape or not _is_elementwise(eqn):
        return None
    for value in values:
        own = isinstance(value, _Tapped | _Bent) and jnp.shape(value.value) == shape
        spread = isinstance(value, _Spread) and isinstance(value.narrow, CONSTANTS)
        if not (own or spread or (isinstance(value, CONSTANTS) and np.ndim(value) == 0)):
            return None
    out = _bind(eqn, [_plain(value) for value in values])[0]
    return [_Bent(out, bent[0].site, False)]


def _is_elementwise(eqn: Any) -> bool:
    name = eqn.primitive.name
    if name in ELEMENTWISE:
        return True
    inner = eqn.params.get("jaxpr" if name in CALLS else "call_jaxpr")
    if name not in CALLS and name != "custom_jvp_call":
        return False
    jaxpr = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
    shape = eqn.outvars[0].aval.shape
    return jaxpr is not None and all(
        _is_elementwise(own) and own.outvars[0].aval.shape in ((), shape) for own in jaxpr.eqns
    )


# fmt: off
ELEMENTWISE = frozenset((
    "abs", "add", "asin", "asinh", "atan", "atanh", "ceil", "clamp", "convert_element_type",
    "copy", "cos", "cosh", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor",
    "integer_pow", "log", "log1p", "logistic", "max", "min", "mul", "neg", "pow", "round",
    "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh", "ge",
    "gt", "le", "lt", "eq", "ne", "and", "or", "not", "broadcast_in_dim", "stop_gradient",
))
# fmt: on
"""Primitives that treat each entry alone (a broadcast, of a number to the shape of the whole)."""

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}
"""Primitives that only call a jaxpr, and the name under which they hold it."""


def _transpose(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    (view,) = values
    if not isinstance(view, _View):
        return None
    order = eqn.params["permutation"]
    axes = None if view.axes is None else tuple(view.axes[i] for i in order)
    history = view.history if view.axes is not None else (*view.history, ("transpose", order))
    return [view._replace(value=_bind(eqn, [view.value])[0], axes=axes, history=history)]


def _reshape(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    view = values[0]
    if not isinstance(view, _View) or len(values) > 1:
        return None
    value = _bind(eqn, [view.value])[0]
    old, new = view.value.shape, value.shape
    axes = None
    if view.axes is not None and [s for s in old if s > 1] == [s for s in new if s > 1]:
        rest = iter([a for a, s in zip(view.axes, old, strict=True) if s > 1])
        axes = tuple(next(rest) if s > 1 else None for s in new)
    if axes is None and _tiled(view):
        return None
    history = view.history if axes is not None else (*view.history, (old, new))
    return [view._replace(value=value, axes=axes, history=history)]


def _broadcast(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    view = values[0]
    if len(values) > 1:
        return None
    if not isinstance(view, _View | _Tapped | _Bent | _Rows):
        return _spread(walk, eqn, view)
    if not isinstance(view, _View) or view.axes is None:
        return None
    value = _bind(eqn, [view.value])[0]
    axes: list[int | None] = [None] * value.ndim
    for source, target in enumerate(eqn.params["broadcast_dimensions"]):
        axes[target] = view.axes[source]
    return [view._replace(value=value, axes=tuple(axes))]


def _spread(walk: _Walk, eqn: Any, value: Any) -> list[Any] | None:
    if isinstance(value, CONSTANTS) and np.ndim(value) == 0:
        return [_Spread(_bind(eqn, [value])[0], value)]
    source = walk.settle(value)
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    last = len(shape) - 1
    if not shape or (last in dims and jnp.shape(source)[dims.index(last)] != 1):
        return None
    out = _bind(eqn, [source])[0]
    return [_Spread(out, jax.lax.broadcast_in_dim(source, (*shape[:-1], 1), dims))]


def _cast(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    (view,) = values
    floating = jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating)
    if not isinstance(view, _View) or not floating:
        return None
    return [view._replace(value=_bind(eqn, [view.value])[0])]


def _stop(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    (view,) = values
    # No gradient passes, so this is no use of the leaf at all.
    return _bind(eqn, [view.value]) if isinstance(view, _View) else None


def _multiply(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    first, second = values
    divide = eqn.primitive.name == "div"
    if not divide and isinstance(second, _View | _Rows):
        first, second = second, first
    if isinstance(second, _View | _Rows) or not isinstance(first, _View | _Rows):
        return None
    narrow = second.narrow if isinstance(second, _Spread) else None
    factor = walk.settle(second)
    value = _bind(eqn, [first.value if v is first else factor for v in values])[0]
    if value.shape != first.value.shape:
        return None
    if isinstance(first, _View):
        if np.size(factor) != 1:
            return None
        factor = jnp.reshape(jnp.asarray(factor), ())
        scale = jnp.asarray(first.scale, factor.dtype)
        scale = scale / factor if divide else scale * factor
        return [first._replace(value=value, scale=scale)]
    number = factor if narrow is None else narrow
    if np.shape(number) and np.shape(number)[-1] != 1:
        return None
    weights = first.weights
    number = jnp.broadcast_to(jnp.asarray(number), weights.shape)
    return [first._replace(value=value, weights=weights / number if divide else weights * number)]


def _select(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """``where(mask, rows, 0)``, the mask one number a row."""
    if len(values) != 3 or not isinstance(values[0], _Spread):
        return None
    which = [i for i, value in enumerate(values) if isinstance(value, _Rows)]
    if len(which) != 1:
        return None
    rows, other = values[which[0]], values[3 - which[0]]
    other = other.narrow if isinstance(other, _Spread) else other
    if not isinstance(other, CONSTANTS) or np.any(np.asarray(other) != 0):
        return None
    value = _bind(eqn, [_plain(v) for v in values])[0]
    kept = values[0].narrow if which[0] == 2 else ~values[0].narrow
    return [rows._replace(value=value, weights=jnp.where(kept, rows.weights, 0.0))]


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _View | _Tapped | _Bent | _Rows | _Spread) else value


def _pool(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A weighted sum of rows, written as a matrix product with one number a row."""
    index = 0 if isinstance(values[0], _Rows) else 1
    rows, other = values[index], walk.settle(values[1 - index])
    contracts, batches = eqn.params["dimension_numbers"]
    contract, batch = contracts[index], batches[index]
    last = rows.value.ndim - 1
    if last in contract or last in batch or other.ndim != len(contract) + len(batch):
        return None
    value = _bind(eqn, [rows.value if i == index else other for i in range(2)])[0]
    own = [*batches[1 - index], *contracts[1 - index]]
    number = other.transpose(own)
    free = [d for d in range(last) if d not in contract and d not in batch]
    order = [*batch, *free, *contract, last]
    ids, weights = rows.ids.transpose(order), rows.weights.transpose(order)
    number = number.reshape(
        *number.shape[: len(batch)], *[1] * len(free), *number.shape[len(batch) :], 1
    )
    kept = len(batch) + len(free)
    weights = weights * number.astype(weights.dtype)
    ids, weights = (x.reshape(*x.shape[:kept], -1) for x in (ids, weights))
    return [rows._replace(value=value, ids=ids, weights=weights)]


def _tiled(view: _View) -> bool:
    """Whether a leaf's entries stand in the view more than once, so that it is no reordering."""
    if view.axes is None:
        return False
    return any(a is None and s > 1 for a, s in zip(view.axes, view.value.shape, strict=True))


def _matmul(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    first, second = values
    (contract1, contract2), (batch, _) = eqn.params["dimension_numbers"]
    if isinstance(first, _Rows) != isinstance(second, _Rows) and not any(
        isinstance(value, _View) for value in values
    ):
        return _pool(walk, eqn, values)
    if batch or isinstance(first, _View) == isinstance(second, _View):
        return None
    view, other, read_dims, own_dims = (
        (second, first, contract1, contract2)
        if isinstance(second, _View)
        else (first, second, contract2, contract1)
    )
    if _tiled(view):
        return None
    written = other.site if isinstance(other, _Tapped | _Bent) else None
    if written is not None:
        # An exit, if this turns out to be all that reads it.
        site = walk.sites[written]
        same = site.positions == 1 and tuple(read_dims) == site.right_dims
        same = same and jnp.shape(other.value) == site.shape
        walk.exits.setdefault(written, []).append(len(walk.sites) if same else None)
        written = written if same else None
    other = _plain(other) if isinstance(other, _Tapped | _Bent) else walk.settle(other)
    value = _bind(eqn, [view.value if v is view else other for v in values])[0]
    free = [d for d in range(other.ndim) if d not in read_dims]
    own_free = [d for d in range(view.value.ndim) if d not in own_dims]
    positions = prod(other.shape[d] for d in free)
    read = other.transpose([*free, *read_dims]).reshape(positions, -1)
    first_right = len(free) if view is second else 0
    site = Site(
        leaf=view.leaf,
        kind=Kind.MATMUL,
        split=_split(view, own_dims, own_free),
        positions=positions,
        left=read.shape[1],
        right=prod(view.value.shape[d] for d in own_free),
        shape=value.shape,
        right_dims=tuple(range(first_right, first_right + len(own_free))),
        bag=1,
        bias=None,
        dtype=value.dtype,
    )
    weights = view.value.transpose([*own_dims, *own_free]).reshape(site.left, site.right)
    activation = other if written is not None else None
    return [walk.add(site, value, Read(_scaled(read, view.scale), weights, activation))]


def _split(view: _View, left: Sequence[int], right: Sequence[int]) -> Split:
    if view.axes is None:
        return (view.history, tuple(left)), (view.history, tuple(right))
    axes = view.axes
    return (
        tuple(axes[d] for d in left if axes[d] is not None),
        tuple(axes[d] for d in right if axes[d] is not None),
    )


def _scaled(read: Array, scale: Any) -> Array:
    return read if isinstance(scale, float) else read * jnp.asarray(scale, read.dtype)


def _convolution(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    image, view = values
    p = eqn.params
    if not isinstance(view, _View) or p["feature_group_count"] > 1 or p["batch_group_count"] > 1:
        return None
    if isinstance(image, _View) or _tiled(view):
        return None
    image = walk.settle(image)
    rhs, out = p["dimension_numbers"].rhs_spec, p["dimension_numbers"].out_spec
    read = _patches(image, [view.value.shape[d] for d in rhs[2:]], p)
    positions = prod(read.shape[:-1])
    # A product of patches: on a CPU the gradient of a convolution is many times slower in a loop.
    weights = view.value.transpose([*rhs[2:], rhs[1], rhs[0]]).reshape(read.shape[-1], -1)
    value = jnp.matmul(read, weights, precision=p["precision"])
    value = jnp.moveaxis(value, -1, out[1]).astype(eqn.outvars[0].aval.dtype)
    site = Site(
        leaf=view.leaf,
        kind=Kind.CONVOLUTION,
        split=((view.axes, view.history, rhs, "window"), (view.axes, view.history, rhs, "out")),
        positions=positions,
        left=read.shape[-1],
        right=view.value.shape[rhs[0]],
        shape=value.shape,
        right_dims=(out[1],),
        bag=1,
        bias=None,
        dtype=value.dtype,
    )
    return [walk.add(site, value, Read(_scaled(read.reshape(positions, -1), view.scale)))]


def _patches(image: Array, window: Sequence[int], p: dict[str, Any]) -> Array:
    """What each window sees, ``[*positions, features]``, by slices of the padded image."""
    lhs, out = p["dimension_numbers"].lhs_spec, p["dimension_numbers"].out_spec
    image = image.transpose([lhs[0], *lhs[2:], lhs[1]])
    zero = jnp.zeros((), image.dtype)
    spread = [
        (low, high, d - 1) for (low, high), d in zip(p["padding"], p["lhs_dilation"], strict=True)
    ]
    image = jax.lax.pad(image, zero, [(0, 0, 0), *spread, (0, 0, 0)])
    strides, dilation = p["window_strides"], p["rhs_dilation"]
    counts = [
        (size - (w - 1) * d - 1) // stride + 1
        for size, w, d, stride in zip(image.shape[1:-1], window, dilation, strides, strict=True)
    ]
    pieces = []
    for offset in np.ndindex(*window):
        first = [o * d for o, d in zip(offset, dilation, strict=True)]
        last = [
            f + (count - 1) * stride + 1
            for f, count, stride in zip(first, counts, strides, strict=True)
        ]
        start, stop = [0, *first, 0], [image.shape[0], *last, image.shape[-1]]
        pieces.append(jax.lax.slice(image, start, stop, [1, *strides, 1]))
    patches = jnp.concatenate(pieces, axis=-1)
    # Positions in the order in which the output has them.
    dims = sorted(range(len(out) - 1), key=lambda i: [out[0], *out[2:]][i])
    return patches.transpose([*dims, patches.ndim - 1])


def _gather(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    view, indices = values
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if not isinstance(view, _View) or view.axes is None or len(numbers.collapsed_slice_dims) != 1:
        return None
    if _tiled(view):
        return None
    (row,) = numbers.collapsed_slice_dims
    shape = view.value.shape
    whole = all(size == shape[d] for d, size in enumerate(sizes) if d != row)
    if numbers.start_index_map != (row,) or numbers.operand_batching_dims or not whole:
        return None
    indices = walk.settle(indices)
    value = _bind(eqn, [view.value, indices])[0]
    offsets = numbers.offset_dims
    batch = value.ndim - len(offsets)
    ids = indices[..., 0]
    if eqn.params["mode"] == jax.lax.GatherScatterMode.CLIP:
        ids = jnp.clip(ids, 0, shape[row] - 1)
    inside = (ids >= 0) & (ids < shape[row])
    ids = jnp.where(inside, ids, -1)
    weights = jnp.broadcast_to(jnp.asarray(view.scale, value.dtype), ids.shape)
    split = _split(view, (row,), [d for d in range(len(shape)) if d != row])
    if len(shape) == 2 and offsets == (batch,):
        rows = _Rows(view.leaf, value, ids[..., None], weights[..., None], split, shape[row])
        return [rows]
    site = _lookup_site(view.leaf, value, ids[..., None], split, shape[row], offsets)
    read = Lookup(ids.reshape(-1, 1), weights.reshape(-1, 1))
    return [walk.add(site, value, Read(read))]


def _lookup_site(
    leaf: int, value: Any, ids: Any, split: Split, num_rows: int, right_dims: Sequence[int]
) -> Site:
    return Site(
        leaf=leaf,
        kind=Kind.LOOKUP,
        split=split,
        positions=prod(ids.shape[:-1]),
        left=num_rows,
        right=prod(value.shape[d] for d in right_dims),
        shape=value.shape,
        right_dims=tuple(right_dims),
        bag=ids.shape[-1],
        bias=None,
        dtype=value.dtype,
    )


def _settle_rows(walk: _Walk, rows: _Rows) -> _Tapped:
    site = _lookup_site(
        rows.leaf, rows.value, rows.ids, rows.split, rows.num_rows, (rows.value.ndim - 1,)
    )
    bag = rows.ids.shape[-1]
    read = Lookup(rows.ids.reshape(-1, bag), rows.weights.reshape(-1, bag))
    return walk.add(site, rows.value, Read(read))


def _add(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    first, second = values
    if isinstance(second, _Tapped):
        first, second = second, first
    if not (isinstance(first, _Tapped) and isinstance(second, _View)):
        return None
    site = walk.sites[first.site]
    shape = second.value.shape
    if second.axes is None or not isinstance(second.scale, float) or site.bias is not None:
        return None
    if len(shape) != len(site.shape) or site.kind is Kind.LOOKUP:
        return None
    right = [second.axes[d] for d in site.right_dims if site.shape[d] > 1]
    others = [second.axes[d] for d in range(len(shape)) if d not in site.right_dims]
    own = [axis for axis in second.axes if axis is not None]
    sizes = all(shape[d] == site.shape[d] for d in site.right_dims)
    if not sizes or right != own or right != sorted(own) or any(a is not None for a in others):
        return None
    walk.sites[first.site] = site._replace(bias=second.leaf)
    walk.biases.setdefault(second.leaf, []).append(first.site)
    value = _bind(eqn, [first.value if v is first else second.value for v in values])[0]
    return [_Bent(value, first.site, True)]


def _sum_rows(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    (rows,) = values
    axes = eqn.params["axes"]
    if not isinstance(rows, _Rows) or rows.value.ndim - 1 in axes:
        return None
    value = _bind(eqn, [rows.value])[0]

    def fold(x: Array) -> Array:
        kept = [d for d in range(x.ndim - 1) if d not in axes]
        x = x.transpose([*kept, *axes, x.ndim - 1])
        return x.reshape(*x.shape[: len(kept)], -1)

    return [rows._replace(value=value, ids=fold(rows.ids), weights=fold(rows.weights))]


def _reorder_rows(rows: _Rows, eqn: Any, change: Callable[[Array, int], Array]) -> list[Any]:
    value = _bind(eqn, [rows.value])[0]
    bag = rows.ids.shape[-1]
    ids, weights = change(rows.ids, bag), change(rows.weights, bag)
    return [rows._replace(value=value, ids=ids, weights=weights)]


def _transpose_any(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    (rows,) = values
    if not isinstance(rows, _Rows):
        return _transpose(walk, eqn, values)
    order = tuple(eqn.params["permutation"])
    if order[-1] != len(order) - 1:
        return None
    return _reorder_rows(rows, eqn, lambda x, bag: x.transpose(order))


def _reshape_any(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    rows = values[0]
    if isinstance(rows, _Tapped | _Bent) and len(values) == 1:
        return _reshape_bent(eqn, rows)
    if not isinstance(rows, _Rows):
        return _reshape(walk, eqn, values)
    new = eqn.outvars[0].aval.shape
    if not new or new[-1] != rows.value.shape[-1] or len(values) > 1:
        return None
    return _reorder_rows(rows, eqn, lambda x, bag: x.reshape(*new[:-1], bag))


def _reshape_bent(eqn: Any, bent: Any) -> list[Any] | None:
    if isinstance(bent, _Bent) and not bent.same:
        return None
    return [_Bent(_bind(eqn, [bent.value])[0], bent.site, True)]


def _fewer_axes(inside: Sequence[Any], outside: Sequence[Any]) -> int:
    """Number of a loop body's variables that are slices of those outside."""
    return sum(len(a.aval.shape) != len(b.aval.shape) for a, b in zip(inside, outside, strict=True))


def _scan(walk: _Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    p = eqn.params
    length, inner_jaxpr = p["length"], p["jaxpr"]
    closed = isinstance(inner_jaxpr, ClosedJaxpr)
    body, body_consts = (inner_jaxpr.jaxpr, inner_jaxpr.consts) if closed else (inner_jaxpr, ())
    # Which are constants, carried or scanned shows in the shapes; its parameters change with jax.
    num_xs = _fewer_axes(body.invars, eqn.invars)
    num_carry = len(body.outvars) - _fewer_axes(body.outvars, eqn.outvars)
    num_consts = len(values) - num_xs - num_carry
    consts = [v if isinstance(v, _View) else walk.settle(v) for v in values[:num_consts]]
    if not any(isinstance(v, _View) for v in consts):
        return None
    rest = [walk.settle(v) for v in values[num_consts:]]
    init, xs = rest[:num_carry], rest[num_carry:]
    inner: list[_Walk] = []

    def step(taps: Sequence[Array] | None, carry: list[Array], x: list[Array]) -> Any:
        inner.append(_Walk(taps))
        outs = _walk(inner[-1], body, body_consts, [*consts, *carry, *x])
        outs = [inner[-1].settle(out) for out in outs]
        return outs[:num_carry], (outs[num_carry:], inner[-1].read)

    slices = [jax.ShapeDtypeStruct(jnp.shape(x)[1:], jnp.asarray(x).dtype) for x in xs]
    starts = [jax.ShapeDtypeStruct(jnp.shape(c), jnp.asarray(c).dtype) for c in init]
    jax.eval_shape(lambda c, x: step(None, c, x)[0], starts, slices)
    found = inner[-1]
    start = len(walk.sites)
    for site in found.sites:
        dims = tuple(d + 1 for d in site.right_dims)
        positions = length * site.positions
        walk.sites.append(
            site._replace(positions=positions, shape=(length, *site.shape), right_dims=dims)
        )
    walk.opaque |= found.opaque
    for leaf, sites in found.biases.items():
        walk.biases.setdefault(leaf, []).extend(start + i for i in sites)
    if walk.taps is None:
        walk.read.extend([None] * len(found.sites))
        return _bind(eqn, [*(_plain(c) for c in consts), *rest])
    taps = list(walk.taps[start : start + len(found.sites)])
    carry, (ys, read) = jax.lax.scan(
        lambda c, x: step(x[1], c, x[0]),
        init,
        (xs, taps),
        length=length,
        reverse=p["reverse"],
        unroll=p["unroll"],
    )
    for one in read:
        left = jax.tree.map(lambda r: r.reshape(-1, r.shape[-1]), one.left)
        walk.read.append(Read(left))
    return [*carry, *ys]


SPREAD = "broadcast_in_dim"
CONSTANTS = (np.ndarray, np.generic, float, int)

RULES: dict[str, Callable[[_Walk, Any, list[Any]], list[Any] | None]] = {
    "transpose": _transpose_any,
    "reshape": _reshape_any,
    "squeeze": _reshape_any,
    "expand_dims": _reshape_any,
    SPREAD: _broadcast,
    "convert_element_type": _cast,
    "copy": _cast,
    "stop_gradient": _stop,
    "mul": _multiply,
    "div": _multiply,
    "dot_general": _matmul,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "add": _add,
    "add_any": _add,
    "select_n": _select,
    "reduce_sum": _sum_rows,
    "scan": _scan,
}
"""How views, taps and rows pass through each primitive; None means: settle them first."""
