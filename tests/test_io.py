"""Embedding files: what is read and what is refused; files that are written whole or not at all."""

import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernlens import files, io

ROWS, DIM = 7, 3
VALUES = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)
IDS = np.array([70, 3, 12, 9, 41, 5, 28])
TEXT_IDS = IDS.astype(str)
LISTS = pa.array(VALUES.tolist(), pa.list_(pa.float32()))
FIXED = pa.FixedSizeListArray.from_arrays(pa.array(VALUES.ravel()), DIM)


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def npy(path, values):
    np.save(path, values)
    return path


def csv(path, text):
    path.write_text(text)
    return path


def wide(**before):
    return {**before, **{f"dim{i}": VALUES[:, i] for i in range(DIM)}}


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "i1", "<i8", "u1"])
def test_npy_round_trip(tmp_path, dtype):
    values = (10 * np.abs(VALUES)).astype(dtype)
    found = io.read_embeddings(npy(tmp_path / "a.npy", values))
    assert found.ids is None
    assert found.values.dtype.isnative
    assert found.values.dtype.kind == "f"
    assert found.values.dtype.itemsize == (4 if values.dtype.kind in "iu" else values.itemsize)
    np.testing.assert_array_equal(found.values, values)


def test_npy_is_mapped_not_read(tmp_path):
    values = io.read_embeddings(npy(tmp_path / "a.npy", VALUES)).values
    assert isinstance(values, np.memmap)
    assert not values.flags.writeable


@pytest.mark.parametrize(
    "columns",
    [
        {"id": IDS, "vector": LISTS},
        {"vector": LISTS, "item": TEXT_IDS},
        {"ID": IDS, "vector": FIXED, "name": ["x"] * ROWS},
        {"__index_level_0__": IDS, "vector": LISTS.cast(pa.large_list(pa.float32()))},
        {"item": pa.array(TEXT_IDS).dictionary_encode(), "vector": LISTS},
        {"id": IDS.astype(np.float64), "vector": LISTS},
        {"id": IDS.astype(np.uint16), **wide()},
        wide(item=TEXT_IDS),
        wide(item=IDS),
        wide(__index_level_0__=TEXT_IDS),
    ],
    ids=lambda columns: "-".join(columns),
)
def test_parquet_layouts(tmp_path, columns):
    found = io.read_embeddings(parquet(tmp_path / "a.parquet", **columns))
    assert found.ids is not None
    np.testing.assert_array_equal(found.ids, TEXT_IDS)
    np.testing.assert_array_equal(found.values, VALUES)


@pytest.mark.parametrize("columns", [{"vector": LISTS}, wide()], ids=["lists", "wide"])
def test_parquet_without_ids(tmp_path, columns):
    found = io.read_embeddings(parquet(tmp_path / "a.parquet", **columns))
    assert found.ids is None
    np.testing.assert_array_equal(found.values, VALUES)


def test_a_named_id_column_wins(tmp_path):
    path = parquet(tmp_path / "a.parquet", **wide(id=np.arange(ROWS), shelf=IDS.astype(float)))
    np.testing.assert_array_equal(io.read_embeddings(path, id_column="shelf").ids, TEXT_IDS)
    np.testing.assert_array_equal(io.read_embeddings(path).ids, np.arange(ROWS).astype(str))


def test_chunked_and_many_row_groups(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": IDS, "vector": FIXED}), path, row_group_size=2)
    np.testing.assert_array_equal(io.read_embeddings(path).values, VALUES)


def with_bad(value, *rows):
    values = VALUES.copy()
    values[list(rows), 1] = value
    return values


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (with_bad(np.nan, 2, 5), r"a\.npy: 2 of 7 rows hold NaN.*in rows 2, 5, counted from 0;"),
        (with_bad(-np.inf, 6), r"1 of 7 rows .* in rows 6, counted from 0;"),
        (VALUES[0], r"shape \(3,\); expected \[rows, dims\]"),
        (VALUES[None], r"shape \(1, 7, 3\); expected \[rows, dims\]"),
        (VALUES[:0], r"empty, shape \(0, 3\)"),
        (VALUES[:, :0], r"empty, shape \(7, 0\)"),
        (VALUES.astype(np.complex64), "values are complex64; expected real numbers"),
        (VALUES.astype(str), "values are <U.*; expected real numbers"),
        (np.zeros((2, 2), "V3"), r"values are .*V3; expected real numbers"),
        (np.array([[None, 1]], object), "pickled Python objects, which are never loaded"),
    ],
)
def test_npy_refused(tmp_path, values, match):
    with pytest.raises(ValueError, match=match):
        io.read_embeddings(npy(tmp_path / "a.npy", values))


@pytest.mark.parametrize("keep", [3, 8, 40, 100, -1])
def test_truncated_npy_refused(tmp_path, keep):
    path = npy(tmp_path / "a.npy", VALUES)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a\.npy: (truncated or damaged|not a) \.npy file"):
        io.read_embeddings(path)


