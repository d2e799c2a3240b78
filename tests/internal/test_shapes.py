"""Errors name the argument, the expected shape and the given shape. Nothing broadcasts except masks and biases."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

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
from npattn._internal.checks import (
    Array,
    Interval,
    Shapes,
    check_broadcast,
    check_cotangent,
    check_gradient_of,
    check_ids,
    document,
)
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
    """Declare the arrays, check them, and return the sizes."""
    shapes = Shapes(**{name: pattern for name, (_, pattern) in arrays.items()})
    return dict(shapes.check(*(array for array, _ in arrays.values())))


def refused(error: type[Exception], message: str, call: Callable[..., Any], *args: Any, **named: Any) -> None:
    """Assert that the call raises exactly this error with exactly this message."""
    with pytest.raises(error) as caught:
        call(*args, **named)
    assert caught.type is error and str(caught.value) == message


def ids(messages: list[str]) -> list[str]:
    """Return test ids in ASCII: pytest finds no test by an id with other letters, and mutmut runs tests by id."""
    return [message.encode("ascii", "replace").decode() for message in messages]


#: Calls with one wrong shape each, and the complete message.
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


@pytest.mark.parametrize(("forward", "args", "message"), WRONG, ids=ids([message for *_, message in WRONG]))
def test_silent_broadcasting_of_a_wrong_shape(
    forward: Callable[..., Any], args: tuple[Array, ...], message: str
) -> None:
    """Shapes are bound and checked on entry, so a wrong shape never broadcasts silently."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        forward(*args)


def float_arguments() -> list[tuple[str, int]]:
    """Return the name of every pair with the position of every floating argument."""
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
    """A wrong dtype, container or rank of any argument of any pair raises an error that names the argument."""
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
        first = i < min(others)                               # the array that the others are compared with
        culprit, like = (r"\w+", symbol) if first else (symbol, ".*")
        with pytest.raises(TypeError, match=f"^{culprit}: expected float(32|64) like {like}, got float(32|64)$"):
            replaced(array.astype(np.float32))
    of_any_shape = name.rpartition(".")[2] in ("relu", "gelu", "silu", "soft_cap", "dropout")
    if not of_any_shape and symbol not in ("bias", "sinks"):
        with pytest.raises(ValueError, match=rf"^{symbol}: expected \(.+\), got \(\)$"):
            replaced(np.asarray(array.flat[0]))
    if i > 0:  # only the first array may have new batch axes
        with pytest.raises(ValueError, match=rf"^{symbol}: expected .*\(.+\), got \(2, .+\)$"):
            replaced(np.stack([array, array]))


def test_a_check_returns_the_sizes_and_skips_none() -> None:
    sizes = sizes_of(X=(ones(7, 2, 3), "… N D"), b=(None, "D or None"), y=(ones(7, 3), "… D"))
    assert sizes == {"…": (7,), "N": 2, "D": 3} and list(sizes) == ["…", "N", "D"]
    assert sizes_of(W=(ones(2, 3), "N D"), V=(ones(3, 4), "D M")) == {"N": 2, "D": 3, "M": 4}
    assert sizes_of(X=(ones(3, 4), "…"), Y=(ones(3, 4), "…")) == {"…": (3, 4)}
    assert Shapes(X="N D", W="D M").check(ones(2, 3)) == {"N": 2, "D": 3}
    assert Shapes(b="D or None").check(None) == {}


def test_an_unbound_axis_has_no_size_in_the_message() -> None:
    with pytest.raises(ValueError, match=r"^W: expected \(D=3, M\), got \(2, 4\)$"):
        sizes_of(X=(ones(2, 3), "… D"), W=(ones(2, 4), "D M"))


