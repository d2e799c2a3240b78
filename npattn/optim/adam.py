"""Adam, and with `weight_decay` AdamW.

**Update**, for every parameter p with gradient g, in step t = 1, 2, …

    m ← β₁ m + (1 − β₁) g            v ← β₂ v + (1 − β₂) g²
    m̂ = m / (1 − β₁ᵗ)                v̂ = v / (1 − β₂ᵗ)
    p ← (1 − lr·λ) p                 λ: weight decay, decoupled from the gradient
    p ← p − lr · m̂ / (√v̂ + ε)

**Why the corrections.** m and v start at 0 and are sums of gradients, and of their squares, whose weights add up to
1 − βᵗ; dividing by that makes them averages from the first step on.

**As computed.** With c = √(1 − β₂ᵗ), so that √v̂ = √v / c, numerator and denominator are multiplied by c, and
one pass over the memory is saved:

    lr · m̂ / (√v̂ + ε)  =  (lr · c / (1 − β₁ᵗ)) · m / (√v + c·ε)

The c beside ε matters: without it (the shortcut at the end of section 2 of the paper) ε is 1/c times larger,
seven times in the first step at β₂ = 0.98. And ε stands outside the root: inside, it would act like √ε, which
is larger still.

**Shapes.** p of any shape; g, m and v of that of p. √, division and products go entry by entry.

**Raises.** ValueError and TypeError, by the name of the parameter; see `Adam` and its methods.

**Source.** Kingma, Ba 2015, "Adam", Algorithm 1; Loshchilov, Hutter 2019, "Decoupled Weight Decay
Regularization", Algorithm 2 (with the rate multiplied in, as in PyTorch). β₂ and ε by default as in Vaswani
et al. 2017, section 5.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from npattn._internal.checks import (
    Array,
    Layout,
    Params,
    Spec,
    check_number,
    differences,
    is_array,
    kind_of,
    layout_of,
    shown,
)
from npattn.optim.buffers import (
    CHUNK,
    FLOATS,
    SHARED_CHUNK,
    pieces,
    require_own,
    require_writeable,
    run_in_pool,
    spans,
    zeros_like,
)
from npattn.optim.clipping import largest, require_finite, sum_of_squares

if TYPE_CHECKING:
    from concurrent.futures import Executor

#: Hyperparameters must be numbers in float32 too: with an ε of 0 a gradient of 0 would give 0/0.
SMALLEST, LARGEST = 2.0**-126, 2.0**127


def is_matrix(name: str, parameter: Array) -> bool:
    """Tell whether weight decay applies by default: to weights and embeddings, not to biases, γ and β.

    A bias or a LayerNorm scale pulled towards 0 shifts or silences its unit and regularises nothing. So a `parameter`
    of shape (in, out) or (V, D) is decayed, one of shape (D,) is not; its name does not matter.

    >>> is_matrix("W", np.zeros((3, 4))), is_matrix("b", np.zeros(4))
    (True, False)
    """
    if not is_array(parameter):
        raise TypeError(f"parameter: expected a NumPy array, got {kind_of(parameter)}")
    return parameter.ndim >= 2


class Adam:
    """Adam over `params`, which it updates in place.

    `params` maps names to float32 or float64 arrays; m and v take the dtype and memory layout of each. Weight
    decay applies where `decay(name, parameter)` is true, by default to arrays of two axes or more
    (`is_matrix`); PyTorch's AdamW is `decay=lambda name, parameter: True`. `lr` may change from step to step.

    ValueError: a hyperparameter out of range, a read-only array, or one array under two names, which would be
    updated twice. TypeError: anything but float32 and float64.

    >>> params = {"w": np.array([1.0])}
    >>> adam = Adam(params, lr=0.1, betas=(0.5, 0.5))
    >>> adam.step({"w": np.array([2.0])})      # t = 1: m̂ = 2, v̂ = 4, so w moves by 0.1 · 2/2
    >>> params["w"].round(6)
    array([0.9])
    >>> adam.step({"w": np.array([-2.0])})     # t = 2: m̂ = (½·1 − ½·2) / ¾ = −2/3, v̂ = 4, so 0.1 · −1/3
    >>> params["w"].round(6)
    array([0.933333])
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-9,
        weight_decay: float = 0.0,
        *,
        decay: Callable[[str, Array], bool] = is_matrix,
    ) -> None:
        self._layout = _checked_layout(params)
        self.params = params
        self.lr = check_number("lr", lr, 0, LARGEST)
        self.betas = _checked_betas(betas)
        self.eps = check_number("eps", eps, SMALLEST, LARGEST)
        self.weight_decay = check_number("weight_decay", weight_decay, 0, LARGEST)
        self.t = 0
        if not callable(decay):
            raise TypeError(f"decay: expected a function of name and parameter, got {shown(decay)}")
        self._decayed = [name for name, array in params.items() if decay(name, array)]
        self._m, self._v = zeros_like(params), zeros_like(params)

    def step(self, grads: Params, lr: float | None = None, *, pool: Executor | None = None) -> None:
        """Take one step, at the rate `lr` if given; `grads` match the parameters in names, shapes and dtypes.

        The threads of `pool`, if given, share the work; the result is the same to the bit. Everything is checked
        before anything is changed. ValueError: missing, unexpected and misshaped names, all in one message; a
        gradient with NaN or inf, or so large that its square overflows, by name; a rate below 0.
        """
        lr = self.lr if lr is None else check_number("lr", lr, 0, LARGEST)
        self._check("gradients", grads)
        self._check("params", self.params)
        require_writeable("params", self.params)
        _check_squares(grads, pool)
        self.t += 1
        if self.weight_decay:
            with np.errstate(under="ignore"):
                for name in self._decayed:
                    parameter = self.params[name]
                    parameter *= 1 - lr * self.weight_decay
        c = math.sqrt(1 - self.betas[1] ** self.t)
        rate = lr * c / (1 - self.betas[0] ** self.t)
        chunk = CHUNK if pool is None else SHARED_CHUNK
        update = partial(_update, betas=self.betas, rate=rate, eps=c * self.eps, chunk=chunk)
        run_in_pool(pool, update, spans(self.params, grads, self._m, self._v))

    def state_dict(self) -> dict[str, Array]:
        """Return copies of t and the moments under `t`, `m.<name>`, `v.<name>`, ready for a checkpoint.

        The hyperparameters are not in it: they belong to the call that makes the optimiser.
        """
        state = {"t": np.array(self.t, np.int64)}
        for letter, moment in (("m", self._m), ("v", self._v)):
            state |= {f"{letter}.{name}": array.copy() for name, array in moment.items()}
        return state

    def load_state_dict(self, state: Params) -> None:
        """Go on from a copy of a `state_dict()`.

        ValueError, and nothing is changed: missing, unexpected and misshaped names, all in one message; numbers
        that no step can have left behind.
        """
        expected: dict[str, Spec] = {"t": ((), np.dtype(np.int64))}
        expected |= {f"{letter}.{name}": spec for letter in "mv" for name, spec in self._layout.items()}
        wrong = differences(layout_of("optimiser state", state), expected)
        if wrong:
            raise ValueError(f"optimiser state: {wrong}")
        if state["t"] < 0:
            raise ValueError(f"optimiser state: 't': expected 0 or more, got {state['t']}")
        for name in self._layout:
            m, v = state[f"m.{name}"], state[f"v.{name}"]
            if not (np.isfinite(m).all() and np.isfinite(v).all() and (v >= 0).all()):
                raise ValueError(f"optimiser state: {name!r}: expected finite m and v, and v of 0 or more")
        self.t = int(state["t"])
        for letter, moment in (("m", self._m), ("v", self._v)):
            for name, array in moment.items():
                array[...] = state[f"{letter}.{name}"]

    def _check(self, what: str, arrays: Params) -> None:
        wrong = differences(layout_of(what, arrays), self._layout)
        if wrong:
            raise ValueError(f"{what}: {wrong}")


