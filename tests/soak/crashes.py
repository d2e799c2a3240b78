"""Training runs that are killed and resumed; for test_soak.py and __main__.py.

A run is a child process made by `os.fork`. This takes milliseconds, so thousands can be killed. The child starts or
resumes the run in its folder and trains to the end. POSIX only.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from npattn._internal.files import load_arrays
from npattn.runs.log import read_log
from npattn.runs.run import Run, Settings
from npattn.tasks import Task, load_task
from npattn.transformer import TransformerConfig

SETTINGS = Settings(
    steps=24, batch_size=8, peak_rate=0.01, warmup=2, seed=5, validate_every=5, validation_items=3, checkpoint_every=2
)

#: The file operations of a checkpoint. Python calls its audit hooks with these names before each of them.
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir"}


def words_task(folder: Path) -> Task:
    """Return a task of sixty words and their reverses."""
    rng = np.random.default_rng(0)
    words = sorted({"".join(rng.choice(list("abcde"), rng.integers(2, 6))) for _ in range(70)})[:60]
    path = folder / "words.tsv"
    path.write_text("".join(f"{word}\t{word[::-1]}\n" for word in words), encoding="utf-8")
    return load_task(path)


def take_to_the_end(folder: Path, task: Task, workers: int = 1) -> Run:
    """Start or resume the run in a folder, and train to the end."""
    if (folder / "run.json").exists():
        run = Run.resume(folder, task)
    else:
        sizes = (len(task.codec.source_vocabulary), len(task.codec.target_vocabulary))
        config = TransformerConfig(
            *sizes, d_model=8, n_heads=2, d_ff=12, n_encoder_layers=1, n_decoder_layers=1, dropout=0.2
        )
        run = Run.start(folder, task, config, dataclasses.replace(SETTINGS, workers=workers))
    for _ in run.train():
        pass
    return run


def outcome(folder: Path) -> dict[str, Any]:
    """Return the bits of everything that a run writes, but for the time it took."""
    last, metadata = load_arrays(folder / "last.npz")
    log = {name: column for name, column in read_log(folder).items() if name != "minutes"}
    files = {name: (folder / name).read_bytes() for name in ("run.json", "best.npz")}
    return files | {name: array.tobytes() for name, array in last.items()} | metadata | {"seconds": None, "log": log}


def child(folder: Path, task: Task, workers: int = 1, die_at: int | None = None) -> int:
    """Fork a run and return its process id; it kills itself before the file event of number `die_at`."""
    if pid := os.fork():
        return pid
    try:
        if die_at is not None:
            sys.addaudithook(_killer(folder, die_at))
        take_to_the_end(folder, task, workers)
        os._exit(0)
    except BaseException as error:
        print(f"{folder}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def kill_at_random(folder: Path, kills: int, rng: np.random.Generator, workers: int = 1) -> Counter[str]:
    """Kill each run with SIGKILL, again and again, until it ends; raise unless all runs end on the same bits."""
    task, counts = words_task(folder), Counter[str]()
    began = time.perf_counter()
    _must_end(child(folder / "undisturbed", task, workers))
    duration = time.perf_counter() - began
    wanted = outcome(folder / "undisturbed")
    while counts["kills"] < kills:
        place, patience = folder / f"run-{counts['runs']}", 0.8 * duration
        while True:
            pid = child(place, task, workers)
            if _ended_within(pid, rng.uniform(0, patience)):
                break
            patience *= 1.02                                  # the machine may be slower now: give it more time
            os.kill(pid, signal.SIGKILL)
            counts["kills"] += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert outcome(place) == wanted, f"{place}: other bits than {folder / 'undisturbed'}"
        counts["runs"] += 1
    return counts


def kill_at_every_file_event(folder: Path, every: int = 1) -> Counter[str]:
    """Kill a run before its first, second, … file event, and resume it; raise unless it ends on the same bits.

    Each event (open, rename, remove …) changes the state of the folder, so every state is tested.
    """
    task, counts = words_task(folder), Counter[str]()
    _must_end(child(folder / "undisturbed", task))
    wanted = outcome(folder / "undisturbed")
    for event in range(0, 10**6, every):
        place = folder / f"event-{event}"
        if os.waitstatus_to_exitcode(os.waitpid(child(place, task, die_at=event), 0)[1]) == 0:
            break                                             # there are no more events
        _must_end(child(place, task))
        assert outcome(place) == wanted, f"{place}: other bits than {folder / 'undisturbed'}"
        counts["kills"] += 1
    return counts


def _killer(folder: Path, die_at: int) -> Any:
    left = iter(range(die_at, -1, -1))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and str(arguments[0]).startswith(str(folder)) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def _ended_within(pid: int, seconds: float) -> bool:
    """Wait for a child; return whether it ended in time. Raise if it failed."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert status == 0, f"exit status {os.waitstatus_to_exitcode(status)}"
            return True
        time.sleep(0.0005)
    return False


def _must_end(pid: int) -> None:
    assert os.waitpid(pid, 0)[1] == 0, "a run without a kill failed"
