"""Another number of labels, of dimensions, another penalty: answered from moments at once.

m = moments.from_arrays(x, labels.codes, len(labels.names), class_scatters=True)
explore(m)                     # in a notebook three sliders; elsewhere a table
explore(m).at(labels=5_000, dims=16, strength=1e-2)
"""

import importlib.util
from typing import Any, NamedTuple

import numpy as np

from kernlens.files import optional
from kernlens.moments import Moments, select
from kernlens.scores.curves import learning_curve
from kernlens.show.table import Column, Table

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges that the sliders and the table offer, relative to the trace of the covariance."""


class Explorer(NamedTuple):
    """What ridge regression on a part of the columns reaches with other numbers of labels.

    Attributes:
      moments: moments of the labelled rows, with the scatter of each class.
    """

    moments: Moments

    @property
    def dims(self) -> int:
        """Columns of the rows."""
        return int(self.moments.mean.shape[-1])

    @property
    def labels(self) -> int:
        """Rows that the moments are of."""
        return int(self.moments.count)

    def at(
        self, *, labels: int | None = None, dims: int | None = None, strength: float | None = None
    ) -> float:
        """The share of the variance of the labels that ridge regression explains on new rows.

        Args:
          labels: labelled rows, at least 2. Default: as many as there are.
          dims: the first so many columns, at least 1. Default: all.
          strength: ridge, relative to the trace of the covariance, above 0. Default: the best of
            :data:`STRENGTHS`.

        Returns:
          A number in ``[0, 1]``: 0 for chance, 1 where no label is wrong.

        Raises:
          ValueError: an argument out of its range.
        """
        labels = self.labels if labels is None else labels
        dims = self.dims if dims is None else dims
        if not 1 <= dims <= self.dims:
            raise ValueError(f"dims must lie in 1..{self.dims}; got {dims}")
        part = self.moments if dims == self.dims else select(self.moments, np.arange(dims))
        strengths = STRENGTHS if strength is None else (strength,)
        found = learning_curve(part, [labels], strengths=strengths)
        variance = float(np.asarray(self._variance()))
        return 1.0 - float(np.asarray(found.errors)[0]) / variance

    def table(self) -> Table:
        """The share for an eighth to eight times the labels, and a quarter to all of the columns,
        each at the best strength."""
        sizes = {
            f"at_{i}": max(2, int(self.labels * factor)) for i, factor in enumerate((0.125, 1, 8))
        }
        parts = dict.fromkeys(max(1, round(self.dims * share)) for share in (0.25, 0.5, 1.0))
        rows = [
            {"dims": dims} | {key: self.at(labels=n, dims=dims) for key, n in sizes.items()}
            for dims in parts
        ]
        columns = [Column("dims", "columns"),
                   *(Column(key, f"{n:,} labels", ".3f") for key, n in sizes.items())]  # fmt: skip
        return Table(rows, columns, "Share of the labels' variance that ridge explains on new rows")

    def slider(self) -> Any:
        """Three sliders (of ipywidgets) with the answer beneath them.

        Raises:
          ImportError: ipywidgets is not installed; :meth:`table` needs none.
        """
        ipywidgets = optional("ipywidgets", extra="notebook")
        n = self.labels
        sizes = sorted({max(2, int(n * 2.0**power)) for power in range(-5, 6)})
        return ipywidgets.interactive(
            lambda labels, dims, strength: print(
                f"{self.at(labels=labels, dims=dims, strength=strength):.3f} of the labels' "
                "variance is explained on new rows"
            ),
            labels=ipywidgets.SelectionSlider(options=sizes, value=n),
            dims=ipywidgets.IntSlider(min=1, max=self.dims, value=self.dims),
            strength=ipywidgets.SelectionSlider(options=STRENGTHS, value=STRENGTHS[2]),
        )

    def _variance(self) -> Any:
        shares = np.asarray(self.moments.class_counts, np.float64)
        shares = shares / shares.sum()
        return 1.0 - np.sum(shares**2)

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        with_sliders = importlib.util.find_spec("ipywidgets") is not None
        display(self.slider() if with_sliders else HTML(self._repr_html_()))


def explore(moments: Moments) -> Explorer:
    """What more labels, fewer columns or another penalty would bring, from moments alone.

    Args:
      moments: with labels and the scatter of each class, as ``from_arrays(...,
        class_scatters=True)`` and ``from_stream`` give them.

    Returns:
      Explorer: in a notebook with ipywidgets three sliders, elsewhere a table.

    Raises:
      ValueError: moments without the scatter of each class.
    """
    learning_curve(moments, [2], strengths=STRENGTHS[:1])
    return Explorer(moments)
