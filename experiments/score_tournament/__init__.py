"""Which score to trust: all of them, over embeddings, tasks, label budgets and trained heads."""
