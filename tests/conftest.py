"""Settings every test runs under: strict dtype promotion, one CPU, a compile cache."""

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
