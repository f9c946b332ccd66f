"""Claim 4, online: would choosing the embedding by kernel analysis have paid?"""
