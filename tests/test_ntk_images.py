"""Convolutions and pools at infinite width: a recursion in NumPy, finite networks, laws."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import kernlens.ntk as nt
from kernlens.ntk.infinite import (
    add,
    avg_pool,
    conv,
    dense,
    elementwise,
    erf,
    flatten,
    gelu,
    global_avg_pool,
    identity,
    layer_norm,
    relu,
    residual,
    serial,
    sin,
)

RNG = np.random.default_rng(0)
X1, X2 = (RNG.standard_normal((n, 5, 4, 2)) for n in (3, 2))


@pytest.fixture
def quick():
    """Many small programs, compiled without optimisation, in float64."""
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)


# --- the recursion, with all positions of all pairs of examples, in NumPy ----------------------


class Reference:
    """NNGP and NTK ``[n, n, *S, *S]`` of all examples at all pairs of positions."""

    def __init__(self, x):
        self.axes = x.ndim - 2
        self.nngp = np.einsum("iac,jbc->ijab", *[x.reshape(len(x), -1, x.shape[-1])] * 2)
        self.nngp = self.nngp.reshape(len(x), len(x), *x.shape[1:-1] * 2) / x.shape[-1]
        self.ntk = np.zeros_like(self.nngp)

    def windows(self, k, shape, strides, padding, *, shared):
        """Mean over a window on both sides, the same entry on both if it is shared."""
        sizes = k.shape[2:]
        if padding == "VALID":
            out = [(s - f) // t + 1 for s, f, t in zip(sizes, shape * 2, strides * 2, strict=True)]
        else:
            out = [-(-s // t) for s, t in zip(sizes, strides * 2, strict=True)]
            width = [(0, 0), (0, 0)]
            for s, o, f, t in zip(sizes, out, shape * 2, strides * 2, strict=True):
                total = max((o - 1) * t + f - s, 0)
                width.append((total // 2, total - total // 2))
            k = np.pad(k, width, mode="wrap" if padding == "CIRCULAR" else "constant")
        entries = list(product(*(range(f) for f in shape)))
        pairs = [(f, f) for f in entries] if shared else list(product(entries, entries))
        total = 0.0
        for first, second in pairs:
            index = [slice(None)] * 2 + [
                slice(start, start + step * (size - 1) + 1, step)
                for start, step, size in zip(first + second, strides * 2, out, strict=True)
            ]
            total = total + k[tuple(index)]
        return total / len(pairs)

    def conv(self, shape, W_std, b_std, strides=None, padding="VALID", channels=None):
        strides = strides or (1,) * len(shape)
        mean = self.windows(self.nngp, shape, strides, padding, shared=True)
        own = mean * W_std**2 + b_std**2
        layer = own if channels is None else channels * np.prod(shape) * mean + 1.0
        self.ntk = W_std**2 * self.windows(self.ntk, shape, strides, padding, shared=True) + layer
        self.nngp = own

    def pool(self, shape, strides=None, padding="VALID"):
        strides = strides or (1,) * len(shape)
        self.nngp, self.ntk = (
            self.windows(k, shape, strides, padding, shared=False) for k in (self.nngp, self.ntk)
        )

    def relu(self):
        n, flat = len(self.nngp), self.nngp.shape[2 : 2 + self.axes]
        size = int(np.prod(flat))
        square = self.nngp.reshape(n, n, size, size)
        variance = np.einsum("iiaa->ia", square)
        length = np.sqrt(variance[:, None, :, None] * variance[None, :, None, :])
        angle = np.arccos(np.clip(square / np.where(length > 0, length, 1.0), -1, 1))
        nngp = (length * np.sin(angle) + (np.pi - angle) * square) / (2 * np.pi)
        slope = (np.pi - angle) / (2 * np.pi)
        self.nngp = nngp.reshape(self.nngp.shape)
        self.ntk = self.ntk * slope.reshape(self.nngp.shape)

    def dense(self, W_std, b_std):
        self.nngp = W_std**2 * self.nngp + b_std**2
        self.ntk = W_std**2 * self.ntk + self.nngp

    def flatten(self):
        n, size = len(self.nngp), int(np.prod(self.nngp.shape[2 : 2 + self.axes]))
        self.nngp, self.ntk = (
            np.einsum("ijaa->ij", k.reshape(n, n, size, size)) / size for k in (self.nngp, self.ntk)
        )

    def mean(self):
        axes = tuple(range(2, self.nngp.ndim))
        self.nngp, self.ntk = self.nngp.mean(axes), self.ntk.mean(axes)


def flat(r):
    r.conv((3, 2), 1.3, 0.2)
    r.relu()
    r.conv((2, 2), 1.1, 0.1, (2, 1), "SAME")
    r.relu()
    r.flatten()
    r.dense(1.2, 0.1)


def pooled(r):
    r.conv((3, 3), 1.3, 0.2, (1, 1), "CIRCULAR")
    r.relu()
    r.pool((2, 2), (2, 2))
    r.conv((2, 2), 1.1, 0.1, (1, 1), "SAME")
    r.relu()
    r.mean()
    r.dense(1.2, 0.1)


def pooled_and_flat(r):
    r.conv((2, 2), 1.3, 0.2)
    r.relu()
    r.pool((3, 2), (1, 1), "SAME")
    r.flatten()
    r.dense(1.2, 0.1)


NETS = {
    "flatten": (
        serial(
            conv(1, (3, 2), W_std=1.3, b_std=0.2), relu(),
            conv(1, (2, 2), (2, 1), "SAME", 1.1, 0.1), relu(),
            flatten(), dense(1, 1.2, 0.1),
        ),
        flat,
    ),
    "pools": (
        serial(
            conv(1, (3, 3), None, "CIRCULAR", 1.3, 0.2), relu(), avg_pool((2, 2), (2, 2)),
            conv(1, (2, 2), None, "SAME", 1.1, 0.1), relu(), global_avg_pool(), dense(1, 1.2, 0.1),
        ),
        pooled,
    ),
    "pool, flatten": (
        serial(
            conv(1, (2, 2), W_std=1.3, b_std=0.2), relu(),
            serial(avg_pool((3, 2), padding="SAME"), flatten()), dense(1, 1.2, 0.1),
        ),
        pooled_and_flat,
    ),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", NETS)
def test_kernels_of_images_are_those_of_the_recursion(name):
    net, expected = NETS[name]
    both = np.concatenate([X1, X2])
    reference = Reference(both)
    expected(reference)
    got = net.kernel_fn(X1, both)
    # arccos of a rounded cosine near 1, in the reference, loses half of the digits.
    assert_allclose(got.nngp, reference.nngp[:3], rtol=1e-7)
    assert_allclose(got.ntk, reference.ntk[:3], rtol=1e-7)


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
def test_sequences_have_one_axis_of_positions_and_the_standard_parameterisation_counts_inputs():
    x = RNG.standard_normal((3, 6, 2))
    reference = Reference(x)
    reference.conv((3,), 1.3, 0.2, (2,), "SAME", channels=2)
    reference.flatten()
    reference.dense(1.0, 0.0)
    net = serial(
        conv(7, (3,), (2,), "SAME", 1.3, 0.2, parameterization="standard"), flatten(), dense(1)
    )
    got = net.kernel_fn(x)
    assert_allclose(got.nngp, reference.nngp, rtol=1e-12)
    assert_allclose(got.ntk, reference.ntk, rtol=1e-12)


# --- finite networks ---------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("padding", ["VALID", "SAME", "CIRCULAR"])
def test_the_ntk_of_one_convolution_is_exact_at_any_width(padding):
    net = serial(conv(3, (3, 2), (2, 1), padding, 1.3, 0.2), flatten())
    _, apply_fn, kernel_fn = net
    x = jnp.asarray(X1)
    params = net.module.init(jax.random.key(0), x)
    got = nt.empirical_ntk_fn(apply_fn)(x, None, params)
    assert_allclose(got, kernel_fn(x, None, "ntk"), rtol=1e-10)


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
def test_a_pool_is_linear_so_its_ntk_is_exact_too():
    net = serial(conv(3, (2, 2), W_std=1.3), avg_pool((2, 2), (1, 1), "CIRCULAR"), flatten())
    x = jnp.asarray(X1)
    params = net.module.init(jax.random.key(0), x)
    got = nt.empirical_ntk_fn(net.module.apply)(x, None, params)
    assert_allclose(got, net.kernel_fn(x, get="ntk"), rtol=1e-10)


def wide(width):
    block = serial(relu(), conv(width, (3, 3), None, "SAME", 1.3, 0.1))
    return serial(
        conv(width, (3, 3), None, "SAME", 1.3, 0.1),
        residual(block),
        layer_norm(),
        erf(),
        avg_pool((2, 2), (2, 2)),
        conv(width, (2, 2), W_std=1.2),
        gelu(),
        global_avg_pool(),
        dense(1, 1.2, 0.1),
    )


@pytest.mark.slow
def test_the_mean_of_wide_finite_networks_of_images_is_it():
    x, draws = jnp.asarray(RNG.standard_normal((4, 4, 4, 2)), jnp.float32), 200
    expected = np.asarray(wide(1).kernel_fn(x, get="ntk"), np.float64)
    module = wide(96).module
    init = jax.jit(lambda key: module.init(key, x))
    # One program for all draws.
    kernel_fn = nt.empirical_ntk_fn(module.apply)
    sampled = [kernel_fn(x, None, init(jax.random.key(draw))) for draw in range(draws)]
    error = np.mean(np.asarray(sampled, np.float64), axis=0) - expected
    # A draw is off by about 0.18, so the mean of 200 by 0.013; a formula that is a tenth off fails.
    assert np.abs(error).max() < 0.05 * expected.max()


# --- laws --------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", NETS)
def test_kernels_are_symmetric_positive_and_the_same_block_by_block(name):
    net = NETS[name][0]
    both = np.concatenate([X1, X2])
    whole = np.asarray(net.kernel_fn(both, get="ntk"))
    assert_allclose(whole, whole.T, rtol=1e-12)
    assert np.linalg.eigvalsh(whole)[0] > 0
    assert_allclose(net.kernel_fn(X2, both, get="ntk"), whole[3:], rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
def test_without_a_pool_only_positions_with_themselves_are_kept():
    reads = []

    def expectations(p):
        reads.append(p.apart.shape)
        return 0.25 * p.nngp, 0.25 * jnp.ones_like(p.nngp)

    half = elementwise(lambda x: 0.5 * x, expectations)
    x = jnp.asarray(X1)
    serial(conv(1, (2, 2)), half, flatten(), dense(1)).kernel_fn(x)
    assert set(reads) == {(4, 3)}
    reads.clear()
    serial(conv(1, (2, 2)), half, global_avg_pool(), dense(1)).kernel_fn(x)
    assert (4, 3, 4, 3) in reads


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
def test_a_sum_of_branches_with_and_without_a_pool():
    net = add(
        serial(conv(1, (2, 2)), relu(), global_avg_pool(), dense(1)),
        serial(flatten(), dense(1)),
    )
    parts = [
        serial(conv(1, (2, 2)), relu(), global_avg_pool(), dense(1)).kernel_fn(X1),
        dense(1).kernel_fn(X1.reshape(3, -1)),
    ]
    got = net.kernel_fn(X1)
    assert_allclose(got.ntk, parts[0].ntk + parts[1].ntk, rtol=1e-12)
    assert_allclose(got.nngp, parts[0].nngp + parts[1].nngp, rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
def test_images_of_other_sizes_meet_after_a_global_pool():
    small = RNG.standard_normal((2, 3, 4, 2))
    net = serial(conv(1, (2, 2)), relu(), global_avg_pool(), dense(1))
    cross = net.kernel_fn(X1, small, "ntk")
    assert cross.shape == (3, 2)
    assert_allclose(cross, np.asarray(net.kernel_fn(small, X1, "ntk")).T, rtol=1e-12)
    with pytest.raises(ValueError, match="need global_avg_pool"):
        serial(conv(1, (2, 2)), flatten()).kernel_fn(X1, small)


BAD = {
    "rows": (lambda: conv(1, (2,)).kernel_fn(np.ones((3, 4), np.float32)), "reads examples"),
    "axes": (lambda: conv(1, (2,)).kernel_fn(X1), "has 1 axes of positions; .* has 2"),
    "window": (lambda: conv(1, (6, 2)).kernel_fn(X1), "window of 6 does not fit into 5"),
    "end": (lambda: conv(1, (2, 2)).kernel_fn(X1), "an output at each position"),
    "activation": (
        lambda: serial(conv(1, (2, 2)), flatten(), sin(), dense(1)).kernel_fn(X1),
        "an activation has a closed form for normal signals only",
    ),
    "padding": (lambda: conv(1, (2, 2), padding="REFLECT"), "padding must be one of VALID"),
    "width": (lambda: conv(0, (2, 2)), "conv needs width >= 1"),
    "filter": (lambda: conv(1, ()), "filter_shape must hold a size"),
    "strides": (lambda: avg_pool((2, 2), (2,)), "strides must be one for each axis"),
    "get": (lambda: identity().kernel_fn(np.ones((2, 2), np.float32), get="cntk"), "get must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused_in_words(name):
    call, said = BAD[name]
    with pytest.raises(ValueError, match=said):
        call()


# --- the names of neural-tangents --------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_stax_names_build_the_same_networks():
    stax = nt.stax
    init_fn, apply_fn, kernel_fn = stax.serial(
        stax.Conv(8, (2, 2), padding="SAME", W_std=1.3, b_std=0.1),
        stax.Relu(do_stabilize=True),
        stax.FanOut(2),
        stax.parallel(stax.Identity(), stax.Conv(8, (1, 2), None, "CIRCULAR")),
        stax.FanInSum(),
        stax.AvgPool((2, 2)),
        stax.Flatten(),
        stax.Dense(3, 1.2, 0.1),
    )
    net = serial(
        conv(8, (2, 2), None, "SAME", 1.3, 0.1),
        relu(),
        residual(conv(8, (1, 2), None, "CIRCULAR")),
        avg_pool((2, 2)),
        flatten(),
        dense(3, 1.2, 0.1),
    )
    both = kernel_fn(X1, X2)
    assert_allclose(both.ntk, net.kernel_fn(X1, X2, "ntk"), rtol=1e-12)
    shape, params = init_fn(jax.random.key(0), (-1, 5, 4, 2))
    assert shape == (-1, 3)
    assert apply_fn(params, X1).shape == (3, 3)


def test_every_stax_name_is_there_or_says_what_to_do():
    from kernlens.ntk import stax

    for name in stax.NAMES:
        assert callable(getattr(stax, name))
    for name, remedy in stax.ABSENT.items():
        assert name not in stax.NAMES
        with pytest.raises(AttributeError) as told:
            getattr(stax, name)
        assert remedy in str(told.value)
    with pytest.raises(AttributeError, match="has no Convolution; it has Abs, AvgPool, Conv,"):
        stax.Convolution  # noqa: B018


STAX_BAD = {
    "order": (
        lambda: nt.stax.serial(nt.stax.FanInSum()),
        "in a row inside of serial; got FanInSum",
    ),
    "count": (
        lambda: nt.stax.serial(
            nt.stax.FanOut(3), nt.stax.parallel(identity(), dense(1)), nt.stax.FanInSum()
        ),
        r"FanOut\(3\) leads to 2 branches",
    ),
    "axis": (lambda: nt.stax.Dense(1, channel_axis=1), "channels last"),
    "numbers": (
        lambda: nt.stax.Conv(1, (2, 2), dimension_numbers=("NCHW", "OIHW", "NCHW")),
        "transpose the inputs first",
    ),
    "gelu": (lambda: nt.stax.Gelu(approximate=True), "approximate=False"),
    "norm": (lambda: nt.stax.LayerNorm(axis=(1, 2)), "over the channels"),
    "edges": (lambda: nt.stax.AvgPool((2, 2), padding="SAME", normalize_edges=True), "zeros"),
}


@pytest.mark.parametrize("name", STAX_BAD)
def test_stax_arguments_without_a_counterpart_are_refused(name):
    call, said = STAX_BAD[name]
    with pytest.raises(ValueError, match=said):
        call()
