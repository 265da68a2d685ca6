"""Ctrl-C and SIGTERM: the first lets what runs tidy up, the second ends at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from memprobe.tables.claims import release

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, it must pass every handler of ordinary errors."""


@contextmanager
def ending() -> Iterator[None]:
    """Turn the first signal into KeyboardInterrupt or Terminated; a second ends the process at once."""
    received = 0

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal received
        received += 1
        if received > 1:
            # Others could take over what this process holds, but would have to wait for it to be silent.
            release()
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"ended at once\n")
            os._exit(128 + number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    before = {}
    if threading.current_thread() is threading.main_thread():
        # A shell starts background jobs with SIGINT ignored, and so it stays.
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    finally:
        # After a signal the interpreter may still wait for a thread: the second must end that too.
        if not received:
            for number, handler in before.items():
                signal.signal(number, handler)
