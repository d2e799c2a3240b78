"""Stop a long piece of work between two steps, not within one, when the user or the system asks for it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Ctrl-C, the polite end, and the terminal that is closed (which Windows does not have).
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

NOTE = b"\nstopping after this step; press Ctrl-C once more to stop at once\n"


class Interrupted(KeyboardInterrupt):
    """A second signal has stopped what the first had asked to stop."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Stop:
    """Whether to stop: `signal` is the number of the signal that asked for it, or None.

    Or nobody reads any more: `lost` is the error of the output. `note` tells the user that a signal has been heard.
    """

    def __init__(self, *, note: bool = True) -> None:
        self.signal: int | None = None
        self.lost: OSError | None = None
        self._note = NOTE if note else b""

    def requested(self) -> bool:
        """Whether there is a reason to stop."""
        return self.signal is not None or self.lost is not None

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first is a wish, the second an order."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        with contextlib.suppress(OSError):                    # the terminal may be gone
            os.write(2, self._note)                           # print may be in the middle of a line of its own

    @property
    def exit_status(self) -> int:
        """What a shell expects of a program that a signal ended."""
        return 128 + (self.signal or signal.SIGINT)


@contextlib.contextmanager
def stop_on_signals(*, note: bool = True) -> Iterator[Stop]:
    """Inside the block, Ctrl-C, SIGTERM and SIGHUP are noted in the `Stop` instead of ending the program.

    Python allows this in the main thread only; elsewhere nothing is changed.
    """
    stop = Stop(note=note)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:    # as of a shell's background job: leave it so
            before[number] = signal.signal(number, stop.ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
