"""Embeddings and labels joined by id."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlens import io, targets
from kernlens.types import Labels, MultiLabels
from tests.test_io import IDS, LISTS, ROWS, TEXT_IDS, VALUES, csv, parquet


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
