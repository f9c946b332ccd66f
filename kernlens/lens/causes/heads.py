"""Causes that lie in the head: another one would read more, or its answers hang on a gauge."""

from typing import Any

import numpy as np

from kernlens.lens.causes import remedies
from kernlens.lens.causes.cause import Measure
from kernlens.lens.causes.evidence import Evidence
from kernlens.probes import class_means, simultaneous_level, widened
from kernlens.types import Labels

LINEAR, NEIGHBOURS = "Linear", "Neighbours"

MOST_COMPARED = 20_000
"""Most rows of which neighbours are looked for."""

GAUGES = 4
"""Random rescalings of the columns."""

GAUGE = 0.7
"""Standard deviation of the logarithms of their factors: half of them beyond 1.6 or below 0.6."""


def others(*, classes: bool) -> dict[str, Any]:
    """Heads that the named one is compared with, by name; of numbers and labels the first two."""
    # Here, since Flax takes half a second to load.
    from kernlens.models import decoders

    found = {LINEAR: decoders.Linear(), "Mlp(32)": decoders.Mlp(32)}
    if classes:
        found |= {"Cosine": decoders.Cosine(), NEIGHBOURS: decoders.Neighbours()}
    return found


def decoder_mismatch(evidence: Evidence) -> Measure:
    """What the best of a few common heads would gain."""
    tried = others(classes=isinstance(evidence.target, Labels))
    own = tried[LINEAR] if evidence.decoder is None else evidence.decoder
    found = {}
    for name, head in tried.items():
        if head == own or (name == NEIGHBOURS and len(evidence.sample) > MOST_COMPARED):
            continue
        is_linear = name == LINEAR
        found[name] = evidence.linear if is_linear else evidence.predict(evidence.rows, head)
    together = simultaneous_level(
        [evidence.answer, *found.values()],
        evidence.metric,
        level=evidence.level,
        seed=evidence.seed,
    )
    gains = {name: evidence.gain(prediction) for name, prediction in found.items()}
    best = max(gains, key=lambda name: gains[name].value)
    said = ", ".join(f"{name} {gain.value:+.3f}" for name, gain in gains.items())
    return Measure(
        gains[best].value, 0.0, f"against the named head: {said}", action=f"take a head {best}",
        gain=widened(gains[best], together),
    )  # fmt: skip


def gauge(evidence: Evidence) -> Measure | None:
    r"""Share of a cosine head's answers that change when columns are rescaled by :math:`D`.

    Training by inner products, :math:`\langle D z, D^{-1} z' \rangle`, leaves ``D`` open; cosines
    depend on it. Measured where the named head is a cosine.
    """
    is_cosine = type(evidence.decoder).__name__ == "Cosine"
    if not (is_cosine and isinstance(evidence.target, Labels)):
        return None
    rows = evidence.rows[evidence.sample]
    target = evidence.target._replace(codes=evidence.target.codes[evidence.sample])
    groups = None if evidence.groups is None else evidence.groups[evidence.sample]
    rng = np.random.default_rng(evidence.seed)

    def answers(factors: np.ndarray) -> np.ndarray:
        turned = remedies.unit_lengths(rows * factors)
        return class_means(turned, target, groups=groups, draws=1, seed=evidence.seed).predicted

    plain = answers(np.ones(rows.shape[1]))
    drawn = [np.exp(GAUGE * rng.standard_normal(rows.shape[1])) for _ in range(GAUGES)]
    score = float(np.mean([np.mean(answers(factors) != plain) for factors in drawn]))
    said = f"{score:.0%} of the head's answers change under a rescaling of the columns"
    return Measure(
        score, 0.0, said, remedy=remedies.whiten, action="fix the gauge: whiten the directions"
    )