#: Declared axes and the shapes of arrays, of which the last one is wrong, and the message.
MISFITS: list[tuple[list[tuple[str, tuple[int, ...]]], str]] = [
    ([("… N D", (3,))], "X0: expected (…, N, D), got (3,)"),
    ([("… N D", ())], "X0: expected (…, N, D), got ()"),
    ([("N D", (3,))], "X0: expected (N, D), got (3,)"),
    ([("N D", (2, 3, 4))], "X0: expected (N, D), got (2, 3, 4)"),
    ([("D", (2, 3))], "X0: expected (D,), got (2, 3)"),
    ([("… N D", (5, 2, 3, 4)), ("… M D", (5, 3, 4))], "X1: expected (5, 2, M, D=4), got (5, 3, 4)"),
    ([("… N D", (5, 2, 3, 4)), ("… M D", (4,))], "X1: expected (5, 2, M, D=4), got (4,)"),
    ([("… N D", (3, 4)), ("… M D", (2, 3, 4))], "X1: expected (M, D=4), got (2, 3, 4)"),
    ([("…", (2, 3)), ("…", (3, 2))], "X1: expected (2, 3), got (3, 2)"),
    ([("…", (2,)), ("…", (3,))], "X1: expected (2,), got (3,)"),
    ([("…", ()), ("…", (2,))], "X1: expected (), got (2,)"),
    ([("D", (2,)), ("… D", (4, 3))], "X1: expected (…, D=2), got (4, 3)"),
    ([("D M", (2, 4)), ("M D", (4, 2)), ("D", (4,))], "X2: expected (D=2,), got (4,)"),
    ([("N D", (0, 0)), ("D", (1,))], "X1: expected (D=0,), got (1,)"),
]


@pytest.mark.parametrize(("arrays", "message"), MISFITS, ids=ids([message for _, message in MISFITS]))
def test_an_array_that_does_not_fit_is_named(arrays: list[tuple[str, tuple[int, ...]]], message: str) -> None:
    refused(ValueError, message, sizes_of, **{f"X{i}": (ones(*shape), axes) for i, (axes, shape) in enumerate(arrays)})


def test_all_arrays_have_the_dtype_of_the_first_one() -> None:
    shapes, X, single = Shapes(X="… D", W="D M", b="M or None"), ones(2, 3), ones(3, 4).astype(np.float32)
    refused(TypeError, "W: expected float64 like X, got float32", shapes.check, X, single)
    refused(TypeError, "b: expected float64 like X, got float32", shapes.check, X, ones(3, 4), single[0])
    refused(TypeError, "W: expected float32 like X, got float64", shapes.check, single, ones(4, 2))


