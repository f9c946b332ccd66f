"""Kernels: closed-form ones and their algebra, and the kernel of a decoder.

A kernel is a function ``(x1 [n1, d], x2 [n2, d]) -> K [n1, n2]``.
"""

from kernlens.kernels.closed_form import (
    KERNELS,
    add,
    arc_cosine,
    centre,
    centre_gram,
    cosine,
    diagonal,
    label,
    laplace,
    linear,
    matern52,
    multiply,
    normalise,
    polynomial,
    rbf,
    scale,
)

__all__ = [
    "KERNELS",
    "add",
    "arc_cosine",
    "centre",
    "centre_gram",
    "cosine",
    "diagonal",
    "label",
    "laplace",
    "linear",
    "matern52",
    "multiply",
    "normalise",
    "polynomial",
    "rbf",
    "scale",
]
