"""Versions 8 to 10 as a ladder: each equals the one it grows from where what changed is undone.

Forwards and backwards, with masks, with a past and in pieces: gradients follow by the chain rule written out here.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import causal_mask
from npattn._internal.checks import Array
from npattn.attention import MODERN_VERSIONS, v7_multi_head, v8_causal, v9_rotary, v10_grouped_query
from npattn.attention.v10_grouped_query import grouped, headed
from npattn.layers import RotaryFrequencies, rotary_frequencies
from support.calls import Call, Setting, assert_same, cotangent, examples, settings
from support.pairs import PAIRS

without_past = given(setting=settings(dtype="float64", optional=st.sampled_from([0, 4, 8])))
each_setting = given(setting=settings(dtype="float64"))
each_version = pytest.mark.parametrize("version", [v8_causal, v9_rotary, v10_grouped_query], ids=["v8", "v9", "v10"])


def call(version: Any, setting: Setting) -> Call:
    return PAIRS[f"{version.__name__}.forward"].call(setting)


def given_gradients(version: Any, *given: Any) -> list[Array]:
    """Return the gradients that are not None."""
    return [gradient for gradient in version.backward(*given) if gradient is not None]


def test_the_modern_versions_are_listed_in_their_order() -> None:
    assert [v.module for v in MODERN_VERSIONS[:3]] == [v8_causal, v9_rotary, v10_grouped_query]


@without_past
@examples(8)
def test_v8_without_past_is_v7_with_the_sequence_mask(setting: Setting) -> None:
    """v8 without past = v7 with the sequence mask, and X passed twice."""
    c = call(v8_causal, setting)
    X, W_Q, W_K, W_V, W_O, *_ = c.args
    H, mask, offset, scale = (c.kwargs[name] for name in ("n_heads", "mask", "offset", "scale"))
    order = causal_mask(X.shape[-2], offset=offset or 0)
    root = 1 if scale is None else scale * np.sqrt(W_Q.shape[1] // H)               # v7 divides by √D_Q
    Z, cache = c.run()
    expected, cache_7 = v7_multi_head.forward(
        X, X, W_Q * root, W_K, W_V, W_O, n_heads=H, mask=order if mask is None else order & mask
    )
    dZ = cotangent(Z)
    dX_Q, dX, dW_Q, *dW, _, _, _, _ = v7_multi_head.backward(dZ, cache_7)
    assert dX_Q is not None and dX is not None and dW_Q is not None
    assert_same([Z, cache.A, cache.K, cache.V], [expected, cache_7.A, cache_7.K, cache_7.V])
    *gradients, dK_past, dV_past = v8_causal.backward(dZ, cache)
    assert_same(gradients, [dX_Q + dX, dW_Q * root, *dW])
    assert dK_past is None and dV_past is None


def in_pieces(version: Any, c: Call, cuts: list[int], dZ: Array, dK: Array, dV: Array) -> tuple[Array, Any, list[Any]]:
    """Run the rows of X in pieces that end at the cuts. Return Z, the last cache and the gradients of all arguments."""
    X, *weights, K_past, V_past = c.args
    N, P = X.shape[-2], 0 if K_past is None else K_past.shape[-2]
    mask, positions = c.kwargs["mask"], c.kwargs.get("positions")
    mask = None if mask is None else np.broadcast_to(mask, (*X.shape[:-2], c.kwargs["n_heads"], N, P + N))
    positions = None if positions is None else np.broadcast_to(positions, X.shape[:-1])
    outputs, caches, pieces = [], [], list(zip([0, *cuts], [*cuts, N], strict=True))
    K, V = K_past, V_past
    for start, end in pieces:
        options = dict(c.kwargs)
        if mask is not None:
            options["mask"] = mask[..., start:end, : P + end]
        if positions is not None:
            options["positions"] = positions[..., start:end]
        Z, cache = version.forward(X[..., start:end, :], *weights, K, V, **options)
        K, V = cache.K, cache.V
        outputs.append(Z)
        caches.append(cache)
    totals, dX = [np.zeros_like(W) for W in weights], []
    for (start, end), cache in reversed(list(zip(pieces, caches, strict=True))):
        dX_piece, *dW, dK, dV = version.backward(dZ[..., start:end, :], cache, dK, dV)
        totals = [total + d for total, d in zip(totals, dW, strict=True)]
        dX.insert(0, dX_piece)
    gradients = [np.concatenate(dX, -2), *totals, *(d for d in (dK, dV) if d is not None)]
    return np.concatenate(outputs, -2), caches[-1], gradients


@each_version
@given(setting=settings(dtype="float64"), data=st.data())
@examples(8)
def test_pieces_are_the_whole(version: Any, setting: Setting, data: st.DataObject) -> None:
    """In pieces with its cache = at once; gradients through the past, and of K and V themselves, included."""
    c = call(version, setting)
    c.kwargs["offset"] = None
    N = c.args[0].shape[-2]
    cuts = sorted(data.draw(st.sets(st.integers(1, N - 1), max_size=2))) if N > 1 else []
    Z, cache = c.run()
    dZ, dK, dV = (cotangent(Y, i) for i, Y in enumerate((Z, cache.K, cache.V)))
    Z_pieces, last, gradients = in_pieces(version, c, cuts, dZ, dK, dV)
    assert_same([Z_pieces, last.K, last.V], [Z, cache.K, cache.V])
    assert_same(gradients, given_gradients(version, dZ, cache, dK, dV))


@each_version
def test_without_the_gradients_of_the_past_the_pieces_are_wrong(version: Any) -> None:
    """This test can fail: the gradients of the first piece miss what the second reads."""
    c = call(version, Setting(3, n_batch=0))
    c.kwargs["offset"] = None
    Z, cache = c.run()
    dZ = cotangent(Z)
    _, _, gradients = in_pieces(version, c, [1], dZ, np.zeros_like(cache.K), np.zeros_like(cache.V))
    assert_same(gradients, given_gradients(version, dZ, cache))
    X, *weights, _, _ = c.args
    one = {**c.kwargs, "mask": None}
    if one.get("positions") is not None:
        one["positions"] = one["positions"][:1]
    _, first = version.forward(X[:1], *weights, **one)
    forgetful = version.backward(dZ[:1], first)
    assert np.abs(forgetful[0][0] - gradients[0][0]).max() > 1e-3


@each_version
@each_setting
@examples(4)
def test_no_query_sees_what_follows_it(version: Any, setting: Setting) -> None:
    """The last row changes nothing before it, and gets no gradient from there."""
    c = call(version, setting)
    c.kwargs.update({"offset": None})
    X, *rest = c.args
    Z, cache = c.run()
    changed = X.copy()
    changed[..., -1, :] += 3
    assert_same([c.with_args(changed, *rest).run()[0][..., :-1, :]], [Z[..., :-1, :]])
    dZ = cotangent(Z)
    dZ[..., -1, :] = 0
    assert not version.backward(dZ, cache)[0][..., -1, :].any()


@pytest.mark.parametrize(
    "name", [*(f"{version.module.__name__}.forward" for version in MODERN_VERSIONS), *(
        f"npattn.attention.{each}_attention" for each in ("dot_product.scaled_dot_product", "tiled.attention.tiled"))]
)  # fmt: skip
def test_a_scale_of_0_makes_all_scores_0(name: str) -> None:
    """0 is not None. 1e-200 gives the same numbers; in version 14 they are 0, since q is."""
    c = PAIRS[name].call(Setting(optional=0))
    Z, tiny = (Call(c.forward, c.args, c.kwargs | {"scale": scale}).run()[0] for scale in (0.0, 1e-200))
    assert_same([Z], [tiny])
    assert np.any(Z) == ("v14" not in name)
    assert not np.allclose(Z, Call(c.forward, c.args, c.kwargs | {"scale": None}).run()[0])


def test_offset_moves_the_diagonal() -> None:
    """None is P, aligned at the bottom right; 0 is torch's is_causal, aligned at the top left."""
    X, W, past = np.ones((2, 1)), np.ones((1, 1)), np.ones((1, 3, 1))
    seen = {}
    for offset in (None, 3, 0, 1, -1, 9):
        A = v8_causal.forward(X, W, W, W, W, past, past, n_heads=1, offset=offset)[1].A
        seen[offset] = (A[0] > 0).sum(-1).tolist()
    assert seen == {None: [4, 5], 3: [4, 5], 0: [1, 2], 1: [2, 3], -1: [0, 1], 9: [5, 5]}


