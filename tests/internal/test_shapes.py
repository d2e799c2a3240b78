"""Errors name things: symbol, shape received, shape expected; nothing is broadcast that was not meant to be."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npattn import (
    causal_mask,
    layers,
    padding_mask,
    scaled_dot_product_attention,
    sinusoidal_positions,
    tiled_attention,
)
from npattn._internal.checks import Array, Shapes, check_cotangent, check_ids
from npattn.attention import (
    v1_feed_forward,
    v2_dot_product,
    v4_multiple_queries,
    v5_cross_attention,
    v6_self_attention,
    v7_multi_head,
)
from support.calls import Setting
from support.pairs import PAIRS, Pair


def ones(*shape: int) -> Array:
    return np.ones(shape)


def sizes_of(**arrays: tuple[Array | None, str]) -> dict[str, int]:
    """Declare arrays, and check them at once."""
    shapes = Shapes(**{name: pattern for name, (_, pattern) in arrays.items()})
    return shapes.check(*(array for array, _ in arrays.values()))


#: Calls with one wrong shape each, and the whole message.
WRONG: list[tuple[Callable[..., Any], tuple[Array, ...], str]] = [
    (v1_feed_forward.forward, (ones(4), ones(5, 3), ones(3, 2), ones(3, 2), ones(2)),
     "W_Q: expected (D_Q=4, D_E), got (3, 2)"),
    (v1_feed_forward.forward, (ones(4), ones(5, 3), ones(4, 2), ones(3, 2), ones(2, 1)),
     "w: expected (D_E=2,), got (2, 1)"),
    (v2_dot_product.forward, (ones(4), ones(5, 3)), "X: expected (N_X, D_Q=4), got (5, 3)"),
    (v2_dot_product.forward, (ones(2, 4), ones(5, 4)), "X: expected (2, N_X, D_Q=4), got (5, 4)"),
    (v2_dot_product.forward, (ones(1, 4), ones(2, 5, 4)), "X: expected (1, N_X, D_Q=4), got (2, 5, 4)"),
    (v4_multiple_queries.forward, (ones(4), ones(5, 4)), "Q: expected (…, N_Q, D_Q), got (4,)"),
    (v4_multiple_queries.forward, (ones(2, 3, 4), ones(1, 5, 4)), "X: expected (2, N_X, D_Q=4), got (1, 5, 4)"),
    (v5_cross_attention.forward, (ones(7, 32), ones(9, 64), ones(32, 64), ones(64, 8)),
     "W_K: expected (D_X=64, D_Q=32), got (32, 64)"),
    (v5_cross_attention.forward, (ones(7, 32), ones(9, 64), ones(64, 32), ones(8, 64)),
     "W_V: expected (D_X=64, D_V), got (8, 64)"),
    (v6_self_attention.forward, (ones(9, 6), ones(6, 4), ones(6, 5), ones(6, 3)),
     "W_K: expected (D_X=6, D_Q=4), got (6, 5)"),
    (lambda *args: v7_multi_head.forward(*args, n_heads=2),
     (ones(3, 6), ones(4, 5), ones(6, 8), ones(5, 8), ones(5, 10), ones(8, 7)),
     "W_O: expected (H·D_V=10, D_Z), got (8, 7)"),
    (lambda *args: v7_multi_head.forward(*args, n_heads=2),
     (ones(3, 6), ones(4, 5), ones(6, 8), ones(5, 8), ones(5, 10), ones(10, 7), ones(10)),
     "b_Q: expected (H·D_Q=8,), got (10,)"),
    (scaled_dot_product_attention, (ones(2, 4), ones(3, 4), ones(5, 6)), "V: expected (N_X=3, D_V), got (5, 6)"),
    (scaled_dot_product_attention, (ones(1, 2, 4), ones(2, 3, 4), ones(2, 3, 6)),
     "K: expected (1, N_X, D_Q=4), got (2, 3, 4)"),
    (layers.linear, (ones(2, 64), ones(32, 64)), "W: expected (D_in=64, D_out), got (32, 64)"),
    (layers.linear, (ones(2, 3), ones(3, 4), ones(1)), "b: expected (D_out=4,), got (1,)"),
    (layers.linear, (ones(), ones(3, 4)), "X: expected (…, D_in), got ()"),
    (layers.layer_norm, (ones(2, 3), ones(1)), "gamma: expected (D=3,), got (1,)"),
    (layers.layer_norm, (ones(2, 3), ones(3), ones(2, 3)), "beta: expected (D=3,), got (2, 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("forward", "args", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_silent_broadcasting_of_a_wrong_shape(
    forward: Callable[..., Any], args: tuple[Array, ...], message: str
) -> None:
    """Silent broadcasting of a wrong shape: shapes are bound and checked on entry."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        forward(*args)


