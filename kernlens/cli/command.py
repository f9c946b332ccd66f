"""The command ``kernlens``: the only place where a word typed becomes a function.

Exit codes: 0 done, 1 an input cannot be used or a gate is not passed, 2 a wrong command line, 70 a
fault of kernlens, 130 interrupted.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import tyro

from kernlens.cli import interrupts, typed
from kernlens.files import use_compilation_cache
from kernlens.show import terminal
from kernlens.show.table import one_line, printable

FAULT = 70
"""Exit code where it is not the user's files or words that are wrong."""

DESCRIPTION = (
    "See what a pretrained embedding will do downstream, before you commit to it. "
    "`kernlens --version` prints the version."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      argv: arguments after the command's name; those of the process by default.

    Returns:
      Exit code.
    """
    terminal.any_text()
    argv = list(sys.argv[1:] if argv is None else argv)
    # A wrong option is printed as it stands; a file name is escaped where it is shown.
    argv = [printable(word) if i == 0 or word[:1] == "-" else word for i, word in enumerate(argv)]
    if argv[:1] == ["--version"]:
        print(f"kernlens {version('kernlens')}")
        return 0
    try:
        with interrupts.prompt():
            verb, config = _parse(argv)
            typed.TYPED.set(argv)
            config.check()
            rows = config.read()
            if config.cache:
                use_compilation_cache()
            _answer(verb)(config, rows)
    except SystemExit as stop:
        if stop.code is None:  # a completion script was printed
            return 0
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return interrupts.EXIT
    except (ValueError, OSError, ImportError) as error:
        return _told(str(error))
    except MemoryError as error:
        return _told(f"needs more memory than there is: {error}")
    except Exception as error:
        if os.environ.get("KERNLENS_TRACEBACK"):
            raise
        if "RESOURCE_EXHAUSTED" in str(error):  # of XLA, whose error is no MemoryError
            return _told(f"needs more memory than there is: {error}")
        told = f"unexpected {type(error).__name__}: {error}"
        return _told(f"{told}; a fault of kernlens; KERNLENS_TRACEBACK=1 shows where", FAULT)
    return 0


def _told(error: str, code: int = 1) -> int:
    """Prints an error on one line; the exit code that goes with it."""
    print("error:", one_line(error), file=sys.stderr)
    return code


VERBS = (
    "predict", "compare", "upgrade", "stability", "fuse", "diagnose", "score", "embed", "demo",
)  # fmt: skip
"""Each is a dataclass in :mod:`kernlens.cli.options`, which checks and reads its files without JAX,
and a function of that and of what was read, in a module of its own."""


def _parse(argv: list[str]) -> tuple[str, Any]:
    """The verb and its options. A verb is parsed alone, so that errors are about it alone."""
    word = argv[0] if argv else ""
    if word in VERBS:
        return word, tyro.cli(_options(word), prog=f"kernlens {word}", args=argv[1:])
    if word and not word.startswith("-"):
        near = difflib.get_close_matches(word, VERBS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        told = f"no command {word!r}; {meant}there are {', '.join(VERBS)}"
        raise SystemExit(_told(told, 2))
    options = {name: _options(name) for name in VERBS}
    # Only help ends up here, or a lack of words, and both leave the process.
    tyro.extras.subcommand_cli_from_dict(
        options, prog="kernlens", description=DESCRIPTION, args=argv
    )
    raise SystemExit(2)


def _options(verb: str) -> Any:
    """The options of a verb; imported when they are needed."""
    return getattr(importlib.import_module(f"kernlens.cli.options.{verb}"), verb.capitalize())


def _answer(verb: str) -> Callable[[Any, Any], None]:
    """The function that answers a verb; it imports JAX."""
    return getattr(importlib.import_module(f"kernlens.cli.{verb}"), verb)
