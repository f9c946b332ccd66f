"""Ctrl-C ends a command within two seconds, wherever it is met.

Python turns the signal into a KeyboardInterrupt of the main thread. Three things keep that from
ending a run: compiled code that runs for minutes, in which the main thread waits; code in which
Python drops every exception, such as JAX's garbage-collection callback (jax issue 18246); and
threads that the interpreter waits for at its end. So a thread of its own is told of the signal
first. It raises a dropped interrupt again, and ends the process where nothing else does.
"""

import _thread
import contextlib
import enum
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

EXIT = 130
"""Exit code of a command that was interrupted."""

PATIENCE = 1.0
"""Seconds from the signal until the process is ended where it stands."""

_SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"
"""Clears the line of a progress bar, and shows the cursor that it hides."""

_FRAGILE = (enum.__file__,)
"""Files of Python code that XLA calls where an exception aborts the process; there the interrupt is
put off."""

_IMPORT = "<frozen importlib._bootstrap>"
"""File of the frames of an import. There too it is put off: libraries in C print what interrupts
their import, or end the process by a fault."""

_AGAIN = 0.05
"""Seconds from a dropped interrupt until it is raised again."""


class _Watch:
    """The thread that is told of the signal, and what it knows.

    Attributes:
      interrupted: whether there was a signal.
    """

    def __init__(self, message: str):
        self.interrupted = False
        self._message = message
        self._dropped = False
        self._raised = 0
        self._over = threading.Event()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._run, name="kernlens-interrupts", daemon=True)
        self._before = signal.signal(signal.SIGINT, self._handle)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self._thread.start()

    def stop(self) -> None:
        """Hands the signal back."""
        signal.set_wakeup_fd(self._wakeup)
        signal.signal(signal.SIGINT, self._before)
        sys.unraisablehook = self._hook
        self._over.set()
        os.write(self._writer, b"\0")
        self._thread.join()
        os.close(self._writer)
        os.close(self._reader)

    def _handle(self, _: int, frame: FrameType | None) -> None:
        self.interrupted = True
        if _is_put_off(frame):
            self._dropped = True
            return
        self._raised += 1
        if self._raised > 1:
            _end(self._message)
        raise KeyboardInterrupt

    def _unraisable(self, dropped: Any) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            self._dropped = True
        else:
            self._hook(dropped)

    def _run(self) -> None:
        while os.read(self._reader, 1)[0] != signal.SIGINT:
            if self._over.is_set():
                return
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self._over.wait(_AGAIN):
                return
            if self._dropped:
                self._dropped, self._raised = False, 0
                _again()
        _end(self._message)


def _is_put_off(frame: FrameType | None) -> bool:
    if frame is not None and frame.f_code.co_filename in _FRAGILE:
        return True
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False


def _again() -> None:
    """Sends the signal to the main thread, which may sleep."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _end(message: str) -> None:
    """Ends the process at once; what is written is written aside, so that nothing is half there."""
    with contextlib.suppress(Exception):
        if os.isatty(2):
            message = f"{_SHOW_CURSOR}{message}"
        os.write(2, f"{message}\n".encode())
    with contextlib.suppress(OSError):  # Linux lists the processes that were started here
        for task in Path("/proc/self/task").iterdir():
            for child in (task / "children").read_text().split():
                os.kill(int(child), signal.SIGTERM)
    os._exit(EXIT)


@contextlib.contextmanager
def prompt(message: str = "interrupted") -> Iterator[None]:
    """Ends what is done inside within two seconds of Ctrl-C: by KeyboardInterrupt, or the process.

    Outside the main thread, where no signal comes, it does nothing.

    Args:
      message: printed where the process has to be ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(message)
    try:
        yield
    except Exception as error:
        if watch.interrupted:  # a library made another error of it
            raise KeyboardInterrupt from error
        raise
    finally:
        watch.stop()


def leave(run: Callable[[], int]) -> None:
    """Runs a command as the whole of its process, and leaves it with the exit code.

    An interrupted process waits neither for threads nor for what stands open.

    Args:
      run: the command; imports what it needs, and returns its exit code.
    """
    try:
        with prompt():
            code = run()
    except KeyboardInterrupt:  # before the command could answer
        code = EXIT
        print("interrupted", file=sys.stderr)
    if code == EXIT:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
