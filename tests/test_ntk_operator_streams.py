"""Kernel matrices streamed to a file, whole or after a kill."""

import os
import signal
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kernlens import kernels
from kernlens.ntk import operators
from kernlens.ntk.operators import streaming
from tests.test_ntk_operators import EPS, mlp, mlp_params, rbf, rows


@pytest.mark.parametrize("block_size", [7, 100])
@pytest.mark.parametrize("name", ["rbf", "linear", "arc_cosine1"])
def test_streamed_blocks_equal_the_whole(name, block_size, tmp_path):
    kernel = kernels.KERNELS[name]
    x1, x2 = rows(40, 33), rows(41, 20)
    for whole, arguments in ((kernel(x1, x1), (x1,)), (kernel(x1, x2), (x1, x2))):
        got = operators.stream(kernel, *arguments, block_size=block_size)
        filed = operators.stream(kernel, *arguments, block_size=block_size, out=tmp_path / "k.npy")
        assert_array_equal(got, filed)
        assert got.dtype == whole.dtype
        # Last bits: a matrix product of another shape may sum in another order.
        assert_allclose(got, whole, rtol=0, atol=4 * EPS * float(jnp.abs(whole).max()))
        if name == "rbf":
            assert_array_equal(got, whole)
    assert os.listdir(tmp_path) == ["k.npy"]


def test_a_symmetric_stream_computes_one_half():
    def ordered(x1, x2):
        return jnp.where(x1[:, None] <= x2[None, :], x1[:, None] + 10 * x2[None, :], jnp.nan)

    x, seen = jnp.arange(7.0), []
    got = operators.stream(ordered, x, block_size=1, progress=lambda *at: seen.append(at))
    upper = np.maximum.outer(np.arange(7), np.arange(7))
    assert_array_equal(got, 10 * upper + np.minimum.outer(np.arange(7), np.arange(7)))
    assert seen == [(i, 28) for i in range(1, 29)]


def test_output_axes_mirror_in_pairs():
    def full(x1, x2):
        return jnp.einsum("iop,jqp->ijoq", *(mlp(mlp_params(), x) for x in (x1, x2)))

    x = rows(42, 9, 4)
    got = operators.stream(full, x, block_size=4)
    assert_allclose(got, full(x, x), rtol=0, atol=20 * EPS * np.abs(got).max())
    with pytest.raises(ValueError, match="axes in pairs"):
        operators.stream(lambda a, b: full(a, b)[..., 0], x)


def test_progress_is_shown(capsys):
    operators.stream(rbf, rows(43, 10), block_size=4, progress=True)
    assert "6/6" in capsys.readouterr().out


KILLED = """
import os, signal, sys
import numpy as np
from kernlens import kernels
from kernlens.ntk import operators

def progress(done, total):
    print(done, flush=True)
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
operators.stream(kernels.rbf, x, block_size=8, out=sys.argv[1], progress=progress)
"""


def run_until(out, block):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(out), str(block)], capture_output=True, text=True
    )
    return done.returncode, [int(line) for line in done.stdout.split()]


@pytest.mark.thorough
def test_a_killed_stream_goes_on_to_the_same_bits(tmp_path):
    out = tmp_path / "k.npy"
    assert run_until(out, 10) == (-signal.SIGKILL, list(range(1, 11)))
    assert not out.exists()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    again = partial(operators.stream, block_size=8, out=out)
    for other, what in (
        (partial(again, kernels.rbf, x + 1e-6), "rows"),
        (partial(again, kernels.laplace, x), "kernel values"),
        (partial(again, kernels.rbf, x, block_size=9), "block_size"),
        (partial(again, kernels.rbf, x, x[:20]), "rows, kernel values, shape"),
    ):
        with pytest.raises(ValueError, match=f"interrupted run with other {what}: resume"):
            other()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    seen = []
    got = again(kernels.rbf, x, progress=lambda *at: seen.append(at))
    # 28 blocks, the ten done before not among those told; the last may be one not recorded.
    assert seen == [(i, 28) for i in range(11, 29)]
    assert_array_equal(got, operators.stream(kernels.rbf, x, block_size=8))
    assert os.listdir(tmp_path) == ["k.npy"]


def test_leftovers_of_a_stream(tmp_path):
    x, out = rows(44, 12), tmp_path / "k.npy"

    def stop(done, total):
        raise KeyboardInterrupt

    interrupted = partial(operators.stream, rbf, x, block_size=4, out=out, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    seen = []
    tell = partial(interrupted, progress=lambda *at: seen.append(at))
    tell(resume=False)
    assert len(seen) == 6
    # Stopped between the move and the removal of the list: nothing is left to do.
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    listed = (tmp_path / "k.npy.done").read_bytes()
    tell()
    (tmp_path / "k.npy.done").write_bytes(listed[:-6] + b"\1" * 6)
    seen.clear()
    assert_array_equal(tell(), rbf(x, x))
    assert not seen
    # A list without its file is no run.
    (tmp_path / "k.npy.done").write_bytes(listed)
    assert_array_equal(tell(), rbf(x, x))
    assert len(seen) == 6
    (tmp_path / "k.npy.done").write_bytes(b"what\n")
    (tmp_path / "k.npy.part").write_bytes(b"")
    with pytest.raises(ValueError, match="not a list of finished blocks"):
        tell()


def test_a_stream_that_would_not_fit_is_refused_before_it_starts(tmp_path, monkeypatch):
    calls = []

    def kernel(x1, x2):
        calls.append(None if isinstance(x1, jax.core.Tracer) else x1.shape)
        return rbf(x1, x2)

    x = np.broadcast_to(np.float32(0.0), (50_000_000, 1))
    with pytest.raises(ValueError, match=r"50,000,000 x 50,000,000 of float32, takes 10,000,000,"):
        operators.stream(kernel, x)
    monkeypatch.setattr(streaming.shutil, "disk_usage", lambda _: shutil_usage(399))
    with pytest.raises(
        ValueError, match=r"10 x 10 of float32, takes 400 bytes; 399 bytes are free"
    ):
        operators.stream(kernel, np.zeros((10, 2), np.float32), out=tmp_path / "k.npy")
    assert not list(tmp_path.iterdir())
    assert set(calls) <= {None, (3, 2)}
    with pytest.raises(ValueError, match=r"ends in \.npy"):
        operators.stream(kernel, x[:2], out=tmp_path / "k.bin")
    with pytest.raises(FileNotFoundError, match=r"no such folder, for k\.npy"):
        operators.stream(kernel, x[:2], out=tmp_path / "none" / "k.npy")


def shutil_usage(free):
    return type("usage", (), {"free": free})()
