"""Claim 2: which training-free number tells how an embedding will classify items?

Pretrains a grid of item2vec settings, several seeds each, and sets every score and both closed-form
probes beside trained logistic regression, MLP and kernel SVM. The grid holds collapsed embeddings
on purpose. Beside Proposition 1 stand trivial baselines: dimension, pretraining loss, and 5-fold
cross-validated logistic regression, which costs as much as training. Probes and cross-validation
predict the trained metric in value, the others only rank.

Verdict: on each data set the claim holds where Spearman's interval of proposition 1's score with
logistic regression's macro-F1 lies above 0, fails where no part of it does, and is undecided
elsewhere; it holds in part if it holds on some data sets.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optax

from experiments.kit import runner, shown, study
from experiments.kit.cells import Cells
from experiments.kit.shown import Claim, table
from experiments.kit.sources import common
from experiments.kit.verdicts import exceeds, together
from kernlens import datasets, kernels, probes
from kernlens.models import decoders
from kernlens.show import report
from kernlens.show.table import Table
from kernlens.train import heads, sampling
from kernlens.types import Interactions, Labels

METRICS = ("macro_f1", "accuracy")
PREDICTED = ("discriminant", "ridge")
"""Probes of heads that are trained here."""

CROSS_VALIDATED = "cv_logistic"
ORDERS = {"time": "by time", "random": "in random order"}


@dataclass(frozen=True)
class Config:
    """The grid, the tasks and the readers."""

    windows: tuple[int, ...] = (2, 3, 8)
    """Tokens to either side that are positives."""
    negatives: tuple[int, ...] = (1, 3, 8)
    """Negatives per anchor."""
    epochs: tuple[int, ...] = (1, 5)
    """Passes over the data; one leaves collapsed embeddings in the grid."""
    dim: int = 32
    """Embedding dimension."""
    learning_rate: float = 3e-3
    """Adam's learning rate in pretraining."""
    seeds: int = 3
    """Pretraining runs of each setting."""
    reader_seeds: int = 20
    """Splits and initialisations of each trained reader; all embeddings see the same splits, so a
    few lucky ones would shift every outcome together."""
    min_class_count: int = 50
    """Classes with fewer items are left out."""
    svm_rows: int = 1000
    """Training rows of the kernel SVM, whose cost is cubic in them."""
    draws: int = 2000
    """Bootstrap draws over settings."""
    movielens: Path | None = None
    """Folder with MovieLens-1M (its own files, or RecBole's atomic files); None leaves it out."""
    movielens_orders: tuple[str, ...] = ("time",)
    """Orders of its histories: by time, in random order, or both beside each other."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead of Complete Journey; 0 for the real."""


TINY = Config(
    windows=(2,),
    negatives=(1, 3),
    epochs=(1, 4),
    dim=8,
    seeds=2,
    reader_seeds=2,
    min_class_count=5,
    svm_rows=200,
    draws=200,
    synthetic=20_000,
)


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(
        config, windows=1, negatives=1, epochs=1, dim=1, seeds=1, reader_seeds=1, svm_rows=2,
        learning_rate=0, min_class_count=5, draws=1,
    )  # fmt: skip
    settings = len(config.windows) * len(config.negatives) * len(config.epochs)
    if settings < 2:
        raise ValueError("an order needs two settings at least; --windows and the like give one")
    unknown = [order for order in config.movielens_orders if order not in ORDERS]
    if unknown or not config.movielens_orders:
        raise ValueError(
            f"--movielens-orders must be among {', '.join(ORDERS)}; got {unknown or 'none'}"
        )


def tasks(config: Config) -> dict[str, tuple[Interactions, Labels]]:
    """The data sets and their labels, by name."""
    found = {}
    if config.synthetic:
        data = datasets.load(
            "synthetic", num_items=300, num_users=200, num_interactions=config.synthetic,
            num_classes=4,
        )  # fmt: skip
        found["synthetic classes"] = data, data.labels["class"]
    else:
        data = datasets.load("complete_journey")
        found["Complete Journey departments"] = data, data.labels["department"]
    for order in config.movielens_orders:
        if config.movielens is None:
            break
        data = movielens(config.movielens, order)
        found[f"MovieLens-1M genres {ORDERS[order]}"] = data, data.labels["single_genre"]
    return {
        name: (data, common(label, config.min_class_count, name))
        for name, (data, label) in found.items()
    }


def movielens(folder: Path, order: str) -> Interactions:
    """MovieLens from its own files or from RecBole's atomic ones, whichever the folder holds."""
    source = "recbole" if list(folder.glob("*.inter")) else "movielens"
    data = datasets.load(source, folder, order=order)
    if "single_genre" not in data.labels:
        has = ", ".join(data.labels) or "none"
        raise ValueError(f"--movielens {folder} has no genres; its labels: {has}")
    return data


def readers(config: Config) -> dict[str, study.Reader]:
    """The trained readers."""
    return {
        "LR": functools.partial(
            heads.classify, decoder=decoders.Linear(), seeds=config.reader_seeds
        ),
        "MLP": functools.partial(
            heads.classify, decoder=decoders.Mlp(32), seeds=config.reader_seeds
        ),
        "SVM": functools.partial(
            heads.kernel_svm,
            kernel=kernels.linear,
            seeds=config.reader_seeds,
            max_rows=config.svm_rows,
        ),
    }


