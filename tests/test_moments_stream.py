"""Streams, devices and processes give the moments of the rows in memory."""

import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_array_equal

from kernlens import io, moments
from kernlens.arrays.memory import aligned_empty
from kernlens.arrays.rows import identity, unit_rows
from tests.test_moments import assert_close, problem, reference


@pytest.mark.thorough
@pytest.mark.parametrize("kept", [False, True])
def test_a_stream_has_the_moments_of_its_rows(tmp_path, kept):
    x, codes, num_classes, t = problem(1, n=300, mean=1000.0)
    np.save(tmp_path / "x.npy", x)
    stream = io.open_embeddings(tmp_path / "x.npy")
    seen = []
    got = moments.from_stream(
        stream,
        codes,
        num_classes,
        t,
        class_scatters=kept,
        fourths=kept,
        rows=64,
        progress=lambda *at: seen.append(at),
    )
    assert seen == [(64, 300), (128, 300), (192, 300), (256, 300), (300, 300)]
    assert got.class_scatters.shape[0] == (num_classes if kept else 0)
    assert_close(got, reference(x, codes, num_classes, t))  # as from_arrays: a few float32 sums


@pytest.mark.thorough
def test_arrays_of_any_lengths_weights_and_a_feature_map():
    x, codes, num_classes, t = problem(2, n=90)
    weights = np.random.default_rng(3).integers(0, 3, 90)
    got = moments.from_stream(
        iter(np.split(x, [1, 1, 40, 77])), codes, num_classes, t, weights, rows=32,
        features=unit_rows,
    )  # fmt: skip
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert_close(got, reference(unit, codes, num_classes, t, weights))


def test_a_map_with_arrays_is_made_of_each_chunk_once():
    x, codes, num_classes, t = problem(12, n=90)
    turn = np.random.default_rng(13).standard_normal((x.shape[1], 4)).astype(np.float32)
    seen = []

    def turned(turn, rows):
        seen.append(rows.shape)
        return rows @ turn

    got = moments.from_stream(
        [x], codes, num_classes, t, rows=40, features=Partial(turned, jnp.asarray(turn))
    )
    assert set(seen) == {(40, x.shape[1])}
    assert_close(got, reference(x @ turn, codes, num_classes, t))


@pytest.mark.parametrize(("n", "size"), [(30, 30), (90, 30), (641, 40)])
def test_few_chunks_share_the_rows_and_many_have_one_size(monkeypatch, n, size):
    for name, value in {"CHUNK_BYTES": 1, "ROWS": 40}.items():
        monkeypatch.setattr(moments.arrays, name, value)
    x, codes, num_classes, t = problem(14, n=n)
    seen = []

    def spied(rows):
        seen.append(rows.shape[0])
        return rows

    given = Partial(lambda _, rows: spied(rows), jnp.zeros(()))  # made of whole chunks
    got = moments.from_stream([x], codes, num_classes, t, features=given)
    assert set(seen) == {size}
    assert_close(got, reference(x, codes, num_classes, t))


def test_rows_that_are_dropped_keep_the_codes_of_the_others(tmp_path):
    x, codes, num_classes, t = problem(4, n=90)
    hurt = x.copy()
    hurt[[3, 50]] = np.nan
    np.save(tmp_path / "x.npy", hurt)
    stream = io.open_embeddings(tmp_path / "x.npy", drop_nonfinite=True)
    got = moments.from_stream(stream, codes, num_classes, t, rows=20)
    good = np.delete(np.arange(90), [3, 50])
    assert_close(got, reference(x[good], codes[good], num_classes, t[good]))


@pytest.mark.thorough
def test_without_codes_and_in_float16(tmp_path):
    x = problem(5)[0].astype(np.float16)
    got = moments.from_stream([x], None, 0)
    assert got.count.dtype == np.float32
    assert_close(got, reference(x, np.full(90, -1), 0, np.zeros((90, 0))))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"codes": np.zeros(89, int)}, r"codes have shape \(89,\); expected \[90\]"),
        ({"codes": np.full(90, 4)}, r"must lie in -1\.\.3; got 4 at row 0"),
        ({"codes": np.zeros(90)}, "must be integers"),
        ({"codes": None}, "got 4 classes and no codes"),
        ({"targets": np.zeros(90)}, r"targets have shape \(90,\); expected \[90, T\]"),
        ({"weights": -np.ones(90)}, r"at least 0; got -1\.0 at row 0"),
        ({"rows": 0}, "at least 1; got 0"),
    ],
)
def test_mistakes_are_named_before_a_row_is_read(tmp_path, change, match):
    np.save(tmp_path / "x.npy", np.zeros((90, 3), np.float32))
    stream = io.open_embeddings(tmp_path / "x.npy")
    given = {"codes": np.zeros(90, int), "num_classes": 4, **change}
    (tmp_path / "x.npy").unlink()
    with pytest.raises(ValueError, match=match):
        moments.from_stream(stream, **given)


@pytest.mark.parametrize(
    ("chunks", "match"),
    [
        ([], "no rows"),
        ([np.zeros((4, 3), np.float32)], "holds 4 rows; .* are for 6"),
        ([np.zeros((7, 3), np.float32)], r"holds rows 0\.\.6; .* are for 6 rows"),
        ([np.zeros((6, 3), int)], "is int64 of shape"),
        ([np.zeros((3, 3), "f4"), np.zeros((3, 2), "f4")], r"at row 3 is .* \[rows, 3\]"),
        ([np.zeros(6, np.float32)], "expected floats of shape"),
    ],
)
def test_chunks_that_do_not_fit_are_named(chunks, match):
    with pytest.raises(ValueError, match=match):
        moments.from_stream(chunks, np.zeros(6, np.int32), 2)


