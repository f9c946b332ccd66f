"""Moments on an engine of map-reduce: an example."""
