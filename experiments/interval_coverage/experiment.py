"""How often does a nominal 90% interval of a score hold what it is for?

Rows are drawn independently, with replacement, from a population: scikit-learn's digits and wine,
and item2vec embeddings of Complete Journey with their departments, each by its leading principal
components. For pairs the first embedding is the leading half of the columns, the second a random
projection of all. The target is the expected score of so many rows, the mean over many samples;
beside it stands how often the interval holds the score of the whole population, which a score that
depends on the number of rows need not be near. Probes are to hold what their classifier does on
rows that are not in the sample.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.interval_coverage.line import ends_of
from experiments.interval_coverage.line import line as line_of
from experiments.interval_coverage.others import cover_probes, cover_rows
from experiments.kit.cells import Cells
from experiments.kit.shown import table
from kernlens import datasets, moments, targets
from kernlens.scores import PAIRS, ROWS, SCORES, SPECTRA, Estimator, intervals
from kernlens.show import report
from kernlens.show.table import Table
from kernlens.train import pretrain
from kernlens.types import Array

TABLES = {"labels": SCORES, "spectrum": SPECTRA, "pairs": PAIRS}
CLASSES = 10
REFITTED = ("discriminant", "ridge")
"""Probes whose classifier is fitted again to all of a sample."""

"""Of any population here, and more than some have: one shape, compiled once."""


@dataclass(frozen=True)
class Config:
    """The populations and the samples."""

    populations: tuple[str, ...] = ("digits", "wine", "complete_journey")
    """Of digits, wine, complete_journey, normal."""
    sizes: tuple[int, ...] = (200,)
    """Rows in a sample."""
    dim: int = 8
    """Principal components kept."""
    samples: int = 120
    """Samples whose jackknife interval is taken."""
    bootstrap_samples: int = 30
    """Samples whose bootstrap interval is taken too."""
    target_samples: int = 400
    """Samples whose mean score is the target."""
    blocks: int = 32
    """Of the jackknife."""
    draws: int = 60
    """Of the bootstrap."""
    level: float = 0.9
    """Nominal coverage."""
    min_class_count: int = 300
    """Departments of fewer items are left out."""
    scores: tuple[str, ...] = ()
    """Names of the scores; all by default."""
    seed: int = 0
    """Of the samples."""


TINY = Config(
    populations=("normal",),
    sizes=(40,),
    dim=2,
    samples=3,
    bootstrap_samples=2,
    target_samples=5,
    blocks=5,
    draws=5,
    scores=("debiased_alignment", "rankme", "energy", "ridge"),
)


class Population(NamedTuple):
    """Rows to draw from: ``x [N, p]``, ``pair`` of ``[N, p / 2]`` each, ``codes [N]``."""

    x: np.ndarray
    pair: tuple[np.ndarray, np.ndarray]
    codes: np.ndarray


def principal_components(x: np.ndarray, dim: int) -> np.ndarray:
    """The leading components, the first with variance 1."""
    centred = np.asarray(x, np.float64) - np.mean(x, axis=0)
    turned = centred @ np.linalg.svd(centred, full_matrices=False)[2][:dim].T
    return turned / turned[:, 0].std()


def digits(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of 64 pixels in 10 classes."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return data.data, data.target


def wine(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """178 wines of 13 standardised properties in 3 classes."""
    from sklearn.datasets import load_wine

    data: Any = load_wine()
    return (data.data - data.data.mean(axis=0)) / data.data.std(axis=0), data.target


def complete_journey(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Items of the larger departments by item2vec, 32 dimensions, 2 epochs."""
    data = datasets.load("complete_journey")
    task = targets.drop_rare(data.labels["department"], config.min_class_count)
    rows = targets.labelled_rows(task)
    fitted = pretrain.contrastive(data, window=5, negatives=5, dim=32, epochs=2)
    return fitted.embeddings[0][rows], np.unique(task.codes[rows], return_inverse=True)[1]


