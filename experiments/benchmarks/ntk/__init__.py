"""Time and memory of empirical NTKs against neural-tangents, kernels compared."""
