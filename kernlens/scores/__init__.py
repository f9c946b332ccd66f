r"""Scores: Moments to a number, with what labels that carry nothing give beside it.

:data:`SCORES` read features and labels (alignment, evidence, separation), :data:`SPECTRA` features
alone, :data:`PAIRS` two embeddings of the same rows; all from one streaming pass, at any number of
rows. :data:`ROWS`, and what is in ``rows``, ``discriminant`` and ``source`` beside them, need the
rows or a sample of them. ``curves`` forecasts the error at more labels. A kernel other than the
linear one goes in by its features. Exact leave-one-out of ridge and of discriminant analysis, with
metrics in value, is :mod:`kernlens.probe`.

Released code that these do not follow, with what it does instead:

=====================  ============================================================================
peer                   fault
=====================  ============================================================================
clf_kernel_score       not proposition 1 (no norm); diagonal included; NaN where a row is zero
stable_transfer        H-score multiplies elementwise before the trace: 19.1 on wine, at most 2
LogME (authors)        no bias; below full rank ``D log(alpha)`` counts all ``D`` directions, the
                       determinant only those kept; tied to the scale by its epsilon and its start
PACTran                H-score and LEEP with the sign turned; LogME without ``log(2 pi) / 2``
TransRate              the paper's listing weighs classes alike, the repository by their rows
GBC, spherical         the volume term once, not once per dimension (kept in ``gbc_spherical``)
PARC                   rounding in one-hot correlations breaks the ties of label distances by
                       class: 64.87 on wine for 64.55, and 27.11 on digits for 27.00, where it
                       varies with the linear algebra library
ETran                  ``eigh`` of a matrix that is not symmetric returns an orthogonal basis, so
                       its discriminant is the nearest class mean whatever the covariance
SFDA                   overwrites the features that it is given
graph_embedding        alpha-ReQ regresses on rank, not on log rank
=====================  ============================================================================
"""

from kernlens.scores.alignment import (
    ALIGNMENTS,
    centred_alignment,
    debiased_alignment,
    debiased_hsic,
    hsic,
    proposition1,
    published_class_cosine,
)
from kernlens.scores.curves import eigenlearning, learning_curve
from kernlens.scores.estimator import Estimator, Score
from kernlens.scores.evidence import EVIDENCE, arora_complexity, evidence, gcv, logme, logme_centred
from kernlens.scores.pairs import PAIRS, Pair
from kernlens.scores.rows import ROWS
from kernlens.scores.separation import (
    SEPARATION,
    coding_rates,
    gbc_diagonal,
    gbc_full,
    gbc_spherical,
    h_score,
    projected_coding_rates,
    shrunk_h_score,
    transrate,
    transrate_of_rows,
    transrate_weighted,
)
from kernlens.scores.spectrum import SPECTRA

SCORES: dict[str, Estimator] = {**ALIGNMENTS, **EVIDENCE, **SEPARATION}
"""Scores of features against labels, ``Moments -> Score``, by name."""

__all__ = [
    "ALIGNMENTS",
    "EVIDENCE",
    "PAIRS",
    "ROWS",
    "SCORES",
    "SEPARATION",
    "SPECTRA",
    "Estimator",
    "Pair",
    "Score",
    "arora_complexity",
    "centred_alignment",
    "coding_rates",
    "debiased_alignment",
    "debiased_hsic",
    "eigenlearning",
    "evidence",
    "gbc_diagonal",
    "gbc_full",
    "gbc_spherical",
    "gcv",
    "h_score",
    "hsic",
    "learning_curve",
    "logme",
    "logme_centred",
    "projected_coding_rates",
    "proposition1",
    "published_class_cosine",
    "shrunk_h_score",
    "transrate",
    "transrate_of_rows",
    "transrate_weighted",
]
