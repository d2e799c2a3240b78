"""Tasks: source and target texts to learn from. Nothing here depends on a model.

======  =====================================================  ====================================
dates   dates in many written forms into ISO 8601              generated, nothing to download
g2p     English spelling into phonemes                         the dictionary of ``npattn[g2p]``
a path  your own pairs, one ``source⇥target`` on a line        by characters or by words
text    plain text for a language model, byte by byte          Python's standard library, or files
======  =====================================================  ====================================

`load_task` returns a `Task`: encoded training pairs, validation and test items in a fixed random order, the names of
its scores, and hyperparameters that suit it. The `Codec` of a task turns text into ids and back. A run keeps it as JSON
in its folder. Of plain text it returns a `TextTask`, which has no pairs and another codec, `Bytes`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

from npattn.tasks.batches import Batch, BucketedBatches, Pair, pad, prediction_batches
from npattn.tasks.codec import Codec
from npattn.tasks.dates import load_dates
from npattn.tasks.g2p import load_g2p
from npattn.tasks.scores import edit_distance, score
from npattn.tasks.task import Item, Task
from npattn.tasks.text import BEGIN, Bytes, TextTask, Window, load_text
from npattn.tasks.tsv import load_tsv
from npattn.tasks.vocabulary import Vocabulary

__all__ = [
    "BEGIN",
    "TASKS",
    "Batch",
    "BucketedBatches",
    "Bytes",
    "Codec",
    "Item",
    "Pair",
    "Task",
    "TextTask",
    "Vocabulary",
    "Window",
    "edit_distance",
    "load_dates",
    "load_g2p",
    "load_task",
    "load_text",
    "load_tsv",
    "pad",
    "prediction_batches",
    "score",
]

#: The tasks that have a name, and the functions that load them.
TASKS: dict[str, Callable[..., Any]] = {"dates": load_dates, "g2p": load_g2p, "text": load_text}


@overload
def load_task(name: Literal["text"], **options: Any) -> TextTask: ...
@overload
def load_task(name: str | os.PathLike[str], **options: Any) -> Task: ...


def load_task(name: str | os.PathLike[str], **options: Any) -> Task | TextTask:
    """Load a task by its name, or a file of pairs by its path.

    - name: "dates", "g2p", "text" or the path of a file of pairs. What has a suffix or names a folder is a path.
    - options: keyword arguments of the function that loads the task: `load_dates`, `load_g2p`, `load_text` or
      `load_tsv`.

    >>> load_task("sums")
    Traceback (most recent call last):
    ValueError: task: expected dates, g2p, text or the path of a .tsv file, got 'sums'

    Raises: ValueError for an unknown task; FileNotFoundError when there is no such file; TypeError for an option that
    the task does not have, or a name that is neither text nor a path; and what the loading function raises.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"task: expected a name or a path, got {type(name).__name__}")
    name = os.fsdecode(name)
    path = Path(name)
    if name not in TASKS and not path.suffix and path.name in (name, "") and not path.is_file():
        raise ValueError(f"task: expected {', '.join(TASKS)} or the path of a .tsv file, got {name!r}")
    load = TASKS.get(name) or partial(load_tsv, name)
    known = inspect.signature(load).parameters
    for option in options:
        if option not in known:
            raise TypeError(f"task {name}: expected options among {', '.join(known)}, got {option!r}")
    return load(**options)
