"""Trained outcomes: readers fitted to a frozen embedding, over seeds, measured on held-out rows.

This is what a prediction is held against. A seed fixes a reader's split and its initialisation; all
seeds of a call train together. Each split standardises the columns by the mean and the standard
deviation of its own training rows, so an outcome does not depend on the scale or the place of the
embedding, and no reader learns from a row that is held out.
"""

import functools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens import labels as label_rows
from kernlens import metrics, training
from kernlens.types import Array, Kernel, Labels, Outcome, Params


def stratified_split(seed: int, codes: np.ndarray, test_fraction: float = 0.2) -> np.ndarray:
    """Holds out a random share of every class.

    A class of ``m >= 2`` rows gives ``round(m * test_fraction)`` of them, but at least one and at
    most ``m - 1``; a class of one row gives none. So every seed holds out equally many.

    Args:
      seed: a non-negative integer.
      codes: class of each row, integers ``[n]``; a row below 0 has no label and is never held out.
      test_fraction: share of rows to hold out, in ``(0, 1)``.

    Returns:
      True where a row is held out, bool ``[n]``.

    Raises:
      ValueError: ``test_fraction`` outside ``(0, 1)``.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction must lie strictly between 0 and 1; got {test_fraction}")
    codes = np.asarray(codes)
    counts = np.bincount(codes[codes >= 0])
    quota = np.minimum(np.maximum(np.rint(counts * test_fraction), 1), np.maximum(counts - 1, 0))
    return _draw(np.random.default_rng([seed, 0]), codes, quota)


def classify(
    embeddings: Any,
    labels: Labels,
    *,
    decoder: nn.Module,
    seeds: int | Sequence[int] = 5,
    test_fraction: float = 0.2,
    l2: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    steps: int | None = None,
    on_round: Callable[[training.Progress], None] | None = None,
) -> Outcome:
    r"""Trains a softmax classifier on the frozen embedding, all seeds together.

    The loss over the :math:`m` training rows of a seed, with :math:`z` the standardised embedding
    and :math:`f` the head, is

    .. math:: \frac1m \sum_i -\log \mathrm{softmax}(f(z_i))_{y_i} + \frac{\lambda}{2m} \|W\|^2.

    There are two recipes; the head decides.

    - A head that is affine in ``z`` and linear in its parameters (`decoders.Linear`) has a convex
      loss, whose optimum is reached: full batches, L-BFGS until a round of 10 steps lowers no
      seed's loss by more than a millionth. :math:`W` is then the slope of the logits in ``z``, so
      biases are free, and ``l2=1`` is scikit-learn's ``LogisticRegression(C=1)``. The steps are
      taken in whitened coordinates, which moves the path, not the optimum, and lets columns that
      are nearly collinear converge as fast as others.
    - Any other head (`decoders.Mlp`) takes a fixed number of steps of Adam at 0.01, falling to 0
      along a cosine, on batches of 256 rows; :math:`W` is then every parameter of rank 2 or more.
      Nothing is chosen by a run's own held-out rows.

    Args:
      embeddings: rows to classify, ``[n, d]``, finite where labelled.
      labels: their classes, ``n`` rows; rows labelled ``-1`` are left out.
      decoder: Flax head, ``[n, d]`` to logits ``[n, C]``; its ``num_outputs`` is set to C here.
      seeds: how many (seeds 0, 1, ...), or the seeds themselves.
      test_fraction: share of each class to hold out, in ``(0, 1)``.
      l2: :math:`\lambda \ge 0`; default 1 for an affine head, 10 for another.
      optimizer: any optax optimiser in place of the recipe's; an affine head then takes all its
        steps.
      steps: most steps of a seed, rounded up to whole rounds; default 500 for an affine head,
        1,500 for another.
      on_round: called after each round of training.

    Returns:
      Metrics on held-out and on training rows, and the classes given, by seed.

    Raises:
      ValueError: rows that do not match, are not finite, or are too few; fewer than two classes;
        an argument out of range; a loss that became infinite or NaN.

    Warns:
      RuntimeWarning: L-BFGS ran out of steps, so the outcome is not the optimum's.

    References:
      Xu and Yang (2023), section 6 (the entity tasks); Liu and Nocedal (1989), L-BFGS.
    """
    start = time.perf_counter()
    task = _task(embeddings, labels, seeds, test_fraction)
    if l2 is not None and not 0.0 <= l2 < math.inf:
        raise ValueError(f"l2 must be 0 or more, and finite; got {l2}")
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")
    head = decoder.clone(num_outputs=task.num_classes) if _sized(decoder) else decoder
    dim = task.x.shape[1]
    recipe = (_Affine if _is_affine(head, dim) else _General)(head)
    with jax.default_matmul_precision("highest"):
        shared = recipe.shared(task, recipe.l2 if l2 is None else l2)
        streams = jax.vmap(jax.random.split)(training.seed_keys(task.seeds))
        params = _init(head, streams[:, 0], dim)
        steps = steps or recipe.steps
        rounds = -(-steps // recipe.round)
        fitted = training.fit(
            recipe,
            optimizer or recipe.optimizer(steps),
            params,
            streams[:, 1],
            recipe.batches(task, -(-steps // rounds)),
            rounds=rounds,
            shared=shared,
            on_round=on_round,
            until=recipe.until if optimizer is None else None,
        )
        if not np.isfinite(fitted.losses[-1]).all():
            bad = task.seeds[int(np.argmin(np.isfinite(fitted.losses[-1])))]
            raise ValueError(
                f"training diverged: seed {bad} ended at loss {fitted.losses[-1].max()}; "
                "take smaller steps or a larger l2"
            )
        if optimizer is None:
            recipe.check(fitted, shared)
        predicted = np.asarray(_predict(recipe, fitted.params, shared))
    return _outcome(task, predicted, start)


def kernel_svm(
    embeddings: Any,
    labels: Labels,
    *,
    kernel: Kernel,
    seeds: int | Sequence[int] = 5,
    test_fraction: float = 0.2,
    C: float = 1.0,
    max_rows: int = 3000,
) -> Outcome:
    """Trains scikit-learn's support vector machine on our Gram matrix, seed after seed.

    The splits and the standardised columns are those of :func:`classify`. The Gram matrix is
    divided by the mean of its diagonal over the rows trained on, so ``C`` means the same at any
    scale of the kernel. Training takes time and memory of the square of the rows: a stratified
    sample of at most ``max_rows`` of a seed's training rows (and at least one of each class) is
    trained on. ``train_metrics`` are nevertheless those of all rows that are not held out.

    Args:
      embeddings: rows to classify, ``[n, d]``, finite where labelled.
      labels: their classes, ``n`` rows; rows labelled ``-1`` are left out.
      kernel: a kernel of standardised rows; bind its lengthscale to suit them (for `kernels.rbf`
        about ``sqrt(d)``).
      seeds: how many (seeds 0, 1, ...), or the seeds themselves.
      test_fraction: share of each class to hold out, in ``(0, 1)``.
      C: penalty of a margin violation, above 0.
      max_rows: most rows to train on, at least 2.

    Returns:
      Metrics on held-out and on training rows, and the classes given, by seed.

    Raises:
      ValueError: as for :func:`classify`; scikit-learn missing; a kernel that is not finite or has
        no positive diagonal.

    References:
      Cortes and Vapnik (1995); Xu and Yang (2023), section 6.
    """
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise ValueError("kernel_svm needs scikit-learn: pip install 'kernlens[train]'") from error
    start = time.perf_counter()
    task = _task(embeddings, labels, seeds, test_fraction)
    if not 0.0 < C < math.inf:
        raise ValueError(f"C must be above 0, and finite; got {C}")
    if max_rows < 2:
        raise ValueError(f"max_rows must be at least 2; got {max_rows}")
    predicted = []
    for i, seed in enumerate(task.seeds):
        rows = _sample(seed, np.where(task.held_out[i], -1, task.codes), max_rows)
        z = ((task.x - task.mean[i]) * task.scale[i]).astype(np.float32)
        gram = np.concatenate(list(_gram_blocks(kernel, z[rows], z[rows])))
        unit = np.diagonal(gram).mean()
        if not (np.isfinite(gram).all() and unit > 0):
            raise ValueError(
                f"the kernel of the standardised rows must be finite with a positive diagonal; "
                f"got a mean diagonal of {unit} and {np.sum(~np.isfinite(gram))} values not finite"
            )
        machine = SVC(C=C, kernel="precomputed").fit((gram + gram.T) / (2 * unit), task.codes[rows])
        blocks = [machine.predict(b / unit) for b in _gram_blocks(kernel, z, z[rows])]
        predicted.append(np.concatenate(blocks))
    return _outcome(task, np.stack(predicted).astype(np.int32), start)


class _Task(NamedTuple):
    """The labelled rows, ``x [n, d]`` float64, and each seed's split of them, ``[S, ...]``.

    ``scale`` is one over the standard deviation of the training rows, 0 for a constant column.
    """

    x: np.ndarray
    codes: np.ndarray
    num_classes: int
    seeds: tuple[int, ...]
    held_out: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @property
    def num_train(self) -> int:
        return int(np.sum(~self.held_out[0]))


def _task(
    embeddings: Any, labels: Labels, seeds: int | Sequence[int], test_fraction: float
) -> _Task:
    x = np.asarray(embeddings)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"embeddings must be rows by columns, [n, d]; got shape {x.shape}")
    if len(x) != len(labels.codes):
        raise ValueError(
            f"embeddings and labels must have the same rows; got {len(x)} embeddings and "
            f"{len(labels.codes)} labels"
        )
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must be one or more, none below 0; got {seeds}")
    rounding = float(jnp.finfo(x.dtype).eps) if jnp.issubdtype(x.dtype, jnp.floating) else 0.0
    rows = label_rows.labelled_rows(labels)
    x, codes = x[rows].astype(np.float64), np.asarray(labels.codes)[rows]
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"embeddings must be finite; got {np.sum(~finite)} labelled rows that are not, the "
            f"first is row {rows[np.argmin(finite)]}"
        )
    counts = np.bincount(codes, minlength=len(labels.names))
    if np.sum(counts > 0) < 2:
        raise ValueError(
            f"classification needs rows of at least two classes; got {len(codes)} labelled rows "
            f"of {np.sum(counts > 0)}"
        )
    if counts.max() < 2:
        raise ValueError(
            f"too few rows to hold any out: no class has two; got {len(codes)} labelled rows of "
            f"{np.sum(counts > 0)} classes"
        )
    held_out = np.stack([stratified_split(seed, codes, test_fraction) for seed in seeds])
    mean = np.stack([x[~held].mean(axis=0) for held in held_out])
    spread = np.stack([x[~held].std(axis=0) for held in held_out])
    # A column whose spread is no more than its rounding is constant.
    scale = _inverse(np.where(spread > 8 * rounding * np.abs(mean), spread, 0.0))
    return _Task(x, codes, len(labels.names), seeds, held_out, mean, scale)


def _inverse(x: np.ndarray) -> np.ndarray:
    """One over ``x``, and 0 where ``x`` is 0."""
    return np.where(x > 0, 1.0 / np.where(x > 0, x, 1.0), 0.0)


def _draw(rng: np.random.Generator, codes: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """True at ``quota[c]`` random rows of each class ``c``."""
    order = np.lexsort((rng.random(len(codes)), codes))
    order = order[codes[order] >= 0]
    ordered = codes[order]
    place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    drawn = np.zeros(len(codes), bool)
    drawn[order[place < quota[ordered]]] = True
    return drawn


def _sample(seed: int, codes: np.ndarray, max_rows: int) -> np.ndarray:
    """Indices of a stratified sample of the labelled rows, all of them if they are few enough."""
    counts = np.bincount(codes[codes >= 0])
    share = min(1.0, max_rows / counts.sum())
    quota = np.maximum(np.floor(counts * share), np.minimum(counts, 1))
    return np.flatnonzero(_draw(np.random.default_rng([seed, 1]), codes, quota))


def _gram_blocks(kernel: Kernel, x1: np.ndarray, x2: np.ndarray, *, block: int = 2048):
    """Gram matrix of ``x1`` and ``x2`` in float64, a block of rows at a time, all of one shape."""
    for first in range(0, len(x1), block):
        part = x1[first : first + block]
        padded = np.pad(part, ((0, min(block, len(x1)) - len(part)), (0, 0)), mode="edge")
        yield np.asarray(_gram(padded, x2, kernel=kernel), np.float64)[: len(part)]


@functools.partial(jax.jit, static_argnames=("kernel",))
def _gram(x1: Array, x2: Array, *, kernel: Kernel) -> Array:
    with jax.default_matmul_precision("highest"):
        return kernel(x1, x2)


def _outcome(task: _Task, predicted: np.ndarray, start: float) -> Outcome:
    held_out = task.held_out

    def measure(kept):
        counts = jax.vmap(
            lambda p, w: metrics.confusion(task.codes, p, task.num_classes, weights=w)
        )(predicted, kept.astype(np.int32))
        return metrics.from_confusion(np.asarray(counts))

    held, trained = measure(held_out), measure(~held_out)
    return Outcome(held, trained, predicted, held_out, time.perf_counter() - start)


def _sized(decoder: nn.Module) -> bool:
    return "num_outputs" in getattr(decoder, "__dataclass_fields__", {})


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init(head: nn.Module, keys: Array, dim: int) -> Params:
    example = jnp.zeros((1, dim), jnp.float32)
    return jax.vmap(lambda key: head.init(key, example))(keys)


@functools.partial(jax.jit, static_argnums=0)
def _predict(recipe: Any, params: Params, shared: Any) -> Array:
    """Classes given to all rows by every seed, int32 ``[S, n]``."""
    places = jnp.arange(shared.shift.shape[0])
    return jax.lax.map(
        lambda at: jnp.argmax(recipe.logits(*at, shared), axis=-1).astype(jnp.int32),
        (params, places),
    )


@functools.lru_cache(maxsize=128)
def _is_affine(head: nn.Module, dim: int) -> bool:
    """Whether logits are affine in the row and linear in the parameters, at random ones."""
    rng = np.random.default_rng(0)
    x1, x2 = rng.standard_normal((2, 16, dim)).astype(np.float32)
    drawn = [
        jax.tree.map(
            lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype),
            head.init(jax.random.key(0), x1),
        )
        for _ in range(2)
    ]
    total = jax.tree.map(jnp.add, *drawn)
    both = [np.asarray(head.apply(params, x1), np.float64) for params in (*drawn, total)]
    linear = np.abs(both[0] + both[1] - both[2]).max() < 1e-3 * np.abs(both[2]).max()
    ends = [np.asarray(head.apply(total, x), np.float64) for x in (x1, x2, (x1 + x2) / 2)]
    affine = np.abs(ends[0] + ends[1] - 2 * ends[2]).max() < 1e-3 * np.abs(ends[2]).max()
    return bool(linear and affine)


class _Rows(NamedTuple):
    """What every step reads: rows in the recipe's coordinates, and each seed's way of seeing them.

    ``shift`` and ``scale`` are ``[S, d]`` (``scale`` ``[S, d, d]`` for an affine head), ``weights``
    ``[S, n]``; a step's batch names the seed's place in them.
    """

    x: Array
    codes: Array
    weights: Array
    shift: Array
    scale: Array
    l2: Array


def _rows(x, task: _Task, shift, scale, l2: float) -> _Rows:
    single = functools.partial(jnp.asarray, dtype=jnp.float32)
    weights = single(~task.held_out / task.num_train)
    codes = jnp.asarray(task.codes, jnp.int32)
    return _Rows(single(x), codes, weights, single(shift), single(scale), single(l2))


@dataclass(frozen=True)
class _Affine:
    """L-BFGS on all training rows of a head whose loss is convex.

    All seeds read the same whitened rows, ``x = u @ whiten``, so their logits are one product. A
    seed's own standardisation comes back exactly, because the head is affine: the logits move by
    the image of the seed's ``shift``, and the slopes in its standardised columns, which the penalty
    is of, are the images of the rows of ``scale``.
    """

    head: nn.Module
    l2: ClassVar[float] = 1.0
    steps: ClassVar[int] = 500
    round: ClassVar[int] = 10

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        return _LBFGS

    def shared(self, task: _Task, l2: float) -> _Rows:
        mean, unit = task.x.mean(axis=0), _inverse(task.x.std(axis=0))
        u = (task.x - mean) * unit
        values, vectors = np.linalg.eigh(u.T @ u / len(u))
        floor = max(1e-7 * values[-1], 10.0 * l2 / task.num_train, np.finfo(np.float32).tiny)
        whiten = vectors / np.sqrt(np.maximum(values, 0.0) + floor)
        # A column that is constant for a seed has no slope to learn; any positive width will do.
        width = np.where(task.scale > 0, unit * _inverse(task.scale), 1.0)
        shift = (task.mean - mean) * unit @ whiten
        return _rows(u @ whiten, task, shift, width[:, :, None] * whiten, l2 / task.num_train)

    def batches(self, task: _Task, steps: int) -> training.Batches:
        places = np.tile(np.arange(len(task.seeds), dtype=np.int32), (steps, 1))
        return lambda i: places

    def logits(self, params: Params, place: Array, shared: _Rows) -> Array:
        logits = self.head.apply(params, shared.x)
        return logits - self._slopes(params, shared.shift[place][None])

    def __call__(self, params: Params, key: Array, place: Array, shared: _Rows) -> Array:
        logits = self.logits(params, place, shared)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, shared.codes)
        slopes = self._slopes(params, shared.scale[place])
        return jnp.sum(shared.weights[place] * losses) + 0.5 * shared.l2 * jnp.sum(slopes**2)

    def _slopes(self, params: Params, directions: Array) -> Array:
        at_zero = self.head.apply(params, jnp.zeros_like(directions[:1]))
        return self.head.apply(params, directions) - at_zero

    def until(self, losses: np.ndarray) -> bool:
        if len(losses) < 2:
            return False
        return bool(np.all(losses[-2] - losses[-1] <= 1e-6 * np.abs(losses[-1])))

    def check(self, fitted: training.Fit, shared: _Rows) -> None:
        """Warns where the gradient is not that of an optimum."""
        norms = np.asarray(_gradient_norms(self, fitted.params, shared))
        limit = 1e-3 * np.sqrt(fitted.losses[-1])
        if not np.all(norms <= limit):
            warnings.warn(
                f"L-BFGS stopped short of the optimum after {len(fitted.losses)} rounds: gradient "
                f"norms {norms} (at an optimum at most {limit}); allow more steps or a larger l2",
                RuntimeWarning,
                stacklevel=3,
            )


@dataclass(frozen=True)
class _General:
    """Adam on batches of training rows, for any head."""

    head: nn.Module
    l2: ClassVar[float] = 10.0
    steps: ClassVar[int] = 1500
    round: ClassVar[int] = 100
    until: ClassVar[None] = None

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        return _adam(steps)

    def shared(self, task: _Task, l2: float) -> _Rows:
        mean, unit = task.x.mean(axis=0), _inverse(task.x.std(axis=0))
        x, shift = (task.x - mean) * unit, (task.mean - mean) * unit
        return _rows(x, task, shift, task.scale * _inverse(unit), l2 / task.num_train)

    def batches(self, task: _Task, steps: int) -> training.Batches:
        rows = [np.flatnonzero(~held).astype(np.int32) for held in task.held_out]
        size = min(256, task.num_train)
        passes = task.num_train // size

        def batches(i):
            epochs, slots = np.divmod(np.arange(i * steps, (i + 1) * steps), passes)
            drawn = np.empty((steps, len(rows), size), np.int32)
            for place, (seed, own) in enumerate(zip(task.seeds, rows, strict=True)):
                for epoch in np.unique(epochs):
                    order = np.random.default_rng([seed, 2, epoch]).permutation(own)
                    order = order[: passes * size].reshape(passes, size)
                    drawn[epochs == epoch, place] = order[slots[epochs == epoch]]
            places = np.tile(np.arange(len(rows), dtype=np.int32), (steps, 1))
            return places, drawn

        return batches

    def logits(self, params: Params, place: Array, shared: _Rows) -> Array:
        return self._apply(params, place, shared.x, shared)

    def __call__(self, params: Params, key: Array, batch: Any, shared: _Rows) -> Array:
        place, rows = batch
        logits = self._apply(params, place, shared.x[rows], shared)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, shared.codes[rows])
        weights = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim >= 2]
        return jnp.mean(losses) + 0.5 * shared.l2 * sum(jnp.sum(w**2) for w in weights)

    def _apply(self, params: Params, place: Array, x: Array, shared: _Rows) -> Array:
        return self.head.apply(params, (x - shared.shift[place]) * shared.scale[place])

    def check(self, fitted: training.Fit, shared: _Rows) -> None:
        pass


@functools.partial(jax.jit, static_argnums=0)
def _gradient_norms(recipe: _Affine, params: Params, shared: _Rows) -> Array:
    def norm(place, params):
        grads = jax.grad(recipe)(params, None, place, shared)
        return optax.tree.norm(grads)

    return jax.vmap(norm)(jnp.arange(shared.shift.shape[0]), params)


@functools.lru_cache(maxsize=128)
def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(1e-2, steps))


_LBFGS = optax.lbfgs(
    memory_size=10,
    linesearch=optax.scale_by_zoom_linesearch(
        max_linesearch_steps=8, initial_guess_strategy="one"
    ),
)
