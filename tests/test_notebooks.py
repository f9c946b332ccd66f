"""Notebooks: thin views of the library, without outputs, that run from top to bottom.

A cell tagged ``parameters`` sets the size; here it is replaced by the ``tiny`` of its metadata.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "colab").glob("*.ipynb"))
DEFINITION = re.compile(r"^\s*(async\s+def|def|class)\s", re.MULTILINE)
TEACHING = ("write_a_kernel",)
"""Notebooks that teach writing a function or class."""

TOPICS = {
    "quickstart", "reproduce_the_paper", "write_a_kernel", "ntk_tour", "upgrade_and_stability",
    "diagnose", "next_items", "large_catalogues",
}  # fmt: skip
# In a process of its own: what the Jupyter client warns of is not about kernlens.
RUN = """
import sys, nbclient, nbformat
nbclient.NotebookClient(nbformat.read(sys.argv[1], 4), timeout=600, kernel_name="python3").execute()
"""


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def faults(path) -> list[str]:
    """What a notebook has that it may not have."""
    cells = code_cells(path)
    found = []
    if len(cells) > 10:
        found.append(f"{len(cells)} code cells")
    if path.stem not in TEACHING and any(DEFINITION.search(cell.source) for cell in cells):
        found.append("a def or class")
    if any(cell.outputs or cell.execution_count is not None for cell in cells):
        found.append("outputs")
    first = cells[0].source if cells else ""
    if '"google.colab" in sys.modules' not in first or "%pip install" not in first:
        found.append("no installation on Colab in the first cell")
    if any("%pip" in cell.source or "!pip" in cell.source for cell in cells[1:]):
        found.append("an installation after the first cell")
    return found


def tiny(path, folder):
    """A copy whose parameters are those of the tests."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            lines = cell.source.splitlines()
            imports = [line for line in lines if line.startswith(("import ", "from "))]
            cell.source = "\n".join([*imports, cell.metadata["tiny"]])
    nbformat.write(notebook, folder / path.name)
    return folder / path.name


def run(path, folder) -> subprocess.CompletedProcess:
    """Runs all cells in a kernel of this interpreter."""
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "KERNLENS_CACHE": "off",
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(folder),
        "RAY_worker_niceness": "0",  # as other tests run beside it
    }
    return subprocess.run(
        [sys.executable, "-c", RUN, str(path)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def write(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_every_topic_has_its_notebook():
    assert {path.stem for path in NOTEBOOKS} == TOPICS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_thin(path):
    assert faults(path) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    done = run(tiny(path, tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]


def test_quickstart_is_under_ten_cells():
    assert len(code_cells(NOTEBOOKS[0].with_name("quickstart.ipynb"))) < 10


@pytest.mark.thorough
def test_a_failing_cell_fails_the_run(tmp_path):
    done = run(write(tmp_path / "bad.ipynb", "1 + 1", "raise RuntimeError('cell broke')"), tmp_path)
    assert done.returncode != 0
    assert "cell broke" in done.stderr


def test_the_check_sees_a_thick_notebook(tmp_path):
    sources = ["%pip install x", "if True:\n    def f():\n        pass", *["1"] * 9]
    path = write(tmp_path / "thick.ipynb", *sources)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].execution_count = 3
    nbformat.write(notebook, path)
    assert faults(path) == [
        "11 code cells",
        "a def or class",
        "outputs",
        "no installation on Colab in the first cell",
    ]
