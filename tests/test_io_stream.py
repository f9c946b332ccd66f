"""Embeddings opened and read in chunks: every format against its own library, whole or refused."""

import sys
import tracemalloc

import gensim.models as gensim
import h5py
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import safetensors.numpy as safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernlens import io

BFLOAT16 = np.dtype(jnp.bfloat16)
ROWS, DIM = 11, 3
VALUES = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)
WORDS = np.array([f"é{i}" for i in range(ROWS)])


def npy(path, values, ids, _):
    np.save(path, values)


def npz(path, values, ids, _):
    np.savez(path, vectors=values, **({} if ids is None else {"ids": ids}))


def npz_packed(path, values, ids, _):
    np.savez_compressed(path, vectors=values, **({} if ids is None else {"ids": ids}))


def table(values, ids, **kinds):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    if kinds.get("ragged_type"):
        lists = lists.cast(pa.list_(lists.type.value_type))
    return pa.table({**({} if ids is None else {"id": ids}), "vector": lists})


def parquet(path, values, ids, group):
    pq.write_table(table(values, ids), path, row_group_size=group)


def parquet_lists(path, values, ids, group):
    pq.write_table(table(values, ids, ragged_type=True), path, row_group_size=group)


def parquet_wide(path, values, ids, group):
    frame = pd.DataFrame(values, columns=[f"d{i}" for i in range(values.shape[1])])
    if ids is not None:
        frame.insert(0, "id", ids)
    frame.to_parquet(path, row_group_size=group, index=False)


def arrow_file(path, values, ids, group):
    feather.write_feather(table(values, ids), path, chunksize=group)


def arrow_packed(path, values, ids, group):
    feather.write_feather(table(values, ids, ragged_type=True), path, "zstd", chunksize=group)


def arrow_stream(path, values, ids, group):
    content = table(values, ids)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, content.schema) as writer:
        writer.write_table(content, max_chunksize=group)


def tensors(path, values, ids, _):
    safetensors.save_file({"vectors": np.ascontiguousarray(values)}, path)


def hdf5(path, values, ids, group):
    with h5py.File(path, "w") as file:
        file.create_dataset("a/vectors", data=values, chunks=(min(group, len(values)), 1))
        if ids is not None:
            file["a/ids"] = ids.astype(object) if ids.dtype.kind == "U" else ids


def word2vec(binary):
    def write(path, values, ids, _):
        vectors = gensim.KeyedVectors(values.shape[1])
        vectors.add_vectors(ids.tolist(), values)
        vectors.save_word2vec_format(str(path), binary=binary, sort_attr=None)

    return write


FLOATS = [np.dtype(kind) for kind in ("f2", "f4", "f8")]
NUMBERS = [*FLOATS, np.dtype("i1"), np.dtype("u2"), np.dtype("i8")]
FORMATS = {
    # name: suffix, writer, dtypes, whether it can hold ids
    "npy": (".npy", npy, [*NUMBERS, BFLOAT16, np.dtype(">f4")], False),
    "npz": (".npz", npz, [*NUMBERS, BFLOAT16, np.dtype(">f8")], True),
    "npz_packed": (".npz", npz_packed, NUMBERS, True),
    "parquet": (".parquet", parquet, NUMBERS, True),
    "parquet_lists": (".parquet", parquet_lists, NUMBERS, True),
    "parquet_wide": (".parquet", parquet_wide, NUMBERS, True),
    "arrow_file": (".feather", arrow_file, NUMBERS, True),
    "arrow_packed": (".arrow", arrow_packed, NUMBERS, True),
    "arrow_stream": (".arrow", arrow_stream, NUMBERS, True),
    "tensors": (".safetensors", tensors, [*NUMBERS, BFLOAT16], False),
    "hdf5": (".h5", hdf5, [*NUMBERS, np.dtype(">f4")], True),
    "word2vec_text": (".txt", word2vec(False), [np.dtype("f4")], True),
    "word2vec_binary": (".bin", word2vec(True), [np.dtype("f4")], True),
}


