"""Embedding and label files: what is read, how rows meet, what is refused."""

import os
import pickle
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernlens import files, io, targets
from kernlens.types import Labels, MultiLabels, Values

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


# Embeddings


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


# Labels


@pytest.mark.parametrize(
    ("text", "options", "ids"),
    [
        ("id,label\n5,x\n7,y\n9,\n", {}, ["5", "7", "9"]),
        ("label,id\nx,5\ny,7\n,9\n", {}, ["5", "7", "9"]),
        ("item,kind\n5,x\n7,y\n9,\n", {}, ["5", "7", "9"]),
        ("item,label\n5,x\n7,y\n9,\n", {}, ["5", "7", "9"]),
        ("kind,Id\nx,5\ny,7\n,9\n", {}, ["5", "7", "9"]),
        ("a,b,c\n1,x,5\n1,y,7\n1,,9\n", {"id_column": "c", "label_column": "b"}, ["5", "7", "9"]),
        ("id,a,b\n5,1,x\n7,1,y\n9,1,\n", {"label_column": "b"}, ["5", "7", "9"]),
        ('id,label\r\n"5",x\r\n"7",y\r\n"9",""\r\n', {}, ["5", "7", "9"]),
        ("\ufeffid,label\n5,x\n7,y\n9,\n", {}, ["5", "7", "9"]),
        ('label\nx\ny\n""\n', {}, None),
    ],
)
def test_csv_labels(tmp_path, text, options, ids):
    path = tmp_path / "l.csv"
    path.write_text(text, newline="")
    found = io.read_labels(path, **options)
    assert isinstance(found.labels, Labels)
    assert (None if found.ids is None else found.ids.tolist()) == ids
    np.testing.assert_array_equal(found.labels.codes, [0, 1, -1])
    assert found.labels.names == ("x", "y")


@pytest.mark.parametrize(
    ("text", "names", "codes"),
    [
        ("1.0\n2.0\nnan\n", ("1", "2"), [0, 1, -1]),  # as a Parquet column of floats
        ('10\n9\n""\n', ("9", "10"), [1, 0, -1]),
        (
            "9007199254740993.0\n9007199254740992\n",
            ("9007199254740992", "9007199254740993"),
            [1, 0],
        ),
        ("1_0\n10\n", ("10", "1_0"), [1, 0]),
        ("007\n8\nNaN\n", ("007", "8"), [0, 1, -1]),
        ("0.5\nx\nnan\n", ("0.5", "x"), [0, 1, -1]),
    ],
)
def test_numbers_and_nan_as_csv_labels(tmp_path, text, names, codes):
    path = csv(tmp_path / "l.csv", "label\n" + text)
    found = io.read_labels(path, target=targets.labels)
    assert found.labels.names == names
    np.testing.assert_array_equal(found.labels.codes, codes)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("label\nx\ny\nx\nye", "its label 'ye' stands on no other line; was the file cut"),
        ("label\nx\ny\nx\nye\n", ""),
        ("label\nx\ny\nx\ny", ""),
        ("label,id\nx,1\ny,2\n,3", ""),
    ],
)
def test_a_last_line_that_may_have_been_cut_is_noted(tmp_path, text, told):
    notes = io.read_labels(csv(tmp_path / "l.csv", text)).notes
    assert len(notes) == bool(told)
    assert told in "".join(notes)


