"""Claim 1: spreads between runs, and what they say of a decoder unlike the pretraining's."""

import dataclasses
import functools

import numpy as np
import scipy.stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from experiments.head_mismatch import experiment as head_mismatch
from experiments.kit import spread
from experiments.thm1_decoder_mismatch import experiment as thm1_decoder_mismatch
from experiments.thm1_decoder_mismatch import readers
from experiments.thm1_decoder_mismatch.encoders import LR_TUNED
from tests.corrected.case import Case
from tests.experiments import test_head_mismatch, test_thm1_decoder_mismatch_verdicts

RUNS = 0.5 + 0.01 * test_thm1_decoder_mismatch_verdicts.BASE
NOISE = np.array([-1.0, 0.2, 0.8])
HIDDEN = np.stack([np.roll(NOISE, run) for run in range(6)]) + 1e-3 * np.arange(6)[:, None]
"""Six runs whose means are nearer than the noise of three head seeds allows."""


def of_the_text_encoder() -> str:
    """Verdict where class means spread and change three times as much as logistic regression."""
    rows = test_thm1_decoder_mismatch_verdicts.made(
        LR_TUNED,
        f1=test_thm1_decoder_mismatch_verdicts.spreads(0.03, 0.01),
        apart=test_thm1_decoder_mismatch_verdicts.apart(0.3, 0.2),
    )
    found = thm1_decoder_mismatch.summarise(thm1_decoder_mismatch.TINY, rows)
    return found["verdicts"][f"{LR_TUNED}: mismatch"]


def of_the_heads() -> str:
    """Verdict of five runs whose recall spreads alike under both heads."""
    given = (test_head_mismatch.LESS, test_head_mismatch.AS_WIDE)
    config = dataclasses.replace(head_mismatch.TINY, runs=5)
    return head_mismatch.summarise(config, test_head_mismatch.made(given, given))["verdict"]


@functools.cache
def runs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two runs that share one direction of large variance, ``[2, 1200, 21]``; a rare class."""
    rng = np.random.default_rng(0)
    codes = (rng.random(1200) < 0.1).astype(int)
    shared = 3 * rng.standard_normal((1200, 1)) + 1.5 * codes[:, None]

    def run(seed: int) -> np.ndarray:
        own = np.random.default_rng(seed)
        first = shared + 0.7 * own.standard_normal((1200, 1))
        rest = 0.05 * own.standard_normal((1200, 20))
        rest += 0.02 * codes[:, None] * own.standard_normal((1, 20))
        return readers.scaled(np.hstack([first, rest]))

    return np.stack([run(1), run(2)]), codes, np.arange(1200) >= 900


def changed(read) -> float:
    """Share of the last 300 items whose class differs between the two runs."""
    z, codes, test = runs()
    first, second = (read(one[~test], codes[~test], one[test]) for one in z)
    return float(np.mean(first != second))


def more_by_lr() -> float:
    """Of the readers without shares, logistic regression less class means."""
    means, logistic = (
        functools.partial(readers.READERS[name], seeds=None)
        for name in readers.ALIKE["classes of equal weight"]
    )
    return changed(logistic) - changed(means)


def more_by_scikit_learn() -> float:
    def fitted(made):
        return lambda z, codes, test: made.fit(z, codes).predict(test)

    balanced = LogisticRegression(class_weight="balanced")
    return changed(fitted(balanced)) - changed(fitted(NearestCentroid()))


CASES: tuple[Case, ...] = (
    Case(
        fault="a text encoder fine-tuned by logistic regression was judged as one tuned by inner "
        "products",
        call="thm1_decoder_mismatch.summarise(config, rows): mismatch, inner products less alike",
        before="fails",
        right="holds",
        measure=of_the_text_encoder,
    ),
    Case(
        fault="a reader with the classes' shares was compared to one without",
        call="items that change class between two runs, logistic regression less class means",
        before=-0.0867,
        right=more_by_scikit_learn(),
        measure=more_by_lr,
        tolerance=0.007,  # two of 300 items
    ),
    Case(
        fault="the spread of ten runs had an upper end from the bootstrap",
        call='mismatch.spread of ten values of sd 0.0078: "high"',
        before=0.0095943,
        right=float(np.sqrt(9 * np.var(RUNS, ddof=1) / scipy.stats.chi2.ppf(0.05, 9))),
        measure=lambda: spread.between_sd(RUNS[:, None])["high"],
        tolerance=1e-6,
    ),
    Case(
        fault="a spread hidden by the heads' noise was surely none",
        call='mismatch.spread of six runs of three noisy heads: "high"',
        before="0",
        right="above 0",
        measure=lambda: "above 0" if spread.between_sd(HIDDEN)["high"] > 0 else "0",
    ),
    Case(
        fault="five runs that could not show a factor of two failed a claim",
        call="head_mismatch.summarise(config, rows): verdict, spreads alike",
        before="fails",
        right="undecided",
        measure=of_the_heads,
    ),
)
