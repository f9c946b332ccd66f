"""Times of events, as many programs write them, in milliseconds since 1970."""

import numpy as np

from kernlens import files

UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
"""Milliseconds in a unit."""

_LARGEST = {"s": 1e11, "ms": 1e14, "us": 1e17}
_MOST = 2**62 / 1e3


def milliseconds(
    where: str, values: np.ndarray, missing: np.ndarray, *, unit: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds since 1970 of each row.

    Args:
      where: file and column, for errors.
      values: dates, numbers, or text of either, ``[n]``. Text without a zone is UTC.
      missing: which rows have none, bool ``[n]``.
      unit: of numbers: one of ``UNITS``, or ``"auto"``: seconds up to 10^11 (the year 5138),
        milliseconds up to 10^14, then microseconds and nanoseconds.

    Returns:
      int64 ``[n]``, 0 where missing; and which rows are missing, NaN included.

    Raises:
      ValueError: an unknown unit; text that is no time, numbers that are not finite or too large,
        with the row.
    """
    if unit not in ("auto", *UNITS):
        raise ValueError(f"{where}: time_unit must be auto, {', '.join(UNITS)}; got {unit!r}")
    if values.dtype.kind == "M":
        missing = missing | np.isnat(values)
        found = np.where(missing, np.datetime64(0, "ms"), values.astype("datetime64[ms]"))
        return found.astype(np.int64), missing
    if values.dtype.kind in "OUT":
        return _of_text(where, values, missing, unit)
    numbers = values.astype(np.float64)
    missing = missing | np.isnan(numbers)
    known = np.where(missing, 0.0, numbers)
    if unit == "auto":
        largest = float(np.abs(known).max(initial=0.0))
        unit = next((name for name, most in _LARGEST.items() if largest < most), "ns")
    beyond = ~np.isfinite(known) | (np.abs(known * UNITS[unit]) > _MOST)
    if beyond.any():
        row = int(np.argmax(beyond))
        raise ValueError(f"{where}, row {row}: found {values[row]}, no time in {unit} since 1970")
    if values.dtype.kind in "iu":  # exact, where floats would not be
        whole = np.where(missing, 0, values).astype(np.int64)
        divisor = {"us": 1000, "ns": 1_000_000}.get(unit, 1)
        return whole * int(max(UNITS[unit], 1)) // divisor, missing
    return np.floor(known * UNITS[unit]).astype(np.int64), missing


def _of_text(
    where: str, values: np.ndarray, missing: np.ndarray, unit: str
) -> tuple[np.ndarray, np.ndarray]:
    pandas = files.optional("pandas")
    # Few times are different where they are days, and each has to be read only once.
    inverse, found = pandas.factorize(values[~missing].astype(object))
    read, bad = np.zeros(len(found), np.int64), np.zeros(len(found), bool)
    numbers = pandas.to_numeric(pandas.Series(found, dtype=object), errors="coerce")
    if len(found) and numbers.notna().all():
        read, _ = milliseconds(where, numbers.to_numpy(), bad, unit=unit)
    elif len(found):
        parsed = pandas.to_datetime(
            pandas.Series(found, dtype=object), utc=True, format="ISO8601", errors="coerce"
        )
        bad = parsed.isna().to_numpy()
        read = parsed.dt.tz_convert(None).to_numpy().astype("datetime64[ms]").astype(np.int64)
    if bad[inverse].any():
        at = int(np.argmax(bad[inverse]))
        row = int(np.flatnonzero(~missing)[at])
        raise ValueError(
            f"{where}, row {row}: found {str(values[row])[:60]!r}; expected a time such as "
            "2024-05-01 13:30:00, 2024-05-01T13:30:00+02:00, or a number since 1970"
        )
    made = np.zeros(len(values), np.int64)
    made[~missing] = read[inverse]
    return made, missing
