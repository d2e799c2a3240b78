"""Known faults, each a small change of a reference implementation. The cases must catch every one of them.

They come from public reports about attention, its gradients and its layers. A fault replaces steps of a class of
npattn.conformance.reference and leaves the rest as it is. `plant` gives the implementation with the fault.

>>> import numpy as np
>>> from npattn.conformance.planting import plant
>>> inputs = {"Q": np.ones((1, 4)), "K": np.array([[0.0] * 4, [1.0] * 4]), "V": np.array([[0.0], [1.0]])}
>>> right = plant("attention")(inputs, {}).answer(np.ones((1, 1)))
>>> wrong = plant("attention", FAULTS["attention"]["no scale"])(inputs, {}).answer(np.ones((1, 1)))
>>> right["output"].round(2), wrong["output"].round(2)    # 1/(1 + exp(−2)) and 1/(1 + exp(−4))
(array([[0.88]]), array([[0.98]]))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npattn.conformance import model_faults
from npattn.conformance.analysis import visible
from npattn.conformance.planting import Fault, fault
from npattn.conformance.reference import Attention, CrossEntropy, RMSNorm, Rotary, Softmax


def _seen(change: Callable[[dict[str, Any], tuple[int, ...]], dict[str, Any]]) -> Callable[..., Any]:
    """Return a step `seen` that changes the options first."""
    return lambda self, shape: visible(shape, {**self.o, **change(self.o, shape)})


def _cut_output(self: Attention, A: Any, V: Any) -> Any:
    kept = A.shape[-1] // 64 * 64 or A.shape[-1]
    return A[..., :kept] @ V[..., :kept, :]


def _tiles_without_rescaling(self: Attention, E: Any, top: Any) -> Any:
    """Return exponentials of tiles of 64 keys, each with the maximum that was known when the tile was read."""
    known = np.maximum.accumulate(E, -1)
    ends = [min(start + 64, E.shape[-1]) - 1 for start in range(0, E.shape[-1], 64)]
    lengths = np.diff([-1, *ends])
    shift = np.repeat(known[..., ends], lengths, -1)
    return np.exp(E - np.where(np.isfinite(shift), shift, 0))


def _first_of(axis: int) -> Callable[..., Any]:
    """Return a step `seen` that gives what the first index of an axis sees to all."""

    def seen(self: Attention, shape: tuple[int, ...]) -> Any:
        seen = visible(shape, self.o)
        return np.broadcast_to(np.take(seen, [0], axis), shape) if len(shape) >= -axis else seen

    return seen


def _tiled_groups(self: Attention, dX: Any, H_K: int) -> Any:
    return dX.reshape(*dX.shape[:-3], -1, H_K, *dX.shape[-2:]).sum(-4)


def _last_use(self: Attention, dE: Any) -> Any:
    bias = self.i["bias"]
    return dE[tuple(slice(-size, None) for size in (1,) * (dE.ndim - bias.ndim) + bias.shape)].reshape(bias.shape)


def _dsinks_of_the_last_row(self: Attention, delta: Any) -> Any:
    return self.sum_to((-self.a * delta)[..., -1:, :], self.i["sinks"][..., None, None])[..., 0, 0]


def _heads_by_reshape(self: Attention, A: Any, V: Any) -> Any:
    Y = A @ V
    return Y.swapaxes(-2, -3).reshape(Y.shape) if Y.ndim > 2 else Y


def _hot(self: CrossEntropy, V: int) -> Any:
    return np.arange(V) == self.o["targets"][..., None]


def _fairseq(self: CrossEntropy, V: int) -> Any:
    return np.where(_hot(self, V), 1 - self.o["smoothing"], self.o["smoothing"] / (V - 1))


ATTENTION = {
    "no scale": fault("the scores are not multiplied by 1/√D", scale=lambda self, D: 1.0),
    "scale twice": fault("the scores are multiplied by 1/√D twice", scale=lambda self, D: 1.0 / D),
    "scale of V": fault(
        "1/√D takes the width of V", scale=lambda self, D: Attention.scale(self, self.i["V"].shape[-1])
    ),
    "scale not used": fault("the option scale is not used", scale=lambda self, D: D**-0.5),
    "scale in forward alone": fault(
        "the gradients of Q and K lack the scale",
        d_queries=lambda self, dS: dS @ self.K,
        d_keys=lambda self, dS: dS.mT @ self.i["Q"],
    ),
    "scale twice in backward": fault(
        "the gradient of Q has the scale twice", d_queries=lambda self, dS: self.s**2 * (dS @ self.K)
    ),
    "dQ five times": fault(
        "the gradient of Q is five times too large", d_queries=lambda self, dS: 5 * self.s * (dS @ self.K)
    ),
    "no row sum": fault("the backward of softmax lacks rowsum(A ⊙ dA)", delta=lambda self, dA: 0.0),
    "row sum unweighted": fault(
        "the backward of softmax subtracts the plain sum of dA", delta=lambda self, dA: dA.sum(-1, keepdims=True)
    ),
    "row sum as a mean": fault(
        "the backward of softmax subtracts the mean of A ⊙ dA",
        delta=lambda self, dA: (self.A * dA).mean(-1, keepdims=True),
    ),
    "column sum": fault(
        "the backward of softmax sums over queries", delta=lambda self, dA: (self.A * dA).sum(-2, keepdims=True)
    ),
    "row sum of the first half": fault(
        "δ misses the second half of the keys",
        delta=lambda self, dA: (self.A * dA)[..., : -(-dA.shape[-1] // 2)].sum(-1, keepdims=True),
    ),
    "diagonal softmax": fault(
        "the backward of softmax is A (1 − A) dA, as of a sigmoid",
        d_scores=lambda self, dA, delta: self.A * (1 - self.A) * dA,
    ),
    "softmax over queries": fault(
        "the softmax divides by the sum over queries", total=lambda self, p, sink: p.sum(-2, keepdims=True) + sink
    ),
    "softmax not normalised": fault("the weights are not divided by their sum", total=lambda self, p, sink: 1.0),
    "divided by batch": fault(
        "the gradient of V is divided by the number of queries",
        d_values=lambda self, dY: self.A.mT @ dY / dY.shape[-2],
    ),
    "dV without transpose": fault("the gradient of V is A dY in place of Aᵀ dY", d_values=lambda self, dY: self.A @ dY),
    "dK without transpose": fault(
        "the gradient of K is right for a symmetric dS alone", d_keys=lambda self, dS: self.s * (dS @ self.i["Q"])
    ),
    "dK with K": fault("the gradient of K has K in place of Q", d_keys=lambda self, dS: self.s * (dS.mT @ self.K)),
    "dQ without dS": fault(
        "the gradient of Q takes the weights for the gradient of the scores",
        d_queries=lambda self, dS: self.s * (self.A @ self.K),
    ),
    "sign of dK": fault(
        "the gradient of K has the wrong sign", d_keys=lambda self, dS: -self.s * (dS.mT @ self.i["Q"])
    ),
    "dV lost": fault("the gradient of V is 0", d_values=lambda self, dY: np.zeros(self.V.shape)),
    "last tile lost": fault("keys beyond the last full tile of 64 are lost", output=_cut_output),
    "tiles not rescaled": fault("sums of earlier tiles keep their old maximum", exponentials=_tiles_without_rescaling),
    "no maximum": fault("the row's maximum is not subtracted", maximum=lambda self, E: 0.0),
    "last key lost": fault(
        "the last key is not read",
        seen=lambda self, shape: visible(shape, self.o) & (np.arange(shape[-1]) < shape[-1] - 1),
    ),
    "first key always seen": fault(
        "the first key is seen through every mask",
        seen=lambda self, shape: visible(shape, self.o) | (np.arange(shape[-1]) == 0),
    ),
    "mask not used": fault("the mask is not used", seen=_seen(lambda o, _: {"mask": None})),
    "mask polarity": fault("True hides in place of shows", seen=_seen(lambda o, _: {"mask": ~o["mask"]})),
    "mask added as 1": fault(
        "the mask is added to the scores as 0 and 1",
        seen=_seen(lambda o, _: {"mask": None}),
        hide=lambda self, E, seen: np.where(seen, E + self.o.get("mask", 0), -np.inf),
    ),
    "mask multiplied": fault("hidden scores are 0 in place of −∞", hide=lambda self, E, seen: np.where(seen, E, 0.0)),
    "mask of head 0": fault("all heads have the mask of the first", seen=_first_of(-3)),
    "mask of batch 0": fault("all of the batch have the mask of the first", seen=_first_of(-4)),
    "mask after softmax": fault(
        "the mask sets weights to 0 after the softmax, whose sum still has them",
        hide=lambda self, E, seen: E,
        output=lambda self, A, V: (A * self.seen(A.shape)) @ V,
    ),
    "dead row uniform": fault(
        "a row that sees nothing has equal weights",
        hide=lambda self, E, seen: np.where(seen, E, np.where(seen.any(-1, keepdims=True), -np.inf, 0.0)),
        d_scores=lambda self, dA, delta: self.seen(dA.shape) * Attention.d_scores(self, dA, delta),
    ),
    "dead row of added masks": fault(
        "a row that sees nothing has equal weights, and its scores have a gradient, as of a mask of −10⁹ that is added",
        hide=lambda self, E, seen: np.where(seen, E, np.where(seen.any(-1, keepdims=True), -np.inf, 0.0)),
    ),
    "dead row NaN": fault(
        "a row that sees nothing is NaN", total=lambda self, p, sink: p.sum(-1, keepdims=True) + sink
    ),
    "causal not used": fault("the causal order is not used", seen=_seen(lambda o, _: {"causal": False})),
    "causal without itself": fault(
        "a query does not see its own position", seen=_seen(lambda o, _: {"offset": o.get("offset", 0) - 1})
    ),
    "causal one too far": fault(
        "a query sees the position after its own", seen=_seen(lambda o, _: {"offset": o.get("offset", 0) + 1})
    ),
    "causal bottom right": fault(
        "the causal order is aligned at the bottom right, where the top left is asked for",
        seen=_seen(lambda o, shape: {"offset": shape[-1] - shape[-2]}),
    ),
    "offset not used": fault("causal order and window ignore the offset", seen=_seen(lambda o, _: {"offset": 0})),
    "window not used": fault(
        "the window is not used", seen=_seen(lambda o, _: {"causal": bool(o["window"]), "window": None})
    ),
    "window one too long": fault("the window has W + 1 keys", seen=_seen(lambda o, _: {"window": o["window"] + 1})),
    "window one too short": fault("the window has W − 1 keys", seen=_seen(lambda o, _: {"window": o["window"] - 1})),
    "sinks not used": fault("the sinks are not used", score_sinks=lambda self, sinks: np.full_like(sinks, -np.inf)),
    "sinks scaled": fault("the sinks are multiplied by the scale", score_sinks=lambda self, sinks: self.s * sinks),
    "sink in the numerator": fault(
        "the weight of the sink is added to that of the first key",
        output=lambda self, A, V: A @ V + self.a * V[..., :1, :],
    ),
    "sign of dsinks": fault(
        "the gradient of the sinks has the wrong sign", d_sinks=lambda self, delta: -Attention.d_sinks(self, delta)
    ),
    "dsinks not summed": fault("the gradient of the sinks is that of the last row", d_sinks=_dsinks_of_the_last_row),
    "softcap not used": fault("scores are not capped", cap=lambda self, S, c: S),
    "softcap without factor": fault("the cap is tanh(S/c), not c tanh(S/c)", cap=lambda self, S, c: np.tanh(S / c)),
    "softcap lost in backward": fault("the backward lacks 1 − tanh²", cap_back=lambda self, dC, C, c: dC),
    "softcap of a capped score": fault(
        "the derivative of the cap takes tanh of the capped score",
        cap_back=lambda self, dC, C, c: dC * (1 - np.tanh(C / c) ** 2),
    ),
    "softcap after mask": fault(
        "the cap comes after the mask, and turns −∞ into −c",
        hide=lambda self, E, seen: np.where(seen, E, -self.o["softcap"]),
    ),
    "softcap clips": fault("scores are cut off at −c and c", cap=lambda self, S, c: np.clip(S, -c, c)),
    "bias not used": fault("the bias is not used", add_bias=lambda self, E, bias: E),
    "bias scaled": fault("the bias is multiplied by the scale", add_bias=lambda self, E, bias: E + self.s * bias),
    "bias subtracted": fault("the bias is subtracted", add_bias=lambda self, E, bias: E - bias),
    "bias gradient not summed": fault("the gradient of a broadcast bias is that of its last use", d_bias=_last_use),
    "bias gradient averaged": fault(
        "the gradient of a broadcast bias is a mean",
        d_bias=lambda self, dE: Attention.d_bias(self, dE) * self.i["bias"].size / dE.size,
    ),
    "bias gradient scaled": fault(
        "the gradient of the bias has the scale of the scores",
        d_bias=lambda self, dE: self.s * Attention.d_bias(self, dE),
    ),
    "tile for repeat": fault(
        "query head h reads head h mod H_K of the keys",
        share=lambda self, X, H: np.tile(X, (H // X.shape[-3], 1, 1)),
        unshare=_tiled_groups,
    ),
    "tile in backward": fault("the gradients of shared heads are added as if heads were tiled", unshare=_tiled_groups),
    "groups averaged": fault(
        "the gradients of heads that share keys are averaged",
        unshare=lambda self, dX, H_K: Attention.unshare(self, dX, H_K) * H_K / dX.shape[-3],
    ),
    "group gradient lost": fault(
        "of the heads that share keys, the first alone gives a gradient",
        unshare=lambda self, dX, H_K: dX[..., :: dX.shape[-3] // H_K, :, :],
    ),
    "heads by reshape": fault("heads and positions are exchanged without a transpose", output=_heads_by_reshape),
}

ROTARY = {
    "other pairing": fault(
        "neighbours are paired where halves are asked for, or the other way round",
        cut=lambda self, D: Rotary({}, {"pairing": "neighbours" if self.o["pairing"] == "halves" else "halves"}).cut(D),
    ),
    "backward not reversed": fault(
        "the backward turns forward once more", backward=lambda self, dY: {"X": self.turn(dY, 1)}
    ),
    "backward not turned": fault("the backward hands the cotangent on", backward=lambda self, dY: {"X": dY}),
    "turned the other way": fault(
        "positions turn by −mθ",
        forward=lambda self: self.turn(self.i["X"], -1),
        backward=lambda self, dY: {"X": self.turn(dY, 1)},
    ),
    "positions from 1": fault("positions are counted from 1", positions=lambda self, N: Rotary.positions(self, N) + 1),
    "positions not used": fault("the given positions are not used", positions=lambda self, N: np.arange(N)),
    "positions of batch 0": fault(
        "all of the batch have the positions of the first",
        positions=lambda self, N: Rotary.positions(self, N).reshape(-1, N)[0],
    ),
    "base not used": fault(
        "the base is 10,000 always", frequencies=lambda self, half: 10000 ** (-np.arange(half) / half)
    ),
    "exponent halved": fault(
        "the frequencies fall half as fast",
        frequencies=lambda self, half: self.o["base"] ** (-np.arange(half) / half / 2),
    ),
    "frequencies from 1": fault(
        "pair i has the frequency of pair i + 1",
        frequencies=lambda self, half: self.o["base"] ** (-np.arange(1, half + 1) / half),
    ),
}

SOFTMAX = {
    name: ATTENTION[name]
    for name in ("no row sum", "row sum unweighted", "row sum as a mean", "column sum", "mask not used")
} | {
    "softmax over columns": fault("the sum runs over the first axis", total=lambda self, p: p.sum(-2, keepdims=True)),
    "dead row NaN": fault("a row that sees nothing is NaN", total=lambda self, p: p.sum(-1, keepdims=True)),
    "no maximum": fault("the row's maximum is not subtracted", maximum=lambda self, E: 0.0),
    "one maximum": fault("the maximum of all rows is subtracted", maximum=lambda self, E: E.max()),
    "diagonal softmax": fault("the backward is A (1 − A) dA", d_scores=lambda self, dA: self.A * (1 - self.A) * dA),
    "divided by rows": fault(
        "the gradient is divided by the number of rows", d_scores=lambda self, dA: Softmax.d_scores(self, dA) / len(dA)
    ),
    "mask polarity": fault("True hides in place of shows", seen=_seen(lambda o, _: {"mask": ~o["mask"]})),
}

RMS_NORM = {
    "ε outside the root": fault("ε is added after the root", inverse=lambda self, v: 1 / (np.sqrt(v) + self.o["eps"])),
    "ε not used": fault("ε is not used", inverse=lambda self, v: 1 / np.sqrt(v)),
    "sum of squares": fault(
        "the sum of squares takes the place of their mean", variance=lambda self, X: np.square(X).sum(-1, keepdims=True)
    ),
    "γ not used": fault("γ is not used", scaled=lambda self, x: x, d_scaled=lambda self, dY: dY),
    "1 + γ": fault(
        "1 + γ takes the place of γ",
        scaled=lambda self, x: (1 + self.i["gamma"]) * x,
        d_scaled=lambda self, dY: (1 + self.i["gamma"]) * dY,
    ),
    "γ lost in backward": fault("the backward lacks γ", d_scaled=lambda self, dY: dY),
    "γ outside the sums": fault(
        "γ stands outside the sums of the backward",
        d_inputs=lambda self, dY: self.i["gamma"] * self.r * (dY - self.mean_part(dY) - self.spread_part(dY)),
    ),
    "spread part lost": fault("the backward takes the root for a constant", spread_part=lambda self, dx: 0.0),
    "spread part not divided": fault(
        "the backward has a sum where a mean belongs",
        spread_part=lambda self, dx: self.x * (dx * self.x).sum(-1, keepdims=True),
    ),
    "dγ without x̂": fault("the gradient of γ is that of β", d_gamma=lambda self, dY: self.sum_to(dY, self.i["gamma"])),
    "dγ averaged": fault(
        "the gradient of γ is a mean over rows",
        d_gamma=lambda self, dY: RMSNorm.d_gamma(self, dY) * self.i["gamma"].size / dY.size,
    ),
    "root lost in backward": fault(
        "the backward lacks 1/√(v + ε)", d_inputs=lambda self, dY: RMSNorm.d_inputs(self, dY) / self.r
    ),
}

LAYER_NORM = {name: RMS_NORM[name] for name in RMS_NORM} | {
    "unbiased variance": fault(
        "the variance is divided by D − 1",
        variance=lambda self, X: np.square(X).sum(-1, keepdims=True) / (X.shape[-1] - 1),
    ),
    "not centred": fault("the mean is not subtracted", centre=lambda self, X: X),
    "mean part lost": fault("the backward takes the mean for a constant", mean_part=lambda self, dx: 0.0),
    "dβ with x̂": fault(
        "the gradient of β is that of γ", d_beta=lambda self, dY: self.sum_to(dY * self.x, self.i["beta"])
    ),
}

CROSS_ENTROPY = {
    "ignored counted": fault("ignored positions count in the mean", count=lambda self: self.o["targets"].size),
    "ignored not left out": fault(
        "ignored positions have a loss", counted=lambda self: np.ones(self.o["targets"].shape, bool)
    ),
    "none counted": fault("without a position that counts, the loss is 0/0", count=lambda self: self.counted().sum()),
    "sum for mean": fault("the loss is a sum", count=lambda self: 1.0),
    "mean in forward alone": fault(
        "the gradient is not divided by the number of positions",
        d_logits=lambda self, dY: CrossEntropy.d_logits(self, dY) * self.count(),
    ),
    "mean twice": fault(
        "the gradient is divided by the number of positions twice",
        d_logits=lambda self, dY: CrossEntropy.d_logits(self, dY) / self.count(),
    ),
    "smoothing not used": fault("the smoothing is not used", wanted=lambda self, V: _hot(self, V)),
    "smoothing of V − 1": fault("ε is shared by the V − 1 wrong classes", wanted=lambda self, V: _fairseq(self, V)),
    "smoothing in forward alone": fault(
        "the gradient has no smoothing",
        d_logits=lambda self, dY: (
            (np.exp(self.logs) - _hot(self, self.logs.shape[-1])) * self.counted()[..., None] * dY / self.count()
        ),
    ),
    "cotangent not used": fault(
        "the gradient ignores its cotangent", d_logits=lambda self, dY: CrossEntropy.d_logits(self, np.ones(()))
    ),
    "sign": fault("the gradient is q − p", d_logits=lambda self, dY: CrossEntropy.d_logits(self, -dY)),
    "bits": fault("the logarithm has base 2", log_p=lambda self, z: CrossEntropy.log_p(self, z) / np.log(2)),
    "log of 0": fault(
        "the loss is −∞ · 0 where a probability is 0", log_p=lambda self, z: np.log(np.exp(CrossEntropy.log_p(self, z)))
    ),
}

FAULTS: dict[str, dict[str, Fault]] = {
    "attention": ATTENTION,
    "rotary": ROTARY,
    "softmax": SOFTMAX,
    "layer_norm": LAYER_NORM,
    "rms_norm": RMS_NORM,
    "cross_entropy": CROSS_ENTROPY,
    **model_faults.FAULTS,
}