@pytest.mark.parametrize(
    ("label", "names"),
    [
        (["x", "y", None], ("x", "y")),
        (pa.array(["x", "y", None]).dictionary_encode(), ("x", "y")),
        (pa.array([10, 20, None]), ("10", "20")),
        ([10.0, 20.0, float("nan")], ("10", "20")),
        (pa.array([False, True, None]), ("False", "True")),
    ],
)
def test_parquet_labels(tmp_path, label, names):
    path = parquet(tmp_path / "l.parquet", id=[5, 7, 9], label=label)
    found = io.read_labels(path, target=targets.labels)
    assert found.ids is not None
    assert found.ids.tolist() == ["5", "7", "9"]
    np.testing.assert_array_equal(found.labels.codes, [0, 1, -1])
    assert found.labels.names == names


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("", {}, r"l\.csv: empty file"),
        ("id,label\n", {}, "no rows after the header"),
        ("id,label\n1,x\n2\n", {}, r"line 3: found 1 values"),
        ("id,label\n1,x\n,y\n", {}, "line 3: no id in column 'id'"),
        ("id,label\n1,x\n2,y\n1,x\n", {}, "id '1' occurs 2 times, on lines 2, 4"),
        ("id,label\n1,x\n2,x\n", {}, r"column 'label': found classes \['x'\]; expected two"),
        ("id,label\n1,\n2,\n", {}, r"found classes \[\]; expected two"),
        ("id,a,b\n1,x,y\n", {}, r"which column is the label\? found a, b.*--label-c"),
        ("a,b,label\n1,x,y\n", {}, r"which column is the id\? found .*--id-column"),
        ("a,b,c\n1,x,y\n", {}, r"which column is the label\?"),
        ("id,label\n1,x\n", {"label_column": "kind"}, r"no column 'kind'; found \['id', 'label'\]"),
        ("id,department\n1,x\n", {"label_column": "departmnt"}, "; did you mean 'department'\\?$"),
        ("id,label\n1,x\n", {"id_column": "key"}, r"no column 'key'; found \['id', 'label'\]"),
        ("id,label\n1,x\n", {"id_column": "id", "label_column": "id"}, "both column 'id'"),
        ("id\n1\n2\n", {}, "which column is the label"),
        ("id,label\n1,2\n2,5\n", {}, r"2 different ones .* \(--target classes\).*\(--target numb"),
        ("id,label\n1,x|y\n2,y\n", {}, r"separator='\|'\) \(--separator '\|'\) if it stands"),
    ],
)
def test_csv_labels_refused(tmp_path, text, options, match):
    with pytest.raises(ValueError, match=match):
        io.read_labels(csv(tmp_path / "l.csv", text), **options)


def test_a_label_column_asks_what_its_values_ask(tmp_path):
    """Fractions are numbers, lists are several labels; both from CSV and Parquet."""
    for path in (
        csv(tmp_path / "l.csv", "id,label\n5,2\n7,\n9,-.5e1\n"),
        parquet(tmp_path / "l.parquet", id=[5, 7, 9], label=[2.0, None, -5.0]),
    ):
        found = io.read_labels(path, target=targets.values)
        assert isinstance(found.labels, Values)
        np.testing.assert_array_equal(found.labels, [2.0, np.nan, -5.0])
    found = io.read_labels(csv(tmp_path / "l.csv", "id,label\n5,2\n7,\n9,0.25\n"))
    np.testing.assert_array_equal(found.labels, [2.0, np.nan, 0.25])
    split = partial(targets.multi_labels, separator="|")
    for path, target in (
        (csv(tmp_path / "l.csv", "id,label\n5,x|y\n7,\n9,x\n"), split),
        (parquet(tmp_path / "l.parquet", id=[5, 7, 9], label=[["x", "y"], None, ["x"]]), None),
    ):
        found = io.read_labels(path, target=target) if target else io.read_labels(path)
        assert isinstance(found.labels, MultiLabels)
        np.testing.assert_array_equal(found.labels.membership, [[1, 1], [0, 0], [1, 0]])
        np.testing.assert_array_equal(found.labels.labelled, [True, False, True])
        told = ["1 empty cells: an empty cell is no label"] if target else []
        assert [note.partition("; ")[0].partition(": ")[2] for note in found.notes] == told


