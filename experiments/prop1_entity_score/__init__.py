"""Claim 2: which training-free number tells how an embedding will classify items?"""
