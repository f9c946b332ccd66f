# ruff: noqa: PD011
"""What people bring: each form gives the rows, ids and labels that were written."""

import base64
import gzip
import json
import pickle

import gensim
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy as safetensors

from kernlens import io, targets
from kernlens.io import cells, roles, shards
from kernlens.io import gensim as keyed
from kernlens.io.limits import ASKED, Asked

N, DIM = 30, 3
X = np.random.default_rng(1).standard_normal((N, DIM)).astype(np.float32)
IDS = np.random.default_rng(2).permutation(N)
WORDS = np.array([f"w{i}" for i in IDS])
NAMES = [f"c{i % 3}" for i in range(N)]


def check(path, ids=WORDS, values=X, **options):
    found = io.open_embeddings(path, **options)
    np.testing.assert_array_equal(found.read().values, values)
    if ids is None:
        assert found.ids is None
    else:
        np.testing.assert_array_equal(found.ids, ids)
    return found


# Tables


def test_polars_ipc_with_views_and_categories(tmp_path):
    frame = pl.DataFrame(
        {
            "sku": pl.Series(WORDS.tolist(), dtype=pl.Categorical),
            "title": [f"title {i} of an item" for i in range(N)],
            "v": X.tolist(),
        },
        schema_overrides={"v": pl.List(pl.Float32)},
    )
    for name in ("a.arrow", "a.ipc"):
        frame.write_ipc(tmp_path / name)
        found = check(tmp_path / name)
        assert found.told == "id sku · 3 dimensions in v (left out: title)"
    frame.write_parquet(tmp_path / "a.parquet")
    check(tmp_path / "a.parquet")
    array = frame.with_columns(v=pl.Series(X.tolist(), dtype=pl.Array(pl.Float32, DIM)))
    array.write_ipc(tmp_path / "b.arrow")
    check(tmp_path / "b.arrow")
    frame.drop("v").with_columns(
        **{f"d{i}": pl.Series(X[:, i].tolist(), dtype=pl.Float32) for i in range(DIM)}
    ).write_ipc(tmp_path / "c.arrow")
    check(tmp_path / "c.arrow")


def listed(row):
    return ",".join(map(repr, row.tolist()))


@pytest.mark.parametrize(
    "write",
    [
        listed,
        lambda row: f"[{listed(row)}]",
        lambda row: str([float(value) for value in row]),
        lambda row: listed(row).replace(",", " "),
        lambda row: base64.b64encode(row.tobytes()).decode(),
    ],
    ids=["commas", "brackets", "list", "spaces", "base64"],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".arrow"])
def test_vectors_in_a_cell_of_text(tmp_path, write, suffix):
    frame = pd.DataFrame({"sku": WORDS, "vector": [write(row) for row in X], "price": 1.5})
    path = tmp_path / f"a{suffix}"
    {
        ".csv": frame.to_csv,
        ".csv.gz": frame.to_csv,
        ".parquet": frame.to_parquet,
        ".arrow": frame.to_feather,
    }[suffix](path, **({"index": False} if suffix != ".arrow" else {}))
    found = check(path)
    assert found.told == "id sku · 3 dimensions in vector (left out: price)"


def test_a_cell_that_is_no_vector_is_named(tmp_path):
    texts = [listed(row) for row in X]
    texts[25] = "0.5,oops,1"
    pd.DataFrame({"id": WORDS, "v": texts}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"column 'v', row 25: found '0\.5,oops,1'"):
        io.open_embeddings(tmp_path / "a.csv").read()
    texts[25] = "0.5,1"
    pd.DataFrame({"id": WORDS, "v": texts}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="row 25: found 2 values, expected 3 as in the rows"):
        io.open_embeddings(tmp_path / "a.parquet").read()


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["1,2,3"], cells.LISTED),
        (["[1]", "[2]"], cells.LISTED),
        (["1 2 3", None, ""], cells.LISTED),
        (["red wine", "tea"], None),
        (["20 30"], None),  # may be a name
        (["1_0,2,3"], None),
        (["abcdefghijkl"], None),  # base64 of no plausible floats
        ([base64.b64encode(np.float32([0.5, 2.0]).tobytes()).decode()], cells.BASE64),
        ([], None),
    ],
)
def test_how_vectors_stand_in_text(texts, form):
    assert cells.form_of(texts) == form


