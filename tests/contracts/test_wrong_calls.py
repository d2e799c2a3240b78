"""Every public function with a wrong argument gives the right result, or one error that names the argument.

A test takes a right call of each function (`wrong_calls`) and spoils one argument in each of many ways (`spoiling`).
Three outcomes are allowed. If only types or memory have changed, it is the result of the right call. Otherwise it is a
result without a warning, or an error of one line that npattn raises and that begins with the symbol of an argument.
"""

from __future__ import annotations

import importlib
import linecache
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npattn
from npattn._internal.checks import Array
from support.calls import arrays, examples
from support.right_calls import Right
from support.spoiling import Spoiling, spoilings
from support.wrong_calls import RIGHT

PACKAGE = str(Path(npattn.__file__).parent)
MODULES = ("", ".layers", ".optim", ".torch_weights", ".hf_weights", ".gradcheck", ".tasks")

#: Public, but without arguments that could be wrong, or made by npattn and not by its users.
WITHOUT = {
    "npattn.keep_memory", "npattn.return_memory", "npattn.Adam.state_dict", "npattn.Parameters.like",
    "npattn.Parameters.copy", "npattn.Trainer.state_dict", "npattn.Trainer.synchronize", "npattn.Trainer.require_alike",
    "npattn.LanguageModelConfig.shapes", "npattn.LanguageModelConfig.side_by_side",
    "npattn.TransformerConfig.shapes", "npattn.TransformerConfig.side_by_side",
    "npattn.CheckpointError", "npattn.GradientError", "npattn.GradientReport", "npattn.Hypothesis",
    "npattn.RanksDiffer", "npattn.gradcheck.ArgumentReport", "npattn.tasks.Batch", "npattn.tasks.Item",
    "npattn.tasks.Pair", "npattn.tasks.Task", "npattn.tasks.TextTask", "npattn.tasks.Window",
    "npattn.layers.RotaryFrequencies",
    # They read or write a folder. tests/hf_weights tests their arguments.
    "npattn.hf_weights.load_folder", "npattn.hf_weights.save_folder",
    # tests/runs tests their arguments.
    "npattn.TrainedModel", "npattn.load_model",
    # tests/learn tests their arguments.
    "npattn.explore", "npattn.trace",
    # tests/gradcheck tests their arguments.
    "npattn.check_layer", "npattn.gradcheck.GradientWarning",
    # They read or write thousands of texts. tests/tasks tests their arguments.
    "npattn.tasks.load_dates", "npattn.tasks.load_g2p", "npattn.tasks.load_text",
    # They take texts and lists of texts: every sequence of comparable things is right.
    "npattn.tasks.Bytes", "npattn.tasks.Vocabulary", "npattn.tasks.edit_distance", "npattn.tasks.pad",
    "npattn.tasks.score",
}  # fmt: skip

#: Arguments that may be None in every call.
OPTIONAL = (
    "mask", "bias", "beta", "b", "b_Q", "b_K", "b_V", "b_O", "kwargs", "K_past", "V_past", "dK", "dV", "positions",
    "S_0", "dS", "X_past", "dX_last", "gamma", "W_DQ", "gamma_Q", "C_past", "K_R_past", "dC", "dK_R",
    "sinks", "gamma_K", "b_1", "b_2", "correction", "bad_words_ids", "forced_bos_id",
)  # fmt: skip

#: Arguments of attention that its scores do not depend on.
VALUES = ("V", "W_V", "W_O", "b_V", "b_O", "V_past")

each_function = pytest.mark.parametrize("name", RIGHT)


def public() -> Iterator[tuple[str, Any]]:
    """Yield the name and value of every public function and class."""
    seen: set[int] = set()
    for path in MODULES:
        module = importlib.import_module(f"npattn{path}")
        for name in module.__all__:
            thing = getattr(module, name)
            if not isinstance(thing, ModuleType) and callable(thing) and id(thing) not in seen:
                seen.add(id(thing))
                yield f"npattn{path}.{name}", thing
    for version in (*npattn.attention.VERSIONS, *npattn.attention.MODERN_VERSIONS):
        for name in ("forward", "backward"):
            yield f"{version.module.__name__}.{name}", getattr(version.module, name)


def test_no_public_function_is_forgotten() -> None:
    names = dict(public())
    for name, thing in list(names.items()):
        if thing in (
            npattn.Adam, npattn.LanguageModel, npattn.LanguageModelConfig, npattn.Parameters, npattn.Trainer,
            npattn.Transformer, npattn.TransformerConfig,
        ):  # fmt: skip
            methods = {m: f for m, f in vars(thing).items() if callable(f) or isinstance(f, classmethod)}
            names |= {f"{name}.{m}": f for m, f in methods.items() if m[0] != "_" or m == "__setitem__"}
    tested = {name.partition(" of ")[0] for name in RIGHT}
    assert names.keys() - tested == WITHOUT
    assert tested - names.keys() == set()


