"""Tangent kernels: what a call gives is that of its own arguments, parameters and precision."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

import kernlens.ntk as nt
from tests.corrected.case import Case

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


FEATURES = 2_000
ONES = np.ones((1, FEATURES), np.float32)
MIDDLE = (abs(np.arange(FEATURES) - 999.5) > 500).astype(np.float32)


def masked(p, x, mask):
    return (x * mask) @ p["w"]


def normalised(p, x, batch_stats):
    return (x - batch_stats["mean"]) @ p["w"]


def second_call(f, name, first, second):
    """A kernel entry of a call whose predecessor had another keyword argument."""
    kernel_fn = nt.empirical_ntk_fn(f)
    params = {"w": np.ones((FEATURES, 1), np.float32)}
    kernel_fn(ONES, None, params, **{name: first})
    return float(kernel_fn(ONES, None, params, **{name: second})[0, 0])


W, V = draw(4, 5) + 1j * draw(4, 5), draw(5, 2)
X = draw(6, 4)
COMPLEX = {"w": W, "v": V}


def modulus(p, x):
    return jnp.abs(x.astype(p["w"].dtype) @ p["w"]) @ p["v"]


def modulus_gradient(x):
    """d |x W| v / d (Re W, Im W, v) of one row in float64, ``[2, parameters]``."""
    w, v = W.astype(np.complex128), V.astype(np.float64)
    z = x @ w
    rows = []
    for o in range(2):
        over_z = v[:, o] * z / abs(z)
        head = np.zeros_like(v)
        head[:, o] = abs(z)
        parts = [np.outer(x, over_z.real), np.outer(x, over_z.imag), head]
        rows.append(np.concatenate([part.ravel() for part in parts]))
    return np.array(rows)


FIRST = modulus_gradient(X[0].astype(np.float64))


def of_complex(measure):
    return measure(jax.tree.map(jnp.asarray, COMPLEX))


def product_with(p):
    product_fn = nt.empirical_ntk_vp_fn(modulus, X[:1], None, p)
    return float(product_fn(jnp.array([[1.0, 0.0]], jnp.float32))[0, 0])


HALF = {"w": draw(32, 48) / 6, "v": draw(48, 8) / 7}
ROWS = draw(8, 32)


def half(p, x):
    w, v = (p[name].astype(jnp.bfloat16) for name in ("w", "v"))
    return (jnp.tanh(x.astype(jnp.bfloat16) @ w) @ v).astype(jnp.bfloat16)


def of_half():
    """Dtype, and largest error over the largest entry, against jax's own gradients in float64.

    These are themselves rounded, entry by entry, which takes up half of the limit.
    """
    jacobians = jax.vmap(lambda x: jax.jacrev(lambda p: half(p, x[None])[0])(HALF))(ROWS)
    exact = 0.0
    for leaf in jacobians.values():
        rows = np.asarray(leaf, np.float64).reshape(8, 8, -1)
        exact = exact + np.einsum("iop,jop->ij", rows, rows) / 8
    k = nt.empirical_ntk_fn(half)(ROWS, None, HALF)
    error = abs(np.asarray(k, np.float64) - exact).max() / abs(exact).max()
    return f"{k.dtype}, {'within' if error < 2e-3 else 'beyond'} 0.002"


VARIABLES = {"params": {"w": draw(4, 2)}, "batch_stats": {"norm": {"mean": draw(4)}}}


def warning_of(variables):
    """Whether a leaf of running statistics is named."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nt.empirical_ntk_fn(lambda v, x: (x - v["batch_stats"]["norm"]["mean"]) @ v["params"]["w"])(
            X, None, variables
        )
    named = any("batch_stats/norm/mean" in str(w.message) for w in caught)
    return "a warning that names the leaf" if named else "no word"


EYE = np.eye(3, dtype=np.float32)


def unpacked():
    """Shape of the second of what a prediction of both kinds of rows unpacks into."""
    loss = nt.predict.mse
    predict_fn = nt.predict.gradient_descent(loss, EYE, np.ones((3, 1), np.float32))
    _, fx_test = predict_fn(1.0, 0.0, 0.0, EYE[:2])
    return str(fx_test.shape) if hasattr(fx_test, "shape") else type(fx_test).__name__


LEFT = {"w": draw(4, 2)}


def columns(p, x):
    return jnp.tanh(p["w"].T @ x).T