def test_two_list_columns_by_name(tmp_path):
    other = -2 * X
    table = pa.table({"sku": WORDS, "v1": list(X), "v2": list(other), "number": IDS})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"which column holds the vectors.*v1, v2.*::v1"):
        io.open_embeddings(tmp_path / "a.parquet")
    check(tmp_path / "a.parquet::v1")
    check(f"{tmp_path}/a.parquet::v2", values=other)
    check(tmp_path / "a.parquet", values=other, columns="v2")
    check(tmp_path / "a.parquet::id=number::v2", IDS.astype(str), other)
    check(tmp_path / "a.parquet", None, columns="v1", by_row=True)
    with pytest.raises(ValueError, match="expected FILE::COLUMN or FILE::id=COLUMN, each once"):
        io.open_embeddings(tmp_path / "a.parquet::v1::v2")


def test_columns_by_pattern(tmp_path):
    frame = pd.DataFrame(X, columns=["pc_a", "pc_b", "pc_c"]).assign(price=1.0, sku=WORDS)
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    frame.to_csv(tmp_path / "a.csv", index=False)
    for path in (tmp_path / "a.parquet", tmp_path / "a.csv"):
        with pytest.raises(ValueError, match=r"no vectors: found pc_a \(float\).*--columns"):
            io.open_embeddings(path)
        found = check(path, columns="pc_*")
        assert found.told == "id sku · 3 dimensions pc_a..pc_c (left out: price)"
        check(path, values=X[:, [0, 2]], columns=["pc_a", "pc_c"])
        with pytest.raises(ValueError, match="'sku' holds text"):
            io.open_embeddings(path, columns=["pc_a", "sku"])


def test_text_tables(tmp_path):
    frame = pd.DataFrame(X, columns=[f"e{i}" for i in range(DIM)])
    frame.insert(0, "movieId", IDS)
    ids = IDS.astype(str)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "a.csv.gz", index=False, sep="|")
    for name in ("a.csv", "a.tsv", "a.csv.gz"):
        check(tmp_path / name, ids)
        chunks = list(io.open_embeddings(tmp_path / name).chunks(rows=7, start=3, stop=25))
        np.testing.assert_array_equal(np.concatenate([chunk.values for chunk in chunks]), X[3:25])
    np.savetxt(tmp_path / "b.csv", X, delimiter=",", fmt="%.9e")
    check(tmp_path / "b.csv", None)
    pd.DataFrame(X, index=WORDS).to_csv(tmp_path / "c.csv")  # pandas' own: ",0,1,2"
    check(tmp_path / "c.csv")
    pd.DataFrame(X).to_csv(tmp_path / "plain.csv")  # row numbers alone are no ids
    assert check(tmp_path / "plain.csv", None).told == "by row number · 3 dimensions 0..2"
    with (tmp_path / "d.csv").open("w") as file:
        file.writelines(f"{id_},{listed(row)}\n" for id_, row in zip(WORDS, X, strict=True))
    check(tmp_path / "d.csv")
    frame.to_csv(tmp_path / "e.csv", index=False, header=False)
    with pytest.raises(ValueError, match=r"no header line.*--id-column 'column 1'"):
        io.open_embeddings(tmp_path / "e.csv")
    check(tmp_path / "e.csv", ids, id_column="column 1", columns="column [2-4]")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,d0,d1\n1,0.5,x\n2,1,1\n", r"column 'd1' holds text, .* dimensions d0\.\.d1"),
        ("id,d0,d1\n" + "1,2,3\n" * 1, None),
        ("id,d0,d1\na,1,2\nb,3\n", r"line 3: found 2 values \['b', '3'\], expected 3: id, d0, d1"),
        ("id,d0,d0\na,1,2\n", "two columns have one name"),
        ("id,d0\n", "no rows"),
        ("id,d0,d1\n" + "".join(f"{i},1,2\n" for i in range(80)) + "x,oops,1\n",
         "line 82, column 'd0': found 'oops', expected a number"),
        ('id,d0,d1\na,1,"2\n', "conversion error"),
    ],
)  # fmt: skip
def test_text_tables_refused(tmp_path, text, match):
    (tmp_path / "a.csv").write_text(text)
    if match is None:
        check(tmp_path / "a.csv", ["1"], [[2.0, 3.0]])
        return
    with pytest.raises(ValueError, match=match):
        io.open_embeddings(tmp_path / "a.csv").read()


