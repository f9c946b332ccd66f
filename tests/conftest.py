"""Settings every test runs under: strict dtype promotion."""

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
