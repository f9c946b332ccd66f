"""What the experiments on shift share: parts of the data, and proposition 1's inequality."""
