"""How the inputs of every case are drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Made = dict[str, Any]
Rng = np.random.Generator

#: The arguments that are arrays of the dtype under test, in the order of the layer's. All have a gradient but Adam's.
INPUTS = {
    "attention": ("Q", "K", "V", "bias", "sinks"),
    "rotary": ("X",),
    "softmax": ("E",),
    "layer_norm": ("X", "gamma", "beta"),
    "rms_norm": ("X", "gamma"),
    "cross_entropy": ("logits",),
    "gelu": ("X",),
    "swiglu": ("X",),
    "embedding": ("W_E",),
    "adam": ("p", "gradients"),
}


class Draft(NamedTuple):
    """A case before its dtype is known: what draws inputs and array options, the other options, and the layout."""

    make: Callable[[Rng], Made]
    options: dict[str, Any]
    layout: str = ""


def draft(make: Callable[[Rng], Made], layout: str = "", **options: Any) -> Draft:
    return Draft(make, options, layout)


def qkv(
    *batch: int, N_Q: int = 5, N_X: int = 5, D: int = 4, D_V: int | None = None, H_K: int | None = None, **more: Any
) -> Callable[[Rng], Made]:
    """Return what draws Q, K and V, and every further array, given as a function of the generator."""

    def make(rng: Rng) -> Made:
        keys = batch if H_K is None else (*batch[:-1], H_K)
        made = {name: rng.standard_normal(shape) for name, shape in
                (("Q", (*batch, N_Q, D)), ("K", (*keys, N_X, D)), ("V", (*keys, N_X, D_V or D)))}
        for name, value in more.items():
            made[name] = value(rng)
        return made

    return make


def normal(*shape: int) -> Callable[[Rng], Any]:
    return lambda rng: rng.standard_normal(shape)


def mask(*shape: int) -> Callable[[Rng], Any]:
    """Return what draws a mask that hides the first key of the first row, and some key of every row but the second."""

    def make(rng: Rng) -> Any:
        seen = rng.random(shape) < 0.6
        seen[..., -1] = True                                  # no row is dead by chance
        seen[..., :1, :1] = False
        return seen

    return make


def with_rows(seen: Any, *dead: int) -> Callable[[Rng], Any]:
    """Return what draws a mask in which these rows see nothing."""

    def make(rng: Rng) -> Any:
        made = seen(rng)
        made[..., dead, :] = False
        return made

    return make


def changed(make: Callable[[Rng], Made], change: Callable[[Made, Rng], Made]) -> Callable[[Rng], Made]:
    """Return what draws arrays and then replaces some."""

    def both(rng: Rng) -> Made:
        made = make(rng)
        return made | change(made, rng)

    return both


def times(factor: float) -> Callable[[Made, Rng], Made]:
    return lambda made, rng: {"Q": factor * made["Q"]}


@lru_cache(maxsize=1)
def trained_arrays() -> Made:
    """Return the arrays of trained.npz, which tests/conformance/make_trained.py documents."""
    with np.load(Path(__file__).with_name("trained.npz")) as file:
        return dict(file)


def trained(place: str) -> Callable[[Rng], Made]:
    """Return what gives the queries, keys and values of a trained model at one place, and the mask if there is one."""

    def make(rng: Rng) -> Made:
        named = ((name.split("."), X) for name, X in trained_arrays().items())
        return {letter: X for (where, letter), X in named if where == place}

    return make


def _low_rank(made: Made, rng: Rng) -> Made:
    basis = rng.standard_normal((2, made["Q"].shape[-1]))
    return {name: rng.standard_normal((*made[name].shape[:-1], 2)) @ basis for name in "QK"}


def _heavy_tails(made: Made, rng: Rng) -> Made:
    return {name: np.clip(rng.standard_t(2, made[name].shape), -30, 30) for name in "QKV"}


def _repeated(made: Made, rng: Rng) -> Made:
    ids = rng.integers(0, 4, made["K"].shape[-2])
    return {name: made[name][..., ids, :] for name in "QKV"}


def _peak_at_the_end(made: Made, rng: Rng) -> Made:
    """Make the last keys the ones that every query likes best, and their values large."""
    K = made["K"].copy()
    K[..., -3:, :] = 0
    K[..., -3:, 0] = 4.0
    Q = made["Q"].copy()
    Q[..., 0] = 2.0 + np.abs(Q[..., 0])
    return {"Q": Q, "K": K, "V": made["V"] + 4 * (K[..., :1] == 4.0)}


ATTENTION = {
    "plain": draft(qkv()),
    "cross": draft(qkv(N_Q=3, N_X=7)),
    "narrow values": draft(qkv(D=8, D_V=2)),
    "batch": draft(qkv(2, N_Q=4)),
    "heads": draft(qkv(2, 3, N_Q=4, D_V=4)),
    "scale": draft(qkv(), scale=0.3),
    "mask": draft(qkv(mask=mask(5, 5))),
    "mask per head": draft(qkv(2, 3, N_Q=4, mask=mask(3, 4, 5))),
    "mask per batch": draft(qkv(2, 3, N_Q=4, mask=mask(2, 1, 1, 5))),
    "bias": draft(qkv(bias=normal(5, 5))),
    "bias per head": draft(qkv(2, 3, N_Q=4, bias=normal(3, 1, 5))),
    "bias per key": draft(qkv(2, bias=normal(5))),
    "bias and mask": draft(qkv(bias=normal(5, 5), mask=mask(5, 5))),
    "causal": draft(qkv(), causal=True),
    "causal, more keys": draft(qkv(N_Q=3, N_X=6), causal=True),
    "causal, more queries": draft(qkv(N_Q=6, N_X=3), causal=True),
    "causal, bottom right": draft(qkv(N_Q=3, N_X=6), causal=True, offset=3),
    "causal, dead rows": draft(qkv(N_Q=5, N_X=3), causal=True, offset=-2),
    "causal, mask": draft(qkv(2, N_Q=4, mask=mask(2, 1, 5)), causal=True),
    "window": draft(qkv(N_Q=7, N_X=7), causal=True, window=3),
    "window of one": draft(qkv(N_Q=4, N_X=4), causal=True, window=1),
    "window, bottom right": draft(qkv(N_Q=3, N_X=8), causal=True, offset=5, window=3),
    "sinks": draft(qkv(2, 3, N_Q=4, sinks=normal(3))),
    "sinks, causal": draft(qkv(3, sinks=normal(3)), causal=True),
    "sinks, dead rows": draft(qkv(3, sinks=normal(3), mask=with_rows(mask(5, 5), 1))),
    "softcap": draft(changed(qkv(), times(2.0)), softcap=1.5),
    "softcap, causal": draft(changed(qkv(), times(2.0)), softcap=1.5, causal=True),
    "softcap, mask, bias": draft(changed(qkv(bias=normal(5, 5), mask=mask(5, 5)), times(2.0)), softcap=1.5),
    "grouped": draft(qkv(2, 6, H_K=2, N_Q=4), grouped=True),
    "grouped, causal": draft(qkv(6, H_K=2), grouped=True, causal=True),
    "one shared head": draft(qkv(3, H_K=1), grouped=True),
    "dead rows": draft(qkv(mask=with_rows(mask(5, 5), 1, 4))),
    "all rows dead": draft(qkv(N_Q=3, mask=with_rows(mask(3, 5), 0, 1, 2))),
    "one key": draft(qkv(N_X=1)),
    "one query": draft(qkv(N_Q=1)),
    "width 1": draft(qkv(D=1)),
    "strided": draft(qkv(2), layout="strided"),
    "read-only": draft(qkv(2), layout="read-only"),
    "64 keys": draft(qkv(N_Q=64, N_X=64, D=16)),
    "65 keys": draft(qkv(N_Q=5, N_X=65, D=8)),
    "128 keys, causal": draft(qkv(N_Q=128, N_X=128, D=8, D_V=8), causal=True),
    "long rows": draft(qkv(N_Q=3, N_X=2048, D=8)),
    "largest score at the end": draft(changed(qkv(N_Q=4, N_X=130), _peak_at_the_end)),
    "tiny scores": draft(changed(qkv(), times(1e-6))),
    "scores beyond exp": draft(changed(qkv(), lambda made, rng: {name: 64 * np.round(made[name]) for name in "QK"})),
    "equal scores": draft(changed(qkv(), times(0.0))),
    "constant rows": draft(changed(qkv(), lambda made, rng: {"V": np.ones_like(made["V"])})),
    "low rank": draft(changed(qkv(N_Q=16, N_X=16, D=8), _low_rank)),
    "heavy tails": draft(changed(qkv(N_Q=16, N_X=16, D=8), _heavy_tails)),
    "repeated tokens": draft(changed(qkv(N_Q=16, N_X=16), _repeated)),
    "trained": draft(trained("encoder")),
    "trained, causal": draft(trained("decoder"), causal=True),
    "trained, cross, mask": draft(trained("cross")),
    "everything": draft(
        changed(
            qkv(2, 6, H_K=2, N_Q=5, N_X=8, bias=normal(6, 1, 8), mask=mask(2, 1, 1, 8), sinks=normal(6)), times(2.0)
        ),
        grouped=True, causal=True, offset=3, window=4, softcap=2.0, scale=0.4,
    ),
}


def x(*shape: int, name: str = "X", factor: float = 1.0, shift: float = 0.0, **more: Any) -> Callable[[Rng], Made]:
    """Return what draws one array, and every further one."""

    def make(rng: Rng) -> Made:
        made = {name: factor * rng.standard_normal(shape) + shift}
        return made | {key: value(rng) if callable(value) else value for key, value in more.items()}

    return make


def norm(*shape: int, beta: bool = True, **more: Any) -> Callable[[Rng], Made]:
    """Return what draws X and γ, whose entries have both signs, and β."""
    weights: dict[str, Any] = {"gamma": normal(shape[-1])} | ({"beta": normal(shape[-1])} if beta else {})
    return x(*shape, **weights, **more)


def _constant(made: Made, rng: Rng) -> Made:
    X = made["X"].copy()
    X[0] = 0.5
    return {"X": X}


def _far_apart(made: Made, rng: Rng) -> Made:
    return {"E": made["E"] + np.array([[-2000.0], [0.0], [2000.0], [1.0]])}


def _outlier(made: Made, rng: Rng) -> Made:
    return {"X": made["X"] * np.array([1.0] * 7 + [50.0])}


def _zero(made: Made, rng: Rng) -> Made:
    X = made["X"].copy()
    X[0] = 0.0
    return {"X": X}


#: What is added to the name, the shape, positions, base.
ROTARY_SHAPES: tuple[tuple[str, tuple[int, ...], Any, float], ...] = (
    ("", (2, 5, 8), None, 10000.0),
    (", positions", (5, 6), [3, 0, 1, 7, 4], 10000.0),
    (", positions per batch", (2, 3, 4), [[0, 1, 2], [2, 5, 1]], 10000.0),
    (", far positions", (4, 16), [100, 511, 64, 333], 10000.0),
    (", base", (5, 8), None, 500000.0),
    (", strided", (3, 4), None, 10000.0),
)
ROTARY = {
    pairing + more: Draft(
        x(*shape) if positions is None else x(*shape, positions=np.array(positions)),
        {"pairing": pairing, "base": base},
        "strided" if "strided" in more else "",
    )
    for pairing in ("halves", "neighbours")
    for more, shape, positions, base in ROTARY_SHAPES
}

SOFTMAX = {
    "plain": draft(x(4, 5, name="E")),
    "batch": draft(x(2, 3, 4, name="E")),
    "mask": draft(x(4, 5, name="E", mask=mask(4, 5))),
    "dead rows": draft(x(4, 5, name="E", mask=with_rows(mask(4, 5), 1))),
    "long rows": draft(x(4, 1024, name="E")),
    "scores beyond exp": draft(x(4, 5, name="E", factor=1000.0)),
    "rows far apart": draft(changed(x(4, 5, name="E"), _far_apart)),
    "equal scores": draft(x(4, 5, name="E", factor=0.0, shift=2.0)),
    "strided": draft(x(4, 5, name="E"), layout="strided"),
    "read-only": draft(x(4, 5, name="E"), layout="read-only"),
}

NORM = {
    "batch": draft(norm(2, 3, 6, beta=False)),
    "small rows": draft(norm(4, 8, factor=0.0625, beta=False), eps=0.00390625),
    "tiny rows": draft(norm(4, 8, factor=1e-3, beta=False), eps=1e-6),
    "large rows": draft(norm(4, 8, factor=50.0, beta=False), eps=1e-5),
    "long rows": draft(norm(64, 256, beta=False), eps=1e-5),
    "one row": draft(norm(8, beta=False), eps=1e-5),
    "zero row": draft(changed(norm(3, 8, beta=False), _zero), eps=1e-5),
    "one outlier": draft(changed(norm(3, 8, beta=False), _outlier), eps=1e-5),
    "strided": draft(norm(3, 6, beta=False), layout="strided", eps=1e-5),
    "read-only": draft(norm(3, 6, beta=False), layout="read-only", eps=1e-5),
}
NORM["batch"].options["eps"] = 1e-5
RMS_NORM = {"plain": draft(norm(5, 8, beta=False), eps=1e-6)} | NORM
LAYER_NORM = {
    "plain": draft(norm(5, 8), eps=1e-5),
    "far from 0": draft(norm(4, 8, shift=8.0), eps=1e-5),
    "width 3": draft(norm(5, 3), eps=1e-5),
    "constant row": draft(changed(norm(3, 8), _constant), eps=1e-5),
} | NORM


def logits(*shape: int, V: int = 7, ignored: int | None = None, factor: float = 1.0) -> Callable[[Rng], Made]:
    """Return what draws logits and targets; the first `ignored` targets are −100."""

    def make(rng: Rng) -> Made:
        targets = rng.integers(0, V, shape)
        targets.reshape(-1)[: ignored or 0] = -100
        return {"logits": factor * rng.standard_normal((*shape, V)), "targets": targets}

    return make


CROSS_ENTROPY = {
    "plain": draft(logits(5)),
    "batch": draft(logits(2, 3)),
    "smoothing": draft(logits(5, V=4), smoothing=0.25),
    "ignored": draft(logits(6, ignored=2), ignore_id=-100),
    "ignored and smoothing": draft(logits(2, 4, V=4, ignored=3), smoothing=0.25, ignore_id=-100),
    "all ignored": draft(logits(3, ignored=3), ignore_id=-100),
    "confident": draft(logits(5, factor=16.0)),
    "logits beyond exp": draft(logits(5, factor=400.0), smoothing=0.125),
    "many classes": draft(logits(64, V=512)),
    "strided": draft(logits(5), layout="strided"),
    "read-only": draft(logits(5), layout="read-only"),
}

GELU = {
    "plain": draft(x(5, 4)),
    "batch": draft(x(2, 3, 4)),
    "tails": draft(x(8, 8, factor=2.5)),
    "far tails": draft(x(4, 4, factor=12.0)),
    "tiny": draft(x(5, 4, factor=1e-3)),
    "zero": draft(x(5, 4, factor=0.0)),
    "strided": draft(x(5, 4), layout="strided"),
    "read-only": draft(x(5, 4), layout="read-only"),
}
GELU |= {
    f"tanh, {name}": Draft(GELU[name].make, {"approximate": "tanh"})
    for name in ("plain", "batch", "tails", "far tails", "tiny")
}

SWIGLU = {
    "plain": draft(x(5, 8)),
    "batch": draft(x(2, 3, 8)),
    "width 1": draft(x(6, 2)),
    "wide": draft(x(16, 64)),
    "large gates": draft(x(5, 8, factor=4.0)),
    "far gates": draft(x(5, 8, factor=100.0)),
    "tiny": draft(x(5, 8, factor=1e-3)),
    "second half gates": draft(x(5, 8), gate="second"),
    "even columns gate": draft(x(5, 8), gate="even"),
    "slope": draft(x(5, 8), slope=1.75),
    "unit offset": draft(x(5, 8), unit_offset=True),
    "limit": draft(x(8, 8, factor=2.0), limit=1.25),
    "everything": draft(x(8, 8, factor=2.0), gate="even", limit=1.25, slope=1.75, unit_offset=True),
    "strided": draft(x(5, 8), layout="strided"),
    "read-only": draft(x(5, 8), layout="read-only"),
}


def table(*shape: int, V: int = 6, D: int = 4, among: int | None = None) -> Callable[[Rng], Made]:
    """Return what draws W_E and ids below `among`; without it, ids of which none comes twice."""

    def make(rng: Rng) -> Made:
        size = int(np.prod(shape))
        ids = rng.permutation(V)[:size] if among is None else rng.integers(0, among, size)
        return {"W_E": rng.standard_normal((V, D)), "ids": ids.reshape(shape)}

    return make


EMBEDDING = {
    "plain": draft(table(5)),
    "repeated ids": draft(table(9, among=6)),
    "one id": draft(table(1)),
    "all the same": draft(table(4, among=1)),
    "batch, repeated ids": draft(table(3, 4, among=5)),
    "unused rows": draft(table(6, V=16, among=3)),
    "many repeats": draft(table(8, 64, V=4, among=4)),
    "width 1": draft(table(7, D=1, among=6)),
    "strided": draft(table(9, among=6), layout="strided"),
    "read-only": draft(table(9, among=6), layout="read-only"),
}


def steps(
    *shape: int, T: int = 5, p: float = 1 / 16, g: float = 1.0, change: Callable[[Any], Any] = np.positive
) -> Callable[[Rng], Made]:
    """Return what draws p and T gradients, whose usual sizes are given."""

    def make(rng: Rng) -> Made:
        return {"p": p * rng.standard_normal(shape), "gradients": change(g * rng.standard_normal((T, *shape)))}

    return make


def _alternating(gradients: Any) -> Any:
    signed = np.abs(gradients)                                # real numbers: nothing differentiates this
    signed[1::2] = -signed[1::2]
    return signed


def _first_large(gradients: Any) -> Any:                      # real numbers, as above
    return np.abs(gradients) * np.array([64.0] + [1.0] * (len(gradients) - 1))[:, None]


def _no_gradient(gradients: Any) -> Any:
    return gradients * np.array([0.0] + [1.0] * 7)


#: 1 − β is exact in every dtype, so that a rounded β is no error of the step.
SETTINGS: dict[str, Any] = {"lr": 0.0625, "betas": (0.875, 0.96875), "eps": 2.0**-20}
ADAM = {
    "one step": draft(steps(8, T=1), **SETTINGS),
    "two steps": draft(steps(8, T=2), **SETTINGS),
    "five steps": draft(steps(8), **SETTINGS),
    "fifty steps": draft(steps(8, T=50), **SETTINGS),
    "a matrix": draft(steps(3, 4), **SETTINGS),
    "other betas": draft(steps(8), **SETTINGS | {"betas": (0.5, 0.75)}),
    "large ε": draft(steps(8), **SETTINGS | {"eps": 0.5}),
    "small gradients": draft(steps(8, g=2.0**-10), **SETTINGS | {"eps": 2.0**-10}),
    "alternating gradients": draft(steps(8, change=_alternating), **SETTINGS),
    "large first gradient": draft(steps(8, T=12, change=_first_large), **SETTINGS | {"betas": (0.5, 0.5)}),
    "no gradient": draft(steps(8, change=_no_gradient), **SETTINGS),
    "weight decay": draft(steps(8, p=4.0), **SETTINGS, weight_decay=2.0),
    "weight decay, one step": draft(steps(8, T=1, p=4.0), **SETTINGS, weight_decay=2.0),
    "strided": draft(steps(3, 4), layout="strided", **SETTINGS),
    "read-only": draft(steps(8), layout="read-only", **SETTINGS),
}

DRAFTS: dict[str, dict[str, Draft]] = {
    "attention": ATTENTION,
    "rotary": ROTARY,
    "softmax": SOFTMAX,
    "layer_norm": LAYER_NORM,
    "rms_norm": RMS_NORM,
    "cross_entropy": CROSS_ENTROPY,
    "gelu": GELU,
    "swiglu": SWIGLU,
    "embedding": EMBEDDING,
    "adam": ADAM,
}