def float_arguments() -> list[tuple[str, int]]:
    """Every array argument of every pair, by position."""
    calls = {name: pair.call(Setting(mask="none", optional=15)) for name, pair in PAIRS.items()}
    return [
        (name, i)
        for name, call in calls.items()
        for i, argument in enumerate(call.args)
        if isinstance(argument, np.ndarray) and argument.dtype.kind == "f"
    ]


def symbol_of(pair: Pair, i: int) -> str:
    return list(inspect.signature(pair.forward).parameters)[i]


@pytest.mark.parametrize(("name", "i"), float_arguments())
def test_every_argument_is_checked(name: str, i: int) -> None:
    """A wrong dtype, container or rank of any argument of any pair is an error that names it."""
    pair = PAIRS[name]
    call = pair.call(Setting(mask="none", optional=15))
    symbol = symbol_of(pair, i)

    def replaced(value: Any) -> None:
        call.with_args(*call.args[:i], value, *call.args[i + 1 :]).run()

    array = call.args[i]
    for dtype in ("int64", "float16", "bool", "object"):
        with pytest.raises(TypeError, match=f"^{symbol}: expected float32 or float64, got {dtype}$"):
            replaced(array.astype(dtype))
    with pytest.raises(TypeError, match=f"^{symbol}: expected a NumPy array, got list$"):
        replaced(array.tolist())
    others = [j for n, j in float_arguments() if n == name and j != i]
    if others:
        culprit = symbol_of(pair, i if i > min(others) else min(others))
        with pytest.raises(TypeError, match=f"^{culprit}: expected float(32|64) like .*, got float(32|64)$"):
            replaced(array.astype(np.float32))
    if name.rpartition(".")[2] not in ("relu", "gelu", "dropout") and symbol != "bias":
        with pytest.raises(ValueError, match=rf"^{symbol}: expected \(.+\), got \(\)$"):
            replaced(np.asarray(array.flat[0]))
    if i > 0:  # only the first array may bring batch axes that the others did not have
        with pytest.raises(ValueError, match=rf"^{symbol}: expected .*\(.+\), got \(2, .+\)$"):
            replaced(np.stack([array, array]))


def test_a_check_returns_the_sizes_and_passes_over_none() -> None:
    sizes = sizes_of(X=(ones(7, 2, 3), "… N D"), b=(None, "D or None"), y=(ones(7, 3), "… D"))
    assert sizes == {"N": 2, "D": 3}


def test_an_axis_that_a_later_array_binds_is_named_without_a_size() -> None:
    with pytest.raises(ValueError, match=r"^W: expected \(D=3, M\), got \(2, 4\)$"):
        sizes_of(X=(ones(2, 3), "… D"), W=(ones(2, 4), "D M"))