def in_columns():
    kernel_fn = nt.empirical_ntk_fn(columns, vmap_axes=(1, 0, {}))
    return entry_or_error(lambda: float(kernel_fn(X.T, None, LEFT)[0, 1]))


def between_columns():
    """Of rows 0 and 1, traced over two outputs: <x, x'> times the mean product of slopes."""
    x, w = X[:2].astype(np.float64), LEFT["w"].astype(np.float64)
    slopes = 1 - np.tanh(x @ w) ** 2
    return float(x[0] @ x[1] * np.mean(slopes[0] * slopes[1]))


def entry_or_error(measure):
    try:
        return measure()
    except Exception as error:
        return type(error).__name__


def linear(p, x):
    return x @ p["w"]


def of_nan():
    x = np.where(np.arange(4) == 1, np.nan, X).astype(np.float32)
    return entry_or_error(lambda: str(nt.empirical_ntk_fn(linear)(x, None, LEFT)[0, 0]))


LINE = np.linspace(-2, 2, 40)
NOISE = 1e-3


PRIOR = (1000.0 * np.exp(-0.5 * (LINE[:, None] - LINE) ** 2)).astype(np.float32)


def lowest_variance():
    """At 40 rows on a line, which are known up to a small noise."""
    predict_fn = nt.predict.gp_inference(PRIOR, np.ones((40, 1), np.float32), NOISE, True)
    return float(np.diag(predict_fn("nngp", PRIOR, PRIOR).covariance).min())


def lowest_exact_variance():
    prior = PRIOR.astype(np.float64)
    left = prior - prior @ np.linalg.solve(prior + NOISE * np.eye(40), prior)
    return float(np.diag(left).min())


def slope_in_scale():
    def total(scale):
        return nt.empirical_ntk_fn(lambda p, x: scale * (x @ p["w"]))(X, None, LEFT).sum()

    return entry_or_error(lambda: float(jax.grad(total)(3.0)))


def over_scales():
    kernel_fn = nt.empirical_ntk_fn(lambda p, x, *, scale: scale * (x @ p["w"]))
    many = jax.vmap(lambda scale: kernel_fn(X, None, LEFT, scale=scale).sum())
    return entry_or_error(lambda: float(many(jnp.array([1.0, 3.0], jnp.float32))[1]))


GRAM = float((X.astype(np.float64) @ X.T).sum())


@jax.custom_vjp
def doubled(x):
    return 2.0 * x


doubled.defvjp(lambda x: (2.0 * x, None), lambda _, ct: (2.0 * ct,))
BENT = {"w": draw(4, 200) / 2, "gate": np.ones(1, np.float32)}


def branched(p, x):
    def layer(function):
        return lambda: function(x @ jnp.exp(p["w"])).sum(-1)

    return jax.lax.cond(p["gate"][0] > 0, layer(doubled), layer(jnp.tanh))


def of_branches():
    kernel_fn = nt.empirical_ntk_fn(branched, trace_axes=())
    return entry_or_error(lambda: float(kernel_fn(X, None, BENT)[0, 1]))


def between_branches():
    slopes = np.exp(2 * BENT["w"].astype(np.float64)).sum(1)
    return float(4 * (X[0].astype(np.float64) * X[1] * slopes).sum())


def products_in_branches():
    """Multiply-adds of vector products a pair: twice 4 outputs times 4 by 4, in one branch."""

    def f(p, x):
        return jax.lax.cond(p["w"][0, 0] > 0, lambda: x @ p["w"], lambda: jnp.tanh(x) * p["w"][0])

    why = nt.empirical_ntk_fn(f, explain=True)(X, None, {"w": np.ones((4, 4), np.float32)})
    return float(why.operations[nt.Method.VECTOR_PRODUCTS])


def words_for_dropout():
    def f(p, x):
        kept = jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)
        return jnp.where(kept, x, 0.0) @ p["w"]

    try:
        nt.empirical_ntk_fn(f)(X, None, LEFT)
    except ValueError as error:
        return "dropout" if "dropout" in str(error) else "batch norm"
    return "no error"


