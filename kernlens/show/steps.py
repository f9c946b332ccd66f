"""How far a long piece of work is, for whoever listens.

What takes long goes through its parts by :func:`steps`, or tells by :func:`at` how far it is.
Parts may have parts of their own. The command line listens, and draws a bar; without a listener
nothing is done.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")


class Step(NamedTuple):
    """One part of some work.

    Attributes:
      name: of the part that is done now, or "".
      done: parts before it.
      total: parts in all.
    """

    name: str
    done: int
    total: int


Listener = Callable[[tuple[Step, ...]], None]
"""Is given the steps that are open, outermost first, each time that one begins or ends."""

_OPEN: ContextVar[tuple[Step, ...]] = ContextVar("_OPEN", default=())
_LISTENER: ContextVar[Listener | None] = ContextVar("_LISTENER", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Has a listener told of the steps that are taken inside."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def steps(parts: Iterable[_T], name: Callable[[_T], str] = str) -> Iterator[_T]:
    """Goes through the parts of some work, and tells which one begins.

    Args:
      parts: of the work, about equally long.
      name: what to call a part; its text by default.

    Returns:
      An iterator over the parts.

    Examples:
      >>> with listening(lambda steps: print(*steps)):
      ...     for part in steps(["a", "b"]):
      ...         pass
      Step(name='a', done=0, total=2)
      Step(name='b', done=1, total=2)
      Step(name='', done=2, total=2)
    """
    parts, outer = list(parts), _OPEN.get()
    try:
        for done, part in enumerate(parts):
            _tell((*outer, Step(name(part), done, len(parts))))
            yield part
        _tell((*outer, Step("", len(parts), len(parts))))
    finally:
        _OPEN.set(outer)


def at(name: str, done: int, total: int) -> None:
    """Tells how far the part of the work is that is done now, where a callback says so.

    Args:
      name: of what is done.
      done: parts that are done.
      total: parts in all.
    """
    listener = _LISTENER.get()
    if listener is not None:
        listener((*_OPEN.get(), Step(name, done, total)))


def fraction(open_steps: tuple[Step, ...]) -> float:
    """Share of the work that is done, in ``[0, 1]``, with parts of one level equally long.

    Examples:
      >>> fraction((Step("a", 1, 2), Step("b", 2, 4)))
      0.75
    """
    found, share = 0.0, 1.0
    for step in open_steps:
        if step.total:
            share /= step.total
            found += share * step.done
    return min(found, 1.0)


def _tell(now: tuple[Step, ...]) -> None:
    listener = _LISTENER.get()
    if listener is not None:
        _OPEN.set(now)
        listener(now)
