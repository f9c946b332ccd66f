"""Text encoders: published BERTs in Flax, other embeddings of texts, and fine-tuning."""

from kernlens.text.baselines import glove, tfidf_svd, universal_sentence_encoder
from kernlens.text.batching import Encoded
from kernlens.text.bert import (
    POOLINGS,
    Bert,
    SentenceEncoder,
    Tokens,
    first_pooling,
    mean_pooling,
)
from kernlens.text.encoding import TextEncoder, encode, tokens
from kernlens.text.folder import load, minilm_folder
from kernlens.text.last_layer import FineTuned, LastLayer, fine_tune, last_layer, with_last_layer
from kernlens.text.weights import read_weights, write_weights

__all__ = [
    "POOLINGS",
    "Bert",
    "Encoded",
    "FineTuned",
    "LastLayer",
    "SentenceEncoder",
    "TextEncoder",
    "Tokens",
    "encode",
    "fine_tune",
    "first_pooling",
    "glove",
    "last_layer",
    "load",
    "mean_pooling",
    "minilm_folder",
    "read_weights",
    "tfidf_svd",
    "tokens",
    "universal_sentence_encoder",
    "with_last_layer",
    "write_weights",
]
