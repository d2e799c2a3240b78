"""Dates: no text has two meanings, held-out dates are held out in every form, a seed decides the training set."""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.tasks import date_forms, load_task
from npattn.tasks.date_forms import FORMS, chinese, forms_of, ordinal, write
from npattn.tasks.dates import FIRST, LAST, load_dates, split_dates
from npattn.tasks.task import Task
from npattn.tasks.vocabulary import UNK

DATES = st.dates(FIRST, LAST)


@pytest.fixture(scope="module")
def dates() -> Task:
    return load_task("dates")


def test_the_comment_of_a_form_shows_a_date_in_it() -> None:
    table = re.findall(r'^    "(.+)",  # (.+)$', inspect.getsource(date_forms), re.MULTILINE)
    assert [form for form, _ in table] == list(FORMS)
    assert [shown for _, shown in table] == [write(form, datetime.date(2025, 7, 5)) for form in FORMS]
    assert len({shown for _, shown in table}) == len(FORMS)


def test_examples_of_forms() -> None:
    day = datetime.date(2025, 7, 28)
    written = {write(form, day) for form in FORMS}
    assert written >= {"Monday, 28 July 2025", "28/07/25", "Jul 28, 2025", "28th of July 2025"}
    assert written >= {"2025年7月28日", "二〇二五年七月二十八日", "2025年7月28日星期一"}


def test_two_dates_are_never_written_alike() -> None:
    years = [1911, 1920, 1969, 2000, 2011, 2012, 2069, 2099]
    date_of: dict[str, datetime.date] = {}
    for year in years:
        day = datetime.date(year, 1, 1)
        while day.year == year:
            for form in forms_of(day):
                assert date_of.setdefault(write(form, day), day) == day
            day += datetime.timedelta(days=1)
    assert len(date_of) > 120_000


@given(DATES, DATES)
def test_a_written_date_has_one_meaning(a: datetime.date, b: datetime.date) -> None:
    written = {write(form, a) for form in forms_of(a)} & {write(form, b) for form in forms_of(b)}
    assert bool(written) == (a == b)


@given(DATES)
def test_weekdays_ordinals_and_numerals_are_right(day: datetime.date) -> None:
    assert write("{Weekday}, {d} {Month} {yyyy}", day) == f"{day:%A}, {day.day} {day:%B %Y}"
    assert write("{Wkd}, {dd} {Mon} {yyyy}", day) == f"{day:%a, %d %b %Y}"
    if day.year in date_forms.TWO_DIGIT_YEARS:
        parsed = datetime.datetime.strptime(write("{dd}/{mm}/{yy}", day), "%d/%m/%y")
        assert parsed.date() == day


def test_ordinal_numbers() -> None:
    written = " ".join(ordinal(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30, 31))
    assert written == "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 30th 31st"
    assert len(set(date_forms.ORDINALS)) == 31


def test_chinese_numerals() -> None:
    written = " ".join(chinese(n) for n in (1, 9, 10, 11, 19, 20, 21, 30, 31))
    assert written == "一 九 十 十一 十九 二十 二十一 三十 三十一"


@pytest.mark.parametrize("year", [1968, 2069])
def test_two_digits_never_stand_for_another_century(year: int) -> None:
    with pytest.raises(ValueError, match=f"can hold the year {year}, got '{{dd}}/{{mm}}/{{yy}}'"):
        write("{dd}/{mm}/{yy}", datetime.date(year, 1, 1))


def test_every_day_is_in_one_split() -> None:
    train, validation, test = map(set, split_dates())
    assert (len(train), len(validation), len(test)) == (70_049, 1_000, 2_000)
    assert not train & validation and not train & test and not validation & test
    assert min(train | validation | test) == FIRST and max(train | validation | test) == LAST


def test_a_batch_has_dates_of_any_length(dates: Task) -> None:
    """Sorted by length, a batch would have dates of a few forms alone, and the model would learn less from it."""
    batches = dates.batches(16, 0)
    spread = [np.ptp((batches[step].src != 0).sum(1)) for step in range(20)]
    assert np.median(spread) > 10


