"""Trained outcomes: classifiers fitted to a frozen embedding, over seeds, on held-out rows.

A prediction is checked against these. A seed fixes the split of a classifier and its
initialisation. A split standardises the columns by the mean and the standard deviation of its own
training rows, so an outcome does not depend on the scale or the place of the embedding, and no
classifier learns from a row that is held out.
"""

from kernlens.train.heads.heads import Trained, classify, train
from kernlens.train.heads.splits import stratified_split
from kernlens.train.heads.svm import kernel_svm

__all__ = ["Trained", "classify", "kernel_svm", "stratified_split", "train"]
