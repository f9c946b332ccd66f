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
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import runner
from kernlens import agreement, datasets, kernels, labels, metrics, pretrain, report, sampling
from kernlens.ntk import cross_ntk_fn, dynamics, infinite, linearize
from kernlens.types import Array, Interactions, Labels, Params


@dataclass(frozen=True)
class Config:
    """The models, what is swept, and when the theory counts as broken."""

    threshold: float = 0.1
    """Relative error of the test outputs from which the prediction counts as broken."""
    seeds: int = 3
    """Initialisations of each setting; the rows are the same for all."""
    linear_seeds: int = 1
    """Seeds of which the linearised model is trained too."""
    head_widths: tuple[int, ...] = (4096, 1024, 256, 64, 16)
    """Hidden units of the classifier head, on squared error."""
    softmax_widths: tuple[int, ...] = (1024, 64)
    """Hidden units of the head, on softmax cross-entropy."""
    tower_widths: tuple[int, ...] = (512, 128, 32)
    """Hidden units, and outputs, of each tower."""
    flow_rate: float = 0.02
    """Learning rate where the theory is a flow or training stochastic, as a share of the bound."""
    tables: int = 64
    """Embedding dimension of item2vec."""
    norms: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5, 0.1)
    """Root mean squared norm of item2vec's vectors at the start; 0.1 is the library's default."""
    variant_norms: tuple[float, ...] = (4.0, 0.5)
    """The norms at which item2vec is also trained on the logistic loss, and by minibatches."""
    rates: tuple[float, ...] = (0.1, 0.5, 0.9, 1.5, 3.0)
    """Learning rates of the sweep, as shares of the bound from which the theory diverges."""
    rate: float = 0.5
    """Learning rate where it is not swept, as a share of the bound."""
    steps: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    """Steps of gradient descent after which outputs are compared."""
    sweep_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """The same in the sweeps of the learning rate."""
    minibatch: int = 128
    """Triplets of a minibatch."""
    per_class: int = 32
    """Training items of each class, and as many test items."""
    pairs: int = 200
    """Positive training pairs of the recommender, each with one negative; as many for the test."""
    triplets: int = 512
    """Positive training triplets of item2vec, each with one negative; as many for the test."""
    items: int = 200
    """Items that item2vec is trained on, the most frequent."""
    dim: int = 32
    """Dimension of the frozen embedding."""
    epochs: int = 2
    """Passes over the data of its pretraining."""
    min_class_count: int = 200
    """Classes with fewer items are left out."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead of Complete Journey; 0 for the real."""


TINY = Config(
    seeds=2,
    head_widths=(16,),
    softmax_widths=(16,),
    tower_widths=(16,),
    tables=8,
    norms=(2.0, 1.0, 0.1),
    variant_norms=(),
    rates=(0.5, 3.0),
    steps=(1, 8, 64),
    sweep_steps=(1, 8),
    minibatch=8,
    per_class=8,
    pairs=16,
    triplets=16,
    items=40,
    dim=8,
    epochs=1,
    min_class_count=20,
    synthetic=10_000,
)

HEAD, TOWERS, TABLES = "MLP head", "two-tower", "item2vec"
CLOSED, INFINITE, LINEAR = "closed form", "infinite width", "linearised"
SQUARED, SOFTMAX, LOGISTIC = "mse", "softmax_cross_entropy", "logistic"


class Task(NamedTuple):
    """Rows to learn and rows to test, with class indicators ``[n, C]`` or labels ``[n, 1]``."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any


class Setting(NamedTuple):
    """One model and how it is trained; see `Config` for the fields' meaning."""

    part: str
    width: int
    rate: float
    steps: tuple[int, ...]
    loss: str = SQUARED
    norm: float = 1.0
    minibatch: int = 0

    @property
    def name(self) -> str:
        """What stands in the log."""
        way = f"minibatches of {self.minibatch}" if self.minibatch else "full batch"
        return (
            f"{self.part}, width {self.width}, {self.loss}, rate {self.rate:g}, "
            f"norm {self.norm:g}, {way}, {self.steps[-1]} steps"
        )


class Sweep(NamedTuple):
    """Settings that differ in one field, from where the theory should hold to where it may not."""

    title: str
    field: str
    settings: tuple[Setting, ...]


