"""Words typed at the command line and the functions that they stand for."""

import difflib
import importlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kernlens import targets
from kernlens.cli.names import names
from kernlens.types import Target

DECODERS = names("kernels.of_decoder", "DECODERS")
TREE_WORDS = names("kernels.of_decoder", "TREE_WORDS")
(TREES,) = names("kernels.of_decoder", "TREES")
KERNELS = names("kernels.closed_form", "KERNELS")
PROBES = names("probes.about", "PROBES")
DATASETS = names("datasets", "DATASETS")
SCORES = names("scores", "SCORES")
MAPS = names("lens.maps", "MAPS")
CLASS_METRICS = names("probes.logistic_path", "METRICS")


class Takes(NamedTuple):
    """What may follow the name of a decoder.

    Attributes:
      size: what the number is; "" where there is none.
      whole: whether it is a whole number of at least 1, and not only above 0.
      words: each sets a field.
      example: a word that is right.
    """

    size: str = ""
    whole: bool = True
    words: tuple[str, ...] = ()
    example: str = ""

    def expected(self) -> str:
        """The same in a sentence's part."""
        kind = "a whole number of at least 1" if self.whole else "a number above 0"
        parts = [f"{self.size}, {kind}"] if self.size else []
        parts += [f"any of the words {', '.join(self.words)}"] if self.words else []
        return f"{', or '.join(parts)}, as in {self.example}" if parts else "nothing"


TAKES = {
    "linear": Takes(),
    "inner-product": Takes(words=("priors",), example="inner-product:priors"),
    "cosine": Takes("the temperature", False, ("priors",), "cosine:0.5:priors"),
    "mlp": Takes("the width of the hidden layer", example="mlp:32"),
    "knn": Takes(
        "the number of neighbours", words=("euclidean", "cosine", "standardised"),
        example="knn:10:cosine",
    ),
}  # fmt: skip
"""What :data:`DECODERS` take after a colon, known without JAX; those that are not here, nothing."""

TARGETS: dict[str, Callable[[Any], Target]] = {
    "classes": targets.labels,
    "numbers": targets.values,
    "labels": targets.multi_labels,
}
"""What a label column may ask, by the word typed."""

METRICS = (
    *CLASS_METRICS, "r2", "rmse", "mae", "average_precision", *names("lens.next_items", "MEASURES")
)  # fmt: skip
"""What answers can be ordered by: of classes and labels, of numbers, of next items."""


def decoder(word: str) -> Any:
    """A decoder by name, ``mlp:32`` or ``knn:10:cosine`` with its fields, or ``module:name``.

    Args:
      word: one of :data:`kernlens.kernels.of_decoder.DECODERS`, with what it :data:`TAKES` after
        colons; or an importable module and the name of a decoder in it: a Flax module, its
        class, or a pair ``(init_fn, apply_fn)``.

    Returns:
      The decoder.

    Raises:
      ValueError: another word, a size out of its range, or a name that cannot be imported.
    """
    name, *given = word.split(":")
    if name in DECODERS:
        sizes = _sizes(word)
        from kernlens.kernels import of_decoder

        rule, fields = of_decoder.DECODERS[name], {}
        for part in given:
            fields |= rule.words.get(part, {})
        return rule.kind(*sizes, **fields)
    if name in TREE_WORDS:
        raise ValueError(f"--decoder {word}: {TREES}")
    if len(given) == 1:
        found = _imported("--decoder", word, DECODERS)
        return _made(word, found) if isinstance(found, type) else found
    raise ValueError(
        f"--decoder {word}: no such decoder{_meant(word, word, DECODERS)}; choose one of "
        f"{', '.join(DECODERS)}, with a size as in mlp:32, or module:name"
    )


def decoders(words: Sequence[str]) -> dict[str, Any] | None:
    """Decoders by the words that name them; None for no word."""
    return {word: decoder(word) for word in words} or None


def probe(word: str | None) -> Any:
    """A probe by name, or None."""
    from kernlens import probes

    return None if word is None else probes.PROBES[word]


def kernel(word: str | None) -> Any:
    """A kernel by name, or ``module:name``.

    Raises:
      ValueError: another word, a name that cannot be imported, or what is no function.
    """
    if word is None:
        return None
    if word in KERNELS:
        from kernlens import kernels

        return kernels.KERNELS[word]
    if ":" not in word:
        raise ValueError(
            f"--kernel {word}: no such kernel{_meant(word, word, KERNELS)}; choose one of "
            f"{', '.join(KERNELS)}, or module:name"
        )
    found = _imported("--kernel", word)
    if not callable(found):
        raise ValueError(f"--kernel {word}: expected a function (x1, x2) -> K; got {found!r}")
    return found


def head(word: str | None) -> Any:
    """A trained head by ``module:name``, or None.

    Raises:
      ValueError: a name that cannot be imported.
    """
    if word is None:
        return None
    if ":" not in word:
        raise ValueError(f"--head {word}: expected module:name of a trained head")
    return _imported("--head", word)


def check(config: Any) -> None:
    """Refuses decoders, kernels and heads that are unknown, or of which the size is wrong.

    Args:
      config: a command line, with some of these options.
    """
    given = getattr(config, "decoder", None)
    for word in (given,) if isinstance(given, str) else given or ():
        if word.partition(":")[0] in DECODERS:
            _sizes(word)
        else:
            decoder(word)
    word = getattr(config, "kernel", None)
    if word not in KERNELS:
        kernel(word)
    head(getattr(config, "head", None))


def _sizes(word: str) -> list[int | float]:
    """The number in a decoder's word, in a list, empty where there is none.

    Raises:
      ValueError: two numbers, one out of its range, or a word that the decoder does not take.
    """
    name, *given = word.split(":")
    takes = TAKES.get(name, Takes())
    numbers = [part for part in given if part not in takes.words]
    try:
        sizes = [(int if takes.whole else float)(part) for part in numbers]
        right = len(sizes) <= bool(takes.size) and all(0 < size < math.inf for size in sizes)
    except ValueError:
        right = False
    if not right:
        raise ValueError(
            f"--decoder {word}: after {name} comes {takes.expected()}; got {':'.join(numbers)!r}"
        )
    return sizes


def _made(word: str, kind: type) -> Any:
    try:
        return kind()
    except Exception as error:
        raise ValueError(
            f"--decoder {word}: {kind.__name__}() failed, a decoder needs defaults for all that it "
            f"takes: {type(error).__name__}: {error}"
        ) from error


def _imported(flag: str, word: str, known: Sequence[str] = ()) -> Any:
    module, _, name = word.partition(":")
    here = str(Path.cwd())
    # As `python -m` does: a researcher's module lies in the current folder.
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        meant = _meant(word, module, known) if error.name == module else ""
        raise ValueError(f"{flag} {word}: no module {error.name!r} to import{meant}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"{flag} {word}: importing {module} failed: {type(error).__name__}: {error}"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    if not hasattr(found, name):
        raise ValueError(f"{flag} {word}: the module {module} has no name {name!r}")
    if (named := getattr(found, name)) is None:
        raise ValueError(f"{flag} {word}: the name {name!r} of the module {module} is None")
    return named


def _meant(word: str, part: str, known: Sequence[str]) -> str:
    """Whether one of the words known was meant by part of a word, as a question."""
    near = difflib.get_close_matches(part.lower(), known, 1, 0.65)
    return f"; did you mean {word.replace(part, near[0], 1)}?" if near else ""
