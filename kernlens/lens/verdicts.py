"""The words of verdicts, one place for all verbs."""

BEST = "best"
WORSE = "worse"
TIED = "cannot be told apart from the best"
CHANCE = "no better than chance"
ABOVE = "better than chance"
STYLES = {BEST: "bold green", ABOVE: "green", TIED: "yellow", WORSE: "dim", CHANCE: "red"}
"""Style of each in a terminal."""
