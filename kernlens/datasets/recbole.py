"""RecBole's atomic files: the common format of dozens of recommendation data sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kernlens import files
from kernlens.datasets import table
from kernlens.datasets.movielens import first_and_single, rating_filter
from kernlens.io import raw
from kernlens.types import Interactions, Labels

_KINDS = ("token", "token_seq", "float", "float_seq")
_ROWS_PER_CLASS = 5
_TITLES = ("title", "name")


def load(
    root: str | Path | None = None,
    *,
    name: str | None = None,
    min_count: int = 5,
    min_rating: float | None = None,
    order: str = "time",
    ties: str = "shuffle",
    user_field: str = "user_id",
    item_field: str = "item_id",
    rating_field: str = "rating",
    time_field: str = "timestamp",
    sequence_fields: Sequence[str] = ("genre", "genres"),
    seed: int = 0,
) -> Interactions:
    """Interactions of any RecBole data set; one session a user.

    ``<name>.inter`` is needed, ``<name>.item`` and ``<name>.user`` are read where they exist. Their
    headers name each field and its type, such as ``item_id:token`` or ``genre:token_seq``.

    Fields of ``.item``: a ``token`` field becomes the label of its name, a ``token_seq`` field the
    labels ``<field>`` (its first token) and ``single_<field>`` (its token where it has one, else
    none), if it looks like a class: at least five rows a distinct value on average. ``text`` comes
    from the field whose name holds "title", else "name", else from the first ``token_seq`` field
    that does not look like a class. ``token`` fields of ``.user`` that look like a class become
    user labels. Number fields are not read.

    Keys are strings, and ties in frequency are broken by rising string.

    Args:
      root: folder with the atomic files.
      name: name of the data set; by default that of the only ``.inter`` file.
      min_count: least number of interactions of an item, at least 1.
      min_rating: interactions rated below this are dropped; None keeps all.
      order: inside a history by ``"time"``, or ``"random"``; a data set without times needs the
        latter, for the order of its lines means nothing.
      ties: interactions of a user at one time: ``"shuffle"``, or as ``"stored"`` in the file.
      user_field: field of users.
      item_field: field of items.
      rating_field: field of ratings, used by ``min_rating``.
      time_field: field of times, seconds.
      sequence_fields: fields of ``.item`` that list tokens between spaces even where their header
        says ``token``, as some published conversions do.
      seed: random seed of the shuffles.

    Returns:
      Interactions; ``times`` is None without a time field.

    Raises:
      FileNotFoundError: no folder or no ``.inter`` file in it.
      ValueError: several ``.inter`` files and no name, a malformed header or line, a missing
        field, a repeated item or user, or nothing left.
    """
    source = "recbole"
    table.check_choice(source, "order", order, ("time", "random"))
    path = _interactions(root, name)
    kinds = _header(path)
    files.check_columns(path, list(kinds), [user_field, item_field])
    wanted = {user_field: "string", item_field: "string"}
    if time_field in kinds:
        wanted[time_field] = "float64"
    elif order == "time":
        raise ValueError(
            f"{path}: no field {time_field!r}; found {list(kinds)}; "
            "pass time_field=, or order='random' where there are no times"
        )
    if min_rating is not None and rating_field in kinds:
        wanted[rating_field] = "float64"
    read = _read(path, kinds, wanted)
    ratings = read[rating_field].to_numpy() if rating_field in read else None
    kept, notes = rating_filter(source, ratings, min_rating)
    users, items = table.code(read[user_field]), table.code(read[item_field])
    times = None
    if time_field in read:
        times = read[time_field].to_numpy().astype(np.int64)[kept]
    data, _ = table.assemble(
        source,
        users=table.Coded(users.codes[kept], users.keys),
        items=table.Coded(items.codes[kept], items.keys),
        times=times,
        order=order,
        ties=ties,
        min_count=min_count,
        seed=seed,
        notes={"rows_read": len(users.codes), **notes},
    )
    item_path, user_path = path.with_suffix(".item"), path.with_suffix(".user")
    if item_path.is_file():
        data = _with_items(data, item_path, item_field, sequence_fields)
    if user_path.is_file():
        data = data._replace(user_labels=_user_labels(data, user_path, user_field))
    return data


def _interactions(root: str | Path | None, name: str | None) -> Path:
    """The ``.inter`` file."""
    where = files.folder("recbole", root, [f"{name or '<name>'}.inter"])
    if name is not None:
        return files.existing(where / f"{name}.inter", [f"{name}.inter"])
    found = sorted(where.glob("*.inter"))
    if not found:
        raise FileNotFoundError(f"{where}: no .inter file; expected <name>.inter")
    if len(found) > 1:
        raise ValueError(
            f"{where}: {len(found)} .inter files; pass name=, one of "
            f"{', '.join(file.stem for file in found)}"
        )
    return found[0]


def _header(path: Path) -> dict[str, str]:
    """Type of each field, by name."""
    fields = raw.header(path, "\t", False, "utf-8")
    kinds = {}
    for field in fields:
        name, _, kind = field.rpartition(":")
        if not name or kind not in _KINDS:
            raise ValueError(
                f"{path}, line 1: found field {field!r}, expected <name>:<type> with a type of "
                f"{', '.join(_KINDS)}, between tabs"
            )
        kinds[name] = kind
    return kinds


def _read(path: Path, kinds: dict[str, str], wanted: dict[str, str], **options) -> dict:
    """Columns by field name, without the type that the file's header adds to it."""
    typed = {f"{field}:{kinds[field]}": kind for field, kind in wanted.items()}
    read = raw.read_csv(path, typed, delimiter="\t", quoted=False, **options)
    return dict(zip(wanted, read.values(), strict=True))


