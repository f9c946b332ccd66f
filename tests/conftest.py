"""Settings every test runs under: strict dtype promotion, and the same examples every time."""

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
