"""The site: every public name is in the reference, every figure is drawn by code."""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest

import kernlens
from kernlens.show.page import bare, filled

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def loaded(name):
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages():
    return loaded("reference").pages()


def exported(path):
    """Names of ``__all__`` as the source writes them."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [e.value for e in node.value.elts if isinstance(e, ast.Constant)]
    return []


def defined(path):
    """Public functions and classes that a module defines, as the source writes them."""
    kinds = ast.FunctionDef | ast.ClassDef
    body = ast.parse(path.read_text()).body
    return [node.name for node in body if isinstance(node, kinds) and node.name[0] != "_"]


def is_described(page, module, name):
    full = re.escape(f"{module}.{name}")
    entry = rf"^\.\. (autofunction|autoclass|py:data):: {full}$"
    summary = r"\n\n\.\. autosummary::\n   :nosignatures:\n\n"
    listed = rf"^\.\. currentmodule:: {re.escape(module)}{summary}(   \w+\n)*   {name}$"
    return bool(re.search(entry, page, re.M) or re.search(listed, page, re.M))


def is_module(module, name):
    return inspect.ismodule(getattr(importlib.import_module(module), name))


ROOMS = sorted(
    path for path in Path(kernlens.__file__).parent.iterdir()
    if not path.name.startswith("_") and path.stem not in ("cli", "demo")
    and (path.suffix == ".py" or (path / "__init__.py").exists())
)  # fmt: skip


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.stem)
def test_every_public_name_of_a_room_is_on_its_page(room, pages):
    page = pages[f"{room.stem}.rst"]
    source = room if room.suffix == ".py" else room / "__init__.py"
    names = exported(source) or defined(source)
    sources = {f"kernlens.{room.stem}": names}
    if room.is_dir() and not names:  # a room that hands on nothing: its modules are public
        sources = {f"kernlens.{room.stem}.{p.stem}": defined(p) for p in room.glob("[!_]*.py")}
    assert any(sources.values())
    missing = [
        f"{module}.{name}" for module, names in sources.items() for name in names
        if not is_described(page, module, name) and not is_module(module, name)
    ]  # fmt: skip
    assert not missing


@pytest.mark.parametrize("alias", kernlens.ALIASES)
def test_the_module_behind_every_alias_is_on_a_page(alias, pages):
    module = kernlens.ALIASES[alias]
    page = pages[f"{module.split('.')[0]}.rst"]
    assert f".. automodule:: kernlens.{module}\n" in page
    source = Path(kernlens.__file__).parent.joinpath(*module.split("."))
    path = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
    for name in exported(path) or defined(path):
        assert is_described(page, f"kernlens.{module}", name), name


def test_verbs_and_types_are_at_the_front_door(pages):
    for name in (*kernlens.VERBS, *kernlens.WRITERS, *kernlens.TYPES):
        assert is_described(pages["kernlens.rst"], "kernlens", name), name


def test_the_check_sees_a_name_that_is_missing(pages):
    assert is_described(pages["moments.rst"], "kernlens.moments", "merge")
    assert not is_described(pages["moments.rst"], "kernlens.moments", "merg")
    page = pages["moments.rst"].replace("kernlens.moments.merge\n", "")
    assert not is_described(page.replace("   merge\n", ""), "kernlens.moments", "merge")


def test_constants_have_a_description(pages):
    page = pages["scores.rst"]
    body = page[page.index(".. py:data:: kernlens.scores.SCORES") :].splitlines()[2]
    assert len(body.strip()) > 10


def entries(page):
    """Documents that the toctrees of a page name or match."""
    found = set()
    for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL):
        for line in filter(None, block.splitlines()):
            if not line.startswith(":"):
                found |= {path.with_suffix("") for path in page.parent.glob(f"{line}.md")}
    return found


def test_every_page_is_in_the_site():
    pages = {path.with_suffix("") for path in DOCS.rglob("*.md")}
    reached = {DOCS / "index"}
    while new := set().union(*(entries(page.with_suffix(".md")) for page in reached)) - reached:
        reached |= new
    assert {str(page.relative_to(DOCS)) for page in pages - reached} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kernels", "moments", "probes", "intervals"])
def test_figures_are_drawn_by_code(name, tmp_path):
    figures = loaded("figures")
    assert set(figures.FIGURES) == {path.stem for path in figures.FOLDER.glob("*.svg")}
    text = figures.draw(name, tmp_path).read_text()
    labels = set(re.findall(r"<!-- (.*?) -->", text))
    committed = set(re.findall(r"<!-- (.*?) -->", (figures.FOLDER / f"{name}.svg").read_text()))
    words = {label for label in committed if re.search("[a-z]", label) and "$" not in label}
    assert words
    assert words <= labels


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: str(p.relative_to(DOCS)))
def test_pages_begin_with_a_title_and_name_no_machine(page):
    text = page.read_text()
    assert text.startswith(("# ", "```{include}"))
    assert not re.search(r"/(work|tmp|root|home)/", text)


def test_the_report_on_the_site_is_small_and_has_no_copy_of_style_or_script():
    module = loaded("demo_report")
    text = module.KEPT.read_text(encoding="utf-8")
    assert bare(text) == text
    assert len(text) < 100_000
    assert "$ kernlens demo --short" in re.sub(r"<[^>]*>", "", text)


def test_the_report_on_the_site_gets_its_style_its_script_and_plotly(tmp_path, monkeypatch):
    pytest.importorskip("plotly", reason="the extra 'report' is not installed")
    module = loaded("demo_report")
    kept = module.KEPT.read_text(encoding="utf-8")
    module.write(tmp_path)
    built = tmp_path / module.KEPT.name
    assert built.read_text(encoding="utf-8") == filled(kept)
    assert 1_000_000 < built.stat().st_size < 6_000_000
    monkeypatch.setattr(module, "KEPT", tmp_path / "kept.html")
    module.keep(built)
    assert module.KEPT.read_text(encoding="utf-8") == kept
