"""See what a pretrained embedding will do downstream, before you train anything."""

from importlib.metadata import version

from kernlens.lens import compare, predict

__version__ = version("kernlens")

__all__ = ["__version__", "compare", "predict"]
