r"""Two embeddings :math:`A\,[n, p]` and :math:`B\,[n, q]` of the same rows, from one pass.

A :class:`Pair` holds the moments of each and of the rows side by side, :math:`[A, B]`; like moments
it merges. What is uncentred in its source is uncentred here (PIP loss, eigenspaces, displacement);
the subspaces are found from bases scaled along the mean, so a mean far above the spread costs no
digits.
"""

from kernlens.scores.estimator import Estimator
from kernlens.scores.pairs.distances import (
    DISTANCES,
    alignment_loss,
    frobenius_distance,
    gulp,
    procrustes,
    procrustes_angle,
    rotation,
)
from kernlens.scores.pairs.grams import GRAMS, cka, debiased_cka, pip_loss
from kernlens.scores.pairs.pair import Pair, from_arrays, merge
from kernlens.scores.pairs.subspaces import (
    SUBSPACES,
    Correlations,
    canonical_correlations,
    cca,
    eigenspace_instability,
    eigenspace_overlap,
    pwcca,
    svcca,
    weighted_eigenspace_overlap,
)

PAIRS: dict[str, Estimator] = {**GRAMS, **DISTANCES, **SUBSPACES}
"""Comparisons of two embeddings of the same rows, ``Pair -> []``, by name."""

__all__ = [
    "PAIRS",
    "Correlations",
    "Pair",
    "alignment_loss",
    "canonical_correlations",
    "cca",
    "cka",
    "debiased_cka",
    "eigenspace_instability",
    "eigenspace_overlap",
    "frobenius_distance",
    "from_arrays",
    "gulp",
    "merge",
    "pip_loss",
    "procrustes",
    "procrustes_angle",
    "pwcca",
    "rotation",
    "svcca",
    "weighted_eigenspace_overlap",
]