def normal(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """500 rows of two normal classes."""
    rng = np.random.default_rng(config.seed)
    codes = np.arange(500) % 2
    return rng.standard_normal((500, config.dim)) + codes[:, None], codes


POPULATIONS: dict[str, Callable[[Config], tuple[np.ndarray, np.ndarray]]] = {
    "digits": digits,
    "wine": wine,
    "complete_journey": complete_journey,
    "normal": normal,
}


def population(name: str, config: Config) -> Population:
    """The population of that name."""
    x, codes = POPULATIONS[name](config)
    x = principal_components(x, config.dim).astype(np.float32)
    half = max(config.dim // 2, 1)
    projection = np.random.default_rng(config.seed).standard_normal((config.dim, half))
    mixed = (x @ projection / np.sqrt(config.dim)).astype(np.float32)
    return Population(x, (x[:, :half], mixed), codes.astype(np.int32))


class Study(NamedTuple):
    """The scores under study.

    Attributes:
      tables: estimators by table and name.
      features: of a population: what the scores of one embedding read, and those of two.
      scores: from the moments of those features.
    """

    tables: dict[str, dict[str, Estimator]]
    features: Callable[[Population], tuple[Any, Any]]
    scores: Callable[[tuple[Any, Any]], dict[str, Array]]


@functools.cache
def study(names: tuple[str, ...]) -> Study:
    """The study of the scores named, or of all."""
    tables = {
        title: {name: row for name, row in table.items() if not names or name in names}
        for title, table in TABLES.items()
    }
    alone = {**tables["labels"], **tables["spectrum"]}

    def features(made: Population) -> tuple[Any, Any]:
        return intervals.rows_of(alone)(made.x), intervals.rows_of(tables["pairs"])(made.pair)

    def scores(state: tuple[Any, Any]) -> dict[str, Array]:
        return intervals.statistic(alone)(state[0]) | intervals.statistic(tables["pairs"])(state[1])

    return Study(tables, features, scores)


def sampled(made: Population, size: int, count: int, seed: tuple[int, ...]) -> Iterator[Population]:
    """Samples of independent rows."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        rows = rng.integers(len(made.x), size=size)
        a, b = made.pair
        yield Population(made.x[rows], (a[rows], b[rows]), made.codes[rows])


def cover(made: Population, size: int, config: Config, tell: Callable[[str], None]) -> list[Any]:
    """A row for each score and method, on samples of ``size`` rows."""
    tables, features, scores = study(config.scores)
    scored = jax.jit(scores)

    def values(part: Population) -> dict[str, float]:
        state = jax.tree.map(
            lambda phi: moments.from_arrays(phi, part.codes, CLASSES, class_scatters=True),
            features(part),
        )
        return {name: float(value) for name, value in scored(state).items()}

    limits = values(made)
    seeds = [(config.seed, size, purpose) for purpose in (0, 1)]
    samples = [values(part) for part in sampled(made, size, config.target_samples, seeds[0])]
    tell(f"{len(samples)} samples of {size} rows for the target")
    methods = {
        "jackknife": (intervals.Jackknife(config.blocks), config.samples),
        "bootstrap": (intervals.Bootstrap(config.draws), config.bootstrap_samples),
    }
    rows = []
    for method, (resampling, count) in methods.items():
        found = [
            intervals.replicate(
                scores,
                intervals.from_arrays(
                    features(part), part.codes, CLASSES, method=resampling, class_scatters=True
                ),
            )
            for part in sampled(made, size, count, seeds[1])
        ]
        tell(f"{count} samples of {size} rows by the {method}")
        for kind, estimators in tables.items():
            for name, estimator in estimators.items():
                bounds = intervals.bounds_of(estimator)
                mine = [ends_of(replicates[name], config.level, bounds) for replicates in found]
                values_of = [target[name] for target in samples]
                rows.append(line_of(method, kind, name, size, values_of, limits[name], mine))
    return rows


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each population, number of rows, method and score."""
    rows = []
    for name in config.populations:
        made = population(name, config)
        for size in config.sizes:
            make = functools.partial(cover, made, size, config, cells.tell)
            found = cells(f"{name}, {size} rows", make)
            for title, cover_others, others in (
                ("scores of rows", cover_rows, ROWS),
                ("probes' intervals", cover_probes, REFITTED),
            ):
                chosen = tuple(key for key in others if not config.scores or key in config.scores)
                make = functools.partial(cover_others, made.x, made.codes, size, config, chosen)
                found = found + cells(f"{name}, {size} rows: {title}", make)
            rows += [{"population_name": name, **row} for row in found]
    return rows


def summarise(config: Config, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Coverage of each score by each method, over populations and numbers of rows."""
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        for name in dict.fromkeys(row["score"] for row in own):
            mine = [row for row in own if row["score"] == name]
            found.append(
                {
                    "method": method,
                    "table": mine[0]["table"],
                    "score": name,
                    "coverage": float(np.mean([row["coverage"] for row in mine])),
                    "least": min(row["coverage"] for row in mine),
                    "least_at": min(mine, key=lambda row: row["coverage"])["population_name"]
                    + f", {min(mine, key=lambda row: row['coverage'])['rows']} rows",
                    "error_ratio": float(
                        np.median([row["standard_error"] / (row["spread"] or 1.0) for row in mine])
                    ),
                    "population_coverage": float(
                        np.mean([row["population_coverage"] for row in mine])
                    ),
                }
            )
    return found


COVERED = 0.85
"""Coverage of a nominal 90% interval that counts as near enough."""


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Coverage of the intervals of scores, by method."""
    titles = {method: f"probes, {method}" for method in ("over rows", "refitted")}
    config, rows = results["config"], []
    for method in dict.fromkeys(line["method"] for line in results["summary"]):
        key = {"bootstrap": "bootstrap_samples"}.get(method, "samples")
        lines = [line for line in results["summary"] if line["method"] == method]
        found = np.array([line["coverage"] for line in lines])
        population = np.array([line["population_coverage"] for line in lines])
        low = [line["score"] for line in lines if line["coverage"] < COVERED]
        rows.append(
            {
                "method": titles.get(method, method),
                "samples": config[key] * len(config["populations"]),
                "least": found.min(),
                "median": np.median(found),
                "most": found.max(),
                f"scores at {COVERED} or more": f"{len(found) - len(low)} of {len(found)}",
                "of the population's value": f"{np.sum(population >= COVERED)} of {len(found)}",
                "below": ", ".join(low) or "none",
            }
        )
    return [table(rows, dict.fromkeys(("least", "median", "most"), ".2f"))]


def draw(results: Mapping[str, Any]) -> Any:
    """Standard error over true spread, against coverage, a panel for each method."""
    panels = []
    for method in dict.fromkeys(row["method"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["method"] == method and row["spread"] > 0]
        panels.append(
            report.Panel(
                title=f"{method}, a point for each score and population",
                x=np.array([row["standard_error"] / row["spread"] for row in rows]),
                x_label="mean standard error / spread over samples",
                y=np.array([row["coverage"] for row in rows]),
                y_label=f"coverage of the {results['config']['level']:.0%} interval",
                colour=np.array([float(row["rows"]) for row in rows]),
            )
        )
    return report.figure(panels, "rows in a sample")
