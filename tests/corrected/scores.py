"""scores."""

from tests.corrected.case import Case

CASES: tuple[Case, ...] = ()