def sweeps(config: Config) -> list[Sweep]:
    """What is swept."""
    head = Setting(HEAD, config.head_widths[0], config.rate, config.steps)
    tower = Setting(TOWERS, config.tower_widths[0], config.rate, config.sweep_steps)
    middle = config.norms[len(config.norms) // 2]
    table = Setting(TABLES, config.tables, config.rate, config.steps, norm=middle)

    # Below a norm of 1 the kernel grows to about that of 1 while it trains, and the bound falls.
    def gently(setting: Setting) -> Setting:
        return setting._replace(rate=setting.rate * min(1.0, setting.norm**2))

    def over(title: str, field: str, base: Setting, values: Sequence[Any]) -> Sweep:
        made = [base._replace(**{field: v}) for v in values]
        return Sweep(title, field, tuple(map(gently, made) if field == "norm" else made))

    made = [
        over(f"{HEAD}, squared error", "width", head, config.head_widths),
        # The theory for this loss is a flow, which small steps follow.
        over(
            f"{HEAD}, cross-entropy", "width", head._replace(loss=SOFTMAX, rate=config.flow_rate),
            config.softmax_widths,
        ),
        over(TOWERS, "width", tower, config.tower_widths),
        *(
            over(f"{TOWERS} of width {w}", "rate", tower._replace(width=w), config.rates)
            for w in config.tower_widths
        ),
        over(f"{TABLES}, squared error", "norm", table, config.norms),
        over(
            f"{TABLES}, logistic loss", "norm",
            table._replace(loss=LOGISTIC, rate=config.flow_rate),
            config.variant_norms,
        ),
        over(
            f"{TABLES}, minibatches", "norm",
            table._replace(minibatch=config.minibatch, rate=config.flow_rate),
            config.variant_norms,
        ),
        over(
            f"{TABLES} of norm {middle:g}", "rate", table._replace(steps=config.sweep_steps),
            config.rates,
        ),
    ]  # fmt: skip
    return [sweep for sweep in made if sweep.settings]


def inputs(config: Config) -> dict[str, Task]:
    """The three tasks, from one pretrained embedding and one key."""
    if config.synthetic:
        data = datasets.load(
            "synthetic", num_items=200, num_users=100, num_interactions=config.synthetic,
            num_classes=3,
        )  # fmt: skip
        label = data.labels["class"]
    else:
        data = datasets.load("complete_journey")
        label = data.labels["department"]
    fitted = pretrain.contrastive(data, dim=config.dim, epochs=config.epochs)
    embeddings = directions(fitted.embeddings[0])
    label = labels.drop_rare(label, config.min_class_count)
    return {
        HEAD: head_task(config, embeddings, label),
        TOWERS: tower_task(config, embeddings, data),
        TABLES: table_task(config, data),
    }


def directions(x: np.ndarray) -> np.ndarray:
    """Standardised columns, then rows of norm ``sqrt(d)``: all rows alike to a kernel."""
    x = (x - x.mean(0)) / x.std(0)
    return np.asarray(kernels.unit_rows(jnp.asarray(x))) * np.float32(x.shape[1] ** 0.5)


def head_task(config: Config, embeddings: np.ndarray, label: Labels) -> Task:
    """Items and their classes, as many of each."""
    generator = np.random.default_rng(0)
    drawn = [
        generator.permutation(np.flatnonzero(label.codes == c))[: 2 * config.per_class]
        for c in range(len(label.names))
    ]
    train, test = (
        np.concatenate([rows[k :: 2] for rows in drawn]) for k in (0, 1)
    )  # fmt: skip
    indicator = np.eye(len(label.names), dtype=np.float32)
    return Task(
        embeddings[train], indicator[label.codes[train]],
        embeddings[test], indicator[label.codes[test]],
    )  # fmt: skip


def tower_task(config: Config, embeddings: np.ndarray, data: Interactions) -> Task:
    """The last item of a session after the mean of up to eight before it, and a random one."""
    generator = np.random.default_rng(0)
    long = np.flatnonzero(np.diff(data.offsets) >= 3)
    sessions = generator.choice(long, 2 * config.pairs, replace=False)
    last = data.offsets[sessions + 1] - 1
    first = np.maximum(data.offsets[sessions], last - 8)
    history = directions(
        np.stack([embeddings[data.items[a:b]].mean(0) for a, b in zip(first, last, strict=True)])
    )
    positive = data.items[last]
    noise = sampling.unigram(data.counts)
    negative = np.asarray(
        sampling.draw(jax.random.key(0), noise, jnp.asarray(positive)[:, None], 1)
    )[:, 0]

    def half(rows: slice) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        candidates = np.concatenate([embeddings[positive[rows]], embeddings[negative[rows]]])
        return (np.tile(history[rows], (2, 1)), candidates), halves(config.pairs)

    train, test = half(slice(0, config.pairs)), half(slice(config.pairs, None))
    return Task(*train, *test)


def table_task(config: Config, data: Interactions) -> Task:
    """Triplets as item2vec draws them, from the sessions cut down to the most frequent items."""
    kept = data.items < config.items
    before = np.concatenate([[0], np.cumsum(kept)])
    frequent = data._replace(
        items=data.items[kept],
        offsets=before[data.offsets],
        item_keys=data.item_keys[: config.items],
        labels={},
        text=None,
    )
    noise = sampling.unigram(frequent.counts)
    window, block = 2, max(64, config.triplets)
    cut = sampling.blocks((0, 0), frequent, block=block, window=window)

    def half(i: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        made = sampling.triplets(
            jax.random.key(i), noise, jnp.asarray(cut.items[i]), jnp.asarray(cut.sequences[i]),
            window=window, k=1,
        )  # fmt: skip
        real = np.flatnonzero(np.asarray(made.weight * made.negative_weight[:, 0]))
        rows = np.random.default_rng(i).choice(real, config.triplets, replace=False)
        anchor, positive = (np.asarray(ids)[rows] for ids in (made.anchor, made.positive))
        context = np.concatenate([positive, np.asarray(made.negatives)[rows, 0]])
        return (np.tile(anchor, 2), context), halves(config.triplets)

    return Task(*half(0), *half(1))


def halves(n: int) -> np.ndarray:
    """Labels of n positives, then n negatives."""
    return np.repeat(np.array([[1.0], [0.0]], np.float32), n, axis=0)


class Model(NamedTuple):
    """A network of one width, its kernels, and the kernel at infinite width."""

    init: Callable[[Array, Any], Params]
    f: Callable[[Params, Any], Any]
    kernel_fn: Callable[..., Array]
    limit_fn: Callable[..., Array]


@functools.cache
def model(part: str, width: int, outputs: int, items: int) -> Model:
    """The model of a part; one object a width, so that its settings share what is compiled."""
    hidden = infinite.dense(width, 2**0.5, 0.1), infinite.relu()
    if part == HEAD:
        net = infinite.serial(*hidden, infinite.dense(outputs))
    elif part == TOWERS:
        tower = infinite.serial(*hidden, infinite.dense(width))
        net = infinite.two_tower(tower, tower)
    else:
        table = infinite.lookup(items, width, parameterization="standard")
        net = infinite.two_tower(table, table)
    module: Any = net.module
    # A score has one output, over which a trace is the kernel itself.
    kernel_fn = cross_ntk_fn(module.apply, trace_axes=() if part == HEAD else (-1,))
    return Model(jax.jit(module.init), module.apply, kernel_fn, net.kernel_fn)


def initial_size(setting: Setting) -> float:
    """Factor on item2vec's tables; its scores are over sqrt(d), so its vectors over d ** 0.25."""
    return setting.norm / setting.width**0.25 if setting.part == TABLES else 1.0


def targets(loss: str, y: Array) -> Array:
    """Labels as the loss wants them: about zero for squared error."""
    return y - 1.0 / max(y.shape[1], 2) if loss == SQUARED else y


def flatness(loss: str, y: Array) -> int:
    """Outputs over which a squared error of the greatest curvature of this loss is a mean."""
    return {SQUARED: y.size, SOFTMAX: 2 * len(y), LOGISTIC: 4 * y.size}[loss]


@functools.partial(jax.jit, static_argnames=("f", "loss", "linear", "minibatch"))
def descend(
    f: Callable[[Params, Any], Array],
    loss: str,
    linear: bool,
    minibatch: int,
    origin: Params,
    params: Params,
    x: Any,
    y: Array,
    learning_rate: Array,
    steps: tuple[Array, Array],
) -> Params:
    """Gradient descent from one step to another, of the model or of its linearisation."""
    model = linearize(f, origin) if linear else f

    def step(i: Array, params: Params) -> Params:
        rows = slice(None)
        if minibatch:
            key = jax.random.fold_in(jax.random.key(0), i)
            rows = jax.random.choice(key, len(y), (minibatch,), replace=False)
        batch, wanted = jax.tree.map(lambda leaf: leaf[rows], (x, y))
        slope = jax.grad(lambda p: dynamics.LOSSES[loss](model(p, batch), wanted))(params)
        return jax.tree.map(lambda p, g: p - learning_rate.astype(p.dtype) * g, params, slope)

    return jax.lax.fori_loop(*steps, step, params)


class Kernels(NamedTuple):
    """Of the training rows with themselves, of test with training rows, and axes without a pair."""

    train: Any
    cross: Array
    trace_axes: tuple[int, ...]


class Curve(NamedTuple):
    """Outputs at the recorded steps, ``[T, n, C]``."""

    train: Array
    test: Array


def predict(setting: Setting, given: Kernels, y: Array, rate: float, start: Curve) -> Curve:
    """The theory: descent in closed form on squared error, else the flow."""
    steps = jnp.asarray(setting.steps)
    if setting.loss != SQUARED:
        times = steps.astype(y.dtype)
        return flow(setting.loss, given.trace_axes, given.train, given.cross, y, rate, times, start)
    made = dynamics.discrete_gradient_descent_mse(given.train, y, rate, trace_axes=given.trace_axes)
    return Curve(*made(steps, *start, given.cross))


@functools.partial(jax.jit, static_argnums=(0, 1))
def flow(
    loss: str,
    trace_axes: tuple[int, ...],
    train: Array,
    cross: Array,
    y: Array,
    rate: Any,
    times: Array,
    start: Curve,
) -> Curve:
    """Gradient flow, one program for all kernels of a shape."""
    made = dynamics.gradient_descent(dynamics.LOSSES[loss], train, y, rate, trace_axes=trace_axes)
    return Curve(*made(times, *start, cross)[0])


@jax.jit
def relative_error(predicted: Array, trained: Array, start: Array) -> Array:
    """How far apart two curves are, over how far the second has come, ``[T]``."""
    size = functools.partial(jnp.linalg.norm, axis=(1, 2))
    return size(predicted - trained) / size(trained - start)


@jax.jit
def ensemble_error(expected: Array, members: Array) -> dict[str, Array]:
    """How far the mean of trained outputs, ``[seeds, T, n, C]``, is from the theory's, relatively.

    ``noise`` is what the mean of so few members would be off by were the theory exact.
    """
    size = functools.partial(jnp.linalg.norm, axis=(1, 2))
    mean = members.mean(0)
    noise = members.std(0) / max(len(members) - 1, 1) ** 0.5
    return {"error": size(expected - mean) / size(mean), "noise": size(noise) / size(mean)}


@functools.partial(jax.jit, static_argnums=0)
def measure(loss: str, curve: Curve, y: Array, y_test: Array) -> dict[str, Array]:
    """Loss on training and test rows, metrics on test rows, at the recorded steps."""
    loss_fn = jax.vmap(dynamics.LOSSES[loss], (0, None))
    found = {
        "train_loss": loss_fn(curve.train, targets(loss, y)),
        "test_loss": loss_fn(curve.test, targets(loss, y_test)),
    }
    if y.shape[1] == 1:
        truth = y_test[:, 0]
        return {**found, "auc": jax.vmap(lambda fx: metrics.auc(fx[:, 0], truth))(curve.test)}
    truth = jnp.argmax(y_test, -1)
    made = jax.vmap(lambda fx: metrics.classification(truth, jnp.argmax(fx, -1), y.shape[1]))(
        curve.test
    )
    return {**found, "accuracy": made.accuracy, "macro_f1": made.macro_f1}


@functools.partial(jax.jit, static_argnums=(0, 1))
def outputs(
    f: Callable[[Params, Any], Array], linear: bool, origin: Params, params: Params, x: Any, z: Any
) -> Curve:
    """Outputs on training and test rows, of the model or of its linearisation."""
    chosen = linearize(f, origin) if linear else f
    return Curve(chosen(params, x), chosen(params, z))


def train(
    f: Callable[[Params, Any], Array],
    setting: Setting,
    task: Task,
    rate: float,
    origin: Params,
    *,
    linear: bool = False,
) -> tuple[Curve, Params]:
    """Trains the model, or its linearisation: outputs at the recorded steps, last parameters."""
    y = targets(setting.loss, task.y)
    params, last, seen = origin, 0, []
    for step in setting.steps:
        span = jnp.asarray(last), jnp.asarray(step)
        params = descend(
            f, setting.loss, linear, setting.minibatch, origin, params, task.x, y,
            jnp.asarray(rate), span,
        )  # fmt: skip
        seen.append(outputs(f, linear, origin, params, task.x, task.x_test))
        last = step
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen), params


def change(
    kernel_fn: Callable[..., Array], x: Any, start: Params, end: Params
) -> dict[str, float | None]:
    r"""How far training moved the kernel, and the gradients that it is made of.

    :math:`\|K_T - K_0\| / \|K_0\|`, and with the kernel between the two moments,
    :math:`\|J_T - J_0\| / \|J_0\|`, whose square is :math:`(K_{TT} + K_{00} - 2 K_{0T}) / K_{00}`
    in traces.
    """
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(end)):
        return {"kernel_change": None, "feature_change": None}
    before, after, both = (
        kernel_fn(x, None, *pair) for pair in ((start, start), (end, end), (start, end))
    )
    own, moved, shared = (float(total_trace(k)) for k in (before, after, both))
    return {
        "kernel_change": float(jnp.linalg.norm(after - before) / jnp.linalg.norm(before)),
        "feature_change": (max(moved + own - 2.0 * shared, 0.0) / own) ** 0.5,
    }


