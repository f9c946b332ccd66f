"""Tangent kernels of convolutions of every kind, by every method, against float64 Jacobians."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernlens.ntk import empirical_ntk_fn

ROWS, CHANNELS, OUTPUTS = 3, 4, 2
METHODS = ("auto", "structured", "jacobian", "vector_products")
TOLERANCE = {"float64": 1e-10, "bfloat16": 0.03}
"""A bfloat16 has 8 bits; the sums of some ten rounded products miss by a few of their last."""

LINES = ("NWC", "WIO", "NWC")
LAST = ("NHWC", "HWIO", "NHWC")
FIRST = ("NCHW", "OIHW", "NCHW")
VOLUMES = ("NDHWC", "DHWIO", "NDHWC")


class Case(NamedTuple):
    """A convolution: sizes of images and windows, its layouts, and how it moves."""

    size: tuple[int, ...]
    window: tuple[int, ...]
    layout: tuple[str, str, str] = LAST
    padding: Any = "VALID"
    strides: tuple[int, ...] | None = None
    spread: tuple[int, ...] | None = None
    dilation: tuple[int, ...] | None = None
    groups: int = 1
    outputs: int = OUTPUTS

    def drawn(self):
        """Parameters and images, float64."""
        rng = np.random.default_rng(len(str(self)))
        image, kernel, _ = self.layout
        sizes = dict(zip((c for c in image if c not in "NC"), self.size, strict=True))
        x = rng.standard_normal([{"N": ROWS, "C": CHANNELS, **sizes}[c] for c in image])
        windows = dict(zip((c for c in kernel if c not in "IO"), self.window, strict=True))
        windows |= {"I": CHANNELS // self.groups, "O": self.outputs}
        params = {
            "shift": 0.3 * rng.standard_normal(x.shape[1:]),
            "kernel": 0.5 * rng.standard_normal([windows[c] for c in kernel]),
        }
        return params, x

    def __call__(self, params, x):
        """Outputs ``[n, outputs]``: the shift is a leaf before the convolution."""
        x = jnp.tanh(x + params["shift"])
        ones = (1,) * len(self.size)
        y = jax.lax.conv_general_dilated(
            x, params["kernel"], self.strides or ones, self.padding, self.spread, self.dilation,
            self.layout, self.groups,
        )  # fmt: skip
        places = [i for i, c in enumerate(self.layout[2]) if c not in "NC"]
        return jnp.sum(jnp.sin(y), places)


CASES = {
    "1-D": Case((5,), (3,), LINES),
    "1-D, same, strides": Case((5,), (3,), LINES, "SAME", (2,)),
    "1-D, padded": Case((5,), (2,), LINES, ((2, 0),)),
    "1-D, image dilated": Case((4,), (3,), LINES, ((2, 1),), spread=(2,)),
    "1-D, kernel dilated": Case((6,), (2,), LINES, dilation=(3,)),
    "1-D, groups, strides": Case((5,), (2,), LINES, strides=(2,), groups=2),
    "1-D, channels first": Case((5,), (3,), ("NCW", "OIW", "NCW"), "SAME"),
    "2-D": Case((4, 3), (2, 2)),
    "2-D, same, strides": Case((4, 3), (3, 2), LAST, "SAME", (2, 1)),
    "2-D, window of one, strides": Case((4, 3), (1, 1), LAST, "VALID", (2, 2)),
    "2-D, padded, kernel dilated": Case((4, 3), (2, 2), LAST, ((1, 0), (0, 2)), dilation=(1, 2)),
    "2-D, cropped": Case((4, 4), (2, 2), LAST, ((-1, 1), (0, -1))),
    "2-D, image dilated, strides": Case((3, 4), (2, 3), LAST, ((1, 0), (1, 2)), (1, 2), (2, 1)),
    "2-D, of each channel": Case((4, 3), (2, 2), LAST, "SAME", groups=4, outputs=4),
    "2-D, channels first": Case((4, 3), (3, 2), FIRST, "SAME"),
    "2-D, channels first, all": Case(
        (5, 4), (2, 2), FIRST, ((1, 2), (0, 1)), (2, 1), (1, 2), (2, 1), 2
    ),
    "2-D, mixed layouts": Case((4, 3), (2, 2), ("NHWC", "OIHW", "NCHW"), strides=(2, 1)),
    "3-D": Case((3, 3, 2), (2, 2, 1), VOLUMES),
    "3-D, channels first, strides": Case(
        (3, 4, 3), (2, 2, 2), ("NCDHW", "OIDHW", "NCDHW"), "SAME", (2, 1, 2)
    ),
}


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def reference(case, params, x):
    """``[n, n, outputs, outputs]``, the product of the rows of one Jacobian."""
    rows = [
        np.asarray(own).reshape(ROWS * case.outputs, -1)
        for own in jax.tree.leaves(jax.jit(jax.jacrev(case))(params, x))
    ]
    shape = (ROWS, case.outputs) * 2
    return sum(own @ own.T for own in rows).reshape(shape).transpose(0, 2, 1, 3)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, "float64") for name in CASES),
     *((name, "bfloat16") for name in ("2-D", "2-D, same, strides", "2-D, channels first, all"))],
)  # fmt: skip
def test_every_method_is_the_product_of_jacobians(name, dtype):
    case = CASES[name]
    # Vector products are refused where the arithmetic of the model is narrow.
    methods = METHODS if dtype == "float64" else METHODS[:-1]
    with jax.enable_x64(True):
        # The values that the narrow type can hold, in float64.
        params, x = cast(cast(case.drawn(), dtype), "float64")
        expected = reference(case, params, x)
        given = cast((params, x), dtype)
        got = jax.jit(
            lambda params, x: [
                empirical_ntk_fn(case, (), (), method=method)(x, None, params) for method in methods
            ]
        )(*given)
    for method, own in zip(methods, got, strict=True):
        off = np.max(np.abs(np.asarray(own, np.float64) - expected)) / np.max(np.abs(expected))
        assert off < TOLERANCE[dtype], method


@pytest.mark.parametrize("strides", [1, 2])
def test_the_type_that_is_asked_of_a_convolution_is_kept(strides):
    def apply_fn(params, x):
        y = jax.lax.conv_general_dilated(
            x, params["kernel"], (strides, strides), "SAME", dimension_numbers=LAST,
            preferred_element_type=jnp.float32 if x.dtype == jnp.bfloat16 else None,
        )  # fmt: skip
        # A sum rounded to the 8 bits of a bfloat16 has another sine.
        return jnp.sum(jnp.sin(64.0 * y), (1, 2))

    params, x = CASES["2-D"].drawn()
    given = cast(({"kernel": params["kernel"]}, x), jnp.bfloat16)
    with jax.enable_x64(True):
        (jacobian,) = jax.tree.leaves(jax.jit(jax.jacrev(apply_fn))(*cast(given, "float64")))
    rows = np.asarray(jacobian).reshape(ROWS, OUTPUTS, -1)
    expected = np.einsum("iop,jop->ij", rows, rows) / OUTPUTS
    got = empirical_ntk_fn(apply_fn, method="structured")(given[1], None, given[0])
    assert np.max(np.abs(got - expected)) < 0.01 * np.max(expected)
