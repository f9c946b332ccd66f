"""Memory on the host and on a device."""

import importlib
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from threadpoolctl import threadpool_info, threadpool_limits

from kernlens.arrays.device import calm_threads, on_device
from kernlens.arrays.memory import ALIGNMENT, aligned_empty, is_aligned, let_go


@pytest.mark.parametrize("offset", [0, 1, 4, 8, 16, 32])  # in numbers of four bytes
def test_an_array_on_the_device_shares_no_memory_with_numpy(offset):
    memory = aligned_empty((64 * 32 + offset,), np.dtype(np.float32))
    x = memory[offset:].reshape(64, 32)
    assert is_aligned(x) == (4 * offset % ALIGNMENT == 0)
    for given in (x, x.T):
        x[...] = 1.0
        got = jax.block_until_ready(on_device(given))
        x[...] = 2.0
        assert_array_equal(got, np.ones(given.shape, np.float32))


def test_an_array_on_the_device_is_what_it_was():
    x = np.arange(24.0, dtype=np.float16).reshape(4, 6)
    for given in (x, x[:, ::2], x.T):
        got = on_device(given)
        assert got.dtype == np.float16
        assert_array_equal(got, given)
    assert on_device(got) is got


@pytest.mark.parametrize(("load", "work"), [(0.0, 1e12), (1e6, 1e12), (0.0, 1e6)])
def test_linear_algebra_has_one_thread_where_the_machine_is_busy_or_work_small(
    monkeypatch, load, work
):
    importlib.import_module("scipy.linalg")

    @calm_threads(work)
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    with threadpool_limits(3, user_api="blas"):
        found, after = threads(), threadpool_info()
    assert found
    assert set(found) == ({1} if load or work < 1e9 else {3})
    assert {pool["num_threads"] for pool in after if pool["user_api"] == "blas"} == {3}


def test_threads_come_back_when_the_last_of_several_calls_has_ended():
    importlib.import_module("scipy.linalg")

    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(3, user_api="blas"):
        first, second = calm_threads(1e6), calm_threads(1e6)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == {3}


def resident():
    """Bytes of mapped files that this process has in memory."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssFile:")[2].split()[0])


def test_a_mapped_file_is_let_go_and_read_again(tmp_path):
    values = np.random.default_rng(0).standard_normal((2**16, 64), np.float32)
    np.save(tmp_path / "rows.npy", values)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    view = np.asarray(mapped)[1:]
    before = resident()
    assert_array_equal(view, values[1:])
    assert resident() > before + values.nbytes / 2
    let_go(view)
    assert resident() < before + values.nbytes / 4
    assert_array_equal(view, values[1:])


def test_values_that_were_changed_are_kept(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((2**10, 64)))
    copied = np.load(tmp_path / "rows.npy", mmap_mode="c")
    copied[:] = 7.0
    view = copied[:]
    view.flags.writeable = False
    for given in (copied, view, np.ones(3), [1.0]):
        let_go(given)
    assert np.all(copied == 7.0)
