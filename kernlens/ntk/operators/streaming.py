"""A kernel matrix block by block, into host memory or a ``.npy`` file, resumable to the same bits.

While a file is being filled it lies beside its place as ``<name>.part``, with a list of the blocks
that are done in ``<name>.done``; when it is whole it is moved into place.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.arrays.memory import free_bytes
from kernlens.files import synced
from kernlens.ntk.operators.operator import check_block_size, check_kernel, check_rows, num_rows
from kernlens.types import Kernel

ProgressFn = Callable[[int, int], None]
"""``progress(done, total)``, in blocks."""


def stream(
    kernel: Kernel,
    x1: Any,
    x2: Any = None,
    *,
    block_size: int = 1024,
    out: str | Path | None = None,
    progress: bool | ProgressFn = False,
    resume: bool = True,
) -> np.ndarray:
    """Fills the matrix of a kernel that fits the host or its disk, but not the device.

    Every block has one shape, the last ones padded with repeated rows, so a compiled kernel is
    compiled once; the kernel is called as it is given. For the symmetric matrix one half of the
    blocks is computed and mirrored. A run that was killed goes on where it stopped, and gives the
    bits of an unbroken one; a block whose end was not recorded is computed again.

    Args:
      kernel: ``(x1, x2) -> [n1, n2]``, of one pair of rows an entry, or ``[n1, n2, o, o, ...]``
        with output axes in pairs.
      x1: rows, a pytree of arrays with a common leading axis ``n1``; memory maps stay on disk.
      x2: rows of the columns; None for the symmetric ``k(x1, x1)``.
      block_size: rows of a block, at least 1.
      out: ``.npy`` file to write, replaced where it exists; None for an array in memory.
      progress: True shows a bar; a function is called after each block with the number of blocks
        done, those of an earlier run included, and of all.
      resume: whether to go on with what an interrupted run left beside ``out``; else it is thrown
        away.

    Returns:
      The matrix, ``[n1, n2, ...]``: an array, or a read-only memory map of ``out``.

    Raises:
      ValueError: no rows, rows that are not finite, a block size below 1, a kernel that does not
        return blocks, a path that does not end in ``.npy`` or is a folder, an output larger than
        the memory or disk space that is free, or an interrupted run with other rows, kernel
        values, or block size. All before the first block.
      FileNotFoundError: no such folder.

    Examples:
      >>> from kernlens import kernels
      >>> rows = np.arange(5, dtype=np.float32)[:, None]
      >>> bool(np.array_equal(stream(kernels.linear, rows, block_size=2), rows @ rows.T))
      True
    """
    check_block_size(block_size)
    x1 = jax.tree.map(np.asarray, x1)
    x2 = None if x2 is None else jax.tree.map(np.asarray, x2)
    check_rows(x1, "x1")
    if x2 is not None:
        check_rows(x2, "x2")
    _check_finite(x1, "x1")
    _check_finite(x2, "x2")
    columns = x1 if x2 is None else x2
    block = check_kernel(kernel, x1, columns)
    if x2 is None and len(block.shape) % 2:
        raise ValueError(
            f"a symmetric kernel needs its axes in pairs to be mirrored; got blocks {block.shape}"
        )
    shape = (num_rows(x1), num_rows(columns), *block.shape[2:])
    path = None if out is None else _checked_path(out)
    if path is None:
        _check_fits(shape, block.dtype, free_bytes(), "of memory are free")
    else:
        _check_fits(shape, block.dtype, _free_disk(path), f"are free on the disk of {path.parent}")
    plan = _plan(shape, block_size, symmetric=x2 is None)
    if path is None:
        array = np.empty(shape, block.dtype)
        with _shown(progress, len(plan)) as tell:
            for done, place in enumerate(plan, start=1):
                _fill(array, kernel, x1, x2, place, block_size)
                tell(done, len(plan))
        return array
    identity = {
        "rows": _digest((x1, x2)),
        "kernel values": _digest(_probe(kernel, x1, columns)),
        "shape": list(shape),
        "dtype": str(block.dtype),
        "block_size": block_size,
    }
    part = _Part(path, identity, len(plan))
    if not part.finished(resume):
        array = part.open(shape, block.dtype, resume)
        with _shown(progress, len(plan)) as tell:
            for number, place in enumerate(plan):
                if not part.done[number]:
                    _fill(array, kernel, x1, x2, place, block_size)
                    array.flush()
                    part.mark(number)
                    tell(int(part.done.sum()), len(plan))
        del array
        part.finish()
    return np.load(part.out, mmap_mode="r", allow_pickle=False)


class _Part:
    """A file that is being filled, and the list of its blocks that are done.

    The list is one line of JSON that says what the file is to hold, then a byte for each block.
    """

    def __init__(self, out: Path, identity: dict[str, Any], count: int):
        self.out = out
        self.done = np.zeros(count, bool)
        self._data = _beside(out)
        self._list = out.with_name(out.name + ".done")
        self._identity = identity
        self._header = json.dumps(identity).encode() + b"\n"

    def finished(self, resume: bool) -> bool:
        """Whether an earlier run was stopped after its last step but one."""
        if not (resume and self._list.exists()) or self._data.exists() or not self.out.exists():
            return False
        found, marks = self._read()
        if found != self._identity or not marks.all():
            return False
        self._list.unlink()
        return True

    def open(self, shape: tuple[int, ...], dtype: Any, resume: bool) -> np.memmap:
        """The file to fill, that of an interrupted run where there is one.

        Raises:
          ValueError: the interrupted run was another one.
        """
        if resume and self._list.exists() and self._data.exists():
            found, marks = self._read()
            other = [name for name in self._identity if found.get(name) != self._identity[name]]
            if other:
                raise ValueError(
                    f"{self._data} holds an interrupted run with other {', '.join(other)}: resume "
                    "with what it was started with, pass resume=False, or delete it"
                )
            self.done = marks
            return np.lib.format.open_memmap(self._data, mode="r+")
        # In this order: a list without its file, or the reverse, is never taken for a run.
        self._list.unlink(missing_ok=True)
        self._data.unlink(missing_ok=True)
        array = np.lib.format.open_memmap(self._data, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # A disk that fills up later would end the process, not raise, at a write to the map.
            with self._data.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self._data.stat().st_size)
        aside = self._list.with_name(self._list.name + ".new")
        aside.write_bytes(self._header + bytes(len(self.done)))
        os.replace(aside, self._list)
        return array

    def mark(self, number: int) -> None:
        """Records that a block is in the file."""
        self.done[number] = True
        with self._list.open("r+b") as file:
            file.seek(len(self._header) + number)
            file.write(b"\1")

    def finish(self) -> None:
        """Moves the whole file into place, once it is on the disk."""
        with self._data.open("rb+") as file:
            synced(file)
        os.replace(self._data, self.out)
        self._list.unlink()

    def _read(self) -> tuple[dict[str, Any], np.ndarray]:
        header, _, marks = self._list.read_bytes().partition(b"\n")
        try:
            found = json.loads(header)
        except ValueError as error:
            raise ValueError(
                f"{self._list}: not a list of finished blocks ({error}); delete it to start again"
            ) from error
        return found, np.frombuffer(marks, np.uint8).astype(bool)


def _plan(shape: tuple[int, ...], block_size: int, *, symmetric: bool) -> list[tuple[slice, slice]]:
    """Where each block goes; for a symmetric matrix on and above the diagonal."""
    rows, columns = (
        [slice(start, min(start + block_size, n)) for start in range(0, n, block_size)]
        for n in shape[:2]
    )
    return [(i, j) for i in rows for j in columns if not symmetric or i.start <= j.start]


def _fill(
    array: np.ndarray,
    kernel: Kernel,
    x1: Any,
    x2: Any,
    place: tuple[slice, slice],
    block_size: int,
) -> None:
    i, j = place
    columns = x1 if x2 is None else x2
    block = np.asarray(kernel(_padded(x1, i, block_size), _padded(columns, j, block_size)))
    block = block[: i.stop - i.start, : j.stop - j.start]
    array[i, j] = block
    if x2 is None and i != j:
        axes = np.arange(block.ndim).reshape(-1, 2)[:, ::-1].reshape(-1)
        array[j, i] = block.transpose(axes)


def _padded(x: Any, place: slice, block_size: int) -> Any:
    """Rows of a block on the device; the last row is repeated where they end."""
    n = num_rows(x)
    index = np.minimum(place.start + np.arange(min(block_size, n)), n - 1)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[index]), x)


def _probe(kernel: Kernel, x1: Any, columns: Any) -> np.ndarray:
    """Kernel values at a few rows, which tell one kernel from another."""

    def few(x: Any) -> Any:
        index = np.linspace(0, num_rows(x) - 1, 3).astype(int)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[index]), x)

    return np.asarray(kernel(few(x1), few(columns)))


def _digest(x: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(x):
        digest.update(f"{leaf.dtype} {leaf.shape} ".encode())
        for rows in _steps(leaf):
            digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()


def _check_finite(x: Any, name: str) -> None:
    for leaf in jax.tree.leaves(x):
        if np.issubdtype(leaf.dtype, np.inexact):
            bad = sum(rows.size - np.count_nonzero(np.isfinite(rows)) for rows in _steps(leaf))
            if bad:
                raise ValueError(f"{name} has {bad:,} entries that are NaN or infinite")


def _steps(leaf: np.ndarray) -> Iterator[np.ndarray]:
    """Rows in steps of some megabytes, so that a memory map is not read in whole."""
    step = max(1, 2**24 // max(1, leaf[:1].nbytes))
    for start in range(0, len(leaf), step):
        yield leaf[start : start + step]


def _checked_path(out: str | Path) -> Path:
    path = Path(out)
    if path.suffix != ".npy":
        raise ValueError(f"{path}: expected a file name that ends in .npy")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected a file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder, for {path.name}")
    return path.resolve()


def _check_fits(shape: tuple[int, ...], dtype: Any, free: int, where: str) -> None:
    size = prod(shape) * np.dtype(dtype).itemsize
    if size > free:
        raise ValueError(
            f"the kernel matrix, {' x '.join(f'{n:,}' for n in shape)} of {np.dtype(dtype)}, takes "
            f"{size:,} bytes; {free:,} bytes {where}"
        )


def _beside(out: Path) -> Path:
    return out.with_name(out.name + ".part")


def _free_disk(out: Path) -> int:
    """Bytes that the file can have, those of an interrupted run included."""
    part = _beside(out)
    # The blocks that a file holds, not its length, which holes may make up.
    held = getattr(part.stat(), "st_blocks", 0) * 512 if part.exists() else 0
    return shutil.disk_usage(out.parent).free + held


@contextlib.contextmanager
def _shown(progress: bool | ProgressFn, total: int) -> Iterator[ProgressFn]:
    if callable(progress):
        yield progress
    elif progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        with Progress(
            "kernel blocks", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        ) as (bar):
            task = bar.add_task("", total=total)
            yield lambda done, _: bar.update(task, completed=done)
    else:
        yield lambda done, total: None
