"""Claim 5: from recorded errors to where the theory holds and where it first fails."""

import dataclasses

import numpy as np
import pytest

from experiments.ntk_predicts_training import summary
from experiments.ntk_predicts_training.settings import (
    CLOSED,
    INFINITE,
    LINEAR,
    TINY,
    Setting,
    sweeps,
)
from kernlens.show import report

CONFIG = dataclasses.replace(TINY, head_widths=(64, 32, 16), seeds=2)


def recorded(setting, error, seed=0, loss=0.5):
    """A row of a setting whose closed form errs so at each step."""
    metrics = {name: [0.1, 0.2, 0.3][: len(error)] for name in ("macro_f1", "auc", "accuracy")}
    return {
        **report.to_json(setting), "seed": seed, "kernel_change": 0.1, "feature_change": 0.2,
        "error": {CLOSED: error, INFINITE: [2 * (e or 0) for e in error], LINEAR: [0.0, 0.03, 0.0]},
        "trained": {**metrics, "train_loss": [1.0, loss]},
        "predicted": metrics,
        "ensemble": {"error": [0.4, 0.6], "noise": [0.1, 0.2]},
    }  # fmt: skip


def of_seeds(*errors):
    setting = Setting("MLP head", 16, 0.5, (1, 8, 64))
    return [recorded(setting, error, seed) for seed, error in enumerate(errors)]


@pytest.mark.parametrize(
    ("errors", "step"),
    [
        ([[0.01, 0.02, 0.05], [0.01, 0.02, 0.09]], None),
        ([[0.01, 0.02, 0.05], [0.01, 0.02, 0.16]], 64),  # the mean over seeds counts
        ([[0.01, 0.02, 0.05], [0.01, 0.02, 0.14]], None),
        ([[0.01, 0.3, 0.05], [0.01, 0.02, 0.05]], 8),  # though it comes back
        ([[0.25, 0.25, 0.0], [0.0, 0.0, 0.0]], 1),
        ([[0.1, 0.1, 0.1]], 1),  # at the threshold it is broken
        ([[0.01, None, None], [0.01, 0.02, 0.03]], 8),  # one that diverged breaks it
    ],
)
def test_the_step_at_which_the_prediction_breaks(errors, step):
    assert summary.broken_at(of_seeds(*errors), 0.1) == step


def test_the_worst_error_is_each_seeds_largest():
    found = summary.worst(of_seeds([0.01, 0.3, 0.1], [0.2, 0.0, 0.1]))
    np.testing.assert_allclose(found, (0.25, np.std([0.3, 0.2], ddof=1)))
    assert summary.worst(of_seeds([0.1, 0.3, 0.1])) == (0.3, 0.0)
    assert summary.worst(of_seeds([0.1, None, None], [0.2, 0.0, 0.1])) == (None, None)
    assert summary.worst(of_seeds([0.1, 0.3, 0.1]), "another") == (None, None)


GOOD, BROKEN = [0.01, 0.02, 0.05], [0.01, 0.2, 0.4]


@pytest.mark.parametrize(
    ("errors", "loss", "said"),
    [
        ((GOOD, GOOD, GOOD), 0.5, "holds (error < 0.1 to step 64) at width 64, 32, 16: nowhere "
         "broken"),
        ((GOOD, GOOD, BROKEN), 0.5, "holds (error < 0.1 to step 64) at width 64, 32; first broken "
         "at width 16, from step 8 (error up to 0.4)"),
        ((GOOD, BROKEN, GOOD), 0.5, "holds (error < 0.1 to step 64) at width 64, 16; first broken "
         "at width 32, from step 8 (error up to 0.4)"),
        ((BROKEN, BROKEN, BROKEN), 0.5, "holds at none; first broken at width 64, from step 8 "
         "(error up to 0.4)"),
        ((GOOD, GOOD, [0.01, 0.02, None]), 0.5, "holds (error < 0.1 to step 64) at width 64, 32; "
         "first broken at width 16, from step 64 (the prediction diverges, training does not)"),
        ((GOOD, GOOD, [0.01, 0.02, None]), None, "holds (error < 0.1 to step 64) at width 64, 32; "
         "first broken at width 16, from step 64 (training diverges)"),
    ],
)  # fmt: skip
def test_the_verdict_names_where_it_holds_and_where_it_first_fails(errors, loss, said):
    first, *others = sweeps(CONFIG)
    by_setting = {setting: GOOD for sweep in others for setting in sweep.settings}
    by_setting |= dict(zip(first.settings, errors, strict=True))
    rows = [
        recorded(setting, error[: len(setting.steps)], seed, loss)
        for setting, error in by_setting.items()
        for seed in range(CONFIG.seeds)
    ]
    found = summary.summarise(CONFIG, rows)
    assert [sweep["sweep"] for sweep in found] == [sweep.title for sweep in sweeps(CONFIG)]
    assert found[0]["verdict"] == said
    held = [s.width for s, e in zip(first.settings, errors, strict=True) if e is GOOD]
    assert found[0]["holds"] == held
    line = found[0]["settings"][-1]
    assert line["value"] == 16
    assert (line["ensemble_error"], line["ensemble_noise"]) == (0.6, 0.2)  # at the last step
    assert line["linear_error"] == 0.03
    assert all(sweep["first_broken"] is None for sweep in found[1:])


def test_minibatches_are_set_beside_the_linearised_model_on_the_same():
    sweep = sweeps(dataclasses.replace(TINY, variant_norms=(4.0, 0.5)))[-2]
    assert sweep.settings[0].minibatch
    rows = [
        recorded(setting, [0.0, 0.1 * (setting.norm < 1), 0.3 * (setting.norm < 1)])
        for setting in sweep.settings
    ]
    lines = [
        {
            "value": setting.norm, "broken_at": summary.broken_at([row], 0.1),
            "error": summary.worst([row])[0], "loss_left": 0.5,
            "linear_error": summary.worst([row], LINEAR)[0],
        }
        for setting, row in zip(sweep.settings, rows, strict=True)
    ]  # fmt: skip
    assert summary.verdict(sweep, lines, lines[1], 0.1) == (
        "holds (error < 0.1 to step 64) at starting norm 4; first broken at starting norm 0.5, "
        "from step 8 (error up to 0.3; the linearised model on the same minibatches 0.03)"
    )
