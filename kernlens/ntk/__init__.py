"""Tangent kernels: empirical ones of any function, infinite-width ones, and what follows."""

from kernlens.ntk.empirical import (
    Explanation,
    Method,
    NtkImplementation,
    cross_ntk_fn,
    empirical_ntk_fn,
)
from kernlens.ntk.linear import empirical_ntk_vp_fn, linearize, taylor_expand
