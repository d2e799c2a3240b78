"""Adam, and with `weight_decay` AdamW.

**Update**, for every parameter p with gradient g, in step t = 1, 2, …

    m ← β₁ m + (1 − β₁) g            v ← β₂ v + (1 − β₂) g²
    m̂ = m / (1 − β₁ᵗ)                v̂ = v / (1 − β₂ᵗ)
    p ← (1 − lr·λ) p                 λ: weight decay, decoupled from the gradient
    p ← p − lr · m̂ / (√v̂ + ε)

**Why moments.** Plain gradient descent, p ← p − lr · g, has two troubles. Gradients of small batches are noisy. And
their sizes differ by powers of ten from one parameter to the next, so no lr suits all. m and v, the first and second
moment, answer one trouble each:

- m is a running mean of g. What changes its sign from step to step cancels, what keeps its sign stays.
- v is a running mean of g², so √v is the usual size of g. In m̂/√v̂ the size cancels: multiply every g by 1000, and the
  step stays the same (but for ε).

So m̂/√v̂ is ±1 where all gradients agree, near 0 where they only change their signs. With the usual β₁ and β₂, a
parameter moves by about lr at most. `figures/adam.py` draws an experiment, the example below is one by hand.

**Why the corrections.** m and v start at 0. They are weighted sums of gradients and of their squares, and the weights
add up to 1 − βᵗ. Dividing by 1 − βᵗ turns the sums into averages, from the first step on.

**As computed.** With c = √(1 − β₂ᵗ) we have √v̂ = √v / c. Multiplying numerator and denominator by c saves one pass over
the memory:

    lr · m̂ / (√v̂ + ε)  =  (lr · c / (1 − β₁ᵗ)) · m / (√v + c·ε)

The factor c of ε matters. Without it (the shortcut at the end of section 2 of the paper) ε is 1/c times larger: seven
times in the first step at β₂ = 0.98. And ε is outside the root: inside, it would act like √ε, which is even larger.

An m or v below the smallest normal number becomes 0, where that can't change the update beside ε. Without gradients
both shrink to such numbers, and would stay there at several times the cost.

**Shapes.** p may have any shape; g, m and v have the shape of p. √, division and products are elementwise.

**Raises.** ValueError and TypeError, with the name of the parameter; see `Adam` and its methods.

**Source.** Kingma, Ba 2015, "Adam", Algorithm 1; Loshchilov, Hutter 2019, "Decoupled Weight Decay Regularization",
Algorithm 2 (with the rate multiplied in, as in PyTorch). The defaults of β₂ and ε are those of Vaswani et al. 2017,
section 5.3.

By hand: β₁ = β₂ = ½. Four gradients of 100, and four of 0.01, have m̂/√v̂ = 1 in each step, so both parameters move by
lr a step. Four gradients that alternate between 100 and −100 have m̂/√v̂ = 1, −⅓, 3/7, −⅓. The sum is 0.762, less than
one step. For the second: m = ½·½·100 − ½·100 = −25, over 1 − ½² = ¾ that is −33⅓, and √v̂ is 100.

>>> params = {name: np.array([0.0]) for name in ("large", "small", "alternating")}
>>> adam = Adam(params, lr=0.1, betas=(0.5, 0.5))
>>> for sign in (1, -1, 1, -1):
...     adam.step({"large": np.array([100.0]), "small": np.array([0.01]), "alternating": np.array([100.0 * sign])})
>>> {name: round(float(p[0]), 4) for name, p in params.items()}
{'large': -0.4, 'small': -0.4, 'alternating': -0.0762}
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
    check_flag,
    check_number,
    differences,
    is_array,
    kind_of,
    layout_of,
    shown,
)
from npattn._internal.system.underflow import drop_subnormal
from npattn.optim.buffers import (
    PIECE,
    SHARED_PIECE,
    check_floats,
    check_unshared,
    check_writeable,
    pieces,
    run_in_pool,
    spans,
    zeros_like,
)
from npattn.optim.clipping import check_finite, largest, sum_of_squares

if TYPE_CHECKING:
    from concurrent.futures import Executor

#: Hyperparameters must be normal numbers in float32 too: with ε = 0, a gradient of 0 would give 0/0.
SMALLEST, LARGEST = 2.0**-126, 2.0**127


def is_matrix(name: str, parameter: Array) -> bool:
    """Return whether weight decay applies by default: to weights and embeddings, not to biases, γ and β.

    - name: the name of the parameter; it does not matter here.
    - parameter: an array of any shape; (in, out) and (V, D) are decayed, (D,) is not.

    Weight decay pulls numbers towards 0. For a bias or the scale of a layer norm that shifts or silences its unit, and
    it regularises nothing. Raises TypeError for what is no NumPy array.

    >>> is_matrix("W", np.zeros((3, 4))), is_matrix("b", np.zeros(4))
    (True, False)
    """
    if not is_array(parameter):
        raise TypeError(f"parameter: expected a NumPy array, got {kind_of(parameter)}")
    return parameter.ndim >= 2


class Adam:
    """The Adam optimiser. Each step updates the parameters in place.

    - params: float32 or float64 arrays by name, of any shape; m and v get the dtype and memory layout of each.
    - lr: the learning rate; `step` can take another one.
    - betas: β₁ and β₂, the decay of m and v per step; from 0 to 1, without 1.
    - eps: ε, which keeps the division finite where v is 0; above 0.
    - weight_decay: λ; 0 decays nothing.
    - decay: a function of name and parameter that returns whether λ applies. By default it does for arrays of two axes
      or more (`is_matrix`); PyTorch's AdamW is `decay=lambda name, parameter: True`.

    Raises ValueError for a hyperparameter out of range, a read-only array, and two names with common memory, which
    would be updated twice; TypeError for arrays that are not float32 or float64, and for arguments of another type.

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
        self._layout = layout_of("params", params)
        check_floats("params:", self._layout)
        check_unshared("params", params)
        self.params = params
        self.lr = check_number("lr", lr, 0, LARGEST)
        self.betas = _checked_betas(betas)
        self.eps = check_number("eps", eps, SMALLEST, LARGEST)
        self.weight_decay = check_number("weight_decay", weight_decay, 0, LARGEST)
        self.t = 0
        if not callable(decay):
            raise TypeError(f"decay: expected a function of name and parameter, got {shown(decay)}")
        self._decayed = [name for name, array in params.items() if check_flag(f"decay of {name!r}", decay(name, array))]
        self._m, self._v = zeros_like(params), zeros_like(params)

    def step(self, grads: Params, lr: float | None = None, *, pool: Executor | None = None) -> None:
        """Take one step of the algorithm.

        - grads: the gradient of every parameter, with the same names, shapes and dtypes.
        - lr: the learning rate of this step; None takes that of the optimiser.
        - pool: a thread pool that shares the work; None uses this thread alone. The result has the same bits.

        Everything is checked before anything is changed. Raises ValueError for missing, unexpected and misshaped names
        (one message lists them all), for a gradient with NaN or inf, for one whose square overflows, and for a rate out
        of range; TypeError for arguments of another type.
        """
        lr = self.lr if lr is None else check_number("lr", lr, 0, LARGEST)
        _check_layout("gradients", grads, self._layout)
        _check_layout("params", self.params, self._layout)
        check_writeable("params", self.params)
        _check_squares(grads, pool)
        self.t += 1
        if self.weight_decay:
            with np.errstate(under="ignore"):
                for name in self._decayed:
                    parameter = self.params[name]
                    parameter *= 1 - lr * self.weight_decay
        c = math.sqrt(1 - self.betas[1] ** self.t)
        rate = lr * c / (1 - self.betas[0] ** self.t)
        length = PIECE if pool is None else SHARED_PIECE
        update = partial(_update, betas=self.betas, rate=rate, eps=c * self.eps, length=length)
        run_in_pool(pool, update, spans(self.params, grads, self._m, self._v))

    def state_dict(self) -> dict[str, Array]:
        """Return copies of t, m and v for a checkpoint, under the names `t`, `m.<name>` and `v.<name>`.

        m and v have the shapes of the parameters. The hyperparameters are not included: they belong to the call that
        makes the optimiser.
        """
        return {"t": np.array(self.t, np.int64)} | {name: array.copy() for name, array in self._moments().items()}

    def load_state_dict(self, state: Params) -> None:
        """Continue from a copy of an earlier state.

        - state: what `state_dict` returned, from an optimiser with the same parameters.

        Raises ValueError for missing, unexpected and misshaped names (one message lists them all), and for numbers that
        no step can produce; TypeError for what is no mapping of names to arrays. After an error nothing is changed.
        """
        moments = self._moments()
        expected: dict[str, Spec] = {"t": ((), np.dtype(np.int64))}
        expected |= {name: (array.shape, array.dtype) for name, array in moments.items()}
        _check_layout("optimiser state", state, expected)
        if state["t"] < 0:
            raise ValueError(f"optimiser state: 't': expected 0 or more, got {state['t']}")
        for name in self._layout:
            m, v = state[f"m.{name}"], state[f"v.{name}"]
            if not (np.isfinite(m).all() and np.isfinite(v).all() and (v >= 0).all()):
                raise ValueError(f"optimiser state: {name!r}: expected finite m and v, and v of 0 or more")
        self.t = int(state["t"])
        for name, array in moments.items():
            array[...] = state[name]

    def _moments(self) -> dict[str, Array]:
        """Return m and v of every parameter under their names in a state."""
        both = (("m", self._m), ("v", self._v))
        return {f"{letter}.{name}": array for letter, moment in both for name, array in moment.items()}