def spoilt_calls(right: Right) -> list[tuple[str, Spoiling]]:
    """Return every argument with every way to spoil it."""
    return [(symbol, one) for symbol, value in right.arguments.items() for one in spoilings(value)]


@each_function
def test_every_argument_spoilt_in_every_way(name: str) -> None:
    for seed in range(2):
        right = RIGHT[name](seed)
        expected = outcome(right.run())
        for symbol, spoiling in spoilt_calls(right):
            judge(right, expected, symbol, spoiling)


@each_function
@given(seed=st.integers(2, 2**32 - 1), place=st.integers(0, 10**6))
@examples(8)
def test_an_argument_spoilt_at_random(name: str, seed: int, place: int) -> None:
    right = RIGHT[name](seed)
    ways = spoilt_calls(right)
    judge(right, outcome(right.run()), *ways[place % len(ways)])


def judge(right: Right, expected: list[Any], symbol: str, spoiling: Spoiling) -> None:
    """Make the spoilt call, and assert that its outcome is allowed."""
    with warnings.catch_warnings(action="ignore"):            # NumPy advises against matrices
        spoilt = spoiling.spoil(right.arguments[symbol])
    verdict, where = spoiling.verdict, f"{symbol} {spoiling.name}"
    if verdict == "fits":
        verdict = fitting(right, symbol, spoilt)
    if verdict == "refused" and (where.startswith(right.takes) or (spoilt is None and symbol in OPTIONAL)):
        verdict = "either"
    if verdict == "same" and where.startswith(right.takes) and " as " in where:
        verdict = "either"
    if symbol in right.writes and where.endswith("read_only"):
        verdict = "refused"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = outcome(right.run(**{symbol: spoilt}))
    except Exception as error:                                # `assert_ours` judges its type and its text
        assert verdict not in ("same", "answered"), f"{where}: {error!r}"
        assert_ours(right, symbol, error, where)
        return
    assert verdict != "refused", f"{where} was taken"
    if verdict == "same":
        assert_equal(got, expected, where)


def assert_ours(right: Right, symbol: str, error: Exception, where: str) -> None:
    """Assert that npattn raises the error, of the right type, and that it begins with the symbol of an argument."""
    assert isinstance(error, right.errors), f"{where}: {error!r}"
    if isinstance(error, OSError):
        return
    frame = traceback.extract_tb(error.__traceback__)[-1]
    assert frame.filename.startswith(PACKAGE), f"{where}: {error!r} of {frame.filename}"
    line = linecache.getline(frame.filename, frame.lineno or 0)
    assert line.strip().startswith("raise "), f"{where}: {error!r} at {line}"
    message = str(error)
    assert "\n" not in message, f"{where}: {message}"
    if not isinstance(error, npattn.GradientError | FloatingPointError):
        symbols = [*right.arguments, *(word for words in right.also.values() for word in words)]
        assert re.match(rf"({'|'.join(map(re.escape, symbols))})\b", message), f"{where}: {message}"


def fitting(right: Right, symbol: str, spoilt: Array) -> str:
    """Return the verdict on arrays of these shapes, by the axes in `SHAPES`."""
    if not right.shapes:
        of_backward = symbol[0] == "d" and "cache" in right.arguments
        return "refused" if of_backward and spoilt.shape != right.arguments[symbol].shape else "either"
    counts = {"H": "n_heads", "H_K": "n_kv_heads"}
    sizes: dict[str, Any] = {axis: right.arguments[name] for axis, name in counts.items() if name in right.arguments}
    for entry in right.shapes.split("; "):
        name, axes = entry.split(": ")
        array = spoilt if name == symbol else right.arguments.get(name)
        if array is not None and not bind(array.shape, axes.split(), sizes):
            return "refused"
    unsure = "V" in sizes or "frequencies" in right.arguments or right.arguments.get("grouped")
    return "either" if unsure else "answered"


def bind(shape: tuple[int, ...], axes: list[str], sizes: dict[str, Any]) -> bool:
    """Whether a shape fits the axes. The first array with an axis determines its size; H·D and H determine D."""
    if axes[0] == "~":
        names = [name for name in axes[2:]]
        whole = (*sizes["..."], *(sum(sizes.get(term, 0) for term in name.split("+")) for name in names))
        lead = len(whole) - len(shape)
        return lead >= 0 and all(n in (1, m) for n, m in zip(shape, whole[lead:], strict=True))
    names = axes[axes[0] == "..." :]
    lead = len(shape) - len(names)
    if lead < 0 or (lead > 0 and axes[0] != "..."):
        return False
    if axes[0] == "..." and sizes.setdefault("...", shape[:lead]) != shape[:lead]:
        return False
    return all(bind_axis(name, size, sizes) for name, size in zip(names, shape[lead:], strict=True))


