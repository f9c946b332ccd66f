"""The tasks of the NTK benchmark and how one is measured, for any environment.

Imports JAX and NumPy alone: kernlens and a peer in an environment of its own run the same functions
on the same seeded numbers, and are timed by the same lines.
"""

import hashlib
import itertools
import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.machine import Memory, matmul_peak, timed

SEED = 0
KEPT = 1_000_000  # kernel entries kept to compare two implementations
PRODUCT = "matrix product"
"""What is timed in turn with the methods of a task, where that is asked for."""


class Problem(NamedTuple):
    """A function, where its kernel is wanted.

    Attributes:
      f: ``f(params, x) -> outputs [n, o]``, rows apart from each other.
      params: pytree of arrays.
      x: array, or pytree of arrays, with a leading batch axis of n.
    """

    f: Callable[[Any, Any], jax.Array]
    params: Any
    x: Any


class Task(NamedTuple):
    """A kernel to be computed.

    Attributes:
      make: ``make(rng, n) -> Problem``.
      n: rows.
      trace: whether outputs are traced (kernel ``[n, n]``) or not (``[n, n, o, o]``).
      floor: least operations known for a pair of rows, or 0 where none is stated.
      layerwise: operations for a pair of rows by every layer's inputs and output cotangents, or 0.
      operations: of the kernel of n rows in all, as kernlens computes it, where they were counted.
    """

    make: Callable[[np.random.Generator, int], Problem]
    n: int
    trace: bool = True
    floor: int = 0
    layerwise: int = 0
    operations: Callable[[int], float] | None = None


def dense(rng: np.random.Generator, *widths: int) -> list[dict[str, np.ndarray]]:
    """Weights and biases of layers of the given widths."""
    return [
        {
            "kernel": rng.standard_normal((a, b)) / math.sqrt(a),
            "bias": 0.1 * rng.standard_normal(b),
        }
        for a, b in itertools.pairwise(widths)
    ]


def relu_mlp(layers: Any, x: jax.Array) -> jax.Array:
    """Dense layers with relu between."""
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def mlp(rng: np.random.Generator, n: int) -> Problem:
    """MLP 64-256-256-10 on 64 features."""
    return Problem(relu_mlp, dense(rng, 64, 256, 256, 10), rng.standard_normal((n, 64)))


def mlp_operations(*widths: int) -> tuple[int, int]:
    r"""Multiplications and additions for a pair of rows of a traced MLP kernel.

    :math:`\Theta_{ij} = \sum_l (\langle a^l_i, a^l_j\rangle + 1)
    \sum_o \langle g^{lo}_i, g^{lo}_j\rangle`: :math:`2 d_{l-1}` for a layer's inputs and
    :math:`2 O d_l` for its cotangents, which the last layer does not need (they are the identity).
    In the layer below, :math:`g^{lo} = w_o \odot m`, so :math:`2 d_l` are enough.

    Returns:
      The least known, and the count by every layer's inputs and cotangents.
    """
    inputs = 2 * sum(widths[:-1])
    cotangents = [2 * widths[-1] * width for width in widths[1:-1]]
    least = inputs + sum(cotangents[:-1]) + 2 * widths[-2]
    return least, inputs + sum(cotangents)


def two_tower(items: int, *, trained: bool) -> Callable[[np.random.Generator, int], Problem]:
    """Score of a user and an item: inner product of two towers over embeddings of 32.

    Each tower is Dense 64, relu, Dense 32. Both tables have ``items`` rows and are parameters, or
    both are frozen. Ids are uniform.
    """

    def make(rng: np.random.Generator, n: int) -> Problem:
        x = tuple(rng.integers(0, items, n).astype(np.int32) for _ in range(2))
        towers = {"user": dense(rng, 32, 64, 32), "item": dense(rng, 32, 64, 32)}
        tables = {
            side: rng.standard_normal((items, 32), dtype=np.float32) for side in ("user", "item")
        }

        def score(params: Any, vectors: tuple[jax.Array, jax.Array]) -> jax.Array:
            user = relu_mlp(params["user"], vectors[0])
            item = relu_mlp(params["item"], vectors[1])
            return jnp.sum(user * item, axis=-1, keepdims=True)

        def looked_up(params: Any, ids: tuple[jax.Array, jax.Array]) -> jax.Array:
            found = params["tables"]
            return score(params["towers"], (found["user"][ids[0]], found["item"][ids[1]]))

        if trained:
            return Problem(looked_up, {"tables": tables, "towers": towers}, x)
        return Problem(score, towers, (tables["user"][x[0]], tables["item"][x[1]]))

    return make


def tower(items: int) -> Callable[[np.random.Generator, int], Problem]:
    """An item's tower, 16 outputs: trained table of 32, Dense 64, relu, Dense 16."""

    def make(rng: np.random.Generator, n: int) -> Problem:
        params = {
            "table": rng.standard_normal((items, 32), dtype=np.float32),
            "layers": dense(rng, 32, 64, 16),
        }

        def apply(params: Any, ids: jax.Array) -> jax.Array:
            return relu_mlp(params["layers"], params["table"][ids])

        return Problem(apply, params, rng.integers(0, items, n).astype(np.int32))

    return make


