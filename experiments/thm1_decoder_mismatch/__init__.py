"""Claim 1 (Theorem 1): does a decoder unlike the one of pretraining make runs differ more?"""
