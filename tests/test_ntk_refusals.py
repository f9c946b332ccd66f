"""What empirical tangent kernels refuse, by which words, and what they look at first."""

from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from numpy.testing import assert_allclose

import kernlens.ntk as nt
from kernlens import kernels
from tests.tangent_models import mlp
from tests.test_ntk_structured import cast, draw, layer

X = draw(6, 3)
MLP = [layer(3, 5), layer(5, 4)]


class Bad(NamedTuple):
    """A call that is refused: by what words, and what differs from a good one."""

    match: str
    f: Any = mlp
    x1: Any = X
    x2: Any = None
    params: Any = MLP
    settings: Any = MappingProxyType({})


NAN = [{"w": np.where(np.arange(5) > 2, np.nan, MLP[0]["w"]), "b": MLP[0]["b"]}, MLP[1]]
INF = [MLP[0], {"w": MLP[1]["w"], "b": np.full(4, np.inf)}]

BAD = {
    "integer output": Bad("dtype int.., which has no gradient", lambda p, x: mlp(p, x).argmax(-1)),
    "boolean output": Bad("dtype bool, which has no gradient", lambda p, x: mlp(p, x) > 0),
    "stopped gradient": Bad("no gradient", lambda p, x: jax.lax.stop_gradient(mlp(p, x))),
    "arg-max": Bad("no gradient", lambda p, x: jax.nn.one_hot(mlp(p, x).argmax(-1), 4)),
    "no use of the parameters": Bad("parameters that are not used", lambda p, x: jnp.sin(x)),
    "no parameters": Bad("params hold no floating-point leaf", params=[], f=lambda p, x: x),
    "integer parameters": Bad("no floating-point leaf", params=[np.arange(3)], f=lambda p, x: x),
    "empty x1": Bad("x1 is an empty batch", x1=X[:0]),
    "empty x2": Bad("x2 is an empty batch", x2=X[:0]),
    "no arrays": Bad("x1 holds no array", x1=()),
    "scalar": Bad(r"x1\[1\] is a scalar", x1=(X, np.float64(1.0))),
    "ragged batch": Bad(r"unequal batch sizes \(x1\[a\]: 6, x1\[b\]: 4\)", x1={"a": X, "b": X[:4]}),
    "x2 of another structure": Bad("x2", lambda p, x: mlp(p, x[0] + x[1]), x1=(X, X), x2=(X,)),
    "x2 of another width": Bad("x2", x2=X[:, :2]),
    "NaN": Bad("parameter 0/w has 6 entries that are NaN or infinite", params=NAN),
    "infinity": Bad("parameter 1/b has 4 entries", params=INF),
    "complex output": Bad(
        "has dtype complex64; expected real", lambda p, x: jax.lax.complex(*[mlp(p, x)] * 2)
    ),
    "NaN in x": Bad(r"x1 has 6 entries that are NaN", x1=np.where(np.arange(3) > 1, np.nan, X)),
    "infinity in x2": Bad(
        r"x2\[b\] has 18 entries that are NaN or infinite",
        lambda p, x: mlp(p, x["a"]),
        x1={"a": X, "b": X},
        x2={"a": X, "b": np.full_like(X, np.inf)},
    ),
    "products in half precision": Bad(
        "narrower than float32; use method='auto'",
        lambda p, x: mlp(p, x).astype(jnp.bfloat16),
        settings={"method": "vector_products"},
    ),
    "batch coupled": Bad("coupled over its batch", lambda p, x: mlp(p, x) - mlp(p, x).mean(0)),
    "no batch axis": Bad(r"shape \(4,\) for a batch of 6", lambda p, x: mlp(p, x).sum(0)),
    "scalar output": Bad(r"shape \(\) for a batch of 6", lambda p, x: mlp(p, x).sum()),
    "inputs of another width": Bad(
        r"f cannot take x1 of shape \[6, 2\] with these parameters", x1=X[:, :2]
    ),
    "one example": Bad(
        r"f takes one example, and x1 is a batch: pass jax.vmap\(f, in_axes=\(None, 0\)\)",
        lambda p, x: p[0]["w"].T @ x,
    ),
    "no function": Bad("f is of type int; expected a function", 3),
    "kernel that would not fit": Bad(
        r"the kernel of 3,000,000 x 3,000,000 x 4 x 4 needs .* GiB and .* GiB are free",
        x1=np.broadcast_to(np.float32(1.0), (3_000_000, 3)),
        settings={"trace_axes": ()},
    ),
    "traced axis that is none": Bad("axis 2 is not an axis", settings={"trace_axes": (2,)}),
    "axis twice": Bad(r"\[1\] are in trace_axes and", settings={"diagonal_axes": (1,)}),
    "method": Bad("unknown method 'fast'; expected one of 'auto'", settings={"method": "fast"}),
    "implementation": Bad("7 is not a valid", settings={"implementation": 7}),
    "block size": Bad("block_size must be at least 1", settings={"block_size": 0}),
    "axes of outputs": Bad("batch axis first", settings={"vmap_axes": (0, 1, {})}),
    "axes of both": Bad(r"expected 0 or \(in_axes, 0", settings={"vmap_axes": 1}),
}


