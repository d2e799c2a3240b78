"""Compare all gradients at one point by one method.

An error is relative to the largest |gradient| of its array, or along a direction to ‖gradient‖. There is no absolute
tolerance: the gradient of a loss scaled by 1e-6 is checked as strictly as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck import precision
from npattn.gradcheck.noise import Replicas
from npattn.gradcheck.numeric import SINGLE, Direction, Loss, NotComplexSafe, Slope
from npattn.gradcheck.points import largest_finite, norm
from npattn.gradcheck.probes import DIRECTIONS, Probe, Prober
from npattn.gradcheck.report import Method, Verdict, listed

ENTRYWISE = 1000  # up to this many numbers in all arguments, every entry is compared
GROUPS = 12  # with more, arrays share random directions in about this many groups
METHOD_GROUPS = 4  # groups for the comparison of methods, which only has to distinguish 1 from 1 + 1e-6
AGREEMENT = 1e-6
NEAR: dict[Method, float] = {"complex-step": 1e-7, "central-difference": 1e-5}  # distance of replicas
NEAR_SINGLE = 1e-3  # in float32
NOISE = 1e-9  # more noise may come from float32
MAX_WORST = 4  # gradients that are measured again before they are called wrong, and searched for their wrong entry
MAX_FAILING = 4  # probes with the largest errors, which are compared with rounding noise
SHARED_NOISE = 1e-10  # more noise in a shared direction could come from one array and hide an error in another


class OnKink(Exception):
    """The slopes on the two sides differ along these leaves: there is no derivative at this point."""

    def __init__(self, leaves: Sequence[int]) -> None:
        super().__init__(leaves)
        self.leaves = set(leaves)


class InSingle(Exception):
    """The functions compute in float32."""


@dataclass(frozen=True)
class Finding:
    """The verdict on one gradient, and the measurements behind it."""

    leaf: int
    verdict: Verdict
    error: float = 0.0
    noise: float = 0.0
    coverage: str = "no entries"
    probes: tuple[Probe, ...] = ()

    @property
    def worst(self) -> Probe | None:
        return max(self.probes, key=lambda probe: probe.error, default=None)


class Trial:
    """One comparison of all gradients.

    `gradients` are those of the user's own call of backward. None computes them at the point of `loss`.
    """

    def __init__(
        self,
        loss: Loss,
        gradients: Sequence[Array] | None,
        method: Method,
        rtol: float,
        rng: np.random.Generator,
    ) -> None:
        self.loss, self.method, self.rtol = loss, method, rtol
        self.gradients = loss.gradients() if gradients is None else list(gradients)
        self.prober = Prober(loss, self._measure, self.gradients, rng)
        near = NEAR[method] if loss.pair.eps < SINGLE else NEAR_SINGLE
        self.replicas = Replicas(loss, self._measure, self.gradients, near, rng)
        self.measured: dict[tuple[int, ...], list[Probe]] = {}  # of groups, when the methods are compared
        self.entrywise = sum(value.size for value in loss.values) <= ENTRYWISE
        effects = [largest_finite(g) * size for g, size in zip(self.gradients, loss.sizes, strict=True)]
        self.effect = max(loss.size, *effects)

    def compare(self, leaves: Sequence[int], check_kinks: bool) -> list[Finding]:
        """Return a finding for each of these gradients.

        Raise NotComplexSafe, InSingle or OnKink if the method, the precision or the point does not suit forward.
        """
        in_double, point = self.loss.pair.eps < SINGLE, (self.loss, self.prober.rng)
        may_be_single = in_double and self.method != "complex-step"  # which gives way in float32
        if in_double and precision.is_single(self.gradients):
            raise InSingle
        if may_be_single and precision.output_is_single(*point):
            raise InSingle
        if self.method == "complex-step":
            self.compare_methods(leaves, check_kinks)
        findings = self.findings(leaves)
        bad = sorted((f for f in findings if f.verdict in ("wrong", "noisy")), key=lambda f: -f.error)
        is_noisy = bad or any(finding.noise > NOISE for finding in findings)
        if is_noisy and may_be_single and precision.rounds_like_single(*point):
            raise InSingle
        for finding in bad[:MAX_WORST]:
            self.confirm(finding, check_kinks)
        return findings

    def findings(self, leaves: Sequence[int]) -> list[Finding]:
        """Return a finding for each of these gradients."""
        found = [finding for group in self._groups(leaves, GROUPS) for finding in self._judge(group)]
        found += [Finding(i, "ok") for i in leaves if not self.gradients[i].size]
        return sorted(found, key=lambda finding: finding.leaf)

    def search(self, leaves: Sequence[int], far: bool) -> list[Finding]:
        """Return a finding for each wrong gradient, quickly if none is wrong: then one direction moves them all.

        Far from the arguments, an error that they hide is much larger than `AGREEMENT`. Beside them it may be as small
        as the square of the distance, so each gradient is compared to the tolerance.
        """
        rough = replace(self.prober, measure=self._measure_roughly)
        if not leaves or (far and rough.along(leaves).error <= AGREEMENT):
            return []
        suspects = [i for i in leaves if self.prober.along([i]).error > self.rtol]
        wrong = [finding for finding in self.findings(suspects) if finding.verdict == "wrong"]
        for finding in wrong[:MAX_WORST]:
            self.confirm(finding, check_kinks=True)
        return wrong

    def compare_methods(self, leaves: Sequence[int], check_kinks: bool) -> None:
        """Raise NotComplexSafe if complex step and central differences disagree, or OnKink if a kink is the reason."""
        kinks: list[int] = []
        for group in self._groups(leaves, METHOD_GROUPS):
            probe = self.prober.along(group)
            self.measured[tuple(group)] = [probe]
            slope, direction = probe.numeric, probe.direction
            if _agree(slope, self.loss.rough_slope(direction)):
                continue
            at_kink = [i for i in group if check_kinks and self.loss.has_kink({i: direction[i]})]
            if not at_kink and not _agree(slope, self.loss.central_slope(direction)):
                raise self._disagreement(group)
            kinks += at_kink
        if kinks:
            raise OnKink(kinks)

    def confirm(self, finding: Finding, check_kinks: bool) -> None:
        """Raise OnKink or NotComplexSafe if that, and not backward, is the reason for a wrong or noisy gradient."""
        probe = finding.worst
        if probe is None or not np.isfinite(probe.analytic):
            return
        if check_kinks and any(self.loss.has_kink(probe.direction, nearby) for nearby in (False, True)):
            raise OnKink([finding.leaf])
        if self.method == "complex-step":
            central = self.loss.central_slope(probe.direction, probe.scale)
            if not _agree(probe.numeric, central, probe.scale):
                raise self._disagreement([finding.leaf])

    def _groups(self, leaves: Sequence[int], limit: int) -> list[list[int]]:
        """Put each array in a group of its own, or several in one group if they are many and large.

        The gradients of a group have about the same effect on the loss. Otherwise the rounding noise of a small one
        would hide the slope of a large one. Gradients that are zero or noise have groups of their own.
        """
        leaves = [i for i in leaves if self.gradients[i].size]
        if self.entrywise or len(leaves) <= GROUPS:
            return [[i] for i in leaves]
        zero = [i for i in leaves if not self.gradients[i].any()]
        noise = [i for i in leaves if i not in zero and self.replicas.look_like_noise([i])]
        rest = (i for i in leaves if i not in zero and i not in noise)
        by_effect = sorted(rest, key=lambda i: norm(self.gradients[i]) * self.loss.sizes[i])
        shares = (list(map(int, share)) for share in np.array_split(by_effect, limit))
        return [group for group in (zero, noise, *shares) if group]

    def _judge(self, group: list[int]) -> list[Finding]:
        """Return the findings of a group, from common directions if all its gradients are right, else one by one."""
        if self.entrywise:
            probes, coverage = self.prober.every_entry(group[0]), f"{self.gradients[group[0]].size} entries"
        else:
            probes = list(self.prober.samples(group, self.measured.get(tuple(group), ())))
            coverage = f"{DIRECTIONS} directions, 2 entries"
        verdict, noise = self._verdict(probes)
        if len(group) > 1:
            coverage = f"{DIRECTIONS} directions of {len(group)} arguments"
            all_right = verdict == "ok" and noise <= SHARED_NOISE
            if not all_right and not (verdict == "zero" and self.replicas.look_like_noise(group)):
                return [finding for i in group for finding in self._judge([i])]
        own = {i: tuple(probe for probe in probes if i in probe.direction) for i in group}
        return [Finding(i, verdict, self._error(own[i], verdict), noise, coverage, own[i]) for i in group]

    def _verdict(self, probes: Sequence[Probe]) -> tuple[Verdict, float]:
        """Return the verdict on a gradient, and the noise relative to it."""
        failing = sorted((p for p in probes if p.error > self.rtol), key=lambda probe: -probe.error)[:MAX_FAILING]
        if failing:
            return self.replicas.judge(failing, [self._reference(probe.direction) for probe in failing])
        return ("ok" if any(probe.scale for probe in probes) else "zero"), 0.0

    def _error(self, probes: Sequence[Probe], verdict: Verdict) -> float:
        """Return the largest error relative to the gradient, or to the reference slope if the gradient is zero."""
        if verdict == "zero":
            return max(probe.gap / self._reference(probe.direction) for probe in probes)
        return max(probe.error for probe in probes)

    def _reference(self, direction: Direction) -> float:
        """Return the slope that arguments with the largest effect on the loss would have along `direction`."""
        slopes = [self.effect / self.loss.sizes[i] * norm(v) for i, v in direction.items()]
        return norm(slopes) or 1.0

    def _measure(self, loss: Loss, direction: Direction, scale: float, step: float = 0.0) -> Slope:
        if self.method == "complex-step":
            return loss.complex_slope(direction)
        return loss.central_slope(direction, scale, step)

    def _measure_roughly(self, loss: Loss, direction: Direction, scale: float, step: float = 0.0) -> Slope:
        if self.method == "central-difference" and loss.pair.eps < SINGLE:
            return loss.rough_slope(direction)
        return self._measure(loss, direction, scale, step)

    def _disagreement(self, leaves: Sequence[int]) -> NotComplexSafe:
        names = listed([self.loss.pair.names[i] for i in leaves])
        real = "; its output is real for complex input" if self.loss.is_output_real else ""
        return NotComplexSafe(f"complex step and central differences disagree along {names}{real}")


def _agree(by_complex: Slope, central: Slope, scale: float = 0.0) -> bool:
    """Whether a central difference confirms a slope, within its own uncertainty."""
    size = max(scale, abs(by_complex.value))
    gap = abs(central.value - by_complex.value)
    return central.uncertainty == np.inf or gap <= AGREEMENT * size + 10 * central.uncertainty
