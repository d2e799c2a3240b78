"""Tell rounding noise from an error.

Some gradients are zero in mathematics and noise in numbers: a key bias shifts all scores of a query alike, and the
softmax does not see it. Others are ill-conditioned and known to fewer digits than the tolerance asks for. Relative to
itself noise is always wrong; an absolute tolerance would let it pass, and every tiny gradient with it.

So the comparison is repeated at replicas of the point, with all arguments moved by 1e-7 of their size. The difference
between analytic and numeric slope stays what it is if the derivative is wrong, however small; it is drawn afresh if
it is rounding. Noise is a difference whose mean over the replicas does not stand out of its own spread. It passes if
it is less than 1e-4 of the gradient, or a billion times smaller than the neighbours of the gradient; the report states
it. A gradient that is nothing but noise has the verdict "zero".

The neighbours of a gradient are measured by effect, |gradient|·|argument|, the change of the loss when the argument
changes by its own size: the largest effect among the arguments, and the size of the loss, here and at another point,
in case that it vanishes here. They scale with the loss, so a zero in place of the gradient of a loss of 1e-6 does not
pass. Far below them, rounding need not vary between replicas: 1 − A, where A is almost 1, is a multiple of eps.

- A difference below eps of the neighbours is rounding. A gradient that is itself below 16 eps of them cannot change
  any digit of the loss, and is called zero; a saturated softmax loses such gradients to underflow.
- A difference below 1e-9 of them that stays is given another chance at replicas 1e-2 away, where it is taken relative
  to the slope there: an error keeps its sign and size, rounding does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npattn._types import Array
from npattn.gradcheck.numeric import Loss, nudged
from npattn.gradcheck.probes import Measure, Probe, analytic_slope
from npattn.gradcheck.report import Verdict

REPLICAS = 8
NEAR, FAR = 1e-7, 1e-2
EPS = float(np.finfo(np.float64).eps)
INVISIBLE = 16 * EPS  # relative to the neighbours, like the next
TINY = 1e-9
MUCH_NOISE = 1e-4  # of the gradient


class Replicas:
    """Points near that of `loss`, made when they are first needed, and the comparison repeated there."""

    def __init__(
        self, loss: Loss, measure: Measure, gradients: Sequence[Array], rng: np.random.Generator
    ) -> None:
        self.loss, self.measure, self.gradients, self.rng = loss, measure, gradients, rng
        self._made: dict[float, list[tuple[Loss, list[Array]]]] = {NEAR: [], FAR: []}

    def judge(self, suspects: Sequence[Probe], neighbours: Sequence[float]) -> tuple[Verdict, float]:
        """Return the verdict on probes beyond the tolerance, and the noise relative to the gradient.

        `neighbours` holds, for each, the slope that an argument of the largest effect would have there.
        """
        errors = np.array([suspect.error for suspect in suspects])
        neighbour = np.array(neighbours) / [suspect.scale or 1.0 for suspect in suspects]
        if np.all(INVISIBLE * neighbour >= 1) and np.isfinite(errors).all():
            return "zero", 0.0
        visible = errors > EPS * neighbour
        if not visible.any():
            return "ok", float(errors.max())
        errors, neighbour = errors[visible], neighbour[visible]
        suspects = [suspect for suspect, is_visible in zip(suspects, visible, strict=True) if is_visible]
        noise, is_fixed = self._repeated(suspects, NEAR)
        if is_fixed and np.all(errors <= TINY * neighbour):
            noise, is_fixed = float(errors.max()), self._repeated(suspects, FAR)[1]
        if is_fixed or np.any(errors > 30 * np.maximum(noise, EPS * neighbour)):
            return "wrong", 0.0
        if noise > MUCH_NOISE and np.any(noise > TINY * neighbour):
            return "noisy", noise
        return ("zero" if 30 * noise >= 1 else "ok"), noise

    def looks_like_noise(self, leaf: int) -> bool:
        """Say whether a gradient changes so much beside the point that it can only be noise."""
        here = self.gradients[leaf]
        away = [np.linalg.norm(gradients[leaf] - here) for _, gradients in self._take(2, NEAR)]
        return bool(min(away) > 0.1 * np.linalg.norm(here))

    def _repeated(self, probes: Sequence[Probe], distance: float) -> tuple[float, bool]:
        """Return the noise, relative to the gradient, and whether one of the differences stands out of it."""
        differences = np.array([self._differences(probe, distance) for probe in probes])
        spread = float(np.sqrt(differences.var(axis=1, ddof=1).mean()))
        noise = max(spread, *(probe.numeric.doubt / probe.scale for probe in probes))
        return noise, not np.all(abs(differences.mean(axis=1)) <= 3 * noise)

    def _differences(self, probe: Probe, distance: float) -> list[float]:
        relative = []
        for loss, gradients in self._take(REPLICAS, distance):
            analytic = analytic_slope(gradients, probe.direction)
            numeric = self.measure(loss, probe.direction, probe.scale).value
            here = max(analytic, numeric, key=abs)  # with its sign, for a slope may change it on the way
            scale = probe.scale if distance == NEAR else here
            relative.append((analytic - numeric) / scale if scale else 0.0)
        return relative

    def _take(self, n: int, distance: float) -> list[tuple[Loss, list[Array]]]:
        made = self._made[distance]
        while len(made) < n:
            values = nudged(self.loss.values, distance, self.rng)
            loss = Loss(self.loss.pair, values, self.loss.cotangent, self.loss.size)
            made.append((loss, loss.gradients()))
        return made[:n]
