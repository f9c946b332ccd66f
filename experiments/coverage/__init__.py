"""What has no moments, under study for coverage: scores of rows, and probes."""