@without_past
@examples(8)
def test_v9_with_equal_positions_is_v8(setting: Setting) -> None:
    """v9 with all positions equal and factor 1 = v8: Q and K are turned alike, and RᵀR = 1."""
    c = call(v9_rotary, setting)
    theta, _ = c.kwargs["frequencies"]
    c.kwargs.update({"frequencies": RotaryFrequencies(theta), "positions": np.full(c.args[0].shape[-2], 5)})
    Z, cache = c.run()
    options = {name: c.kwargs[name] for name in ("n_heads", "mask", "offset", "scale")}
    expected, cache_8 = v8_causal.forward(*c.args, **options)
    dZ = cotangent(Z)
    assert_same([Z, cache.A], [expected, cache_8.A])
    assert_same(given_gradients(v9_rotary, dZ, cache), given_gradients(v8_causal, dZ, cache_8))


@each_setting
@examples(8)
def test_the_scores_of_v9_depend_on_distances_alone(setting: Setting) -> None:
    """All positions shifted by 1000, those of the past too: the same output, weights and gradients."""
    c = call(v9_rotary, setting)
    X, W_Q, W_K, W_V, W_O, K_past, V_past = c.args
    base = np.arange(3, 3 + X.shape[-2])
    results = []
    for shift in (0, 1000):
        options = {**c.kwargs, "positions": base + shift}
        if K_past is not None:                                # the past as version 9 itself makes it from rows of X
            before = np.random.default_rng(1).standard_normal((*X.shape[:-2], 2, X.shape[-1]))
            first = {**options, "mask": None, "positions": np.array([shift, shift + 1])}
            _, earlier = v9_rotary.forward(before, W_Q, W_K, W_V, W_O, **first)
            K_past, V_past = earlier.K, earlier.V
            options["mask"] = None
        Z, cache = v9_rotary.forward(X, W_Q, W_K, W_V, W_O, K_past, V_past, **options)
        results.append([Z, cache.A, *v9_rotary.backward(cotangent(Z), cache)[:5]])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11 * max(np.abs(one).max(initial=0), 1e-2))