def test_an_empty_cell_and_a_text_for_missing_are_told_apart_and_an_empty_list_is_no_tag(tmp_path):
    split = partial(targets.multi_labels, separator="|")
    text = "id,label\n5,x|y\n6,NA\n7, \n8,\n9,x\n"
    notes = io.read_labels(csv(tmp_path / "l.csv", text), target=split).notes
    assert len(notes) == 2
    assert "1 labels 'NA' count as no label" in notes[0]
    assert "2 empty cells: an empty cell is no label" in notes[1]
    found = io.read_labels(parquet(tmp_path / "l.parquet", id=[5, 7, 9], label=[["x"], [], ["y"]]))
    assert found.labels.labelled.all()
    assert not found.notes


def test_an_embedding_where_labels_are_expected_may_be_a_swapped_file(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 9))
    ids = [f"i{row}" for row in range(30)]
    columns = {f"d{at}": rows[:, at] for at in range(9)}
    wide = {name: list(column) for name, column in columns.items()}
    lines = [",".join([id_, *map(str, row)]) for id_, row in zip(ids, rows, strict=True)]
    for path in (
        parquet(tmp_path / "wide.parquet", id=ids, **wide),
        parquet(tmp_path / "lists.parquet", id=ids, vector=rows.tolist()),
        csv(tmp_path / "wide.csv", "\n".join(["id," + ",".join(wide), *lines]) + "\n"),
        csv(tmp_path / "headless.csv", "\n".join(lines) + "\n"),
    ):
        with pytest.raises(ValueError, match=r"are the two files swapped\?"):
            io.read_labels(path)
    tags = {f"tag{at}": [row % 2 for row in range(30)] for at in range(9)}
    few = dict(list(wide.items())[:3])
    amid = {**few, "kind": ["a"] * 30, **wide}
    for more in (tags, few, amid, {**wide, "target": ids, "class": ids}):
        with pytest.raises(ValueError, match="which column is the label") as caught:
            io.read_labels(parquet(tmp_path / "other.parquet", id=ids, **more))
        assert "swapped" not in str(caught.value)


def test_text_of_a_typed_file_is_text_and_missing_values_are_those_that_are_named(tmp_path):
    def read(label, **options):
        path = parquet(tmp_path / "l.parquet", id=list(range(len(label))), label=label)
        return io.read_labels(path, **options)

    assert read(["10", "9", "10", "9"]).labels.names == ("10", "9")
    with pytest.raises(ValueError, match=r"reads as numbers with fractions, such as '0\.5'"):
        read(["0.5", "2", "0.5", "2"])
    for label in ([-1, 4, 7, 4, 7], [-1.0, 4.0, 7.0, 4.0, 7.0]):
        found = read(label, missing=("-1",))
        np.testing.assert_array_equal(found.labels.codes, [-1, 0, 1, 0, 1])
        assert "1 labels '-1' count as no label" in found.notes[0]
    found = read([0.5, -1.0, float("nan")], missing=("-1",))
    np.testing.assert_array_equal(found.labels, [0.5, np.nan, np.nan])
    assert len(found.notes) == 1
    assert read(["nan", "x", "nan", "x"], missing=(), target=targets.labels).labels.names == (
        "nan",
        "x",
    )


def test_small_classes_can_be_left_out_and_numbers_have_none(tmp_path):
    path = csv(tmp_path / "l.csv", "label\n" + "x\ny\nz\ny\nx\n")
    found = io.read_labels(path, min_class_count=2)
    np.testing.assert_array_equal(found.labels.codes, [0, 1, -1, 1, 0])
    assert "1 classes of fewer than 2 rows are left out, 1 rows in all" in found.notes[0]
    path = csv(tmp_path / "n.csv", "label\n0.5\n1.5\n")
    with pytest.raises(ValueError, match="--min-class-count 2 counts rows of classes"):
        io.read_labels(path, min_class_count=2)


