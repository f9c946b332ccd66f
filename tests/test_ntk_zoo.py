"""Models as libraries write them: which leaves are exact, and that all methods agree."""

import jax
import numpy as np
import pytest

from kernlens import ntk
from tests import zoo
from tests.test_ntk_structured import cast, compiled, error, products

TOLERANCE = 1e-10  # sums of a few hundred products in float64
METHODS = ("auto", "structured", "jacobian", "vector_products")
QUICK = ("a conditional by example", "quantised layers with derivatives by hand")


def model_of(name):
    package = zoo.missing(name)
    if package:
        pytest.skip(f"{package} is not installed")
    return zoo.ZOO[name]()


@pytest.mark.parametrize("name", zoo.ZOO)
def test_exact_leaves_are_those_that_enter_otherwise(name):
    model = model_of(name)
    why = explained(model)
    assert sorted("/".join(path) for path in why.exact) == sorted(model.exact)


def explained(model):
    """How the structured kernel of a model is computed."""
    with jax.enable_x64(True):
        params, x = cast((model.params, model.x), "float64")
        explain = ntk.empirical_ntk_fn(model.f, method="structured", explain=True)
        found = []
        # Traced, where no trial is made: this asks for shapes alone.
        jax.eval_shape(lambda x, params: found.append(explain(x, None, params)), x, params)
    return found[0]


def agree(model, methods):
    """Largest error of each method's full kernel."""
    expected = products(model.f, model.params, model.x)
    order = [d for a in range(expected.ndim // 2) for d in (a, a + expected.ndim // 2)]
    expected = expected.transpose(order)
    with jax.enable_x64(True):
        params, x = cast((model.params, model.x), "float64")

        def run(params, x):
            return [ntk.empirical_ntk_fn(model.f, (), method=m)(x, None, params) for m in methods]

        return {
            m: error(np.asarray(k), expected)
            for m, k in zip(methods, compiled(run, params, x), strict=True)
        }


@pytest.mark.parametrize("name", QUICK)
def test_structured_is_exact(name):
    assert max(agree(model_of(name), ["structured"]).values()) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.ZOO)
def test_four_methods_agree(name):
    model = model_of(name)
    found = agree(model, METHODS if model.forward else METHODS[:-1])
    assert max(found.values()) < TOLERANCE, found