def normalise(scale: jax.Array, x: jax.Array) -> jax.Array:
    """Layer norm with a scale."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(x * x, axis=-1, keepdims=True)
    return scale * x * jax.lax.rsqrt(variance + jnp.asarray(1e-5, x.dtype))


def transformer(rng: np.random.Generator, n: int) -> Problem:
    """Two pre-norm layers, d = 64, over 16 tokens of 2,000, mean pool, 10 outputs.

    Four heads; MLP 64-128-64 with relu; layer norms with scales; learned positions.
    """
    tokens, d, heads, vocabulary = 16, 64, 4, 2_000
    layers = [
        {
            "norms": np.ones((2, d)),
            "qkv": dense(rng, d, 3 * d)[0],
            "out": dense(rng, d, d)[0],
            "mlp": dense(rng, d, 2 * d, d),
        }
        for _ in range(2)
    ]
    params = {
        "table": rng.standard_normal((vocabulary, d)),
        "positions": 0.1 * rng.standard_normal((tokens, d)),
        "layers": layers,
        "norm": np.ones(d),
        "head": dense(rng, d, 10),
    }

    def attention(layer: Any, x: jax.Array) -> jax.Array:
        qkv = x @ layer["qkv"]["kernel"] + layer["qkv"]["bias"]
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:-1], 3, heads, d // heads), -3, 0)
        logits = jnp.einsum("nthd,nshd->nhts", q, k) / jnp.asarray(math.sqrt(d // heads), x.dtype)
        mixed = jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(logits), v)
        return mixed.reshape(x.shape) @ layer["out"]["kernel"] + layer["out"]["bias"]

    def apply(params: Any, ids: jax.Array) -> jax.Array:
        x = params["table"][ids] + params["positions"]
        for layer in params["layers"]:
            x = x + attention(layer, normalise(layer["norms"][0], x))
            x = x + relu_mlp(layer["mlp"], normalise(layer["norms"][1], x))
        return relu_mlp(params["head"], jnp.mean(normalise(params["norm"], x), axis=1))

    return Problem(apply, params, rng.integers(0, vocabulary, (n, tokens)).astype(np.int32))


def conv(rng: np.random.Generator, n: int) -> Problem:
    """Images 16 x 16 x 3: three 3 x 3 convolutions of 32 with relu, mean pool, Dense 10."""
    params = {
        "convs": [
            {
                "kernel": rng.standard_normal((3, 3, a, 32)) * math.sqrt(2 / (9 * a)),
                "bias": 0.1 * rng.standard_normal(32),
            }
            for a in (3, 32, 32)
        ],
        "head": dense(rng, 32, 10),
    }

    def apply(params: Any, x: jax.Array) -> jax.Array:
        for layer in params["convs"]:
            x = jax.lax.conv_general_dilated(
                x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + layer["bias"])
        return relu_mlp(params["head"], jnp.mean(x, axis=(1, 2)))

    return Problem(apply, params, rng.standard_normal((n, 16, 16, 3)))


def conv_operations(n: int, *, jacobians: bool = False) -> float:
    """Multiplications and additions of the traced kernel of n images by gradients of `conv`.

    Forward, back through two convolutions for every output, the gradients of each convolution and
    its bias, and their products. The last convolution's cotangents are the head's weights times one
    slope for each entry, so that it counts once; ``jacobians`` counts it for every output too.
    """
    positions, outputs = 256, 10
    layers = [(9 * 3, 32), (9 * 32, 32), (9 * 32, 32)]
    times = [outputs, outputs, outputs if jacobians else 1]
    forward = 2 * positions * sum(a * b for a, b in layers)
    back = 2 * positions * outputs * sum(a * b for a, b in layers[1:])
    sizes = sum((a + 1) * b * t for (a, b), t in zip(layers, times, strict=True))
    return n * (forward + back + 2 * positions * sizes) + n**2 * 2 * sizes


MLP_OPERATIONS = mlp_operations(64, 256, 256, 10)
TASKS = {
    "mlp trace": Task(mlp, 1024, True, *MLP_OPERATIONS),
    "mlp full": Task(mlp, 1024, False),
    "mlp trace 8,192": Task(
        mlp, 8192, True, *MLP_OPERATIONS, lambda n: MLP_OPERATIONS[0] * n * (n + 1) / 2
    ),
    "towers frozen": Task(two_tower(2_000, trained=False), 1024),
    "towers 2,000": Task(two_tower(2_000, trained=True), 1024),
    "towers 20,000": Task(two_tower(20_000, trained=True), 1024),
    "towers 1,000,000": Task(two_tower(1_000_000, trained=True), 1024),
    "tower16 trace 2,000": Task(tower(2_000), 1024),
    "tower16 trace 20,000": Task(tower(20_000), 1024),
    "tower16 full 2,000": Task(tower(2_000), 512, False),
    "transformer trace": Task(transformer, 128),
    "transformer full": Task(transformer, 128, False),
    "conv trace": Task(conv, 256, operations=conv_operations),
}


def problem(task: Task, n: int, dtype: Any) -> Problem:
    """The task's problem with every float of the given type, on the device."""
    made = task.make(np.random.default_rng(SEED), n)

    def put(leaf: np.ndarray) -> jax.Array:
        floats = np.issubdtype(leaf.dtype, np.floating)
        return jnp.asarray(leaf, dtype if floats else leaf.dtype)

    params, x = jax.tree_util.tree_map(put, (made.params, made.x))
    return Problem(made.f, params, x)