def written(folder, name, values, ids=None, group=4):
    suffix, write, _, has_ids = FORMATS[name]
    if name.startswith("word2vec") and ids is None:
        ids = np.array([f"w{i}" for i in range(len(values))])
    path = folder / f"{name}{suffix}"
    write(path, values, ids if has_ids else None, group)
    return path


def read_dtype(dtype):
    return np.dtype(np.float32) if dtype.kind in "iu" else dtype.newbyteorder("=")


def joined(chunks):
    return tuple(np.concatenate(arrays) for arrays in zip(*chunks, strict=True))


@st.composite
def stored(draw):
    name = draw(st.sampled_from(sorted(FORMATS)))
    dtype = draw(st.sampled_from(FORMATS[name][2]))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    values = (100 * generator.random(shape)).astype(dtype)
    kind = draw(st.sampled_from([None, "text", "int"])) if FORMATS[name][3] else None
    ids = None if kind is None else generator.permutation(1000)[: shape[0]]
    if kind == "text" or (name.startswith("word2vec") and ids is not None):
        ids = np.array([f"ü {i}" if "word" not in name else f"ü{i}" for i in ids])
    return name, values, ids, draw(st.integers(1, 50))


@pytest.mark.thorough
@given(
    stored=stored(), rows=st.integers(1, 50), ends=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1))
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_format_gives_its_rows_in_any_chunks(tmp_path, stored, rows, ends):
    name, values, ids, group = stored
    stream = io.open_embeddings(written(tmp_path, name, values, ids, group))
    assert stream.shape == values.shape
    assert stream.dtype == read_dtype(values.dtype)
    if ids is not None:
        np.testing.assert_array_equal(stream.ids, ids.astype(str))
    elif not name.startswith("word2vec"):
        assert stream.ids is None

    for _ in range(2):  # a second pass is as the first
        chunks = list(stream.chunks(rows=rows))
        assert {len(chunk.rows) for chunk in chunks[:-1]} <= {rows}
        found, numbers = joined(chunk[:2] for chunk in chunks)
        assert found.dtype == stream.dtype
        np.testing.assert_array_equal(found, values.astype(stream.dtype))
        np.testing.assert_array_equal(numbers, np.arange(len(values)))
    start, stop = sorted(round(end * len(values)) for end in ends)
    parts = list(stream.chunks(rows=rows, start=start, stop=stop))
    assert sum(len(part.rows) for part in parts) == stop - start
    for part in parts:
        np.testing.assert_array_equal(part.values, values[part.rows].astype(stream.dtype))
        if stream.ids is not None:
            np.testing.assert_array_equal(part.ids, stream.ids[part.rows])

    whole = stream.read()
    np.testing.assert_array_equal(whole.values, values.astype(stream.dtype))
    assert (whole.dropped, whole.source) == (0, stream.source)


@given(stored=stored(), share=st.floats(0.0, 1.0, exclude_max=True))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_that_was_cut_reads_as_a_shorter_one(tmp_path, stored, share):
    path = written(tmp_path, *stored)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=path.name.replace(".", r"\.")):
        io.open_embeddings(path).read()


