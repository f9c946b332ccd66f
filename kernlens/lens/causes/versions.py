"""Causes that show between two versions: drift."""

import numpy as np

from kernlens.lens.causes.cause import Measure, blame
from kernlens.lens.causes.evidence import Evidence


def drift(evidence: Evidence) -> Measure | None:
    """Share of the variance that no rotation of the reference explains, and what going back gains.

    Embeddings of unlike widths are padded with zeros; both are brought to one scale first.
    """
    if evidence.reference is None:
        return None
    width = max(evidence.rows.shape[1], evidence.reference.shape[1])
    new, old = (_padded(rows, width) for rows in (evidence.rows, evidence.reference))
    left, _, right = np.linalg.svd(old.T @ new)
    gaps = np.sum((new - old @ (left @ right)) ** 2, axis=1)
    own = np.sum(new**2, axis=1)
    score = float(gaps.sum() / max(own.sum(), 1e-300))
    gain = evidence.gain(evidence.predict(evidence.reference, evidence.decoder))
    share = f"{1.0 - score:.0%}" if score < 1.0 else "none"
    said = (
        f"a rotation of the reference explains {share} of the variance; gain of this head on the "
        f"reference: {gain.value:+.3f}"
    )
    return Measure(
        score, 0.0, said, blame(gaps / np.where(own > 0, own, 1.0)), gain=gain,
        action="go back to the reference",
    )  # fmt: skip


def _padded(rows: np.ndarray, width: int) -> np.ndarray:
    centred = rows - rows.mean(axis=0)
    scale = np.sqrt(np.sum(centred**2))
    return np.pad(centred / (scale if scale > 0 else 1.0), ((0, 0), (0, width - rows.shape[1])))
