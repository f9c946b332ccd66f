"""Names of the tables that options choose from, read from their source.

A wrong word is refused at once: importing the modules of the tables would import JAX, which takes
seconds.
"""

import ast
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


@functools.cache
def names(module: str, name: str) -> tuple[str, ...]:
    """Names in a table, or texts in a tuple, of a module.

    Args:
      module: dotted name within kernlens, such as ``probes.about``.
      name: of a constant there: a mapping from names, or a tuple of texts, possibly joined with
        others by ``**`` and ``*``.

    Returns:
      The keys of the mapping or the texts, in order.

    Examples:
      >>> names("kernels.of_decoder", "DECODERS")
      ('linear', 'inner-product', 'cosine', 'mlp', 'knn')
    """
    try:
        return tuple(_texts(*_found(module, name)))
    except (KeyError, OSError, _UnreadableError):  # made in another way, or no source is there
        return tuple(getattr(importlib.import_module(f"kernlens.{module}"), name))


class _UnreadableError(Exception):
    """What only running the module would tell."""


def _texts(module: str, node: ast.expr) -> Iterator[str]:
    """The texts that an expression of a module holds."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name):
        yield from _texts(*_found(module, node.id))
    elif isinstance(node, ast.Tuple):
        for part in node.elts:
            yield from _texts(module, part.value if isinstance(part, ast.Starred) else part)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            yield from _texts(module, value if key is None else key)
    else:
        raise _UnreadableError(ast.dump(node))


def _found(module: str, name: str) -> tuple[str, ast.expr]:
    """Where a name of a module is assigned, and what; follows imports."""
    found = _assigned(module)[name]
    if isinstance(found, ast.ImportFrom):
        origin = (found.module or "").removeprefix("kernlens.")
        (was,) = (own.name for own in found.names if name in (own.asname, own.name))
        return _found(origin, was)
    return module, found


@functools.cache
def _assigned(module: str) -> dict[str, Any]:
    """What each name of a module is assigned, or the import that it comes from."""
    path = _ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    made: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            made |= {own.asname or own.name: node for own in node.names}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            made[node.target.id] = node.value
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                made |= _pairs(target, node.value)
    return made


def _pairs(target: ast.expr, value: ast.expr) -> dict[str, ast.expr]:
    if isinstance(target, ast.Name):
        return {target.id: value}
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=True)
        return {own.id: given for own, given in pairs if isinstance(own, ast.Name)}
    return {}
