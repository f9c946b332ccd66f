import json

import jax.numpy as jnp
import numpy as np
import pytest

from kernlens.show import report
from kernlens.types import Classification


def panel(**options):
    x = np.array([0.1, 0.2, 0.4])
    return report.Panel("title", x, "x", x + 0.01, "y", x * 0, **options)


def test_json_takes_arrays_tuples_and_nan(tmp_path):
    value = {
        "tuple": Classification(jnp.float32(0.5), np.float64(0.25), np.nan, 1),
        "array": np.arange(3),
        "inf": float("inf"),
        "path": tmp_path / "data",
        3: (True, None),
    }
    report.write_json(tmp_path / "out.json", value)
    found = json.loads((tmp_path / "out.json").read_text())
    assert found == {
        "tuple": {"accuracy": 0.5, "micro_f1": 0.25, "macro_f1": None, "balanced_accuracy": 1},
        "array": [0, 1, 2],
        "inf": None,
        "path": "data",
        "3": [True, None],
    }
    assert list(tmp_path.iterdir()) == [tmp_path / "out.json"]


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_figures_are_written_in_the_format_of_their_suffix(tmp_path, suffix):
    made = report.figure(
        [panel(same_unit=True, note="note"), panel(y_spread=np.full(3, 0.01))], "colour"
    )
    path = tmp_path / f"figure.{suffix}"
    report.write_figure(path, made)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)
