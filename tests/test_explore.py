"""What other numbers of labels, columns and penalties would bring, against ridge that is fitted."""

import importlib.util
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from kernlens import lens, moments


def rows(n, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, n)
    centres = np.random.default_rng(7).normal(size=(3, 10))
    return (centres[codes] + 2.0 * rng.normal(size=(n, 10))).astype(np.float32), codes


@pytest.fixture(scope="module")
def found():
    x, codes = rows(1_000, 0)
    return lens.explore(moments.from_arrays(x, codes, 3, class_scatters=True))


def explained(labels, dims, strength):
    """The share that ridge fitted to fresh rows explains on others, the mean of some fits."""
    shares = []
    z, truth = rows(4_000, 99)
    for seed in range(1, 7):
        x, codes = rows(labels, seed)
        y, wanted = np.eye(3)[codes], np.eye(3)[truth]
        x, test = x[:, :dims].astype(float), z[:, :dims] - x[:, :dims].mean(axis=0)
        x, mean = x - x.mean(axis=0), y.mean(axis=0)
        ridge = strength * np.trace(x.T @ x / labels)
        weights = np.linalg.solve(x.T @ x + ridge * np.eye(dims), x.T @ (y - mean))
        error = np.mean(np.sum((mean + test @ weights - wanted) ** 2, axis=1))
        shares.append(1.0 - error / np.mean(np.sum((wanted - wanted.mean(axis=0)) ** 2, axis=1)))
    return np.mean(shares)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("labels", "dims", "strength"), [(60, 10, 1e-1), (1_000, 10, 1e-2), (4_000, 4, 1e-2)]
)
def test_the_share_is_that_of_ridge_on_so_many_labels(found, labels, dims, strength):
    told = found.at(labels=labels, dims=dims, strength=strength)
    assert told == pytest.approx(explained(labels, dims, strength), abs=0.05)


@pytest.mark.thorough
def test_the_table_has_the_shares_and_is_what_prints(found):
    lines = repr(found).splitlines()
    assert lines[0].startswith("Share of the labels' variance")
    assert len(lines) == 5
    assert f"{found.at():.3f}" in lines[-1]
    assert "<table>" in found._repr_html_()


def test_without_a_front_end_the_table_is_shown(found, monkeypatch):
    shown = []
    display = SimpleNamespace(HTML=lambda text: text, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec",
        lambda name, *rest: None if name == "ipywidgets" else real(name, *rest),
    )  # fmt: skip
    found._ipython_display_()
    assert shown == [found._repr_html_()]


@pytest.mark.thorough
def test_sliders_ask_for_what_they_show(found, monkeypatch, capsys):
    """With a stand-in for ipywidgets that keeps what it is given."""
    made = SimpleNamespace(
        interactive=lambda function, **sliders: (function, sliders),
        SelectionSlider=lambda options, value: SimpleNamespace(options=options, value=value),
        IntSlider=lambda min, max, value: SimpleNamespace(min=min, max=max, value=value),
    )
    monkeypatch.setitem(sys.modules, "ipywidgets", made)
    function, sliders = found.slider()
    assert sliders["labels"].value in sliders["labels"].options
    assert sliders["strength"].value in sliders["strength"].options
    assert (sliders["dims"].min, sliders["dims"].max) == (1, 10)
    function(labels=60, dims=3, strength=0.1)
    told = found.at(labels=60, dims=3, strength=0.1)
    assert re.match(f"{told:.3f} of the labels' variance", capsys.readouterr().out)


def test_what_cannot_be_asked_is_named(found):
    with pytest.raises(ValueError, match=r"dims must lie in 1\.\.10; got 11"):
        found.at(dims=11)
    x, codes = rows(50, 0)
    with pytest.raises(ValueError, match="class_scatters=True"):
        lens.explore(moments.from_arrays(x, codes, 3))
