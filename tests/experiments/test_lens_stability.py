"""Stability and joins, predicted against trained: summaries, targets, trained references."""

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.neighbors import KNeighborsClassifier

from experiments.kit.cells import Cells
from experiments.kit.shown import MET
from experiments.lens_fuse import experiment as fuse
from experiments.lens_fuse import trained as fused
from experiments.lens_stability import experiment, trained
from experiments.lens_stability import runs as sources
from kernlens import lens
from kernlens.train import heads
from kernlens.types import Labels
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=200, separation=1.0)
LABELS = Labels(PROBLEM.codes, ("a", "b", "c", "d"))


def run(seed):
    return PROBLEM.x + 0.5 * np.random.default_rng(seed).standard_normal(PROBLEM.x.shape)


def row(churn, outcome, kappa=0.5, excess=None, noise=None):
    """A family in which every convex head is predicted and trained so."""

    def end(value):
        return {"value": value, "low": value - 0.01, "high": value + 0.01}

    def told(excess):
        return {
            "predicted": {
                "churn": end(churn), "kappa": end(kappa), "seed_noise": noise and end(noise),
                "excess": None if excess is None else end(excess), "metric": end(0.3),
                "spread": end(0.01),
            },
            "trained": {"churn": outcome, "kappa": kappa, "excess": 0.05},
        }  # fmt: skip

    found = {name: told(None) for name in experiment.CONVEX}
    if excess is not None:
        found[experiment.MLP] = told(excess)
    distances = dict.fromkeys(lens.distances.DISTANCES, churn)
    return {"family": "f", "label": "l", "rows": 9, "classes": 4, "distances": distances, **found}


@pytest.mark.parametrize(
    ("gap", "excess", "said"),
    [
        (0.006, 0.061, {"churn": True, "excess": True}),
        (0.008, 0.061, {"churn": False, "excess": True}),
        (0.006, 0.063, {"churn": True, "excess": False}),
        (0.006, None, {"churn": True, "excess": None}),
    ],
)
def test_targets_are_met_or_missed_by_their_numbers(gap, excess, said):
    rows = [row(value + gap, value, kappa=value, excess=excess) for value in (0.1, 0.2, 0.3)]
    found = experiment.summarise(experiment.TINY, rows)
    assert {key: found["met"][key] for key in said} == said
    assert found["met"]["rank of churn"] is True
    assert found["met"]["kappa"] is True
    own = found["heads"]["LR"]["churn"]
    np.testing.assert_allclose((own["error"], own["bias"], own["held"]), (gap, gap, 1.0))
    assert found["facts"]["eigenspace instability"]["churn"] == 1.0
    assert found["facts"]["CKA"]["churn"] == -1.0
    assert set(MET.values()) == {"met", "missed", "not judged"}


def test_a_wrong_order_misses_the_rank():
    rows = [row(a, b, kappa=a) for a, b in ((0.1, 0.3), (0.2, 0.2), (0.3, 0.1))]
    assert experiment.summarise(experiment.TINY, rows)["met"]["rank of churn"] is False


def test_trained_class_means_are_those_of_a_loop():
    found = trained.class_means([run(0), run(1)], LABELS, 1, priors=True)
    held = heads.stratified_split(0, PROBLEM.codes)
    given = []
    for x in (run(0), run(1)):
        means = [x[~held & (PROBLEM.codes == c)].mean(axis=0) for c in range(4)]
        shares = [np.mean(PROBLEM.codes[~held] == c) for c in range(4)]
        scores = [[z @ m + np.log(s) for m, s in zip(means, shares, strict=True)] for z in x[held]]
        given.append(np.argmax(scores, axis=1))
    np.testing.assert_allclose(found["churn"], np.mean(given[0] != given[1]))


def test_signs_are_judged_where_the_trained_gain_matters():
    def line(predicted, outcome, verdict):
        ends = {"value": predicted, "low": predicted - 0.01, "high": predicted + 0.01}
        return {
            "pair": "p", "label": "l", "head": "LR", "join": "equal variance",
            "predicted": ends, "trained": outcome, "verdict": verdict,
        }  # fmt: skip

    right = [line(0.03, 0.02, lens.ADDS)] * 19
    small = [line(-0.005, 0.005, lens.UNCLEAR)] * 5
    wrong = [line(0.001, -0.02, lens.UNCLEAR)]
    found = fuse.summarise(fuse.TINY, [*right, *small, *wrong])
    assert found["met"] is True
    assert found["parts"]["all"]["judged"] == 20
    assert found["parts"]["all"]["signs"] == pytest.approx(0.95)
    assert found["parts"]["all"]["said_right"] == 1.0
    assert fuse.summarise(fuse.TINY, [*right[:18], *wrong])["met"] is False
    assert fuse.summarise(fuse.TINY, small)["met"] is None


def test_each_head_of_a_small_set_reads_both_embeddings(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(fuse, "judge", lambda given, *_: read.append(list(given)) or [])
    config = fuse.Config(labels=(), small=("wine",), min_class_count=5)
    fuse.run(config, Cells(tmp_path / "fuse" / "run", Console(file=io.StringIO())))
    assert read == [["first", "second"]] * 2


@pytest.mark.thorough
def test_trained_joins_learn_on_training_rows_alone():
    second = run(1)[:, :3]
    given = {"a": run(0), "b": second}
    # What was predicted matters by its names and penalties alone, and k-NN has none.
    prediction = SimpleNamespace(path=None)
    joined = [
        SimpleNamespace(name=name, prediction=prediction)
        for name in ("equal variance", "learnt weights")
    ]
    found: Any = SimpleNamespace(alone=(), joined=joined)
    reached = fused.reached(given, LABELS, "k-NN", 1, found)
    held = heads.stratified_split(0, PROBLEM.codes)
    kept = LABELS._replace(codes=np.where(held, -1, PROBLEM.codes))
    parts = list(given.values())
    from sklearn.metrics import f1_score

    for name in ("equal variance", "learnt weights"):
        x = lens.JOINS[name].fit(parts, kept, 0)(parts)
        model = KNeighborsClassifier(10).fit(x[~held], PROBLEM.codes[~held])
        expected = f1_score(PROBLEM.codes[held], model.predict(x[held]), average="macro")
        np.testing.assert_allclose(reached[name], expected)


def test_families_differ_in_what_they_are_called():
    found = sources.families(4)
    assert all(len(members) == 4 for members in found.values())
    one_seed = found["weeks, one seed"]
    assert len({one.weeks for one in one_seed}) == 4
    assert {one.seed for one in one_seed} == {0}
    assert len({one.seed for one in found["weeks and seed"]}) == 4
    assert len({one.dim for one in found["dimension"]}) == 4
    assert [one.epochs for one in found["one epoch more"]] == [1, 2, 3, 4]
    names = [one.name for members in found.values() for one in set(members)]
    assert len(set(names)) == len({one for members in found.values() for one in members})


def test_unknown_families_and_heads_are_refused():
    with pytest.raises(ValueError, match="--families must be among seed"):
        experiment.check(experiment.Config(families=("moon",)))
    with pytest.raises(ValueError, match="--heads must be among LR"):
        fuse.check(fuse.Config(heads=("trees",)))
