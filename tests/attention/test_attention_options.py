"""The options of the common core: offset, window, sinks, softcap, grouped and dropout, each alone and together.

test_dot_product.py has the definition with all of them, number by number; contracts/ the gradients of any combination.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from npattn import scaled_dot_product_attention, scaled_dot_product_attention_backward, tiled_attention
from npattn._internal.checks import Array
from npattn.attention import v12_normalised as v12
from npattn.attention.dot_product import by_key, by_query, in_window
from npattn.attention.v7_multi_head import split_heads
from support.calls import Setting, assert_same, cotangent, examples, settings
from support.golden_numbers import AGREEMENT, errors, read
from support.pairs import PAIRS

GOLDEN = read("core_options")


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_numbers(case: str) -> None:
    """PyTorch's autograd of the formula, written with exp and sum; a cap is reached, and sinks have different sizes."""
    golden = GOLDEN[case]
    Y, cache = scaled_dot_product_attention(**golden["argument"], **golden["option"])
    found = scaled_dot_product_attention_backward(golden["cotangent"]["value"], cache)
    gradients = [gradient for gradient in found if gradient is not None]
    got = {"output": Y} | dict(zip(golden["argument"], gradients, strict=True))
    want = {"output": golden["output"]["value"]} | golden["gradient"]
    assert {name: error for name, error in errors(got, want).items() if not error <= AGREEMENT} == {}
    assert got.keys() == want.keys()


@given(setting=settings(dtype="float64"))
@examples(15)
def test_the_core_of_version_12(setting: Setting) -> None:
    """Versions 8 to 12 are projections, norms and rotation around it: the same weights, outputs and gradients."""
    c = PAIRS["npattn.attention.v12_normalised.forward"].call(setting)
    names = ("window", "softcap", "scale", "mask")
    Z, cache = c.run()
    H, N = c.kwargs["n_heads"], Z.shape[-2]
    P = cache.K.shape[-2] - N
    offset = P if c.kwargs["offset"] is None else c.kwargs["offset"]
    options = {name: c.kwargs[name] for name in names} | {"causal": True, "grouped": True, "offset": offset}
    Y, core = scaled_dot_product_attention(cache.Q, cache.K, cache.V, sinks=c.args[7], **options)
    assert_same([core.A, Y], [cache.A, split_heads(cache.Y, H)])
    dZ = cotangent(Z)
    _, dK, dV, dbias, *dsinks = scaled_dot_product_attention_backward(split_heads(dZ @ c.args[4].T, H), core)
    *_, dK_past, dV_past, dsinks_12 = v12.backward(dZ, cache)[:8]
    assert dbias is None
    if dK_past is not None and dV_past is not None:
        assert_same([dK[..., :P, :], dV[..., :P, :]], [dK_past, dV_past])
    assert_same(dsinks, [] if dsinks_12 is None else [dsinks_12])


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def test_dsinks_is_there_with_sinks_alone() -> None:
    """Four gradients as before, and a fifth with sinks, of their shape."""
    Q, K, V = drawn((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2))
    for shape in (None, (), (1,), (3,), (2, 1), (2, 3)):
        sinks = None if shape is None else np.ones(shape)
        Y, cache = scaled_dot_product_attention(Q, K, V, sinks=sinks)
        gradients = scaled_dot_product_attention_backward(cotangent(Y), cache)
        assert [None if g is None else g.shape for g in gradients[3:]] == [None, *([] if shape is None else [shape])]


def test_sinks_that_broadcast_are_used_by_every_head() -> None:
    """One number for all heads has the sum of their gradients."""
    Q, K, V = drawn((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2))
    found = []
    for sinks in (np.array(0.7), np.full(3, 0.7), np.full((2, 3), 0.7)):
        Y, cache = scaled_dot_product_attention(Q, K, V, sinks=sinks)
        found.append([Y, scaled_dot_product_attention_backward(cotangent(Y), cache)[4]])
    whole = found[-1][1]
    assert found[0][0].tobytes() == found[1][0].tobytes() == found[2][0].tobytes()
    assert_same([found[0][1], found[1][1]], [whole.sum(), whole.sum(0)])


@pytest.mark.parametrize("W", [None, 1, 2, 3, 9, 2**62])
@pytest.mark.parametrize("offset", [0, 1, 3, 9, -1, -3, -9, 2**62, -(2**63)])
@pytest.mark.parametrize(("N_Q", "N_X"), [(4, 6), (6, 4)])
def test_which_keys_a_query_sees(W: int | None, offset: int, N_Q: int, N_X: int) -> None:
    """Keys i + offset − W + 1 … i + offset, for any integers, and of NumPy too."""
    seen = in_window(None, (N_Q, N_X), offset, W)
    limit = W or 2**70
    assert seen.tolist() == [[i + offset - limit < n <= i + offset for n in range(N_X)] for i in range(N_Q)]
    numpy_integers: Any = np.int64(offset), W and np.int64(W)
    assert (seen == in_window(None, (N_Q, N_X), *numpy_integers)).all()
    Q, K, V = drawn((N_Q, 5), (N_X, 5), (N_X, 2))
    options: dict[str, Any] = {"causal": True, "offset": offset, "window": W}
    found = scaled_dot_product_attention(Q, K, V, **options)
    assert ((found[1].A > 0) == seen).all()
    assert_same([tiled_attention(Q, K, V, **options)[0]], [found[0]])


