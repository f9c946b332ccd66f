"""Streamed files that are damaged or ragged are refused with their place."""

import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy as safetensors

from kernlens import io
from tests.test_io_stream import ROWS, VALUES, WORDS


def lines(*rows):
    return "\n".join(rows).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lines("a", "b"), r"a\.vec, line 1: found b'a\\n'; expected word2vec's header"),
        (lines("2 2.0", "a 1 2"), "line 2: found 3 fields, expected a word and 1 numbers"),
        (lines("-2 2", "a 1 2"), "line 2: found 3 fields, expected a word and 1 numbers"),
        (b"2 2", r"truncated\? found 0 rows"),
        (lines("0 2"), r"empty, shape \(0, 2\)"),
        (lines("2 0", "a", "b"), "line 1: found b'2 0.*; expected word2vec's header"),
        (lines("2 2", "a 1 2", "b 3"), "line 3: found 2 fields, expected a word and 2 numbers"),
        (lines("2 2", "a 1 2", "", "b 3 4"), "line 3: found 1 fields"),
        (lines("2 2", "a  1 2", "b 3 4"), "line 2: found 4 fields"),
        (lines("2 2", "a 1 2"), r"truncated\? found 1 rows; the header says 2"),
        (lines("1 2", "a 1 2", "b 3 4"), "line 3: found more rows than the 1 of the header"),
        (b"1 2\na 1.25 2.5", "found 1 rows, the last without an end of line"),
        (lines("2 2", "a 1 2", "b 3 x"), "line 3, number 1: found b'x', expected a number"),
        (lines("2 2", "a 1 2", "a 3 4"), "word 'a' occurs 2 times, in rows 0, 1"),
        (lines("2 2", "a 1 2", " 3 4"), "row 1: no id in column 'word'"),
        (b"1 1\n\xff 1\n", r"line 2: word b'\\xff': .*; expected UTF-8"),
        (lines("2 1", "a 1", "b nan"), "1 of 2 rows hold NaN"),
    ],
)
def test_word2vec_text_refused(tmp_path, content, match):
    path = tmp_path / "a.vec"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match):
        io.open_embeddings(path).read()


ROW = np.ones(2, "<f4").tobytes()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"2 2\na " + ROW, r"truncated\? found .* bytes; the header says 2 rows of 2 float32"),
        (b"2 2\na " + ROW + b"bcd " + ROW[:5], "row 1 of 2, byte 14: truncated or damaged"),
        (b"2 2\na " + ROW + b"b" * 20, "row 1 of 2, byte 14: truncated or damaged"),
        (b"1 2\na " + ROW + b"b " + ROW, "10 bytes after the 1 rows of the header"),
        (b"2 2\na " + ROW + b"a " + ROW, "word 'a' occurs 2 times"),
        (b"9999999999999 9999999999999\na " + ROW, r"truncated\?"),
        (b"\x80\x02X junk", "line 1: found .*; expected word2vec's header"),
    ],
)
def test_word2vec_binary_refused(tmp_path, content, match):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match):
        io.open_embeddings(path).read()


@pytest.mark.parametrize(
    ("arrays", "options", "match"),
    [
        (
            {"a": VALUES, "b": VALUES},
            {},
            r"which array holds .* 'a' \[11, 3\] float32, 'b' .*--key",
        ),
        ({"a": VALUES}, {"key": "c"}, r"no array 'c'; found 'a' \[11, 3\] float32"),
        ({"a": VALUES[0]}, {}, r"shape \(3,\); expected \[rows, dims\]"),
        ({"a": VALUES[:0]}, {}, r"empty, shape \(0, 3\)"),
        ({"a": VALUES, "ids": np.arange(5)}, {}, r"ids 'ids' have shape \(5,\); expected \(11,\)"),
        ({"a": VALUES, "ids": np.zeros(ROWS, int)}, {}, "ids '0' occurs 11 times, in rows 0, 1"),
        ({"a": VALUES, "ids": np.full(ROWS, 0.5)}, {}, "ids 'ids' are float64; expected text or"),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "safetensors", "h5"])
def test_named_arrays_refused(tmp_path, kind, arrays, options, match):
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "safetensors":
        safetensors.save_file(arrays, path)
        match = match.replace("float32", "float32").replace("values are bool", "values are BOOL")
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value
    with pytest.raises(ValueError, match=match):
        io.open_embeddings(path, **options).read()


def test_named_arrays_are_chosen_by_key_and_id_column(tmp_path):
    np.savez(tmp_path / "a.npz", a=VALUES, b=-VALUES, item=WORDS)
    found = io.open_embeddings(tmp_path / "a.npz", key="b", id_column="item").read()
    np.testing.assert_array_equal(found.values, -VALUES)
    np.testing.assert_array_equal(found.ids, WORDS)


def test_npz_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.asfortranarray(VALUES))
    with pytest.raises(ValueError, match="array 'a': 132 bytes in Fortran order, which cannot be"):
        io.open_embeddings(path)
    np.savez(path, a=np.array([[None, 1]], object))
    with pytest.raises(ValueError, match="array 'a': holds pickled Python objects"):
        io.open_embeddings(path)
    np.savez(path, a=VALUES)
    content = bytearray(path.read_bytes())
    content[content.index(VALUES.tobytes()) + 5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"truncated or damaged \.npz file: Bad CRC-32"):
        io.open_embeddings(path).read()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(ValueError, match=r"array 'notes\.txt': not a \.npy file"):
        io.open_embeddings(path)


def test_npy_with_more_than_its_array_is_refused(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.save(file, VALUES)
        np.save(file, VALUES)
    with pytest.raises(ValueError, match=r"found 392 bytes after the header, expected 132 for sha"):
        io.open_embeddings(tmp_path / "a.npy")


def test_ragged_rows_are_named_by_their_place_in_the_file(tmp_path):
    lists = [[1.0, 2.0]] * 10 + [[1.0]] + [[1.0, 2.0]] * 5
    pq.write_table(pa.table({"v": lists}), tmp_path / "a.parquet", row_group_size=4)
    stream = io.open_embeddings(tmp_path / "a.parquet")
    for start in (0, 9, 10):
        with pytest.raises(ValueError, match="row 10, column 'v': found 1 values, expected 2 as"):
            list(stream.chunks(rows=3, start=start))
    assert len(list(stream.chunks(rows=3, start=11))) == 2
