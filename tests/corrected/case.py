"""One wrong number of the past, with what is right."""

from collections.abc import Callable
from typing import NamedTuple


class Case(NamedTuple):
    """A call that once gave a wrong number.

    Attributes:
      fault: what was wrong, in a few words; unique.
      call: the call, as a user would write it.
      before: what it gave at commit 80a88df: a number, or words such as ``"TypeError"``.
      right: a number from an independent reference, or words.
      measure: gives what the call returns now, in the type of ``right``.
      tolerance: largest distance of a number to ``right``; a wrong ``before`` lies further off.
      digits: significant digits on the page.
    """

    fault: str
    call: str
    before: float | str
    right: float | str
    measure: Callable[[], float | str]
    tolerance: float = 0.0
    digits: int = 4

    def is_right(self, value: float | str) -> bool:
        """Whether a value is the right one, within the tolerance."""
        if isinstance(value, str) or isinstance(self.right, str):
            return value == self.right
        return abs(value - self.right) <= self.tolerance

    def shown(self, value: float | str) -> str:
        """A value as the page prints it."""
        return value if isinstance(value, str) else f"{value:.{self.digits}g}"
