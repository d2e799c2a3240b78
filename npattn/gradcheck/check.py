"""The steps of a check: first the contract of the pair, then the numbers, by a suitable method at a suitable point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.contract import Contract
from npattn.gradcheck.diagnosis import mismatch_row, row
from npattn.gradcheck.numeric import Loss, NotComplexSafe, perturbed, quiet
from npattn.gradcheck.pair import PairUnderTest
from npattn.gradcheck.report import ArgumentReport, GradientReport, Method, listed
from npattn.gradcheck.slots import Misaligned
from npattn.gradcheck.trial import Finding, OnKink, Trial

Choice: TypeAlias = Literal["auto", "complex-step", "central-difference"]

METHODS: tuple[Choice, ...] = get_args(Choice)
TOLERANCE: dict[Method, float] = {"complex-step": 1e-12, "central-difference": 1e-7}
BESIDE_KINK = 1e-3  # of the size of every number
LINEARITY = 1e-9  # deviation that rounding may cause in a well-conditioned gradient
MAX_WORST = 4  # gradients that are measured again before they are called wrong, and searched for their wrong entry


class Check:
    """One check; `run` makes the report."""

    def __init__(self, pair: PairUnderTest, choice: Choice, rtol: float | None, rng: np.random.Generator) -> None:
        self.pair, self.choice, self.given_rtol, self.rng = pair, choice, rtol, rng
        self.method: Method = "central-difference" if choice == "central-difference" else "complex-step"
        self.values = [leaf.astype(np.float64) for leaf in pair.leaves]  # copied before forward can write into them
        self.contract = Contract(pair, rng)
        self.notes: list[str] = []
        self.kinks: set[int] = set()

    @property
    def rtol(self) -> float:
        return TOLERANCE[self.method] if self.given_rtol is None else self.given_rtol

    def run(self) -> GradientReport:
        """Check all. Stop before the numbers if forward changes its input or a gradient is missing."""
        problems, rows = self.contract.problems, list[ArgumentReport]()
        try:
            if not problems:
                self.contract.check_backward()
                rows = self._check_numbers()
        except Misaligned as error:
            problems.append(str(error))
        notes = [*self.notes, *self._notes(rows)] if rows else []
        return GradientReport(self.pair.title, self.method, self.rtol, tuple(rows), tuple(problems), tuple(notes))

    def _check_numbers(self) -> list[ArgumentReport]:
        mismatches = self.contract.mismatches()
        misshapen = [i for i, (verdict, _) in mismatches.items() if verdict == "shape"]
        with quiet():
            trial, findings = self._compare([i for i in range(len(self.pair.leaves)) if i not in misshapen])
            if not self.contract.problems:
                self.contract.check_linearity(trial.loss.values, _linearity_tolerance(findings))
            wrong = [f.leaf for f in findings if f.verdict == "wrong"][:MAX_WORST]
            rows = {f.leaf: row(trial, f, f.leaf in self.kinks, f.leaf in wrong) for f in findings}
        rows |= {i: mismatch_row(trial, i, *what, rows.get(i)) for i, what in mismatches.items()}
        return [rows[i] for i in sorted(rows)]

    def _compare(self, leaves: Sequence[int]) -> tuple[Trial, list[Finding]]:
        """Try the complex step at the arguments. Use central differences if it fails, and a point beside a kink."""
        values, gradients = self.values, self._own_gradients()
        while True:
            loss = Loss(self.pair, values, self.contract.cotangent, self.contract.size_elsewhere)
            trial = Trial(loss, gradients, self.method, self.rtol, self.rng)
            automatic = self.choice == "auto" and self.method == "complex-step"
            try:
                if automatic:
                    trial.compare_methods(leaves, check_kinks=not self.kinks)
                findings = trial.findings(leaves)
                bad = sorted((f for f in findings if f.verdict in ("wrong", "noisy")), key=lambda f: -f.error)
                for finding in bad[:MAX_WORST]:
                    trial.confirm(finding, check_kinks=not self.kinks, check_method=automatic)
                return trial, findings
            except OnKink as kink:
                self.kinks = kink.leaves
                values, gradients = perturbed(values, BESIDE_KINK, self.rng), None
            except NotComplexSafe as reason:
                self._use_central_differences(reason)

    def _use_central_differences(self, reason: NotComplexSafe) -> None:
        if self.choice == "complex-step":
            raise ValueError(f"method: the complex step does not suit forward: {reason}") from reason
        self.method = "central-difference"
        text = "central differences, because forward is not complex-safe (abs, var, a float buffer?)"
        self.notes.append(f"{text}: {reason}")

    def _own_gradients(self) -> list[Array] | None:
        """Return the gradients of the user's own call, with its strides and containers; None if not in float64."""
        if any(leaf.dtype != np.float64 for leaf in self.pair.leaves):
            return None
        pairs = zip(self.pair.leaves, self.contract.gradients, strict=True)
        return [np.zeros_like(leaf) if gradient is None else gradient for leaf, gradient in pairs]

    def _notes(self, rows: Sequence[ArgumentReport]) -> list[str]:
        notes = []
        other = [r for r in rows if r.dtype != "float64"]
        if other:
            dtypes = " and ".join(sorted({r.dtype for r in other}))
            notes.append(f"{dtypes} is checked in float64: {listed([r.name for r in other])}")
        if self.kinks:
            names = listed([self.pair.names[i] for i in sorted(self.kinks)])
            notes.append(f"there is a kink along {names} (relu at 0, a tie of max?): checked 0.1 % beside it")
        noisy = [r for r in rows if r.noise and r.verdict in ("ok", "kink")]
        if noisy:
            text = f"rounding in forward hides up to {max(r.noise for r in noisy):.0e} of the gradient of"
            notes.append(f"{text} {listed([r.name for r in noisy])}")
        if all(r.verdict == "zero" for r in rows):
            notes.append("every gradient is zero here, so the check proves little")
        elif any(r.verdict == "zero" and r.error for r in rows):
            notes.append("zero: only rounding noise; the error is relative to the largest effect of any argument")
        return notes


def _linearity_tolerance(findings: Sequence[Finding]) -> dict[int, float]:
    """Return the relative deviation from linearity to tolerate. Gradients that are nan or noise are left out."""
    finite = [f for f in findings if f.verdict != "zero" and np.isfinite(f.error)]
    return {f.leaf: max(LINEARITY, 0.0 if f.verdict == "wrong" else 1e4 * max(f.error, f.noise)) for f in finite}
