"""Online Retail and Online Retail II: invoices of a British gift shop (UCI)."""

import datetime
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files
from kernlens.datasets import table
from kernlens.io import raw
from kernlens.types import Interactions

_NAMES = {  # ours: as published in Online Retail, in Online Retail II
    "invoice": ("InvoiceNo", "Invoice"),
    "item": ("StockCode", "StockCode"),
    "text": ("Description", "Description"),
    "quantity": ("Quantity", "Quantity"),
    "date": ("InvoiceDate", "InvoiceDate"),
    "user": ("CustomerID", "Customer ID"),
    "country": ("Country", "Country"),
}
_KINDS = {
    "invoice": "string",
    "item": "string",
    "text": "string?",
    "quantity": "int64",
    "date": "string",
    "user": "float64?",
    "country": "string?",
}
_EXPECTED = ("Online Retail.csv or .xlsx", "online_retail_II.csv or .xlsx")
_DATES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%m/%d/%Y %H:%M")


def load(
    root: str | Path | None = None,
    *,
    file: str | None = None,
    min_count: int = 5,
    seed: int = 0,
) -> Interactions:
    """Invoices of the Online Retail data, customer after customer in time order.

    Sessions are invoices. The order of the lines of an invoice is not documented as observed, so it
    is a seeded shuffle. Dropped, and counted in notes, are the lines of cancellations (invoices
    whose number starts with C), then those whose quantity is not positive, then those without a
    customer; an item that an invoice lists twice is kept once. Stock codes that are no products
    (postage, manual entries) are kept as the source has them.

    ``text`` is an item's most frequent description among the kept lines, ties by rising string. The
    user label ``country`` is that of a customer's first kept invoice. Columns may be named as in
    Online Retail or as in Online Retail II (Invoice, Price, Customer ID); of a workbook all sheets
    are read, row by row, which takes minutes where the csv takes seconds.

    Args:
      root: folder with the file.
      file: its name; by default the only ``.csv`` or ``.xlsx`` in the folder. Text that is not
        UTF-8 is read as Latin-1. Dates are "2010-12-01 08:26:00" or "12/1/2010 8:26" (month first).
      min_count: least number of invoices an item is in, at least 1.
      seed: random seed of the shuffle inside invoices.

    Returns:
      Interactions; ``times`` take the shop's clock for UTC.

    Raises:
      FileNotFoundError: no folder or no such file.
      ValueError: a missing column, a malformed line (file, line, column), or nothing left.
    """
    source = "online_retail"
    table.check_options(source, min_count=min_count, seed=seed)
    where = files.folder(source, root, _EXPECTED)
    path = _choose(where, file)
    read = _read_workbook(path) if path.suffix.lower() == ".xlsx" else _read_text(path)
    invoice, item, users = table.code(read["invoice"]), table.code(read["item"]), read["user"]
    cancelled = np.char.startswith(np.char.upper(invoice.keys), "C")[invoice.codes]
    returned = ~cancelled & (read["quantity"] <= 0)
    anonymous = ~cancelled & ~returned & np.isnan(users)
    kept = np.flatnonzero(~(cancelled | returned | anonymous))
    notes = {
        "lines_read": len(users),
        "lines_of_cancellations": int(cancelled.sum()),
        "lines_without_positive_quantity": int(returned.sum()),
        "lines_without_customer": int(anonymous.sum()),
    }
    if len(kept):
        once = table.distinct(
            table.Coded(invoice.codes[kept], invoice.keys), table.Coded(item.codes[kept], item.keys)
        )
        notes["duplicate_lines"] = len(kept) - len(once)
        kept = kept[once]
    data, rows = table.assemble(
        source,
        users=users[kept].astype(np.int64),
        items=table.Coded(item.codes[kept], item.keys) if len(kept) else item.keys[:0],
        sessions=table.Coded(invoice.codes[kept], invoice.keys),
        times=read["date"][kept],
        order="random",
        min_count=min_count,
        seed=seed,
        notes=notes,
    )
    # A user's first session: sessions stand user after user, so the first of each run.
    first = data.offsets[:-1][np.flatnonzero(np.diff(data.users, prepend=-1))]
    return data._replace(
        user_labels={
            "country": table.labels_at(read["country"], kept[rows[first]]),
        },
        text=_most_frequent(data.items, read["text"][kept[rows]], data.num_items),
    )


def _choose(where: Path, name: str | None) -> Path:
    """The named file, or the only table in the folder."""
    if name is not None:
        return files.existing(where / name, _EXPECTED)
    found = sorted(path for path in where.iterdir() if path.suffix.lower() in (".csv", ".xlsx"))
    if not found:
        raise FileNotFoundError(f"{where}: no .csv or .xlsx file; expected {_EXPECTED[0]}")
    if len(found) > 1:
        raise ValueError(
            f"{where}: {len(found)} tables; pass file=, one of "
            f"{', '.join(path.name for path in found)}"
        )
    return found[0]


