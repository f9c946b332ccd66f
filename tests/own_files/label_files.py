"""Label files: which text is a label, which line a row."""

from pathlib import Path

import numpy as np
import pandas as pd

from tests.own_files.case import CODES, NAMES, REFUSED, ROWS, Case, N, labels, same, without

MISSING = [row for row in range(N) if row % 7 == 0]
BIG = [9007199254740990 + int(code) for code in CODES]  # beyond 2^53: no float has each of them


def beside(make):
    """The embeddings, and labels written by ``make(path)``."""

    def both(folder: Path) -> None:
        np.save(folder / "emb.npy", ROWS)
        make(folder / "labels.csv")

    return both


def named(names, **options):
    return beside(lambda path: labels(path, names=names, **options))


def replaced(*pairs, names=NAMES):
    """The labels with some replaced, by row."""
    return named([dict(pairs).get(row, name) for row, name in enumerate(names)])


def _parquet(folder: Path) -> None:
    np.save(folder / "emb.npy", ROWS)
    found = [float("nan") if row in MISSING else name for row, name in enumerate(NAMES)]
    frame = pd.DataFrame({"id": range(N), "label": np.array(found)})  # NumPy writes "nan"
    frame.to_parquet(folder / "labels.parquet", index=False)


def _any_order(folder: Path) -> None:
    np.save(folder / "emb.npy", ROWS)
    pd.DataFrame({"department": NAMES, "sku": range(N)}).to_csv(folder / "labels.csv", index=False)


def _several(folder: Path) -> None:
    np.save(folder / "emb.npy", ROWS)
    frame = pd.DataFrame({"id": range(N), "kind": NAMES, "brand": CODES[::-1]})
    frame.to_csv(folder / "labels.csv", index=False)


PLAIN = "emb.npy --labels labels.csv"
TEN = np.where(CODES == 1, 10, np.where(CODES == 0, 1, CODES + 20)).astype(str)

CASES: tuple[Case, ...] = (
    Case("N/A is a class", named(["N/A" if row in MISSING else n for row, n in enumerate(NAMES)]),
         PLAIN, 0.377, without(*MISSING),
         "86 labels 'N/A' count as no label (--missing says which"),
    Case("'nan' in Parquet is a class", _parquet, "emb.npy --labels labels.parquet", 0.377,
         without(*MISSING), "86 labels 'nan' count as no label"),
    Case("-1 is a class without a word", named(
         ["-1" if row in MISSING else str(code) for row, code in enumerate(CODES)]), PLAIN, 0.377,
         REFUSED, "(--target classes) if -1 is a class"),
    Case("-1 is a class where that is said", named(
         ["-1" if row in MISSING else str(code) for row, code in enumerate(CODES)]),
         f"{PLAIN} --target classes", REFUSED,
         lambda: (ROWS, np.where(np.isin(np.arange(N), MISSING), -1, CODES)),
         "-1 counts as a class; --missing -1 makes it no label"),
    Case("-1 is none where that is said", named(
         ["-1" if row in MISSING else str(code) for row, code in enumerate(CODES)]),
         f"{PLAIN} --missing -1", REFUSED, without(*MISSING), "86 labels '-1' count as no label"),
    Case("a blank before a label makes another class", replaced((3, " c1"), (9, "c1 ")), PLAIN,
         0.343, lambda: (ROWS, np.array([{3: "c1", 9: "c1"}.get(r, n) for r,
         n in enumerate(NAMES)]))),
    Case("the character 0 after a label is dropped", replaced((3, "c0\0")), PLAIN, 0.512, REFUSED,
         "holds the character 0"),
    Case("labels with a point go through float64",
         named([f"{big}.0" for big in BIG]), PLAIN, 0.539, same),
    Case("1_0 is 10", named(["1_0" if t == "10" and r % 2 else f"{t}.0" if r % 2 else t
         for r, t in enumerate(TEN)]), PLAIN, 0.512,
         lambda: (ROWS, np.array(["1_0" if t == "10" and r % 2 else f"{t}.0" if r % 2 else t
                                  for r, t in enumerate(TEN)]))),
    Case("inf is a class among numbers", replaced((5, "inf"), names=CODES.astype(str)), PLAIN,
         0.410,
         REFUSED, "--missing inf makes it no label"),
    Case("without a header line the first item is lost", named(NAMES, head=""), PLAIN, 0.511, same,
         "no header line: the first line ['0', 'c"),
    Case("a blank first line makes the header a row", named(NAMES, head="\nid,label"), PLAIN,
         REFUSED, same),
    Case("semicolons between values", named(NAMES, head="id;label", separator=";"), PLAIN, REFUSED,
         same, "separated by a semicolon"),
    Case("tabs between values", named(NAMES, head="id\tlabel", separator="\t"), PLAIN, REFUSED,
         same),
    Case("the id column is taken for the label", named(NAMES[::-1]), f"{PLAIN} --label-column id "
         "--id-column label", REFUSED, REFUSED, "Name it with --id-column"),
    Case("the id column stands second", _any_order, PLAIN, REFUSED, same,
         "label department (id sku)"),
    Case("one of several label columns", _several, f"{PLAIN} --label-column kind", 0.512, same,
         "label kind (id id)"),
    Case("several label columns and none named", _several, PLAIN, REFUSED, REFUSED,
         "which column is the label? found kind, brand; name it with --label-column"),
    Case("ids 100.0 that mean 100", beside(
         lambda path: labels(path, ids=[f"{row}.0" for row in range(N)])), PLAIN, REFUSED, same),
)  # fmt: skip
