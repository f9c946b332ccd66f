"""Amazon reviews: 5-core review files and product metadata, 2014 and 2018 layouts."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files, targets
from kernlens.datasets import raw, table
from kernlens.datasets.movielens import rating_filter
from kernlens.types import Interactions

_EXPECTED = ("<reviews>.json[.gz]", "meta_<category>.json[.gz] (optional)")
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
    seed: int = 0,
) -> Interactions:
    """Review histories of one Amazon category; one session a reviewer.

    Each line is a record, strict JSON or, in older files, a Python literal, which is read with a
    parser of literals. Such records have to be parsed line by line in Python: for a million
    reviews, seconds where they are JSON and minutes where they are literals.

    From metadata (2014: ``categories``, a list of paths; 2018: ``category``, one path) come the
    labels ``main_category``, the first level (``main_cat`` where the record has one), and
    ``category``, the second level; a product without a second level has no ``category``. ``text``
    is the title. Times are whole days in the source, so ties within a user are many.

    Args:
      root: folder with the files.
      reviews: name of the review file in it (``reviewerID``, ``asin``, ``unixReviewTime``,
        ``overall``); by default the only ``.json`` or ``.json.gz`` that is not metadata.
      metadata: name of the metadata file (``asin``, ``title``, ``category`` or ``categories``); by
        default the only ``meta_*.json[.gz]``, if any.
      min_count: least number of reviews of a product, at least 1.
      min_rating: reviews rated below this are dropped (1 to 5); None keeps all.
      order: inside a history by ``"time"``, or ``"random"``.
      ties: reviews of one day: ``"shuffle"``, or as ``"stored"`` in the file.
      duplicates: a product that metadata lists again with other values is an ``"error"``, or its
        ``"first"`` record counts. Repeats of the same values are counted in notes and allowed.
      seed: of the shuffles.

    Returns:
      Interactions.

    Raises:
      FileNotFoundError: no folder or no review file.
      ValueError: a truncated gzip file, a malformed line or a field missing from it (file, line),
        a repeated product, several candidate files, or nothing left.

    References:
      McAuley et al. (2015), Image-based Recommendations on Styles and Substitutes.
      Ni, Li and McAuley (2019), Justifying Recommendations.
    """
    source = "amazon"
    table.check_choice(source, "order", order, ("time", "random"))
    table.check_choice(source, "duplicates", duplicates, DUPLICATES)
    where = files.folder(source, root, _EXPECTED)
    review_path = _choose(where, reviews, "reviews")
    meta_path = _choose(where, metadata, "metadata")
    if review_path is None:
        raise FileNotFoundError(f"{where}: no review file; expected {', '.join(_EXPECTED)}")
    users, items, times, ratings = _reviews(review_path)
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
        if path.name.endswith((".json", ".json.gz"))
        and path.name.startswith("meta_") == (what == "metadata")
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
        missing = [field for field in fields if field not in record]
        if missing:
            raise ValueError(
                f"{path}, line {number}: no field {', '.join(missing)}; found "
                f"{list(record)[:12]}, expected {list(fields)}"
            )
        yield number, record
    if empty:
        raise ValueError(f"{path}: empty file; expected a record with {list(fields)} on each line")


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
    fields = ("reviewerID", "asin", "unixReviewTime", "overall")
    for number, record in _records(path, fields):
        user, item, time, rating = (record[field] for field in fields)
        try:
            times.append(int(time))
            ratings.append(float(rating))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: found unixReviewTime {time!r} and overall {rating!r}, "
                "expected numbers"
            ) from error
        users.append(str(user))
        items.append(str(item))
    return np.array(users), np.array(items), np.array(times, np.int64), np.array(ratings)


def _metadata(
    path: Path, wanted: set[str], duplicates: str
) -> tuple[dict[str, tuple[str, str, str]], int]:
    """Title, main category and second level of each wanted product; and how many repeats."""
    found: dict[str, tuple[str, str, str]] = {}
    lines: dict[str, int] = {}
    repeats = 0
    for number, record in _records(path, ("asin",)):
        key = str(record["asin"])
        if key not in wanted:
            continue
        values = _describe(record)
        if key not in found:
            found[key], lines[key] = values, number
            continue
        repeats += 1
        if values != found[key] and duplicates == "error":
            raise ValueError(
                f"{path}: asin {key!r} occurs with different values on lines {lines[key]} and "
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
    main = record.get("main_cat") or (levels[0] if levels else "")
    second = levels[1] if len(levels) > 1 else ""
    return str(record.get("title") or ""), str(main), str(second)
