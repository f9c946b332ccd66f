"""Families of pretraining runs: what differs within a family, and the embeddings."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.kit.cells import Cells
from experiments.kit.sources import TABLE, load_table
from kernlens import datasets
from kernlens.targets import sequences
from kernlens.train import pretrain
from kernlens.types import Interactions, Labels


class Run(NamedTuple):
    """How an embedding of item2vec is made.

    Attributes:
      window: tokens to either side that are positives.
      negatives: negatives per anchor.
      epochs: passes over the data.
      dim: dimension.
      seed: of pretraining.
      weeks: share of the weeks that it has seen, in ``(0, 1]``, the first ones.
    """

    window: int = 8
    negatives: int = 3
    epochs: int = 2
    dim: int = 32
    seed: int = 0
    weeks: float = 1.0

    @property
    def name(self) -> str:
        """Its name, such as ``w8 k3 e2 d32 s0``, with its weeks where they are not all."""
        made = f"w{self.window} k{self.negatives} e{self.epochs} d{self.dim} s{self.seed}"
        return made if self.weeks == 1.0 else f"{made} {self.weeks:.0%} of weeks"


SHARES = (0.77, 0.85, 0.92, 1.0)
"""Of 53 weeks: 40, 45, 48 and all."""


def families(runs: int, *, small: bool = False) -> dict[str, tuple[Run, ...]]:
    """Runs by what differs within a family.

    Args:
      runs: in a family.
      small: whether all is shrunk, for the tiny version.
    """
    if small:
        base = Run(window=2, epochs=2, dim=8)
        return {"seed": tuple(base._replace(seed=s) for s in range(runs))}
    base, short = Run(), Run(window=2, epochs=3, dim=8)
    poor = Run(window=8, negatives=8, epochs=1)
    seeds = range(runs)
    return {
        "seed": tuple(base._replace(seed=s) for s in seeds),
        "seed, d8": tuple(short._replace(seed=s) for s in seeds),
        "seed, one epoch": tuple(poor._replace(seed=s) for s in seeds),
        "weeks, one seed": tuple(base._replace(weeks=w) for w in SHARES[-runs:]),
        "weeks and seed": tuple(
            base._replace(weeks=w, seed=s) for s, w in enumerate(SHARES[-runs:])
        ),
        "dimension": tuple(base._replace(dim=d) for d in (8, 16, 32, 64)[-runs:]),
        "one epoch more": tuple(base._replace(epochs=e) for e in (1, 2, 3, 4)[-runs:]),
    }


class Items(NamedTuple):
    """Items with labels, and a way to embed them.

    Attributes:
      labels: by name.
      embed: the embedding of a run, ``[n, d]``.
      text: the text of each item, or None.
      late: whether an item is among the share of them that appear last, bool ``[n]``.
    """

    labels: dict[str, Labels]
    embed: Callable[[Run], np.ndarray]
    text: np.ndarray | None
    late: Callable[[float], np.ndarray]


def items(config: Any, cells: Cells) -> Items:
    """The items of a configuration's data set; their embeddings are made once.

    Args:
      config: has ``data``, ``root``, ``columns``, ``labels`` and ``synthetic``.
      cells: that the experiments share.

    Raises:
      ValueError, FileNotFoundError: as the loader.
    """
    if config.synthetic:
        found = datasets.load(
            "synthetic", num_items=300, num_users=150, num_interactions=config.synthetic,
            num_classes=4,
        )  # fmt: skip
    elif config.data == TABLE:
        found = load_table(config.root, config.columns, config.labels)
    else:
        found = datasets.load(config.data, config.root)
    return items_of(found, cells)


def items_of(found: Interactions, cells: Cells) -> Items:
    """The items of interactions; their embeddings are made once."""
    cut = functools.cache(functools.partial(first_weeks, found))
    return Items(
        found.labels, lambda run: _embedded(cut(run.weeks), run, cells), found.text,
        functools.partial(late, found),
    )  # fmt: skip


def _embedded(data: Interactions, run: Run, cells: Cells) -> np.ndarray:
    def make() -> dict[str, np.ndarray]:
        fitted = pretrain.contrastive(
            data, window=run.window, negatives=run.negatives, epochs=run.epochs, dim=run.dim,
            seeds=(run.seed,),
        )  # fmt: skip
        return {"z": fitted.embeddings[0]}

    return cells.arrays(run.name, make)["z"]


def first_weeks(data: Interactions, share: float) -> Interactions:
    """The first sessions in time; all items stay, with whatever the others teach of them."""
    if share == 1.0:
        return data
    if "week" in data.session_attributes:
        week = data.session_attributes["week"]
        return sequences.sessions(data, week <= np.ceil(share * week.max()))
    if data.times is None:
        raise ValueError("sessions need a week or a time to be cut by; these have neither")
    # A history is of a whole user: its last interactions are cut off.
    kept = data.times <= np.quantile(data.times, share)
    return sequences.keep(data, kept)


def late(data: Interactions, share: float) -> np.ndarray:
    """Whether an item is among the share of items whose first interaction is the latest; of a
    source without times, among the rarest. Ties fall to the later ids, which are rarer."""
    if data.times is not None:
        when = data.times
    elif "week" in data.session_attributes:
        when = np.repeat(data.session_attributes["week"], np.diff(data.offsets))
    else:
        when = np.zeros(len(data.items))
    first = np.full(data.num_items, np.inf)
    np.minimum.at(first, data.items, when.astype(np.float64))
    found = np.zeros(data.num_items, bool)
    found[np.argsort(first, kind="stable")[data.num_items - int(share * data.num_items) :]] = True
    return found


def small_set(name: str, runs: int) -> tuple[list[np.ndarray], Labels]:
    """Random ReLU features of a set of scikit-learn, one draw a run."""
    from sklearn import datasets as sets

    return random_features(getattr(sets, f"load_{name}")(), runs)


def random_features(
    given: Any, runs: int, *, dim: int = 24, noise: float = 0.3
) -> tuple[list[np.ndarray], Labels]:
    """Random ReLU features of standardised rows, with noise, one draw a run."""
    x = given.data
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    made = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        hidden = x @ rng.standard_normal((x.shape[1], dim)) / np.sqrt(x.shape[1])
        made.append(np.maximum(hidden, 0.0) + noise * rng.standard_normal(hidden.shape))
    names = tuple(str(name) for name in np.unique(given.target))
    return made, Labels(given.target.astype(np.int32), names)


def texts(text: np.ndarray | None, runs: int, dim: int = 16) -> list[np.ndarray]:
    """Leading components of the words of the items, found from some of the items, a draw a run.

    Raises:
      ValueError: the items have no text.
    """
    if text is None:
        raise ValueError("--texts needs items with a text; these have none")
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(min_df=2).fit_transform([str(one) for one in text])
    made = []
    for seed in range(runs):
        kept = np.random.default_rng(seed).random(len(text)) < 0.3
        svd = TruncatedSVD(dim, algorithm="arpack", random_state=0).fit(weights[kept])
        made.append(svd.transform(weights))
    return made