def _published(where: object, found: list[str]) -> dict[str, str]:
    """The file's name of each of our columns."""
    layout = int("InvoiceNo" not in found and "Invoice" in found)
    names = {ours: published[layout] for ours, published in _NAMES.items()}
    if names["user"] not in found and "Customer ID" in found:
        names["user"] = "Customer ID"
    files.check_columns(str(where), found, list(names.values()))
    return names


def _read_text(path: Path) -> dict[str, np.ndarray]:
    """Columns of a csv file."""
    try:
        path.read_bytes().decode("utf-8")
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "latin-1"
    names = _published(path, raw.header(path, ",", True, encoding))
    kinds = {names[ours]: kind for ours, kind in _KINDS.items()}
    read = raw.read_csv(path, kinds, encoding=encoding)
    columns = {ours: read[name] for ours, name in names.items()}
    dates = table.code(columns["date"])
    seconds = np.array([_seconds(value) for value in dates.keys.tolist()])
    unread = seconds[dates.codes] == _UNREAD
    if unread.any():
        row = int(np.argmax(unread))
        raise ValueError(
            f"{path}, line {row + 2}, column {names['date']!r}: found "
            f"{str(dates.keys[dates.codes[row]])!r}, expected a date such as "
            "2010-12-01 08:26:00 or 12/1/2010 8:26"
        )
    return {
        "invoice": raw.plain(columns["invoice"]),
        "item": raw.plain(columns["item"]),
        "text": np.char.strip(raw.plain(columns["text"])),
        "quantity": columns["quantity"].to_numpy(),
        "date": seconds[dates.codes],
        "user": columns["user"].to_numpy(),
        "country": raw.plain(columns["country"]),
    }


_UNREAD = np.iinfo(np.int64).min


def _seconds(value: str) -> int:
    """Seconds since 1970 of a date as text; a mark where it is none."""
    for form in _DATES:
        try:
            date = datetime.datetime.strptime(value, form)
        except ValueError:
            continue
        return int(date.replace(tzinfo=datetime.UTC).timestamp())
    return int(_UNREAD)


def _read_workbook(path: Path) -> dict[str, np.ndarray]:
    """Columns of all sheets of a workbook."""
    openpyxl = files.optional("openpyxl")
    columns: dict[str, list] = {ours: [] for ours in _NAMES}
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: not a whole .xlsx workbook (truncated or damaged?): {error}"
        ) from error
    try:
        for sheet in book.worksheets:
            _read_sheet(f"{path}, sheet {sheet.title!r}", sheet, columns)
    finally:
        book.close()
    if not columns["item"]:
        raise ValueError(f"{path}: no rows after the header")
    kinds = {"quantity": np.int64, "date": np.int64, "user": np.float64}
    return {ours: np.array(values, kinds.get(ours, str)) for ours, values in columns.items()}


def _read_sheet(where: str, sheet: Any, columns: dict[str, list]) -> None:
    """Appends a sheet's rows to the columns."""
    rows = sheet.iter_rows(values_only=True)
    found = [str(value) for value in next(rows, ()) if value is not None]
    if not found:
        raise ValueError(f"{where}: empty; expected columns {[p[0] for p in _NAMES.values()]}")
    places = {ours: found.index(name) for ours, name in _published(where, found).items()}
    for number, row in enumerate(rows, start=2):
        if all(value is None for value in row):
            continue
        for ours, place in places.items():
            value = row[place] if place < len(row) else None
            try:
                columns[ours].append(_cell(ours, value))
            except (TypeError, ValueError, AttributeError) as error:
                raise ValueError(
                    f"{where}, line {number}, column {found[place]!r}: found {value!r}, expected "
                    f"{'a date' if ours == 'date' else _KINDS[ours].rstrip('?')}"
                ) from error


def _cell(ours: str, value: Any) -> Any:
    """A cell as our column has it."""
    if value is None or value == "":
        if _KINDS[ours][-1] != "?":
            raise ValueError("missing")
        return float("nan") if ours == "user" else ""
    if ours == "date":
        if not isinstance(value, str):
            return int(value.replace(tzinfo=datetime.UTC).timestamp())
        if (seconds := _seconds(value)) == _UNREAD:
            raise ValueError("no date")
        return seconds
    if ours in ("user", "quantity"):
        return float(value) if ours == "user" else int(value)
    return str(value).strip()


def _most_frequent(items: np.ndarray, texts: np.ndarray, num_items: int) -> np.ndarray:
    """Most frequent text of each item that is not empty, ties by rising string."""
    text = table.code(texts)
    pairs, counts = np.unique(
        items.astype(np.int64) * len(text.keys) + text.codes, return_counts=True
    )
    item, code = np.divmod(pairs, len(text.keys))
    counts = np.where(text.keys[code] == "", 0, counts)
    order = np.lexsort((code, -counts, item))
    chosen = order[np.flatnonzero(np.diff(item[order], prepend=-1))]
    result = np.full(num_items, "", text.keys.dtype)
    result[item[chosen]] = text.keys[code[chosen]]
    return result
