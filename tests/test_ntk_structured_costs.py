"""What a structured kernel costs: the ways chosen, their memory, and what is explained."""

import jax
import jax.numpy as jnp
import pytest

from kernlens.ntk import Method, empirical_ntk_fn
from kernlens.ntk.structured import Contraction
from tests.tangent_models import Pooled, clipped, dense, towers
from tests.test_ntk_structured import (
    PLAIN,
    TOLERANCE,
    WIDE,
    cast,
    draw,
    error,
    layer,
    linen,
    reference,
)


def explain(f, x1, x2, params, **settings):
    return empirical_ntk_fn(f, explain=True, **settings)(x1, x2, params)


def test_auto_needs_no_forward_derivative():
    # Weights that only an exact Jacobian serves are where products would be cheapest.
    def f(p, x):
        return clipped(x @ jnp.exp(p["w"])).sum(-1)

    params, x = cast(({"w": WIDE}, PLAIN), "float32")
    k = empirical_ntk_fn(f, trace_axes=())(x, None, params)
    assert error(k, reference(f, {"w": WIDE}, PLAIN)) < TOLERANCE["float32"]


@pytest.mark.thorough
@pytest.mark.parametrize("outputs", ["scores", "vectors"])
def test_no_gradient_of_a_table_is_built(outputs):
    items, n = 20_000, 16
    x = (jnp.zeros((n, 4), jnp.int32), jnp.ones((n, 4), jnp.float32), jnp.zeros((n, 2), jnp.int32))
    params = cast({"table": draw(items, 3), **layer(3, 2)}, "float32")
    f = towers if outputs == "scores" else lambda p, x: dense(p, p["table"][x[0]].sum(1))
    kernel_fn = empirical_ntk_fn(f, trace_axes=())
    program = jax.jit(lambda x, params: kernel_fn(x, None, params)).lower(x, params).compile()
    memory = program.memory_analysis()
    # One gradient of the table is 240 kB; the sixteen of the batch would be 3.8 MB.
    assert memory.temp_size_in_bytes < 4 * 3 * items
    choice = next(c for c in explain(f, x, None, params, trace_axes=()).leaves if c.bias is None)
    assert choice.path == ("table",)
    assert choice.contraction is Contraction.GRAM


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_table():
    used = []
    for items in (20_000, 200_000):
        x = (
            jnp.zeros((16, 4), jnp.int32),
            jnp.ones((16, 4), jnp.float32),
            jnp.zeros((16, 2), jnp.int32),
        )
        params = {"table": jnp.zeros((items, 3), jnp.float32), **cast(layer(3, 2), "float32")}
        kernel_fn = empirical_ntk_fn(towers)
        program = jax.jit(kernel_fn).lower(x, x, params).compile()
        used.append(program.memory_analysis().temp_size_in_bytes)
    assert used[1] == used[0]


def test_explanation_names_leaves_ways_and_costs():
    params = cast({"table": draw(20_000, 3), "free": draw(2), **layer(3, 2)}, "float32")
    x = (jnp.zeros((5, 4), jnp.int32), jnp.ones((5, 4), jnp.float32), jnp.zeros((5, 2), jnp.int32))
    why = explain(
        lambda p, x: towers(p, x) * jnp.exp(p["free"]), x, None, params, method="structured"
    )
    assert why.method is Method.STRUCTURED
    assert {c.path: (c.bias, c.contraction) for c in why.leaves} == {
        ("free",): (None, Contraction.JACOBIAN),
        ("table",): (None, Contraction.GRAM),
        ("w",): (("b",), why.leaves[-1].contraction),
    }
    assert why.block_size == 5
    assert set(why.operations) == {Method.STRUCTURED, Method.JACOBIAN, Method.VECTOR_PRODUCTS}
    assert why.operations[Method.STRUCTURED] == pytest.approx(sum(c.operations for c in why.leaves))
    lines = str(why).splitlines()
    assert lines[0].startswith("structured, blocks of 5 rows; multiply-adds a pair: ")
    assert lines[1].startswith("  free: exact Jacobian, 1 position, ")
    assert lines[2].startswith("  table: Grams of factors, ")
    assert lines[3].startswith("  w with b: ")
    assert len(lines) == 4


@pytest.mark.thorough
def test_a_layer_before_a_pool_costs_the_same_for_any_number_of_outputs():
    for window in (True, False):
        costs = []
        for outputs in (2, 20):
            case = linen("", Pooled(window, outputs), draw(2, 6, 6, 3))
            params, x = cast((case.params, case.x), "float32")
            why = explain(case.f, x, None, params)
            costs.append({choice.path[-2]: choice.operations for choice in why.leaves})
        assert costs[0]["Conv_1"] == costs[1]["Conv_1"]
        assert 5 * costs[0]["Conv_0"] < costs[1]["Conv_0"]


@pytest.mark.thorough
def test_gradients_smaller_than_their_factors_are_kept_in_their_place():
    used = []
    for n in (64, 512):
        case = linen("", Pooled(False), draw(n, 32, 32, 3))
        params, x = cast((case.params, case.x), "float32")
        program = jax.jit(empirical_ntk_fn(case.f)).lower(x, None, params).compile()
        used.append(program.memory_analysis().temp_size_in_bytes)
    # The second layer reads 12 numbers at 32 * 32 positions; its gradient has 52.
    assert used[1] - used[0] < (512 - 64) * 32 * 32 * 12 * 4
