r"""The kernel of a decoder: each decoder has one, and a readout on top of its features.

A head reads an embedding through features and a readout. What it learns is, to first order, kernel
regression with its tangent kernel; so its kernel, known before training, says what it can reach.

    made = of_decoder(decoders.Mlp(32), dim=64, num_outputs=10, seed=0)
    made.kernel(x1, x2)                    # K, [n1, n2]
    made.feature_map(x)                    # Φ, [n, p], where the decoder has features of its own

:data:`DECODERS` has a row for each decoder with a rule of its own; any other Flax head, and any
pair ``(init_fn, apply_fn)``, has its empirical tangent kernel at initialisation, averaged over
:data:`INITIALISATIONS`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from kernlens import ntk
from kernlens.arrays.rows import identity, unit_rows
from kernlens.kernels import closed_form
from kernlens.kernels.hidden import MLP_PENALTY, hidden_features
from kernlens.kernels.readout import DecoderKernel, Readout
from kernlens.models import decoders
from kernlens.types import ApplyFn, Array, Decoder, FeatureMap, Params

INITIALISATIONS = 3
"""Initial parameters over which the tangent kernel of any other head is averaged."""


def of_decoder(decoder: Decoder, *, dim: int, num_outputs: int = 1, seed: int = 0) -> DecoderKernel:
    """The kernel of a decoder on rows of a frozen embedding.

    Args:
      decoder: a Flax module, or a pair ``(init_fn, apply_fn)``, from rows ``[n, dim]`` to logits;
        or ``decoders.Neighbours``, whose kernel is that of the distances it compares. A Flax module
        with a field ``num_outputs`` is given the one here.
      dim: width of the rows.
      num_outputs: outputs of the head, such as the number of classes.
      seed: random seed of the initial parameters and of random features.

    Returns:
      DecoderKernel.

    Raises:
      ValueError: something else than a decoder, such as trees, or a head that does not take such
        rows.

    References:
      Jacot, Gabriel and Hongler (2018) for the tangent kernel; Rahimi and Recht (2008) for a
      network's random features; Xu and Yang (2023), section 3.
    """
    rule = rule_of(decoder)
    if rule is not None:
        return rule.kernel(decoder, dim=dim, num_outputs=num_outputs, seed=seed)
    init_fn, apply_fn = _functions(decoder, num_outputs)
    return _empirical(init_fn, apply_fn, dim=dim, num_outputs=num_outputs, seed=seed)


def layers_of(decoder: Decoder) -> Mapping[str, Any] | None:
    """Options of the probe that trains a decoder's hidden layers; None where a kernel tells what
    the decoder learns."""
    rule = rule_of(decoder)
    return None if rule is None or rule.layers is None else rule.layers(decoder)


def rule_of(decoder: Any) -> "Rule | None":
    """The row of :data:`DECODERS` for a decoder; None where its kernel is the empirical one."""
    return next((rule for rule in DECODERS.values() if isinstance(decoder, rule.kind)), None)


def _linear(decoder: decoders.Linear, *, dim: int, num_outputs: int, seed: int) -> DecoderKernel:
    del decoder, dim, num_outputs, seed
    return DecoderKernel(closed_form.linear, feature_map=identity)


def _inner_product(
    decoder: decoders.InnerProduct, *, dim: int, num_outputs: int, seed: int
) -> DecoderKernel:
    del dim, num_outputs, seed
    return DecoderKernel(
        closed_form.linear,
        Readout.CLASS_MEANS,
        feature_map=identity,
        options={"priors": decoder.priors},
    )


def _cosine(decoder: decoders.Cosine, *, dim: int, num_outputs: int, seed: int) -> DecoderKernel:
    del dim, num_outputs, seed
    return DecoderKernel(
        closed_form.cosine,
        Readout.CLASS_MEANS,
        feature_map=unit_rows,
        options={"priors": decoder.priors, "temperature": decoder.temperature},
    )


def _neighbours(
    decoder: decoders.Neighbours, *, dim: int, num_outputs: int, seed: int
) -> DecoderKernel:
    """Distances between features; those of unit rows put rows in the order of their cosines."""
    del dim, num_outputs, seed
    cosine = decoder.metric == "cosine"
    return DecoderKernel(
        closed_form.cosine if cosine else closed_form.linear,
        Readout.NEIGHBOURS,
        feature_map=unit_rows if cosine else identity,
        standardised=decoder.standardised,
        options={"k": decoder.k},
    )


def _mlp(decoder: decoders.Mlp, *, dim: int, num_outputs: int, seed: int) -> DecoderKernel:
    """Random features of the head's hidden layers; the kernel is that of all widths."""
    del num_outputs
    layers = [part for width in decoder.widths
              for part in (ntk.infinite.dense(width), ntk.infinite.relu())]  # fmt: skip
    net = ntk.infinite.serial(*layers, ntk.infinite.dense(1))
    return DecoderKernel(
        partial(net.kernel_fn, get="ntk"),
        feature_map=hidden_features(dim, decoder.widths, seed=seed),
        standardised=True,
        penalty=MLP_PENALTY,
    )


