"""Where the time of a call goes, line by line and over all threads, by looking now and then.

A profiler that counts calls sees one thread and slows down what it counts. This one is a thread that wakes up every
millisecond, looks where each other thread stands, and notes the innermost line of npattn on its stack, or nothing when
the thread only waits. NumPy lets other threads run while it computes, so the looking costs next to nothing.
"""

from __future__ import annotations

import linecache
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import tables

INTERVAL = 0.001
SHOWN = 30

Place = tuple[str, str, int]                                  # file, function, line


class Sampler:
    """Take samples of all other threads inside a `with` block."""

    def __init__(self, package: Path) -> None:
        self.package, self.places, self.looks = str(package), Counter[Place](), 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(INTERVAL / 2)                   # so that a thread in Python code lets the sampler look
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        sys.setswitchinterval(self._interval)

    def _run(self) -> None:
        own = threading.get_ident()
        while not self._stop.is_set():
            self.looks += 1
            for thread, frame in sys._current_frames().items():
                place = None if thread == own else self._place(frame)
                if place is not None:
                    self.places[place] += 1
            time.sleep(INTERVAL)

    def _place(self, frame: FrameType | None) -> Place | None:
        """The innermost line of the package; None when the thread waits for another or is not in the package."""
        if frame is not None and Path(frame.f_code.co_filename).name in ("threading.py", "thread.py", "queue.py"):
            return None
        while frame is not None and not frame.f_code.co_filename.startswith(self.package):
            frame = frame.f_back
        return None if frame is None else (frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno)

    def result(self) -> dict[str, Any]:
        """What was seen: samples by line, with the text of the line, and how often it was looked."""
        lines = [
            {
                "file": str(Path(file).relative_to(Path(self.package).parent)), "function": function, "line": line,
                "text": linecache.getline(file, line).strip(), "samples": count,
            }
            for (file, function, line), count in self.places.most_common()
        ]  # fmt: skip
        return {"looks": self.looks, "lines": lines}


def report(profile: dict[str, Any]) -> str:
    """Two tables, by function and by line, and how many threads were at work on average."""
    lines, functions = profile["lines"], Counter[str]()
    total = sum(line["samples"] for line in lines) or 1
    for line in lines:
        functions[f"{line['file']} {line['function']}"] += line["samples"]
    by_function = [[place, _percent(count, total)] for place, count in functions.most_common(SHOWN)]
    by_line = [
        [f"{line['file']}:{line['line']}", _percent(line["samples"], total), line["text"].partition("  #")[0]]
        for line in lines[:SHOWN]
    ]
    busy = f"{total / max(profile['looks'], 1):.2f} threads at work on average, {profile['looks']} looks"
    return "\n\n".join([busy, tables.table(["function", "%"], by_function),
                        tables.table(["line", "%", "what it says"], by_line, left=(0, 2))])  # fmt: skip


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}"
