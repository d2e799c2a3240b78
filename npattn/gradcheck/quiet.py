"""Warnings while a pair is called away from the user's own arguments."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np


class _WarningFilters:
    """The process has one list of warning filters. The first of several threads changes it, the last restores it."""

    lock, users, saved = Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if not self.users:
                self.saved = warnings.catch_warnings()
                self.saved.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
            self.users += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self.saved.__exit__(None, None, None)


_filters = _WarningFilters()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings away from the user's own arguments, but make a dropped imaginary part an error."""
    with _filters, np.errstate(all="ignore"):
        yield