def single(leaf):
    # Rows that share their memory stay as they are.
    return leaf if leaf.dtype == np.float32 else leaf.astype(np.float32)


@pytest.mark.parametrize(
    "bad",
    [pytest.param(bad, id=name) for name, bad in BAD.items()],
)
def test_bad_input_is_refused(bad):
    params = cast(bad.params, "float32")
    x1, x2 = jax.tree.map(single, (bad.x1, bad.x2))
    with pytest.raises(ValueError, match=bad.match):
        nt.empirical_ntk_fn(bad.f, **bad.settings)(x1, x2, params)


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x)


def test_a_flax_module_in_place_of_a_function_or_of_parameters_is_refused():
    x = jnp.ones((4, 3))
    with pytest.raises(ValueError, match=r"f is a module \(Small\).*module\.apply"):
        nt.empirical_ntk_fn(Small())
    with pytest.raises(ValueError, match=r"params is a Flax module \(Small\).*module\.init"):
        nt.empirical_ntk_fn(mlp)(x, None, Small())
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"f is a module \(Linear\).*nnx\.split"):
        nt.empirical_ntk_fn(model)


@pytest.mark.thorough
def test_an_equinox_module_in_place_of_parameters_is_refused():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(3, 2, 4, 1, activation=jax.nn.gelu, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"f is a module \(MLP\).*eqx\.partition"):
        nt.empirical_ntk_fn(model)
    with pytest.raises(ValueError, match=r"the function gelu, not an array.*eqx\.partition"):
        nt.empirical_ntk_fn(lambda m, x: jax.vmap(m)(x))(jnp.ones((4, 3)), None, model)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    f = eqx.filter_jit(lambda p, x: jax.vmap(eqx.combine(p, static))(x))
    assert nt.empirical_ntk_fn(f, explain=True)(jnp.ones((4, 3)), None, params).exact == ()


@pytest.mark.thorough
def test_the_trial_holds_few_rows_at_a_time_and_tells_its_cost():
    params = {"w": jnp.ones((8, 4096)), "v": jnp.ones((4096, 1))}
    taken = []

    def f(p, x):
        taken.append(x.shape[0])
        return jnp.tanh(x @ p["w"]) @ p["v"]

    x = jnp.ones((2000, 8))
    why = nt.empirical_ntk_fn(f, explain=True, block_size=16)(x, None, params)
    assert (why.trial_rows, max(n for n in taken if n < 2000)) == (16, 16)
    # Some values of 4096 floats a row, and their derivatives.
    assert 16 * 4096 * 4 * 2 <= why.trial_bytes <= 16 * 4096 * 4 * 16
    assert "trial at first: 16 rows at a time, about " in str(why)


@pytest.mark.thorough
def test_leaves_whose_exact_jacobians_take_the_time_are_named():
    def f(p, x):
        return (x @ jnp.exp(p["dear"])).sum(-1) + x[:, 0] * p["cheap"]

    params = {"dear": jnp.zeros((50, 600)), "cheap": jnp.float32(1.0)}
    x = jnp.asarray(np.random.default_rng(0).standard_normal((256, 50)), jnp.float32)
    with pytest.warns(UserWarning, match=r"exact Jacobians take .* of .*: dear \(3e\+04\)\. Use"):
        nt.empirical_ntk_fn(f, (), method="structured")(x, None, params)


