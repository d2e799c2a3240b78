"""Dates in many written forms, in English and Chinese, into ISO 8601. The data are generated.

The model reads ``Monday, 28 July 2025``, ``28/07/25`` or ``二〇二五年七月二十八日``, by characters, and writes
``2025-07-28``. `npattn.tasks.date_forms` lists the forms, and says why no text has two meanings.

The 73,049 days from 1900 to 2099 are split by **date**: a date of the test or validation set is not in the training set
in any form. `hash_order` sorts the dates by their ISO text. The first 2,000 are the test set, the next 1,000 the
validation set, and the rest are for training.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from npattn._internal.checks import check_room, check_size
from npattn.tasks.codec import build_codec
from npattn.tasks.date_forms import forms_of, write
from npattn.tasks.order import hash_order
from npattn.tasks.task import Item, Task

FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
N_TEST, N_VALIDATION = 2_000, 1_000

#: Seeds for the forms of held-out dates. They do not depend on the seed of the training set.
TEST_SEED, VALIDATION_SEED = 1, 2

#: Many small batches learn faster here than few large ones. Every source has one right target, so smoothing is 0. The
#: training set is so large that no pair comes twice.
DEFAULTS: dict[str, Any] = {
    "d_model": 64, "n_heads": 4, "d_ff": 256, "n_encoder_layers": 2, "n_decoder_layers": 2,
    "dropout": 0.0, "norm": "pre", "tie": "output",
    "batch_size": 16, "steps": 4_500, "peak_rate": 2e-3, "warmup": 200, "smoothing": 0.0, "clip": 1.0,
    "validation_items": 500,
}  # fmt: skip


def load_dates(*, n_train: int = 75_000, seed: int = 0) -> Task:
    """Generate the task: training dates in all forms alike, and the fixed test and validation sets.

    - n_train: the number of training pairs. The first 70,049 have different dates, all that are not held out.
    - seed: an integer from 0; it decides the training pairs, and nothing else.

    Raises: ValueError when `n_train` is below 1, too large for memory, or `seed` is negative; TypeError when one is no
    integer.

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
    rounds = [rng.permutation(len(rest)) for _ in range(-(-n_train // len(rest)))]
    examples = list(_balanced([rest[i] for i in np.concatenate(rounds)[:n_train]], rng))
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
        pool=1,                                               # the length of a date tells its form: mix the forms
    )


def split_dates() -> tuple[list[datetime.date], list[datetime.date], list[datetime.date]]:
    """Return the dates for training, validation and test, each in the order of `hash_order`."""
    days = map(datetime.date.fromordinal, range(FIRST.toordinal(), LAST.toordinal() + 1))
    dates = [datetime.date.fromisoformat(text) for text in hash_order(day.isoformat() for day in days)]
    held_out = N_TEST + N_VALIDATION
    return dates[held_out:], dates[N_TEST:held_out], dates[:N_TEST]


def _balanced(dates: Sequence[datetime.date], rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Yield each date in a form and in ISO 8601. Each day of the year goes through all forms, in an order of its own.

    Of forms by chance some come seldom with some days, and the model then misreads these.
    """
    turns: dict[tuple[int, int, int], Iterator[int]] = {}
    for date in dates:
        forms = forms_of(date)
        day = date.month, date.day, len(forms)
        if day not in turns:
            turns[day] = cycle(rng.permutation(len(forms)).tolist())
        yield write(forms[next(turns[day])], date), date.isoformat()


def _examples(dates: Sequence[datetime.date], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return each date written in one of its forms, all equally likely, and in ISO 8601."""
    return [
        (write(forms[int(uniform * len(forms))], date), date.isoformat())
        for date, forms, uniform in zip(dates, map(forms_of, dates), rng.random(len(dates)), strict=True)
    ]


def _items(dates: Sequence[datetime.date], seed: int) -> list[Item]:
    """Return held-out dates as items, each in one form."""
    return [Item(source, (target,)) for source, target in _examples(dates, np.random.default_rng(seed))]