CASES: tuple[Case, ...] = (
    Case(
        "a NumPy mask is cached by its printed ends",
        "empirical_ntk_fn(f)(x, None, p, mask=b) after mask=a",
        2000.0,
        1000.0,
        lambda: second_call(masked, "mask", np.ones(FEATURES, np.float32), MIDDLE),
    ),
    Case(
        "NumPy arrays inside a keyword argument are, too",
        "empirical_ntk_fn(f)(x, None, p, batch_stats={'mean': b}) after a",
        2000.0,
        1000.0,
        lambda: second_call(normalised, "batch_stats", {"mean": 0 * MIDDLE}, {"mean": 1 - MIDDLE}),
    ),
    Case(
        "complex parameters are left out",
        "empirical_ntk_fn(lambda p, x: abs(x @ p['w']) @ p['v'])",
        15.41,
        float(np.sum(FIRST**2) / 2),
        lambda: of_complex(lambda p: float(nt.empirical_ntk_fn(modulus)(X, None, p)[0, 0])),
        tolerance=1e-4 * float(np.sum(FIRST**2)),
    ),
    Case(
        "and of the norms of gradients",
        "gradient_norms_fn(lambda p, x: abs(x @ p['w']) @ p['v'])",
        5.552,
        float(np.sqrt(np.sum(FIRST**2))),
        lambda: of_complex(lambda p: float(nt.gradient_norms_fn(modulus)(X, p)[0])),
        tolerance=1e-4 * float(np.sqrt(np.sum(FIRST**2))),
    ),
    Case(
        "products with the kernel square complex gradients without a conjugate",
        "empirical_ntk_vp_fn(lambda p, x: abs(x @ p['w']) @ p['v'], x, None, p)(v)",
        24.6,
        float(FIRST[0] @ FIRST[0]),
        lambda: of_complex(product_with),
        tolerance=1e-4 * float(FIRST[0] @ FIRST[0]),
    ),
    Case(
        "sums over half-precision factors are rounded to half precision",
        "empirical_ntk_fn(bfloat16 model)(x, None, float32 p), error over the largest entry",
        "bfloat16, beyond 0.002",
        "float32, within 0.002",
        of_half,
    ),
    Case(
        "running statistics count as parameters without a word",
        "empirical_ntk_fn(model.apply)(x, None, variables)",
        "no word",
        "a warning that names the leaf",
        lambda: warning_of(VARIABLES),
    ),
    Case(
        "predictions of two kinds of rows unpack into something else",
        "fx_train, fx_test = predict.gradient_descent(loss, k, y)(t, 0.0, 0.0, k_test)",
        "SolverInfo",
        "(2, 1)",
        unpacked,
    ),
    Case(
        "f is given x in another layout",
        "empirical_ntk_fn(lambda p, x: tanh(p['w'].T @ x).T, vmap_axes=(1, 0, {}))",
        "TypeError",
        between_columns(),
        in_columns,
        tolerance=1e-5,
    ),
    Case(
        "NaN among the inputs passes",
        "empirical_ntk_fn(f)(x with a NaN, None, p)",
        "nan",
        "ValueError",
        of_nan,
    ),
    Case(
        "variances of a posterior are below 0",
        "gp_inference(k, y, 1e-3, True)('nngp', k_test_train, k_test_test), least variance",
        -4.272e-4,
        lowest_exact_variance(),
        lowest_variance,
        # The kernel's own entries are rounded at 6e-5.
        tolerance=2e-5,
        digits=2,
    ),
    Case(
        "a derivative by a number that f closes over fails",
        "jax.grad(lambda s: empirical_ntk_fn(lambda p, x: s * g(p, x))(x, None, p).sum())(3.0)",
        "TracerArrayConversionError",
        6 * GRAM,
        slope_in_scale,
        tolerance=1e-4 * abs(GRAM),
    ),
    Case(
        "a map over a keyword argument fails",
        "jax.vmap(lambda s: empirical_ntk_fn(f)(x, None, p, scale=s).sum())([1.0, 3.0])[1]",
        "TracerArrayConversionError",
        9 * GRAM,
        over_scales,
        tolerance=1e-4 * abs(GRAM),
    ),
    Case(
        "auto takes forward-mode derivatives of a custom_vjp inside a conditional",
        "empirical_ntk_fn(lambda p, x: lax.cond(c, g, h, x @ exp(p['w'])))",
        "TypeError",
        between_branches(),
        of_branches,
        tolerance=1e-3 * abs(between_branches()),
    ),
    Case(
        "multiply-adds inside branches are not counted",
        "empirical_ntk_fn(f, explain=True)(x, None, p).operations[Method.VECTOR_PRODUCTS]",
        0.0,
        128.0,
        products_in_branches,
    ),
    Case(
        "dropout is refused in the words of batch norm",
        "empirical_ntk_fn(a model with dropout on)",
        "batch norm",
        "dropout",
        words_for_dropout,
    ),
)
