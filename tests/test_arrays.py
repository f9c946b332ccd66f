"""Memory on the host and on a device."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kernlens.arrays import ALIGNMENT, aligned_empty, is_aligned, on_device


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
