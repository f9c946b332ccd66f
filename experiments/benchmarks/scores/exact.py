"""Every score in float32 against itself in float64, on the same float32 rows."""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.scores.settings import Config, Gate, chosen, class_rows, line
from kernlens import moments
from kernlens.arrays.rows import identity
from kernlens.moments import Moments
from kernlens.scores import PAIRS, ROWS, SCORES, SPECTRA, Score, pairs
from kernlens.scores.curves import learning_curve
from kernlens.scores.discriminant import class_mean_probability, sfda
from kernlens.scores.source import hard, leep, nce
from kernlens.show import report

EXACT = Gate("≤", 1e-5)
CONDITIONS = {
    "scale 1e-4": (1e-4, 0.0),
    "scale 1": (1.0, 0.0),
    "scale 1e4": (1e4, 0.0),
    "mean 1e3": (1.0, 1e3),
    "mean 1e3, scale 1e-4": (1e-4, 1e3),
    "mean 1e3, scale 1e4": (1e4, 1e3),
}
"""Scale of the rows, and common mean in units of the spread."""

SIZES = (100, 1_000, 10_000)
"""Labels of the learning curve."""


class Problem(NamedTuple):
    """Rows under a condition, float32.

    Attributes:
      x: an embedding, ``[n, p]``.
      other: another of the same rows, ``[n, p]``.
      posteriors: of a source model, ``[n, Z]``.
      codes: class of each row, ``[n]``.
    """

    x: np.ndarray
    other: np.ndarray
    posteriors: np.ndarray
    codes: np.ndarray


def problem(config: Config, scale: float, mean: float) -> Problem:
    """The rows of a condition; posteriors are the same in all."""
    x, codes = class_rows(config.exact_rows, config.exact_dim, config.exact_classes)
    rng = np.random.default_rng(1)
    turn = rng.standard_normal((config.exact_dim, config.exact_dim)) / np.sqrt(config.exact_dim)
    other = x @ turn + 0.1 * rng.standard_normal(x.shape)
    weights = np.exp(3.0 * x[:, : 2 * config.exact_classes])
    posteriors = weights / weights.sum(axis=1, keepdims=True)
    tilt = np.linspace(0.5, 1.0, config.exact_dim)

    def placed(rows: np.ndarray) -> np.ndarray:
        return (scale * (rows + mean * rows.std() * tilt)).astype(np.float32)

    return Problem(placed(x), placed(other), posteriors.astype(np.float32), codes)


def score_values(config: Config) -> dict[str, dict[str, Any]]:
    """Every score under every condition, in the number type of this process."""
    return {
        condition: {
            name: np.asarray(value, np.float64).tolist()
            for name, value in values_of(problem(config, scale, mean), config)
        }
        for condition, (scale, mean) in CONDITIONS.items()
    }


def values_of(given: Problem, config: Config) -> Iterator[tuple[str, jax.Array]]:
    """Names and values of every score of a problem, one after another."""
    dtype, count = jnp.result_type(float), config.exact_classes
    x, other, posteriors = (jnp.asarray(a, dtype) for a in given[:3])
    codes = jnp.asarray(given.codes)

    def of(rows: jax.Array) -> Moments:
        return moments.from_arrays(rows, codes, count, class_scatters=True)

    one, two = chosen(config, SCORES, SPECTRA), chosen(config, PAIRS)
    tables = {phi: of(phi(x)) for phi in {row.features for row in one.values()}}
    for name, row in one.items():
        value = row.fn(tables[row.features])
        yield name, value.value if isinstance(value, Score) else value
    couples = {
        phi: pairs.from_arrays(phi(x), phi(other)) for phi in {r.features for r in two.values()}
    }
    for name, row in two.items():
        yield name, row.fn(couples[row.features])
    if config.scores:
        return
    few, labels = x[: config.sample], codes[: config.sample]
    more = {"parc": (labels,), "neighbour_accuracy": (labels, count)}
    for name, row in ROWS.items():
        yield name, row.fn(row.features(few), *more.get(name, ()))
    yield "class_mean_probability", class_mean_probability(x, codes, count)
    yield "sfda", sfda(x, codes, count)
    yield "nce", nce(of(hard(posteriors)))
    yield "leep", leep(of(posteriors), posteriors, codes)
    yield "learning_curve", learning_curve(tables[identity], SIZES).errors


def against_float64(config: Config, reference: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Greatest relative difference of every score, over the conditions.

    Args:
      config: what is measured.
      reference: `score_values` of a process in float64.
    """
    found = report.to_json(score_values(config))
    lines = []
    for name in next(iter(found.values())):
        errors = {key: difference(found[key][name], reference[key][name]) for key in CONDITIONS}
        known = [error for error in errors.values() if error is not None]
        worst = max(known) if len(known) == len(errors) else None
        values = {key: reference[key][name] for key in CONDITIONS}
        lines.append(line("float64", name, worst, "relative", EXACT, errors=errors, values=values))
    return lines


def difference(value: Any, reference: Any) -> float | None:
    """Greatest relative difference of numbers or lists of them; None where one is not finite."""
    both = list(zip(np.ravel(value), np.ravel(reference), strict=True))
    if any(number is None for each in both for number in each):
        return None
    return max(
        0.0 if a == b else float(abs(a - b) / max(abs(b), sys.float_info.min)) for a, b in both
    )
