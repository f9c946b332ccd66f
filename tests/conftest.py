"""Settings every test runs under: strict dtype promotion, and the same examples every time."""

import atexit
import os
import shutil
import tempfile

# Tests compile the same programs over and over: a file, a closure and a process each its own. The
# folder is of this run alone, and its workers and commands share it. JAX reads it when imported.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _folder = tempfile.mkdtemp(prefix="kernlens-tests-")
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": _folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
# A run once hung where programs that each decompose a batch of matrices ran at once on two cores,
# each waiting for jaxlib's pool, it seemed; so none is begun before the last has ended.
jax.config.update("jax_cpu_enable_async_dispatch", False)
hypothesis.settings.register_profile("seeded", derandomize=True, deadline=None)
hypothesis.settings.load_profile("seeded")


@pytest.fixture(scope="module", autouse=True)
def _programs_end_with_their_module():
    """Compiled programs of one file serve no other, and all of them together take gigabytes."""
    yield
    jax.clear_caches()
