"""MovieLens: film ratings, in the formats that GroupLens publishes, and Kaggle's copy of 20M."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernlens import files, targets
from kernlens.datasets import table
from kernlens.io import raw
from kernlens.types import Interactions, Labels

FORMATS = {
    "1M, 10M": ("ratings.dat", "movies.dat"),
    "100k": ("u.data", "u.item", "u.genre"),
    "20M, 25M, 32M, latest": ("ratings.csv", "movies.csv"),
    "20M of Kaggle": ("rating.csv", "movie.csv"),
}
"""Files of each format."""

_CSV = ("userId", "movieId", "rating", "timestamp")
_RATING_NAMES = ("user", "item", "rating", "time")
_NO_GENRE = ("(no genres listed)", "unknown")


class Films(NamedTuple):
    """The catalogue: key, title and genres (names in the published order) of each film."""

    keys: np.ndarray
    titles: np.ndarray
    genres: list[list[str]]


def load(
    root: str | Path | None = None,
    *,
    min_count: int = 5,
    min_rating: float | None = None,
    order: str = "time",
    ties: str = "shuffle",
    seed: int = 0,
) -> Interactions:
    """Rating histories of MovieLens; one session a user.

    The files tell the format: ``ratings.dat`` (1M and 10M), ``u.data`` (100k), ``ratings.csv``
    (20M, 25M, 32M and the latest ones) or ``rating.csv`` (Kaggle's copy of 20M, whose times are
    text). Titles are UTF-8, as in 10M, or else Latin-1, as in 1M.

    The order of the file is no observation and is never used: histories are sorted by time, and the
    many ratings of a user that share a second (about half of the adjacent ones in 1M) are shuffled.
    Time order itself carries list pages rated in bulk; ``order="random"`` gives
    the same histories without it, to tell the two apart.

    The label ``genre`` is a film's first listed genre, which is the alphabetically first one: a
    label by convention. ``single_genre`` is the genre of films that have exactly one; the others
    have none. ``text`` is the title.

    Args:
      root: folder with the files.
      min_count: least number of ratings of a film, at least 1.
      min_rating: ratings below this are dropped (stars, 0.5 to 5); None keeps all.
      order: inside a history by ``"time"``, or ``"random"``.
      ties: ratings with one timestamp: ``"shuffle"``, or as ``"stored"`` in the file.
      seed: random seed of the shuffles.

    Returns:
      Interactions.

    Raises:
      FileNotFoundError: no folder, or none of the formats in it.
      ValueError: a malformed line (file, line, column), a repeated film, or nothing left.

    References:
      Harper and Konstan (2015), The MovieLens Datasets: History and Context.
    """
    source = "movielens"
    table.check_choice(source, "order", order, ("time", "random"))
    expected = [" + ".join(names) for names in FORMATS.values()]
    where = files.folder(source, root, expected)
    found = [name for name, (ratings, *_) in FORMATS.items() if (where / ratings).is_file()]
    if len(found) != 1:
        error = ValueError if found else FileNotFoundError
        raise error(
            f"{where}: found the ratings of {found or 'no format'}, expected those of one: "
            f"{' | '.join(expected)}"
        )
    for name in FORMATS[found[0]]:
        files.existing(where / name, FORMATS[found[0]])
    ratings = _ratings(where, found[0])
    films = _FILMS[found[0]](where)
    items = ratings["item"]
    kept, notes = rating_filter(source, ratings["rating"], min_rating)
    notes["films_not_in_catalogue"] = int(np.sum(~np.isin(np.unique(items), films.keys)))
    data, _ = table.assemble(
        source,
        users=ratings["user"][kept],
        items=items[kept],
        times=ratings["time"][kept],
        order=order,
        ties=ties,
        min_count=min_count,
        seed=seed,
        notes=notes,
    )
    at = table.place_in(films.keys, data.item_keys)
    return data._replace(
        labels=first_and_single("genre", films.genres, at), text=table.text_at(films.titles, at)
    )


def rating_filter(
    source: str, ratings: np.ndarray | None, min_rating: float | None
) -> tuple[slice | np.ndarray, dict[str, int]]:
    """Rows to keep and what was counted; with no least rating all are kept."""
    if min_rating is None:
        return slice(None), {} if ratings is None else {"ratings_read": len(ratings)}
    if ratings is None:
        raise ValueError(f"{source}: min_rating={min_rating} was given, but there are no ratings")
    kept = np.flatnonzero(ratings >= min_rating)
    if len(kept) == 0:
        raise ValueError(
            f"{source}: nothing left: no rating reaches min_rating={min_rating}; "
            f"the highest is {ratings.max()}"
        )
    notes = {"ratings_read": len(ratings), "ratings_under_min_rating": len(ratings) - len(kept)}
    return kept, notes


def first_and_single(
    field: str, values: Sequence[Sequence[str]], rows: np.ndarray
) -> dict[str, Labels]:
    """Labels from lists of classes: the first of each, and the only one where there is one."""
    first = np.array([v[0] if v else "" for v in values], object)
    single = np.array([v[0] if len(v) == 1 else "" for v in values], object)
    return {
        field: targets.labels(table.take(first, rows)),
        f"single_{field}": targets.labels(table.take(single, rows)),
    }


def _ratings(where: Path, form: str) -> dict[str, np.ndarray]:
    """Columns user, item, rating and time."""
    kinds = ("int32", "int32", "float64", "int64")
    if form in ("20M, 25M, 32M, latest", "20M of Kaggle"):
        columns: dict[str, str] = dict(zip(_CSV, kinds, strict=True))
        if form == "20M of Kaggle":
            columns["timestamp"] = "timestamp"
        read = raw.read_csv(where / FORMATS[form][0], columns)
    else:
        name, delimiter = ("ratings.dat", "::") if form == "1M, 10M" else ("u.data", "\t")
        columns = dict(zip(_RATING_NAMES, kinds, strict=True))
        read = raw.read_csv(
            where / name, columns, names=_RATING_NAMES, delimiter=delimiter, quoted=False
        )
    values = (column.to_numpy() for column in read.values())
    return dict(zip(_RATING_NAMES, values, strict=True))


def _listed(key: str, title: str, genres: str, read: dict) -> Films:
    """Films from columns of which one lists genres between bars."""
    split = [
        [genre for genre in value.split("|") if genre and genre not in _NO_GENRE]
        for value in read[genres].to_pylist()
    ]
    return Films(read[key].to_numpy(), raw.plain(read[title]), split)


def _films_dat(where: Path) -> Films:
    path = where / "movies.dat"
    try:
        path.read_bytes().decode("utf-8")
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "latin-1"
    read = raw.read_csv(
        path,
        {"item": "int32", "title": "string?", "genres": "string?"},
        names=("item", "title", "genres"),
        delimiter="::",
        quoted=False,
        encoding=encoding,
        unique="item",
    )
    return _listed("item", "title", "genres", read)


def _films_csv(name: str, where: Path) -> Films:
    kinds = {"movieId": "int32", "title": "string?", "genres": "string?"}
    read = raw.read_csv(where / name, kinds, unique="movieId")
    return _listed("movieId", "title", "genres", read)


def _films_100k(where: Path) -> Films:
    genres = raw.read_csv(
        where / "u.genre",
        {"genre": "string", "place": "int32"},
        names=("genre", "place"),
        delimiter="|",
        quoted=False,
    )
    places = genres["place"].to_numpy()
    if not np.array_equal(np.sort(places), np.arange(len(places))):
        raise ValueError(
            f"{where / 'u.genre'}: found genre numbers {places.tolist()}, "
            f"expected 0..{len(places) - 1}, each once"
        )
    names = raw.plain(genres["genre"])[np.argsort(places)]
    flags = [f"genre {place}" for place in range(len(names))]
    read = raw.read_csv(
        where / "u.item",
        {"item": "int32", "title": "string?", **dict.fromkeys(flags, "int32")},
        names=("item", "title", "release", "video_release", "address", *flags),
        delimiter="|",
        quoted=False,
        encoding="latin-1",
        unique="item",
    )
    flagged = np.stack([read[flag].to_numpy() for flag in flags], 1) > 0
    known = ~np.isin(names, _NO_GENRE)
    lists = [names[row & known].tolist() for row in flagged]
    return Films(read["item"].to_numpy(), raw.plain(read["title"]), lists)


_FILMS = {
    "1M, 10M": _films_dat,
    "100k": _films_100k,
    "20M, 25M, 32M, latest": partial(_films_csv, "movies.csv"),
    "20M of Kaggle": partial(_films_csv, "movie.csv"),
}
