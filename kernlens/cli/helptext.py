"""Help of the options: the docstring under each, filled to the width of the terminal."""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterable
from dataclasses import fields
from typing import Annotated, Any, TypeVar

import tyro

_Options = TypeVar("_Options", bound=type)


def explained(options: _Options) -> _Options:
    """Gives the options of a dataclass the docstrings under them as help.

    tyro would keep the line breaks of the source, and add ``(default: None)`` where the text says
    what the default is.

    Args:
      options: a dataclass.

    Returns:
      The same class.
    """
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    assert isinstance(tree, ast.ClassDef)
    types = options.__annotations__
    defaults = {field.name: field.default for field in fields(options)}
    for node, below in itertools.pairwise(tree.body):
        text = _text(below)
        if (
            text is not None
            and isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
        ):
            name = node.target.id
            said = "Default:" in text or defaults[name] is None
            shown = tyro.conf.arg(help=text, help_behavior_hint="" if said else None)
            types[name] = Annotated[types[name], shown]
    return options


def one_of(names: Iterable[str]) -> Any:
    """Type of an option that takes one of some names, or is left out."""
    names = tuple(names)
    one = tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=choices(*names),
        choices=names,
        instance_from_str=lambda typed: typed[0],
        is_instance=lambda value: value is None or value in names,
        str_from_instance=lambda value: [str(value)],
    )
    return Annotated[str | None, one]


def choices(*names: str) -> str:
    """Names to choose from, as usage shows them."""
    return "{" + ",".join(names) + "}"


def _text(node: ast.stmt) -> str | None:
    """The docstring that a statement is, on one line."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return None
