r"""What two examples send through an infinitely wide network: their covariance and tangent kernel.

Per channel the two signals :math:`X, Y` have variances :math:`q_1, q_2` and covariance :math:`n`,
the NNGP kernel. Stored are not :math:`n` but the roots of the two gaps of the Cauchy-Schwarz
inequality, :math:`\sqrt{q_1 q_2} \mp n`: the sides ``apart`` and ``across`` of a right triangle.
The angle between the signals is :math:`\theta = 2\,\mathrm{atan2}(\text{apart}, \text{across})`,
accurate near 0 and :math:`\pi`, where the arc cosine of a rounded :math:`n` is not; and under sums
and products of independent signals the gaps only ever add up, so nothing cancels on the way.

All is written for one pair of examples; :func:`grid` maps it over two batches.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from kernlens.arrays.rows import unit_rows
from kernlens.types import Array


class Inputs(NamedTuple):
    """Two raw examples, each a row, an image, an id, or a tuple of such.

    Attributes:
      x1: the first.
      x2: the second.
      full: whether kernels are needed at all pairs of positions of two images, for a pool.
    """

    x1: Any
    x2: Any
    full: bool = False


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pair:
    r"""Joint law of the signals of two examples in one channel, and their tangent kernel.

    Attributes:
      var1: second moment :math:`q_1 \ge 0` of the first signal.
      var2: second moment :math:`q_2 \ge 0` of the second signal.
      apart: root of :math:`\sqrt{q_1 q_2} - n`, at least 0; zero where the signals are parallel.
      across: root of :math:`\sqrt{q_1 q_2} + n`, at least 0; zero where they are opposite.
      ntk: tangent kernel :math:`\Theta` of one channel.
      width: number of channels of the finite network.
      normal: whether the signals are jointly normal with mean zero, as activations require.
      fresh: whether they have mean zero and are independent of those of any other branch.
      own1: the same of the first example with itself, where the arrays are of all pairs of
        positions, ``[*positions, *positions]``; else None. Of positions that are paired with
        themselves alone, the arrays are ``[*positions]``.
      own2: the same of the second example.
    """

    var1: Array
    var2: Array
    apart: Array
    across: Array
    ntk: Array
    width: int = field(metadata={"static": True})
    normal: bool = field(metadata={"static": True})
    fresh: bool = field(metadata={"static": True})
    own1: "Pair | None" = None
    own2: "Pair | None" = None

    @property
    def nngp(self) -> Array:
        """Covariance :math:`n` of the two signals."""
        return 0.5 * (self.across**2 - self.apart**2)

    @property
    def length(self) -> Array:
        r"""Product of the two standard deviations, :math:`\sqrt{q_1 q_2}`."""
        return 0.5 * (self.across**2 + self.apart**2)

    @property
    def spread(self) -> Array:
        r"""What unequal lengths add to a distance, :math:`(\sqrt{q_1} - \sqrt{q_2})^2 / 2`."""
        return 0.5 * (sqrt(self.var1) - sqrt(self.var2)) ** 2


Signal: TypeAlias = Inputs | Pair
"""What a layer may receive: raw examples where it comes first, a :class:`Pair` after another."""


def grid(fn: Callable[[Inputs], Any], x1: Any, x2: Any) -> Any:
    """``fn`` of each example of one batch with each of another; leading axes ``[n1, n2]``."""
    return jax.vmap(lambda a: jax.vmap(lambda b: fn(Inputs(a, b)))(x2))(x1)


def pair(signal: Signal) -> Pair:
    r"""The signal itself, or that of two raw rows: :math:`n = \langle x, x'\rangle / d`."""
    if isinstance(signal, Pair):
        return signal
    chex.assert_rank([signal.x1, signal.x2], 1)
    chex.assert_equal_shape([signal.x1, signal.x2])
    chex.assert_type([signal.x1, signal.x2], float)
    (width,) = signal.x1.shape
    var1, var2 = jnp.sum(signal.x1**2) / width, jnp.sum(signal.x2**2) / width
    unit1, unit2 = unit_rows(signal.x1[None])[0], unit_rows(signal.x2[None])[0]
    apart, across = _unit_gaps(unit1, unit2)
    root = sqrt(sqrt(var1)) * sqrt(sqrt(var2))
    return Pair(
        var1=var1,
        var2=var2,
        apart=root * apart,
        across=root * across,
        ntk=jnp.zeros_like(var1),
        width=width,
        normal=False,
        fresh=False,
    )


def own(p: Pair) -> tuple[Pair, Pair]:
    """The signal of each example paired with itself."""
    same1 = replace(p, var2=p.var1, apart=jnp.zeros_like(p.var1), across=sqrt(2.0 * p.var1))
    same2 = replace(p, var1=p.var2, apart=jnp.zeros_like(p.var2), across=sqrt(2.0 * p.var2))
    return same1, same2


def gaps(nngp: Array, var1: Array, var2: Array, *, noise: float, below: Array) -> dict[str, Array]:
    """``apart`` and ``across`` by subtraction, where nothing better is known.

    Args:
      nngp: covariance.
      var1: first variance.
      var2: second variance.
      noise: rounding of the covariance in units of the machine epsilon; under it a gap is noise.
      below: what the first gap is taken to be there, if that is less; the second is taken to be
        zero.

    Returns:
      The two fields by name.
    """
    length = sqrt(var1) * sqrt(var2)
    floor = noise * float(jnp.finfo(length.dtype).eps) * length
    apart, across = length - nngp, length + nngp
    return {
        "apart": sqrt(jnp.where(apart > floor, apart, jnp.minimum(apart, below))),
        "across": sqrt(jnp.where(across > floor, across, 0.0)),
    }


def scaled(p: Pair, c: float | Array) -> Pair:
    """The pair of signals times ``c >= 0``; variances and tangent kernel scale by its square."""
    squared = c**2
    return replace(
        p,
        var1=squared * p.var1,
        var2=squared * p.var2,
        apart=c * p.apart,
        across=c * p.across,
        ntk=squared * p.ntk,
    )


def sum_of(p1: Pair, p2: Pair) -> Pair:
    r"""The pair of sums of two uncorrelated signals; tangent kernels add.

    With standard deviations :math:`a_k, b_k`, both gaps are sums of the terms' plus
    :math:`\sqrt{(a_1^2 + a_2^2)(b_1^2 + b_2^2)} - a_1 b_1 - a_2 b_2`, evaluated as
    :math:`(a_1 b_2 - a_2 b_1)^2` over the sum of the three.
    """
    a1, a2, b1, b2 = sqrt(p1.var1), sqrt(p2.var1), sqrt(p1.var2), sqrt(p2.var2)
    var1, var2 = p1.var1 + p2.var1, p1.var2 + p2.var2
    excess = divide((a1 * b2 - a2 * b1) ** 2, sqrt(var1) * sqrt(var2) + a1 * b1 + a2 * b2)
    return replace(
        p1,
        var1=var1,
        var2=var2,
        apart=sqrt(p1.apart**2 + p2.apart**2 + excess),
        across=sqrt(p1.across**2 + p2.across**2 + excess),
        ntk=p1.ntk + p2.ntk,
        own1=None if p1.own1 is None or p2.own1 is None else sum_of(p1.own1, p2.own1),
        own2=None if p1.own2 is None or p2.own2 is None else sum_of(p1.own2, p2.own2),
    )


def pointwise(propagate: Callable[[Any], Pair]) -> Callable[[Any], Pair]:
    """A layer that acts on each position alone, on examples with themselves too where kept."""

    def everywhere(signal: Any) -> Pair:
        if not isinstance(signal, Pair) or signal.own1 is None:
            return propagate(signal)
        after = propagate(replace(signal, own1=None, own2=None))
        return replace(after, own1=propagate(signal.own1), own2=propagate(signal.own2))

    return everywhere


def product_of(p1: Pair, p2: Pair) -> Pair:
    """The pair of products of two independent signals; tangent kernels by the product rule."""
    return replace(
        p1,
        var1=p1.var1 * p2.var1,
        var2=p1.var2 * p2.var2,
        apart=sqrt(0.5 * ((p1.apart * p2.across) ** 2 + (p1.across * p2.apart) ** 2)),
        across=sqrt(0.5 * ((p1.across * p2.across) ** 2 + (p1.apart * p2.apart) ** 2)),
        ntk=p1.ntk * p2.nngp + p1.nngp * p2.ntk,
    )


@jax.custom_jvp
def sqrt(squared: Array) -> Array:
    """Square root, zero with a zero gradient where the argument is not positive."""
    # A select after the root would not end a fusion; the guard is in the derivative alone.
    return jnp.sqrt(jnp.maximum(squared, 0.0))


@sqrt.defjvp
def _sqrt_jvp(primals, tangents):
    root = sqrt(*primals)
    positive = root > 0
    return root, tangents[0] * jnp.where(positive, 0.5 / jnp.where(positive, root, 1.0), 0.0)


def divide(numerator: Array, denominator: Array) -> Array:
    """Quotient by a denominator of at least zero, where that is zero only if the numerator is."""
    return numerator / jnp.where(denominator > 0, denominator, 1.0)


@jax.custom_jvp
def arctan2(y: Array, x: Array) -> Array:
    r"""Angle of ``(x, y)`` for :math:`x \ge 0`, in :math:`[-\pi/2, \pi/2]`; zero at the origin.

    Three times :math:`\tan(\phi/2) = \tan\phi / (1 + \sqrt{1 + \tan^2\phi})` brings the angle to
    at most :math:`\pi/16`, where the Taylor series is short. XLA's own function is a scalar loop
    on CPU, some thirty times the cost of an exponential; this one fuses with its surroundings.
    """
    t = divide(y, x + sqrt(x**2 + y**2))
    for _ in range(2):
        t = t / (1.0 + jnp.sqrt(1.0 + t**2))
    # tan(pi/16)^2 = 0.0396: the first term left out is 4e-11 of the first, in float64 1e-19.
    terms = 7 if jnp.finfo(t.dtype).bits <= 32 else 13
    series = jnp.zeros_like(t)
    for k in reversed(range(terms)):
        series = (-1.0) ** k / (2 * k + 1) + series * t**2
    return 8.0 * t * series


@arctan2.defjvp
def _arctan2_jvp(primals, tangents):
    (y, x), (ty, tx) = primals, tangents
    squared = x**2 + y**2
    inverse = divide(jnp.ones_like(squared), squared)
    return arctan2(y, x), inverse * x * ty - inverse * y * tx


def _unit_gaps(u: Array, v: Array) -> tuple[Array, Array]:
    """Roots of one less and of one plus the inner product of two unit vectors, for ``pair``."""
    apart, across = _chords(u, v)
    return sqrt(apart), sqrt(across)


@jax.custom_jvp
def _chords(u: Array, v: Array) -> tuple[Array, Array]:
    r""":math:`\|u \mp v\|^2 / 2` of two unit vectors, exactly zero where they are equal, opposite.

    A rounded inner product resolves angles to the square root of the machine epsilon only, and
    summing differences is no matrix product. So each vector is split into two parts on grids so
    coarse that their inner products are sums of integers, free of rounding in any order; what is
    left, some ``d`` times the machine epsilon of the angle at most, is dropped.

    References:
      Ozaki, Ogita, Oishi and Rump (2012), section 2, for the splitting.
    """
    digits = jnp.finfo(u.dtype).nmant + 1
    coarse = digits // 2 - 1
    # Inner products of two fine parts, too, stay below 2^digits units of their common grid.
    fine = digits - ((len(u) - 1).bit_length() + 1) // 2
    (u0, u1), (v0, v1) = (_split(x, 2.0**coarse, 2.0**fine) for x in (u, v))
    inner = (_dot(u0, v0), _dot(jnp.append(u0, u1), jnp.append(v1, v0)), _dot(u1, v1))
    lengths = (
        0.5 * (_dot(u0, u0) + _dot(v0, v0)),
        _dot(u0, u1) + _dot(v0, v1),
        0.5 * (_dot(u1, u1) + _dot(v1, v1)),
    )
    apart = reduce(jnp.add, [a - b for a, b in zip(lengths, inner, strict=True)])
    across = reduce(jnp.add, [a + b for a, b in zip(lengths, inner, strict=True)])
    # The grids dropped something of the lengths too, which are 1, or 0 for a zero row.
    length = reduce(jnp.add, lengths)
    return divide(apart, length), divide(across, length)


@_chords.defjvp
def _chords_jvp(primals, tangents):
    (u, v), (tu, tv) = primals, tangents
    lengths, inner = _dot(u, tu) + _dot(v, tv), _dot(u, tv) + _dot(tu, v)
    return _chords(u, v), (lengths - inner, lengths + inner)


def _split(x: Array, coarse: float, fine: float) -> tuple[Array, Array]:
    first = jnp.round(x * coarse) / coarse
    return first, jnp.round((x - first) * fine) / fine


def _dot(u: Array, v: Array) -> Array:
    return jnp.dot(u, v, precision="highest")
