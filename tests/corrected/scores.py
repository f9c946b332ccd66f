"""Scores and probes: columns of unlike scale, scales far from 1, classes of one row."""

import warnings
from collections.abc import Callable

import jax
import numpy as np
from sklearn.datasets import load_digits, load_wine

from kernlens import moments, probes, scores, targets
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


def digits(*, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """60 rows of digits: in each class fewer than the 64 columns."""
    x, codes = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(x))[:60]
    return np.asarray(scale * x[rows], np.float32), np.asarray(codes[rows], np.int32)


def few_rows() -> tuple[np.ndarray, np.ndarray]:
    """60 digits by 512 random features: more features than rows."""
    x, codes = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(x))[:60]
    x = np.tanh(x[rows] @ rng.standard_normal((64, 512)) / 40).astype(np.float32)
    return np.asarray(x), np.asarray(codes[rows], np.int32)


def gap_of_dtypes() -> float:
    """What the centred evidence of few rows in float64 is above that in float32."""
    x, codes = few_rows()
    score = SCORES["logme_centred"].fn
    found = float(score(moments.from_arrays(x, codes, 10)).value)
    with jax.enable_x64(True):
        wide = float(score(moments.from_arrays(x.astype(np.float64), codes, 10)).value)
    return round(wide - found, 5) + 0.0


def unlike_sizes() -> str:
    """Debiased likeness of embeddings of which one is 1e9 times the other."""
    x = wine()[0]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = pairs.debiased_cka(pairs.from_arrays(np.float32(1e9) * x[:, :6], x[:, 7:]))
    return "NaN, with a warning" if np.isnan(found) and told else f"{float(found):.3g}"


def place_of_macro_f1() -> str:
    """Where macro-F1 lies in its interval, of 60 classes of which 40 have one row."""
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.repeat(np.arange(20), 15), np.arange(20, 60)])
    x = rng.standard_normal((60, 8))[codes] + 0.6 * rng.standard_normal((len(codes), 8))
    found = probes.discriminant(x.astype(np.float32), targets.labels(codes)).metrics["macro_f1"]
    return "inside" if found.low < found.value < found.high else "outside"


CASES: tuple[Case, ...] = (
    Case(
        "macro-F1 left its own interval where classes are rare",
        "discriminant(rows, 60 classes, 40 of one row).metrics['macro_f1']: where the value lies",
        "outside",  # 0.282 [0.306, 0.379]
        "inside",
        place_of_macro_f1,
    ),
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
        lambda: float(scores.gcv(moments.from_arrays(*few_rows(), 10)).value),
        tolerance=3e-6,
        digits=6,
    ),
    Case(
        "coding rates of classes of fewer rows than features",
        "transrate(moments of 1000 * 60 digits)",
        447.5663,
        545.4353,
        lambda: float(
            scores.transrate(
                moments.from_arrays(*digits(scale=1000.0), 10, class_scatters=True)
            ).value
        ),
        tolerance=0.05,
        digits=5,
    ),
    Case(
        "the same, from their rows",
        "transrate_of_rows(1000 * 60 digits)",
        549.0015,
        545.4353,
        lambda: float(scores.transrate_of_rows(*digits(scale=1000.0), 10).value),
        tolerance=0.05,
        digits=5,
    ),
    Case(
        "evidence of a fit of every label depended on the dtype",
        "logme_centred(moments of 60 digits, 512 features), float64 less float32",
        0.05118304,
        0.0,
        gap_of_dtypes,
        tolerance=1e-5,
    ),
    Case(
        "one embedding far larger than the other left no digits",
        "pairs.debiased_cka(1e9 * wine columns, other wine columns)",
        "0",
        "NaN, with a warning",
        unlike_sizes,
    ),
)
