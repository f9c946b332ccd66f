"""A BERT's weights in safetensors files, under the names they are published with."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from kernlens import files
from kernlens.files import write_atomically
from kernlens.io.tensors import open_tensors
from kernlens.models.text.bert import Bert, Tokens
from kernlens.types import Params

_PUBLISHED = {
    "words": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
}
_PUBLISHED_IN_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}
_NOT_READ = ("pooler.", "cls.", "embeddings.position_ids")
_FLOATS = ("F16", "BF16", "F32", "F64")


def read_weights(path: str | Path, bert: Bert) -> Params:
    """Weights of a BERT.

    Tensors are found under the names of the published checkpoints, with or without ``bert.`` before
    them, and with ``gamma`` and ``beta`` for ``weight`` and ``bias``, as the oldest have it. The
    pooler, the pretraining heads and stored position numbers are passed over.

    Args:
      path: ``.safetensors`` file of F16, BF16, F32 or F64 tensors.
      bert: the module to read for.

    Returns:
      Its parameters, float32, without Flax's outer ``"params"``.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a truncated or damaged file; or tensors that are missing, superfluous, of another
        shape, not floats or not finite, all of which the error names.
    """
    path = files.existing(path)
    like = _like(bert)
    expected = {_published(inner): inner for inner in like}
    params, faults = {}, []
    with open_tensors(path) as file:
        for stored in sorted(file.keys()):
            name = _plain(stored)
            if name.startswith(_NOT_READ):
                continue
            part = file.get_slice(stored)
            shape, kind = tuple(part.get_shape()), part.get_dtype()
            inner = expected.get(name)
            if inner is None:
                faults.append(f"superfluous {stored} {list(shape)}")
            elif inner in params:
                faults.append(f"{stored} and the same tensor under another name")
            else:
                params[inner] = wanted = like[inner]
                if shape != wanted.shape:
                    faults.append(f"{stored} is {list(shape)}, expected {list(wanted.shape)}")
                elif kind not in _FLOATS:
                    faults.append(f"{stored} is {kind}, expected one of {', '.join(_FLOATS)}")
                else:
                    values = np.asarray(file.get_tensor(stored)).astype(np.float32)
                    params[inner] = jnp.asarray(_turned(inner, values))
                    if not np.isfinite(values).all():
                        faults.append(f"{stored} holds NaN or infinity")
    missing = [name for name, inner in expected.items() if inner not in params]
    faults += [f"missing {name} {list(like[expected[name]].shape)}" for name in missing]
    if faults:
        raise ValueError(f"{path}: not the weights of this BERT: {'; '.join(faults)}")
    return unflatten_dict(params)


def write_weights(path: str | Path, params: Params) -> None:
    """Writes a BERT's weights, so that :func:`read_weights` and other libraries can read them.

    Args:
      path: file to write; its folder has to exist.
      params: parameters of :class:`Bert`, without Flax's outer ``"params"``.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: the path is a folder.

    Examples:
      >>> import tempfile
      >>> bert = Bert(10, 4, 1, 1, 8, max_position_embeddings=8)
      >>> tokens = Tokens(jnp.zeros((1, 3), jnp.int32), jnp.ones((1, 3), bool))
      >>> params = bert.init(jax.random.key(0), tokens)["params"]
      >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
      >>> write_weights(path, params)
      >>> bool(jax.tree.all(jax.tree.map(np.array_equal, read_weights(path, bert), params)))
      True
    """
    package = files.optional("safetensors.numpy", extra="text")
    tensors = {
        _published(inner): np.ascontiguousarray(_turned(inner, np.asarray(leaf)))
        for inner, leaf in flatten_dict(params).items()
    }
    # Readers elsewhere refuse a file that does not say this; it changes nothing about the bytes.
    write_atomically(path, package.save(tensors, metadata={"format": "pt"}))


def _like(bert: Bert) -> dict[Any, jax.ShapeDtypeStruct]:
    """Shapes of all parameters, as a file has them, by path."""
    example = Tokens(jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool))
    like: Any = flatten_dict(jax.eval_shape(bert.init, jax.random.key(0), example)["params"])
    return {
        inner: jax.ShapeDtypeStruct(
            leaf.shape[::-1] if inner[-1] == "kernel" else leaf.shape, leaf.dtype
        )
        for inner, leaf in like.items()
    }


def _turned(inner: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    """From a file's layout to Flax's, or back: files hold the matrices of layers as (out, in)."""
    return values.T if inner[-1] == "kernel" else values


def _published(inner: tuple[str, ...]) -> str:
    """Published name of the parameter at a path."""
    *above, module, leaf = inner
    last = "bias" if leaf == "bias" else "weight"
    if above:
        number = above[0].removeprefix("layer_")
        return f"encoder.layer.{number}.{_PUBLISHED_IN_LAYER[module]}.{last}"
    return f"{_PUBLISHED[module]}.{last}"


def _plain(stored: str) -> str:
    """A tensor's name without the prefix, and in today's words."""
    name = stored.removeprefix("bert.")
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name
