"""Moments of Parquet partitions, folded by Ray Data and by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from experiments.map_reduce import example as map_reduce
from tests.test_moments import assert_close, problem, reference


@pytest.mark.thorough
def test_record_batches_become_bytes_that_merge():
    x, codes, num_classes, t = problem(1, targets=0)
    column = pyarrow.FixedSizeListArray.from_arrays(x.ravel(), x.shape[1])
    table = pyarrow.table({"embedding": column, "label": codes})
    # Record batches as Spark's mapInArrow gives them, and tables as Ray Data does.
    parts = [map_reduce.encoded(batch, num_classes) for batch in table.to_batches(40)]
    parts[-1] = map_reduce.encoded(table.slice(80), num_classes)
    assert len(parts) == 3
    assert_close(map_reduce.merged(reversed(parts)), reference(x, codes, num_classes, t))


RUN = """
import json, sys
from pathlib import Path
from experiments.map_reduce import example as map_reduce
print(json.dumps(map_reduce.run(map_reduce.TINY, Path(sys.argv[1]))))
"""


def h_score_of_tiny():
    """tr(T^-1 B) in float64, from the data that the experiment draws."""
    config = map_reduce.TINY
    rng = np.random.default_rng(config.seed)
    codes = rng.integers(0, config.num_classes, config.rows)
    centres = rng.standard_normal((config.num_classes, config.dim))
    x = centres[codes] + rng.standard_normal((config.rows, config.dim))
    x -= x.mean(axis=0)
    means = np.stack([x[codes == c].mean(axis=0) for c in range(config.num_classes)])[codes]
    return np.trace(np.linalg.solve(x.T @ x, means.T @ means))


@pytest.mark.slow
def test_ray_data_gives_what_one_pass_gives(tmp_path):
    pytest.importorskip("ray.data")
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": root}
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["rows"] == map_reduce.TINY.rows
    assert found["difference"] < 1e-5  # sums of float32 in another order
    assert found["h_score"] == pytest.approx(h_score_of_tiny(), rel=1e-4)