@each_setting
@examples(4)
def test_positions_start_after_the_past(setting: Setting) -> None:
    c = call(v9_rotary, setting)
    P = 0 if c.args[5] is None else c.args[5].shape[-2]
    results = []
    for positions in (None, np.arange(P, P + c.args[0].shape[-2])):
        c.kwargs["positions"] = positions
        Z, cache = c.run()
        results.append([Z, cache.K, *given_gradients(v9_rotary, cotangent(Z), cache)])
    assert_same(*results)


@each_setting
@examples(4)
def test_positions_of_each_row_of_the_batch(setting: Setting) -> None:
    """Positions (…, N_Q) turn every head of a member alike; each member is what it is by itself."""
    c = call(v9_rotary, setting)
    X, *weights, K_past, V_past = c.args
    positions = np.random.default_rng(0).integers(9, size=X.shape[:-1])
    c.kwargs.update({"positions": positions, "mask": None})
    Z, _ = c.run()
    for at in np.ndindex(X.shape[:-2]):
        past = (None, None) if K_past is None else (K_past[at], V_past[at])
        alone, _ = v9_rotary.forward(X[at], *weights, *past, **c.kwargs | {"positions": positions[at]})
        assert_same([Z[at]], [alone])


def test_one_head_alone() -> None:
    """The rotation is made from the first head, and positions may be a single number for all rows."""
    X, W = np.random.default_rng(0).normal(size=(2, 4, 4))
    options = {"n_heads": 1, "frequencies": rotary_frequencies(4)}
    Z, cache = v9_rotary.forward(X, W, W, W, W, **options, positions=np.array(3))
    expected, cache_8 = v8_causal.forward(X, W, W, W, W, n_heads=1)
    assert_same([Z], [expected])
    assert_same(given_gradients(v9_rotary, Z, cache), given_gradients(v8_causal, Z, cache_8))


