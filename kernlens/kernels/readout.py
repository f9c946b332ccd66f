"""What a decoder is to a frozen embedding: a kernel, and how its features become classes."""

import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from kernlens.types import FeatureMap, Kernel


class Readout(enum.Enum):
    """How a decoder turns features into classes."""

    LINEAR = "linear"
    """Weights that are trained: the last layer of a network, or its tangent."""
    CLASS_MEANS = "class means"
    """Inner products with the mean features of each class."""
    NEIGHBOURS = "neighbours"
    """Votes of the rows whose features are nearest."""
    LAYERS = "layers"
    """Hidden layers that are trained as well: more than a kernel of their start can tell."""


class DecoderKernel(NamedTuple):
    """What a decoder is to a frozen embedding.

    Attributes:
      kernel: its kernel of rows.
      readout: how it turns the kernel's features into classes.
      feature_map: features of its own, exact or random, or None where only the kernel is known.
      sketch: ``p -> map``, random features whose inner products estimate the kernel without bias,
        for more rows than a kernel matrix allows; or None.
      standardised: whether it reads columns of mean 0 and standard deviation 1, as heads are
        trained on.
      options: keyword arguments of the probe that goes with the readout, such as ``priors``.
      penalty: of the weights on top in the recipe that trains it, or None where that is chosen.
    """

    kernel: Kernel
    readout: Readout = Readout.LINEAR
    feature_map: FeatureMap | None = None
    sketch: Callable[[int], FeatureMap] | None = None
    standardised: bool = False
    options: Mapping[str, Any] = MappingProxyType({})
    penalty: float | None = None
