"""How far a covariance of few rows is shrunk towards a sphere."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def ledoit_wolf(squares: Any, away: Any, fourth: Any, count: Any) -> Any:
    r"""Weight of the sphere in the Ledoit-Wolf covariance.

    .. math:: a = \min\Big(1, \frac{\frac1n \big(\frac1n \sum_i \|z_i\|^4 - \|\Sigma\|_F^2\big)_+}
              {\|\Sigma - \tfrac{\mathrm{tr} \Sigma}{p} I\|_F^2}\Big), \qquad
              \Sigma_a = (1 - a) \Sigma + a\, \tfrac{\mathrm{tr}\Sigma}{p} I

    All arguments are scalars in one unit, of NumPy or of JAX.

    >>> float(ledoit_wolf(np.float64(5.0), np.float64(0.5), np.float64(15.0), 40))
    0.5

    Args:
      squares: squared Frobenius norm of the covariance, :math:`\|\Sigma\|_F^2`.
      away: that of its distance from the sphere of the same trace.
      fourth: mean of the fourth powers of the rows' lengths.
      count: rows, at least 1.

    Returns:
      Weight in ``[0, 1]``; 1 of a covariance that is a sphere.

    References:
      Ledoit and Wolf (2004), section 3.3.
    """
    xp = jnp if isinstance(away, jax.Array) else np
    noise = xp.maximum((fourth - squares) / count, 0.0)
    beyond = away > noise
    return xp.where(beyond, noise / xp.where(beyond, away, 1.0), 1.0)