def _catalogue(path: Path, key: str) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, str]]:
    """Keys, token fields and the types of those, of an ``.item`` or ``.user`` file."""
    kinds = _header(path)
    files.check_columns(path, list(kinds), [key])
    tokens = {
        field: kind
        for field, kind in kinds.items()
        if kind in ("token", "token_seq") and field != key
    }
    wanted = {key: "string", **dict.fromkeys(tokens, "string?")}
    read = _read(path, kinds, wanted, unique=f"{key}:{kinds[key]}")
    columns = {field: raw.plain(column) for field, column in read.items()}
    return columns.pop(key), columns, tokens


def _like_a_class(values: Sequence[str]) -> bool:
    """Whether distinct values are few enough to be classes."""
    present = [value for value in values if value]
    return bool(present) and len(set(present)) * _ROWS_PER_CLASS <= len(present)


def _with_items(
    data: Interactions, path: Path, item_field: str, sequence_fields: Sequence[str]
) -> Interactions:
    """Adds labels and text from the ``.item`` file."""
    keys, columns, kinds = _catalogue(path, item_field)
    at = table.place_in(keys, data.item_keys)
    labels: dict[str, Labels] = {}
    texts = {}
    title = next((f for part in _TITLES for f in columns if part in f), None)
    for field, values in columns.items():
        lists = kinds[field] == "token_seq" or field in sequence_fields
        split = [value.split() for value in values.tolist()] if lists else []
        if field == title:
            continue
        if lists and _like_a_class([token for tokens in split for token in tokens]):
            labels |= first_and_single(field, split, at)
        elif not lists and _like_a_class(values.tolist()):
            labels[field] = table.labels_at(values, at)
        elif lists:
            texts[field] = values
    text = columns[title] if title else next(iter(texts.values()), None)
    return data._replace(
        labels=labels,
        text=None if text is None else table.text_at(text, at),
        notes={**data.notes, "items_not_in_catalogue": int(np.sum(at < 0))},
    )


def _user_labels(data: Interactions, path: Path, user_field: str) -> dict[str, Labels]:
    """Labels from the ``.user`` file."""
    keys, columns, kinds = _catalogue(path, user_field)
    at = table.place_in(keys, data.user_keys)
    return {
        field: table.labels_at(values, at)
        for field, values in columns.items()
        if kinds[field] == "token" and _like_a_class(values.tolist())
    }
