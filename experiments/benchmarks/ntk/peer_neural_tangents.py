"""neural-tangents' side of the NTK benchmark; runs in that package's own environment.

`experiments.benchmarks.ntk --peer PYTHON` starts it, by the Python of that environment.
"""

import importlib.metadata
import os
import warnings
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.simplefilter("ignore")

import neural_tangents as nt  # noqa: E402  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.ntk import tasks  # noqa: E402

METHODS = {
    "jacobian contraction": nt.NtkImplementation.JACOBIAN_CONTRACTION,
    "vector products": nt.NtkImplementation.NTK_VECTOR_PRODUCTS,
    "structured derivatives": nt.NtkImplementation.STRUCTURED_DERIVATIVES,
}


def kernel_of(problem: tasks.Problem, trace_axes: tuple[int, ...], method: str) -> Any:
    """The kernel by one implementation, rows mapped over as its documentation advises."""
    kernel = nt.empirical_ntk_fn(
        problem.f, trace_axes=trace_axes, vmap_axes=0, implementation=METHODS[method]
    )
    return lambda x, params: kernel(x, None, params)


if __name__ == "__main__":
    names = ("neural-tangents", "jax", "jaxlib", "numpy")
    tasks.work(kernel_of, {name: importlib.metadata.version(name) for name in names})
