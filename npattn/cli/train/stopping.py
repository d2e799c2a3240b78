"""Stop a long computation between two steps, not within one, after a signal of the user or the system."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Ctrl-C, a request to terminate, and a closed terminal (which Windows does not have).
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

MESSAGE = b"\nstopping after this step; press Ctrl-C again to stop at once\n"


class Interrupted(KeyboardInterrupt):
    """A second signal: the computation ends within a step. `status` is the exit status for it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Stop:
    """Whether and why to stop: `signal` is the number of the first signal, `output_error` an error of the output.

    Both are None at first. With `message`, the first signal prints a message to standard error.
    """

    def __init__(self, *, message: bool = True) -> None:
        self.signal: int | None = None
        self.output_error: OSError | None = None
        self._message = MESSAGE if message else b""

    def requested(self) -> bool:
        """Whether there is a reason to stop."""
        return self.signal is not None or self.output_error is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first is stored, the second raises KeyboardInterrupt."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        with contextlib.suppress(OSError):                    # the terminal may be closed
            os.write(2, self._message)                        # print is not safe here: a signal may interrupt a print

    @property
    def exit_status(self) -> int:
        """The exit status that shells expect after a signal."""
        return 128 + (self.signal or signal.SIGINT)


@contextlib.contextmanager
def stop_on_signals(*, message: bool = True) -> Iterator[Stop]:
    """Inside the block, Ctrl-C, SIGTERM and SIGHUP are stored in the `Stop` and do not end the program.

    Python allows this in the main thread only; in other threads the block changes nothing.
    """
    stop = Stop(message=message)
    before = {}
    for number in SIGNALS if threading.current_thread() is threading.main_thread() else ():
        if signal.getsignal(number) is not signal.SIG_IGN:    # a shell's background job ignores Ctrl-C, also here
            before[number] = signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