def _check_layout(what: str, arrays: Params, expected: Layout) -> None:
    """Raise a ValueError that lists all names, shapes and dtypes that are not as expected."""
    wrong = differences(layout_of(what, arrays), expected)
    if wrong:
        raise ValueError(f"{what}: {wrong}")


def _update(
    p: Array, g: Array, m: Array, v: Array, betas: tuple[float, float], rate: float, eps: float, length: int
) -> None:
    """p ← p − rate · m / (√v + eps), in pieces that stay in the cache of the processor for all operations."""
    b1, b2 = betas
    scratch = np.empty(min(length, p.size), p.dtype)
    limits = np.finfo(p.dtype)
    is_negligible = eps > math.sqrt(limits.tiny) / limits.eps   # a subnormal m, or the root of such a v, beside ε
    underflows: list[str] = []
    with np.errstate(under="call", call=lambda kind, _: underflows.append(kind)):
        for p_, g_, m_, v_ in pieces([p, g, m, v], write=[True, False, True, True], length=length):
            s = scratch[: p_.size]
            underflows.clear()
            m_ *= b1
            v_ *= b2
            if underflows and is_negligible:                  # without gradients m and v would stay subnormal for good
                drop_subnormal(m_)
                drop_subnormal(v_)
            np.multiply(g_, 1 - b1, out=s)
            m_ += s
            np.multiply(g_, g_, out=s)
            s *= 1 - b2
            v_ += s
            np.sqrt(v_, out=s)
            s += eps
            np.divide(m_, s, out=s)
            s *= rate
            p_ -= s


def _checked_betas(betas: tuple[float, float]) -> tuple[float, float]:
    """Return β₁ and β₂. Raise unless they are two numbers in range."""
    try:
        b1, b2 = betas
    except (TypeError, ValueError):
        raise TypeError(f"betas: expected two numbers, got {shown(betas)}") from None
    return check_number("betas[0]", b1, 0, 1), check_number("betas[1]", b2, 0, 1)


def _check_squares(grads: Params, pool: Executor | None) -> None:
    """Raise a ValueError for gradients that would put NaN or inf into v, where they would stay for ever."""
    if math.isfinite(sum_of_squares(grads, pool)):  # one quick pass; the sum can overflow although no square does
        return
    check_finite(grads)
    for name, array in grads.items():
        if largest(array) > math.sqrt(np.finfo(array.dtype).max):
            raise ValueError(
                f"gradient of {name!r}: its largest entry {largest(array):.3g} overflows {array.dtype} "
                "when Adam squares it: clip the gradients first"
            )
