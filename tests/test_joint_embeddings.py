"""Joint embeddings: noise is given no weight; the tiny version runs."""

import io

import numpy as np
import pytest
from rich.console import Console

from experiments import joint_embeddings, runner


@pytest.mark.slow
def test_noise_loses_weight_and_the_verdict_is_of_the_rows(tmp_path):
    cells = runner.Cells(tmp_path, Console(file=io.StringIO()))
    rows = joint_embeddings.run(joint_embeddings.TINY, cells)
    assert np.mean([row["gained"] for row in rows]) < 0
    found = joint_embeddings.summarise(joint_embeddings.TINY, rows)
    assert found["verdict"] in ("holds", "holds in part", "fails")
    for row in rows:
        row["trained"][joint_embeddings.LEARNT] = {
            name: [2.0] for name in row["trained"][joint_embeddings.LEARNT]
        }
    assert joint_embeddings.summarise(joint_embeddings.TINY, rows)["verdict"] == "holds"
