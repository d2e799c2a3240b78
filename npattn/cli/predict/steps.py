"""The probability of each symbol that a model wrote, and of the likeliest others."""

from __future__ import annotations

import math
from typing import Any

from npattn.cli.terminal import pad_right, width
from npattn.runs.prediction import Step
from npattn.tasks.vocabulary import EOS, SPECIALS

#: So many of the likeliest other symbols are listed for a step; <eos> is listed besides.
RUNNERS_UP = 3


def explanation(steps: list[Step]) -> dict[str, Any]:
    """Return log P of the target that was written, in nats, and the probabilities of each step."""
    chosen = [step.probabilities[step.symbol] for step in steps]
    told = [{"symbol": s.symbol, "probability": p, "others": others(s)} for s, p in zip(steps, chosen, strict=True)]
    return {"log_probability": sum(map(math.log, chosen)), "steps": told}


def others(step: Step) -> dict[str, float]:
    """Return the probabilities of the likeliest symbols that a step did not write, and of <eos>.

    <pad> and <bos> have probabilities too, but no search writes them.
    """
    rest = [(name, p) for name, p in step.probabilities.items() if name not in (step.symbol, *SPECIALS[:EOS])]
    return dict(rest[:RUNNERS_UP] + [(name, p) for name, p in rest if name == SPECIALS[EOS]])


def step_lines(steps: list[Step]) -> list[str]:
    """Return the steps as text: the symbol that each wrote, the likeliest others, and the probability of the whole."""
    rows = [{step.symbol: step.probabilities[step.symbol]} | others(step) for step in steps]
    margin = max(width(name) for row in rows for name in row) + 1
    lines = ["  " + "   ".join(f"{pad_right(name, margin)}{p:.4f}" for name, p in row.items()) for row in rows]
    log_p = explanation(steps)["log_probability"]
    return [*lines, f"  P = {math.exp(log_p):.4f}, the product of the first column; log P = {log_p:.4f}"]