@given(
    name=st.sampled_from(sorted(FORMATS)), content=st.binary(max_size=300), start=st.integers(0, 40)
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_clearly(tmp_path, name, content, start):
    path = written(tmp_path, name, VALUES)
    path.write_bytes(path.read_bytes()[:start] + content)
    with pytest.raises(ValueError, match=path.name.replace(".", r"\.")):
        io.open_embeddings(path).read()


@pytest.mark.parametrize("binary", [False, True])
def test_word2vec_is_what_gensim_reads(tmp_path, binary):
    path = written(tmp_path, "word2vec_binary" if binary else "word2vec_text", VALUES, WORDS)
    theirs = gensim.KeyedVectors.load_word2vec_format(str(path), binary=binary)
    ours = io.read_embeddings(path)
    assert ours.ids.tolist() == theirs.index_to_key
    np.testing.assert_array_equal(ours.values, theirs.vectors)


def test_the_first_writers_binary_form_ends_rows_with_a_newline(tmp_path):
    path = tmp_path / "a.bin"
    rows = [f"w{i} ".encode() + row.tobytes() + b"\n" for i, row in enumerate(VALUES)]
    path.write_bytes(f"{ROWS} {DIM}\n".encode() + b"".join(rows))
    stream = io.open_embeddings(path)
    np.testing.assert_array_equal(joined(stream.chunks(rows=4))[0], VALUES)


def test_a_fortran_array_is_mapped_too(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(VALUES))
    found = joined(c[:2] for c in io.open_embeddings(tmp_path / "a.npy").chunks(rows=4))[0]
    np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize(
    ("name", "count"),
    [("npy", 200_000), ("npz", 80_000), ("hdf5", 40_000), ("word2vec_binary", 9_000)],
)
def test_memory_of_a_pass_is_that_of_a_few_chunks(tmp_path, name, count):
    values = np.random.default_rng(0).standard_normal((count, 64), np.float32)  # up to 51 MB
    path = written(tmp_path, name, values, group=1000)
    stream = io.open_embeddings(path)
    tracemalloc.start()
    total = sum(float(x.sum(dtype=np.float64)) for x, _, _ in stream.chunks(rows=100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Summed in another order.
    np.testing.assert_allclose(total, values.sum(dtype=np.float64), rtol=1e-9)
    assert peak < 0.5e6  # 20 chunks; the smallest file has 2.3 MB


@pytest.mark.parametrize("name", ["parquet", "parquet_lists", "arrow_file"])
def test_arrow_holds_a_few_chunks_of_one_large_group(tmp_path, name):
    values = np.random.default_rng(0).standard_normal((100_000, 64), np.float32)  # 25.6 MB
    if name == "arrow_file":  # by default it would be packed, and unpacked in whole batches
        path = tmp_path / "a.feather"
        feather.write_feather(table(values, None), path, "uncompressed", chunksize=len(values))
    else:
        path = written(tmp_path, name, values, group=len(values))
    del values
    before = pa.total_allocated_bytes()
    chunks = io.open_embeddings(path).chunks(rows=100)
    assert max(pa.total_allocated_bytes() - before for _ in chunks) < 8e6  # a few pages of 1 MB


def test_rows_out_of_range_are_refused_at_the_call(tmp_path):
    stream = io.open_embeddings(written(tmp_path, "npy", VALUES))
    for wrong in ({"rows": 0}, {"start": -1}, {"start": 12}, {"start": 5, "stop": 4}, {"stop": 12}):
        with pytest.raises(ValueError, match=r"npy\.npy: got rows=.*0 <= start <= stop <= 11"):
            stream.chunks(**wrong)
    assert list(stream.chunks(start=ROWS)) == []


def test_a_file_that_changes_between_passes_is_refused(tmp_path):
    path = written(tmp_path, "npy", VALUES)
    stream = io.open_embeddings(path)
    np.save(path, VALUES[:-1])
    with pytest.raises(ValueError, match=r"npy\.npy: has changed since it was opened"):
        next(stream.chunks())


@pytest.mark.parametrize("name", ["parquet", "npy", "word2vec_text"])
@pytest.mark.parametrize("pattern", ["parts", "parts/part-*"])
def test_files_follow_each_other_in_the_order_of_their_names(tmp_path, name, pattern):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "_SUCCESS").write_text("")
    (folder / ".part-0.crc").write_text("x")
    for number, (low, high) in reversed(list(enumerate([(0, 2), (2, 3), (3, ROWS)]))):
        path = written(tmp_path, name, VALUES[low:high], WORDS[low:high])
        path.rename(folder / f"part-{number}{path.suffix}")
    stream = io.open_embeddings(tmp_path / pattern)
    np.testing.assert_array_equal(stream.read().values, VALUES)
    for rows in (1, 4, 50):
        for start in range(10):
            values, numbers = joined(c[:2] for c in stream.chunks(rows=rows, start=start, stop=10))
            np.testing.assert_array_equal(values, VALUES[start:10])
            np.testing.assert_array_equal(numbers, np.arange(start, 10))
    if name != "npy":
        np.testing.assert_array_equal(stream.ids, WORDS)


def test_a_row_that_is_not_finite_is_named_with_its_file(tmp_path):
    for number in range(3):
        values = VALUES.copy()
        values[4, 1] = [0.0, np.nan, np.inf][number]
        np.save(tmp_path / f"{number}.npy", values)
    stream = io.open_embeddings(tmp_path)
    found = r"2 of 33 rows hold NaN, .* 15, 26, counted from 0 \(the first is row 4 of 1\.npy\)"
    with pytest.raises(ValueError, match=found):
        stream.read()


def two(folder, second, name="b.parquet", first_ids=("a", "b")):
    pq.write_table(table(VALUES[:2], list(first_ids)), folder / "a.parquet")
    pq.write_table(second, folder / name)


@pytest.mark.parametrize(
    ("second", "match"),
    [
        (table(VALUES[:2, :2], ["c", "d"]), r"b\.parquet: dims: found 2, expected 3 as in a\.par"),
        (table(VALUES[:2].astype("f8"), ["c", "d"]), "dtype: found float64, expected float32 as"),
        (table(VALUES[:2], None), "ids: found False, expected True as in a"),
        (table(VALUES[:2], ["c", "a"]), "id 'a' occurs 2 times, in rows 0, 3"),
    ],
)
def test_files_that_differ_are_refused(tmp_path, second, match):
    two(tmp_path, second)
    with pytest.raises(ValueError, match=match):
        io.open_embeddings(tmp_path)


def test_folders_that_hold_something_else_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no files there"):
        io.open_embeddings(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"\*\.npy: no files there"):
        io.open_embeddings(tmp_path / "*.npy")
    np.save(tmp_path / "a.npy", VALUES)
    (tmp_path / "b.parquet").write_text("x")
    with pytest.raises(ValueError, match=r"several formats, \['\.npy', '\.parquet'\]"):
        io.open_embeddings(tmp_path)
    (tmp_path / "b.parquet").unlink()
    (tmp_path / "old").mkdir()
    for path in (tmp_path, tmp_path / "*"):
        with pytest.raises(ValueError, match="holds the folder 'old'; expected files alone"):
            io.open_embeddings(path)


@pytest.mark.parametrize(
    ("name", "extra"),
    [("h5py", "hdf5"), ("pyarrow", "data")],
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name, extra):
    kind = {"h5py": "hdf5", "pyarrow": "arrow_file"}[name]
    path = written(tmp_path, kind, VALUES)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"package {name}: pip install 'kernlens\[{extra}\]'"):
        io.open_embeddings(path)


def test_the_fingerprint_is_of_the_content_not_of_format_or_chunks(tmp_path):
    with_ids = {
        io.fingerprint(io.open_embeddings(written(tmp_path, name, VALUES, WORDS)), rows=rows)
        for name in FORMATS
        for rows in (1, 4, 100)
        if FORMATS[name][3]
    }
    without = {
        io.fingerprint(io.open_embeddings(written(tmp_path, name, VALUES)))
        for name in ("npy", "hdf5")
    }
    assert len(with_ids) == len(without) == 1
    assert with_ids != without


def test_the_fingerprint_changes_with_the_content(tmp_path):
    changed = VALUES.copy()
    changed[5, 1] = np.nextafter(changed[5, 1], 9, dtype=np.float32)
    ab, a_b = np.array(["ab", "c"]), np.array(["a", "bc"])
    contents = [
        (VALUES, None), (changed, None), (VALUES[::-1], None), (VALUES[:-1], None),
        (VALUES.reshape(DIM, ROWS), None), (VALUES.astype("f8"), None),
        (VALUES[:2], ab), (VALUES[:2], a_b),
    ]  # fmt: skip
    found = {
        io.fingerprint(io.open_embeddings(written(tmp_path, "npz", *content)))
        for content in contents
    }
    assert len(found) == len(contents)
