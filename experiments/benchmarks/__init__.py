"""Speed and memory against peers and limits."""
