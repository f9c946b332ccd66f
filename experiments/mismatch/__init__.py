"""Parts of the experiment on Theorem 1: readers, the split of variances, the bounds."""
