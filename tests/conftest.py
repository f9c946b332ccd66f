"""Settings every test runs under: strict dtype promotion, and the same examples every time."""

import hypothesis
import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
hypothesis.settings.register_profile("seeded", derandomize=True)
hypothesis.settings.load_profile("seeded")
