"""Claim 3: does a training-free average of a history predict how trained recommenders do?"""
