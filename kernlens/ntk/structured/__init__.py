r"""Tangent kernels from layer inputs and output cotangents, without per-example gradients.

Where a leaf enters linearly (:mod:`kernlens.ntk.walk`), its gradient at example :math:`i`, output
:math:`o`, is :math:`\sum_p a_{ip} \otimes \delta_{iop}`, and its share of the kernel

.. math:: \sum_{p,q} \langle a_{ip}, a_{jq}\rangle \langle \delta_{iop}, \delta_{jo'q}\rangle.

Three contractions give it: the products of *Grams* over positions (one Hadamard product where a
leaf is used once), *gradients* built from the factors and multiplied, and, for a leaf that enters
in any other way, its exact *Jacobian*. The plan
takes the cheapest for each leaf, from shapes alone.
"""

from kernlens.ntk.structured.contraction import contract
from kernlens.ntk.structured.cotangents import Factors, batched, factors
from kernlens.ntk.structured.plans import (
    ELEMENTWISE_COST,
    Contraction,
    OutputAxes,
    Part,
    Plan,
    Share,
    plan,
)
from kernlens.ntk.structured.sides import Side, sides

__all__ = [
    "ELEMENTWISE_COST",
    "Contraction",
    "Factors",
    "OutputAxes",
    "Part",
    "Plan",
    "Share",
    "Side",
    "batched",
    "contract",
    "factors",
    "plan",
    "sides",
]
