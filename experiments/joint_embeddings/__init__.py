"""Behaviour and text together: does a kernel learnt in closed form serve trained classifiers?"""