def test_two_equal_axes_of_one_array_must_agree() -> None:
    assert sizes_of(M=(ones(3, 3), "N N")) == {"N": 3}
    with pytest.raises(ValueError, match=r"^M: expected \(N, N\), got \(3, 2\)$"):
        sizes_of(M=(ones(3, 2), "N N"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_dtypes_that_are_admitted(dtype: str) -> None:
    assert sizes_of(X=(ones(2).astype(dtype), "N")) == {"N": 2}


@pytest.mark.parametrize("dtype", ["float16", "longdouble", "complex64", "int32", "bool", "object"])
def test_dtypes_that_are_not(dtype: str) -> None:
    with pytest.raises(TypeError, match=r"^X: expected float32 or float64, got "):
        sizes_of(X=(ones(2).astype(dtype), "N"))


def test_check_ids_leaves_out_what_is_ignored() -> None:
    check_ids("ids", np.array([0, 4, -1]), 5, ignore_id=-1)
    check_ids("ids", np.zeros((0, 3), int), 0)
    with pytest.raises(IndexError, match=r"^ids: expected ids from 0 to 4, got 5$"):
        check_ids("ids", np.array([0, 5, -1]), 5, ignore_id=-1)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_cotangent_of_another_shape_dtype_or_kind_is_refused(name: str) -> None:
    """Broadcasting one would give wrong numbers silently."""
    pair = PAIRS[name]
    Y, cache = pair.call(Setting()).run()
    backward = pair.backward
    wrong: list[Any] = [np.ones((2, *np.shape(Y))), np.ones((3, *np.shape(Y)[1:])) if np.ndim(Y) else np.ones(3)]
    for dY in wrong:
        with pytest.raises((TypeError, ValueError), match=r"^d\w+: expected .* got "):
            backward(dY, cache)
    if np.ndim(Y):
        for dY in (np.ones_like(Y, dtype=np.float16), np.ones_like(Y, dtype=int), np.ones_like(Y).tolist()):
            with pytest.raises(TypeError, match=r"^d\w+: expected .* got "):
                backward(dY, cache)


@pytest.mark.parametrize(
    ("symbol", "call"),
    [
        ("N_Q", lambda size: causal_mask(size)),
        ("N_X", lambda size: causal_mask(2, size)),
        ("N_X", lambda size: padding_mask(np.array([1, 2]), size)),
        ("N", lambda size: sinusoidal_positions(size, 4)),
        ("D", lambda size: sinusoidal_positions(2, size)),
        ("tile", lambda size: tiled_attention(*(np.ones((2, 2)) for _ in range(3)), tile=size)),
    ],
)
@pytest.mark.parametrize("size", [2.5, "2", True, [2]])
def test_a_size_that_is_no_integer_is_refused(symbol: str, call: Callable[[Any], Any], size: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{symbol}: expected an integer, got {re.escape(repr(size))}$"):
        call(size)


def test_a_cotangent_that_is_no_array_is_called_what_it_is() -> None:
    with pytest.raises(TypeError, match=r"^dY: expected an array of float64 like the output, got list$"):
        check_cotangent("dY", [1.0], (1,), np.dtype(np.float64))  # type: ignore[arg-type]


def test_arrays_that_compute_in_another_way_are_refused() -> None:
    """A masked array would be taken with what is under its mask: a silent wrong number."""
    X, W = ones(2, 3), ones(3, 3)
    with warnings.catch_warnings(action="ignore"):            # NumPy advises against matrices
        others = [np.ma.masked_array(W, W > 0), np.asmatrix(W), W.view(np.recarray)]
    for other in others:
        with pytest.raises(TypeError, match=rf"^W: expected a NumPy array, got {type(other).__name__}$"):
            layers.linear(X, other)
        with pytest.raises(TypeError, match=rf"^dA: expected an array of float64 like .*, got {type(other).__name__}$"):
            layers.softmax_backward(other, W)
        with pytest.raises(TypeError, match=rf"^ids: expected an integer array, got {type(other).__name__}$"):
            layers.embedding(other, W)
    assert (layers.linear(X, W.view(np.memmap))[0] == X @ W).all()


def test_an_optional_array_may_be_none_and_no_other() -> None:
    assert sizes_of(X=(ones(2, 3), "N D"), b=(None, "D or None")) == {"N": 2, "D": 3}
    assert sizes_of(b=(ones(3), "D or None")) == {"D": 3}
    with pytest.raises(TypeError, match=r"^b: expected a NumPy array, got NoneType$"):
        sizes_of(X=(ones(2, 3), "N D"), b=(None, "D"))
    with pytest.raises(ValueError, match=r"^b: expected \(D=3,\), got \(2,\)$"):
        sizes_of(X=(ones(2, 3), "N D"), b=(ones(2), "D or None"))


def test_ids_to_ignore_are_integers() -> None:
    with pytest.raises(TypeError, match=r"^ignore_id: expected an integer, got 1\.0$"):
        check_ids("ids", np.array([0]), 5, ignore_id=1.0)  # type: ignore[arg-type]