def test_a_window_needs_no_causal() -> None:
    """The W keys up to the query's own: nothing after it, whether causal is given or not."""
    Q, K, V = drawn((4, 5), (6, 5), (6, 2))
    one, other = (scaled_dot_product_attention(Q, K, V, window=2, causal=causal)[1].A for causal in (False, True))
    assert one.tobytes() == other.tobytes() and [np.flatnonzero(row).tolist() for row in one][:2] == [[0], [0, 1]]


def test_an_offset_of_none_is_the_bottom_right() -> None:
    """For versions 11 and 12; the core takes integers alone."""
    assert (in_window(None, (2, 5), None, 2) == in_window(None, (2, 5), 3, 2)).all()
    with pytest.raises(TypeError, match=r"^offset: expected an integer, got None$"):
        scaled_dot_product_attention(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), offset=None)  # type: ignore[arg-type]  # the mistake that is tested


def test_grouped_heads_are_views() -> None:
    """Rows of neighbouring heads one below the other: K and V are never copied, nor Q."""
    Q, K, _ = drawn((2, 6, 4, 5), (2, 3, 7, 5), (1,))
    rows = by_key(Q, K)
    assert rows.shape == (2, 3, 8, 5) and np.shares_memory(rows, Q)
    assert (rows[:, 1, 4:] == Q[:, 3]).all()
    assert np.shares_memory(by_query(rows, Q), Q) and (by_query(rows, Q) == Q).all()
    assert by_key(K, K) is K and by_query(Q, Q) is Q


def test_grouped_is_repeated_keys_and_values() -> None:
    """Head h reads ⌊h H_K/H⌋, and the gradients of a group add."""
    Q, K, V = drawn((2, 6, 4, 5), (2, 3, 7, 5), (2, 3, 7, 3))
    Y, cache = scaled_dot_product_attention(Q, K, V, grouped=True)
    Z, repeated = scaled_dot_product_attention(Q, np.repeat(K, 2, 1), np.repeat(V, 2, 1))
    dQ, dK, dV, _ = scaled_dot_product_attention_backward(cotangent(Y), cache)
    dQ_2, dK_2, dV_2, _ = scaled_dot_product_attention_backward(cotangent(Y), repeated)
    summed = (d.reshape(2, 3, 2, 7, -1).sum(2) for d in (dK_2, dV_2))
    assert_same([Y, dQ, dK, dV], [Z, dQ_2, *summed])


# ---- dropout ----------------------------------------------------------------------------------------------------


def test_dropout_zeroes_weights_and_scales_the_others() -> None:
    """V = 1 shows A ⊙ M: each weight 0 or twice itself, a mask for each head, the same in backward."""
    Q, K = drawn((2, 3, 40, 5), (2, 3, 40, 5))
    V = np.broadcast_to(np.eye(40), (2, 3, 40, 40)).copy()
    Y, cache = scaled_dot_product_attention(Q, K, V, dropout=0.5, rng=np.random.default_rng(0))
    plain, _ = scaled_dot_product_attention(Q, K, V)
    kept = Y > 0
    assert 0.45 < kept.mean() < 0.55 and (Y[kept] == 2 * plain[kept]).all()
    assert np.abs(kept[0, 0].astype(float) - kept[0, 1]).max() == 1
    assert cache.A.tobytes() == plain.tobytes()
    dV = scaled_dot_product_attention_backward(np.broadcast_to(np.eye(40), Y.shape).copy(), cache)[2]
    assert_same([dV.mT], [Y])                                 # dV = (A ⊙ M)ᵀ dY


@pytest.mark.parametrize(("dropout", "seed"), [(0.0, 5), (0.4, None)])
def test_a_rate_of_zero_and_no_rng_drop_nothing(dropout: float, seed: int | None) -> None:
    Q, K, V = drawn((4, 5), (6, 5), (6, 2))
    rng = None if seed is None else np.random.default_rng(seed)
    results, drawing = [], dict[str, Any](dropout=dropout, rng=rng)
    for more in (drawing, {}):
        Y, cache = scaled_dot_product_attention(Q, K, V, sinks=np.array(0.3), **more)
        assert rng is not None or cache.D is cache.A          # no copy is made
        results.append([Y, *scaled_dot_product_attention_backward(cotangent(Y), cache)])
    for one, other in zip(*results, strict=True):
        assert one is other is None or one.tobytes() == other.tobytes()
    assert rng is None or rng.random() == np.random.default_rng(seed).random()   # nothing was drawn


