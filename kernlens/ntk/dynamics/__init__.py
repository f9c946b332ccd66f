"""Training dynamics in function space: what gradient descent does to the outputs, from kernels.

Gradient flow moves the outputs of a linearised model by its tangent kernel alone. For squared
error that has a closed form at every time, from one eigendecomposition; other losses are solved as
an ordinary differential equation. Conventions (interleaved output axes, ``trace_axes``, squared
error as half the mean over all entries, time in units of the learning rate) are those of
neural-tangents' ``predict``.
"""

from kernlens.ntk.dynamics.ensemble import (
    Gaussian,
    Gaussians,
    ensemble_mse,
    gp_inference,
    gradient_descent_mse_ensemble,
)
from kernlens.ntk.dynamics.ode import (
    LOSSES,
    ODEState,
    SolverInfo,
    gradient_descent,
    logistic,
    mse,
    softmax_cross_entropy,
)
from kernlens.ntk.dynamics.spectrum import Spectrum, max_learning_rate, spectrum
from kernlens.ntk.dynamics.squared_error import discrete_gradient_descent_mse, gradient_descent_mse

__all__ = [
    "LOSSES",
    "Gaussian",
    "Gaussians",
    "ODEState",
    "SolverInfo",
    "Spectrum",
    "discrete_gradient_descent_mse",
    "ensemble_mse",
    "gp_inference",
    "gradient_descent",
    "gradient_descent_mse",
    "gradient_descent_mse_ensemble",
    "logistic",
    "max_learning_rate",
    "mse",
    "softmax_cross_entropy",
    "spectrum",
]
