"""Intervals of scores of rows, by blocks left out, and of probes, over rows and refitted.

Over rows, an interval resamples what the probe foretold of each row; refitted, the probe runs again
without each block of rows, so that the fit varies too.

What a probe foretells is how its classifier does on other rows, so its target is the mean over
samples of the metric of a classifier fitted to the sample at the strength chosen, on rows of the
population that are not in it. Its samples hold no row twice, for a row's double would be among
those it is left out of, and at most half of the population.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from experiments.interval_coverage.line import Ends, ends_of, line
from kernlens import metrics, probes
from kernlens.scores import ROWS, intervals
from kernlens.types import Array, Classification, Labels

METRICS = ("accuracy", "macro_f1")
MOST = 1500
"""Rows of a population that its own value is computed on, and that classifiers are judged on."""

REFITS = 20
"""Blocks without each of which a probe is fitted again."""

TARGETS, TAKEN = 0, 1
"""What samples are for: the target, or intervals."""


class Drawn(NamedTuple):
    """A sample.

    Attributes:
      x: rows, float32 ``[n, p]``.
      codes: class of each, ``[n]``.
      rest: numbers of the population's rows that are not in it.
    """

    x: np.ndarray
    codes: np.ndarray
    rest: np.ndarray


def sampled(
    x: np.ndarray,
    codes: np.ndarray,
    size: int,
    count: int,
    seed: tuple[int, ...],
    replace: bool = True,
) -> Iterator[Drawn]:
    """Samples of rows, independent where they are replaced."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        rows = rng.choice(len(x), size, replace=replace)
        rest = np.setdiff1d(np.arange(len(x)), rows)
        yield Drawn(x[rows], codes[rows], rng.permutation(rest)[:MOST])


def cover_rows(
    x: np.ndarray, codes: np.ndarray, size: int, config: Any, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """A line for each of the scores of rows named."""
    classes = int(codes.max()) + 1
    some = np.random.default_rng(config.seed).permutation(len(x))[:MOST]
    found = []
    for name in names:
        fn = score_of_rows(name, classes)
        bounds = intervals.bounds_of(ROWS[name])

        def samples(count: int, purpose: int) -> Iterator[Drawn]:
            return sampled(x, codes, size, count, (config.seed, size, purpose))

        targets = [float(fn(*one[:2])) for one in samples(config.target_samples, TARGETS)]
        own = [
            ends_of(
                intervals.sample_replicates(
                    fn, *one[:2], method=intervals.Jackknife(config.blocks, config.seed)
                ),
                config.level,
                bounds,
            )
            for one in samples(config.samples, TAKEN)
        ]
        limit = float(fn(x[some], codes[some]))
        found.append(line("jackknife", "rows", name, size, targets, limit, own))
    return found


def score_of_rows(name: str, classes: int) -> Callable[..., Any]:
    """A row of the table as a function of features and codes."""
    row = ROWS[name]
    given = {"parc": 2, "neighbour_accuracy": 3}.get(name, 1)
    return lambda x, codes: row.fn(*(row.features(x), codes, classes)[:given])


def refitted(name: str, one: Drawn, labels: tuple[str, ...], config: Any) -> dict[str, Ends]:
    """Intervals of a probe's metrics from the probe without each block of rows."""
    metrics_of = functools.cache(
        lambda rows: (
            probes.PROBES[name](
                one.x[list(rows)], Labels(one.codes[list(rows)], labels), draws=1
            ).metrics
        )
    )
    method = intervals.Jackknife(REFITS, config.seed)
    return {
        metric: ends_of(
            intervals.sample_replicates(
                lambda rows, metric=metric: metrics_of(tuple(rows.tolist()))[metric].value,
                np.arange(len(one.x)),
                method=method,
            ),
            config.level,
            (0.0, 1.0),
        )
        for metric in METRICS
    }


def cover_probes(
    x: np.ndarray, codes: np.ndarray, size: int, config: Any, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """A line for each probe named and each metric."""
    size = min(size, len(x) // 2)
    labels = tuple(map(str, range(int(codes.max()) + 1)))
    found = []
    for name in names:
        held_out, predictions, again = [], [], []
        for purpose, count in ((TARGETS, config.target_samples), (TAKEN, config.samples)):
            for one in sampled(x, codes, size, count, (config.seed, size, purpose), False):
                given = probes.PROBES[name](
                    one.x, Labels(one.codes, labels), level=config.level, draws=200
                )
                if purpose == TAKEN:
                    predictions.append(given)
                    again.append(refitted(name, one, labels, config))
                    continue
                told = classified(name, one, x[one.rest], given)
                held_out.append(
                    metrics.classification(jnp.asarray(codes[one.rest]), told, len(labels))
                )
        whole = np.random.default_rng(config.seed).permutation(len(x))[:MOST]
        most = probes.PROBES[name](x[whole], Labels(codes[whole], labels), draws=1)
        for metric in METRICS:
            targets = [float(getattr(one, metric)) for one in held_out]
            ends = [_ends(one, metric, config.level) for one in predictions]
            values = [one.metrics[metric].value for one in predictions]
            limit = most.metrics[metric].value
            title = f"{name}, {metric.replace('_', '-')}"
            # What an interval is to span is how the probe's value varies, not its target.
            spread = {"spread": float(np.std(values, ddof=1))}
            for method, own in (("over rows", ends), ("refitted", [one[metric] for one in again])):
                made = line(method, "probes", title, size, targets, limit, own)
                found.append(made | spread)
    return found


def classified(name: str, sample: Drawn, rows: np.ndarray, told: probes.Prediction) -> Array:
    """Class of each row by the probe's classifier, fitted to all of a sample."""
    assert told.path is not None
    x, rows = sample.x.astype(np.float64), rows.astype(np.float64)
    kinds, codes = np.unique(sample.codes, return_inverse=True)
    counts = np.bincount(codes)
    if name == "ridge":
        mean, y = x.mean(axis=0), np.eye(len(kinds))[codes]
        scatter = (x - mean).T @ (x - mean)
        penalty = told.path.chosen * np.trace(scatter) / len(mean) * np.eye(len(mean))
        weights = np.linalg.solve(scatter + penalty, (x - mean).T @ (y - y.mean(axis=0)))
        return jnp.asarray(kinds[np.argmax((rows - mean) @ weights + y.mean(axis=0), axis=1)])
    means = np.stack([x[codes == c].mean(axis=0) for c in range(len(kinds))])
    within = (x - means[codes]).T @ (x - means[codes])
    penalty = told.path.chosen * np.trace(within) / len(within) * np.eye(len(within))
    precision = (len(x) - len(kinds)) * np.linalg.inv(within + penalty)
    gaps = rows[:, None] - means
    distances = np.einsum("ncp,pq,ncq->nc", gaps, precision, gaps)
    return jnp.asarray(kinds[np.argmax(np.log(counts / len(x)) - 0.5 * distances, axis=1)])


def _ends(told: probes.Prediction, metric: str, level: float) -> Ends:
    assert metric in Classification._fields
    _, low, high, *_ = told.metrics[metric]
    return Ends(low, high, (high - low) / 2.0 / float(norm.ppf(0.5 * (1.0 + level))))