def test_numbers_and_several_labels_join_by_id():
    side = rows_of([9, 5, 8])
    for target, expected in (
        (targets.values([0.5, 2.0, None]), [np.nan, 0.5]),
        (targets.multi_labels([["x"], ["y"], None]), [[False, False], [True, False]]),
    ):
        file = io.LabelFile(target, np.array(["5", "7", "9"]), "lab")
        joined = io.join({"a": side}, file)
        np.testing.assert_array_equal(joined.values["a"], side.values[:2])
        found = joined.labels
        assert type(found) is type(target)
        own = found.membership if isinstance(found, MultiLabels) else found
        np.testing.assert_array_equal(own, expected)


# Join


def rows_of(ids, seed=0, dim=2):
    values = np.random.default_rng(seed).standard_normal((len(ids), dim))
    return io.Embeddings(values, np.array(ids, str), "emb")


def labels_of(ids, raw):
    return io.LabelFile(
        targets.labels(list(raw)), None if ids is None else np.array(list(ids)).astype(str), "lab"
    )


@given(
    st.lists(st.lists(st.integers(0, 12), unique=True, min_size=3), min_size=1, max_size=3),
    st.dictionaries(st.integers(0, 12), st.sampled_from(["x", "y", "z", ""]), min_size=3),
)
@settings(max_examples=80)
def test_join_is_the_rows_that_all_have(ids, labels):
    given_ = {str(i): rows_of(own, seed=i) for i, own in enumerate(ids)}
    common = [key for key in ids[0] if key in labels and all(key in own for own in ids)]
    side = labels_of(list(labels), list(labels.values()))
    if len({labels[key] for key in common} - {""}) < 2:
        with pytest.raises(ValueError, match=r"no id in common|no row is in all|two or more"):
            io.join(given_, side)
        return
    found = io.join(given_, side)
    for name, embeddings in given_.items():
        own = ids[int(name)]
        expected = np.stack([embeddings.values[own.index(key)] for key in common])
        np.testing.assert_array_equal(found.values[name], expected)
        lacking = [str(key) for key in own if key not in common]
        assert found.unjoined[name].ids.tolist() == lacking
        assert found.unjoined[name].count == len(lacking)
    names = ("", *found.labels.names)
    assert [names[code + 1] for code in found.labels.codes] == [labels[key] for key in common]
    lacking = [str(key) for key in labels if key not in common]
    assert found.unjoined_labels.ids.tolist() == lacking


def test_integer_float_and_text_ids_meet(tmp_path):
    labels = io.read_labels(csv(tmp_path / "l.csv", "id,label\n3,x\n70,y\n12,x\n"))
    for i, ids in enumerate([IDS, IDS.astype(float), TEXT_IDS, IDS.astype(np.int8)]):
        path = parquet(tmp_path / f"{i}.parquet", id=ids, vector=LISTS)
        found = io.join({"a": io.read_embeddings(path)}, labels)
        np.testing.assert_array_equal(found.values["a"], VALUES[:3])
        np.testing.assert_array_equal(found.labels.codes, [1, 0, 0])
        assert found.unjoined["a"].ids.tolist() == TEXT_IDS[3:].tolist()
        assert found.unjoined_labels.count == 0


def test_row_numbers_are_the_ids_of_a_file_without():
    labels = labels_of([2, 0, 5], ["x", "y", "y"])
    found = io.join({"a": io.Embeddings(VALUES)}, labels)
    np.testing.assert_array_equal(found.values["a"], VALUES[[0, 2, 5]])
    np.testing.assert_array_equal(found.labels.codes, [1, 0, 1])


def test_labels_without_ids_go_row_by_row_and_nothing_is_copied():
    found = io.join({"a": io.Embeddings(VALUES)}, labels_of(None, list("xyxyxyx")))
    assert found.values["a"] is VALUES
    assert (found.unjoined["a"].count, found.unjoined_labels.count) == (0, 0)