@pytest.mark.parametrize("shape", [(2**63 - 1, 3), (10**30, 3), (7, -3), ("a", 3)])
def test_npy_with_an_impossible_shape_refused(tmp_path, shape):
    path = npy(tmp_path / "a.npy", VALUES)
    content = path.read_bytes()
    was = b"'shape': (7, 3), }"
    header = content[:128].replace(was, b"'shape': " + str(shape).encode() + b", }")
    path.write_bytes(header[:127].rstrip().ljust(127) + b"\n" + content[128:])
    with pytest.raises(ValueError, match=r"a\.npy: truncated or damaged \.npy file"):
        io.read_embeddings(path)


def test_a_bare_pickle_is_never_loaded(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(pickle.dumps(VALUES))
    with pytest.raises(ValueError, match=r"not a \.npy file: starts with b'\\x80"):
        io.read_embeddings(path)


@given(content=st.binary(max_size=200), magic=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_clearly(tmp_path, content, magic):
    for name in ("a.npy", "a.parquet"):
        path = tmp_path / name
        start = {"a.npy": b"\x93NUMPY\x01\x00", "a.parquet": b"PAR1"}[name] if magic else b""
        path.write_bytes(start + content)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            io.read_embeddings(path)


RAGGED = pa.array([[1.0, 2.0], [1.0, 2.0], [3.0], []])


@pytest.mark.parametrize(
    ("columns", "options", "match"),
    [
        (
            {"vector": RAGGED},
            {},
            "row 2, column 'vector': found 1 values, expected 2 as in the rows before",
        ),
        (
            {"vector": pa.array([[1.0], None])},
            {},
            "1 of 2 rows hold NaN.* no value, in rows 1, counted",
        ),
        ({"vector": pa.nulls(2, pa.list_(pa.float32()))}, {}, "'vector': no vector in any row"),
        ({"vector": pa.array([[1.0], [None]])}, {}, "1 of 2 rows hold NaN.*in rows 1, counted"),
        ({"vector": pa.array([[], []], pa.list_(pa.float32()))}, {}, r"empty, shape \(2, 0\)"),
        ({"vector": pa.array([["x"]])}, {}, r"no vectors: found vector \(lists of string\)"),
        ({"a": LISTS, "b": LISTS}, {}, "which column holds the vectors\\? found a, b; name one"),
        (
            {"v": LISTS, "a": IDS, "b": IDS},
            {},
            r"which column is the id\? found a, b; .*--id-column",
        ),
        (wide(a=TEXT_IDS, b=TEXT_IDS), {}, r"which column is the id\? found a, b"),
        (wide(), {"columns": "e*"}, r"no column matches --columns 'e\*'; found dim0, dim1, dim2"),
        (wide(a0=IDS, a1=IDS), {}, "which columns are the dimensions.*a0..a1 and dim0..dim2"),
        (
            {"x0": pa.array([1.0, None])},
            {},
            "1 of 2 rows hold NaN, .* no value, in rows 1, counted",
        ),
        ({"id": IDS}, {}, r"no vectors: found id \(integer\)"),
        (wide(), {"id_column": "key"}, r"no column 'key'; found \['dim0', 'dim1', 'dim2'\]"),
        ({"id": [1, 2, 1, 2], "x0": [0.0] * 4}, {}, "id '1' occurs 2 times, in rows 0, 2"),
        ({"id": ["7", None], "x0": [0.0, 1.0]}, {}, "row 1: no id in column 'id'"),
        (
            {"id": [1.5, 2.0], "x0": [0.0, 1.0]},
            {},
            "id column 'id' is double with fractions; expected text",
        ),
        (
            {"id": [True, False], "x0": [0.0, 1.0]},
            {"id_column": "id"},
            "id column 'id' is bool; expected text",
        ),
        ({"id": pa.array([], pa.int64()), "x0": pa.array([], pa.float32())}, {}, "no rows"),
    ],
)
def test_parquet_refused(tmp_path, columns, options, match):
    with pytest.raises(ValueError, match=match):
        io.open_embeddings(parquet(tmp_path / "a.parquet", **columns), **options).read()


def test_truncated_parquet_refused(tmp_path):
    path = parquet(tmp_path / "a.parquet", **wide(id=IDS))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.parquet: not a whole Parquet file"):
        io.read_embeddings(path)


@pytest.mark.parametrize("read", [io.read_embeddings, io.read_labels])
def test_files_that_are_none(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"gone\.npy: no such file"):
        read(tmp_path / "gone.npy")
    with pytest.raises(ValueError, match=r"ending in '\.md'; choose one of .*\.parquet"):
        read(csv(tmp_path / "a.md", "id,label\n"))
    with pytest.raises(ValueError, match=r"a\.parquet: empty file, 0 bytes"):
        read(csv(tmp_path / "a.parquet", ""))


@pytest.mark.parametrize("content", ["naïve · text\n", b"\x00\xff bytes"])
def test_write_atomically_leaves_only_the_file(tmp_path, content):
    path = tmp_path / "out.json"
    path.write_text("old")
    files.write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    files.write_atomically(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_device_is_written_to_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_atomically(pipe, "through")
        assert os.read(reading, 100) == b"through"
    finally:
        os.close(reading)
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    "write", [files.check_writable, lambda path: files.write_atomically(path, "")]
)
def test_where_no_file_can_be_written(tmp_path, write):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder, for out\.json"):
        write(tmp_path / "nowhere" / "out.json")
    with pytest.raises(ValueError, match="is a folder; expected a file"):
        write(tmp_path)
