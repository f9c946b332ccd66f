"""Parts of the benchmark of tangent kernels: what is measured against limits, how it is shown."""
