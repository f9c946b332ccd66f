"""The words of verdicts, one place for all verbs."""

BEST = "best"
WORSE = "worse"
TIED = "cannot be told apart from the best"
CHANCE = "no better than chance"
ABOVE = "better than chance"
ADDS = "adds"
LOSES = "loses"
UNCLEAR = "no gain shown"
ALONE = "alone"
STYLES = {
    BEST: "bold green", ABOVE: "green", TIED: "yellow", WORSE: "dim", CHANCE: "red",
    ADDS: "bold green", LOSES: "red", UNCLEAR: "yellow", ALONE: "dim",
}  # fmt: skip
"""Style of each in a terminal."""

FAULT = "fault"
INVALID = "the value is invalid"
STATED = "fact"
HARMLESS = "no gain shown"
OPEN = "asked"
ABSENT = "not found"
FINDING_STYLES = {FAULT: "bold red", INVALID: "bold red", OPEN: "yellow", HARMLESS: "dim"}
"""Style of each word of a diagnosis in a terminal."""