def bind_axis(name: str, size: int, sizes: dict[str, Any]) -> bool:
    count, _, width = name.rpartition("·")
    if count:
        return size % sizes[count] == 0 and bind_axis(width, size // sizes[count], sizes)
    return bool(sizes.setdefault(name, size) == size)


def outcome(result: Any) -> list[Any]:
    """Return what is compared: the arrays of an output without its cache, or another result."""
    if isinstance(result, tuple) and len(result) == 2 and hasattr(result[1], "_fields"):
        result = result[0]
    if isinstance(result, Mapping):
        result = dict(result)
    if isinstance(result, tuple):
        result = tuple(dict(part) if isinstance(part, Mapping) else part for part in result)
    return list(arrays(result)) or [result]


def assert_equal(got: list[Any], expected: list[Any], where: str) -> None:
    """Equal to rounding in the shortest dtype: another order of numbers in memory is another order of sums."""
    floats = [a for a in expected if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    scale = max((np.abs(a).max(initial=1e-3) for a in floats), default=1)
    eps = max((np.finfo(a.dtype).eps for a in floats), default=0)
    for one, other in zip(got, expected, strict=True):
        if isinstance(other, np.ndarray) and other.dtype.kind == "f":
            assert one.shape == other.shape and one.dtype == other.dtype, where
            assert np.abs(one - other).max(initial=0) <= 1e3 * eps * scale, where
        else:
            assert np.array_equal(one, other) if isinstance(other, np.ndarray) else one == other, where


# ---- NaN and infinity -------------------------------------------------------------------------------------------

each_pair = pytest.mark.parametrize("name", [name for name in RIGHT if RIGHT[name](2).pair])


@each_pair
@given(seed=st.integers(2, 2**32 - 1), place=st.integers(0, 10**6))
@examples(25)
def test_nan_in_nan_out(name: str, seed: int, place: int) -> None:
    """One number of the input is made NaN. Every number of the output that depends on it is NaN; no other changes."""
    right = RIGHT[name](seed)
    symbol, index = drawn(right, place)
    before, after = (run_with(right, symbol, index, value) for value in (None, np.nan))
    other = run_with(right, symbol, index, 0.7)
    for was, got, moved in zip(before, after, other, strict=True):
        assert (np.isnan(got) | same(got, was)).all(), symbol
        assert np.isnan(got[~same(moved, was)]).all(), symbol


@each_pair
@given(seed=st.integers(2, 2**32 - 1), place=st.integers(0, 10**6), sign=st.sampled_from([1, -1]))
@examples(15)
def test_infinity_is_a_limit_or_shows(name: str, seed: int, place: int, sign: int) -> None:
    """With ∞ in an argument, every finite number of the output equals that for a huge number.

    The arguments that scores of attention depend on are left out: a score of −∞ counts as hidden.
    """
    right = RIGHT[name](seed)
    symbol, index = drawn(right, place)
    if "mask" in right.arguments and symbol not in VALUES:
        return
    limit, got = (run_with(right, symbol, index, sign * value) for value in (1e18, np.inf))
    for far, there in zip(limit, got, strict=True):
        finite = np.isfinite(there)
        assert same(there[finite], far[finite]).all(), symbol


def drawn(right: Right, place: int) -> tuple[str, tuple[int, ...]]:
    """Choose one number of a floating argument."""
    symbols = [s for s, a in right.arguments.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size]
    symbol = symbols[place % len(symbols)]
    shape = right.arguments[symbol].shape
    return symbol, tuple(int(i) for i in np.unravel_index(place // 7 % max(right.arguments[symbol].size, 1), shape))


def run_with(right: Right, symbol: str, index: tuple[int, ...], value: float | None) -> list[Array]:
    """Return the arrays of the output when one number of an argument is replaced."""
    array = right.arguments[symbol].copy()
    if value is not None:
        array[index] = value
    with np.errstate(all="ignore"):
        return [np.asarray(a) for a in outcome(right.run(**{symbol: array}))]


def same(one: Array, other: Array) -> Array:
    scale = np.abs(np.where(np.isfinite(other), other, 0)).max(initial=0) if other.dtype.kind == "f" else 1
    near = np.abs(one - other) <= 1e4 * np.finfo(other.dtype).eps * max(scale, 1e-3)
    return near | (one == other)