def test_each_day_of_the_year_comes_in_all_forms_alike() -> None:
    """And each date as often as others."""
    n = len(split_dates()[0])
    task = load_dates(n_train=3 * n, seed=3)
    targets = Counter(task.codec.decode_target(pair.target[1:-1]) for pair in task.train)
    assert len(targets) == n and set(targets.values()) == {3}
    forms: Counter[str] = Counter()
    for pair in task.train:
        date = datetime.date.fromisoformat(task.codec.decode_target(pair.target[1:-1]))
        if (date.month, date.day) == (7, 5):
            source = "".join(task.codec.source_vocabulary.decode(pair.source))
            forms[next(form for form in forms_of(date) if write(form, date) == source)] += 1
    assert forms.keys() == set(FORMS)
    for short in (True, False):
        counts = [count for form, count in forms.items() if ("{yy}" in form) is short and "{nian" not in form]
        assert max(counts) - min(counts) <= 2                 # 〇 and 零 differ in years with a 0 alone


def test_held_out_dates_are_not_in_the_training_set(dates: Task) -> None:
    trained = {dates.codec.decode_target(pair.target[1:-1]) for pair in dates.train}
    assert len(dates.train) == 75_000 and len(trained) == 70_049
    for items, n in ((dates.validation, 1_000), (dates.test, 2_000)):
        held_out = {item.references[0] for item in items}
        assert len(held_out) == len(items) == n
        assert not held_out & trained


def test_every_form_is_in_the_training_and_the_test_set(dates: Task) -> None:
    spell, read = dates.codec.source_vocabulary.decode, dates.codec.decode_target
    trained = [("".join(spell(pair.source)), read(pair.target[1:-1])) for pair in dates.train[:2_000]]
    for examples in (trained, [(item.source, item.references[0]) for item in dates.test]):
        used = set()
        for source, target in examples:
            day = datetime.date.fromisoformat(target)
            spelled = {form for form in forms_of(day) if write(form, day) == source}
            assert spelled
            used |= spelled
        assert used == set(FORMS)


def test_held_out_dates_have_no_unknown_symbol(dates: Task) -> None:
    for item in (*dates.validation, *dates.test):
        assert UNK not in dates.codec.encode_source(item.source)
        assert UNK not in dates.codec.encode_target(item.references[0])
    assert dates.codec.max_target_length == len("2025-07-28")


def test_the_seed_decides_the_training_set_and_nothing_else(dates: Task) -> None:
    task, other = load_dates(n_train=500, seed=3), load_dates(n_train=500, seed=4)
    again = load_task(task.name, **task.options)
    assert again == task and again.fingerprint == task.fingerprint
    assert other.train != task.train and other.fingerprint != task.fingerprint
    assert other.test == task.test == dates.test


def test_the_fingerprint_depends_on_training_pairs_and_codec_alone() -> None:
    task = load_dates(n_train=500)
    shorter = dataclasses.replace(task, train=task.train[:-1])
    longer = dataclasses.replace(task, codec=dataclasses.replace(task.codec, max_target_length=11))
    assert len({task.fingerprint, shorter.fingerprint, longer.fingerprint}) == 3
    assert dataclasses.replace(task, test=(), title="").fingerprint == task.fingerprint


def test_the_scores_of_dates(dates: Task) -> None:
    right = [item.references[0] for item in dates.test]
    assert dates.score(right, dates.test) == {"exact match": 1.0, "character error rate": 0.0}
    wrong = ["2025-07-2", *right[1:]]
    assert dates.score(wrong, dates.test)["exact match"] == pytest.approx(1 - 1 / 2_000)
    assert dates.is_better([0.9, 0.9], than=[0.8, 0.1]) and not dates.is_better([0.8, 0.1], than=[0.8, 0.1])
    assert dates.is_better([0.8, 0.1], than=[0.8, 0.2]) and not dates.is_better([0.8, 0.2], than=[0.8, 0.1])


def test_the_training_set_must_not_be_empty() -> None:
    with pytest.raises(ValueError, match="n_train: expected 1 or more, got 0"):
        load_dates(n_train=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_train": 2.0}, "n_train: expected an integer, got 2.0"),
        ({"n_train": "9"}, "n_train: expected an integer, got '9'"),
        ({"n_train": 2**60}, "n_train: expected no more numbers than memory has room for, got 1152921504606846976"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"seed": None}, "seed: expected an integer, got None"),
    ],
)
def test_an_error_names_the_bad_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        load_dates(**options)
    assert str(caught.value) == message