def total_trace(kernel: Array) -> Array:
    """Trace of a kernel, over outputs as over rows."""
    diagonal = jnp.diagonal(kernel)  # [*outputs twice, n]
    return jnp.sum(diagonal if diagonal.ndim == 1 else jnp.trace(diagonal))


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


def run(config: Config, cells: runner.Cells) -> list[dict[str, Any]]:
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


def as_task(fields: Mapping[str, Any]) -> Task:
    """A task from JSON; an input of three levels is a pair of arrays, as is one of ids."""

    def arrays(value: Any, pair: bool) -> Any:
        array = np.asarray(value)
        dtype = jnp.int32 if array.dtype.kind == "i" else jnp.result_type(float)
        return tuple(jnp.asarray(v, dtype) for v in array) if pair else jnp.asarray(array, dtype)

    pair = len(fields["x"]) == 2
    return Task(*(arrays(fields[name], pair and name.startswith("x")) for name in Task._fields))


def worst(rows: Sequence[Mapping[str, Any]], of: str = CLOSED) -> tuple[Any, Any]:
    """Mean and spread over seeds of the worst error over the steps; None where one diverged."""
    errors = [row["error"][of] for row in rows if of in row["error"]]
    if not errors or any(e is None for error in errors for e in error):
        return None, None
    peaks = [max(error) for error in errors]
    return float(np.mean(peaks)), float(np.std(peaks, ddof=min(1, len(peaks) - 1)))


