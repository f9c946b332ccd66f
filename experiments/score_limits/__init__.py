"""Parts of the benchmark of scores: what is measured, each part of it, and how it is shown."""
