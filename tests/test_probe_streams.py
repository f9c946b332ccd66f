"""Probes, intervals and comparisons of embeddings that stay in their files."""

import functools

import numpy as np
import pytest

from kernlens import io, lens, probes, targets
from kernlens.probes import labelled_rows
from kernlens.scores import SCORES, intervals
from kernlens.types import Classification, Labels
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=300, separation=0.8)
X = PROBLEM.x.astype(np.float32)
CODES = np.where(np.arange(300) % 7 == 3, -1, PROBLEM.codes).astype(np.int32)
LABELS = Labels(CODES, tuple("abcd"))
FEW = (1e-4, 1e-2, 1.0)


@pytest.fixture
def stream(tmp_path, monkeypatch):
    """The rows in two files, read in pieces of 64."""
    for part, rows in enumerate(np.split(X, [130])):
        np.save(tmp_path / f"{part}.npy", rows)
    monkeypatch.setattr(labelled_rows, "MAX_STREAMED", 64)
    monkeypatch.setattr(labelled_rows, "MAX_CHUNK_BYTES", 2**15)
    return io.open_embeddings(tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(probes.PROBES))
def test_a_stream_is_predicted_as_its_rows_in_memory(stream, name):
    options = {"strengths": FEW} if name in ("discriminant", "ridge") else {}
    given, expected = (probes.PROBES[name](x, LABELS, **options) for x in (stream, X))
    np.testing.assert_allclose(given.losses, expected.losses, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(given.predicted, expected.predicted)
    np.testing.assert_array_equal(given.target, expected.target)
    for metric in Classification._fields:
        assert given.metrics[metric] == expected.metrics[metric]


@pytest.mark.thorough
def test_a_stream_of_more_features_than_rows(tmp_path):
    x, codes, _ = gaussian_classes(1, n=30, dim=40)
    np.save(tmp_path / "a.npy", x)
    labels = Labels(codes, tuple("abcd"))
    given = lens.predict(io.open_embeddings(tmp_path / "a.npy"), labels)
    np.testing.assert_array_equal(given.predicted, lens.predict(x, labels).predicted)


@pytest.mark.thorough
def test_rows_dropped_from_a_stream_are_as_rows_without_a_label(tmp_path):
    bad = X.copy()
    bad[[2, 150]] = np.nan
    np.save(tmp_path / "a.npy", bad)
    with pytest.raises(ValueError, match="2 of 300 rows hold NaN"):
        lens.predict(io.open_embeddings(tmp_path / "a.npy"), LABELS)
    given = lens.predict(io.open_embeddings(tmp_path / "a.npy", drop_nonfinite=True), LABELS)
    codes = CODES.copy()
    codes[[2, 150]] = -1
    expected = lens.predict(X, Labels(codes, LABELS.names))
    np.testing.assert_array_equal(given.predicted, expected.predicted)


@pytest.mark.thorough
def test_streams_are_compared_and_scored_as_arrays(stream):
    chosen = {"h_score": SCORES["h_score"]}
    method = intervals.Jackknife(8)
    given, expected = (lens.compare({"a": x, "b": X[:, :3]}, LABELS) for x in (stream, X))
    assert [e.name for e in given.entries] == [e.name for e in expected.entries]
    assert given.differences == expected.differences
    given, expected = (
        lens.standings({"a": x}, LABELS, chosen, method=method)[0].intervals["a"]
        for x in (stream, X)
    )
    np.testing.assert_allclose(given, expected, rtol=1e-4)


@pytest.mark.thorough
def test_intervals_take_a_stream_with_codes_and_joined_files(stream):
    options = {"method": intervals.Jackknife(8)}
    expected = intervals.from_arrays(X, CODES, 4, **options)
    given = intervals.from_stream(stream, CODES, 4, **options)
    np.testing.assert_array_equal(given.digest, expected.digest)
    np.testing.assert_allclose(given.parts.scatter, expected.parts.scatter, rtol=1e-3, atol=1e-3)
    labels = io.LabelFile(targets.labels(np.array(["", *"abcd"])[CODES + 1]), None)
    joined = io.join_stream(stream, labels)
    given = intervals.from_stream(joined, joined.labels.codes, 4, **options)
    np.testing.assert_array_equal(given.digest, expected.digest)
    assert lens.predict(joined, joined.labels).metrics["accuracy"].value > 0.5


def test_mistakes_are_named(stream):
    with pytest.raises(ValueError, match="a stream of 300 rows needs as many codes; got 9"):
        intervals.from_stream(stream, CODES[:9], 4)
    with pytest.raises(ValueError, match=r"row numbers must lie in 0\.\.8, .* got 0\.\.299"):
        intervals.from_stream([X], CODES[:9], 4)
    with pytest.raises(ValueError, match="the chunks hold 9 rows; codes are for 300"):
        intervals.from_stream([X[:9]], CODES, 4)
    with pytest.raises(ValueError, match=r"got embeddings \(300, 6\) and a target of 9"):
        lens.predict(stream, LABELS._replace(codes=CODES[:9]))
    with pytest.raises(ValueError, match="two classes or more"):
        lens.predict(stream, LABELS._replace(codes=0 * CODES))

    class Tuples:
        shape, dtype = (300, 6), np.dtype(float)

        def chunks(self, rows):
            yield X[:rows], CODES[:rows]

    with pytest.raises(ValueError, match=r"chunks of a stream need values and rows.*got tuple"):
        lens.predict(Tuples(), LABELS)


class Counted:
    """A stream that counts how often it is read."""

    def __init__(self, stream):
        self.stream, self.passes = stream, 0
        self.shape, self.dtype = stream.shape, stream.dtype

    def chunks(self, **options):
        self.passes += 1
        return self.stream.chunks(**options)


def test_the_default_probe_reads_a_stream_three_times_and_once_for_a_further_partition(stream):
    """To find copies, for moments, and to rotate the rows; for moments of other folds."""
    counted = Counted(stream)
    lens.predict(counted, LABELS)
    assert counted.passes == 5
    counted.passes = 0
    lens.predict(counted, LABELS, probe=functools.partial(probes.logistic, repeats=1))
    assert counted.passes == 3
