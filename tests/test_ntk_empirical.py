"""Conventions of empirical tangent kernels: axes, trees and other libraries."""

from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.example_libraries import stax
from numpy.testing import assert_allclose, assert_array_equal

import kernlens.ntk as nt
from tests.tangent_models import dense, mlp
from tests.test_ntk_structured import (
    arrange,
    cast,
    compiled,
    draw,
    error,
    layer,
    products,
)
from tests.test_ntk_structured import reference as exact

FLOAT32, FLOAT64 = 1e-5, 1e-10
METHODS = ["structured", "jacobian", "vector_products"]

X = draw(6, 3)
MLP = [layer(3, 5), layer(5, 4)]
OTHER = [layer(3, 5), layer(5, 4)]
HEAD = layer(5, 4)
TABLE = {"table": draw(7, 3), **layer(3, 2)}
NARROW, NARROW_HEAD = layer(3, 2), layer(2, 4)
DIRECTION = [layer(3, 5), layer(5, 4)]


@pytest.fixture(autouse=True, scope="module")
def in_haste():
    """These tests are all compile time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def grid(p, x):
    return jnp.sin(mlp(p, x)).reshape(-1, 2, 2)


def jacobian(f, params, x):
    """``{path: d f(params, x) / d leaf}`` in float64, each ``[n * outputs, size]``."""
    with jax.enable_x64(True):
        leaves = jax.jit(jax.jacrev(f))(cast(params, "float64"), cast(x, "float64"))
        n = jax.tree.leaves(x)[0].shape[0]
        return {
            jax.tree_util.keystr(path): np.asarray(leaf).reshape(n, -1, np.size(own))
            for (path, leaf), own in zip(
                jax.tree_util.tree_leaves_with_path(leaves), jax.tree.leaves(params), strict=True
            )
        }


def meet(one, two):
    """Sum over common paths of ``J1 J2'``, ``[n1, n2, O, O]``."""
    return sum(np.einsum("iap,jbp->ijab", one[k], two[k]) for k in one if k in two)


ROLES = list(product(["full", "trace", "diagonal"], repeat=2))
BATCH = [("trace", "trace", "full"), ("trace", "full", "diagonal"), ("diagonal", "full", "trace")]
AXES = [*(("full", *roles) for roles in ROLES), *BATCH, ("diagonal", "diagonal", "full")]


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("x64")
def test_every_choice_of_axes(method):
    full = products(grid, MLP, X)
    params, x = cast(MLP, "float64"), cast(X, "float64")

    def axes(roles):
        return [tuple(i for i in range(3) if roles[i] == r) for r in ("trace", "diagonal")]

    def run(params, x):
        return [
            nt.empirical_ntk_fn(grid, *axes(roles), method=method)(x, None, params)
            for roles in AXES
        ]

    for roles, got in zip(AXES, compiled(run, params, x), strict=True):
        assert error(got, arrange(full, *axes(roles))) < FLOAT64, roles


@pytest.mark.thorough
def test_negative_axes_and_integers_count_from_the_end():
    params, x = cast((MLP, X), "float32")
    by_name = nt.empirical_ntk_fn(grid, trace_axes=-1, diagonal_axes=(-2,))(x, None, params)
    assert by_name.shape == (6, 6, 2)
    expected = exact(grid, MLP, X, trace_axes=(2,), diagonal_axes=(1,))
    assert error(by_name, expected) < FLOAT32


def test_one_number_for_each_example():
    def f(p, x):
        return mlp(p, x).sum(-1)

    params, x = cast((MLP, X), "float32")
    k = nt.empirical_ntk_fn(f, trace_axes=())(x, x[:2], params)
    assert error(k, exact(f, MLP, X)[:, :2]) < FLOAT32
    with pytest.raises(ValueError, match=r"is the batch; for one number an example"):
        nt.empirical_ntk_fn(f)(x, None, params)


