r"""Activations by their normal expectations, :math:`E\phi(X)\phi(Y)` and :math:`E\phi'(X)\phi'(Y)`.

The second is the derivative of the first by the covariance :math:`n` of :math:`X` and :math:`Y`.
Formulas are written in the variances :math:`q_1, q_2` and in the sides ``apart`` and ``across``
of a :class:`~kernlens.ntk.infinite.pairs.Pair`, whose product squared is the determinant
:math:`q_1 q_2 - n^2`. A new activation is one function here and one row of the table.
"""

from collections.abc import Callable
from functools import partial
from math import pi

import flax.linen as nn
import jax
import jax.numpy as jnp

from kernlens.ntk.infinite.layers import Layer, elementwise, identity
from kernlens.ntk.infinite.pairs import Pair, arctan2, sqrt
from kernlens.types import Array


def relu() -> Layer:
    r"""Rectified linear units, :math:`\max(x, 0)`: the arc-cosine kernels of orders 1 and 0.

    References:
      Cho and Saul (2009), equations 3 and 4.
    """
    return leaky_relu(0.0)


def leaky_relu(negative_slope: float = 0.01) -> Layer:
    r"""Leaky rectified linear units, :math:`x` above zero and :math:`\alpha x` below.

    .. math::
      \kappa_1 = \frac{1 + \alpha^2}{2} - \frac{(1 - \alpha)^2}{2\pi}\, \theta, \qquad
      \kappa_0 = \kappa_1 n + \frac{(1 - \alpha)^2}{2\pi} \sqrt{q_1 q_2}\, \sin\theta

    Two signals of which one is zero count as orthogonal, :math:`\theta = \pi/2`.

    Args:
      negative_slope: :math:`\alpha`.

    References:
      Tsuchida, Roosta and Gallagher (2018), section 3.
    """
    mean, bend = (1.0 + negative_slope**2) / 2.0, (1.0 - negative_slope) ** 2 / (2.0 * pi)

    def angle(p: Pair) -> Array:
        zero = p.length == 0
        return jnp.where(zero, pi / 2.0, 2.0 * arctan2(p.apart, jnp.where(zero, 1.0, p.across)))

    def expectations(p: Pair) -> tuple[Array, Array]:
        kappa1 = mean - bend * angle(p)
        return kappa1 * p.nngp + bend * p.apart * p.across, kappa1

    def apart(p: Pair) -> Array:
        return sqrt(mean * p.apart**2 - bend * (p.apart * p.across - angle(p) * p.nngp))

    return elementwise(partial(nn.leaky_relu, negative_slope=negative_slope), expectations, apart)


def erf() -> Layer:
    r"""The error function.

    .. math::
      \kappa_0 = \frac2\pi \mathrm{atan2}(2n, r), \quad \kappa_1 = \frac{4}{\pi r}, \quad
      r^2 = (1 + 2q_1)(1 + 2q_2) - 4n^2

    References:
      Williams (1997), equation 11.
    """

    def expectations(p: Pair) -> tuple[Array, Array]:
        r = jnp.sqrt(1.0 + 2.0 * (p.var1 + p.var2) + 4.0 * (p.apart * p.across) ** 2)
        return 2.0 / pi * arctan2(2.0 * p.nngp, r), 4.0 / pi / r

    return elementwise(jax.lax.erf, expectations)


def gelu() -> Layer:
    r"""Gaussian error linear units, :math:`x\,\Phi(x)`, without the tanh approximation.

    With :math:`P = (1 + q_1)(1 + q_2)`, :math:`r^2 = P - n^2` and
    :math:`\psi = \mathrm{atan2}(n, r)`,

    .. math::
      2\pi\kappa_0 &= n \left(\tfrac\pi2 + \psi\right) + \frac{n^2 + q_1 q_2 r^2}{P r} \\
      2\pi\kappa_1 &= \tfrac\pi2 + \psi
        + \frac{n}{r} \left(\frac{1}{r^2} + \frac{2 + q_1 + q_2}{P}\right)

    References:
      Tsuchida, Pearce, van der Heide, Roosta and Gallagher (2021), proposition 1, for the first;
      the second is its derivative by :math:`n`.
    """

    def expectations(p: Pair) -> tuple[Array, Array]:
        n, q1q2 = p.nngp, p.var1 * p.var2
        product = (1.0 + p.var1) * (1.0 + p.var2)
        squared = 1.0 + p.var1 + p.var2 + (p.apart * p.across) ** 2
        r = jnp.sqrt(squared)
        angle = pi / 2.0 + arctan2(n, r)
        kappa0 = n * angle + (n**2 / squared + q1q2) * r / product
        kappa1 = angle + n / r * (1.0 / squared + (2.0 + p.var1 + p.var2) / product)
        return kappa0 / (2.0 * pi), kappa1 / (2.0 * pi)

    return elementwise(partial(nn.gelu, approximate=False), expectations)


def sin() -> Layer:
    r"""The sine, :math:`\kappa_{0,1} = \frac12 (e^{-E(X - Y)^2/2} \mp e^{-E(X + Y)^2/2})`.

    References:
      Rahimi and Recht (2007), section 3, for the cosine of a sum, from which both follow.
    """

    def expectations(p: Pair) -> tuple[Array, Array]:
        # Less one each, so that small variances keep their digits.
        difference = jnp.expm1(-(p.apart**2) - p.spread)
        total = jnp.expm1(-(p.across**2) - p.spread)
        return 0.5 * (difference - total), 1.0 + 0.5 * (difference + total)

    return elementwise(jnp.sin, expectations)


def cos() -> Layer:
    r"""The cosine, :math:`\kappa_{0,1} = \frac12 (e^{-E(X - Y)^2/2} \pm e^{-E(X + Y)^2/2})`.

    References:
      Rahimi and Recht (2007), section 3.
    """

    def expectations(p: Pair) -> tuple[Array, Array]:
        # Less one each, as for the sine.
        difference = jnp.expm1(-(p.apart**2) - p.spread)
        total = jnp.expm1(-(p.across**2) - p.spread)
        return 1.0 + 0.5 * (difference + total), 0.5 * (difference - total)

    return elementwise(jnp.cos, expectations)


NONLINEARITIES: dict[str, Callable[[], Layer]] = {
    "identity": identity,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "erf": erf,
    "gelu": gelu,
    "sin": sin,
    "cos": cos,
}
"""Activations by name, with their default parameters."""