def broken_at(rows: Sequence[Mapping[str, Any]], threshold: float) -> int | None:
    """The first recorded step at which the mean error over seeds is not below the threshold."""
    for k, step in enumerate(rows[0]["steps"]):
        errors = [row["error"][CLOSED][k] for row in rows]
        if any(e is None for e in errors) or not np.mean(errors) < threshold:
            return step
    return None


def of_setting(rows: Sequence[Mapping[str, Any]], setting: Setting) -> list[Mapping[str, Any]]:
    """The rows of a setting, a seed each."""
    wanted = report.to_json(setting)
    return [row for row in rows if all(row[name] == wanted[name] for name in wanted)]


def summarise(config: Config, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each sweep: the error of every setting, where the theory holds and where it first fails."""
    found = []
    for sweep in sweeps(config):
        lines = []
        for setting in sweep.settings:
            mine = of_setting(rows, setting)
            metric = METRIC[sweep.settings[0].part]
            error, spread = worst(mine)
            lines.append(
                {
                    "value": getattr(setting, sweep.field),
                    "error": error,
                    "spread": spread,
                    "broken_at": broken_at(mine, config.threshold),
                    "linear_error": worst(mine, LINEAR)[0],
                    "infinite_error": worst(mine, INFINITE)[0],
                    "ensemble_error": mine[0]["ensemble"]["error"][-1],
                    "ensemble_noise": mine[0]["ensemble"]["noise"][-1],
                    "feature_change": mean(row["feature_change"] for row in mine),
                    "kernel_change": mean(row["kernel_change"] for row in mine),
                    "trained": [row["trained"][metric][-1] for row in mine],
                    "predicted": [row["predicted"][metric][-1] for row in mine],
                    "loss_left": mean(row["trained"]["train_loss"][-1] for row in mine),
                }
            )
        broken = next((line for line in lines if line["broken_at"] is not None), None)
        found.append(
            {
                "sweep": sweep.title,
                "field": sweep.field,
                "metric": METRIC[sweep.settings[0].part],
                "last_step": sweep.settings[0].steps[-1],
                "threshold": config.threshold,
                "settings": lines,
                "holds": [line["value"] for line in lines if line["broken_at"] is None],
                "first_broken": broken,
                "verdict": verdict(sweep, lines, broken, config.threshold),
            }
        )
    return found


METRIC = {HEAD: "macro_f1", TOWERS: "auc", TABLES: "auc"}
FIELDS = {
    "width": "width {:g}",
    "rate": "{:g} of the largest learning rate",
    "norm": "starting norm {:g}",
}


def mean(values: Any) -> float | None:
    """The mean, or None where a value is missing."""
    kept = list(values)
    return None if any(v is None for v in kept) else float(np.mean(kept))


def verdict(
    sweep: Sweep, lines: Sequence[Mapping[str, Any]], broken: Mapping[str, Any] | None, most: float
) -> str:
    """Where the theory holds and where it first fails, in a sentence."""
    last = sweep.settings[0].steps[-1]
    name = FIELDS[sweep.field]
    holds = [f"{line['value']:g}" for line in lines if line["broken_at"] is None]
    where = name.format(0).replace("0", ", ".join(holds), 1)
    kept = f"holds (error < {most:g} to step {last}) at {where}" if holds else "holds at none"
    if broken is None:
        return f"{kept}: nowhere broken"
    if broken["error"] is not None:
        by = f"error up to {broken['error']:.2g}"
    elif broken["loss_left"] is not None:
        by = "the prediction diverges, training does not"
    else:
        by = "training diverges"
    if sweep.settings[0].minibatch and broken["linear_error"] is not None:
        by += f"; the linearised model on the same minibatches {broken['linear_error']:.2g}"
    at = name.format(broken["value"])
    return f"{kept}; first broken at {at}, from step {broken['broken_at']} ({by})"


def show(results: Mapping[str, Any]) -> list[Any]:
    """A table for each sweep and its verdict."""

    def number(value: float | None, digits: int = 2) -> str:
        return "diverged" if value is None else f"{value:.{digits}g}"

    def spread(values: Sequence[Any]) -> str:
        if None in values:
            return "diverged"
        return f"{np.mean(values):.3f} ± {np.std(values, ddof=min(1, len(values) - 1)):.3f}"

    shown: list[Any] = []
    for sweep in results["summary"]:
        columns = [
            report.Column(sweep["field"], lambda line: f"{line['value']:g}"),
            report.Column(
                "worst error",
                lambda line: (
                    number(line["error"])
                    + ("" if line["spread"] is None else f" ± {number(line['spread'])}")
                ),
            ),
            report.Column(
                "broken at step",
                lambda line: "-" if line["broken_at"] is None else str(line["broken_at"]),
            ),
            report.Column("linearised", lambda line: number(line["linear_error"])),
            report.Column("infinite kernel", lambda line: number(line["infinite_error"])),
            report.Column(
                "ensemble mean",
                lambda line: f"{number(line['ensemble_error'])} ({number(line['ensemble_noise'])})",
            ),
            report.Column("kernel change", lambda line: number(line["kernel_change"])),
            report.Column("gradient change", lambda line: number(line["feature_change"])),
            report.Column("train loss", lambda line: number(line["loss_left"])),
            report.Column(f"{sweep['metric']} trained", lambda line: spread(line["trained"])),
            report.Column("predicted", lambda line: spread(line["predicted"])),
        ]
        shown.append(report.table(sweep["settings"], columns, sweep["sweep"]))
        shown.append(f"{sweep['sweep']}: {sweep['verdict']}\n")
    return shown


TOP = 10.0
"""Errors beyond this, and runs that diverged, stand at the top of a panel."""

COLOURS = ("#1f5fa8", "#2a9d8f", "#e9a03b", "#c8553d", "#6d4c8d")


def draw(results: Mapping[str, Any]) -> Any:
    """Where the theory holds and where it breaks, and what it says of losses and metrics."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    made = Figure(figsize=(14.5, 9.2), layout="constrained", dpi=150)
    axes = made.subplots(2, 3)
    found = {sweep["sweep"]: sweep for sweep in results["summary"]}
    head, tables = f"{HEAD}, squared error", f"{TABLES}, squared error"
    towers = [name for name in found if name.startswith(f"{TOWERS} of width")]
    _errors_by_width(axes[0, 0], found, [head, f"{HEAD}, cross-entropy"])
    _errors_by_rate(axes[0, 1], found, [*towers, f"{TABLES} of norm"])
    _errors_by_step(axes[0, 2], results, tables)
    _curves(axes[1, 0], results, head, "macro_f1", "macro-F1 on test items")
    _feature_learning(axes[1, 1], results)
    _curves(axes[1, 2], results, tables, "train_loss", "squared error on training triplets")
    threshold = results["config"]["threshold"]
    for ax in (*axes[0], axes[1, 1]):
        ax.axhline(threshold, color="0.4", linewidth=1, linestyle=":", zorder=0)
        ax.set_yscale("log")
        ax.set_ylim(1e-3, 1.3 * TOP)
    for ax in axes.flat:
        ax.tick_params(labelsize=8)
        ax.grid(color="0.93", zorder=-1)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=7.5, frameon=False)
    made.suptitle(
        "Training predicted by the tangent kernel at the start: relative error of test outputs, "
        f"broken from {threshold:g} (dotted); {TOP:g} or diverged at the top",
        fontsize=12,
    )
    return made


