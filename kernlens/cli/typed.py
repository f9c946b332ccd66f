"""What was typed, for a report to say how it is repeated."""

import shlex
from collections.abc import Sequence
from contextvars import ContextVar

TYPED: ContextVar[Sequence[str]] = ContextVar("TYPED", default=())
"""Words after the command's name."""


def command() -> str:
    """The command as a shell takes it."""
    return shlex.join(["kernlens", *TYPED.get()])