@pytest.mark.thorough
def test_trees_of_outputs():
    def f(p, x):
        h = jnp.tanh(dense(p[0], x))
        return {"logits": dense(p[1], h), "parts": (h[:, :2, None] * h[:, None, 2:],)}

    params, x = cast((MLP, X), "float32")
    kernels = nt.empirical_ntk_fn(f, trace_axes=())(x, None, params)
    for pick in (lambda out: out["logits"], lambda out: out["parts"][0]):
        expected = exact(lambda p, x, pick=pick: pick(f(p, x)), MLP, X)
        assert error(pick(kernels), expected) < FLOAT32


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "block_size"), [("structured", 2), ("jacobian", 2), ("vector_products", "auto")]
)
def test_symmetric_case_is_the_general_one(method, block_size):
    params, x = cast((MLP, X), "float32")
    kernel_fn = nt.empirical_ntk_fn(mlp, (), method=method, block_size=block_size)
    symmetric, general = kernel_fn(x, None, params), kernel_fn(x, x, params)
    # The same sums, in another order for half of the blocks.
    assert_allclose(symmetric, general, rtol=1e-5, atol=1e-5 * float(abs(general).max()))
    if block_size == 2:
        assert_array_equal(symmetric[:2, 2:], symmetric[2:, :2].transpose(1, 0, 3, 2))


@pytest.mark.thorough
def test_blocks_do_not_change_the_numbers():
    params, x = cast((MLP, X), "float32")
    whole = nt.empirical_ntk_fn(mlp, block_size=100)(x, None, params)
    parts = nt.empirical_ntk_fn(mlp, block_size=4)(x, None, params)
    # Some last bits: products of other sizes add in another order.
    assert_allclose(parts, whole, rtol=2e-6, atol=2e-6 * float(whole.max()))


@pytest.mark.thorough
def test_sides_of_other_lengths():
    def f(p, x):
        items, keep = x
        return dense(p, (p["table"][items] * keep[..., None]).sum(1))

    rng = np.random.default_rng(0)
    sides = [
        (rng.integers(0, 7, (n, length)).astype(np.int32), rng.random((n, length)))
        for n, length in [(5, 3), (2, 6)]
    ]
    expected = meet(*(jacobian(f, TABLE, side) for side in sides))
    params = cast(TABLE, "float32")
    k = nt.empirical_ntk_fn(f, (), method="structured")(*cast(sides, "float32"), params)
    assert error(k, expected) < FLOAT32


@pytest.mark.thorough
def test_batch_axes_elsewhere():
    params, x = cast((MLP, X), "float32")
    expected = nt.empirical_ntk_fn(mlp)(x, x[:2], params)
    # As in neural-tangents, f takes x as the caller has it.
    for axis in (1, -1):
        kernel_fn = nt.empirical_ntk_fn(lambda p, x: mlp(p, x.T), vmap_axes=(axis, 0, {}))
        assert_array_equal(kernel_fn(x.T, x[:2].T, params), expected)

    def pair(p, x):
        return mlp(p, x["a"].T + x["b"])

    tree = nt.empirical_ntk_fn(pair, vmap_axes=({"a": 1, "b": 0}, 0, {}))
    assert_array_equal(
        tree({"a": x.T, "b": 0 * x}, None, params), nt.empirical_ntk_fn(mlp)(x, None, params)
    )


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_between_two_moments_of_training(method):
    one, two, x1, x2 = cast((MLP, OTHER, X[:4], X[2:]), "float32")
    expected = meet(jacobian(mlp, MLP, X[:4]), jacobian(mlp, OTHER, X[2:]))
    k = nt.cross_ntk_fn(mlp, None, (), method=method, block_size=3)(x1, x2, one, two)
    assert error(k, expected) < FLOAT32
    same_rows = nt.cross_ntk_fn(mlp, method=method)(x1, None, one, two)
    own = meet(jacobian(mlp, MLP, X[:4]), jacobian(mlp, OTHER, X[:4]))
    assert error(same_rows, np.einsum("ijaa->ij", own) / 4) < FLOAT32


@pytest.mark.thorough
def test_between_the_pretraining_and_the_downstream_model():
    def pretraining(p, x):
        return jnp.tanh(dense(p["encoder"], x)) @ p["context"].T

    def downstream(p, x):
        return jnp.exp(0.1 * dense(p["head"], dense(p["encoder"], x)))

    a = {"encoder": layer_of(0, 3, 5), "context": np.random.default_rng(1).random((4, 5))}
    b = {"encoder": layer_of(2, 3, 5), "head": layer_of(3, 5, 4), "unused": np.ones(2)}
    sides = jacobian(pretraining, a, X), jacobian(downstream, b, X[:3])
    one, two, x = cast((a, b, X), "float32")
    for method in METHODS[:2]:
        cross = nt.cross_ntk_fn(pretraining, downstream, (), method=method)
        assert error(cross(x, x[:3], one, two), meet(*sides)) < FLOAT32
    with pytest.raises(ValueError, match="none of the selected parameters in common"):
        nt.cross_ntk_fn(pretraining, downstream, params_filter=lambda path: "context" in path)(
            x, None, one, two
        )
    with pytest.raises(ValueError, match=r"encoder/b has shape \(5,\).*\(2,\)"):
        nt.cross_ntk_fn(pretraining, downstream)(
            x, None, one, {"encoder": cast(NARROW, "float32"), "head": cast(NARROW_HEAD, "float32")}
        )


