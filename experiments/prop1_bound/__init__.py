"""Claim 2, the inequality: does proposition 1 bound what the kernel classifier gets right?"""
