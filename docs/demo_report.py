"""The demo's report as an example on the site: what is in it is kept, how it looks is of today.

``kernlens demo --short --out demo && python docs/demo_report.py demo/index.html`` takes a new one.
``make docs`` adds the style, the script and plotly.
"""

import sys
from pathlib import Path

from kernlens.files import write_atomically
from kernlens.show.page import bare, filled

KEPT = Path(__file__).parent / "demo_report.html"


def keep(page: Path) -> None:
    """Takes a report that ``kernlens demo`` wrote as the example."""
    write_atomically(KEPT, bare(page.read_text(encoding="utf-8")))


def write(folder: Path) -> None:
    """Writes the report for readers into the folder of the built site."""
    write_atomically(folder / KEPT.name, filled(KEPT.read_text(encoding="utf-8")))


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