def test_what_does_not_fit_in_full_fits_on_the_diagonal():
    params = cast(MLP, "float32")
    x = np.broadcast_to(np.float32(1.0), (200_000, 3))
    with pytest.raises(ValueError, match="GiB are free"):
        nt.empirical_ntk_fn(mlp, trace_axes=())(x, None, params)
    k = nt.empirical_ntk_fn(mlp, trace_axes=(1,), diagonal_axes=(0,))(x, None, params)
    assert_allclose(k, k[0], rtol=1e-6)


def test_parameters_of_another_structure_are_refused():
    one, x = cast((MLP, X), "float32")
    with pytest.raises(ValueError, match="param"):
        nt.cross_ntk_fn(mlp)(x, None, one, {"w": jnp.ones((3, 4))})


def test_a_parameter_that_turns_nan_is_refused():
    params, x = cast((MLP, X), "float32")
    kernel_fn = nt.empirical_ntk_fn(mlp)
    kernel_fn(x, None, params)
    worse = [params[0], {**params[1], "w": params[1]["w"].at[0, 0].set(jnp.nan)}]
    with pytest.raises(ValueError, match="1/w has 1 entries"):
        kernel_fn(x, None, worse)


FACES = {
    "empirical_ntk_fn": lambda p, x: nt.empirical_ntk_fn(mlp)(x, None, p),
    "cross_ntk_fn": lambda p, x: nt.cross_ntk_fn(mlp)(x, x, p, p),
    "empirical_nngp_fn": lambda p, x: nt.empirical_nngp_fn(mlp)(x, None, p),
    "empirical_kernel_fn": lambda p, x: nt.empirical_kernel_fn(mlp)(x, None, "nngp", p),
    "monte_carlo_kernel_fn": lambda p, x: nt.monte_carlo_kernel_fn(
        lambda key, x: p, mlp, jax.random.key(0), 2
    )(x, None, "nngp"),
    "empirical_ntk_vp_fn": lambda p, x: nt.empirical_ntk_vp_fn(mlp, x, None, p),
    "linearize": lambda p, x: nt.linearize(mlp, p)(p, x),
    "taylor_expand": lambda p, x: nt.taylor_expand(mlp, p, 2)(p, x),
    "diagonal_fn": lambda p, x: nt.diagonal_fn(mlp)(x, p),
    "trace_fn": lambda p, x: nt.trace_fn(mlp)(x, p),
    "gradient_norms_fn": lambda p, x: nt.gradient_norms_fn(mlp)(x, p),
    "pntk_fn": lambda p, x: nt.pntk_fn(mlp)(x, x, p),
    "layer_ntk_fns": lambda p, x: [k(x, None, p) for k in nt.layer_ntk_fns(mlp, p).values()],
    "sharded": lambda p, x: nt.sharded(
        nt.empirical_ntk_fn(mlp), jax.make_mesh((1,), ("rows",)), "rows"
    )(x, None, p),
    "features": lambda p, x: nt.features(jax.random.key(0), mlp, p, num_features=8)(x),
    "operators.from_function": lambda p, x: nt.operators.from_function(mlp, p, x),
    # No parameters: a NaN among the rows alone.
    "operators.from_kernel": lambda p, x: nt.operators.from_kernel(kernels.rbf, x),
    "operators.stream": lambda p, x: nt.operators.stream(kernels.rbf, x),
    "infinite": lambda p, x: nt.infinite.dense(4).kernel_fn(x),
}
"""A call of every public function that reads parameters or inputs."""

WITHOUT_PARAMS = ("operators.from_kernel", "operators.stream", "infinite")


@pytest.mark.parametrize("name", FACES)
def test_every_face_refuses_what_is_not_finite(name):
    params, x = cast((MLP, X), "float32")
    with pytest.raises(ValueError, match=r"^x1? has 1 entries that are NaN or infinite"):
        FACES[name](params, x.at[0, 0].set(jnp.nan))
    if name not in WITHOUT_PARAMS:
        with pytest.raises(ValueError, match=r"^parameter 0/w has 6 entries that are NaN"):
            FACES[name](cast(NAN, "float32"), x)


def test_values_under_jit_are_not_looked_at():
    params, x = cast((MLP, X), "float32")
    found = jax.jit(nt.empirical_nngp_fn(mlp), static_argnums=1)(x * jnp.nan, None, params)
    assert bool(jnp.isnan(found).all())
