"""Moments and scores against limits: their own multiplications, peers, a disk, float64, a click."""
