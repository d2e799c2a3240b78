"""The frequencies of rotary positions: how far each pair of columns turns from one position to the next.

With R columns that turn, pair i = 0 … R/2 − 1 turns by θ_i for each position:

    θ_i = base^(−2i/R)                    wavelengths 2π/θ_i from 2π to nearly 2π·base

Beyond the length L of training, the slow pairs reach angles that training never showed. A scaling by s = new length/L
slows them down. Each is one of these, by the name in `scaling`:

    "linear"    θ'_i = θ_i / s            all pairs, so that positions 0 … s L turn as 0 … L did
    "ntk"       base' = base · s^(R/(R−2))                the first pair stays, the last one becomes θ/s
    "dynamic"   the same with s·n/L − (s − 1) for s       n is the present length, at least L
    "yarn"      θ'_i = θ_i (γ_i + (1 − γ_i)/s)            γ_i falls from 1 at pair `low` to 0 at pair `high`
    "llama3"    θ'_i = θ_i (γ_i + (1 − γ_i)/s)            γ_i rises with L θ_i/2π, the turns that pair i makes within L

**YaRN**  Pair number R ln(L/2πβ)/(2 ln base) makes β turns within L. `low` is that number for β = 32, `high` for β = 1,
rounded down and up unless `truncate` is False (gpt-oss), then kept within 0 … R − 1; an equal `high` grows by 0.001.
γ is linear in the pair index i, as in all code; the paper's own ramp is linear in the turns. cos **and** sin are
multiplied by the factor 0.1 ln s + 1, so the scores get its square.

**Llama 3**  γ_i = (turns − 1)/(4 − 1), cut off below 0 and above 1: pairs of fewer than one turn are divided by s,
those of more than four stay. 1 and 4 are `low_freq_factor` and `high_freq_factor` of its configuration.

**Conventions**  "dynamic" is Hugging Face's, which computes all frequencies anew when the sequence grows. Keys that are
in a cache keep their old angles, so decoding with a cache can't equal the full pass. Models in float32 round θ and the
angles: at position 10⁵ their angles are wrong by up to 0.01. Here they are in float64.

**Raises**  ValueError for an odd width and numbers out of range, TypeError for what is no number.

**Source**  Su et al. (2021), arXiv:2104.09864, §3.4.3; Chen et al. (2023), arXiv:2306.15595, for "linear"; Peng et al.
(2023), arXiv:2309.00071, for "ntk", "dynamic" (appendix A) and "yarn"; Grattafiori et al. (2024), arXiv:2407.21783, for
"llama3", whose formula is in the code of the model.

>>> rotary_frequencies(4, base=100.0)
RotaryFrequencies(theta=array([1. , 0.1]), factor=1.0)
>>> rotary_frequencies(4, base=100.0, scaling="linear", s=2).theta
array([0.5 , 0.05])
>>> rotary_frequencies(4, base=100.0, scaling="ntk", s=2).theta     # base' = 100 · 2²
array([1.  , 0.05])
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import (
    Array,
    check_choice,
    check_flag,
    check_number,
    check_room,
    check_size,
    shown,
)

#: Numbers must be numbers in float32 too.
LARGEST = 2.0**127
SCALINGS = ("none", "linear", "ntk", "dynamic", "yarn", "llama3")


class RotaryFrequencies(NamedTuple):
    """What `npattn.layers.rotary` and versions 9 to 13 take."""

    theta: Array         # (R/2,)  the angle of each pair of columns from one position to the next
    factor: float = 1.0  # multiplies cos and sin


def rotary_frequencies(
    rotary_width: int,
    *,
    base: float = 10000.0,
    scaling: str = "none",
    s: float = 1.0,
    original_length: int | None = None,
    length: int | None = None,
    turns: tuple[float, float] | None = None,
    truncate: bool = True,
    factor: float | None = None,
) -> RotaryFrequencies:
    """Return the frequencies θ (R/2,) in float64 and the factor of cos and sin; see the module for the formulas.

    - rotary_width: R, the number of columns that turn; even, and at most the width of a head.
    - base: the base of the frequencies.
    - scaling: "none", "linear", "ntk", "dynamic", "yarn" or "llama3".
    - s: by how much the length of training is exceeded, 1 or more.
    - original_length: L, the length of training, for "dynamic", "yarn" and "llama3".
    - length: n, the present length, for "dynamic"; None for no more than L.
    - turns: the least and the most turns within L between which frequencies are blended; None for (1, 32) with "yarn"
      and (1, 4) with "llama3".
    - truncate: True rounds the ends of the ramp of "yarn" to whole pairs.
    - factor: multiplies cos and sin; None for 0.1 ln s + 1 with "yarn" and 1 otherwise.

    Raises ValueError for an odd width, an unknown word and numbers out of range, TypeError for what is no number.

    >>> theta, factor = rotary_frequencies(8, base=1e4, scaling="yarn", s=4, original_length=64)
    >>> theta / rotary_frequencies(8, base=1e4).theta             # low = 0, high = 2: γ = 1, ½, 0, 0
    array([1.   , 0.625, 0.25 , 0.25 ])
    """
    R = check_size("rotary_width", rotary_width, least=2)
    check_room("rotary_width", R)
    check_choice("scaling", scaling, SCALINGS)
    if R % 2:
        raise ValueError(f"rotary_width: expected an even number, got {R}")
    if original_length is None and scaling in ("dynamic", "yarn", "llama3"):
        raise ValueError(f"original_length: expected the length of training for {scaling!r}, got None")
    base, s = check_number("base", base, 1, LARGEST, "()"), check_number("s", s, 1, LARGEST)
    L = check_size("original_length", 1 if original_length is None else original_length, least=1)
    n = check_size("length", L if length is None else length)
    turns = check_turns((1, 4 if scaling == "llama3" else 32) if turns is None else turns)
    truncate = check_flag("truncate", truncate)
    i = np.arange(R // 2)
    if scaling in ("ntk", "dynamic"):
        ratio = s if scaling == "ntk" else s * max(n, L) / L - (s - 1)
        base *= ratio ** (R / max(R - 2, 1))                  # R = 2 has one pair, θ_0 = 1 for every base
    theta = base ** (-2 * i / R)                              # (R/2,)
    if scaling == "linear":
        theta /= s
    if scaling in ("yarn", "llama3"):
        gamma = yarn_ramp(i, R, base, L, turns, truncate) if scaling == "yarn" else llama_ramp(L * theta, turns)
        theta *= gamma + (1 - gamma) / s
    if factor is None:
        factor = 0.1 * math.log(s) + 1 if scaling == "yarn" else 1.0
    return RotaryFrequencies(theta, check_number("factor", factor, -LARGEST, LARGEST))


def yarn_ramp(i: Array, R: int, base: float, L: int, turns: tuple[float, float], truncate: bool) -> Array:
    """γ (R/2,) of YaRN, linear in the pair i: 1 at the pair that makes the most turns within L, 0 at the least."""
    high, low = (R * math.log(L / (2 * math.pi * beta)) / (2 * math.log(base)) for beta in turns)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, R - 1)
    if low == high:
        high += 0.001
    return np.clip((high - i) / (high - low), 0, 1)


def llama_ramp(angle: Array, turns: tuple[float, float]) -> Array:
    """γ (R/2,) of Llama 3, linear in the turns that each pair makes: 0 at the least, 1 at the most."""
    least, most = turns
    return np.clip((angle / (2 * math.pi) - least) / (most - least), 0, 1)


def check_turns(turns: tuple[float, float]) -> tuple[float, float]:
    """Return the two numbers as floats. Raise unless the second is the greater one."""
    if not isinstance(turns, tuple) or len(turns) != 2:
        raise TypeError(f"turns: expected a tuple of two numbers, got {shown(turns)}")
    least, most = (check_number("turns", beta, 1 / LARGEST, LARGEST) for beta in turns)
    if least >= most:
        raise ValueError(f"turns: expected the smaller number first, got {shown(turns)}")
    return least, most
