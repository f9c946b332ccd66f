"""Recommenders: two towers trained on next-item examples, many runs in one program.

A run is one table of item embeddings and one seed. Rows of like length make a batch, so little of
it is padding; the runs of all tables and seeds are trained together by `loop.fit`.
"""

from kernlens.train.recommend.batches import Batch
from kernlens.train.recommend.fits import NextItemLoss, Shared, fit
from kernlens.train.recommend.trained import Trained, item_vectors, place, queries, scores

__all__ = [
    "Batch",
    "NextItemLoss",
    "Shared",
    "Trained",
    "fit",
    "item_vectors",
    "place",
    "queries",
    "scores",
]
