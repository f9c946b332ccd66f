"""Parts of the tournament of scores: embeddings, heads, rankers, what they come to, the figure."""
