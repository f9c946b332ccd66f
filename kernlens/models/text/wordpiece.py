"""WordPiece: texts -> token ids."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files


def read_json(path: Path) -> Any:
    """Content of a JSON file; a missing one is a FileNotFoundError, a damaged one a ValueError."""
    try:
        return json.loads(files.existing(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON (truncated or damaged?): {error}") from error


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder: ``tokenizer.json`` whole, or ``vocab.txt`` with BERT's rules.

    Args:
      folder: holds one of the two; a ``tokenizer_config.json`` next to a ``vocab.txt`` says whether
        text is lowercased (it is by default), accents are stripped (by default if lowercased) and
        Chinese characters stand alone (they do by default).

    Returns:
      A `tokenizers.Tokenizer` that neither cuts nor fills.

    Raises:
      ImportError: tokenizers is not installed; names the extra.
      FileNotFoundError: neither file is there.
      ValueError: a damaged file, a vocabulary without [UNK], or a tokenizer that does not put [CLS]
        before and [SEP] behind.
    """
    package = files.optional("tokenizers", extra="text")
    whole, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    path = whole if whole.exists() else files.existing(vocabulary, ("tokenizer.json or vocab.txt",))
    try:
        if path == whole:
            tokenizer = package.Tokenizer.from_file(str(path))
        else:
            tokenizer = _from_vocabulary(package, path)
    except Exception as error:  # the package raises no narrower class
        raise ValueError(f"{path}: not a WordPiece tokenizer (damaged?): {error}") from error
    if tokenizer.token_to_id("[UNK]") is None:
        raise ValueError(f"{path}: the vocabulary lacks [UNK]; expected it, for unknown words")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    around = tokenizer.encode("").tokens
    if around != ["[CLS]", "[SEP]"]:
        raise ValueError(
            f"{path}: gives {around} for an empty text; expected ['[CLS]', '[SEP]'], as BERT's does"
        )
    return tokenizer


def _from_vocabulary(package: Any, path: Path) -> Any:
    beside = path.with_name("tokenizer_config.json")
    rules = read_json(beside) if beside.exists() else {}
    vocabulary = package.models.WordPiece.read_file(str(path))
    return package.BertWordPieceTokenizer(
        vocabulary,
        lowercase=rules.get("do_lower_case", True),
        strip_accents=rules.get("strip_accents"),
        handle_chinese_chars=rules.get("tokenize_chinese_chars", True),
    )


class Pieces(NamedTuple):
    """Token ids of texts.

    Attributes:
      ids: ids of each text, int32 ``[t]``, [CLS] first and [SEP] last.
      read: tokens of each text that are kept and are not [UNK], those two aside, int32 ``[n]``.
      total: tokens of each text, those two aside, int32 ``[n]``.
    """

    ids: list[np.ndarray]
    read: np.ndarray
    total: np.ndarray


def tokenise(tokenizer: Any, texts: Sequence[str], max_length: int) -> Pieces:
    """Token ids of each text; a longer text loses what stands before the closing [SEP].

    Args:
      tokenizer: as :func:`read_tokenizer` gives it.
      texts: any strings.
      max_length: most tokens of a text, [CLS] and [SEP] among them; at least 2.

    Returns:
      Token ids, and what of the texts they hold.
    """
    unknown = tokenizer.token_to_id("[UNK]")
    whole = [np.asarray(encoding.ids, np.int32) for encoding in tokenizer.encode_batch(list(texts))]
    kept = [
        np.append(ids[: max_length - 1], ids[-1]) if len(ids) > max_length else ids for ids in whole
    ]
    return Pieces(
        kept,
        np.array([np.sum(ids[1:-1] != unknown) for ids in kept], np.int32),
        np.array([len(ids) - 2 for ids in whole], np.int32),
    )
