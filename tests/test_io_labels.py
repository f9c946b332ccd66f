"""Label files: what their cells ask, and what is refused."""

from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from kernlens import io, targets
from kernlens.types import Labels, MultiLabels, Values
from tests.test_io import csv, parquet


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
