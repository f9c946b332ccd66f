"""Claim 1 among recommenders: does a head unlike the pretraining's make runs differ more?"""
