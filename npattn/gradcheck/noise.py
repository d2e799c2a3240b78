"""Distinguish rounding noise from a wrong gradient.

**Problem.** Some gradients are zero in mathematics, and backward returns rounding errors for them. Example: a key bias
adds one number to all scores of a query, and the softmax does not change when all scores shift. Other gradients are
ill-conditioned: rounding in forward leaves fewer correct digits than the tolerance requires. The relative error of such
a gradient is large although backward is right. An absolute tolerance would accept it. But it would also accept every
wrong gradient that is small.

**Method.** The comparison is repeated at 8 *replicas*. A replica is a point near the arguments: every number is moved
by about 1e-7 of its size (1e-5 for central differences). At each replica, d = analytic slope − numeric slope.

- If the derivative is wrong, d is about the same at every replica, however small it is.
- If d is rounding, d is a new random number at every replica.

The *noise* is the standard deviation of d. The gradient is wrong if the mean of d is larger than 3 times the noise, or
if the error at the arguments is larger than 30 times the noise. Otherwise d is noise. Noise is accepted up to 1e-4 of
the gradient, or up to 1e-9 of the reference slope below, and the report states it. More noise has the verdict "noisy".
A gradient smaller than 30 times its noise has the verdict "zero".

**Reference slope.** The *effect* of an argument is |gradient|·|argument|: how much the loss changes when the argument
changes by its own size. The reference slope along a direction is the slope that an argument with the largest effect
would have. The size of the loss counts as an effect too, here and at another point, because it can be zero here.
Effects scale with the loss. So a gradient of zero does not pass for a loss of size 1e-6.

The gradient of a saturated argument is small, but the numbers it is computed from are not. Therefore, if a gradient is
below 1e-6 of the reference slope, its argument is also scaled down to a size of 1e-3, and the gradient there counts as
a reference slope too.

**Rounding that is the same at all replicas.** Far below the reference slope, rounding need not vary. Example: if A is
almost 1, 1 − A is a multiple of eps. Three rules cover this.

- A gradient below 16 eps of the reference slope changes no digit of the loss. Its verdict is "zero". A saturated
  softmax returns such gradients as exact zeros.
- A difference below 4 eps of the reference slope is rounding.
- A difference that does not vary, but is below 1e-9 of the reference slope, is measured again at replicas 1e-2 away,
  relative to the slope there. An error keeps its sign and size there. Rounding does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.numeric import SINGLE, Loss
from npattn.gradcheck.points import largest_finite, norm, perturbed
from npattn.gradcheck.probes import Measure, Probe, analytic_slope
from npattn.gradcheck.report import Verdict

REPLICAS = 8
FAR = 1e-2  # distance of the far replicas
SMALL = 1e-3  # size to which a saturated argument is scaled


class Limits(NamedTuple):
    """Above them, noise is too much to judge; below the last two, a gradient is small beside the reference slope."""

    much_noise: float  # relative to the gradient
    tiny: float  # relative to the reference slope, as the next
    faint: float


IN_DOUBLE, IN_SINGLE = Limits(1e-4, 1e-9, 1e-6), Limits(1e-2, 1e-2, 1e-2)


class Replicas:
    """Repeats the comparison at points near that of `loss`. A point is computed when it is first used.

    `near` is the distance of the near replicas, relative to the size of every number.
    """

    def __init__(
        self, loss: Loss, measure: Measure, gradients: Sequence[Array], near: float, rng: np.random.Generator
    ) -> None:
        self.loss, self.measure, self.gradients, self.near, self.rng = loss, measure, gradients, near, rng
        self.invisible, self.blurred = 16 * loss.pair.eps, 4 * loss.pair.eps
        self.limits = IN_SINGLE if loss.pair.eps == SINGLE else IN_DOUBLE
        self._unsaturated: dict[int, float] = {}
        self._made: dict[float, list[tuple[Loss, list[Array]]]] = {near: [], FAR: []}

    def judge(self, failing: Sequence[Probe], references: Sequence[float]) -> tuple[Verdict, float]:
        """Return the verdict on probes whose errors exceed the tolerance, and the noise relative to the gradient.

        `references` holds the reference slope of each probe.
        """
        errors = np.array([probe.error for probe in failing])
        if not np.isfinite(errors).all():
            return "wrong", 0.0
        reference = np.array([self._reference(*pair) for pair in zip(failing, references, strict=True)])
        if np.all(self.invisible * reference >= 1):
            return "zero", 0.0
        visible = errors > self.blurred * reference
        if not visible.any():
            return "ok", float(errors.max())
        errors, reference = errors[visible], reference[visible]
        failing = [probe for probe, is_visible in zip(failing, visible, strict=True) if is_visible]
        noise, is_error = self._noise_nearby(failing, reference)
        if is_error and np.all(errors <= self.limits.tiny * reference):
            noise, is_error = errors, self._persists_far_away(failing)
        if is_error:
            return "wrong", 0.0
        largest = float(noise.max())
        if np.any((noise > self.limits.much_noise) & (noise > self.limits.tiny * reference)):
            return "noisy", largest
        return ("zero" if 30 * largest >= 1 else "ok"), largest

    def look_like_noise(self, leaves: Sequence[int]) -> bool:
        """Whether each gradient is zero, or changes by a tenth or more at two replicas: then it can only be noise."""
        replicas = [gradients for _, gradients in self._points(2, self.near)]
        return not any(
            norm(gradients[i] - self.gradients[i]) < 0.1 * norm(self.gradients[i])
            for i in leaves
            for gradients in replicas
        )

    def _reference(self, probe: Probe, reference: float) -> float:
        """Return the reference slope relative to the gradient, also with the argument scaled down if that is faint."""
        if probe.scale < self.limits.faint * reference and len(probe.direction) == 1:
            [(leaf, displacement)] = probe.direction.items()
            reference = max(reference, self._unsaturated_slope(leaf) * norm(displacement))
        return reference / probe.scale

    def _unsaturated_slope(self, leaf: int) -> float:
        """Return the largest |gradient| of an argument that is scaled down to a small size."""
        if leaf not in self._unsaturated:
            values = list(self.loss.values)
            values[leaf] = np.asarray(values[leaf] * (SMALL / max(1.0, self.loss.sizes[leaf])))
            gradients = Loss(self.loss.pair, values, self.loss.cotangent).gradients()
            self._unsaturated[leaf] = largest_finite(gradients[leaf])
        return self._unsaturated[leaf]

    def _noise_nearby(self, failing: Sequence[Probe], reference: Array) -> tuple[Array, bool]:
        """Return the noise of each probe, relative to the gradient, and whether any difference is larger than noise.

        Rounding is about equal relative to the reference slopes, so the variances are averaged on that scale. On the
        scale of the gradients, one probe that is all noise would hide an error of another.
        """
        analytic, numeric = self._slopes(failing, self.near)
        differences = (analytic - numeric) / np.array([[probe.scale] for probe in failing])
        # var and abs are safe here: the slopes are real numbers.
        deviation = reference * math.sqrt(np.mean(differences.var(axis=1, ddof=1) / reference**2))
        noise = np.maximum(deviation, [probe.numeric.uncertainty / probe.scale for probe in failing])
        persists = not np.all(abs(differences.mean(axis=1)) <= 3 * noise)
        return noise, persists or any(p.error > 30 * n for p, n in zip(failing, noise, strict=True))

    def _persists_far_away(self, failing: Sequence[Probe]) -> bool:
        """Whether a difference keeps its sign far away, or its ratio to a slope that may itself change sign."""
        analytic, numeric = self._slopes(failing, FAR)
        # std and abs are safe here: the slopes are real numbers.
        larger = np.maximum(abs(analytic), abs(numeric))
        scales = np.stack([larger, np.where(numeric, numeric, larger)])
        relative = (analytic - numeric) / np.where(scales, scales, 1.0)
        return not np.all(abs(relative.mean(axis=-1)) <= 3 * relative.std(axis=-1, ddof=1))

    def _slopes(self, probes: Sequence[Probe], distance: float) -> tuple[Array, Array]:
        """Return the analytic and the numeric slope for every probe and replica.

        Near replicas use the step that was best at the arguments.
        """
        replicas = self._points(REPLICAS, distance)
        steps = [p.numeric.step if distance == self.near else 0.0 for p in probes]
        analytic = [[analytic_slope(gradients, p.direction) for _, gradients in replicas] for p in probes]
        numeric = [
            [self.measure(loss, p.direction, p.scale, step).value for loss, _ in replicas]
            for p, step in zip(probes, steps, strict=True)
        ]
        return np.array(analytic), np.array(numeric)

    def _points(self, n: int, distance: float) -> list[tuple[Loss, list[Array]]]:
        """Return the first n replicas at this distance, each with the gradients that backward returns there."""
        made = self._made[distance]
        while len(made) < n:
            values = perturbed(self.loss.values, distance, self.rng)
            loss = Loss(self.loss.pair, values, self.loss.cotangent, self.loss.size, self.loss.sizes)
            made.append((loss, loss.gradients()))
        return made[:n]
