r"""Where parameters enter a function: a walk over its jaxpr.

Most parameters enter a network through an operation that is linear in them: a matrix product, an
embedding lookup, a convolution. The gradient of output :math:`o` with respect to such a leaf is
then :math:`\sum_p a_p \otimes \delta_{o,p}`: what the operation read at position :math:`p`
(:math:`a`) times the cotangent of what it wrote (:math:`\delta`). The walk finds these *sites*,
and evaluates the function with a zero *tap* added to what each wrote, so that the gradient with
respect to the taps is :math:`\delta`, and no gradient of the leaf is ever built. A bias added to
what a site wrote shares its cotangent and is noted there. On its way a leaf may be sliced, joined
with others, reordered, scaled and looped over: a *view* of it knows which entries stand where, and
a site is about these alone. Any other use makes a leaf *opaque*.
"""

from kernlens.ntk.walk.evaluation import evaluate, find
from kernlens.ntk.walk.sites import (
    Kind,
    Read,
    Region,
    Site,
    Sites,
    Split,
    WeightedIds,
    right_factor,
)
from kernlens.ntk.walk.views import disjoint

__all__ = [
    "Kind",
    "Read",
    "Region",
    "Site",
    "Sites",
    "Split",
    "WeightedIds",
    "disjoint",
    "evaluate",
    "find",
    "right_factor",
]
