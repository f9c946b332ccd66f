"""A process that reads files as the command does, one after another, and tells what it took.

Each line of the standard input is a JSON list of words for ``kernlens``; each line of the
standard output says how that ended, with seconds of the processor. What follows reading is left
out: it never sees the bytes.
"""

import contextlib
import functools
import importlib
import io
import json
import resource
import sys
import time
import traceback
from pathlib import Path

from kernlens.cli import answers, command
from kernlens.cli.options.embed import Embed
from kernlens.cli.options.predict import Predict
from kernlens.cli.rows import Rows
from kernlens.types import Interactions

_MOST_MEMORY = 8 * 2**30  # keeps a fault from taking the machine's


def _rows(config: Predict, rows: Rows) -> None:
    print(answers.joined_line(rows), rows.told)


def _events(config: Embed, data: Interactions) -> None:
    print(data.num_items, data.notes)


def _peak() -> float:
    """Largest resident size since it was last reset, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    vars(importlib.import_module("kernlens.cli.predict"))["predict"] = _rows
    vars(importlib.import_module("kernlens.cli.embed"))["embed"] = _events
    parse = functools.cache(lambda *words: cli_parse(list(words)))
    # Parsing is most of the time otherwise.
    cli_parse, command._parse = command._parse, lambda argv: parse(*argv)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY * 4, _MOST_MEMORY * 4))
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    for line in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")
        out, err = io.StringIO(), io.StringIO()
        start, code = time.process_time(), None
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = command.main([*json.loads(line), "--no-cache"])
        except BaseException:
            err.write(traceback.format_exc())
        told = {
            "code": code,
            "err": err.getvalue()[-20_000:],
            "length": len(err.getvalue()),
            "seconds": time.process_time() - start,
            "peak": _peak(),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