def test_recbole_items(tmp_path):
    vectors = [" ".join(map(repr, row.tolist())) for row in X]
    lines = [f"{word}\tA title\t{own}\n" for word, own in zip(WORDS, vectors, strict=True)]
    head = "item_id:token\ttitle:token_seq\temb:float_seq\n"
    (tmp_path / "ml.item").write_text(head + "".join(lines))
    found = check(tmp_path / "ml.item")
    assert found.told == "id item_id · 3 dimensions in emb (left out: title)"


# Word vectors


def test_word_vectors_in_text(tmp_path):
    lines = [
        f"{word} {listed(row).replace(',', ' ')}\n" for word, row in zip(WORDS, X, strict=True)
    ]
    head = f"{N} {DIM}\n"
    texts = {
        "glove.txt": "".join(lines),
        "tabs.txt": "".join(lines).replace(" ", "\t"),
        "head.vec": head + "".join(lines),
        "fast.vec": head + "".join(line.replace("\n", " \n") for line in lines),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        check(tmp_path / name)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        check(tmp_path / f"{name}.gz")
    spaced = lines[0].replace(WORDS[0], ". . .")
    (tmp_path / "spaced.txt").write_text("".join([*lines[1:], spaced]))
    ids = [*WORDS[1:], ". . ."]
    check(tmp_path / "spaced.txt", ids, np.roll(X, -1, axis=0))


@pytest.mark.parametrize("feed", [b"", b"\n"])
def test_a_word_with_a_space_is_refused_wherever_it_stands(tmp_path, feed):
    rows = np.random.default_rng(4).standard_normal((N, 16)).astype("<f4")
    for at in range(N):
        for word in ("x y", "abc d", "abcdefg h", "a b c"):
            words = [word if i == at else f"w{i}" for i in range(N)]
            packed = [
                w.encode() + b" " + r.tobytes() + feed for w, r in zip(words, rows, strict=True)
            ]
            (tmp_path / "a.bin").write_bytes(b"%d 16\n" % N + b"".join(packed))
            with pytest.raises(ValueError, match=r"a\.bin"):
                io.open_embeddings(tmp_path / "a.bin").read()


def test_gensim_keyed_vectors(tmp_path):
    made = gensim.models.KeyedVectors(DIM)
    made.add_vectors(WORDS.tolist(), X)
    made.save(str(tmp_path / "small.kv"))
    found = check(tmp_path / "small.kv")
    assert found.told == "id key · 3 dimensions"
    made.save(str(tmp_path / "large.kv"), sep_limit=0)
    assert (tmp_path / "large.kv.vectors.npy").exists()
    check(tmp_path / "large.kv")
    (tmp_path / "large.kv.vectors.npy").unlink()
    with pytest.raises(
        ValueError, match=r"its vectors lie in large\.kv\.vectors\.npy, which is not"
    ):
        io.open_embeddings(tmp_path / "large.kv")


class _Runs:
    """Something that runs a program when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_never_run(tmp_path):
    made = gensim.models.KeyedVectors(DIM)
    made.add_vectors(WORDS.tolist(), X)
    made.expandos = _Runs(tmp_path / "ran")
    (tmp_path / "a.kv").write_bytes(pickle.dumps(made))
    check(tmp_path / "a.kv")
    (tmp_path / "b.kv").write_bytes(pickle.dumps(_Runs(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"not what gensim's KeyedVectors\.save writes"):
        io.open_embeddings(tmp_path / "b.kv")
    with pytest.raises(ValueError, match="not what gensim's"):
        keyed.open_keyed_vectors(_written(tmp_path / "c.kv", b"cos\nsystem\n(S'true'\ntR."), ASKED)
    assert not (tmp_path / "ran").exists()


def _written(path, content):
    path.write_bytes(content)
    return path


# Arrays


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float64"])
def test_safetensors_of_every_float(tmp_path, name):
    kind = np.dtype(getattr(jnp, name))
    values = X.astype(kind)
    codes = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
    if name in codes:  # the package itself refuses these in NumPy
        tensor = {"dtype": codes[name], "shape": [N, DIM], "data_offsets": [0, N * DIM]}
        header = json.dumps({"emb": tensor})
        content = len(header).to_bytes(8, "little") + header.encode() + values.tobytes()
        (tmp_path / "a.safetensors").write_bytes(content)
    else:
        safetensors.save_file({"emb": values, "item_ids": IDS}, tmp_path / "a.safetensors")
    found = io.open_embeddings(tmp_path / "a.safetensors").read()
    np.testing.assert_array_equal(found.values.astype(np.float64), values.astype(np.float64))
    assert found.ids is None or found.ids.tolist() == IDS.astype(str).tolist()


def test_npz_of_version_3_and_ids_that_are_objects(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, X, version=(3, 0))
    check(tmp_path / "a.npy", None)
    np.savez(tmp_path / "a.npz", emb=X, ids=WORDS.astype(object))
    with pytest.raises(ValueError, match=r"array 'ids': holds pickled.*ids\.astype\(str\)"):
        io.open_embeddings(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", emb=X, sku=WORDS, label=np.arange(N) % 3)
    found = check(tmp_path / "b.npz")
    assert found.told == "id sku · 3 dimensions in emb (left out: label)"
    np.savez(tmp_path / "c.npz", emb=X, sku=WORDS, item_id=IDS)
    with pytest.raises(ValueError, match=r"which array holds the ids\? found sku, item_id"):
        io.open_embeddings(tmp_path / "c.npz")
    check(tmp_path / "c.npz", id_column="sku")
    check(tmp_path / "c.npz::emb::id=item_id", IDS.astype(str))


def test_bool_arrays(tmp_path):
    flags = X > 0
    np.save(tmp_path / "a.npy", flags)
    check(tmp_path / "a.npy", None, flags.astype(np.float32))
    np.savez(tmp_path / "a.npz", emb=flags)
    check(tmp_path / "a.npz", None, flags.astype(np.float32))
    frame = pd.DataFrame(flags, columns=["b0", "b1", "b2"])
    frame.to_parquet(tmp_path / "a.parquet")
    check(tmp_path / "a.parquet", None, flags.astype(np.float32))


# Folders


def test_row_numbers_that_pandas_saved_with_shards(tmp_path):
    frame = pd.DataFrame(X, columns=["d0", "d1", "d2"])
    for name, parts in (("anew", False), ("onward", True), ("apart", True)):
        (tmp_path / name).mkdir()
        for i, rows in enumerate((range(0, 10), range(10, N))):
            own = frame.iloc[list(rows)]
            own.index = pd.RangeIndex(rows.start, rows.stop)
            if not parts:
                own = own.reset_index(drop=True)
            if name == "apart":
                own.index = own.index + 5
            own.to_parquet(tmp_path / name / f"{i}.parquet")
    check(tmp_path / "anew", None)
    check(tmp_path / "onward", None)
    check(tmp_path / "apart", (np.arange(N) + 5).astype(str))


def test_members_of_a_folder(tmp_path):
    for name in ("part-10.npy", "part-2.npy", "part-1.npy", "_SUCCESS", "README.txt", "a.json"):
        (tmp_path / name).write_text("x")
    found = shards.members(tmp_path, [".npy", ".txt"])
    assert [path.name for path in found] == ["part-1.npy", "part-2.npy", "part-10.npy"]
    found = shards.members(tmp_path / "part-?*.npy", [".npy"])
    assert [path.name for path in found] == ["part-1.npy", "part-2.npy", "part-10.npy"]
    (tmp_path / "labels.csv").write_text("x")
    with pytest.raises(ValueError, match=r"several formats, \['\.csv', '\.npy'\]; .* pattern"):
        shards.members(tmp_path, [".npy", ".csv"])


# Roles


@pytest.mark.parametrize(
    ("fields", "options", "ids", "vectors", "left"),
    [
        ({"id": "text", "d0": "float", "d1": "float"}, {}, "id", "d0 d1", ""),
        ({"0": "float", "1": "float", "label": "integer"}, {}, None, "0 1", "label"),
        ({"x1": "float", "x2": "float", "movieId": "integer"}, {}, "movieId", "x1 x2", ""),
        ({"a0": "float", "a1": "float", "year_2019": "float"}, {}, None, "a0 a1", "year_2019"),
        ({"d0": "float", "d1": "float", "label_0": "float", "label_1": "float"}, {}, None,
         "d0 d1", "label_0 label_1"),
        ({"v": "list of floats", "g": "list of integers", "title": "text"}, {"by_row": True},
         None, "v", "g title"),
        ({"v": "list of floats", "title": "text", "class": "text"}, {}, "title", "v", "class"),
        ({"d0": "float", "d1": "float", "Unnamed: 0": "integer"}, {}, "Unnamed: 0", "d0 d1", ""),
        ({"d0": "float", "d1": "float", "__index_level_0__": "integer", "sku": "text"}, {}, "sku",
         "d0 d1", ""),
        ({"d0": "float", "price": "float"}, {"columns": ("d*", "p*")}, None, "d0 price", ""),
    ],
)  # fmt: skip
def test_roles_of_columns(tmp_path, fields, options, ids, vectors, left):
    found = roles.choose_columns(tmp_path / "a", fields, Asked(**options), lambda _: False)
    assert found.ids == ids
    assert found.vectors == vectors.split()
    assert list(found.left) == left.split()


@pytest.mark.parametrize(
    ("name", "is_id"),
    [("id", True), ("Item_ID", True), ("movieId", True), ("ASIN", True), ("user-id", True),
     ("item", True), ("grid", False), ("valid", False), ("price", False), ("identity", False),
     ("paid", False), ("productID", True), ("Unnamed: 0", False)],
)  # fmt: skip
def test_names_of_ids(name, is_id):
    assert roles.is_id_name(name) == is_id


# Labels


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t"),
                            ("a.csv.gz", ","), ("a.tsv.gz", "\t"), ("a.csv", "|")],
)  # fmt: skip
@pytest.mark.parametrize("head", ["sku,department", "\n\nsku,department", "\ufeffsku , department"])
def test_label_files(tmp_path, name, separator, head):
    rows = [f'{word},"{label}, x"' if i % 2 else f"{word}, {label}" for i, (word, label) in
            enumerate(zip(WORDS, NAMES, strict=True))]  # fmt: skip
    text = "\n".join([head, *rows]) + "\n"
    text = text.replace(", x", "; x") if separator == "," else text.replace(",", separator)
    text = text.replace(f"{separator} x", "; x") if separator != ";" else text
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    found = io.read_labels(tmp_path / name, target=targets.labels)
    np.testing.assert_array_equal(found.ids, WORDS)
    expected = {f"{label}; x" if i % 2 else label for i, label in enumerate(NAMES)}
    assert set(found.labels.names) == expected
    assert found.told == "label department (id sku)"


def test_missing_labels_and_rare_classes(tmp_path):
    names = ["a"] * 10 + ["b"] * 10 + ["rare"] * 2 + ["?"] * 3 + ["NA"] * 5
    frame = pd.DataFrame({"id": range(N), "label": names})
    frame.to_csv(tmp_path / "l.csv", index=False)
    found = io.read_labels(tmp_path / "l.csv")
    assert found.labels.names == ("?", "a", "b", "rare")
    assert found.notes == (
        f"{tmp_path}/l.csv: 5 labels 'NA' count as no label (--missing says which do)",
        f"{tmp_path}/l.csv: 3 labels '?' count as classes; --missing NA '?' makes them no label",
    )
    found = io.read_labels(tmp_path / "l.csv", missing=["?"], min_class_count=3)
    assert found.labels.names == ("NA", "a", "b")
    assert np.count_nonzero(found.labels.codes < 0) == 5
    assert "1 classes of fewer than 3 rows are left out, 2 rows in all" in found.notes[1]


def test_labels_are_text_unless_all_are_whole_numbers(tmp_path):
    def names(*texts):
        (tmp_path / "l.csv").write_text("label\n" + "\n".join(texts) + "\n")
        return io.read_labels(tmp_path / "l.csv", target=targets.labels).labels.names

    assert names("1.0", "2", "+2.", "-0") == ("0", "1", "2")
    assert names("9007199254740993.0", "9007199254740992") == (
        "9007199254740992",
        "9007199254740993",
    )
    assert names("10", "9", "-3") == ("-3", "9", "10")
    assert names("007", "7") == ("007", "7")
    assert names("1_0", "10") == ("10", "1_0")
    assert names("1e3", "2.0") == ("2", "1000")
    assert names("x", "1.0", "1") == ("1", "1.0", "x")


def test_a_file_of_both_serves_as_both(tmp_path):
    frame = pd.DataFrame(X, columns=["d0", "d1", "d2"]).assign(sku=WORDS, label=NAMES)
    for name, write in (("a.parquet", frame.to_parquet), ("a.csv", frame.to_csv)):
        write(tmp_path / name, index=False)
        labels = io.read_labels(tmp_path / name)
        joined = io.join({"a": check(tmp_path / name).read()}, labels)
        np.testing.assert_array_equal(joined.values["a"], X)
        assert [labels.labels.names[code] for code in joined.labels.codes] == NAMES
