"""Dates as people write them, in English and Chinese, into ISO 8601: generated, nothing to download.

The model reads ``Monday, 28 July 2025``, ``28/07/25`` or ``二〇二五年七月二十八日``, by characters, and
writes ``2025-07-28``. `npattn.tasks.date_forms` lists the forms and what makes them unambiguous.

The 73,049 days from 1900 to 2099 are split by **date**: a held-out date is never shown in training in any
form. The first 2,000 dates in the order of `hash_order` (of their ISO text) are the test set, the next 1,000
are for validation, the rest for training.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from npattn._internal.checks import check_room, check_size
from npattn.tasks.codec import build_codec
from npattn.tasks.date_forms import forms_of, write
from npattn.tasks.order import hash_order
from npattn.tasks.task import Item, Task

FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
N_TEST, N_VALIDATION = 2_000, 1_000

#: Held-out dates are written in the same forms whatever the seed of the training set.
TEST_SEED, VALIDATION_SEED = 1, 2

#: Many small batches learn sooner than few large ones, and exact targets want no smoothing.
DEFAULTS: dict[str, Any] = {
    "d_model": 64, "n_heads": 4, "d_ff": 256, "n_encoder_layers": 2, "n_decoder_layers": 2,
    "dropout": 0.0, "norm": "pre", "tie": "output",
    "batch_size": 32, "steps": 2_500, "peak_rate": 3e-3, "warmup": 200, "smoothing": 0.0, "clip": 1.0,
}  # fmt: skip


def load_dates(*, n_train: int = 40_000, seed: int = 0) -> Task:
    """Generate the task: `n_train` dates that are not held out, drawn with `seed`, each in a random form.

    Raises: ValueError when `n_train` is below 1.

    >>> task = load_dates(n_train=100)
    >>> len(task.train), len(task.validation), len(task.test)
    (100, 1000, 2000)
    >>> task.test[0]
    Item(source='Sat, Mar 25, 1911', references=('1911-03-25',))
    """
    n_train, seed = check_size("n_train", n_train, least=1), check_size("seed", seed)
    check_room("n_train", n_train)
    rest, validation, test = split_dates()
    rng = np.random.default_rng([0, seed])
    drawn = [rest[i] for i in rng.integers(len(rest), size=n_train)]
    examples = _examples(drawn, rng)
    codec = build_codec(examples, "characters", "characters")
    return Task(
        name="dates",
        title="dates in many written forms, English and Chinese, into ISO 8601",
        codec=codec,
        train=[codec.encode_pair(source, target) for source, target in examples],
        validation=_items(validation, VALIDATION_SEED),
        test=_items(test, TEST_SEED),
        score_names=("exact match", "character error rate"),
        lower_is_better=False,
        options={"n_train": n_train, "seed": seed},
        defaults=dict(DEFAULTS),
    )


def split_dates() -> tuple[list[datetime.date], list[datetime.date], list[datetime.date]]:
    """Return the dates for training, validation and test, each in the order of the hash."""
    n_days = (LAST - FIRST).days + 1
    days = hash_order((FIRST + datetime.timedelta(days=k)).isoformat() for k in range(n_days))
    dates = [datetime.date.fromisoformat(day) for day in days]
    held_out = N_TEST + N_VALIDATION
    return dates[held_out:], dates[N_TEST:held_out], dates[:N_TEST]


def _examples(dates: Sequence[datetime.date], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Write every date in one form, drawn evenly from the forms that it can be written in."""
    examples = []
    for date, drawn in zip(dates, rng.random(len(dates)), strict=True):
        forms = forms_of(date)
        examples.append((write(forms[int(drawn * len(forms))], date), date.isoformat()))
    return examples


def _items(dates: Sequence[datetime.date], seed: int) -> list[Item]:
    rng = np.random.default_rng(seed)
    return [Item(source, (target,)) for source, target in _examples(dates, rng)]
