"""Training: the loop, pretraining, heads and recommenders on a frozen embedding."""
