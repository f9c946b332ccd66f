"""Values of streamed rows: integers with a scale, and rows that are not finite."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import safetensors.numpy as safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernlens import io
from tests.test_io_stream import ROWS, VALUES, WORDS, joined, stored, table, written


@pytest.mark.parametrize(
    "scale", [0.5, np.float64(0.25), np.arange(1.0, 4.0), np.arange(1.0, 12.0)[:, None]]
)
@pytest.mark.parametrize("name", ["npy", "parquet", "hdf5"])
def test_integers_are_multiplied_with_their_scale(tmp_path, scale, name):
    quantised = (20 * VALUES).astype(np.int8)
    expected = quantised.astype(np.float32) * np.asarray(scale, np.float32)
    stream = io.open_embeddings(written(tmp_path, name, quantised), scale=scale)
    assert stream.dtype == np.float32
    np.testing.assert_array_equal(stream.read().values, expected)
    for start in (0, 3):
        found = joined(c[:2] for c in stream.chunks(rows=2, start=start))[0]
        np.testing.assert_array_equal(found, expected[start:])


def test_a_scale_in_the_file_is_found(tmp_path):
    quantised, by_row = (20 * VALUES).astype(np.int8), np.linspace(0.1, 1, ROWS, dtype=np.float32)
    expected = quantised * by_row[:, None]
    np.savez(tmp_path / "a.npz", q=quantised, scale=by_row[:, None])
    safetensors.save_file({"q": quantised, "scale": by_row[:, None]}, tmp_path / "a.safetensors")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["q"], file["scale"] = quantised, by_row[:, None]
    content = table(quantised, WORDS).append_column("scale", pa.array(by_row))
    pq.write_table(content, tmp_path / "a.parquet")
    for name in ("a.npz", "a.safetensors", "a.h5", "a.parquet"):
        np.testing.assert_array_equal(io.read_embeddings(tmp_path / name).values, expected)
    (tmp_path / "two").mkdir()
    for part in range(2):
        pq.write_table(content.slice(6 * part, 6), tmp_path / "two" / f"{part}.parquet")
    np.testing.assert_array_equal(io.read_embeddings(tmp_path / "two").values, expected)


def test_a_scale_over_several_files_goes_by_row(tmp_path):
    quantised, scale = (20 * VALUES).astype(np.int8), np.arange(1.0, 12.0)[:, None]
    np.save(tmp_path / "0.npy", quantised[:4])
    np.save(tmp_path / "1.npy", quantised[4:])
    found, *_ = io.open_embeddings(tmp_path, scale=scale).read()
    np.testing.assert_array_equal(found, quantised * scale.astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "scale", "match"),
    [
        (np.float32, 0.5, "values are float32, beside a scale; expected integers"),
        (np.int8, np.ones(5), r"scale has shape \(5,\) of float64; expected a number, \[3\] or"),
        (np.int8, np.ones((1, 11)), r"shape \(1, 11\) .* or \[11, 1\] for the rows"),
        (np.int8, np.nan, "scale holds NaN"),
        (np.int8, "1", "scale has shape .* of <U1"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused(tmp_path, dtype, scale, match):
    path = written(tmp_path, "npy", VALUES.astype(dtype))
    with pytest.raises(ValueError, match=match):
        io.open_embeddings(path, scale=scale)


@given(
    stored=stored(),
    bad=st.sets(st.integers(0, 39)),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    rows=st.integers(1, 20),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_that_are_not_finite_are_refused_or_dropped(tmp_path, stored, bad, value, rows):
    name, values, ids, group = stored
    bad = sorted(row for row in bad if row < len(values))
    if values.dtype.kind in "iu" or not bad:
        return
    values[bad, -1] = value
    path = written(tmp_path, name, values, ids, group)
    shown = ", ".join(map(str, bad[:5])) + (", ..., counted" if len(bad) > 5 else ", counted")
    with pytest.raises(ValueError, match=rf"{len(bad)} of {len(values)} rows .* in rows {shown}"):
        list(io.open_embeddings(path).chunks(rows=rows))
    stream = io.open_embeddings(path, drop_nonfinite=True)
    kept = np.delete(np.arange(len(values)), bad)
    if not kept.size:
        with pytest.raises(ValueError, match=r"all of the rows 0\.\.\d+ hold NaN"):
            stream.read()
        return
    chunks = list(stream.chunks(rows=rows))
    assert {len(chunk.rows) for chunk in chunks[:-1]} <= {rows}
    np.testing.assert_array_equal(joined(c[:2] for c in chunks)[0], values[kept])
    np.testing.assert_array_equal(joined(c[:2] for c in chunks)[1], kept)
    found = stream.read()
    np.testing.assert_array_equal(found.values, values[kept])
    assert found.dropped == len(bad)
    every = np.arange(len(values)).astype(str) if stream.ids is None else stream.ids
    np.testing.assert_array_equal(found.dropped_ids, every[bad])
    # Without ids, row numbers are the ids, and have to stay those of the file.
    expected = kept.astype(str) if stream.ids is None else stream.ids[kept]
    np.testing.assert_array_equal(found.ids, expected)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.int8(), 2)], ids=str)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("lacking", [[0, 3], [2]])
def test_rows_without_a_vector_are_not_finite(tmp_path, kind, suffix, lacking):
    rows = [None if i in lacking else [i, i + 1] for i in range(5)]
    table = pa.table({"id": list("abcde"), "vector": pa.array(rows, kind)})
    path = tmp_path / f"a.{suffix}"
    (pq.write_table if suffix == "parquet" else feather.write_feather)(table, path)
    shown = ", ".join(map(str, lacking))
    with pytest.raises(ValueError, match=f"{len(lacking)} of 5 rows .* in rows {shown}, counted"):
        io.read_embeddings(path)
    found = io.open_embeddings(path, drop_nonfinite=True).read()
    kept = np.delete(np.arange(5), lacking)
    np.testing.assert_array_equal(found.values, np.stack([kept, kept + 1], axis=1))
    np.testing.assert_array_equal(found.ids, np.array(list("abcde"))[kept])
    assert found.dropped_ids.tolist() == [list("abcde")[row] for row in lacking]


def test_integers_without_a_value_are_not_finite(tmp_path):
    pq.write_table(pa.table({"vector": pa.array([[1, 2], [3, None]])}), tmp_path / "a.parquet")
    with pytest.raises(
        ValueError, match="1 of 2 rows hold NaN, infinity or no value, in rows 1, counted"
    ):
        io.read_embeddings(tmp_path / "a.parquet")


def test_large_finite_values_are_kept(tmp_path):
    values = np.full((3, 4), np.finfo(np.float32).max)
    values[1] *= -1
    np.save(tmp_path / "a.npy", values)  # sums overflow
    np.testing.assert_array_equal(io.read_embeddings(tmp_path / "a.npy").values, values)