def _capped(values: Sequence[float | None]) -> np.ndarray:
    return np.array([TOP if v is None else min(v, TOP) for v in values])


def _title(ax: Any, title: str, *notes: str) -> None:
    ax.set_title("\n".join((title, *notes)), fontsize=8)


def _short(sweep: Mapping[str, Any]) -> str:
    """Where a sweep holds and breaks, as the line under a heading."""
    kept = ", ".join(f"{value:g}" for value in sweep["holds"])
    holds = f"holds at {sweep['field']} {kept}" if kept else "holds nowhere"
    broken = sweep["first_broken"]
    if broken is None:
        return holds
    return f"{holds}; broken at {broken['value']:g} from step {broken['broken_at']}"


def _errors_by_width(ax: Any, found: Mapping[str, Any], names: Sequence[str]) -> None:
    notes = []
    for name, colour, marker in zip(names, COLOURS[::3], "os", strict=False):
        if name not in found:
            continue
        lines = found[name]["settings"]
        x = [line["value"] for line in lines]
        y = _capped([line["error"] for line in lines])
        spread = [line["spread"] or 0.0 for line in lines]
        loss = name.partition(", ")[2]
        ax.errorbar(
            x, y, np.minimum(spread, 0.9 * y), color=colour, marker=marker, capsize=3,
            label=f"{loss}: own kernel",
        )  # fmt: skip
        y = _capped([line["infinite_error"] for line in lines])
        ax.plot(
            x, y, color=colour, marker=marker, fillstyle="none", linestyle="--", linewidth=1,
            label=f"{loss}: infinite kernel",
        )  # fmt: skip
        notes.append(f"{loss}: {_short(found[name])}")
    lines = found[names[0]]["settings"]
    if lines[0]["error"] is not None:
        widths = np.array([line["value"] for line in lines], float)
        guide = lines[0]["error"] * (widths / widths[0]) ** -0.5
        ax.plot(widths, guide, color="0.7", linewidth=1, zorder=0, label="1/√width")
    ax.set_xscale("log", base=2)
    ax.set_xlabel("hidden units", fontsize=9)
    ax.set_ylabel("relative error, worst step, mean ± sd over seeds", fontsize=9)
    _title(ax, f"(a) {HEAD} on a frozen embedding", *notes)


