r"""Claim 5: the tangent kernel at the start tells what training will do, and where it does not.

Three models of one data set: a classifier head on a frozen item2vec embedding, a two-tower
recommender on it, and item2vec itself on (anchor, context, label) triplets. Each is trained by
gradient descent and set beside (1) the closed form from its own tangent kernel at the start, (2)
its linearisation, trained the same way, and (3) the kernel of infinite width. Width, learning rate,
loss and the size of the start are swept until the prediction breaks; the relative error is
:math:`\|\hat f_k - f_k\| / \|f_k - f_0\|` on test rows at step :math:`k`, 0 for a perfect
prediction, 1 for one that says nothing happens.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.kit.cells import Cells
from experiments.ntk_predicts_training.figure import draw
from experiments.ntk_predicts_training.settings import (
    CLOSED,
    HEAD,
    INFINITE,
    LINEAR,
    SQUARED,
    TINY,
    Config,
    Setting,
    sweeps,
)
from experiments.ntk_predicts_training.summary import summarise, tables
from experiments.ntk_predicts_training.tasks import Task, as_task, inputs
from experiments.ntk_predicts_training.theory import (
    Kernels,
    change,
    ensemble_error,
    measure,
    predict,
    relative_error,
)
from experiments.ntk_predicts_training.training import (
    Curve,
    flatness,
    initial_size,
    model,
    outputs,
    targets,
    train,
)
from kernlens.ntk import dynamics
from kernlens.show import report

__all__ = ["TINY", "Config", "draw", "run", "summarise", "tables"]


def follow(
    setting: Setting, task: Task, config: Config, limit: Kernels, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Trains a setting from every seed and sets the predictions beside: a row for each."""
    size = initial_size(setting)
    made = model(setting.part, setting.width, task.y.shape[1], config.items)
    # In the standard parametrisation of item2vec the kernel is quadratic in the tables' size.
    limit = limit._replace(train=size**2 * limit.train, cross=size**2 * limit.cross)
    y = targets(setting.loss, task.y)
    starts, own = [], []
    for seed in range(config.seeds):
        params = jax.tree.map(lambda p: size * p, made.init(jax.random.key(seed), task.x))
        kernel = made.kernel_fn(task.x, None, params, params)
        starts.append(params)
        own.append(
            Kernels(
                dynamics.spectrum(kernel) if setting.loss == SQUARED else kernel,
                made.kernel_fn(task.x_test, task.x, params, params),
                () if setting.part == HEAD else (-1,),
            )
        )
    bounds = [float(dynamics.max_learning_rate(k.train, flatness(setting.loss, y))) for k in own]
    rate = setting.rate * min(bounds)  # one for all, so that their mean is an ensemble's
    rows, curves = [], []
    for seed, (origin, given) in enumerate(zip(starts, own, strict=True)):
        begin = time.perf_counter()
        start = outputs(made.f, False, origin, origin, task.x, task.x_test)
        trained, end = train(made.f, setting, task, rate, origin)
        curves.append(trained.test)
        predicted = {
            CLOSED: predict(setting, given, y, rate, start),
            INFINITE: predict(setting, limit, y, rate, start),
        }
        if seed < config.linear_seeds:
            predicted[LINEAR], _ = train(made.f, setting, task, rate, origin, linear=True)
        errors = {
            name: relative_error(curve.test, trained.test, start.test)
            for name, curve in predicted.items()
        }
        gap = None
        if LINEAR in predicted:
            gap = relative_error(predicted[CLOSED].test, predicted[LINEAR].test, start.test)
        rows.append(
            {
                **setting._asdict(),
                "seed": seed,
                "learning_rate": rate,
                "bound": bounds[seed],
                "error": errors,
                "closed_form_less_linearised": gap,
                "trained": measure(setting.loss, trained, task.y, task.y_test),
                "predicted": measure(setting.loss, predicted[CLOSED], task.y, task.y_test),
                **change(made.kernel_fn, task.x, origin, end),
                "seconds": time.perf_counter() - begin,
            }
        )
        tell(
            f"seed {seed}: error at the last step {float(errors[CLOSED][-1]):.3g}, "
            f"learning rate {rate / bounds[seed]:.2f} of its bound"
        )
    nothing = Curve(jnp.zeros_like(y), jnp.zeros_like(task.y_test))
    mean = predict(setting, limit, y, rate, nothing).test
    ensemble = ensemble_error(mean, jnp.stack(curves))
    return report.to_json([{**row, "ensemble": ensemble} for row in rows])


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """One row for each setting and seed."""
    given = cells("inputs", lambda: inputs(config))
    tasks = {name: as_task(fields) for name, fields in given.items()}
    settings = dict.fromkeys(setting for sweep in sweeps(config) for setting in sweep.settings)

    @functools.cache
    def limit(part: str) -> Kernels:
        task = tasks[part]
        kernel_fn = model(part, 1, task.y.shape[1], config.items).limit_fn
        train, cross = (kernel_fn(x, task.x, "ntk") for x in (task.x, task.x_test))
        return Kernels(train, cross, (-1,))

    rows = []
    for setting in settings:

        def make(setting: Setting = setting) -> list[dict[str, Any]]:
            task = tasks[setting.part]
            return follow(setting, task, config, limit(setting.part), cells.tell)

        rows += cells(setting.name, make)
    return rows
