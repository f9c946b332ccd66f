"""No NaN leaves silently: every score of every table is finite, or a ValueError says what is wrong.

Over lengths, dtypes, scales, means, class patterns and degenerate rows. Scores of moments compile
once a width, those of rows once a shape, so there are few of both.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlens import moments
from kernlens.arrays.rows import identity, unit_rows
from kernlens.scores import PAIRS, ROWS, SCORES, SPECTRA, curves, discriminant, rows, source
from kernlens.scores import pairs as pairs_of

CLASSES = 3
DTYPES = (np.float16, jnp.bfloat16, np.float32, np.float64)
CODES = ("random", "absent", "alone", "one class", "half unlabelled", "unlabelled")
ROW_PATTERNS = ("as they are", "duplicates", "zero rows", "constant", "zeros", "dead columns")


class Case(NamedTuple):
    """Rows ``[n, d]``, a second embedding of them, and their codes."""

    x: jax.Array
    other: jax.Array
    codes: np.ndarray


def made(n, dim, seed, dtype, scale, mean, codes, pattern):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim))
    x = {
        "as they are": x,
        "duplicates": x[np.arange(n) % 2],
        "zero rows": np.where(np.arange(n)[:, None] % 2, x, -mean),
        "constant": np.tile(x[:1], (n, 1)),
        "zeros": np.full_like(x, -mean),
        "dead columns": np.where(np.arange(dim) % 2, -mean, x),
    }[pattern]
    drawn = rng.integers(0, CLASSES, n)
    known = {
        "random": drawn,
        "absent": drawn % 2,
        "alone": np.where(np.arange(n) == 0, 2, drawn % 2),
        "one class": np.zeros(n, int),
        "half unlabelled": np.where(np.arange(n) % 2, drawn, -1),
        "unlabelled": np.full(n, -1),
    }[codes]
    with np.errstate(over="ignore"):
        both = (scale * (x + mean), scale * (rng.standard_normal((n, dim)) + mean))
        cast = [jnp.asarray(one.astype(dtype)) for one in both]
    return Case(cast[0], cast[1], known.astype(np.int32))


def cases(shapes):
    return st.builds(
        lambda shape, *rest: made(*shape, *rest),
        st.sampled_from(shapes),
        st.integers(0, 9),
        st.sampled_from(DTYPES),
        st.sampled_from([1e-4, 1.0, 1e4]),
        st.sampled_from([0.0, 3.0, 1000.0]),
        st.sampled_from(CODES),
        st.sampled_from(ROW_PATTERNS),
    )


@jax.jit
def scored(states):
    """All scores of moments, of the first embedding and of both."""
    plain, unit, plain_pair, unit_pair = states
    alone: dict[Any, Any] = {identity: plain, unit_rows: unit}
    both: dict[Any, Any] = {identity: plain_pair, unit_rows: unit_pair}
    found = {name: row.fn(alone[row.features]) for name, row in {**SCORES, **SPECTRA}.items()}
    found |= {name: row.fn(both[row.features]) for name, row in PAIRS.items()}
    found["curve"] = curves.learning_curve(plain, jnp.asarray([2.0, 10.0, 1e6]))
    return found


def attempt(call) -> tuple[Any, str]:
    """What it gives, and what it says if it refuses."""
    try:
        return call(), ""
    except ValueError as error:
        return None, str(error)


def states_of(case):
    """Moments that all tables read, or None where the rows are refused by name."""

    def pair(phi):
        return pairs_of.from_arrays(phi(case.x), phi(case.other))

    def one(phi):
        return moments.from_arrays(phi(case.x), case.codes, CLASSES, class_scatters=True)

    maps = (identity, unit_rows)
    made, refusal = attempt(lambda: (*map(one, maps), *map(pair, maps)))
    if refusal:
        assert "hold NaN or infinity" in refusal or "too large to sum" in refusal
        assert not all(np.isfinite(np.asarray(x, np.float64)).all() for x in case[:2])
    return made


def check_moments(case):
    states = states_of(case)
    if states is None:
        return
    for name, found in scored(states).items():
        for leaf in jax.tree.leaves(found):
            assert np.isfinite(leaf).all(), name


def check_rows(case):
    """Scores of rows, by what each takes; a refusal names the function and its argument."""
    x, other, codes = case
    labelled = codes.min() >= 0
    present = len(np.unique(codes)) == CLASSES
    finite, both = (
        all(np.isfinite(np.asarray(rows_, np.float64)).all() for rows_ in some)
        for some in ((x,), (x, other))
    )
    wide = x.astype(jnp.float32)
    posteriors = np.asarray(jax.nn.softmax(jnp.nan_to_num(wide), axis=1))
    soft = moments.from_arrays(posteriors, codes, CLASSES)
    hard = moments.from_arrays(source.hard(jnp.asarray(posteriors)), codes, CLASSES)
    calls = {
        "uniformity": (lambda: rows.uniformity(unit_rows(wide)), finite),
        "parc": (lambda: rows.parc(x, codes), finite and labelled),
        "neighbour_accuracy": (
            lambda: rows.neighbour_accuracy(x, codes, CLASSES),
            finite and labelled,
        ),
        "energy": (lambda: rows.energy(x), finite),
        "neighbour_overlap": (
            lambda: rows.neighbour_overlap(x, other, np.arange(len(x)), neighbours=1),
            both,
        ),
        "displacement": (lambda: rows.displacement(x, other), both),
        "class_mean_probability": (
            lambda: discriminant.class_mean_probability(x, codes, CLASSES),
            finite and labelled,
        ),
        "sfda": (lambda: discriminant.sfda(x, codes, CLASSES), finite and labelled and present),
        "nce": (lambda: source.nce(hard), bool(np.any(codes >= 0))),
        "leep": (lambda: source.leep(soft, posteriors, codes), labelled),
        "pactran_dirichlet": (
            lambda: source.pactran_dirichlet(posteriors, codes, CLASSES),
            labelled,
        ),
        "pactran_gamma": (lambda: source.pactran_gamma(posteriors, codes, CLASSES), labelled),
    }
    assert {"uniformity", "parc", "neighbour_accuracy", "energy"} == set(ROWS) <= set(calls)
    for name, (call, meant) in calls.items():
        value, refusal = attempt(call)
        assert meant == (not refusal), f"{name}: {refusal or 'took what it has no value for'}"
        assert refusal.startswith(f"{name}: ") or np.isfinite(value), name


@pytest.mark.thorough
@settings(max_examples=40)
@given(cases([(12, 4)]))
def test_scores_of_moments_are_finite_or_refused(case):
    check_moments(case)


@pytest.mark.slow
@settings(max_examples=200)
@given(cases([(12, 1), (1, 1), (3, 4), (3, 6)]))
def test_scores_of_moments_at_other_shapes_are_finite_or_refused(case):
    check_moments(case)


@pytest.mark.thorough
@settings(max_examples=60)
@given(cases([(12, 4)]))
def test_scores_of_rows_are_finite_or_refused(case):
    check_rows(case)


@pytest.mark.slow
@settings(max_examples=200)
@given(cases([(12, 1), (2, 1), (3, 6)]))
def test_scores_of_rows_at_other_shapes_are_finite_or_refused(case):
    check_rows(case)
