"""NamedTuples of arrays saved and loaded: bit for bit, or refused."""

import os
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy as safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernlens import io, moments

X = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
NAME = "sha256:" + "0" * 64


class Pair(NamedTuple):
    """Two arrays."""

    left: np.ndarray
    right: np.ndarray


def saved(path, arrays, **options):
    io.write_arrays(path, arrays, fingerprint=NAME, **options)
    return path


def test_moments_come_back_bit_for_bit(tmp_path):
    given_ = moments.from_arrays(X, np.arange(30) % 3, 3)
    path = saved(tmp_path / "m.safetensors", given_, metadata={"made by": "a test"})
    found, metadata = io.read_arrays(path, moments.Moments, fingerprint=NAME)
    assert metadata == {"kind": "Moments", "fingerprint": NAME, "made by": "a test"}
    for name, value in given_._asdict().items():
        back = getattr(found, name)
        assert (back.shape, back.dtype) == (value.shape, value.dtype)
        np.testing.assert_array_equal(back, value)
    assert os.listdir(tmp_path) == ["m.safetensors"]
    theirs = safetensors.load_file(path)  # another reader
    np.testing.assert_array_equal(theirs["scatter"], given_.scatter)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "u1", "?", jnp.bfloat16])
def test_dtypes_and_layouts_survive(tmp_path, dtype):
    value = np.arange(12).reshape(3, 4).astype(dtype)
    for left in (value, value.T, value[:, ::2], value[0, 0].reshape(()), value[:0]):
        found, _ = io.read_arrays(saved(tmp_path / "p", Pair(left, value)), Pair)
        assert (found.left.shape, found.left.dtype) == (left.shape, left.dtype)
        np.testing.assert_array_equal(found.left, left)


@pytest.mark.parametrize(
    ("arrays", "options", "match"),
    [
        ((X, X), {}, "got tuple; expected a NamedTuple of arrays"),
        (Pair(X, None), {}, r"Pair\.right is object; expected an array of numbers"),
        (Pair(X, np.array(["a"])), {}, r"Pair\.right is <U1; expected"),
        (
            Pair(X, X),
            {"metadata": {"kind": "a"}},
            r"metadata \['kind'\] is written by write_arrays",
        ),
    ],
)
def test_write_refused(tmp_path, arrays, options, match):
    with pytest.raises(ValueError, match=match):
        saved(tmp_path / "p", arrays, **options)
    assert os.listdir(tmp_path) == []


def test_read_refused(tmp_path):
    path = saved(tmp_path / "p", Pair(X, X))
    with pytest.raises(ValueError, match=r"holds Pair of \['left', 'right'\]; expected Moments of"):
        io.read_arrays(path, moments.Moments)
    with pytest.raises(
        ValueError, match=r"made of embeddings with fingerprint sha256:000.*; expec"
    ):
        io.read_arrays(path, Pair, fingerprint="sha256:1")
    safetensors.save_file({"left": X, "right": X}, path)
    with pytest.raises(ValueError, match=r"holds no NamedTuple of \['left', 'right'\]"):
        io.read_arrays(path, Pair)
    safetensors.save_file({"left": X, "right": X}, path, metadata={"kind": "Pair"})
    with pytest.raises(ValueError, match="made of embeddings with fingerprint None; expected"):
        io.read_arrays(path, Pair, fingerprint=NAME)
    with pytest.raises(FileNotFoundError, match="gone: no such file"):
        io.read_arrays(tmp_path / "gone", Pair)


@given(share=st.floats(0.0, 1.0, exclude_max=True))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_was_cut_is_refused(tmp_path, share):
    path = saved(tmp_path / "p", Pair(X, X))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"p: truncated or damaged \.safetensors file"):
        io.read_arrays(path, Pair)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = saved(tmp_path / "p", Pair(X, X))

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        saved(path, Pair(-X, X))
    np.testing.assert_array_equal(io.read_arrays(path, Pair)[0].left, X)
    assert os.listdir(tmp_path) == ["p"]


def test_bytes_come_back_or_are_refused():
    content = io.arrays_to_bytes(Pair(X, X[0]), fingerprint=NAME, metadata={"part": "3"})
    found, metadata = io.arrays_from_bytes(content, Pair, fingerprint=NAME)
    assert metadata == {"kind": "Pair", "fingerprint": NAME, "part": "3"}
    np.testing.assert_array_equal(found.left, X)
    np.testing.assert_array_equal(found.right, X[0])
    with pytest.raises(ValueError, match="made of embeddings with fingerprint"):
        io.arrays_from_bytes(content, Pair, fingerprint="other")
    with pytest.raises(ValueError, match=r"bytes: holds Pair of .*; expected Moments"):
        io.arrays_from_bytes(content, moments.Moments)
    for cut in (0, 7, 40, len(content) - 1):
        with pytest.raises(ValueError, match="truncated or damaged safetensors bytes"):
            io.arrays_from_bytes(content[:cut], Pair)
