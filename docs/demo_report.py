"""Keeps the demo's report for the site, without plotly, which ``make docs`` adds.

``kernlens demo --short --out demo && python docs/demo_report.py demo/index.html`` takes a new one;
without an argument the committed one gets the present style and script.
"""

import re
import sys
from importlib import resources
from pathlib import Path

from kernlens.files import write_atomically
from kernlens.show.page import PLOTLY, with_plotly

KEPT = Path(__file__).parent / "demo_report.html"


def kept(text: str) -> str:
    """A page without plotly, with the style and script of today."""
    head, rest = text.split("<style>\n", 1)
    body = rest.split("</style>", 1)[1]
    body = body.split(PLOTLY, 1)[0]
    style, script = (
        resources.files("kernlens.show").joinpath(name).read_text()
        for name in ("page.css", "page.js")
    )
    end = f"{PLOTLY}</script>\n<script>\n{script}</script>\n</body></html>\n"
    return re.sub(r"[ \t]+$", "", f"{head}<style>\n{style}</style>{body}{end}", flags=re.M)


def write(folder: Path) -> None:
    """Writes the report for readers into the folder of the built site."""
    write_atomically(folder / KEPT.name, with_plotly(KEPT.read_text(encoding="utf-8")))


if __name__ == "__main__":
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else KEPT
    write_atomically(KEPT, kept(given.read_text(encoding="utf-8")))
