"""Text encoders: published BERTs in Flax, and other embeddings of texts."""

from kernlens.models.text.baselines import glove, tfidf_svd, universal_sentence_encoder
from kernlens.models.text.batching import Encoded
from kernlens.models.text.bert import (
    Bert,
    SentenceEncoder,
    Tokens,
    first_pooling,
    mean_pooling,
)
from kernlens.models.text.encoding import TextEncoder, encode, tokens
from kernlens.models.text.folder import load, minilm_folder
from kernlens.models.text.others import embed
from kernlens.models.text.weights import read_weights, write_weights

__all__ = [
    "Bert",
    "Encoded",
    "SentenceEncoder",
    "TextEncoder",
    "Tokens",
    "embed",
    "encode",
    "first_pooling",
    "glove",
    "load",
    "mean_pooling",
    "minilm_folder",
    "read_weights",
    "tfidf_svd",
    "tokens",
    "universal_sentence_encoder",
    "write_weights",
]