def layer_of(seed, read, write):
    rng = np.random.default_rng(seed)
    return {"w": rng.standard_normal((read, write)), "b": rng.standard_normal(write)}


@pytest.mark.thorough
def test_filters_take_the_kernel_apart():
    params, x = cast((MLP, X), "float32")
    whole = nt.empirical_ntk_fn(mlp)(x, None, params)
    for method in METHODS[::2]:
        parts = [
            nt.empirical_ntk_fn(mlp, method=method, params_filter=lambda path, k=k: path[0] == k)(
                x, None, params
            )
            for k in ("0", "1")
        ]
        last = exact(lambda p, x: mlp([MLP[0], p], x), MLP[1], X, trace_axes=(-1,))
        assert error(parts[1], last) < FLOAT32
        assert error(sum(parts), np.asarray(whole)) < FLOAT32
    with pytest.raises(ValueError, match=r"keeps no floating-point leaf; the leaves are: 0/b, 0/w"):
        nt.empirical_ntk_fn(mlp, params_filter=lambda path: False)(x, None, params)


def test_under_jit_and_vmap_over_parameters():
    params, other, x = cast((MLP, OTHER, X), "float32")
    kernel_fn = nt.empirical_ntk_fn(mlp, block_size=4)
    single = [kernel_fn(x, None, p) for p in (params, other)]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    many = jax.jit(jax.vmap(lambda p: kernel_fn(x, None, p)))(both)
    assert_allclose(many, jnp.stack(single), rtol=1e-5, atol=1e-5)
    assert_allclose(jax.jit(lambda x: kernel_fn(x, None, params))(x), single[0], rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize(("trace_axes", "block_size"), [((), 2), ((-1,), "auto")])
@pytest.mark.usefixtures("x64")
def test_kernel_is_differentiable(trace_axes, block_size):
    params, along, x = cast((MLP, DIRECTION, X), "float64")
    kernel_fn = nt.empirical_ntk_fn(mlp, trace_axes, method="structured", block_size=block_size)

    def loss(p):
        return jnp.sum(jnp.sin(kernel_fn(x, None, p)))

    gradient = jax.grad(loss)(params)
    slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, along)))
    step = 1e-5

    def at(t):
        return loss(jax.tree.map(lambda p, d: p + t * d, params, along))

    # Central differences: the step squared, and 1e-16 over the step, are both 1e-10.
    assert_allclose(slope, (at(step) - at(-step)) / (2 * step), rtol=1e-7)


@pytest.mark.usefixtures("x64")
def test_gradient_where_a_head_starts_at_zero():
    zero = [MLP[0], jax.tree.map(np.zeros_like, MLP[1])]
    params, x = cast((zero, X), "float64")
    kernel_fn = nt.empirical_ntk_fn(mlp)
    gradient = jax.grad(lambda p: kernel_fn(x, None, p).sum())(params)
    # The head's share is |sum_i (tanh(x_i W + b), 1)|^2; the other vanishes to second order.
    hidden = np.tanh(X @ MLP[0]["w"] + MLP[0]["b"])
    slope = 2 * hidden.sum(0) * (1 - hidden**2)
    assert_allclose(gradient[0]["w"], X.T @ slope, rtol=1e-10)
    assert_allclose(gradient[0]["b"], slope.sum(0), rtol=1e-10)
    assert_array_equal(gradient[1]["w"], 0.0)
    assert_array_equal(gradient[1]["b"], 0.0)


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, use_running_average=True, rngs=rngs)
        self.last = nnx.Linear(5, 4, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.norm(self.first(x))))


@pytest.mark.thorough
def test_flax_nnx():
    graph, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)

    def f(params, x):
        return nnx.merge(graph, params, rest)(x)

    values = nnx.to_pure_dict(params)
    mean, var = (np.asarray(v) for v in (rest["norm"]["mean"][...], rest["norm"]["var"][...]))

    def plain(p, x):
        h = x @ p["first"]["kernel"] + p["first"]["bias"]
        h = (h - mean) / np.sqrt(var + 1e-5) * p["norm"]["scale"] + p["norm"]["bias"]
        return jnp.tanh(h) @ p["last"]["kernel"] + p["last"]["bias"]

    with jax.enable_x64(True):
        mean, var = mean.astype(np.float64), var.astype(np.float64)
        host = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), values)
    k = nt.empirical_ntk_fn(f)(jnp.asarray(X, jnp.float32), None, params)
    assert error(k, exact(plain, host, X, trace_axes=(-1,))) < FLOAT32