def test_the_mean_over_masks_is_the_output_without_dropout() -> None:
    Q, K, V = drawn((4, 5), (6, 5), (6, 2))
    rng, n = np.random.default_rng(0), 4000
    outputs = np.array([scaled_dot_product_attention(Q, K, V, dropout=0.3, rng=rng)[0] for _ in range(n)])
    plain, _ = scaled_dot_product_attention(Q, K, V)
    assert (np.abs(outputs.mean(0) - plain) < 4.5 * outputs.std(0) / np.sqrt(n)).all()
    assert outputs.std(0).min() > 0.05


def test_dropout_keeps_the_dtype_and_its_own_mask() -> None:
    Q, K, V = (array.astype(np.float32) for array in drawn((4, 5), (6, 5), (6, 2)))
    options: dict[str, Any] = {"dropout": 0.5, "sinks": np.array(0.1, np.float32), "softcap": 0.5}
    caches = [scaled_dot_product_attention(Q, K, V, rng=np.random.default_rng(i), **options)[1] for i in range(2)]
    dY = cotangent(Q[:, :2])
    first = scaled_dot_product_attention_backward(dY, caches[0])
    scaled_dot_product_attention_backward(dY, caches[1])
    again = scaled_dot_product_attention_backward(dY, caches[0])
    assert [g.dtype for g in first if g is not None] == [np.float32] * 4
    assert all(one is other is None or (one == other).all() for one, other in zip(first, again, strict=True))


# ---- what is refused --------------------------------------------------------------------------------------------

Q, K, V = np.ones((2, 4, 3, 5)), np.ones((2, 2, 6, 5)), np.ones((2, 2, 6, 7))
FULL = np.ones((2, 4, 6, 5)), np.ones((2, 4, 6, 7))
WRONG: list[tuple[tuple[Array, ...], dict[str, Any], str]] = [
    ((Q, K, V), {}, "K: expected (2, 4, N_X, D_Q=5), got (2, 2, 6, 5)"),
    ((Q, K[:, :, :, :4], V), {"grouped": True}, "K: expected (2, H_K, N_X, D_Q=5), got (2, 2, 6, 4)"),
    ((Q, K, V[:, :1]), {"grouped": True}, "V: expected (2, H_K=2, N_X=6, D_V), got (2, 1, 6, 7)"),
    ((Q[0, 0], K[0, 0], V[0, 0]), {"grouped": True}, "Q: expected (…, H, N_Q, D_Q), got (3, 5)"),
    ((Q[:, :3], K, V), {"grouped": True}, "K: expected H_K to divide H=3, got H_K=2"),
    ((Q, K[:, :0], V[:, :0]), {"grouped": True}, "K: expected H_K to divide H=4, got H_K=0"),
    ((Q, K, V), {"grouped": 1}, "grouped: expected True or False, got 1"),
    ((Q, *FULL), {"window": 0}, "window: expected 1 or more, got 0"),
    ((Q, *FULL), {"window": True}, "window: expected an integer, got True"),
    ((Q, *FULL), {"offset": 1.0}, "offset: expected an integer, got 1.0"),
    ((Q, *FULL), {"softcap": 0}, "softcap: expected 1.17549e-38 ≤ softcap < 8.50706e+37, got 0"),
    ((Q, *FULL), {"softcap": 1e39}, "softcap: expected 1.17549e-38 ≤ softcap < 8.50706e+37, got 1e+39"),
    ((Q, *FULL), {"dropout": 1}, "dropout: expected 0 ≤ dropout < 1, got 1"),
    ((Q, *FULL), {"dropout": -0.1}, "dropout: expected 0 ≤ dropout < 1, got -0.1"),
    ((Q, *FULL), {"rng": 3}, "rng: expected a numpy.random.Generator or None, got int"),
    ((Q, *FULL), {"sinks": np.ones(3)},
     "sinks: expected a shape that broadcasts to the batch axes (…,) = (2, 4), got (3,)"),
    ((Q, K, V), {"sinks": np.ones(2), "grouped": True},
     "sinks: expected a shape that broadcasts to the batch axes (…, H) = (2, 4), got (2,)"),
    ((Q, *FULL), {"sinks": np.ones(4, np.float32)}, "sinks: expected float64 like Q, got float32"),
    ((Q, *FULL), {"sinks": [1.0] * 4}, "sinks: expected a NumPy array, got list"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "options", "message"), WRONG, ids=[f"{i}" for i in range(len(WRONG))])
def test_wrong_options(args: tuple[Array, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        scaled_dot_product_attention(*args, **options)
    assert str(caught.value) == message


def test_a_cotangent_of_grouped_heads_has_the_shape_of_the_queries() -> None:
    _, cache = scaled_dot_product_attention(Q, K, V, grouped=True)
    with pytest.raises(ValueError, match=r"^dY: expected \(2, 4, 3, 7\) like the output, got \(2, 2, 6, 7\)$"):
        scaled_dot_product_attention_backward(V, cache)
