"""Draws the figures of the concept pages into ``docs/concepts/figures``.

    python docs/figures.py

Each function computes what it shows with the library and returns the figure, so that a figure says
what the code does.
"""

import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import matplotlib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kernlens as kl
from kernlens import datasets, decoders, moments
from kernlens.kernels.of_decoder import of_decoder
from kernlens.scores import SCORES

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent / "concepts" / "figures"
STYLE = {"svg.hashsalt": "kernlens", "font.size": 10, "axes.spines.top": False,
         "axes.spines.right": False, "figure.constrained_layout.use": True}  # fmt: skip
SIZE = (6.4, 3.4)


class Tanh(nn.Module):
    """A head with one hidden layer of tanh units."""

    num_outputs: int = 1

    @nn.compact
    def __call__(self, z):
        """Logits ``[n, num_outputs]``."""
        return nn.Dense(self.num_outputs)(nn.tanh(nn.Dense(256)(z)))


def kernel_of_a_decoder() -> Figure:
    """The kernel of two unit rows over their angle, of four decoders."""
    angle = np.linspace(0.0, np.pi, 61)
    rows = jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], 1), jnp.float32)
    shown = {
        "linear head": (decoders.Linear(), "-"),
        "Mlp(32)": (decoders.Mlp(32), "-"),
        "Mlp((32, 32))": (decoders.Mlp((32, 32)), "-"),
        "tanh head, tangent kernel": (Tanh(), "--"),
    }
    figure, axes = pyplot.subplots(figsize=SIZE)
    for name, (decoder, line) in shown.items():
        made = of_decoder(decoder, dim=2, num_outputs=1, seed=0)
        k = np.asarray(made.kernel(rows[:1], rows))[0]
        axes.plot(np.degrees(angle), k / k[0], line, label=name)
    axes.set(xlabel="angle between two unit rows (degrees)", ylabel="kernel / kernel at 0")
    axes.set_xticks([0, 45, 90, 135, 180])
    axes.legend(frameon=False)
    return figure


def moments_of_a_stream() -> Figure:
    """The H-score after every chunk of a stream, and its null."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 3_000).astype(np.int32)
    x = 0.6 * rng.normal(size=(4, 32))[codes] / 2 + rng.normal(size=(3_000, 32))
    chunks = [slice(i, i + 100) for i in range(0, 3_000, 100)]
    parts = [moments.from_arrays(x[own].astype(np.float32), codes[own], 4) for own in chunks]
    so_far = [reduce(moments.merge, parts[: i + 1]) for i in range(len(parts))]
    found = [SCORES["h_score"].fn(m) for m in so_far]
    read = [float(m.count) for m in so_far]
    figure, axes = pyplot.subplots(figsize=SIZE)
    axes.plot(read, [float(s.value) for s in found], label="H-score")
    axes.plot(read, [float(s.null) for s in found], "--", color="0.4", label="by chance")
    axes.set(xlabel="rows read", ylabel="H-score of the moments so far", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def probe_path() -> Figure:
    """Held-out macro-F1 along the penalties of the logistic probe."""
    data = datasets.load(
        "synthetic", num_items=400, num_interactions=16_000, num_classes=4, imbalance=1.0
    )
    x = datasets.synthetic.embeddings(data, within_class_spread=5.0, dim=64, seed=1)
    found = kl.predict(x, data.labels["class"])
    assert found.path is not None
    value = found.path.metrics["macro_f1"]
    figure, axes = pyplot.subplots(figsize=SIZE)
    axes.semilogx(found.path.strengths, value, "o-", label="held out")
    best = int(np.argmin(np.abs(np.asarray(found.path.strengths) - found.path.chosen)))
    axes.plot(found.path.chosen, value[best], "o", ms=11, mfc="none", mec="k", label="chosen")
    axes.axhline(found.metrics["macro_f1"].null, ls="--", color="0.4", label="by chance")
    axes.set(xlabel="penalty of the weights", ylabel="macro-F1", ylim=(0, 1))
    axes.legend(frameon=False)
    return figure


def three_intervals() -> Figure:
    """The three intervals of a prediction above ten trained heads."""
    data = datasets.load("synthetic", num_items=1_000, num_interactions=20_000, num_classes=6)
    x = datasets.synthetic.embeddings(data, within_class_spread=2.0, seed=1)
    labels = data.labels["class"]
    found = kl.predict(x, labels, decoder=decoders.Linear())
    assert found.path is not None
    head = make_pipeline(StandardScaler(), LogisticRegression(C=1.0 / found.path.chosen))
    splits = StratifiedShuffleSplit(10, test_size=0.2, random_state=0)
    values = cross_val_score(head, x, labels.codes, cv=splits, scoring="f1_macro")
    figure, axes = pyplot.subplots(figsize=SIZE)
    rows = [("one training", found.metrics), ("mean of ten", found.means),
            ("another sample\nof items", found.samples)]  # fmt: skip
    for y, (_, metrics) in enumerate(rows, 1):
        own = metrics["macro_f1"]
        axes.plot([own.low, own.high], [y, y], lw=5, solid_capstyle="butt", alpha=0.7)
        axes.plot(own.value, y, "k|", ms=14)
    axes.plot(values, np.zeros(10), "o", color="0.3", mfc="none")
    axes.plot(values.mean(), 0, "k|", ms=14)
    axes.set_yticks(range(4), ["ten trained heads\nand their mean", *(name for name, _ in rows)])
    axes.set(xlabel="macro-F1", ylim=(-0.5, 3.5))
    axes.invert_yaxis()
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "kernels": kernel_of_a_decoder,
    "moments": moments_of_a_stream,
    "probes": probe_path,
    "intervals": three_intervals,
}
"""What draws each figure, by the name of its file."""


def draw(name: str, folder: Path = FOLDER) -> Path:
    """Draws a figure and writes it as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    with pyplot.rc_context(STYLE):
        figure = FIGURES[name]()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
    return path


if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        print(draw(name))