def _update(
    p: Array, g: Array, m: Array, v: Array, betas: tuple[float, float], rate: float, eps: float, chunk: int
) -> None:
    """p ← p − rate · m / (√v + eps), in pieces that stay in the cache for all the operations on them."""
    b1, b2 = betas
    scratch = np.empty(min(chunk, p.size), p.dtype)
    with np.errstate(under="ignore"):                         # what is too small for its dtype may fade to 0
        for p_, g_, m_, v_ in pieces([p, g, m, v], write=[True, False, True, True], length=chunk):
            s = scratch[: p_.size]
            np.multiply(g_, 1 - b1, out=s)
            m_ *= b1
            m_ += s
            np.multiply(g_, g_, out=s)
            s *= 1 - b2
            v_ *= b2
            v_ += s
            np.sqrt(v_, out=s)
            s += eps
            np.divide(m_, s, out=s)
            s *= rate
            p_ -= s


def _checked_layout(params: Params) -> Layout:
    layout = layout_of("params", params)
    for name, (_, dtype) in layout.items():
        if dtype not in FLOATS:
            raise TypeError(f"params: {name!r}: expected float32 or float64, got {dtype}")
    require_own("params", params)
    return layout


def _checked_betas(betas: tuple[float, float]) -> tuple[float, float]:
    try:
        b1, b2 = betas
    except (TypeError, ValueError):
        raise TypeError(f"betas: expected two numbers, got {shown(betas)}") from None
    return check_number("betas[0]", b1, 0, 1), check_number("betas[1]", b2, 0, 1)


def _check_squares(grads: Params, pool: Executor | None) -> None:
    """Refuse gradients that would leave NaN or inf in v, where they would stay for ever."""
    if math.isfinite(sum_of_squares(grads, pool)):  # one quick pass; a sum can also overflow when no square does
        return
    require_finite(grads)
    for name, array in grads.items():
        if largest(array) > math.sqrt(np.finfo(array.dtype).max):
            raise ValueError(
                f"gradient of {name!r}: its largest entry {largest(array):.3g} overflows {array.dtype} "
                "when Adam squares it: clip the gradients first"
            )
