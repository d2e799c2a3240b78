"""Arguments that are not arrays: the exact messages for wrong values, and the Python types of right ones."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn._internal.checks import (
    Interval,
    check_choice,
    check_dtype,
    check_flag,
    check_generator,
    check_integer,
    check_number,
    check_path,
    check_random,
    check_room,
    check_size,
    shown,
)
from npattn._internal.checks import scalars as _scalars
from npattn._internal.checks.scalars import memory

REFUSED: dict[str, Callable[[], Any]] = {
    "TypeError: n: expected an integer, got 2.0": lambda: check_integer("n", 2.0),  # type: ignore[arg-type]
    "TypeError: n: expected an integer, got True": lambda: check_integer("n", True),
    "TypeError: n: expected an integer, got an array of int64 ()": lambda: check_integer("n", np.array(3)),  # type: ignore[arg-type]
    "ValueError: n: expected an integer of 64 bits, got 9223372036854775808": lambda: check_integer("n", 2**63),
    "ValueError: n: expected an integer of 64 bits, got -9223372036854775809": lambda: check_integer("n", -(2**63) - 1),
    "ValueError: n: expected 0 or more, got -1": lambda: check_size("n", -1),
    "ValueError: n: expected 2 or more, got 1": lambda: check_size("n", 1, least=2),
    "TypeError: p: expected a number, got '1'": lambda: check_number("p", "1"),
    "TypeError: p: expected a number, got True": lambda: check_number("p", True),
    "TypeError: p: expected a number, got False": lambda: check_number("p", np.False_),
    "TypeError: p: expected a number, got None": lambda: check_number("p", None),
    "TypeError: n: expected an integer, got np.timedelta64(5,'ns')":
        lambda: check_size("n", np.timedelta64(5, "ns")),  # type: ignore[arg-type]
    "TypeError: p: expected a number, got np.timedelta64(5)": lambda: check_number("p", np.timedelta64(5)),
    "TypeError: p: expected a number, got np.datetime64('2026-11-28T00:00:00.000000000')":
        lambda: check_number("p", np.datetime64("2026-11-28", "ns")),
    "TypeError: rng: expected a numpy.random.Generator or an integer seed, got np.timedelta64(3,'s')":
        lambda: check_generator("rng", np.timedelta64(3, "s")),  # type: ignore[arg-type]
    "TypeError: p: expected a number, got an array of object ()": lambda: check_number("p", np.array(1, object)),
    "TypeError: p: expected a number, got Fraction(1, 2)": lambda: check_number("p", Fraction(1, 2)),
    "TypeError: p: expected a number, got Decimal('0.5')": lambda: check_number("p", Decimal("0.5")),
    "TypeError: p: expected a number, got 1j": lambda: check_number("p", np.complex64(1j)),
    "TypeError: n: expected an integer, got Fraction(3, 1)": lambda: check_integer("n", Fraction(3)),  # type: ignore[arg-type]
    "ValueError: p: expected -inf ≤ p < inf, got inf": lambda: check_number("p", math.inf),
    "ValueError: p: expected -inf ≤ p < inf, got nan": lambda: check_number("p", np.float32("nan")),
    "ValueError: p: expected 0 ≤ p < 1, got -0.5": lambda: check_number("p", -0.5, 0, 1),
    "ValueError: p: expected 0 ≤ p < 1, got 1": lambda: check_number("p", 1, 0, 1),
    "ValueError: p: expected 0 < p ≤ 1, got 0": lambda: check_number("p", 0, 0, 1, "(]"),
    "ValueError: p: expected 0 < p ≤ 1, got 1.5": lambda: check_number("p", 1.5, 0, 1, ends="(]"),
    "ValueError: p: expected 0 < p < 1, got 1": lambda: check_number("p", 1, 0, 1, "()"),
    "ValueError: p: expected 0 ≤ p ≤ 1, got nan": lambda: check_number("p", math.nan, 0, 1, "[]"),
    "ValueError: p: expected 0 ≤ p < 1, got an integer of 1329 bits": lambda: check_number("p", 10**400, 0, 1),
    "ValueError: p: expected 0 ≤ p ≤ inf, got an integer of 1329 bits":
        lambda: check_number("p", -(10**400), 0, ends="[]"),
    "TypeError: scale: expected a number, got None": lambda: Interval(0, 1)("scale", None),
    "TypeError: scale: expected a number, got 'a'": lambda: Interval(optional=True)("scale", "a"),
    "ValueError: scale: expected 0 ≤ scale < 1, got 1": lambda: Interval(0, 1)("scale", 1),
    "ValueError: scale: expected 0 < scale ≤ 1, got 0": lambda: Interval(0, 1, "(]", optional=True)("scale", 0),
    "ValueError: scale: expected -inf ≤ scale < inf, got inf": lambda: Interval()("scale", math.inf),
    "TypeError: causal: expected True or False, got 1": lambda: check_flag("causal", 1),  # type: ignore[arg-type]
    "ValueError: norm: expected one of pre, post, got 'no'": lambda: check_choice("norm", "no", ("pre", "post")),
    "ValueError: norm: expected one of pre, post, got an array of <U3 (2,)":
        lambda: check_choice("norm", np.array(["pre", "a"]), ("pre", "post")),  # type: ignore[arg-type]
    "TypeError: rng: expected a numpy.random.Generator or None, got int":
        lambda: check_random("rng", 3),  # type: ignore[arg-type]
    "TypeError: rng: expected a numpy.random.Generator or an integer seed, got None":
        lambda: check_generator("rng", None),  # type: ignore[arg-type]
    "TypeError: rng: expected a numpy.random.Generator or an integer seed, got True":
        lambda: check_generator("rng", True),
    "ValueError: rng: expected 0 or more, got -1": lambda: check_generator("rng", -1),
    "TypeError: dtype: expected float32 or float64, got float16": lambda: check_dtype("dtype", np.float16),
    "TypeError: dtype: expected float32 or float64, got >f4": lambda: check_dtype("dtype", ">f4"),
    "TypeError: dtype: expected float32 or float64, got None": lambda: check_dtype("dtype", None),
    "TypeError: dtype: expected float32 or float64, got 'text'": lambda: check_dtype("dtype", "text"),
    "TypeError: dtype: expected float32 or float64, got []": lambda: check_dtype("dtype", {}),
    "TypeError: path: expected the path of a file, got 0": lambda: check_path("path", 0),  # type: ignore[arg-type]
    "ValueError: path: expected the path of a file, got ''": lambda: check_path("path", ""),
    "ValueError: path: expected the path of a file, got '/'": lambda: check_path("path", Path("/")),
    "ValueError: path: expected the path of a file, got 'a\\x00b'": lambda: check_path("path", "a\0b"),
    "ValueError: N: expected no more numbers than memory has room for, got 1152921504606846976":
        lambda: check_room("N", 2**60),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_value_is_refused(message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        REFUSED[message]()
    assert f"{caught.type.__name__}: {caught.value}" == message


ACCEPTED: list[tuple[Callable[[], Any], Any]] = [
    (lambda: check_integer("n", 2**63 - 1), 2**63 - 1),
    (lambda: check_integer("n", -(2**63)), -(2**63)),
    (lambda: check_integer("n", np.int8(-3)), -3),
    (lambda: check_size("n", 0), 0),
    (lambda: check_size("n", np.uint64(2), least=2), 2),
    (lambda: check_number("p", 3), 3.0),
    (lambda: check_number("p", np.float32(0.5), 0, 1), 0.5),
    (lambda: check_number("p", np.int16(2)), 2.0),
    (lambda: check_number("p", -math.inf), -math.inf),
    (lambda: check_number("p", 0, 0, 1), 0.0),
    (lambda: check_number("p", 1.0, 0, 1, "(]"), 1.0),
    (lambda: check_number("p", 10**400, 0, ends="(]"), math.inf),
    (lambda: check_number("p", -(10**400)), -math.inf),
    (lambda: check_flag("causal", np.True_), True),
    (lambda: check_flag("causal", False), False),
    (lambda: check_dtype("dtype", "float32"), np.dtype(np.float32)),
    (lambda: check_dtype("dtype", float), np.dtype(np.float64)),
    (lambda: check_path("path", "folder/a.npz"), Path("folder/a.npz")),
    (lambda: shown(2**128 - 1), str(2**128 - 1)),
    (lambda: shown(2**128), "an integer of 129 bits"),
    (lambda: shown("x" * 58), "'" + "x" * 58 + "'"),
    (lambda: shown("x" * 59), "'" + "x" * 58 + "…"),
    (lambda: shown([np.zeros(2), "a\nb"]), "[array([0., 0.]), 'a\\nb']"),
    (lambda: shown(np.zeros((2, 2)).tolist()), "[[0.0, 0.0], [0.0, 0.0]]"),
    (lambda: shown(np.int64(3)), "3"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "expected"), ACCEPTED)
def test_a_right_value_is_returned(call: Callable[[], Any], expected: Any) -> None:
    got = call()
    assert got == expected and type(got) is type(expected)


def test_checks_that_return_nothing() -> None:
    check_choice("norm", "pre", ("pre", "post"))
    check_room("N", 0)
    check_random("rng", None)
    check_random("rng", np.random.default_rng())


def test_an_interval_is_a_check() -> None:
    Interval(0, 1)("p", 0)
    Interval(0, 1, "(]")("p", np.float32(1))
    Interval(0, 1, optional=True)("p", None)
    Interval()("p", -math.inf)


def test_text_of_several_lines_becomes_one_line() -> None:
    assert shown([np.eye(2)]) == "[array([[1., 0.], [0., 1.]])]"


def test_generators_and_seeds() -> None:
    rng = np.random.default_rng(3)
    assert check_generator("rng", rng) is rng
    assert check_generator("rng", np.int64(5)).random() == np.random.default_rng(5).random()


def test_the_room_is_the_memory_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    check_room("N", memory() // 8)
    check_room("N", memory() // 2, itemsize=2)
    with pytest.raises(ValueError, match=r"^N: "):
        check_room("N", memory() // 8 + 1)
    with pytest.raises(ValueError, match=r"^N: "):
        check_room("N", memory() + 1, itemsize=1)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(_scalars.os, "sysconf", sizes.__getitem__)
    assert memory() == 4_096_000
    monkeypatch.delattr(_scalars.os, "sysconf")
    assert memory() == sys.maxsize
