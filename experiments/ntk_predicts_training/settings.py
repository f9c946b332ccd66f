"""What is swept: the experiment's configuration, and the settings that it makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kernlens.show import report


@dataclass(frozen=True)
class Config:
    """The models, what is swept, and when the theory counts as broken."""

    threshold: float = 0.1
    """Relative error of the test outputs from which the prediction counts as broken."""
    seeds: int = 3
    """Initialisations of each setting; the rows are the same for all."""
    linear_seeds: int = 1
    """Seeds of which the linearised model is trained too."""
    head_widths: tuple[int, ...] = (4096, 1024, 256, 64, 16)
    """Hidden units of the classifier head, on squared error."""
    softmax_widths: tuple[int, ...] = (1024, 64)
    """Hidden units of the head, on softmax cross-entropy."""
    tower_widths: tuple[int, ...] = (512, 128, 32)
    """Hidden units, and outputs, of each tower."""
    flow_rate: float = 0.02
    """Learning rate where the theory is a flow or training stochastic, as a share of the bound."""
    tables: int = 64
    """Embedding dimension of item2vec."""
    norms: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5, 0.1)
    """Root mean squared norm of item2vec's vectors at the start; 0.1 is the library's default."""
    variant_norms: tuple[float, ...] = (4.0, 0.5)
    """The norms at which item2vec is also trained on the logistic loss, and by minibatches."""
    rates: tuple[float, ...] = (0.1, 0.5, 0.9, 1.5, 3.0)
    """Learning rates of the sweep, as shares of the bound from which the theory diverges."""
    rate: float = 0.5
    """Learning rate where it is not swept, as a share of the bound."""
    steps: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    """Steps of gradient descent after which outputs are compared."""
    sweep_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """The same in the sweeps of the learning rate."""
    minibatch: int = 128
    """Triplets of a minibatch."""
    per_class: int = 32
    """Training items of each class, and as many test items."""
    pairs: int = 200
    """Positive training pairs of the recommender, each with one negative; as many for the test."""
    triplets: int = 512
    """Positive training triplets of item2vec, each with one negative; as many for the test."""
    items: int = 200
    """Items that item2vec is trained on, the most frequent."""
    dim: int = 32
    """Dimension of the frozen embedding."""
    epochs: int = 2
    """Passes over the data of its pretraining."""
    min_class_count: int = 200
    """Classes with fewer items are left out."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead of Complete Journey; 0 for the real."""


TINY = Config(
    seeds=2,
    head_widths=(16,),
    softmax_widths=(16,),
    tower_widths=(16,),
    tables=8,
    norms=(2.0, 1.0, 0.1),
    variant_norms=(),
    rates=(0.5, 3.0),
    steps=(1, 8, 64),
    sweep_steps=(1, 8),
    minibatch=8,
    per_class=8,
    pairs=16,
    triplets=16,
    items=40,
    dim=8,
    epochs=1,
    min_class_count=20,
    synthetic=10_000,
)

HEAD, TOWERS, TABLES = "MLP head", "two-tower", "item2vec"
CLOSED, INFINITE, LINEAR = "closed form", "infinite width", "linearised"
SQUARED, SOFTMAX, LOGISTIC = "mse", "softmax_cross_entropy", "logistic"


class Setting(NamedTuple):
    """One model and how it is trained; see `Config` for the fields' meaning."""

    part: str
    width: int
    rate: float
    steps: tuple[int, ...]
    loss: str = SQUARED
    norm: float = 1.0
    minibatch: int = 0

    @property
    def name(self) -> str:
        """What stands in the log."""
        way = f"minibatches of {self.minibatch}" if self.minibatch else "full batch"
        return (
            f"{self.part}, width {self.width}, {self.loss}, rate {self.rate:g}, "
            f"norm {self.norm:g}, {way}, {self.steps[-1]} steps"
        )


class Sweep(NamedTuple):
    """Settings that differ in one field, from where the theory should hold to where it may not."""

    title: str
    field: str
    settings: tuple[Setting, ...]


def sweeps(config: Config) -> list[Sweep]:
    """What is swept."""
    head = Setting(HEAD, config.head_widths[0], config.rate, config.steps)
    tower = Setting(TOWERS, config.tower_widths[0], config.rate, config.sweep_steps)
    middle = config.norms[len(config.norms) // 2]
    table = Setting(TABLES, config.tables, config.rate, config.steps, norm=middle)

    # Below a norm of 1 the kernel grows to about that of 1 while it trains, and the bound falls.
    def gently(setting: Setting) -> Setting:
        return setting._replace(rate=setting.rate * min(1.0, setting.norm**2))

    def over(title: str, field: str, base: Setting, values: Sequence[Any]) -> Sweep:
        made = [base._replace(**{field: v}) for v in values]
        return Sweep(title, field, tuple(map(gently, made) if field == "norm" else made))

    made = [
        over(f"{HEAD}, squared error", "width", head, config.head_widths),
        # The theory for this loss is a flow, which small steps follow.
        over(
            f"{HEAD}, cross-entropy", "width", head._replace(loss=SOFTMAX, rate=config.flow_rate),
            config.softmax_widths,
        ),
        over(TOWERS, "width", tower, config.tower_widths),
        *(
            over(f"{TOWERS} of width {w}", "rate", tower._replace(width=w), config.rates)
            for w in config.tower_widths
        ),
        over(f"{TABLES}, squared error", "norm", table, config.norms),
        over(
            f"{TABLES}, logistic loss", "norm",
            table._replace(loss=LOGISTIC, rate=config.flow_rate),
            config.variant_norms,
        ),
        over(
            f"{TABLES}, minibatches", "norm",
            table._replace(minibatch=config.minibatch, rate=config.flow_rate),
            config.variant_norms,
        ),
        over(
            f"{TABLES} of norm {middle:g}", "rate", table._replace(steps=config.sweep_steps),
            config.rates,
        ),
    ]  # fmt: skip
    return [sweep for sweep in made if sweep.settings]


def of_setting(rows: Sequence[Mapping[str, Any]], setting: Setting) -> list[Mapping[str, Any]]:
    """The rows of a setting, a seed each."""
    wanted = report.to_json(setting)
    return [row for row in rows if all(row[name] == wanted[name] for name in wanted)]
