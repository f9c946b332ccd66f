r"""Theorem 1's terms, for one embedding, against measured risks.

Constants hidden by the paper's :math:`\lesssim` are taken as 1. Both complexities are of classes
whose supremum has a closed form under the Gaussian weights: linear maps of the embedding with
Frobenius norm :math:`\sqrt d` (the representation), and heads with the trained head's norm. A free
table of vectors, which item2vec is, has :math:`G_n / \sqrt n = R E\|\gamma\|` whatever n. The same
linear maps make the class whose Rademacher complexity over triplets the contrastive bound has.
"""

import math
from typing import Any

import numpy as np

from experiments.thm1_decoder_mismatch.readers import fitted_lr


def supremum(z: np.ndarray, outputs: int, norm: float, draws: int, seed: int) -> float:
    r""":math:`E \sup_{\|W\|_F \le b} \sum_i \langle \gamma_i, W z_i \rangle
    = b\, E \|\sum_i \gamma_i z_i^\top\|_F`, by Monte Carlo."""
    rng = np.random.default_rng(seed)
    sums = [np.linalg.norm(rng.standard_normal((outputs, len(z))) @ z) for _ in range(draws)]
    return norm * float(np.mean(sums))


def excess(
    z: np.ndarray, codes: np.ndarray, test: np.ndarray, sizes: tuple[int, ...], *,
    repeats: int, draws: int, delta: float, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each n: log loss beyond that of all labels, and the bound's terms."""
    train = np.flatnonzero(~test)
    radius = float(np.linalg.norm(z, axis=1).max())
    dim, classes = z.shape[1], int(codes.max()) + 1

    def risk(rows):
        head = fitted_lr(z[rows], codes[rows])
        # A class without a training row keeps a share that one row would have.
        chance = np.full((int(test.sum()), classes), 1.0 / (len(rows) + classes))
        chance[:, head.classes_] = np.maximum(head.predict_proba(z[test]), chance[:, :1])
        right = chance[np.arange(len(chance)), codes[test]] / chance.sum(axis=1)
        return float(-np.mean(np.log(right))), float(np.linalg.norm(head.coef_))

    best, _ = risk(train)
    rows = []
    for n in sizes:
        measured, representation, head = [], [], []
        for r in range(repeats):
            drawn = np.random.default_rng((seed, n, r)).permutation(train)[:n]
            found, norm = risk(drawn)
            measured.append(found - best)
            representation.append(supremum(z[drawn], dim, math.sqrt(dim), draws, r) / n)
            head.append(supremum(z[drawn], classes, norm, draws, r) / n)
        constant = math.sqrt(math.log(8 / delta))
        terms = {
            "representation": float(np.mean(representation)),
            "head": float(np.mean(head)),
            "confidence": constant / math.sqrt(n),
        }
        rows.append(
            {
                "n": n, "excess": float(np.mean(measured)), **terms, "radius": radius,
                "bound": sum(terms.values()),
                "bound_as_printed": terms["representation"] + terms["head"] + constant,
                "free_table": radius * math.sqrt(2) * math.gamma((dim + 1) / 2)
                / math.gamma(dim / 2),
            }
        )  # fmt: skip
    return rows


def contrastive(z: np.ndarray, codes: np.ndarray, *, triplets: int, seed: int) -> dict[str, float]:
    r"""Both sides of :math:`R_\tau \le (R_{CL} - q) / (1 - q)`, logistic loss to base 2.

    Classes of anchor and negative are drawn by their shares, so q is the chance that they meet;
    :math:`R_\tau` is the mean over pairs of different classes of the loss of the class-mean
    classifier. Rows have mean squared norm 1.
    """
    z = z / np.sqrt(np.mean(np.sum(z**2, axis=1)))
    rng = np.random.default_rng(seed)
    classes = int(codes.max()) + 1
    groups = [np.flatnonzero(codes == c) for c in range(classes)]
    share = np.bincount(codes) / len(codes)
    anchor, positive, negative = _triplets(codes, triplets, rng)
    margin = np.sum(z[anchor] * (z[positive] - z[negative]), axis=1)
    pretraining = float(np.mean(np.logaddexp(0, -margin)) / math.log(2))
    means = np.stack([z[g].mean(axis=0) for g in groups])
    q = float(np.sum(share**2))
    risk, spread = 0.0, 0.0
    for c, rows in enumerate(groups):
        logits = z[rows] @ means.T
        losses = np.logaddexp(0, logits - logits[:, [c]]).mean(axis=0) / math.log(2)
        risk += float(share[c] * np.sum(np.delete(share * losses, c))) / (1 - q)
        spread += share[c] * float(np.linalg.norm(np.cov(z[rows].T, bias=True), 2))
    radius = float(np.linalg.norm(z, axis=1).max())
    return {
        "R_CL": pretraining, "q": q, "measured": risk, "bound": (pretraining - q) / (1 - q),
        "within": spread, "extra": radius * spread, "radius": radius,
    }  # fmt: skip


def triplet_terms(
    z: np.ndarray, codes: np.ndarray, sizes: tuple[int, ...], *, draws: int, seed: int
) -> list[dict[str, float]]:
    r"""A row for each number of triplets n: what the contrastive bound adds for their number.

    The term is :math:`3\sqrt2 L R / B \cdot \mathcal R_n(\Phi)`, with R the largest norm, L and B
    the Lipschitz constant and the largest value of the logistic loss to base 2 over margins of at
    most :math:`2R^2`, and, by Monte Carlo, the mean over signs :math:`\sigma`

    .. math:: \mathcal R_n(\Phi) = \frac1n E \sup_{\|W\|_F \le \sqrt d}
       \sum_{j \le 3n} \langle \sigma_j, W z_j \rangle

    over anchors, positives and negatives.
    """
    z = z / np.sqrt(np.mean(np.sum(z**2, axis=1)))
    radius, dim = float(np.linalg.norm(z, axis=1).max()), z.shape[1]
    lipschitz = 1 / math.log(2)
    largest = float(np.logaddexp(0, 2 * radius**2)) / math.log(2)
    rows = []
    for n in sizes:
        rng = np.random.default_rng((seed, n))
        some = z[np.concatenate(_triplets(codes, n, rng))]
        norms = [
            np.linalg.norm(rng.choice([-1.0, 1.0], (dim, len(some))) @ some) for _ in range(draws)
        ]
        complexity = math.sqrt(dim) * float(np.mean(norms)) / n
        term = 3 * math.sqrt(2) * lipschitz * radius / largest * complexity
        rows.append({"n": n, "complexity": complexity, "generalisation": term})
    return rows


def _triplets(codes: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Anchors, positives of their classes and negatives of any, rows of each, ``[n]``."""
    anchor, negative = rng.integers(len(codes), size=(2, n))
    order, size = np.argsort(codes, kind="stable"), np.bincount(codes)
    starts, of = np.cumsum(size) - size, codes[anchor]
    return anchor, order[starts[of] + (rng.random(n) * size[of]).astype(int)], negative
