"""Embeddings of texts: each distinct text is encoded once and kept on disk."""

import functools
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from kernlens.files import write_atomically
from kernlens.models.text.batching import Encoded, batches, by_length, distinct, filled
from kernlens.models.text.bert import Tokens
from kernlens.models.text.wordpiece import tokenise
from kernlens.types import Array, Params

ProgressFn: TypeAlias = Callable[[int, int], Any]
"""``progress(done, total)``, in distinct texts."""

_CHUNK = 1024


class TextEncoder(NamedTuple):
    """A sentence encoder with its weights and its tokenizer.

    Attributes:
      module: Flax module from :class:`Tokens` to embeddings.
      params: its parameters; `_replace` them with fine-tuned ones.
      tokenizer: as :func:`kernlens.models.text.wordpiece.read_tokenizer` gives it.
      max_length: tokens of a text beyond which it is cut, unless told otherwise.
      positions: most tokens the module can take.
    """

    module: nn.Module
    params: Params
    tokenizer: Any
    max_length: int
    positions: int


def encode(
    texts: Iterable[str],
    model: TextEncoder,
    *,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: ProgressFn | None = None,
    cache: str | Path | None = None,
) -> Encoded:
    """Embeds texts.

    A text that occurs more than once is computed once. Texts are sorted by length and filled up to
    one of few lengths (6, 8, 12, 16, 24, …), so that little is computed in vain and little is
    compiled. An empty text is embedded as [CLS] [SEP]; characters that the vocabulary lacks as
    [UNK].

    Args:
      texts: strings; empty ones are allowed.
      model: the encoder.
      batch_size: texts a step, of up to 64 tokens each; of longer ones fewer.
      max_length: tokens of a text, [CLS] and [SEP] among them, beyond which it is cut, so that
        ``read`` falls short of ``total``; by default ``model.max_length``.
      progress: told of texts done and texts in all, distinct ones, after each step.
      cache: folder in which to keep embeddings, made where it lacks. A file holds those of about
        a thousand texts, under a fingerprint of the weights, the module and the token ids, so a run
        that was interrupted resumes, and a damaged file is computed again.

    Returns:
      Embeddings and how much of each text they were made of, in the order of the texts; [CLS] and
      [SEP] are not counted.

    Raises:
      ValueError: texts that are one string or hold what is no text; ``batch_size`` below 1;
        ``max_length`` outside 2 to the positions of the model; a cache that is a file; embeddings
        that are not finite.
    """
    once, place = distinct(texts)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    limit = length_limit(model, max_length)
    pieces = tokenise(model.tokenizer, once, limit)
    order = by_length(pieces.ids)
    store = None if cache is None else _Store(Path(cache), model)
    found = np.zeros((len(once), _dim(model)), np.float32)
    for start in range(0, len(once), _CHUNK):
        rows = order[start : start + _CHUNK]
        chunk = [pieces.ids[row] for row in rows]

        def tell(done: int, start: int = start) -> None:
            if progress is not None:
                progress(start + done, len(once))

        kept = None if store is None else store.read(chunk, found.shape[1])
        if kept is None:
            kept = _embed(model, chunk, batch_size, limit, tell)
            if store is not None:
                store.write(chunk, kept)
        else:
            tell(len(chunk))
        found[rows] = kept
    return Encoded(found[place], pieces.read[place], pieces.total[place])


def tokens(texts: Iterable[str], model: TextEncoder, *, max_length: int | None = None) -> Tokens:
    """Token ids of texts as one array, to train with or to take a kernel of.

    Args:
      texts: strings, at least one.
      model: the encoder.
      max_length: as in :func:`encode`.

    Returns:
      Tokens ``[n, t]``, t the length of the longest text.

    Raises:
      ValueError: as :func:`encode`.

    Examples:
      >>> from tokenizers import Tokenizer, models, processors
      >>> from kernlens.models import text
      >>> words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "tea": 4, "milk": 5}
      >>> tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
      >>> tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
      >>> module = text.SentenceEncoder(text.Bert(6, 8, 2, 2, 16), pooling=text.mean_pooling)
      >>> model = text.TextEncoder(module, {}, tokenizer, 16, 512)
      >>> tokens(["tea", "milk"], model).ids.tolist()
      [[2, 4, 3], [2, 5, 3]]
    """
    once, place = distinct(texts)
    if not once:
        raise ValueError("no texts; expected at least one")
    ids = tokenise(model.tokenizer, once, length_limit(model, max_length)).ids
    wide = filled(ids, len(ids), max(map(len, ids)))
    return Tokens(wide.ids[place], wide.mask[place])


