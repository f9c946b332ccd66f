"""Speed of contrastive pretraining against gensim's skip-gram, quality held beside it."""
