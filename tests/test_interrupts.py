"""Ctrl-C ends a command within two seconds, wherever it is met: real signals, real processes."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.kit.endurance import DEMO, LIMIT, command_of, interrupt, slowness
from kernlens.cli import interrupts
from tests.experiments.test_experiments import EXPERIMENTS, committed

ROOT = Path(__file__).parents[1]

DROPPED = """
import gc, time
gc.disable()  # but for the call below
naps = [30.0]
gc.callbacks.append(lambda *_: time.sleep(naps.pop() if naps else 0))

def wait():
    gc.collect()  # what is raised in a callback is dropped, as in JAX's
    time.sleep(30)
"""
COMPILED = """
import hashlib

def wait():  # the main thread waits for compiled code, which looks for no signal
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""
THREAD = """
import threading, time

def wait():  # a thread that Python waits for at its end
    threading.Thread(target=time.sleep, args=(600,)).start()
    time.sleep(600)
"""
MADE_ANOTHER = """
import time

def wait():
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        raise RuntimeError("as a callback of XLA does") from None
"""
CHILD = """
import subprocess, sys

def wait():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])
"""
RUN = """
def run():
    print("ready", flush=True)
    try:
        with interrupts.prompt("stopped"):
            wait()
    except KeyboardInterrupt:
        print("caught", flush=True)
        return interrupts.EXIT

from kernlens.cli import interrupts
"""


def ended(code, *, signals=1):
    """Exit code, output, error, and seconds from the signal to the end of a script."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    start = time.monotonic()
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, out, err, time.monotonic() - start


@pytest.mark.parametrize(
    ("wait", "said"),
    [
        (DROPPED, "caught"),
        (COMPILED, "stopped"),
        (THREAD, "caught"),
        (MADE_ANOTHER, "caught"),
        (CHILD, "caught"),
    ],
    ids=["dropped", "compiled", "thread", "made another", "child"],
)
def test_an_interrupt_ends_what_would_go_on(wait, said):
    code, out, err, took = ended(f"{wait}{RUN}interrupts.leave(run)")
    assert code == interrupts.EXIT
    assert took < LIMIT * slowness()
    assert said in out + err
    assert "Traceback" not in err


ENUMERATES = """
import enum, traceback
from kernlens.cli import interrupts

class Kind(enum.Enum):
    ONE = 1

def run():
    print("ready", flush=True)
    try:
        while True:
            Kind(1)
    except KeyboardInterrupt as error:
        raised = [own.filename for own in traceback.extract_tb(error.__traceback__)]
        last = [own for own in raised if not own.endswith("interrupts.py")][-1]
        print("inside" if last == enum.__file__ else "outside", flush=True)
        return interrupts.EXIT

interrupts.leave(run)
"""


def test_an_interrupt_is_put_off_where_an_exception_would_abort():
    """XLA makes Python's enumerations by calling them, and cannot take an exception from there."""
    for _ in range(3):
        code, out, _, took = ended(ENUMERATES)
        assert code == interrupts.EXIT
        assert "inside" not in out
        assert took < LIMIT * slowness()


SHOWS = """
import hashlib, sys
from kernlens.cli import interrupts
from kernlens.cli import progress

with interrupts.prompt("stopped"), progress.shown("computing"):
    sys.__stdout__.write("ready\\n")
    sys.__stdout__.flush()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of its own")
def test_a_terminal_has_its_cursor_back_where_the_process_is_ended():
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SHOWS], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    assert process.stdout is not None
    shown = b""
    try:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the end of a terminal, on Linux
            while more := os.read(ours, 4096):
                shown += more
        assert process.wait(timeout=30) == interrupts.EXIT
    finally:
        process.kill()
        process.stdout.close()
        os.close(ours)
    assert b"\x1b[?25l" in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert shown.endswith(b"\x1b[?25hstopped\r\n")


@pytest.mark.slow  # it waits for JAX's callback to run, which a busy machine puts off
def test_a_plain_interpreter_goes_on():
    """What the test above is about: the same interrupt is dropped without the handler."""
    code = f"{DROPPED}{RUN}print('ready', flush=True)\ngc.collect()\nprint('went on')\n"
    code, out, err, _ = ended(code)
    assert (code, out) == (0, "went on\n")
    assert "KeyboardInterrupt" in err


def test_a_second_signal_ends_at_once():
    slow = "\ndef wait():\n    try:\n        time.sleep(600)\n    except BaseException:\n"
    slow += "        time.sleep(600)\nimport time\n"
    code = f"{slow}{RUN}interrupts.PATIENCE = 600\ninterrupts.leave(run)"
    code, _, err, took = ended(code, signals=2)
    assert code == interrupts.EXIT
    assert took < LIMIT * slowness()
    assert "stopped" in err


def test_the_handler_is_handed_back():
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    waits = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(10)"
    with pytest.raises(KeyboardInterrupt), interrupts.prompt():
        exec(waits)
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before
    assert signal.set_wakeup_fd(wakeup) == wakeup
    time.sleep(1.5 * interrupts.PATIENCE)  # nothing ends the process any more


def test_an_import_is_not_interrupted_but_what_follows_it(tmp_path, monkeypatch):
    """A library in C prints what interrupts its import, or ends the process by a fault."""
    lines = "import os, signal, time", "os.kill(os.getpid(), signal.SIGINT)", "time.sleep(0.3)"
    (tmp_path / "slow.py").write_text("\n".join([*lines, "whole = True"]))
    monkeypatch.syspath_prepend(tmp_path)

    def run():
        importlib.import_module("slow")
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt), interrupts.prompt():
        run()
    assert sys.modules.pop("slow").whole


def test_an_error_that_is_no_interrupt_stays_one():
    with pytest.raises(ZeroDivisionError), interrupts.prompt():
        raise ZeroDivisionError


def check(found):
    if found.code == 0 and found.took < 0.5:  # it had ended before the signal
        return
    assert found.code == interrupts.EXIT, found
    assert found.took < LIMIT * slowness(), found
    assert "interrupted" in found.error
    assert "Traceback" not in found.error


@pytest.mark.thorough
@pytest.mark.parametrize("moment", [0.5, 4.0])
def test_an_experiment_is_interrupted(moment, tmp_path):
    # In full, which takes a minute: a tiny run may be at its end when the signal comes.
    command = [word for word in command_of("prop1_bound", tmp_path) if word != "--tiny"]
    found = interrupt("prop1_bound", command, moment)
    assert found.code == interrupts.EXIT, found
    check(found)
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=committed.name_in_command)
def test_every_experiment_is_interrupted_at_random_moments(experiment, tmp_path):
    name = committed.name_in_command(experiment)
    for moment in np.random.default_rng([*name.encode()]).uniform(0.5, 20.0, 3):
        check(interrupt(name, command_of(name, tmp_path), float(moment)))


@pytest.mark.slow
def test_the_demo_is_interrupted_at_random_moments(tmp_path):
    for moment in np.random.default_rng(7).uniform(0.5, 20.0, 5):
        command = [sys.executable, *DEMO, "--out", str(tmp_path / "demo")]
        check(interrupt("demo", command, float(moment)))


def test_every_experiment_begins_where_an_interrupt_ends_it():
    """The imports, which take seconds, are under the handler too."""
    for experiment in EXPERIMENTS:
        text = (Path(str(experiment.__file__)).parent / "__main__.py").read_text()
        assert "start.experiment(__package__)" in text, experiment.__name__