class Transformed(NamedTuple):
    """A pair of pure functions, the way Haiku hands them out."""

    init: Any
    apply: Any


def test_a_pair_of_init_and_apply():
    net = Transformed(
        lambda key, x: {
            "linear": {
                "w": jax.random.normal(key, (x.shape[1], 2), x.dtype),
                "b": jnp.ones(2, x.dtype),
            }
        },
        lambda params, rng, x: jnp.tanh(dense(params["linear"], x)),
    )
    x = jnp.asarray(X, jnp.float32)
    params = net.init(jax.random.key(0), x)
    k = nt.empirical_ntk_fn(lambda p, x: net.apply(p, None, x), trace_axes=())(x, None, params)
    own = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    assert error(k, exact(lambda p, x: net.apply(p, None, x), own, X)) < FLOAT32


@pytest.mark.thorough
def test_keyword_arguments_reach_the_function():
    def f(params, x, *, scale, square=False):
        out = scale * mlp(params, x)
        return out * out if square else out

    params, x = cast((MLP, X), "float32")
    kernel_fn = nt.empirical_ntk_fn(f)
    plain = nt.empirical_ntk_fn(mlp)(x, None, params)
    for scale in (1.0, 3.0):
        k = kernel_fn(x, None, params, scale=jnp.float32(scale))
        assert_allclose(k, scale**2 * plain, rtol=1e-5)
    squared = exact(lambda p, x: (2.0 * mlp(p, x)) ** 2, MLP, X, trace_axes=(-1,))
    assert error(kernel_fn(x, None, params, scale=2.0, square=True), squared) < FLOAT32


@pytest.mark.thorough
def test_static_keyword_arguments_have_kernels_of_their_own():
    def f(params, x, *, value):
        # True, 1 and 1.0 are equal for Python, and so are the two zeros.
        scale = {bool: 2.0, int: 3.0, float: 5.0}[type(value)]
        return mlp(params, x) * (scale + float(np.copysign(1.0, value)))

    params, x = cast((MLP, X), "float32")
    kernel_fn = nt.empirical_ntk_fn(f)
    plain = nt.empirical_ntk_fn(mlp)(x, None, params)
    for value, scale in ((True, 3.0), (1, 4.0), (1.0, 6.0), (0.0, 6.0), (-0.0, 4.0), (True, 3.0)):
        assert_allclose(kernel_fn(x, None, params, value=value), scale**2 * plain, rtol=1e-5)


@pytest.mark.thorough
def test_arrays_of_keyword_arguments_are_values_of_one_program():
    traces = []

    def f(params, x, *, options, name):
        traces.append(name)
        return mlp(params, x) * options["scale"][0] * (2.0 if name == "double" else 1.0)

    params, x = cast((MLP, X), "float32")
    kernel_fn = nt.empirical_ntk_fn(f)
    plain = nt.empirical_ntk_fn(mlp)(x, None, params)

    def call(scale, name, kind=np.asarray):
        options = {"scale": (kind(np.float32(scale)),), "list": [None, ("a", 1)]}
        return kernel_fn(x + 0.0, None, jax.tree.map(jnp.copy, params), options=options, name=name)

    assert_allclose(call(3.0, "single"), 9.0 * plain, rtol=1e-5)
    compiled_once = len(traces)
    for kind in (np.asarray, jnp.asarray):
        assert_allclose(call(2.0, "single", kind), 4.0 * plain, rtol=1e-5)
    assert len(traces) == compiled_once
    assert_allclose(call(2.0, "double"), 16.0 * plain, rtol=1e-5)
    assert len(traces) > compiled_once
    with pytest.raises(ValueError, match=r"argument options\[which\] is of set, which is no array"):
        kernel_fn(x, None, params, options={"which": {1}}, name="single")


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_complex_parameters_are_their_real_and_imaginary_parts(method):
    parts = {"real": draw(3, 5), "imag": draw(3, 5), "v": draw(5, 2)}

    def of_parts(p, x):
        return jnp.sqrt((x @ p["real"]) ** 2 + (x @ p["imag"]) ** 2) @ p["v"]

    def whole(p, x):
        return jnp.abs(x.astype(p["w"].dtype) @ p["w"]) @ p["v"]

    params = {
        "w": jnp.asarray(parts["real"] + 1j * parts["imag"], jnp.complex64),
        "v": jnp.asarray(parts["v"], jnp.float32),
    }
    x = cast(X, "float32")
    k = nt.empirical_ntk_fn(whole, (), method=method)(x, x[:2], params)
    assert error(k, exact(of_parts, parts, X)[:, :2]) < FLOAT32
    if method == "auto":
        # One leaf of the user, one path for the filter.
        alone = nt.empirical_ntk_fn(whole, params_filter=lambda path: path == ("w",))
        head = {"v": parts["v"]}
        rest = exact(lambda p, x: of_parts({**parts, **p}, x), head, X, trace_axes=(-1,))
        expected = exact(of_parts, parts, X, trace_axes=(-1,)) - rest
        assert error(alone(x, None, params), expected) < FLOAT32


