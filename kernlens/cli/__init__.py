"""The command ``kernlens``: the only place where a word typed becomes a function.

Exit codes: 0 done, 1 an input cannot be used or a gate is not passed, 2 a wrong command line, 70 a
fault of kernlens, 130 interrupted.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import tyro

from kernlens import interrupts
from kernlens.cli.compare import Compare, compare
from kernlens.cli.diagnose import Diagnose, diagnose
from kernlens.cli.embed import Embed, embed
from kernlens.cli.fuse import Fuse, fuse
from kernlens.cli.predict import Predict, predict
from kernlens.cli.score import Score, score
from kernlens.cli.stability import Stability, stability
from kernlens.cli.upgrade import Upgrade, upgrade
from kernlens.files import use_compilation_cache
from kernlens.show import terminal
from kernlens.show.table import one_line, printable

FAULT = 70
"""Exit code where it is not the user's files or words that are wrong."""

DESCRIPTION = (
    "See what a pretrained embedding will do downstream, before you train anything. "
    "`kernlens --version` prints the version."
)


@dataclass(frozen=True)
class _Demo:
    """Predicts, then trains, a small grid of item embeddings, and sets the two side by side.

    Example: kernlens demo --short
    """


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
            config = _parse(argv)
            if config.cache:
                use_compilation_cache()
            VERBS.get(type(config), _run_demo)(config)
    except SystemExit as stop:
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
        told = f"unexpected {type(error).__name__}: {error}"
        return _told(f"{told}; a fault of kernlens; KERNLENS_TRACEBACK=1 shows where", FAULT)
    return 0


def _told(error: str, code: int = 1) -> int:
    """Prints an error on one line; the exit code that goes with it."""
    print("error:", one_line(error), file=sys.stderr)
    return code


VERBS: dict[type, Callable[[Any], None]] = {
    Predict: predict,
    Compare: compare,
    Upgrade: upgrade,
    Stability: stability,
    Fuse: fuse,
    Diagnose: diagnose,
    Score: score,
    Embed: embed,
}
"""What each verb's options run."""


def _parse(argv: list[str]) -> Any:
    demo: Any = _Demo
    if argv[:1] == ["demo"]:
        demo = _demo_config()
    return tyro.extras.subcommand_cli_from_dict(
        {
            "predict": Predict,
            "compare": Compare,
            "upgrade": Upgrade,
            "stability": Stability,
            "fuse": Fuse,
            "diagnose": Diagnose,
            "score": Score,
            "embed": Embed,
            "demo": demo,
        },
        prog="kernlens",
        description=DESCRIPTION,
        args=argv,
    )


def _demo_config() -> type:
    """The demo's options and the command's own; made late, for the demo imports all of kernlens."""
    from kernlens import demo

    @dataclass(frozen=True)
    class Demo(demo.Config):
        cache: bool = True
        """Keep compiled programs for the next run, in KERNLENS_CACHE or the user's cache folder."""

    Demo.__doc__ = demo.Config.__doc__
    return Demo


def _run_demo(config: Any) -> None:
    from kernlens import demo

    demo.run(config)
