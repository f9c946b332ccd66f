"""The demo: predict a small grid of embeddings of real grocery data, then train, and compare."""