def _errors_by_rate(ax: Any, found: Mapping[str, Any], names: Sequence[str]) -> None:
    chosen = [name for name in found if any(name.startswith(start) for start in names)]
    notes = []
    for name, colour in zip(chosen, COLOURS, strict=False):
        lines = found[name]["settings"]
        y = _capped([line["error"] for line in lines])
        spread = np.minimum([line["spread"] or 0.0 for line in lines], 0.9 * y)
        spread = np.where(y < TOP, spread, 0.0)
        style = "--" if name.startswith(TABLES) else "-"
        ax.errorbar(
            [line["value"] for line in lines], y, spread, color=colour, marker="o", capsize=3,
            linestyle=style, label=name,
        )  # fmt: skip
    for name in chosen[:1]:
        notes.append(f"{name}: {_short(found[name])}")
    ax.axvline(1.0, color="0.4", linewidth=1, zorder=0)
    ax.set_xscale("log")
    ax.set_xlabel("learning rate / bound 2N/λmax of the kernel at the start", fontsize=9)
    ax.set_ylabel("relative error, worst step, mean ± sd over seeds", fontsize=9)
    _title(ax, f"(b) {TOWERS} recommender, and the learning rate", *notes)


def _rows_of(results: Mapping[str, Any], name: str) -> list[tuple[Any, list[Mapping[str, Any]]]]:
    """The settings of a sweep: the value swept, and its rows."""
    config = Config(**{k: _tuples(v) for k, v in results["config"].items()})
    sweep = next(sweep for sweep in sweeps(config) if sweep.title == name)
    return [
        (getattr(setting, sweep.field), of_setting(results["rows"], setting))
        for setting in sweep.settings
    ]


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _errors_by_step(ax: Any, results: Mapping[str, Any], name: str) -> None:
    for (norm, rows), colour in zip(_rows_of(results, name), COLOURS, strict=False):
        errors = np.array([_capped(row["error"][CLOSED]) for row in rows])
        ax.plot(rows[0]["steps"], errors.mean(0), color=colour, marker="o", label=f"norm {norm:g}")
        ax.fill_between(
            rows[0]["steps"], errors.min(0), errors.max(0), color=colour, alpha=0.15, linewidth=0
        )
    sweep = next(sweep for sweep in results["summary"] if sweep["sweep"] == name)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("steps of gradient descent", fontsize=9)
    ax.set_ylabel("relative error, mean and range over seeds", fontsize=9)
    _title(ax, f"(c) {TABLES} itself, by the norm of its vectors at the start", _short(sweep))


