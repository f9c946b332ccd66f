"""Spectra of embeddings: how their variance is spread over directions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernlens.arrays.embeddings import as_named, as_rows
from kernlens.kernels.mapped import sampled
from kernlens.show import charts
from kernlens.show.page import Section
from kernlens.show.table import Column, Table
from kernlens.types import Stream

SPECTRUM_ROWS = 100_000
"""Most rows of a stream from which its spectrum is computed."""


def spectrum(embeddings: Any) -> Section:
    """How the variance of each embedding is spread over directions."""
    is_many = isinstance(embeddings, Mapping | list | tuple)
    named = as_named(embeddings) if is_many else {"this embedding": as_rows(embeddings)}
    drawn, rows = [], []
    for name, own in named.items():
        x = sampled(own, min(SPECTRUM_ROWS, own.shape[0])) if isinstance(own, Stream) else own
        x = np.asarray(x)
        x = x[np.all(np.isfinite(x), axis=1)]
        if len(x) < 2:
            continue
        values = np.linalg.eigvalsh(np.atleast_2d(np.cov(x.astype(np.float64), rowvar=False)))[::-1]
        total = values.sum()
        if not total > 0:
            continue
        share = values / total
        kept = share > 1e-9
        places = np.flatnonzero(kept)
        drawn.append(charts.Line(name, (places + 1).tolist(), (100 * share[kept]).tolist()))
        within = np.cumsum(share)
        rows.append(
            {
                "embedding": name,
                "rows": len(x),
                "d": x.shape[1],
                "first": float(share[0]),
                **{
                    f"d{p}": int(np.searchsorted(within, p / 100 - 1e-12) + 1) for p in (50, 90, 99)
                },
            }
        )
    if not rows:
        return Section("Spectrum", ["No embedding has variance."])
    columns = (
        Column("embedding"),
        Column("rows"),
        Column("d", "dimensions"),
        Column("first", "variance in the first", ".1%"),
        *(Column(f"d{p}", f"directions with {p}%") for p in (50, 90, 99)),
    )
    chart = charts.lines(
        "Variance by direction",
        "The earlier a line falls, the fewer directions hold most of the variance.",
        drawn,
        x_axis="direction, largest first",
        y_axis="share of the variance, %",
        log_x=True,
        log_y=True,
        markers=False,
        spec=".3g",
    )
    return Section(
        "Spectrum", (), [chart], [Table(rows, columns, "Directions that hold the variance")]
    )
