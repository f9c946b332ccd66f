import functools

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.kit import study
from kernlens import moments, probes, scores
from kernlens.arrays.rows import identity
from kernlens.datasets import synthetic
from kernlens.models import decoders
from kernlens.train import heads
from kernlens.types import Labels

DATA = synthetic.load(num_items=120, num_users=60, num_interactions=6_000, num_classes=3, seed=0)
QUICK = {name: probes.PROBES[name] for name in ("discriminant", "class_means")}
READERS = {"LR": functools.partial(heads.classify, decoder=decoders.Linear(), seeds=2)}


def row(setting, seed, predicted, score, trained, cosine=0.0):
    return {
        "setting": setting,
        "seed": seed,
        "predicted": {"probe": {"macro_f1": predicted, "seconds": 0.1}},
        "scores": {"score": {"value": score, "null": 0.0, "seconds": 0.2}},
        "baselines": {},
        "trained": {"LR": {"macro_f1": trained}},
        "mean_cosine": cosine,
    }


@pytest.mark.thorough
def test_cell_holds_what_each_part_says_alone():
    told = []
    rows = study.cell(
        DATA,
        DATA.labels["class"],
        study.Setting(2, 2, 1),
        seeds=(4, 9),
        probes=QUICK,
        readers=READERS,
        baselines={"norm": lambda x, task: float(np.mean(np.linalg.norm(x, axis=1)))},
        dim=6,
        on_seed=told.append,
    )
    assert [r["seed"] for r in rows] == [4, 9]
    assert told == rows
    first = rows[0]
    assert first["setting"] == "w2 k2 e1"
    assert set(first["predicted"]) == set(QUICK)
    assert set(first["scores"]) == set(study.ALIGNMENTS)
    assert set(first["baselines"]) == {"dimension", "pretraining_loss", "norm"}
    assert first["baselines"]["dimension"]["value"] == 6
    assert first["baselines"]["pretraining_loss"]["value"] == -first["pretraining_loss"]
    assert set(first["trained"]["LR"]) == {*study.METRICS, "seconds"}
    assert len(first["trained"]["LR"]["macro_f1"]) == 2


@pytest.mark.thorough
def test_judge_reads_labelled_rows_alone():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 20).astype(np.int32)
    x = (rng.normal(size=(60, 4)) + 2 * rng.normal(size=(3, 4))[codes]).astype(np.float32)
    labels = Labels(codes, ("a", "b", "c"))
    hidden = labels._replace(codes=np.where(np.arange(60) % 4 == 0, -1, codes).astype(np.int32))
    kept = np.flatnonzero(hidden.codes >= 0)
    judge = functools.partial(study.judge, probes=QUICK, readers={})
    whole = judge(x, hidden)
    alone = judge(x[kept], labels._replace(codes=codes[kept]))
    for name in QUICK:
        whole["predicted"][name].pop("seconds")
        alone["predicted"][name].pop("seconds")
    assert whole["predicted"] == alone["predicted"]
    expected = scores.centred_alignment(
        moments.from_arrays(identity(jnp.asarray(x[kept])), jnp.asarray(codes[kept]), 3)
    )
    assert whole["scores"]["centred_alignment"]["value"] == pytest.approx(float(expected.value))
    unit = x[kept] / np.linalg.norm(x[kept], axis=1, keepdims=True)
    assert whole["mean_cosine"] == pytest.approx(np.mean(unit @ unit.T), rel=1e-5)


def test_agreement_is_over_the_mean_of_the_readers_seeds():
    rows = [
        row("a", 0, 0.1, 3.0, [0.1, 0.2]),
        row("b", 0, 0.3, 1.0, [0.3, 0.4]),
        row("c", 0, 0.2, 2.0, [0.2, 0.3]),
    ]
    predictors = study.predictors(rows)
    assert [p.name for p in predictors] == ["probe", "score"]
    agreed = study.agree(rows, predictors[0], "LR", "macro_f1", draws=10)
    assert agreed.spearman.value == pytest.approx(1.0)
    assert agreed.mean_absolute_error.value == pytest.approx(0.05)
    assert study.agree(rows, predictors[1], "LR", "macro_f1", draws=10).spearman.value == (
        pytest.approx(-1.0)
    )
    assert predictors[1].seconds(rows) == 0.2
