"""Ctrl-C and SIGTERM end a command within two seconds, whatever it does."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

STOPPED = "stopped; what is finished is kept, and the same command goes on where it was"
PATIENCE = 1.5
"""Seconds in which a command may end by itself once it has been told to."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal has come; it ends whatever a Ctrl-C ends."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


_said = threading.Event()


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside of the block, and once a signal has come also after it.

    A signal raises `Stopped`. Where that is not heard in time, in a library that does not come back or one that
    tidies up at length, the process ends all the same: a thread of its own waits for that, since the kernel
    writes to a pipe whatever Python is at. Results are written whole or not at all, and processes of jobs
    follow their parent. A second signal ends it at once.
    """
    if threading.current_thread() is not threading.main_thread():  # signals go to that one alone
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        raise Stopped(number)

    # one that is ignored, as a shell's background job ignores Ctrl-C, stays so
    heeded = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    others = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(heard,), daemon=True).start()
    try:
        yield
    finally:
        if not stopped:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
            signal.set_wakeup_fd(others)
            os.close(told)


def say() -> None:
    """Says once, on standard error, that the command was stopped."""
    if not _said.is_set():
        _said.set()
        with suppress(OSError):
            os.write(2, f"mmbench: {STOPPED}\n".encode())


def leave(stopped: BaseException) -> NoReturn:
    """Ends a command that was stopped, in the way of shells: 128 and the signal's number."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    say()
    if not isinstance(stopped, Stopped):
        sys.exit(128 + signal.SIGINT)
    # not by way of the interpreter's end: with torch or Ray in it that takes seconds, and no thread can watch;
    # what a command has opened it has closed on its way here
    os._exit(stopped.status)


def _watch(heard: int) -> None:
    """Ends the process some time after the first signal, or with the second one."""
    while (numbers := os.read(heard, 1)) and numbers[0] not in SIGNALS:
        pass
    if not numbers:  # the block has ended
        os.close(heard)
        return
    select.select([heard], [], [], PATIENCE)
    with suppress(OSError):
        if sys.stdout.isatty():
            os.write(1, b"\x1b[?25h")  # the cursor, which bars hide
    say()
    os._exit(128 + numbers[0])