def measure(
    kernel_of: Callable[[Problem, tuple[int, ...], str], Callable[[Any, Any], jax.Array]],
    spec: dict[str, Any],
) -> list[dict[str, Any]]:
    """Measures methods of one task, in turn where there are several.

    Args:
      kernel_of: ``kernel_of(problem, trace_axes, method) -> kernel(x, params)``.
      spec: ``task``, ``methods``, ``n``, ``dtype``, ``repeats``, ``seconds`` and ``keep``, the
        folder for a part of each kernel (or None); ``least`` rounds, where given, even past
        ``seconds``; ``matmul``, where given, the size of a `PRODUCT` timed as the last method.

    Returns:
      For each method, milliseconds of every repeat, of wall time and of the processor (all threads
      together), seconds to trace and to compile, bytes, and what tells its program from others.
    """
    task = TASKS[spec["task"]]
    made = problem(task, spec["n"], jnp.dtype(spec["dtype"]))
    trace_axes = (-1,) if task.trace else ()
    # Threads and their buffers are there before memory is counted.
    square = jnp.ones((512, 512), made.f(made.params, made.x).dtype)
    jax.block_until_ready(square @ square)
    calls, found = [], []
    for method in spec["methods"]:
        kernel = jax.jit(kernel_of(made, trace_axes, method))
        start = time.perf_counter()
        lowered = kernel.lower(made.x, made.params)
        traced = time.perf_counter()
        compiled = lowered.compile()
        ready = time.perf_counter()
        memory = Memory()
        began = time.process_time()
        value, first = timed(compiled, made.x, made.params)
        peak, busy = memory.peak(), time.process_time() - began
        if spec["keep"]:
            step = max(1, math.ceil(math.sqrt(value.size / KEPT)))
            part = np.asarray(value[::step, ::step].astype(jnp.float32))
            np.save(Path(spec["keep"]) / f"{method}.npy", part)
        finite = bool(jnp.isfinite(value).all())
        calls.append((partial(compiled, made.x, made.params), first, busy))
        found.append(
            {
                "method": method,
                "milliseconds": [],
                "processor_milliseconds": [],
                "program": hashlib.sha256(lowered.as_text().encode()).hexdigest(),
                "trace_seconds": traced - start,
                "compile_seconds": ready - traced,
                "bytes": peak,
                "output_bytes": value.nbytes,
                "finite": finite,
                "platform": jax.devices()[0].platform,
            }
        )
        del value
    if spec.get("matmul"):
        square = jnp.ones((spec["matmul"],) * 2, square.dtype)
        product = partial(jax.jit(jnp.matmul).lower(square, square).compile(), square, square)
        calls.append((product, timed(product)[1], 0.0))
        found.append({"method": PRODUCT, "milliseconds": [], "processor_milliseconds": []})
    rounds = min(spec["repeats"], int(spec["seconds"] / sum(first for _, first, _ in calls)))
    rounds = max(rounds, spec.get("least", 0))
    if rounds == 0:  # too slow to be run again
        for (_, first, busy), row in zip(calls, found, strict=True):
            row["milliseconds"].append(1e3 * first)
            row["processor_milliseconds"].append(1e3 * busy)
    for _ in range(rounds):
        for (call, *_), row in zip(calls, found, strict=True):
            began = time.process_time()
            value, seconds = timed(call)
            row["milliseconds"].append(1e3 * seconds)
            row["processor_milliseconds"].append(1e3 * (time.process_time() - began))
            del value
    return found


def work(kernel_of: Any, versions: dict[str, str]) -> None:
    """A measuring process: reads its task from the command line, writes a file of JSON.

    Args:
      kernel_of: as for `measure`.
      versions: of the packages measured.
    """
    spec = json.loads(sys.argv[-1])
    if jax.default_backend() != "cpu" and spec["dtype"] == "float32":
        jax.config.update("jax_default_matmul_precision", "highest")
    try:
        if spec["task"] is None:
            value = matmul_peak(spec["dtype"], spec["sizes"], spec["repeats"])
            value["platform"] = jax.default_backend()
        else:
            value = measure(kernel_of, spec)
    except (ValueError, TypeError, NotImplementedError, MemoryError) as error:
        value = {"failed": f"{type(error).__name__}: {error}"[:300]}
    Path(spec["out"]).write_text(json.dumps({"value": value, "versions": versions}))
