"""Writes the page of the zoo: exact leaves, and how far each method is from a float64 Jacobian.

    python -m tests.zoo_page

Models whose package is not installed are left out, and listed.
"""

import sys
from pathlib import Path

from kernlens.files import write_atomically
from tests import zoo
from tests.test_ntk_zoo import METHODS, agree, explained

PAGE = Path(__file__).parents[1] / "docs" / "results" / "benchmarks" / "ntk_zoo.md"
HEAD = """# Tangent kernels over a zoo of models

The models of `tests/zoo.py`, as libraries and papers write them: which parameters only an exact
Jacobian serves, by `explain=True`, and the largest difference of each method's full kernel from the
products of one float64 Jacobian of the batch, over the largest entry. Vector products need a
forward-mode derivative, which a `custom_vjp` lacks. `python -m tests.zoo_page` writes this page.

"""


def line(name: str, model: zoo.Model) -> str:
    """A row of the table."""
    exact = ", ".join("/".join(path) for path in explained(model).exact) or "none"
    found = agree(model, [m for m in METHODS if model.forward or m != "vector_products"])
    cells = [f"{found[m]:.0e}" if m in found else "-" for m in METHODS]
    return f"| {name} | {exact} | {' | '.join(cells)} |"


def main() -> int:
    """The command line."""
    heads = [name.replace("_", " ") for name in METHODS]
    lines = [f"| model | exact parameters | {' | '.join(heads)} |"]
    lines.append("| :-- | :-- | " + " | ".join(["--:"] * len(METHODS)) + " |")
    left = []
    for name, make in zoo.ZOO.items():
        if zoo.missing(name):
            left.append(name)
            continue
        lines.append(line(name, make()))
        print(lines[-1], flush=True)
    said = f"\nNot installed here: {', '.join(left)}.\n" if left else ""
    write_atomically(PAGE, HEAD + "\n".join(lines) + "\n" + said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
