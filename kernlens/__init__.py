"""See what a pretrained embedding will do downstream, before you train anything."""

import os
from importlib.metadata import version

# LAPACK's threads wait for more work at full speed, by default some 20 ms, and take a core from
# XLA. Less than a millisecond (2**20 cycles) is enough within a factorisation.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

from kernlens.lens import compare, predict

__version__ = version("kernlens")

__all__ = ["__version__", "compare", "predict"]
