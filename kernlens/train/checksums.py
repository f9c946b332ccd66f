"""Checksums of arrays and of traced programs, equal for equal content in every process."""

import re
import zlib
from collections.abc import Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


def checksum(tree: Any) -> str:
    """Names arrays and traced programs by what they hold.

    Args:
      tree: pytree of arrays, numbers, text and ``ClosedJaxpr``.

    Returns:
      Eight hexadecimal digits, the same in every process.
    """
    leaves, structure = jax.tree.flatten(tree)
    return f"{zlib.crc32(_text([*leaves, structure]).encode()):08x}"


def _text(value: Any) -> str:
    if isinstance(value, ClosedJaxpr):
        return _text([value.jaxpr, value.consts])
    if isinstance(value, Jaxpr):
        return _program_text(value)
    if isinstance(value, Mapping):
        return _text(sorted((str(key), _text(item)) for key, item in value.items()))
    if isinstance(value, Set):
        return _text(sorted(map(_text, value)))
    if isinstance(value, list | tuple):
        return f"({' '.join(map(_text, value))})"
    if isinstance(value, np.ndarray | jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return f"{value.dtype}{_text(jax.random.key_data(value))}"
        data = np.ascontiguousarray(value)
        return f"{data.dtype}{data.shape}{zlib.crc32(data.tobytes()):08x}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _program_text(jaxpr: Jaxpr) -> str:
    # jax's own printing leaves out constants, and depends on which inner programs were traced once.
    names: dict[Any, int] = {}

    def name(variable: Any) -> str:
        if isinstance(variable, Literal):
            return f"{variable.aval} {_text(variable.val)}"
        return f"{variable.aval} v{names.setdefault(variable, len(names))}"

    lines = [[name(v) for v in (*jaxpr.constvars, *jaxpr.invars)]]
    for eqn in jaxpr.eqns:
        inputs = [name(v) for v in eqn.invars]
        lines.append([str(eqn.primitive), _text(eqn.params), *inputs, *map(name, eqn.outvars)])
    return "\n".join(" ".join(line) for line in [*lines, [name(v) for v in jaxpr.outvars]])
