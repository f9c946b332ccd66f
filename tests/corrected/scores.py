"""Scores and probes: columns of unlike scale, scales far from 1, classes of one row."""

from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_digits, load_wine

from kernlens import metrics, moments, scores
from kernlens.scores import PAIRS, SCORES, SPECTRA, pairs
from tests.corrected.case import Case


def wine() -> tuple[np.ndarray, np.ndarray]:
    """Rows as they are in scikit-learn, columns of .1 to 300 in spread."""
    x, codes = load_wine(return_X_y=True)
    return x.astype(np.float32), codes.astype(np.int32)


def score(name: str, change: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> float:
    """A score of the wine rows, changed."""
    x, codes = wine()
    row = {**SCORES, **SPECTRA}[name]
    found = row.fn(moments.from_arrays(change(x).astype(np.float32), codes, 3))
    return float(found.value if isinstance(found, scores.Score) else found)


def pair(name: str, scale: float = 1.0) -> float:
    """A score of the first and last six columns of the wine rows, one of them larger."""
    x = scale * wine()[0]
    a, b = x[:, :6] * np.float32([1, 1, 1000, 1, 1, 1]), x[:, 7:]
    return float(PAIRS[name].fn(pairs.from_arrays(a.astype(np.float32), b.astype(np.float32))))


def one_larger(x: np.ndarray) -> np.ndarray:
    """The last of the columns times 1000."""
    return x * np.where(np.arange(x.shape[1]) == x.shape[1] - 1, 1000, 1)


def lonely_classes() -> tuple[np.ndarray, np.ndarray]:
    """194 classes of which 72 have one row, which a leave-one-out reader cannot find."""
    rng = np.random.default_rng(0)
    sizes = np.concatenate([np.ones(72, int), 2 + rng.geometric(0.08, 122)])
    target = np.repeat(np.arange(194), sizes)
    right = (rng.random(len(target)) < 0.9) & (sizes[target] > 1)
    return target, np.where(right, target, rng.choice(target, len(target)))


def place_in_interval(metric: str) -> str:
    """Where the metric lies in the interval of its draws."""
    (point,), (draws,) = metrics.resampled(lonely_classes()[0], (lonely_classes()[1],), 200, 0)
    value = getattr(point, metric)
    low, high = np.quantile(getattr(draws, metric), [0.05, 0.95])
    return "inside" if low <= value <= high else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def few_rows() -> float:
    """GCV of 60 digits by 512 random features: more features than rows."""
    x, codes = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(x))[:60]
    x = np.tanh(x[rows] @ rng.standard_normal((64, 512)) / 40).astype(np.float32)
    return float(scores.gcv(moments.from_arrays(x, codes[rows].astype(np.int32), 10)).value)


CASES: tuple[Case, ...] = (
    Case(
        "a variance floor set by the largest column",
        "gbc_diagonal(moments of wine)",
        -0.036442,
        -0.03515730,  # the authors' code in float64
        lambda: score("gbc_diagonal"),
        tolerance=3e-6,
    ),
    Case(
        "small columns dropped beside one times 1000",
        "h_score(moments of wine)",
        0.703812,
        1.7058208,
        lambda: score("h_score", one_larger),
        tolerance=1e-4,
    ),
    Case(
        "evidence without the small columns",
        "logme(moments of wine)",
        -0.471050,
        -0.0432685,
        lambda: score("logme", one_larger),
        tolerance=4e-6,
    ),
    Case(
        "a spectrum without its small eigenvalues",
        "alpha_req(moments of wine)",
        0.0,
        9.0745745,
        lambda: score("alpha_req", one_larger),
        tolerance=9e-4,
    ),
    Case(
        "the least singular value lost to rounding",
        "inverse_condition(moments of wine)",
        0.0,
        1.1229853e-07,
        lambda: score("inverse_condition", one_larger),
        tolerance=1e-11,
    ),
    Case(
        "canonical directions dropped",
        "pairs.cca(pair of wine columns)",
        0.314720,
        0.4638095,
        lambda: pair("cca"),
        tolerance=4e-5,
    ),
    Case(
        "canonical weights without the dropped directions",
        "pairs.pwcca(pair of wine columns)",
        0.237139,
        0.4129049,
        lambda: pair("pwcca"),
        tolerance=4e-5,
    ),
    Case(
        "spans of columns of unlike scale",
        "pairs.eigenspace_overlap(pair of wine columns)",
        0.285089,
        0.3533146,
        lambda: pair("eigenspace_overlap"),
        tolerance=3e-5,
    ),
    Case(
        "ridge predictions without the small columns",
        "pairs.gulp(pair of wine columns)",
        2.843651,
        7.4110677,
        lambda: pair("gulp"),
        tolerance=7e-4,
    ),
    Case(
        "a fourth moment beyond float32",
        "debiased_alignment(moments of 1e9 * wine)",
        0.0,
        0.5224275,
        lambda: score("debiased_alignment", lambda x: 1e9 * x),
        tolerance=5e-5,
    ),
    Case(
        "the same, of shrinkage",
        "shrunk_h_score(moments of 1e9 * wine)",
        0.0,
        0.7660976,
        lambda: score("shrunk_h_score", lambda x: 1e9 * x),
        tolerance=7e-5,
    ),
    Case(
        "the same, of two embeddings",
        "pairs.debiased_cka(1e9 * pair of wine columns)",
        0.0,
        0.04713917,
        lambda: pair("debiased_cka", 1e9),
        tolerance=4e-6,
    ),
    Case(
        "hyperparameters cut off at a small scale",
        "logme(moments of 1e-12 * wine)",
        -0.256585,
        -0.2792635,
        lambda: score("logme", lambda x: 1e-12 * x),
        tolerance=2e-5,
    ),
    Case(
        "GCV of more features than rows: a difference of nearly equal numbers",
        "gcv(moments of 60 digits, 512 features)",
        0.3079845,
        0.3079650,
        few_rows,
        tolerance=3e-6,
        digits=6,
    ),
    Case(
        "macro-F1 outside its interval, 72 of 194 classes of one row",
        "metrics.resampled(target, (predicted,), 200, 0)",
        "0.563 [0.607, 0.668]",
        "inside",
        lambda: place_in_interval("macro_f1"),
    ),
    Case(
        "balanced accuracy outside its interval, the same rows",
        "metrics.resampled(target, (predicted,), 200, 0)",
        "0.576 [0.638, 0.696]",
        "inside",
        lambda: place_in_interval("balanced_accuracy"),
    ),
)
