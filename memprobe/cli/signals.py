"""Signals that end a process: the first lets code clean up, a second Ctrl-C or SIGTERM ends it at once.

SIGHUP comes when a terminal or login session closes, SIGUSR1 from a batch system ahead of its time limit, and
SIGXCPU when the CPU time that a shell or batch system allows is used up.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from memprobe.errors import interruptible

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU)
# The system may send the others repeatedly, or several at once; that is not a request to hurry.
_HURRYING = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """A signal other than Ctrl-C arrived; like KeyboardInterrupt, it passes every handler of ordinary errors.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def ending() -> Iterator[None]:
    """Turn the first signal into KeyboardInterrupt or Terminated; a second may end the process at once."""
    received = 0

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal received
        received += 1
        if received > 1 and number not in _HURRYING:
            return
        if received > 1:
            # Release what this process holds: others could take it over only after a wait.
            # Nothing is held unless the claims module was imported, which most commands never need.
            if claims := sys.modules.get("memprobe.tables.claims"):
                claims.release()
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"ended at once\n")
            os._exit(128 + number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        # Shells start background jobs with SIGINT ignored, `nohup` ignores SIGHUP; ignored signals stay so.
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, end) for number in heard}
    try:
        with interruptible():
            yield
    finally:
        # After a signal the interpreter may still wait for a thread; a second signal must end that, too.
        if not received:
            for number, handler in before.items():
                signal.signal(number, handler)