def _curves(ax: Any, results: Mapping[str, Any], name: str, metric: str, label: str) -> None:
    """Trained and predicted, over steps, for the first, middle and last setting of a sweep."""
    every = _rows_of(results, name)
    picked = dict.fromkeys((0, len(every) // 2, len(every) - 1))
    field = next(sweep["field"] for sweep in results["summary"] if sweep["sweep"] == name)
    for k, colour in zip(picked, COLOURS[::2], strict=False):
        value, rows = every[k]
        steps = rows[0]["steps"]
        for which, style in (("trained", "-"), ("predicted", "--")):
            curves = np.array([row[which][metric] for row in rows], float)
            ax.plot(
                steps, curves.mean(0), color=colour, linestyle=style, marker="o", markersize=3,
                label=f"{field} {value:g}, {which}",
            )  # fmt: skip
            if which == "trained":
                ax.fill_between(
                    steps, curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0
                )
    ax.set_xscale("log", base=2)
    ax.set_xlabel("steps of gradient descent", fontsize=9)
    ax.set_ylabel(f"{label}, mean and range", fontsize=9)
    if metric.endswith("loss"):
        ax.set_yscale("log")
    part = name.partition(",")[0]
    _title(ax, f"{part}: trained (full) and predicted (dashed)")


def _feature_learning(ax: Any, results: Mapping[str, Any]) -> None:
    for part, colour, marker in zip((HEAD, TOWERS, TABLES), COLOURS[::2], "o^s", strict=False):
        rows = [
            row
            for row in results["rows"]
            if row["part"] == part and row["feature_change"] is not None
        ]
        ax.scatter(
            [row["feature_change"] for row in rows],
            _capped([_last(row) for row in rows]),
            s=22, color=colour, marker=marker, edgecolor="white", linewidth=0.4, label=part,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlabel("change of the gradients in training, ‖J_T − J_0‖ / ‖J_0‖", fontsize=9)
    ax.set_ylabel("relative error at the last step", fontsize=9)
    ranked = [row for row in results["rows"] if row["feature_change"] is not None]
    rho = agreement.spearman(
        np.array([row["feature_change"] for row in ranked]),
        _capped([_last(row) for row in ranked]),
    )
    _title(ax, f"Error and feature learning, every run: Spearman {rho:.2f}")


def _last(row: Mapping[str, Any]) -> float | None:
    return row["error"][CLOSED][-1]


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
