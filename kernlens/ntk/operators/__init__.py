"""Kernels that are never built: products, solves, estimates and streamed blocks for any n.

An operator stands for a kernel matrix and knows how to multiply by it:

    k = operators.from_kernel(kernels.rbf, x)                       # any kernel function
    k = operators.from_function(model.apply, params, x)             # an empirical NTK
    precondition = operators.nystrom(key, k, rank=200, ridge=1e-2)
    predicted, info = operators.ridge_predict(
        k, y, x_test, ridge=1e-2, preconditioner=precondition
    )
"""

from kernlens.ntk.operators.estimates import TraceEstimate, hutchinson, log_determinant, xtrace
from kernlens.ntk.operators.function import from_function
from kernlens.ntk.operators.operator import Operator, from_kernel
from kernlens.ntk.operators.preconditioners import nystrom, pivoted_cholesky
from kernlens.ntk.operators.solver import Solve, ridge_predict, solve
from kernlens.ntk.operators.streaming import stream

__all__ = [
    "Operator",
    "Solve",
    "TraceEstimate",
    "from_function",
    "from_kernel",
    "hutchinson",
    "log_determinant",
    "nystrom",
    "pivoted_cholesky",
    "ridge_predict",
    "solve",
    "stream",
    "xtrace",
]
