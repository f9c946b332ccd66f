r"""NNGP and tangent kernels of infinitely wide networks, in closed form, layer by layer.

A :class:`Layer` is one definition with two faces: ``module``, a Flax module of finite width, and
``kernel_fn``, the kernels of the same architecture and initialisation as all widths grow. Layers
compose, and what they compose to is a layer:

    net = serial(dense(512, W_std=1.5, b_std=0.1), relu(), dense(1))
    net.kernel_fn(x1, x2).ntk                              # infinite width, [n1, n2]
    params = net.module.init(key, x1)                      # the finite network of width 512
    kernel = functools.partial(net.kernel_fn, get="ntk")   # goes wherever a kernel goes

Scales, parameterisations and the calling convention are those of neural-tangents' ``stax``.
"""

from kernlens.ntk.infinite.affine import dense
from kernlens.ntk.infinite.images import avg_pool, conv, flatten, global_avg_pool
from kernlens.ntk.infinite.inputs import lookup, mean_pool, two_tower
from kernlens.ntk.infinite.layers import (
    Layer,
    add,
    elementwise,
    identity,
    layer_norm,
    residual,
    serial,
)
from kernlens.ntk.infinite.nonlinearities import (
    NONLINEARITIES,
    cos,
    erf,
    gelu,
    leaky_relu,
    relu,
    sin,
)

__all__ = [
    "NONLINEARITIES",
    "Layer",
    "add",
    "avg_pool",
    "conv",
    "cos",
    "dense",
    "elementwise",
    "erf",
    "flatten",
    "gelu",
    "global_avg_pool",
    "identity",
    "layer_norm",
    "leaky_relu",
    "lookup",
    "mean_pool",
    "relu",
    "residual",
    "serial",
    "sin",
    "two_tower",
]
