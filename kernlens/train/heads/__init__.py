"""Trained outcomes: readers fitted to a frozen embedding, over seeds, measured on held-out rows.

This is what a prediction is held against. A seed fixes a reader's split and its initialisation. A
split standardises the columns by the mean and the standard deviation of its own training rows, so
an outcome does not depend on the scale or the place of the embedding, and no reader learns from a
row that is held out.
"""

from kernlens.train.heads.heads import classify
from kernlens.train.heads.splits import stratified_split
from kernlens.train.heads.svm import kernel_svm

__all__ = ["classify", "kernel_svm", "stratified_split"]
