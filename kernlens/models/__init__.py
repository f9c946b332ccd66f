"""Flax modules: encoders of items, decoders, towers of recommenders, and text encoders."""