def test_a_check_does_not_change_later_checks() -> None:
    """The sizes of equal shapes are cached."""
    shapes = Shapes(X="… H·D", mask="… H", n_heads="H, an integer")
    for n_heads in (2, 3):
        sizes = shapes.check(ones(5, 6), n_heads=n_heads, mask=np.ones((5, n_heads), bool))
        assert sizes == {"…": (5,), "H·D": 6, "H": n_heads, "D": 6 // n_heads}
    assert shapes.check(ones(5, 6)) == {"…": (5,), "H·D": 6}


DECLARED = Shapes(
    X="… N D", W="D H·M", b="H·M or None", ids="… < D", rows="N M < V", n_heads="H, an integer", mask="… H N N",
    bias="… H N", p=Interval(0, 1), dY="… N H·M",
)  # fmt: skip

TEXT = (
    "X (…, N, D), W (D, H·M), b (H·M,) or None, mask broadcasts to (…, H, N, N), bias broadcasts to (…, H, N), "
    "dY (…, N, H·M), ids (…,) integers from 0 to D − 1, rows (N, M) integers from 0 to V − 1"
)


def test_a_declaration_as_text() -> None:
    assert str(DECLARED) == TEXT
    assert str(Shapes(n="N, an integer", p=Interval())) == ""


def test_help_shows_the_declaration() -> None:
    def forward() -> None: ...

    def backward() -> None:
        """Return dX."""

    def other() -> None: ...

    forward.__doc__ = "Return Y.\n\n    More text.\n    "       # as in a function of a module
    document(Shapes(X="… D"), other, forward, backward)
    assert inspect.getdoc(forward) == "Return Y.\n\nMore text.\n\n**Shapes**  X (…, D)."
    assert backward.__doc__ == "Return dX.\n\n    **Shapes**  X (…, D).\n    "
    assert other.__doc__ is None


def test_other_values_have_a_function_that_checks_them() -> None:
    seen: list[Any] = []
    shapes = Shapes(X="… D", p=Interval(0, 1, "(]"), note=lambda *given: seen.append(given))
    assert shapes.check(ones(2, 3), p=1, note="hello") == {"…": (2,), "D": 3}
    assert seen == [("note", "hello")]
    refused(ValueError, "p: expected 0 < p ≤ 1, got 0", shapes.check, ones(2, 3), p=0)
    with pytest.raises(KeyError, match="eps"):                # a name without a declaration would not be checked
        shapes.check(ones(2, 3), eps=1)


def test_an_integer_divides_its_multiples() -> None:
    shapes = Shapes(X="… HD", W="HD H·M", b="H·K or None", U="H·K D", n_heads="H, an integer")
    arrays = ones(2, 5), ones(5, 6), None, ones(4, 3)         # HD = 5 is no multiple of H
    wanted = {"…": (2,), "HD": 5, "H·M": 6, "H·K": 4, "D": 3, "H": 2, "M": 3, "K": 2}
    assert shapes.check(*arrays, n_heads=2) == wanted
    assert shapes.check(*arrays, n_heads=np.int8(1))["H"] == 1
    assert shapes.check(*arrays[:2], n_heads=3) == {"…": (2,), "HD": 5, "H·M": 6, "H": 3, "M": 2}
    refused(ValueError, "W: expected H·M divisible by n_heads=4, got 6", shapes.check, *arrays, n_heads=4)
    refused(ValueError, "U: expected H·K divisible by n_heads=3, got 4", shapes.check, *arrays, n_heads=3)
    assert "M" not in shapes.check(*arrays)                   # without the integer nothing is known of it
    refused(ValueError, "n_heads: expected 1 or more, got 0", shapes.check, *arrays, n_heads=0)
    refused(TypeError, "n_heads: expected an integer, got 2.0", shapes.check, *arrays, n_heads=2.0)


def test_the_quotients_of_two_integers_agree() -> None:
    """H·D and G·D with H and G known: both have the same D, and so has an array with the axes G and D."""
    shapes = Shapes(W="M H·D", U="M G·D", past="… G P D or None", H="H, an integer", G="G, an integer")
    W, U, past = ones(2, 12), ones(2, 8), ones(5, 2, 7, 4)
    wanted = {"M": 2, "H": 3, "G": 2, "H·D": 12, "G·D": 8, "D": 4, "P": 7, "…": (5,)}
    assert shapes.check(W, U, past, H=3, G=2) == wanted
    refused(ValueError, "U: expected (M=2, G·D=12), got (2, 8)", shapes.check, W, U, past, H=3, G=3)
    refused(ValueError, "past: expected (…, G=2, P, D=4), got (2, 7, 5)", shapes.check, W, U, ones(2, 7, 5), H=3, G=2)
    refused(ValueError, "past: expected (…, G=2, P, D=4), got (3, 7, 4)", shapes.check, W, U, ones(3, 7, 4), H=3, G=2)
    refused(ValueError, "W: expected H·D divisible by H=5, got 12", shapes.check, W, U, past, H=5, G=2)


def test_a_product_of_known_axes_is_known() -> None:
    shapes = Shapes(a="D", b="H·D", H="H, an integer")
    assert shapes.check(ones(4), ones(12), H=3) == {"H": 3, "D": 4, "H·D": 12}
    refused(ValueError, "b: expected (H·D=12,), got (9,)", shapes.check, ones(4), ones(9), H=3)


@pytest.mark.parametrize("P", [None, 0, 3])
def test_an_axis_of_a_mask_may_be_a_sum(P: int | None) -> None:
    shapes = Shapes(X="… N D", past="… P D or None", mask="… N P+N")
    past = None if P is None else ones(2, P, 5)
    keys = 4 + (P or 0)
    for mask in (ones(2, 4, keys), ones(4, 1), ones(keys)):
        shapes.check(ones(2, 4, 5), past, mask=mask > 0)
    text = f"mask: expected a shape that broadcasts to the scores (…, N, P+N) = (2, 4, {keys}), got (4, 9)"
    refused(ValueError, text, shapes.check, ones(2, 4, 5), past, mask=ones(4, 9) > 0)


def test_ids_beside_arrays_with_batch_axes_have_their_shape() -> None:
    shapes, logits = Shapes(logits="… V", targets="… < V", p=Interval(0, 1)), ones(2, 3, 5)
    assert shapes.check(logits, targets=np.array([[0, 4, 1], [2, 3, 0]])) == {"…": (2, 3), "V": 5}
    shapes.check(logits[0, 0], targets=np.array(4))
    shapes.check(logits[0], targets=np.array([9, 0, 9]), ignore_id=9, p=0)
    check = shapes.check
    refused(ValueError, "targets: expected (2, 3) like logits, got (3,)", check, logits, targets=np.zeros(3, int))
    refused(ValueError, "targets: expected () like logits, got (1,)", check, logits[0, 0], targets=np.zeros(1, int))
    refused(IndexError, "targets: expected ids from 0 to 4, got 5", check, logits[0], targets=np.array([0, 5, 1]))
    refused(IndexError, "targets: expected ids from 0 to 4, got -1", check, logits[0], targets=np.array([0, -1, 9]))
    refused(IndexError, "targets: expected ids from 0 to 4, got 9", check, logits[0], targets=np.array([0, 4, 9]),
            ignore_id=8)  # fmt: skip
    refused(TypeError, "targets: expected an integer array, got float64", check, logits[0], targets=ones(3))
    refused(TypeError, "targets: expected an integer array, got list", check, logits[0], targets=[1, 2, 3])


def test_ids_may_have_axes_of_other_arrays() -> None:
    shapes = Shapes(X="… N V", ids="… N < V")
    shapes.check(ones(2, 3, 4), ids=np.full((2, 3), 3))
    refused(
        ValueError, "ids: expected (2, 3) like X, got (2, 1)", shapes.check, ones(2, 3, 4), ids=np.zeros((2, 1), int)
    )


def test_ids_beside_a_table_have_any_shape() -> None:
    shapes = Shapes(W_E="V D", ids="… < V")
    for shape in ((), (7,), (2, 0, 3)):
        assert shapes.check(ones(5, 2), ids=np.full(shape, 4)) == {"V": 5, "D": 2}
    refused(IndexError, "ids: expected ids from 0 to 4, got 5", shapes.check, ones(5, 2), ids=np.array([[5]]))


ATTENTION = Shapes(Q="… N_Q D", K="… N_X D", n_heads="H, an integer", mask="… H N_Q N_X", bias="… H N_Q N_X")
QK = ones(2, 4, 3), ones(2, 5, 3)


@pytest.mark.parametrize("shape", [(), (5,), (1,), (4, 1), (1, 5), (3, 1, 5), (3, 4, 5), (1, 3, 4, 5), (2, 3, 4, 5)])
def test_masks_and_biases_broadcast(shape: tuple[int, ...]) -> None:
    """Also before the integer in the call, which is the size of one of their axes."""
    sizes = ATTENTION.check(*QK, mask=np.ones(shape, bool), bias=ones(*shape), n_heads=3)
    assert sizes == {"…": (2,), "N_Q": 4, "D": 3, "N_X": 5, "H": 3}
    ATTENTION.check(*QK, mask=None, bias=None)


@pytest.mark.parametrize("shape", [(4,), (0,), (5, 5), (4, 4), (2, 4, 5), (3, 3, 4, 5), (2, 2, 4, 5), (1, 2, 3, 4, 5)])
def test_masks_and_biases_that_do_not_broadcast(shape: tuple[int, ...]) -> None:
    message = f"expected a shape that broadcasts to the scores (…, H, N_Q, N_X) = (2, 3, 4, 5), got {shape}"
    refused(ValueError, f"mask: {message}", ATTENTION.check, *QK, n_heads=3, mask=np.ones(shape, bool), bias=ones(9))
    refused(ValueError, f"bias: {message}", ATTENTION.check, *QK, n_heads=3, bias=ones(*shape))


def test_a_mask_without_batch_axes() -> None:
    shapes = Shapes(X="… N D", mask="N D")
    shapes.check(ones(2, 3, 4), mask=np.ones((1, 4), bool))
    message = "mask: expected a shape that broadcasts to the scores (N, D) = (3, 4), got (2, 3, 4)"
    refused(ValueError, message, shapes.check, ones(2, 3, 4), mask=np.ones((2, 3, 4), bool))


def test_masks_and_biases_of_another_dtype() -> None:
    wanted = "mask: expected a boolean array, True where a query may attend"
    for mask, got in ((np.ones((4, 5), int), "int64"), ([True], "list"), (ones(4, 5), "float64")):
        refused(TypeError, f"{wanted}, got {got}", ATTENTION.check, *QK, n_heads=3, mask=mask)
        refused(TypeError, f"{wanted}, got {got}", check_broadcast, "mask", mask, (4, 5), ("N_Q", "N_X"))
    for bias, message in (
        (np.ones((4, 5), bool), "bias: expected float32 or float64, got bool"),
        ([1.0], "bias: expected a NumPy array, got list"),
        (np.ones((4, 5), np.float32), "bias: expected float64 like Q, got float32"),
    ):
        refused(TypeError, message, ATTENTION.check, *QK, n_heads=3, bias=bias)


def test_a_mask_without_other_arrays() -> None:
    check_broadcast("mask", None, (4, 5), ("N_Q", "N_X"))
    check_broadcast("mask", np.ones((4, 1), bool), (4, 5), ("N_Q", "N_X"))
    check_broadcast("bias", np.ones(5, np.float32), (4, 5), ("N_Q", "N_X"))     # no array gives the dtype
    message = "mask: expected a shape that broadcasts to the scores (N_X,) = (5,), got (4,)"
    refused(ValueError, message, check_broadcast, "mask", np.ones(4, bool), (5,), ["N_X"])


class Cache(NamedTuple):
    """Of the declared names it has X and W, and not b."""

    note: str
    W: Array
    X: Array


class BatchCache(NamedTuple):
    """Like the caches of elementwise layers."""

    Y: Array


def cache_of(*batch: int, dtype: Any = np.float64) -> Cache:
    return Cache("note", np.ones((4, 6), dtype), np.ones((*batch, 3, 4), dtype))


BACKWARD = Shapes(b="M or None", X="… N D", W="D M", dZ="… N M")


@pytest.mark.parametrize("batch", [(), (7,), (2, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_has_the_shape_and_dtype_of_the_output(batch: tuple[int, ...], dtype: Any) -> None:
    cache, wanted = cache_of(*batch, dtype=dtype), (*batch, 3, 6)
    dZ = np.ones(wanted, dtype)
    assert BACKWARD.check_backward(dZ, cache, Cache) is cache
    for wrong in (dZ[None], dZ[..., :5], dZ[..., :1, :], dZ[..., 0]):
        message = f"dZ: expected {wanted} like the output, got {wrong.shape}"
        refused(ValueError, message, BACKWARD.check_backward, wrong, cache, Cache)
    for other, got in ((dZ.astype(np.float16), "float16"), (dZ.tolist(), "list")):
        message = f"dZ: expected an array of {dtype.__name__} like the output, got {got}"
        refused(TypeError, message, BACKWARD.check_backward, other, cache, Cache)


def test_a_gradient_of_batch_axes_or_of_one_axis() -> None:
    rows = Shapes(Y="…", dY="…")
    for shape in ((), (2,), (2, 3)):
        cache = BatchCache(ones(*shape))
        assert rows.check_backward(ones(*shape), cache, BatchCache) is cache
        message = f"dY: expected {shape} like the output, got {(*shape, 1)}"
        refused(ValueError, message, rows.check_backward, ones(*shape, 1), cache, BatchCache)
    for axes, size in (("A", 2), ("B", 3), ("C", 4)):
        column = Shapes(Y="A B C", dy=axes)
        column.check_backward(ones(size), BatchCache(ones(2, 3, 4)), BatchCache)
        message = f"dy: expected ({size},) like the output, got (5,)"
        refused(ValueError, message, column.check_backward, ones(5), BatchCache(ones(2, 3, 4)), BatchCache)


def test_the_first_declared_field_with_an_axis_gives_its_size() -> None:
    """All fields have the same size in a real cache."""
    shapes = Shapes(X="… D", W="D M", dY="… D")
    cache = Cache("note", ones(9, 5), ones(2, 3))
    assert shapes.check_backward(ones(2, 3), cache, Cache) is cache


def test_a_cache_of_another_forward_is_refused() -> None:
    wanted = f"cache: expected what forward returned, a {__name__}.Cache, got"
    others = {"tuple": tuple(cache_of()), "NoneType": None, f"{__name__}.BatchCache": BatchCache(ones(2))}
    for got, other in others.items():
        refused(TypeError, f"{wanted} {got}", BACKWARD.check_backward, ones(3, 6), other, Cache)


def test_an_array_and_its_gradient() -> None:
    check_gradient_of("A", ones(2, 3), "dA", ones(2, 3))
    refused(TypeError, "A: expected a NumPy array, got list", check_gradient_of, "A", [1.0], "dA", ones(1))
    refused(ValueError, "dA: expected (2,) like the output, got (3,)", check_gradient_of, "A", ones(2), "dA", ones(3))


def test_two_equal_axes_of_one_array_must_agree() -> None:
    assert sizes_of(M=(ones(3, 3), "N N")) == {"N": 3}
    with pytest.raises(ValueError, match=r"^M: expected \(N, N\), got \(3, 2\)$"):
        sizes_of(M=(ones(3, 2), "N N"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_allowed_dtypes(dtype: str) -> None:
    assert sizes_of(X=(ones(2).astype(dtype), "N")) == {"N": 2}


@pytest.mark.parametrize("dtype", ["float16", "longdouble", "complex64", "int32", "bool", "object"])
def test_other_dtypes(dtype: str) -> None:
    with pytest.raises(TypeError, match=r"^X: expected float32 or float64, got "):
        sizes_of(X=(ones(2).astype(dtype), "N"))


def test_check_ids_does_not_check_ignored_ids() -> None:
    check_ids("ids", np.array([0, 4, -1]), 5, ignore_id=-1)
    check_ids("ids", np.zeros((0, 3), int), 0)
    with pytest.raises(IndexError, match=r"^ids: expected ids from 0 to 4, got 5$"):
        check_ids("ids", np.array([0, 5, -1]), 5, ignore_id=-1)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_gradient_of_another_shape_dtype_or_type_is_refused(name: str) -> None:
    """Broadcasting it would give wrong numbers silently."""
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


def test_the_message_names_the_type_of_a_gradient_that_is_no_array() -> None:
    with pytest.raises(TypeError, match=r"^dY: expected an array of float64 like the output, got list$"):
        check_cotangent("dY", [1.0], (1,), np.dtype(np.float64))  # type: ignore[arg-type]


def test_array_types_that_compute_differently_are_refused() -> None:
    """The numbers under the mask of a masked array would count: a wrong number without an error."""
    X, W = ones(2, 3), ones(3, 3)
    with warnings.catch_warnings(action="ignore"):            # NumPy warns about matrices
        others = [np.ma.masked_array(W, W > 0), np.asmatrix(W), W.view(np.recarray)]
    for other in others:
        with pytest.raises(TypeError, match=rf"^W: expected a NumPy array, got {type(other).__name__}$"):
            layers.linear(X, other)
        with pytest.raises(TypeError, match=rf"^dA: expected an array of float64 like .*, got {type(other).__name__}$"):
            layers.softmax_backward(other, W)
        with pytest.raises(TypeError, match=rf"^ids: expected an integer array, got {type(other).__name__}$"):
            layers.embedding(other, W)
    assert (layers.linear(X, W.view(np.memmap))[0] == X @ W).all()


def test_only_an_optional_array_may_be_none() -> None:
    assert sizes_of(X=(ones(2, 3), "N D"), b=(None, "D or None")) == {"N": 2, "D": 3}
    assert sizes_of(b=(ones(3), "D or None")) == {"D": 3}
    with pytest.raises(TypeError, match=r"^b: expected a NumPy array, got NoneType$"):
        sizes_of(X=(ones(2, 3), "N D"), b=(None, "D"))
    with pytest.raises(ValueError, match=r"^b: expected \(D=3,\), got \(2,\)$"):
        sizes_of(X=(ones(2, 3), "N D"), b=(ones(2), "D or None"))


def test_ids_to_ignore_are_integers() -> None:
    with pytest.raises(TypeError, match=r"^ignore_id: expected an integer, got 1\.0$"):
        check_ids("ids", np.array([0]), 5, ignore_id=1.0)  # type: ignore[arg-type]