def test_values_that_are_traced_elsewhere_need_no_check():
    params, x = cast((MLP, X), "float32")
    plain = nt.empirical_ntk_fn(mlp)(x, None, params)
    kernel_fn = nt.empirical_ntk_fn(lambda p, x, *, scale: scale * mlp(p, x))
    inside = jax.jit(lambda scale: kernel_fn(x, None, params, scale=scale))(jnp.float32(2.0))
    assert_allclose(inside, 4.0 * plain, rtol=1e-5)
    closed = jax.jit(
        lambda scale: nt.empirical_ntk_fn(lambda p, x: scale * mlp(p, x))(x, None, params)
    )(jnp.float32(2.0))
    assert_allclose(closed, 4.0 * plain, rtol=1e-5)


@pytest.mark.thorough
def test_patterns_of_neural_tangents():
    keys = jax.random.split(jax.random.PRNGKey(1), 3)
    x1, x2 = jax.random.normal(keys[0], (2, 5, 5, 2)), jax.random.normal(keys[1], (3, 5, 5, 2))
    init_fn, f = stax.serial(stax.Conv(3, (3, 3)), stax.Relu, stax.Flatten, stax.Dense(4))
    _, params = init_fn(keys[2], x1.shape)
    settings = {"f": f, "trace_axes": (), "vmap_axes": 0}
    kernel_fns = [
        nt.empirical_ntk_fn(f, (), (), 0, nt.NtkImplementation.AUTO),
        nt.empirical_ntk_fn(**settings, implementation=1),
        nt.empirical_ntk_fn(**settings, implementation=nt.NtkImplementation.NTK_VECTOR_PRODUCTS),
        nt.empirical_ntk_fn(**settings, implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES),
    ]
    found = [kernel_fn(x2, x1, params) for kernel_fn in kernel_fns]
    one, two = jacobian_of_list(f, params, x2), jacobian_of_list(f, params, x1)
    for k in found:
        assert k.shape == (3, 2, 4, 4)
        assert error(k, np.einsum("iap,jbp->ijab", one, two)) < FLOAT32
    product_fn = nt.empirical_ntk_vp_fn(f, x2, x1, params)
    vectors = jax.random.normal(keys[0], (2, 4))
    expected = jnp.einsum("ijab,jb->ia", found[1], vectors)
    assert_allclose(product_fn(vectors), expected, rtol=1e-4, atol=1e-4)


def jacobian_of_list(f, params, x):
    return np.concatenate(list(jacobian(f, host(params), np.asarray(x)).values()), axis=2)


def host(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def test_linearisation_of_neural_tangents_readme():
    def apply_fn(params, x):
        w, b = params
        return jnp.dot(x, w) + b

    w0, b0 = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.zeros((2,))
    apply_fn_lin = nt.linearize(apply_fn, (w0, b0))
    w, b = jnp.array([[1.5, 0.2], [0.1, 0.9]]), b0 + 0.2
    x = jnp.array([[0.3, 0.2], [0.4, 0.5], [1.2, 0.2]])
    # Linear in its parameters, so its own linearisation.
    assert_allclose(apply_fn_lin((w, b), x), apply_fn((w, b), x), rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.usefixtures("x64")
def test_expansions_come_closer_order_by_order():
    params, along, x = cast((MLP, DIRECTION, X), "float64")
    steps = [0.02, 0.01]
    errors = np.empty((4, 2))
    for degree, (place, t) in product(range(4), enumerate(steps)):
        near = jax.tree.map(lambda p, d, t=t: p + t * d, params, along)
        expanded = nt.taylor_expand(mlp, params, degree)(near, x)
        errors[degree, place] = abs(expanded - mlp(near, x)).max()
    # Half the step leaves the error of order k + 1 at 1 / 2 ** (k + 1), up to the next order.
    assert_allclose(errors[:, 0] / errors[:, 1], [2.0, 4.0, 8.0, 16.0], rtol=0.1)
    near = jax.tree.map(jnp.add, params, along)
    first = nt.taylor_expand(mlp, params, 1)(near, x)
    assert_array_equal(nt.linearize(mlp, params)(near, x), first)
    step = jax.tree.map(jnp.subtract, near, params)
    slope = jax.jvp(lambda p: mlp(p, x), (params,), (step,))[1]
    assert_allclose(first, mlp(params, x) + slope, rtol=1e-12)
    with pytest.raises(ValueError, match="must be 0 or more; got -1"):
        nt.taylor_expand(mlp, params, -1)


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(2)(nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x)))


