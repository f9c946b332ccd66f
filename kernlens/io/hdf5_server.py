"""The process that reads HDF5 for :mod:`kernlens.io.hdf5`; a script of NumPy and h5py alone.

HDF5's library can crash, or run for ever, on a damaged file. So it runs in a process of its own,
within bounds of memory and of time for each request. A request is one line of JSON; the reply is
one line of JSON with the number of bytes that follow it.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import h5py
import h5py.h5o
import numpy as np

try:
    import resource
except ImportError:  # Windows has no such bounds
    resource = None

DEEPEST, MOST = 32, 10_000
SECONDS, MEMORY = 2, 3 * 2**29


def main() -> None:
    """Answers until the input ends."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        data = b""
        reply: dict[str, Any]
        try:
            _bound(request.pop("size"))
            with h5py.File(request.pop("path"), "r") as file:
                reply, data = REQUESTS[request.pop("what")](file, **request)
        except MemoryError:
            reply = {"error": "needs more memory than a file of its size should"}
        except Refused as error:
            reply = {"refused": str(error)}
        except Exception as error:
            reply = {"error": f"{error}" or type(error).__name__}
        reply["bytes"] = len(data)
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class Refused(Exception):
    """Something that is not read, with what to do."""


def _bound(size: int) -> None:
    """Seconds of processor and bytes of memory for one request on a file of ``size`` bytes."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + SECONDS + size // 10_000_000
    _lower(resource.RLIMIT_CPU, seconds)
    _lower(resource.RLIMIT_DATA, MEMORY + 4 * size)


def _lower(kind: int, most: int) -> None:
    """Sets a limit, within the one that the process was given."""
    assert resource is not None
    _, hard = resource.getrlimit(kind)
    bounded = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (bounded, hard))


def listed(file: Any) -> tuple[dict[str, Any], bytes]:
    """Shape, dtype and what is written of each data set, by its path in the file."""
    return {"found": {name: _facts(found) for name, found in _datasets(file)}}, b""


def _facts(found: Any) -> dict[str, Any]:
    text = h5py.check_string_dtype(found.dtype)
    chunks = found.chunks
    return {
        "shape": list(found.shape or ()),
        "dtype": found.dtype.str if found.dtype.kind in "biufS" else str(found.dtype),
        "text": text is not None,
        "length": text.length if text is not None else None,
        "chunks": None if chunks is None else list(chunks),
        "written": found.id.get_storage_size() if chunks is None else found.id.get_num_chunks(),
    }


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    """Data sets by their path in the file; what points out of the file is refused."""
    seen, groups, count = set(), [("", file, 0)], 0
    while groups:
        prefix, group, depth = groups.pop()
        for name in group:
            count += 1
            if count > MOST or depth > DEEPEST:
                raise Refused(f"more than {MOST:,} objects, or groups nested too deep")
            link, full = group.get(name, getlink=True), f"{prefix}{name}"
            if isinstance(link, h5py.ExternalLink):
                raise Refused(
                    f"{full!r} is a link into the file {link.filename!r}, which is not followed; "
                    "copy the values into this file"
                )
            if not isinstance(link, h5py.HardLink):
                continue
            found = group[name]
            if isinstance(found, h5py.Group):
                place = h5py.h5o.get_info(found.id).addr
                if place not in seen:
                    seen.add(place)
                    groups.append((f"{full}/", found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                _check_inside(full, found)
                yield full, found


def _check_inside(name: str, found: Any) -> None:
    if found.external:
        raise Refused(
            f"data set {name!r} lies in another file, {found.external[0][0]!r}, which is not read; "
            "copy the values into this file"
        )
    if found.is_virtual:
        raise Refused(
            f"data set {name!r} is virtual: its values lie in other files, and read as zeros where "
            "those are missing; copy the values into this file"
        )


def whole(file: Any, name: str) -> tuple[dict[str, Any], bytes]:
    """All values of a data set; text as JSON."""
    found = file[name]
    if h5py.check_string_dtype(found.dtype) is not None:
        values = np.asarray(found.asstr()[()])
        return {"shape": list(values.shape)}, json.dumps(values.reshape(-1).tolist()).encode()
    values = np.asarray(found[()])
    return {"shape": list(values.shape), "dtype": values.dtype.str}, values.tobytes()


def rows(file: Any, name: str, start: int, stop: int) -> tuple[dict[str, Any], bytes]:
    """Rows of a data set."""
    values = np.asarray(file[name][start:stop])
    return {"shape": list(values.shape), "dtype": values.dtype.str}, values.tobytes()


REQUESTS = {"listed": listed, "whole": whole, "rows": rows}

if __name__ == "__main__":
    main()
