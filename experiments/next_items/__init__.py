"""What the experiments on next items share: the data, what rankers are worth, the mixture."""