def test_a_saved_stream_is_refused_under_another_embedding(tmp_path):
    x, codes, num_classes, _ = problem(6)
    names = []
    for name, rows in (("one", x), ("other", x + 1)):
        np.save(tmp_path / f"{name}.npy", rows)
        names.append(io.fingerprint(io.open_embeddings(tmp_path / f"{name}.npy")))
    got = moments.from_stream(io.open_embeddings(tmp_path / "one.npy"), codes, num_classes)
    io.write_arrays(tmp_path / "m", got, fingerprint=names[0])
    back, _ = io.read_arrays(tmp_path / "m", moments.Moments, fingerprint=names[0])
    for a, b in zip(back, got, strict=True):
        assert_array_equal(a, b)
    with pytest.raises(ValueError, match=f"fingerprint {names[0]}; expected {names[1]}"):
        io.read_arrays(tmp_path / "m", moments.Moments, fingerprint=names[1])


def test_a_reader_that_writes_again_to_what_it_gave():
    x, codes, num_classes, _ = problem(8, n=120)
    memory = aligned_empty((20, x.shape[1]), x.dtype)

    def chunks():
        for at in range(0, len(x), len(memory)):
            memory[:] = x[at : at + len(memory)]
            yield memory
            memory[:] = np.nan

    got = moments.from_stream(chunks(), codes, num_classes, rows=20)
    assert_close(got, moments.from_arrays(x, codes, num_classes))


def test_rows_of_a_file_that_are_not_finite_are_named(tmp_path):
    x, codes, num_classes, _ = problem(9, n=100)
    x[[7, 93]] = np.nan
    np.save(tmp_path / "x.npy", x)
    stream = io.open_embeddings(tmp_path / "x.npy")
    for map_fn in (identity, lambda rows: jnp.nan_to_num(rows)):
        with pytest.raises(ValueError, match=r"2 of 100 rows hold NaN.*rows 7, 93"):
            moments.from_stream(stream, codes, num_classes, features=map_fn, rows=30)
    kept = moments.from_stream(
        io.open_embeddings(tmp_path / "x.npy", drop_nonfinite=True), codes, num_classes, rows=30
    )
    good = np.isfinite(x).all(axis=1)
    assert_close(kept, moments.from_arrays(x[good], codes[good], num_classes))


DEVICES = """
import jax, numpy as np
from kernlens import moments
from tests.test_moments import assert_close, problem
jax.config.update("jax_numpy_dtype_promotion", "strict")
assert jax.device_count() == 8
x, codes, num_classes, t = problem(7, n=300, mean=30.0)
given = dict(class_scatters=True, fourths=True, rows=100)
one = moments.from_stream([x], codes, num_classes, t, **given)
mesh = jax.make_mesh((4, 2), ("a", "b"))
many = moments.from_stream([x], codes, num_classes, t, mesh=mesh, **given)
assert_close(many, one, 1e-6)
few = moments.from_stream([x[:3]], codes[:3], num_classes, t[:3], mesh=mesh, **given)
assert_close(few, moments.from_arrays(x[:3], codes[:3], num_classes, t[:3]), 1e-6)
print("same")
"""


@pytest.mark.thorough
def test_eight_devices_give_the_moments_of_one():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    run = subprocess.run(
        [sys.executable, "-c", DEVICES],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert run.stdout.strip() == "same", run.stderr


PROCESS = """
import sys
import jax, numpy as np
port, process, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
from kernlens import io, moments
from tests.test_moments import assert_close, problem
x, codes, num_classes, t = problem(8, n=301, mean=30.0)
read = []
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))
assert mesh.size == 2 and jax.local_device_count() == 1
got = moments.from_stream(
    io.open_embeddings(path), codes, num_classes, t, class_scatters=True, rows=64, mesh=mesh,
    progress=lambda done, total: read.append(done),
)
assert read[-1] == 150 + process
one = moments.from_stream([x], codes, num_classes, t, class_scatters=True, rows=64)
assert_close(got, one, 1e-6)
print("same", flush=True)
"""


@pytest.mark.thorough
def test_two_processes_give_the_moments_of_one(tmp_path):
    np.save(tmp_path / "x.npy", problem(8, n=301, mean=30.0)[0])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, port, str(process), str(tmp_path / "x.npy")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for process in range(2)
    ]  # fmt: skip
    try:
        for run in runs:
            out, err = run.communicate(timeout=300)
            assert out.strip().endswith("same"), err
    finally:
        for run in runs:
            run.kill()
            run.wait()


@pytest.mark.thorough
def test_all_merge_is_merge_of_all():
    x, codes, num_classes, t = problem(9, mean=1000.0)
    shards = [slice(i, None, 3) for i in range(3)]
    parts = [moments.from_arrays(x[s], codes[s], num_classes, t[s]) for s in shards]
    parts.append(moments.init(x.shape[1], num_classes, 2, dtype=np.float32))
    stacked = jax.tree.map(lambda *a: np.stack(a), *parts)
    merged = jax.vmap(lambda m: moments.all_merge(m, "parts"), axis_name="parts")(stacked)
    expected = reference(x, codes, num_classes, t)
    for place in (0, 3):
        assert_close(moments.Moments(*(a[place] for a in merged)), expected)
