r"""Scores: Moments to a number, with its null, what labels that carry no information give.

:data:`SCORES` read features and labels (alignment, evidence, separation), :data:`SPECTRA` features
alone, :data:`PAIRS` two embeddings of the same rows; all from one streaming pass, at any number of
rows. :data:`ROWS`, and the other functions of ``rows``, ``discriminant`` and ``source``, need the
rows or a sample of them. ``curves`` forecasts the error at more labels. A kernel other than the
linear one goes in by its features. Exact leave-one-out of ridge and of discriminant analysis, with
metrics in value, is :mod:`kernlens.probes`.

Each of them is a row of a table, with its formula, source, range, null, what it predicts and where
it misleads; SCORES.md prints all of them. :data:`PEERS` lists released code that these do not
follow.
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
from kernlens.scores.peers import PEERS
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
from kernlens.scores.spectrum import SPECTRA, eigenvalues

SCORES: dict[str, Estimator] = {**ALIGNMENTS, **EVIDENCE, **SEPARATION}
"""Scores of features against labels, ``Moments -> Score``, by name."""

__all__ = [
    "ALIGNMENTS",
    "EVIDENCE",
    "PAIRS",
    "PEERS",
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
    "eigenvalues",
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
