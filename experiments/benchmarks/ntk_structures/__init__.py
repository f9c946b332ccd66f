"""Tangent kernels of models as libraries write them, against the same models written plainly."""
