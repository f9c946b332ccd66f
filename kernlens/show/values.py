"""Values in JSON's types."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernlens.types import Interval


def to_json(value: Any) -> Any:
    """The value in JSON's types: tuples with names become objects, NaN and infinity null.

    An interval is its value and ends, and its null where it has one; its level is that of the file.
    """
    if isinstance(value, Interval):
        ends = {"value": value.value, "low": value.low, "high": value.high}
        return to_json(ends if value.null is None else {**ends, "null": value.null})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_json(value._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        # A results file names the data, not the machine it lay on; "." has a name too.
        return (value if value.name not in ("", "..") else value.resolve()).name
    tolist = getattr(value, "tolist", None)  # of arrays and scalars of NumPy and JAX
    if tolist is not None:
        return to_json(tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
