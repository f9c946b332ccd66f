"""Labels that follow the rows of a stream: joined as tables are merged."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernlens import io, targets
from tests.test_io_stream import ROWS, VALUES, WORDS, joined, written


def label_file(ids, raw):
    return io.LabelFile(
        targets.labels(list(raw)), None if ids is None else np.array(list(ids)).astype(str), "lab"
    )


@pytest.mark.thorough
@given(
    ids=st.lists(st.integers(0, 30), unique=True, min_size=2),
    labels=st.dictionaries(st.integers(0, 30), st.sampled_from(["x", "y", "z", ""]), min_size=2),
    rows=st.integers(1, 9),
    keep=st.booleans(),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_joined_stream_is_the_merged_table(tmp_path, ids, labels, rows, keep):
    values = np.random.default_rng(1).standard_normal((len(ids), 2))
    stream = io.open_embeddings(written(tmp_path, "parquet", values, np.array(ids)))
    side = label_file(labels, labels.values())
    left = pd.DataFrame({"id": ids, "row": range(len(ids))})
    right = pd.DataFrame({"id": list(labels), "label": list(labels.values())})
    merged = left.merge(right, on="id", how="left" if keep else "inner").sort_values("row")
    common = [labels[id_] for id_ in ids if id_ in labels]
    if len(set(common) - {""}) < 2:
        with pytest.raises(ValueError, match=r"no id in common|expected two or more"):
            io.join_stream(stream, side, keep_unjoined=keep)
        return
    found = io.join_stream(stream, side, keep_unjoined=keep)
    for _ in range(2):
        chunks = list(found.chunks(rows=rows))
        assert {len(chunk.rows) for chunk in chunks[:-1]} <= {rows}
        x, numbers = joined(chunk[:2] for chunk in chunks)
        codes = found.labels.codes[numbers]
        np.testing.assert_array_equal(x, values[merged["row"]])
        names = np.array(["", *found.labels.names])
        assert names[codes + 1].tolist() == merged["label"].fillna("").tolist()
    lacking = [str(id_) for id_ in ids if id_ not in labels]
    assert (found.unjoined.count, found.unjoined.examples) == (len(lacking), tuple(lacking[:5]))
    assert found.unjoined.ids.tolist() == lacking
    lacking = [str(id_) for id_ in labels if id_ not in ids]
    assert found.unjoined_labels.ids.tolist() == lacking
    if not keep:
        whole, (whole_codes, _), *_ = io.join({"a": stream.read()}, side)
        np.testing.assert_array_equal(x, whole["a"])
        np.testing.assert_array_equal(codes, whole_codes)


def test_labels_follow_their_rows_where_rows_are_dropped(tmp_path):
    values = VALUES.copy()
    values[[1, 4]] = np.nan
    path = written(tmp_path, "npy", values)
    stream = io.open_embeddings(path, drop_nonfinite=True)
    for ids in (None, range(ROWS)):
        found = io.join_stream(stream, label_file(ids, "xyxyxyxyxyx"))
        x, numbers = joined(chunk[:2] for chunk in found.chunks(rows=2))
        codes = found.labels.codes[numbers]
        np.testing.assert_array_equal(x, np.delete(VALUES, [1, 4], axis=0))
        np.testing.assert_array_equal(codes, np.delete(np.arange(ROWS) % 2, [1, 4]))


@pytest.mark.parametrize(
    ("labels", "options", "match"),
    [
        (
            label_file(["é0", "é1"], "xy"),
            {"max_unjoined": 0.5},
            r"9 of 11 ids are not .* 'é2', 'é3'",
        ),
        (
            label_file(["é0", "é1", "p"], "xyx"),
            {"max_unjoined_labels": 0.3},
            "lab: 1 of 3 ids are not in the other file: 'p'; expected at most a share of 0.3",
        ),
        (label_file(["é0", "é1", "p"], "xxy"), {}, r"the 2 rows joined: found classes \['x'\]"),
        (label_file(["p", "q"], "xy"), {}, "no id in common"),
        (label_file(None, "xy"), {}, "lab has no ids, and .* has, such as 'é0', 'é1', 'é2', ..."),
        (
            label_file(["é0", "é1"], "xy"),
            {"max_unjoined": 2.0},
            r"max_unjoined must be in \[0, 1\]",
        ),
    ],
)
def test_join_stream_refused(tmp_path, labels, options, match):
    stream = io.open_embeddings(written(tmp_path, "npz", VALUES, WORDS))
    with pytest.raises(ValueError, match=match):
        io.join_stream(stream, labels, **options)


def test_label_ids_that_are_no_row_numbers_are_refused(tmp_path):
    stream = io.open_embeddings(written(tmp_path, "npy", VALUES))
    with pytest.raises(
        ValueError, match=r"must be its row numbers 0\.\.10; lab has 1 others: '11'"
    ):
        io.join_stream(stream, label_file(range(1, ROWS + 1), "xyxyxyxyxyx"))
