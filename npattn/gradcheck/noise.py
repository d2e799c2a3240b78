"""Tell rounding noise from an error.

Some gradients are zero in mathematics and noise in numbers: a key bias shifts all scores of a query alike, and the
softmax does not see it. Others are ill-conditioned and known to fewer digits than the tolerance asks for. Relative to
itself noise is always wrong; an absolute tolerance would let it pass, and every tiny gradient with it.

So the comparison is repeated at replicas of the point, with all arguments moved by 1e-7 of their size (1e-5 for central
differences). The difference between analytic and numeric slope stays what it is if the derivative is wrong, however
small; it is drawn afresh if it is rounding. Noise is a difference whose mean over the replicas does not stand out of
its own spread. It passes if it is less than 1e-4 of the gradient, or a billion times smaller than the neighbours of
the gradient; the report states it. A gradient that is nothing but noise has the verdict "zero".

The neighbours of a gradient are measured by effect, |gradient|·|argument|, the change of the loss when the argument
changes by its own size: the largest effect among the arguments, and the size of the loss, here and at another point,
in case that it vanishes here. They scale with the loss, so a zero in place of the gradient of a loss of 1e-6 does not
pass. Far below them rounding need not vary between replicas: 1 − A, where A is almost 1, is a multiple of eps.

- A difference below 4 eps of the neighbours is rounding. A gradient that is itself below 16 eps of them cannot change
  any digit of the loss, and is called zero: a saturated softmax loses such gradients altogether. What is large before
  the gradient of a saturated argument is its own gradient when it is small, so that counts as a neighbour too, if
  the gradient is a million times smaller than the others.
- A difference below 1e-9 of them that stays is given another chance at replicas 1e-2 away, where it is taken relative
  to the slope there: an error keeps its sign and size, rounding does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.numeric import Loss, norm, nudged
from npattn.gradcheck.probes import Measure, Probe, analytic_slope
from npattn.gradcheck.report import Verdict

REPLICAS = 8
FAR = 1e-2
SMALL = 1e-3
MUCH_NOISE = 1e-4  # relative to the gradient
TINY, FAINT = 1e-9, 1e-6  # relative to the neighbours, like the next
EPS = float(np.finfo(np.float64).eps)
INVISIBLE, BLURRED = 16 * EPS, 4 * EPS


class Replicas:
    """Points near that of `loss`, made when they are first needed, and the comparison repeated there."""

    def __init__(
        self, loss: Loss, measure: Measure, gradients: Sequence[Array], near: float, rng: np.random.Generator
    ) -> None:
        self.loss, self.measure, self.gradients, self.near, self.rng = loss, measure, gradients, near, rng
        self._unsaturated: dict[int, float] = {}
        self._made: dict[float, list[tuple[Loss, list[Array]]]] = {near: [], FAR: []}

    def judge(self, suspects: Sequence[Probe], neighbours: Sequence[float]) -> tuple[Verdict, float]:
        """Return the verdict on probes beyond the tolerance, and the noise relative to the gradient.

        `neighbours` holds, for each, the slope that an argument of the largest effect would have there.
        """
        errors = np.array([suspect.error for suspect in suspects])
        if not np.isfinite(errors).all():
            return "wrong", 0.0
        neighbour = np.array([self._reference(*pair) for pair in zip(suspects, neighbours, strict=True)])
        if np.all(INVISIBLE * neighbour >= 1):
            return "zero", 0.0
        visible = errors > BLURRED * neighbour
        if not visible.any():
            return "ok", float(errors.max())
        errors, neighbour = errors[visible], neighbour[visible]
        suspects = [suspect for suspect, is_visible in zip(suspects, visible, strict=True) if is_visible]
        noise, is_error = self._noise_nearby(suspects, neighbour)
        if is_error and np.all(errors <= TINY * neighbour):
            noise, is_error = errors, self._lasts_far_away(suspects)
        if is_error:
            return "wrong", 0.0
        largest = float(noise.max())
        if np.any((noise > MUCH_NOISE) & (noise > TINY * neighbour)):
            return "noisy", largest
        return ("zero" if 30 * largest >= 1 else "ok"), largest

    def look_like_noise(self, leaves: Sequence[int]) -> bool:
        """Say whether each gradient is zero, or changes so much beside the point that it can only be noise."""
        for i in leaves:
            away = [norm(gradients[i] - self.gradients[i]) for _, gradients in self._take(2, self.near)]
            if min(away) < 0.1 * norm(self.gradients[i]):
                return False
        return True

    def _reference(self, suspect: Probe, neighbour: float) -> float:
        """Return what is large before the gradient, relative to it."""
        if suspect.scale < FAINT * neighbour and len(suspect.direction) == 1:
            [(leaf, displacement)] = suspect.direction.items()
            neighbour = max(neighbour, self._unsaturated_slope(leaf) * norm(displacement))
        return neighbour / suspect.scale

    def _unsaturated_slope(self, leaf: int) -> float:
        """Return the largest |gradient| of an argument when it is small."""
        if leaf not in self._unsaturated:
            values = list(self.loss.values)
            values[leaf] = np.asarray(values[leaf] * (SMALL / max(1.0, self.loss.sizes[leaf])))
            gradient = Loss(self.loss.pair, values, self.loss.cotangent).gradients()[leaf]
            self._unsaturated[leaf] = float(np.max(np.nan_to_num(abs(gradient), posinf=0.0)))
        return self._unsaturated[leaf]

    def _noise_nearby(self, suspects: Sequence[Probe], neighbour: Array) -> tuple[Array, bool]:
        """Return the noise of each, relative to the gradient, and whether a difference stands out of it, there or here.

        Rounding is alike relative to the neighbours, so that is how the spread is pooled: one suspect may be all noise
        from a coarse step, and its scale with it, while another is a thousand times smaller.
        """
        analytic, numeric = self._slopes(suspects, self.near)
        differences = (analytic - numeric) / np.array([[suspect.scale] for suspect in suspects])
        # var and abs: the slopes are real, complex numbers have ended in them
        spread = neighbour * math.sqrt(np.mean(differences.var(axis=1, ddof=1) / neighbour**2))
        noise = np.maximum(spread, [suspect.numeric.doubt / suspect.scale for suspect in suspects])
        is_lasting = not np.all(abs(differences.mean(axis=1)) <= 3 * noise)
        return noise, is_lasting or any(p.error > 30 * n for p, n in zip(suspects, noise, strict=True))

    def _lasts_far_away(self, suspects: Sequence[Probe]) -> bool:
        """Say whether a difference keeps its sign, or its ratio to a slope whose sign may change on the way."""
        analytic, numeric = self._slopes(suspects, FAR)
        larger = np.maximum(abs(analytic), abs(numeric))
        for scale in (larger, np.where(numeric, numeric, larger)):
            relative = (analytic - numeric) / np.where(scale, scale, 1.0)
            if not np.all(abs(relative.mean(axis=1)) <= 3 * relative.std(axis=1, ddof=1)):
                return True
        return False

    def _slopes(self, probes: Sequence[Probe], distance: float) -> tuple[Array, Array]:
        """Return the analytic and the numeric slope for every probe and replica, nearby with the step used here."""
        replicas = self._take(REPLICAS, distance)
        steps = [p.numeric.step if distance == self.near else 0.0 for p in probes]
        analytic = [[analytic_slope(gradients, p.direction) for _, gradients in replicas] for p in probes]
        numeric = [
            [self.measure(loss, p.direction, p.scale, step).value for loss, _ in replicas]
            for p, step in zip(probes, steps, strict=True)
        ]
        return np.array(analytic), np.array(numeric)

    def _take(self, n: int, distance: float) -> list[tuple[Loss, list[Array]]]:
        made = self._made[distance]
        for _ in range(len(made), n):
            values = nudged(self.loss.values, distance, self.rng)
            loss = Loss(self.loss.pair, values, self.loss.cotangent, self.loss.size, self.loss.sizes)
            made.append((loss, loss.gradients()))
        return made[:n]
