"""Judge an implementation on every case of a kind of layer, and say what was found.

>>> from npattn.attention import dot_product
>>> attention, backward = dot_product.scaled_dot_product_attention, dot_product.scaled_dot_product_attention_backward
>>> report = judge(attention, backward, only=("causal",), dtype="float32")
>>> report.ok, len(report.outcomes), report.counts["passed"]
(True, 11, 11)
>>> def uncapped(Q, K, V, *, softcap):
...     return attention(Q, K, V)
>>> for outcome in judge(uncapped, only=("softcap",)).outcomes:
...     print(outcome.case, outcome.status, outcome.message, sep=": ")
softcap: failed: scores are not capped
softcap, causal: skipped: it has no causal
softcap, mask, bias: skipped: it has no bias and no mask
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from npattn._internal.checks import check_choice
from npattn.conformance.bounds import PRECISIONS
from npattn.conformance.case import Case, cases
from npattn.conformance.judging import FRAMEWORKS, Call, Outcome, examine, title

STATUSES = ("passed", "failed", "skipped")


class Report(NamedTuple):
    """What every case found. `str(report)` is the text, `bool(report.ok)` the verdict."""

    of: str
    dtype: str
    outcomes: tuple[Outcome, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many cases passed, failed and were skipped."""
        return {status: sum(outcome.status == status for outcome in self.outcomes) for status in STATUSES}

    @property
    def tested(self) -> bool:
        """Whether any case was not skipped."""
        return self.counts["skipped"] < len(self.outcomes)

    @property
    def ok(self) -> bool:
        """Whether at least one case passed and none failed."""
        return self.tested and self.counts["failed"] == 0

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return a heading, a line for each case and a summary."""
        widths = [len(outcome.case) for outcome in self.outcomes]
        lines = [f"{self.of} in {self.dtype}; errors in units of what right arithmetic may reach"]
        lines += [_line(outcome, max(widths)) for outcome in self.outcomes]
        counts = self.counts
        lines.append(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
        if not self.tested:
            lines.append("nothing was tested: this is a failure")
        return lines


def _line(outcome: Outcome, width: int) -> str:
    if not outcome.errors:
        return f"  {outcome.case:<{width}}  {outcome.status}: {outcome.message}"
    worst = max(outcome.errors, key=lambda name: outcome.errors[name])
    line = f"  {outcome.case:<{width}}  {outcome.status}  {outcome.worst:8.2g}  {title(worst)}"
    return f"{line}: {outcome.message}" if outcome.message else line


def judge(
    implementation: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    *,
    framework: str = "numpy",
    of: str = "attention",
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    dtype: str = "float32",
    accumulate: str | None = None,
) -> Report:
    """Return the report on an implementation.

    - implementation: takes arrays and returns the output, or the output and a cache for `backward`. Arguments are
      named as in npattn; an option that its signature lacks, or that raises NotImplementedError, is skipped.
    - backward: takes the cotangent and the cache, and returns the gradients in the order of the inputs; None to test
      the output alone. Other frameworks differentiate the implementation themselves.
    - framework: "numpy", "torch" or "jax", whose arrays it takes.
    - of: the kind of layer, a key of npattn.conformance.case.KINDS.
    - only: words; a case is tested if its name contains one of them. () for every case.
    - skip: words; a case whose name contains one of them is left out and counts as skipped.
    - dtype: of the arrays. bfloat16 in NumPy needs the package ml_dtypes.
    - accumulate: the dtype in which sums are kept; None for float32 with 16 bits, else the dtype.

    Raises ValueError for a name that is not one of those above.
    """
    check_choice("framework", framework, FRAMEWORKS)
    if accumulate is not None:
        check_choice("accumulate", accumulate, tuple(PRECISIONS))
    call = Call(implementation, backward, framework, accumulate)
    return Report(of, dtype, tuple(_left_out(case, skip) or examine(case, call) for case in chosen(of, dtype, only)))


def chosen(of: str, dtype: str, only: Sequence[str] = ()) -> list[Case]:
    """Return the cases whose name contains one of the words; all of them for no word."""
    return [case for case in cases(of, dtype) if not only or any(word in case.name for word in only)]


def _left_out(case: Case, skip: Sequence[str]) -> Outcome | None:
    words = [word for word in skip if word in case.name]
    return Outcome(case.name, "skipped", {}, {}, f"left out: {words[0]}") if words else None
