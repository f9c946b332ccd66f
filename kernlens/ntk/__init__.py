"""Tangent kernels: empirical ones of any function, infinite-width ones, and what follows.

The names and calling conventions are those of neural-tangents: ``import kernlens.ntk as nt``. So
``ntk.predict`` is another name of the module :mod:`kernlens.ntk.dynamics`; it has nothing to do
with the verb :func:`kernlens.predict`.
"""

from kernlens.ntk import dynamics, infinite, influence, operators, sketch, stax
from kernlens.ntk import dynamics as predict
from kernlens.ntk.batching import batch
from kernlens.ntk.empirical import cross_ntk_fn, empirical_ntk_fn
from kernlens.ntk.linear import empirical_ntk_vp_fn, linearize, taylor_expand
from kernlens.ntk.methods import Explanation, Method, NtkImplementation
from kernlens.ntk.outputs import (
    Kernels,
    empirical_kernel_fn,
    empirical_nngp_fn,
    monte_carlo_kernel_fn,
)
from kernlens.ntk.parts import (
    as_matrix,
    diagonal_fn,
    gradient_norms_fn,
    layer_ntk_fns,
    pntk_fn,
    sharded,
    trace_fn,
)
from kernlens.ntk.sketch import features

__all__ = [
    "Explanation",
    "Kernels",
    "Method",
    "NtkImplementation",
    "as_matrix",
    "batch",
    "cross_ntk_fn",
    "diagonal_fn",
    "dynamics",
    "empirical_kernel_fn",
    "empirical_nngp_fn",
    "empirical_ntk_fn",
    "empirical_ntk_vp_fn",
    "features",
    "gradient_norms_fn",
    "infinite",
    "influence",
    "layer_ntk_fns",
    "linearize",
    "monte_carlo_kernel_fn",
    "operators",
    "pntk_fn",
    "predict",
    "sharded",
    "sketch",
    "stax",
    "taylor_expand",
    "trace_fn",
]
