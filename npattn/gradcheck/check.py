"""The steps of a check: first the contract of the pair, then the numbers, by a suitable method at a suitable point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck import precision
from npattn.gradcheck.contract import NOT_LINEAR, Contract
from npattn.gradcheck.diagnosis import mismatch_row, row
from npattn.gradcheck.numeric import SINGLE, Loss, NotComplexSafe
from npattn.gradcheck.pair import PairUnderTest
from npattn.gradcheck.points import perturbed, redrawn
from npattn.gradcheck.quiet import quiet
from npattn.gradcheck.report import PASSING, ArgumentReport, GradientReport, Method, listed
from npattn.gradcheck.slots import Misaligned
from npattn.gradcheck.trial import MAX_WORST, Finding, InSingle, OnKink, Trial

Choice: TypeAlias = Literal["auto", "complex-step", "central-difference"]

METHODS: tuple[Choice, ...] = get_args(Choice)
TOLERANCE: dict[Method, float] = {"complex-step": 1e-12, "central-difference": 1e-7}
BESIDE_KINK = 1e-3  # of the size of every number
BESIDE_ARGUMENTS = 1e-2
ZERO = "every gradient is zero here, so the check proves little"
EMPTY = "there is no number to compare, so the check proves nothing"
BRANCH = "is forward meant for them, or do these arguments never take some branch?"
LINEARITY, LINEARITY_SINGLE = 1e-9, 1e-4  # deviation that rounding may cause in a well-conditioned gradient
FAR = "zero at these arguments, wrong at normal random numbers"
NEAR = "right at these arguments, wrong beside them for another cotangent"


class Check:
    """One check; `run` makes the report."""

    def __init__(self, pair: PairUnderTest, choice: Choice, rtol: float | None, rng: np.random.Generator) -> None:
        self.pair, self.choice, self.given_rtol, self.rng = pair, choice, rtol, rng
        self.method: Method = "central-difference" if choice == "central-difference" else "complex-step"
        self.values = [leaf.astype(np.float64) for leaf in pair.leaves]  # copied before forward can write into them
        self.contract = Contract(pair, rng)
        self.notes: list[str] = []
        self.kinks: set[int] = set()
        self.vacuous: str | None = None  # why the check proves nothing

    @property
    def rtol(self) -> float:
        tolerance = TOLERANCE if self.pair.eps < SINGLE else precision.TOLERANCE
        return tolerance[self.method] if self.given_rtol is None else self.given_rtol

    def run(self) -> GradientReport:
        """Check all. Stop before the numbers if forward changes its input or a gradient is missing."""
        problems, rows = self.contract.problems, list[ArgumentReport]()
        try:
            if self.contract.goes_on:
                self.contract.check_backward()
                rows = self._check_numbers()
        except Misaligned as error:
            problems.append(str(error))
        notes = [*self.notes, *self._notes(rows)] if rows else []
        if self.pair.may_write:                               # broken promises are notes, except those about numbers
            notes += [problem for problem in problems if not problem.endswith(NOT_LINEAR)]
            problems = [problem for problem in problems if problem.endswith(NOT_LINEAR) or not rows]
        return GradientReport(self.pair.title, self.method, self.rtol, tuple(rows), tuple(problems), tuple(notes))

    def _check_numbers(self) -> list[ArgumentReport]:
        mismatches = self.contract.mismatches()
        misshapen = [i for i, (verdict, _) in mismatches.items() if verdict == "shape"]
        with quiet():
            trial, findings = self._compare([i for i in range(len(self.pair.leaves)) if i not in misshapen])
            if self.contract.goes_on:
                tolerance = _linearity_tolerance(findings, self.pair.eps)
                self.contract.check_linearity(trial.loss.values, tolerance, (trial.loss.y, trial.loss.cache))
            wrong = [f.leaf for f in findings if f.verdict == "wrong"][:MAX_WORST]
            rows = {f.leaf: row(trial, f, f.leaf in self.kinks, f.leaf in wrong) for f in findings}
            if self.contract.goes_on and all(f.verdict in PASSING for f in findings):
                rows |= self._look_elsewhere(trial, rows)
        rows |= {i: mismatch_row(trial, i, *what, rows.get(i)) for i, what in mismatches.items()}
        return [rows[i] for i in sorted(rows)]

    def _compare(self, leaves: Sequence[int]) -> tuple[Trial, list[Finding]]:
        """Compare at the arguments. Change the method, the precision or the point if it does not suit forward."""
        values, gradients = self.values, self._own_gradients()
        if gradients is None:
            self._try_float64()
        while True:
            loss = Loss(self.pair, values, self.contract.cotangent, self.contract.size_elsewhere)
            trial = Trial(loss, gradients, self.method, self.rtol, self.rng)
            try:
                return trial, trial.compare(leaves, check_kinks=not self.kinks)
            except NotComplexSafe as reason:
                self._use_central_differences(reason)
            except InSingle:
                self.pair.eps = SINGLE
            except OnKink as kink:
                self.kinks = kink.leaves
                values, gradients = perturbed(values, BESIDE_KINK, self.rng, like_zero=1e-6), None

    def _look_elsewhere(self, trial: Trial, rows: Mapping[int, ArgumentReport]) -> dict[int, ArgumentReport]:
        """Compare at other points, for another cotangent. Return a row for each gradient that is wrong there.

        The arguments can hide an error: a symmetric or orthogonal matrix, a constant, a zero, numbers of one sign. The
        other point has normal random numbers, for which forward may not be meant. So a gradient that is wrong there
        fails only if it is zero at the arguments, which proves nothing, or if it is wrong beside the arguments too.
        """
        is_zero = all(r.verdict == "zero" for i, r in rows.items() if trial.gradients[i].size)
        leaves = [i for i, r in rows.items() if trial.gradients[i].size and (is_zero or not _is_noise(r))]
        size = 1.0 if is_zero else np.inf                     # a softmax of large scores is zero at other large ones
        far, wrong_far = self._search(trial, leaves, redrawn(self.values, size, self.rng), FAR)
        if is_zero:
            compared = far.findings(leaves) if far else []
            nothing = ZERO if trial.loss.terms.size else EMPTY
            self.vacuous = None if any(f.verdict == "ok" for f in compared) else nothing
        if far and not wrong_far:
            return {}
        _, wrong = self._search(trial, leaves, perturbed(self.values, BESIDE_ARGUMENTS, self.rng), NEAR)
        wrong = {i: r for i, r in wrong_far.items() if rows[i].verdict == "zero"} | wrong
        rest = [self.pair.names[i] for i in wrong_far if i not in wrong]
        if rest:
            self.notes.append(f"right here, wrong at normal random numbers: {listed(rest)} ({BRANCH})")
        return wrong

    def _search(
        self, trial: Trial, leaves: Sequence[int], values: list[Array], place: str
    ) -> tuple[Trial | None, dict[int, ArgumentReport]]:
        """Compare at `values`, for a new cotangent. Return the rows of wrong gradients; no trial if forward fails."""
        other, found = None, list[Finding]()
        with suppress(Exception):                             # forward may refuse these values; so may the method
            cotangent = self.rng.standard_normal(trial.loss.cotangent.size)
            loss = Loss(self.pair, values, cotangent, trial.loss.size)
            made = Trial(loss, None, self.method, self.rtol, self.rng)
            if np.isfinite(loss.size):
                other, found = made, made.search(leaves, far=place == FAR)
        rows = {f.leaf: row(other, f, beside_kink=False, locate=True) for f in found} if other else {}
        return other, {i: replace(r, hint=f"{place}: {r.hint}" if r.hint else place) for i, r in rows.items()}

    def _use_central_differences(self, reason: NotComplexSafe) -> None:
        if self.choice == "complex-step":
            raise ValueError(f"method: the complex step does not suit forward: {reason}") from reason
        self.method = "central-difference"
        text = "central differences, because forward is not complex-safe (abs, var, a float buffer?)"
        self.notes.append(f"{text}: {reason}")

    def _try_float64(self) -> None:
        """Find out whether forward takes float64. If not, check it in the dtype of its arguments."""
        try:
            self.pair.at(self.values)
        except Exception as reason:                           # any error of the user's forward
            self.pair.takes_float64, self.pair.eps = False, SINGLE
            self._use_central_differences(NotComplexSafe(f"{type(reason).__name__} on float64 input: {reason}"))

    def _own_gradients(self) -> list[Array] | None:
        """Return the gradients of the user's own call, with its strides and containers; None if not in float64."""
        if any(leaf.dtype != np.float64 for leaf in self.pair.leaves):
            return None
        pairs = zip(self.pair.leaves, self.contract.gradients, strict=True)
        return [np.zeros_like(leaf) if gradient is None else gradient for leaf, gradient in pairs]

    def _notes(self, rows: Sequence[ArgumentReport]) -> list[str]:
        notes = []
        other = [r for r in rows if r.dtype != "float64"]
        if self.pair.eps == SINGLE:
            notes.append(f"computes in float32: checked in that precision, with a tolerance of {self.rtol:.0e}")
        elif other:
            dtypes = " and ".join(sorted({r.dtype for r in other}))
            notes.append(f"{dtypes} is checked in float64: {listed([r.name for r in other])}")
        if self.pair.not_differentiated():
            notes.append(f"not differentiated: {listed(self.pair.not_differentiated())}")
        if self.kinks:
            names = listed([self.pair.names[i] for i in sorted(self.kinks)])
            notes.append(f"there is a kink along {names} (relu at 0, a tie of max?): checked 0.1 % beside it")
        noisy = [r for r in rows if r.noise and r.verdict in ("ok", "kink") and r.name not in self.pair.varying]
        if noisy:
            text = f"rounding in forward hides up to {max(r.noise for r in noisy):.0e} of the gradient of"
            notes.append(f"{text} {listed([r.name for r in noisy])}")
        if self.vacuous:
            notes.append(self.vacuous)
        elif any(map(_is_noise, rows)):
            notes.append("zero: only rounding noise; the error is relative to the largest effect of any argument")
        return notes


def _is_noise(found: ArgumentReport) -> bool:
    return found.verdict == "zero" and found.error > 0


def _linearity_tolerance(findings: Sequence[Finding], eps: float) -> dict[int, float]:
    """Return the relative deviation from linearity to tolerate. Gradients that are nan or noise are left out."""
    finite = [f for f in findings if f.verdict != "zero" and np.isfinite(f.error)]
    least = LINEARITY if eps < SINGLE else LINEARITY_SINGLE
    return {f.leaf: max(least, 0.0 if f.verdict == "wrong" else 1e4 * max(f.error, f.noise)) for f in finite}