def cross_validated(embeddings: np.ndarray, task: Labels) -> float:
    """Macro-F1 of scikit-learn's logistic regression over five folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # products this small only wait for each other's threads
        given = cross_val_predict(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
            embeddings,
            task.codes,
            cv=StratifiedKFold(5, shuffle=True, random_state=0),
        )
    return float(f1_score(task.codes, given, average="macro"))


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """One row for each data set, setting and seed."""
    grid = [
        study.Setting(w, k, e)
        for w in config.windows
        for k in config.negatives
        for e in config.epochs
    ]
    rows = []
    optimizer = optax.adam(config.learning_rate)
    for name, (data, task) in tasks(config).items():
        noise = sampling.log_uniform(data.num_items)
        for setting in grid:
            made = cells(
                f"{name}, {setting.name}",
                functools.partial(
                    study.cell,
                    data,
                    task,
                    setting,
                    seeds=config.seeds,
                    probes={name: probes.PROBES[name] for name in PREDICTED},
                    readers=readers(config),
                    baselines={CROSS_VALIDATED: cross_validated},
                    noise=noise,
                    dim=config.dim,
                    optimizer=optimizer,
                    on_seed=lambda row: cells.tell(
                        f"{row['setting']} seed {row['seed']}: predicted macro-F1 "
                        f"{row['predicted']['discriminant']['macro_f1']:.3f}, trained LR "
                        f"{np.mean(row['trained']['LR']['macro_f1']):.3f}"
                    ),
                ),
            )
            rows += [{"data": name, **row} for row in made]
    return rows


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreement of every predictor with every reader and metric, for each data set."""
    lines = []
    for name in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == name]
        for predictor in study.predictors(mine, values={CROSS_VALIDATED: "macro_f1"}):
            line: dict[str, Any] = {
                "data": name,
                "predictor": predictor.name,
                "group": predictor.group,
                "seconds": predictor.seconds(mine),
            }
            for reader in mine[0]["trained"]:
                for metric in METRICS:
                    agreed = study.agree(mine, predictor, reader, metric, draws=config.draws)
                    line[f"{reader} {metric}"] = agreed if metric in predictor.metrics else {
                        "spearman": agreed.spearman,
                        "kendall": agreed.kendall,
                        "regret": agreed.regret,
                    }  # fmt: skip
            lines.append(line)
    lines = report.to_json(lines)
    return {"lines": lines, "verdict": verdict(lines)}


def verdict(lines: Sequence[Mapping[str, Any]]) -> str:
    """As the module's docstring says."""
    stated = [line["LR macro_f1"] for line in lines if line["predictor"] == "proposition1"]
    return together(exceeds(found["spearman"]) for found in stated)


TITLES = {
    "discriminant": "kernlens: discriminant probe",
    "ridge": "kernlens: ridge probe",
    "published_class_cosine": "published class-cosine score",
    "proposition1": "proposition 1 as stated",
    "centred_alignment": "centred kernel-target alignment",
    "debiased_alignment": "the same, debiased",
    "cv_logistic": "5-fold cross-validated logistic regression",
    "pretraining_loss": "pretraining loss",
    "dimension": "dimension",
}
"""What a predictor is called."""


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Agreement of every predictor, one table a data set."""

    def error(line: Mapping[str, Any], key: str) -> float:
        return shown.number((line[key].get("mean_absolute_error") or {}).get("value"))

    made, every = [], results["summary"]["lines"]
    for name in dict.fromkeys(line["data"] for line in every):
        count = sum(row["data"] == name for row in results["rows"])
        rows = [
            {
                "predictor": TITLES[line["predictor"]],
                **{
                    f"ρ with {head}": shown.interval(line[f"{head} macro_f1"]["spearman"])
                    for head in ("LR", "MLP", "SVM")
                },
                "error, F1": error(line, "LR macro_f1"),
                "error, acc.": error(line, "LR accuracy"),
                "ms": 1000 * line["seconds"],
            }
            for line in every
            if line["data"] == name
        ]
        digits = {"error, F1": ".4f", "error, acc.": ".4f", "ms": ".0f"}
        made.append(table(rows, digits, f"{name}, {count} embeddings:"))
    return made


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Whether proposition 1's score, as stated, ranks embeddings."""
    measured = {
        f"{line['data']}: ρ": shown.interval(line["LR macro_f1"]["spearman"])
        for line in results["summary"]["lines"]
        if line["predictor"] == "proposition1"
    }
    text = "2. Proposition 1's score ranks embeddings by trained classifiers"
    return [Claim(text, measured, results["summary"]["verdict"])]


def draw(results: Mapping[str, Any]) -> Any:
    """Predicted against trained for LR and MLP, and the published score, for each data set."""
    panels = []
    for name in dict.fromkeys(row["data"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["data"] == name]
        panels += [study.probe_panel(rows, reader, name) for reader in ("LR", "MLP")]
        panels.append(study.score_panel(rows, "published_class_cosine", "LR", name))
    return report.figure(panels, "mean cosine between items (1 = collapsed)")
