"""Writes the pages of the API reference: one a room, every public name of it.

A module is public if it stands directly in ``kernlens/``, is a package with ``__all__``, stands in
a room whose ``__init__`` hands on nothing, or is what an alias of the front door stands for. The
command line has guides. Public names of a module are its
``__all__`` or, where it has none, what it defines without an underscore.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import kernlens

PACKAGE = Path(kernlens.__file__).parent
COMMANDS = ("cli", "__main__")
"""Modules that are run, not imported."""

FURTHER = ("arrays.embeddings", "arrays.rows", "kernels.of_decoder", "kernels.readout",
           "lens.maps", "lens.text_tasks",
           "metrics.disagreement", "metrics.regression", "metrics.multi_label",
           "ntk.influence", "ntk.sketch", "ntk.stax")  # fmt: skip
"""Modules that guides import though their room hands on other names."""


class Public(NamedTuple):
    """The public names of a module.

    Attributes:
      module: its full name.
      functions: names of functions and classes.
      classes: names of classes.
      constants: the docstring by name of a constant; "" where it has none.
    """

    module: str
    functions: tuple[str, ...]
    classes: tuple[str, ...]
    constants: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.functions, *self.classes, *self.constants)


def public_modules() -> dict[str, list[str]]:
    """Full names of the public modules by room; the front door's room is ``kernlens``."""
    found = {"kernlens": ["kernlens"]}
    wanted = {*FURTHER, *kernlens.ALIASES.values()}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        inner = parts[:-1] if parts[-1] == "__init__" else parts
        if not inner or inner[0] in COMMANDS:
            continue
        name = ".".join(inner)
        in_bare_room = len(inner) == 2 and "__all__" not in _source(inner[0])
        if parts[-1] == "__init__":
            public = "__all__" in path.read_text()
        else:
            public = len(inner) == 1 or in_bare_room or name in wanted
        if public:
            found.setdefault(inner[0], []).append(f"kernlens.{name}")
    return found


def public_names(module: str) -> Public:
    """The public names of a module, those that are modules themselves left out."""
    loaded = importlib.import_module(module)
    defined = _constants(module)
    names = getattr(loaded, "__all__", None)
    if names is None:
        own = [name for name, value in vars(loaded).items() if _is_defined(value, module)]
        names = [*own, *defined]
    functions, classes, constants = [], [], {}
    for name in dict.fromkeys(names):
        value = getattr(loaded, name)
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if inspect.isclass(value) and name not in defined:
            classes.append(name)
        elif inspect.isroutine(value) or hasattr(value, "__wrapped__"):  # compiled by jax.jit
            functions.append(name)
        else:
            constants[name] = defined.get(name) or _described(name, module)
    return Public(module, tuple(functions), tuple(classes), constants)


def pages() -> dict[str, str]:
    """Text of each page by the name of its file, an index among them."""
    rooms, seen = public_modules(), set()
    front = rooms.pop("kernlens")  # last: a class is described in its own room
    made = {f"{room}.rst": "\n".join(_page(room, own, seen)) for room, own in rooms.items()}
    rooms = {"kernlens": front, **rooms}
    made["kernlens.rst"] = "\n".join(_page("kernlens", front, seen))
    listed = "\n".join(f"   {room}" for room in rooms)
    made["index.rst"] = (
        "Reference\n=========\n\nEvery public name, room by room, from its docstring.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    )
    return made


def write(folder: Path) -> None:
    """Writes the pages; those that are as they were are left alone, so that Sphinx skips them."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for old in folder.glob("*.rst"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _page(room: str, modules: list[str], seen: set[type]) -> Iterator[str]:
    yield f"{room}\n{'=' * len(room)}\n"
    for module in modules:
        if len(modules) > 1:
            yield f"{module}\n{'-' * len(module)}\n"
        yield f".. automodule:: {module}\n   :no-members:\n"
        found = public_names(module)
        callables = (*found.functions, *found.classes)
        if callables:
            listed = "\n".join(f"   {name}" for name in callables)
            yield f".. currentmodule:: {module}\n"
            yield f".. autosummary::\n   :nosignatures:\n\n{listed}\n"
        for name in found.functions:
            yield f".. autofunction:: {module}.{name}\n"
        for name in found.classes:
            described = getattr(importlib.import_module(module), name)
            if described not in seen:  # Sphinx takes a class that two modules hand on for one
                seen.add(described)
                yield f".. autoclass:: {module}.{name}\n   :members:\n"
        for name, text in found.constants.items():
            body = "\n".join(f"   {line}" for line in text.splitlines())
            yield f".. py:data:: {module}.{name}\n\n{body}\n"


def _source(room: str) -> str:
    return (PACKAGE / room / "__init__.py").read_text()


def _is_defined(value: object, module: str) -> bool:
    """Whether a function or class was written in this module."""
    return getattr(value, "__module__", None) == module and hasattr(value, "__qualname__")


def _constants(module: str) -> dict[str, str]:
    """The docstring, or "", of each constant that a module's source assigns."""
    path = inspect.getsourcefile(importlib.import_module(module))
    assert path is not None
    body = ast.parse(Path(path).read_text()).body
    found = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = inspect.cleandoc(str(after.value.value))
        found |= {name: text for name in names if not name.startswith("_")}
    return found


def _described(name: str, module: str) -> str:
    """The docstring of a constant that another module of the package defines."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if f"\n{name}" not in path.read_text():
            continue
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        other = ".".join(["kernlens", *(part for part in parts if part != "__init__")])
        if other != module and "cli" not in parts:
            text = _constants(other).get(name)
            if text:
                return text
    return ""