@pytest.mark.thorough
def test_batch_norm_in_training_mode_is_refused():
    x = jnp.asarray(X, jnp.float32)
    model = Normalised()
    variables = model.init(jax.random.key(0), x, train=False)

    def training(params, x):
        stats = {"params": params, "batch_stats": variables["batch_stats"]}
        return model.apply(stats, x, train=True, mutable=["batch_stats"])[0]

    def running(params, x):
        stats = {"params": params, "batch_stats": variables["batch_stats"]}
        return model.apply(stats, x, train=False)

    with pytest.raises(ValueError, match=r"coupled over its batch.*train=False"):
        nt.empirical_ntk_fn(training)(x, None, variables["params"])
    assert nt.empirical_ntk_fn(running)(x, None, variables["params"]).shape == (6, 6)


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(nn.Dense(4)(x)))


@pytest.mark.thorough
def test_dropout_is_refused_by_its_name():
    x = jnp.asarray(X, jnp.float32)
    model = Dropped()
    params = model.init(jax.random.key(0), x, train=False)

    def f(params, x, *, train):
        return model.apply(params, x, train, rngs={"dropout": jax.random.key(1)})

    kernel_fn = nt.empirical_ntk_fn(f)
    with pytest.raises(ValueError, match=r"draws random numbers.*dropout.*deterministic=True"):
        kernel_fn(x, None, params, train=True)
    assert_array_equal(
        kernel_fn(x, None, params, train=False),
        nt.empirical_ntk_fn(lambda p, x: f(p, x, train=False))(x, None, params),
    )


@pytest.mark.thorough
def test_running_statistics_among_the_parameters_are_named():
    x = jnp.asarray(X, jnp.float32)
    model = Normalised()
    variables = model.init(jax.random.key(0), x, train=False)

    def f(variables, x):
        return model.apply(variables, x, train=False)

    with pytest.warns(
        UserWarning, match="batch_stats/BatchNorm_0/mean, batch_stats/BatchNorm_0/var"
    ):
        nt.empirical_ntk_fn(f)(x, None, variables)
    graph, state = nnx.split(Network(nnx.Rngs(0)))
    with pytest.warns(UserWarning, match=r"norm/mean/value, norm/var/value\. Pass"):
        nt.empirical_ntk_fn(lambda state, x: nnx.merge(graph, state)(x))(x, None, state)
    # Not where they are left out.
    kept = nt.empirical_ntk_fn(f, params_filter=lambda path: path[0] == "params")
    own = nt.empirical_ntk_fn(lambda p, x: f({**variables, "params": p}, x))
    assert_allclose(kept(x, None, variables), own(x, None, variables["params"]), rtol=1e-6)


def test_a_single_example_and_a_single_row_block():
    params, x = cast((MLP, X[:1]), "float32")
    k = nt.empirical_ntk_fn(mlp, (), block_size=1)(x, None, params)
    assert error(k, exact(mlp, MLP, X[:1])) < FLOAT32


@pytest.mark.thorough
def test_empty_lists_at_the_start_are_no_fault_of_the_function():
    def f(p, x):
        items, keep = x
        return (p["table"][items] * keep[..., None]).sum(1) @ p["w"]

    x = (np.zeros((6, 2), np.int32), np.ones((6, 2)) * (np.arange(6) > 2)[:, None])
    k = nt.empirical_ntk_fn(f)(cast(x, "float32"), None, cast(TABLE, "float32"))
    assert error(k, exact(f, TABLE, x, trace_axes=(-1,))) < FLOAT32
