"""Sphinx configuration: ``make docs`` builds the site and takes warnings for errors."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import demo_report  # noqa: E402
import reference  # noqa: E402

import kernlens  # noqa: E402

project = "kernlens"
author = "the kernlens authors"
copyright = "the kernlens authors"
version = release = kernlens.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary",
              "sphinx.ext.mathjax", "sphinx.ext.napoleon"]  # fmt: skip
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "kernlens"
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

autosummary_generate = False  # one page a room has the entries themselves
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def skip_fields(app, what, name, obj, skip, options):
    """Leaves out fields of named tuples, described by their class, and what scikit-learn adds."""
    left_out = type(obj).__name__ == "_tuplegetter" or name.endswith("_request")
    return True if left_out else None


def show_code(app, what, name, obj, options, lines):
    """Makes the indented examples of module docstrings literal blocks."""
    if what != "module":
        return
    made, inside = [], False
    for line in lines:
        if line.startswith("    ") and not inside:
            before = next((text for text in reversed(made) if text.strip()), "")
            made += [] if before.endswith("::") or before.startswith("..") else ["::", ""]
            inside = True
        elif line.strip() and not line.startswith(" "):
            inside = False
        made.append(line)
    lines[:] = made


def link_to_site(app, docname, source):
    """Turns links to pages of the repository that the site has too into links to the site's."""
    source[0] = re.sub(r"\]\((?:\.\./)+SCORES\.md\)", "](/scores.md)", source[0])


def add_demo_report(app, error):
    """Puts the demo's report next to the pages that link to it."""
    if error is None and app.builder.format == "html":
        demo_report.write(Path(app.outdir))


def setup(app):
    """Writes the reference before Sphinx looks for pages."""
    app.connect("source-read", link_to_site)
    app.connect("build-finished", add_demo_report)
    app.connect("autodoc-process-docstring", show_code)
    app.connect("autodoc-skip-member", skip_fields)
    reference.write(HERE / "api")