def _empirical(
    init_fn: Callable[[Array, Array], Params],
    apply_fn: ApplyFn,
    *,
    dim: int,
    num_outputs: int,
    seed: int,
) -> DecoderKernel:
    init_key, sketch_key = jax.random.split(jax.random.key(seed))
    example = jnp.zeros((2, dim), jnp.float32)
    try:
        drawn = [init_fn(key, example) for key in jax.random.split(init_key, INITIALISATIONS)]
        outputs = jax.eval_shape(apply_fn, drawn[0], example)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the decoder does not take rows [n, {dim}] of an embedding: {error}"
        ) from error
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != 2:
        raise ValueError(
            f"the decoder must give outputs [n, C] for rows [n, {dim}]; got {shape} for 2 rows"
        )
    if shape[1] < num_outputs:
        raise ValueError(
            f"the decoder gives {shape[1]} outputs, and the target has {num_outputs} classes or "
            "labels; expected an output for each"
        )
    ntk_fn = ntk.empirical_ntk_fn(apply_fn)
    # Under the loop below parameters are tracers, and a head that couples its rows goes unseen.
    ntk_fn(jax.random.normal(sketch_key, (2, dim)), None, drawn[0])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)

    def mean(x1: Array, x2: Array) -> Array:
        # One program for all of them.
        return jnp.mean(jax.lax.map(lambda params: ntk_fn(x1, x2, params), stacked), axis=0)

    def sketch(size):
        keys = jax.random.split(sketch_key, len(drawn))
        share = -(-size // len(drawn))
        parts = [ntk.features(key, apply_fn, params, share)
                 for key, params in zip(keys, drawn, strict=True)]  # fmt: skip
        return Partial(_joined, tuple(parts))

    return DecoderKernel(mean, sketch=sketch, standardised=True)


def _joined(parts: tuple[FeatureMap, ...], x: Array) -> Array:
    """Features whose inner products are the mean of those of the parts."""
    return jnp.concatenate([part(x) for part in parts], axis=1) / len(parts) ** 0.5


def _functions(decoder: Any, num_outputs: int) -> tuple[Callable, Callable]:
    if isinstance(decoder, nn.Module):
        if "num_outputs" in getattr(decoder, "__dataclass_fields__", {}):
            decoder = decoder.clone(num_outputs=num_outputs)
        return decoder.init, decoder.apply
    if isinstance(decoder, tuple) and len(decoder) == 2 and all(map(callable, decoder)):
        return decoder
    if hasattr(decoder, "fit") and hasattr(decoder, "predict"):
        raise ValueError(_of_estimator(decoder))
    raise ValueError(
        "a decoder is a Flax module, such as kernlens.models.decoders.Mlp(32), or a pair "
        f"(init_fn(key, x) -> params, apply_fn(params, x) -> outputs); got {decoder!r}"
    )


TREES = (
    "kernlens does not predict decision trees, forests or gradient boosting: they have no kernel "
    "that is known before training. The predictions of a linear head or an MLP may be far from "
    "what trees reach; train them, or predict a linear head, an MLP or k nearest neighbours"
)
"""What is said of a reader of trees."""

TREE_WORDS = ("trees", "tree", "forest", "boosting", "xgboost", "lightgbm", "catboost")
"""Names of such readers, and of the packages that have them."""

ESTIMATORS = {
    "LogisticRegression": "decoders.Linear()",
    "KNeighborsClassifier": "decoders.Neighbours(k)",
    "MLPClassifier": "decoders.Mlp(hidden)",
    "NearestCentroid": "decoders.InnerProduct()",
    "SVC": "kernel=kernels.rbf",
}
"""What predicts an estimator of scikit-learn."""


def _of_estimator(estimator: Any) -> str:
    kind = type(estimator)
    if any(word in f"{kind.__module__}.{kind.__name__}".lower() for word in TREE_WORDS):
        return f"{kind.__name__}: {TREES}"
    nearest = ", ".join(f"{given} for {name}" for name, given in ESTIMATORS.items())
    return (
        f"a decoder is a Flax module or a pair (init_fn, apply_fn); got the estimator "
        f"{kind.__name__}. Expected one that stands for it: {nearest}"
    )


class Rule(NamedTuple):
    """A decoder with a kernel of its own.

    Attributes:
      kind: its class.
      kernel: ``(decoder, *, dim, num_outputs, seed) -> DecoderKernel``.
      words: fields that a word sets on the command line, as in ``inner-product:priors``.
      layers: ``decoder -> options`` of the probe of classes that trains its hidden layers
        (``Readout.LAYERS``); None where the readout of its kernel says which probe it has.
    """

    kind: type
    kernel: Callable[..., DecoderKernel]
    words: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    layers: Callable[[Any], Mapping[str, Any]] | None = None


PRIORS = {"priors": {"priors": True}}

DECODERS: dict[str, Rule] = {
    "linear": Rule(decoders.Linear, _linear),
    "inner-product": Rule(decoders.InnerProduct, _inner_product, PRIORS),
    "cosine": Rule(decoders.Cosine, _cosine, PRIORS),
    "mlp": Rule(decoders.Mlp, _mlp, layers=lambda decoder: {"hidden": decoder.widths}),
    "knn": Rule(
        decoders.Neighbours,
        _neighbours,
        {
            "euclidean": {"metric": "euclidean"},
            "cosine": {"metric": "cosine"},
            "standardised": {"standardised": True},
        },
    ),
}
"""Decoders with a kernel of their own, by the name that the command line takes."""