@without_past
@examples(4)
def test_a_factor_is_squared_in_the_scores(setting: Setting) -> None:
    c = call(v9_rotary, setting)
    c.kwargs["frequencies"] = rotary_frequencies(c.args[1].shape[1] // c.kwargs["n_heads"] // 2 * 2, base=9.0)
    width = 2 * len(c.kwargs["frequencies"].theta)
    if width < c.args[1].shape[1] // c.kwargs["n_heads"]:     # an odd width: a column is not turned, nor multiplied
        return
    c.kwargs["scale"] = 0.3
    plain = c.run()
    theta = c.kwargs["frequencies"].theta
    c.kwargs.update({"frequencies": RotaryFrequencies(theta, 1.5), "scale": 0.3 / 1.5**2})
    factored = c.run()
    dZ = cotangent(plain[0])
    assert_same([plain[0], plain[1].A], [factored[0], factored[1].A])
    assert_same(given_gradients(v9_rotary, dZ, plain[1]), given_gradients(v9_rotary, dZ, factored[1]))


@without_past
@examples(4)
def test_both_pairings_give_the_same_with_columns_in_another_order(setting: Setting) -> None:
    """Columns 0, 1, 2, 3, 4, 5 as neighbours are 0, 2, 4, 1, 3, 5 as halves; mixed up, the result is another one."""
    c = call(v9_rotary, setting)
    X, W_Q, W_K, *rest = c.args
    H, R = c.kwargs["n_heads"], 2 * len(c.kwargs["frequencies"].theta)
    D = W_Q.shape[1] // H
    order = np.concatenate([np.arange(0, R, 2), np.arange(1, R, 2), np.arange(R, D)])
    columns = (np.arange(H)[:, None] * D + order).ravel()
    neighbours = v9_rotary.forward(X, W_Q, W_K, *rest, **c.kwargs | {"pairing": "neighbours"})
    halves = v9_rotary.forward(X, W_Q[:, columns], W_K[:, columns], *rest, **c.kwargs | {"pairing": "halves"})
    dZ = cotangent(neighbours[0])
    one, other = (given_gradients(v9_rotary, dZ, cache) for _, cache in (neighbours, halves))
    assert_same([neighbours[0]], [halves[0]])
    assert_same([one[0], one[1][:, columns], one[2][:, columns], *one[3:]], other)


@each_setting
@examples(8)
def test_v10_with_as_many_groups_as_heads_is_v9(setting: Setting) -> None:
    """v10 with H_K = H = v9."""
    c = call(v9_rotary, setting)
    Z, cache = v10_grouped_query.forward(*c.args, **c.kwargs, n_kv_heads=c.kwargs["n_heads"])
    expected, cache_9 = c.run()
    given = [cotangent(Y, i) for i, Y in enumerate((Z, cache.K, cache.V))]
    assert_same([Z, cache.A, cache.K, cache.V], [expected, cache_9.A, cache_9.K, cache_9.V])
    gradients = given_gradients(v10_grouped_query, given[0], cache, *given[1:])
    assert_same(gradients, given_gradients(v9_rotary, given[0], cache_9, *given[1:]))


@each_setting
@examples(8)
def test_v10_is_v9_with_repeated_keys_and_values(setting: Setting) -> None:
    """Head h reads ⌊h H_K/H⌋ (repeat). The gradients of a group's repeated weights add."""
    c = call(v10_grouped_query, setting)
    X, W_Q, W_K, W_V, W_O, K_past, V_past = c.args
    options = dict(c.kwargs)
    H, H_K = options["n_heads"], options.pop("n_kv_heads")
    G = H // H_K

    def repeated(W: Array) -> Array:
        return np.repeat(W.reshape(len(W), H_K, -1), G, 1).reshape(len(W), -1)

    def summed_again(dW: Array) -> Array:
        return dW.reshape(len(dW), H_K, G, -1).sum(2).reshape(len(dW), -1)

    past = (None, None) if K_past is None else (np.repeat(Y, G, -3) for Y in (K_past, V_past))
    Z, cache = c.run()
    expected, cache_9 = v9_rotary.forward(X, W_Q, repeated(W_K), repeated(W_V), W_O, *past, **options)
    dZ = cotangent(Z)
    dX, dW_Q, dW_K, dW_V, dW_O, *d_past = given_gradients(v9_rotary, dZ, cache_9)
    d_past = [d.reshape(*d.shape[:-3], H_K, G, *d.shape[-2:]).sum(-3) for d in d_past]
    assert_same([Z, cache.A], [expected, cache_9.A])
    wanted = [dX, dW_Q, summed_again(dW_K), summed_again(dW_V), dW_O, *d_past]
    assert_same(given_gradients(v10_grouped_query, dZ, cache), wanted)


def test_groups_are_a_view_of_neighbouring_heads() -> None:
    """Heads 0, 1, 2 and 3, 4, 5 (repeat), not 0, 2, 4 and 1, 3, 5 (tile); nothing is copied."""
    X = np.arange(2.0 * 6 * 4 * 5).reshape(2, 6, 4, 5)
    groups = grouped(X, 2)
    assert groups.shape == (2, 2, 12, 5) and np.shares_memory(groups, X)
    for h in range(6):
        assert (groups[:, h // 3, h % 3 * 4 : (h % 3 + 1) * 4] == X[:, h]).all()
    assert (headed(groups, 6) == X).all() and np.shares_memory(headed(groups, 6), X)


@pytest.mark.parametrize("n_kv_heads", [1, 2])
def test_keys_and_values_are_never_repeated(n_kv_heads: int) -> None:
    """Memory: the grown K and V in forward, dK and dV in backward. Repeated, each would take 8/H_K times its own."""
    rng = np.random.default_rng(0)
    X, past = rng.normal(size=(1, 4)), rng.normal(size=(n_kv_heads, 2000, 64))
    W_Q, W_K, W_O = (rng.normal(size=shape) for shape in ((4, 512), (4, 64 * n_kv_heads), (512, 4)))
    options = {"n_heads": 8, "n_kv_heads": n_kv_heads, "frequencies": rotary_frequencies(64)}
    tracemalloc.start()
    try:
        Z, cache = v10_grouped_query.forward(X, W_Q, W_K, W_K, W_O, past, past, **options)
        forward = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        v10_grouped_query.backward(cotangent(Z), cache)
        backward = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert cache.K.shape == (n_kv_heads, 2001, 64)
    A = cache.A.nbytes
    assert forward < 2.1 * cache.K.nbytes + 4 * A + 1e5 and backward < 4.2 * cache.K.nbytes + 4 * A + 1e5


@each_version
@each_setting
@examples(4)
def test_dead_rows_are_zero_with_zero_gradients(version: Any, setting: Setting) -> None:
    c = call(version, setting)
    X, K_past = c.args[0], c.args[5]
    N, P = X.shape[-2], 0 if K_past is None else K_past.shape[-2]
    mask = np.ones((N, P + N), bool)
    mask[0] = False
    c.kwargs.update({"mask": mask, "offset": None})
    with np.errstate(all="raise"):
        Z, cache = c.run()
        dZ = np.zeros_like(Z)
        dZ[..., 0, :] = 1
        gradients = given_gradients(version, dZ, cache)
    assert not Z[..., 0, :].any()
    assert not any(gradient.any() for gradient in gradients)


@each_version
@pytest.mark.parametrize(("batch", "N", "P"), [((0,), 2, 3), ((), 0, 3), ((2,), 3, 0), ((), 0, 0)])
def test_empty_axes(version: Any, batch: tuple[int, ...], N: int, P: int) -> None:
    more: dict[str, Any] = {} if version is v8_causal else {"frequencies": rotary_frequencies(2)}
    more |= {"n_kv_heads": 2} if version is v10_grouped_query else {}
    W, past = np.ones((3, 6)), np.ones((*batch, 2, P, 3))
    Z, cache = version.forward(np.ones((*batch, N, 3)), W, W, W, W.T, past, past, n_heads=2, **more)
    gradients = version.backward(Z, cache, np.ones_like(cache.K), None)
    assert Z.shape == (*batch, N, 3) and cache.K.shape == (*batch, 2, P + N, 3)
    of_weights = [W.shape] * 3 + [W.T.shape]
    assert [d.shape for d in gradients] == [(*batch, N, 3), *of_weights, past.shape, past.shape]
    assert (gradients[5] == 1).all() or N                     # without a query only dK itself reaches the past


#: Changed arguments and the message, with the axis of the key heads for {G}.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"V_past": None}, "V_past: expected an array beside K_past, got None"),
    ({"K_past": None}, "K_past: expected an array beside V_past, got None"),
    ({"K_past": np.ones((4, 5, 3))}, "K_past: expected ({G}=2, P, D_Q=3), got (4, 5, 3)"),
    ({"V_past": np.ones((2, 4, 3))}, "V_past: expected ({G}=2, P=5, D_V=3), got (2, 4, 3)"),
    ({"W_K": np.ones((3, 12))}, "W_K: expected (D_X=3, {G}·D_Q=6), got (3, 12)"),
    ({"scale": "1"}, "scale: expected a number, got '1'"),
    ({"offset": 1.0}, "offset: expected an integer, got 1.0"),
    ({"mask": np.ones((2, 8), bool)},
     "mask: expected a shape that broadcasts to the scores (…, H, N_Q, P+N_Q) = ({H}, 2, 7), got (2, 8)"),
]  # fmt: skip
WRONG_TURNS: list[tuple[dict[str, Any], str]] = [
    ({"frequencies": rotary_frequencies(4)}, "frequencies: expected at most D/2=1 of them, got 2"),
    ({"frequencies": np.ones(1)},
     "frequencies: expected what rotary_frequencies returns, got an array of float64 (1,)"),
    ({"positions": np.arange(3)}, "positions: expected a shape that broadcasts to (…, N) = (2,), got (3,)"),
    ({"positions": np.ones(2)}, "positions: expected an integer array, got float64"),
    ({"pairing": "thirds"}, "pairing: expected one of neighbours, halves, got 'thirds'"),
]  # fmt: skip
WRONG_GROUPS: list[tuple[dict[str, Any], str]] = [
    ({"W_V": np.ones((3, 5))}, "W_V: expected H_K·D_V divisible by n_kv_heads=2, got 5"),
    ({"n_kv_heads": 3, "W_K": np.ones((3, 9)), "W_V": np.ones((3, 9)), "K_past": None, "V_past": None},
     "n_kv_heads: expected a divisor of n_heads=4, got 3"),
    ({"n_kv_heads": 0}, "n_kv_heads: expected 1 or more, got 0"),
]  # fmt: skip
WRONG_CALLS = [
    *((v, *wrong) for v in (v8_causal, v9_rotary, v10_grouped_query) for wrong in WRONG),
    *((v, *wrong) for v in (v9_rotary, v10_grouped_query) for wrong in WRONG_TURNS),
    *((v10_grouped_query, *wrong) for wrong in WRONG_GROUPS),
]


@pytest.mark.parametrize(("version", "changed", "message"), WRONG_CALLS, ids=[f"{i}" for i in range(len(WRONG_CALLS))])
def test_wrong_arguments(version: Any, changed: dict[str, Any], message: str) -> None:
    H, axis = (4, "H_K") if version is v10_grouped_query else (2, "H")
    right: dict[str, Any] = {
        "X": np.ones((2, 3)), "W_Q": np.ones((3, 3 * H)), "W_K": np.ones((3, 6)), "W_V": np.ones((3, 6)),
        "W_O": np.ones((3 * H, 2)), "K_past": np.ones((2, 5, 3)), "V_past": np.ones((2, 5, 3)), "n_heads": H,
    }  # fmt: skip
    right |= {} if version is v8_causal else {"frequencies": rotary_frequencies(2)}
    right |= {"n_kv_heads": 2} if version is v10_grouped_query else {}
    version.forward(**right)
    with pytest.raises((TypeError, ValueError)) as caught:
        version.forward(**right | changed)
    assert str(caught.value) == message.format(G=axis, H=H)


@each_version
def test_gradients_of_k_and_v_have_their_shapes(version: Any) -> None:
    Z, cache = call(version, Setting(1, n_batch=0)).run()
    for symbol in ("dK", "dV"):
        Y = getattr(cache, symbol[1])
        with pytest.raises(ValueError, match=rf"^{symbol}: expected .* like the output, got \(1, .*$"):
            version.backward(Z, cache, **{symbol: Y[None]})
        with pytest.raises(TypeError, match=rf"^{symbol}: expected an array of float64 like the output, got float32$"):
            version.backward(Z, cache, **{symbol: Y.astype(np.float32)})
