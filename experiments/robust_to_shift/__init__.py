"""Robustness: do predictions made on weeks 1 to 40 hold for outcomes in weeks 41 to 53?"""