def length_limit(model: TextEncoder, max_length: int | None) -> int:
    """The most tokens of a text: the given number, or the model's own; ValueError if too many."""
    limit = model.max_length if max_length is None else max_length
    if not 2 <= limit <= model.positions:
        raise ValueError(f"max_length must be in 2..{model.positions}; got {limit}")
    return limit


def _dim(model: TextEncoder) -> int:
    example = Tokens(np.zeros((1, 2), np.int32), np.ones((1, 2), bool))
    return jax.eval_shape(model.module.apply, model.params, example).shape[-1]


def _embed(
    model: TextEncoder,
    chunk: list[np.ndarray],
    batch_size: int,
    limit: int,
    tell: Callable[[int], None],
) -> np.ndarray:
    """Embeddings of texts that come sorted by length."""
    parts = []
    for start, stop, batch in batches(chunk, batch_size, limit):
        out = np.asarray(_apply(model.params, batch, module=model.module), np.float32)
        parts.append(out[: stop - start])
        tell(stop)
    found = np.concatenate(parts)
    if not np.isfinite(found).all():
        raise ValueError("the encoder gives NaN or infinity; are its parameters finite?")
    return found


@functools.partial(jax.jit, static_argnames=("module",))
def _apply(params: Params, batch: Tokens, *, module: nn.Module) -> Array:
    return module.apply(params, batch)  # pyright: ignore[reportReturnType]


class _Store:
    """Embeddings on disk, a file a chunk, named by all that they depend on."""

    def __init__(self, folder: Path, model: TextEncoder):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: is a file; expected a folder to keep embeddings in")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._model = model_digest(model)

    def _path(self, chunk: list[np.ndarray]) -> Path:
        # The ids are what is left of the texts, the tokenizer and the length where texts are cut.
        return self._folder / f"{digest(self._model, chunk)}.npz"

    def read(self, chunk: list[np.ndarray], dim: int) -> np.ndarray | None:
        """Embeddings of a chunk; None where there are none, or none that can be read."""
        try:
            # Opened here, since NumPy leaves a damaged file open.
            with self._path(chunk).open("rb") as file:
                found = np.load(file, allow_pickle=False)["embeddings"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return found if found.shape == (len(chunk), dim) and found.dtype == np.float32 else None

    def write(self, chunk: list[np.ndarray], embeddings: np.ndarray) -> None:
        """Keeps the embeddings of a chunk."""
        content = io.BytesIO()
        np.savez(content, embeddings=embeddings)
        write_atomically(self._path(chunk), content.getvalue())


def model_digest(model: TextEncoder) -> str:
    """Fingerprint of an encoder's module and weights."""
    leaves = sorted(flatten_dict(model.params).items())
    names = [str(path) for path, _ in leaves]
    return digest(f"{_description(model.module)} {names}", [leaf for _, leaf in leaves])


def digest(start: str, arrays: Iterable[Any]) -> str:
    """SHA-256 of a text and of arrays, their shapes and dtypes among it, in hexadecimal."""
    total = hashlib.sha256(start.encode())
    for array in arrays:
        values = np.ascontiguousarray(array)
        total.update(f"{values.dtype} {values.shape}".encode() + values.tobytes())
    return total.hexdigest()


def _description(module: nn.Module) -> str:
    """Class and fields of a module; a function by its name, since its repr is an address."""
    fields = []
    for name in sorted(module.__dataclass_fields__):
        value = getattr(module, name)
        if isinstance(value, nn.Module):
            value = _description(value) if name != "parent" else None
        elif callable(value):
            value = f"{value.__module__}.{getattr(value, '__qualname__', value)}"
        fields.append(f"{name}={value}")
    return f"{type(module).__name__}({', '.join(fields)})"
