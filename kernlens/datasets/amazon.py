"""Amazon reviews: review files, ratings alone, and product metadata, of 2014, 2018 and 2023."""

import ast
import html
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files, targets
from kernlens.datasets import table
from kernlens.datasets.movielens import rating_filter
from kernlens.io import event_columns, raw, sheets
from kernlens.io.event_times import milliseconds
from kernlens.types import Interactions

_SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
_EXPECTED = (
    "<reviews>.json[.gz], .jsonl[.gz] or .csv[.gz]",
    "meta_<category>.json[.gz] or .jsonl[.gz] (optional)",
)
_FIELDS = (
    ("user_id", "parent_asin", "timestamp", "rating"),
    ("reviewerID", "asin", "unixReviewTime", "overall"),
)
"""User, item, time and rating: of 2023, and of 2018 and before."""

COLUMNS = ("user", "item", "rating", "time")
_ALT = re.compile(r"<img[^>]*\balt=\"([^\"]*)\"[^>]*>")
DUPLICATES = ("error", "first")


def load(
    root: str | Path | None = None,
    *,
    reviews: str | None = None,
    metadata: str | None = None,
    min_count: int = 5,
    min_rating: float | None = None,
    order: str = "time",
    ties: str = "shuffle",
    duplicates: str = "error",
    columns: Sequence[str] | None = None,
    seed: int = 0,
) -> Interactions:
    """Review histories of one Amazon category; one session a reviewer.

    Reviews are JSON lines, or ratings alone as csv: of 2023 with the header ``user_id,
    parent_asin, rating, timestamp``, of 2018 and 2014 without one. Items are ``parent_asin`` (2023)
    or ``asin``. Each line is a record, strict JSON or, in older files, a Python literal, which is
    read with a parser of literals. Such records have to be parsed line by line in Python: for a
    million reviews, seconds where they are JSON and minutes where they are literals.

    From metadata (2014: ``categories``, a list of paths; 2018: ``category``, one path; 2023:
    ``categories``, one path) come the labels ``main_category``, the first level (``main_cat`` or
    ``main_category`` where the record has one), and ``category``, the second level; a product
    without a second level has no ``category``. ``text`` is the title. HTML entities are decoded.
    Times are whole days before 2023, so ties within a user are many, and milliseconds in 2023.

    Args:
      root: folder with the files.
      reviews: name of the review file in it; by default the only ``.json``, ``.jsonl`` or ``.csv``
        (also ``.gz``) that is not metadata.
      metadata: name of the metadata file; by default the only ``meta_*``, if any.
      min_count: least number of reviews of a product, at least 1.
      min_rating: reviews rated below this are dropped (1 to 5); None keeps all.
      order: inside a history by ``"time"``, or ``"random"``.
      ties: reviews of one day: ``"shuffle"``, or as ``"stored"`` in the file.
      duplicates: a product that metadata lists again with other values is an ``"error"``, or its
        ``"first"`` record counts. Repeats of the same values are counted in notes and allowed.
      columns: the names of ``COLUMNS`` in the order of a csv without a header. Default: by the
        keys, for those of products have ten characters (2018 writes them first, 2014 second).
      seed: random seed of the shuffles.

    Returns:
      Interactions.

    Raises:
      FileNotFoundError: no folder or no review file.
      ValueError: a truncated gzip file, a malformed line or a field missing from it (file, line),
        a repeated product, several candidate files, or nothing left.

    References:
      McAuley et al. (2015), Image-based Recommendations on Styles and Substitutes.
      Ni, Li and McAuley (2019), Justifying Recommendations.
      Hou et al. (2024), Bridging Language and Items for Retrieval and Recommendation.
    """
    source = "amazon"
    table.check_choice(source, "order", order, ("time", "random"))
    table.check_choice(source, "duplicates", duplicates, DUPLICATES)
    where = files.folder(source, root, _EXPECTED)
    review_path = _choose(where, reviews, "reviews")
    meta_path = _choose(where, metadata, "metadata")
    if review_path is None:
        raise FileNotFoundError(f"{where}: no review file; expected {', '.join(_EXPECTED)}")
    by_table = review_path.name.endswith((".csv", ".csv.gz"))
    users, items, times, ratings = (
        _ratings(review_path, columns) if by_table else _reviews(review_path)
    )
    kept, notes = rating_filter(source, ratings, min_rating)
    data, _ = table.assemble(
        source,
        users=users[kept],
        items=items[kept],
        times=times[kept],
        order=order,
        ties=ties,
        min_count=min_count,
        seed=seed,
        notes=notes,
    )
    assert data.times is not None
    data = data._replace(times=data.times // 1000)
    if meta_path is None:
        return data
    wanted = set(data.item_keys.tolist())
    found, repeats = _metadata(meta_path, wanted, duplicates)
    missing = ("", "", "")
    titles, mains, seconds = zip(
        *(found.get(key, missing) for key in data.item_keys.tolist()), strict=True
    )
    return data._replace(
        labels={
            "main_category": targets.labels(np.array(mains, object)),
            "category": targets.labels(np.array(seconds, object)),
        },
        text=np.array(titles, str),
        notes={
            **data.notes,
            "items_not_in_metadata": len(wanted) - len(found),
            "repeated_metadata_records": repeats,
        },
    )


def _choose(where: Path, name: str | None, what: str) -> Path | None:
    """The named file, or the only one of its kind."""
    if name is not None:
        return files.existing(where / name, _EXPECTED)
    found = sorted(
        path
        for path in where.iterdir()
        if path.name.endswith(_SUFFIXES) and path.name.startswith("meta_") == (what == "metadata")
    )
    if len(found) > 1:
        raise ValueError(
            f"{where}: {len(found)} files could be {what}; pass {what}=, one of "
            f"{', '.join(path.name for path in found)}"
        )
    return found[0] if found else None


def _records(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and record of each line."""
    empty = True
    for number, line in raw.numbered_lines(path):
        empty = False
        record = _parse(line)
        if not isinstance(record, dict):
            raise ValueError(
                f"{path}, line {number}: found {line[:60]!r}, expected one JSON object or Python "
                "literal of a dict"
            )
        _check_fields(path, number, record, fields)
        yield number, record
    if empty:
        raise ValueError(f"{path}: empty file; expected a JSON record on each line")


def _check_fields(path: Path, number: int, record: dict[str, Any], fields: Sequence[str]) -> None:
    missing = [field for field in fields if field not in record]
    if missing:
        raise ValueError(
            f"{path}, line {number}: no field {', '.join(missing)}; found "
            f"{list(record)[:12]}, expected {list(fields)}"
        )


def _parse(line: str) -> Any:
    """A line as JSON, else as a Python literal, else None."""
    try:
        return json.loads(line)
    except ValueError:
        pass
    try:
        return ast.literal_eval(line)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _reviews(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Users, items, times and ratings, one entry a review."""
    users, items, times, ratings = [], [], [], []
    fields: tuple[str, ...] = ()
    for number, record in _records(path, ()):
        if not fields:
            fields = next((names for names in _FIELDS if names[0] in record), _FIELDS[1])
        _check_fields(path, number, record, fields)
        user, item, time, rating = (record[field] for field in fields)
        try:
            times.append(int(time) * (1 if fields is _FIELDS[0] else 1000))
            ratings.append(float(rating))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: found {fields[2]} {time!r} and {fields[3]} {rating!r}, "
                "expected numbers"
            ) from error
        users.append(str(user))
        items.append(str(item))
    return np.array(users), np.array(items), np.array(times, np.int64), np.array(ratings)


def _ratings(
    path: Path, columns: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same of a table of ratings alone."""
    sheet = sheets.sniff(path, known=_FIELDS[0])
    names = sheet.names
    if sheet.header:
        files.check_columns(path, names, _FIELDS[0])
        found = dict(zip(("user", "item", "time", "rating"), _FIELDS[0], strict=True))
    else:
        if len(names) != len(COLUMNS) or (columns and sorted(columns) != sorted(COLUMNS)):
            raise ValueError(
                f"{path}: found {len(names)} columns without a header line; expected "
                f"{', '.join(COLUMNS)}, in an order that columns= gives"
            )
        found = dict(zip(columns or _order(path, sheet), names, strict=True))
    read = event_columns.read_text(path, list(found.values()))
    user, item, time, rating = (read[found[name]] for name in ("user", "item", "time", "rating"))
    missing = user.missing | item.missing | time.missing | rating.missing
    if missing.any() or rating.values.dtype.kind not in "if":
        row = int(np.argmax(missing))
        raise ValueError(f"{path}, row {row}: a value is missing, or a rating is no number")
    times, _ = milliseconds(f"{path}, column {found['time']!r}", *time)
    return (
        user.values.astype(str),
        item.values.astype(str),
        times,
        rating.values.astype(np.float64),
    )


def _order(path: Path, sheet: sheets.Sheet) -> tuple[str, ...]:
    """Whether users or items stand first: keys of products have ten characters."""
    tens = [all(len(row[place]) == 10 for row in sheet.sample) for place in (0, 1)]
    if tens[0] == tens[1]:
        raise ValueError(
            f"{path}: does the first column hold users or items? found {sheet.sample[0]}; expected "
            f"columns=, the names {', '.join(COLUMNS)} in the order of the file"
        )
    return ("item", "user", "rating", "time") if tens[0] else ("user", "item", "rating", "time")


def _metadata(
    path: Path, wanted: set[str], duplicates: str
) -> tuple[dict[str, tuple[str, str, str]], int]:
    """Title, main category and second level of each wanted product; and how many repeats."""
    found: dict[str, tuple[str, str, str]] = {}
    lines: dict[str, int] = {}
    repeats = 0
    for number, record in _records(path, ()):
        field = "parent_asin" if "parent_asin" in record else "asin"
        _check_fields(path, number, record, (field,))
        key = str(record[field])
        if key not in wanted:
            continue
        values = _describe(record)
        if key not in found:
            found[key], lines[key] = values, number
            continue
        repeats += 1
        if values != found[key] and duplicates == "error":
            raise ValueError(
                f"{path}: {field} {key!r} occurs with different values on lines {lines[key]} and "
                f"{number}; expected each once (duplicates='first' keeps the first)"
            )
    return found, repeats


def _describe(record: dict[str, Any]) -> tuple[str, str, str]:
    """Title, main category and second level of a metadata record; empty where it has none."""
    levels = record.get("category") or record.get("categories") or []
    if isinstance(levels, str):
        levels = [levels]
    if levels and isinstance(levels[0], list):
        levels = levels[0]
    main = record.get("main_cat") or record.get("main_category") or (levels[0] if levels else "")
    second = levels[1] if len(levels) > 1 else ""
    return _plain(record.get("title")), _plain(main), _plain(second)


def _plain(value: Any) -> str:
    """Text without HTML: entities decoded (some twice), an image as what it stands for."""
    text = html.unescape(html.unescape(str(value or "")))
    return _ALT.sub(r"\1", text).strip()