@pytest.mark.parametrize(
    ("embeddings", "labels", "match"),
    [
        ({}, labels_of([1, 2], "xy"), "at least one embedding"),
        (
            {"a": rows_of(["p", "q", "r", "s"])},
            labels_of([1, 2], "xy"),
            r"no id in common: emb has 'p', 'q', 'r', \.\.\.; lab has '1', '2'",
        ),
        (
            {"a": rows_of([1, 2]), "b": rows_of([3, 4])},
            labels_of([1, 2, 3, 4], "xyxy"),
            "no row is in all files: emb has '1', '2'; emb has '3', '4'; lab has",
        ),
        ({"a": rows_of([1, 2, 3])}, labels_of([1, 2, 4], "xxy"), r"2 rows joined: found .*\['x'\]"),
        ({"a": io.Embeddings(VALUES)}, labels_of(None, "xy"), "no ids and 2 rows, embeddings 7"),
        # Ids from 1 would join all rows but one, each to its neighbour's label.
        (
            {"a": io.Embeddings(VALUES)},
            labels_of(range(1, ROWS + 1), "xyxyxyx"),
            r"must be its row numbers 0\.\.6; lab has 1 others: '7'; save the embeddings with",
        ),
        (
            {"a": rows_of([1, 2]), "b": rows_of([2, 1])},
            labels_of(None, "xy"),
            "lab has no ids, and emb has, such as '1', '2'; add a column of ids .* --by-row",
        ),
    ],
)
def test_join_refused(embeddings, labels, match):
    with pytest.raises(ValueError, match=match):
        io.join(embeddings, labels)


# Of 4 rows 1 has no label (a quarter), of 5 labels 2 have no row (two fifths).
SHARES = [
    ({"max_unjoined": 0.25, "max_unjoined_labels": 0.4}, None),
    ({"max_unjoined": 0.25}, None),
    ({"max_unjoined_labels": 0.4}, None),
    ({"max_unjoined": 0.24, "max_unjoined_labels": 0.4}, r"emb: 1 of 4 ids.*'a'.*share of 0\.24"),
    ({"max_unjoined": 0.25, "max_unjoined_labels": 0.39}, r"lab: 2 of 5 ids.*'e', 'f'.*of 0\.39"),
    ({"max_unjoined": 0.24}, r"emb: 1 of 4 ids.*share of 0\.24"),
    ({"max_unjoined_labels": 0.39}, r"lab: 2 of 5 ids.*share of 0\.39"),
    ({"max_unjoined": -0.1}, r"max_unjoined must be in \[0, 1\]; got -0\.1"),
    ({"max_unjoined": 1.1}, r"max_unjoined must be in \[0, 1\]; got 1\.1"),
    ({"max_unjoined_labels": -0.1}, r"max_unjoined_labels must be in \[0, 1\]; got -0\.1"),
    ({"max_unjoined_labels": 1.1}, r"max_unjoined_labels must be in \[0, 1\]; got 1\.1"),
]


@pytest.mark.parametrize(("limits", "refused"), SHARES)
@pytest.mark.parametrize("streamed", [False, True])
def test_each_side_has_a_limit_of_its_own(tmp_path, limits, refused, streamed):
    labels = labels_of("bcdef", "xyxyx")
    if streamed:
        path = parquet(tmp_path / "emb.parquet", id=np.array(list("abcd")), vector=LISTS[:4])
        given_ = io.open_embeddings(path)
    else:
        given_ = {"a": rows_of(list("abcd"))}
    call = partial(io.join_stream if streamed else io.join, given_, labels, **limits)
    if refused is None:
        assert call().unjoined_labels.ids.tolist() == ["e", "f"]
    else:
        with pytest.raises(ValueError, match=refused.replace("emb:", r"emb.*:")):
            call()


def test_rows_without_a_label_stay_and_count_as_joined():
    labels = io.LabelFile(Labels(np.array([0, -1, 1], np.int32), ("x", "y")), None, "lab")
    found = io.join({"a": io.Embeddings(VALUES[:3])}, labels)
    np.testing.assert_array_equal(found.labels.codes, [0, -1, 1])


# Writing


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
