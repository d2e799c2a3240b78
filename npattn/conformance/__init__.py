"""The conformance kit: anybody's attention, tested with cases, bounds and faults of ours.

`case` has inputs, options, cotangents, and the right outputs and gradients in float64. `bounds` has the arithmetic of
error bounds, `analysis` the bound of every output and gradient. `faults` plants known faults in a reference
implementation, to prove that the cases catch them. `runner` judges an implementation, in NumPy, torch or jax, and
`export` writes the cases for other languages. README.md beside this file documents the exported index.

Not here: whether a backward fits its own forward, whatever that computes. That is npattn.gradcheck.
"""

from npattn.conformance.bounds import Arithmetic, Bounded
from npattn.conformance.case import Case, cases
from npattn.conformance.faults import FAULTS
from npattn.conformance.judging import Outcome
from npattn.conformance.runner import Report, judge

__all__ = ["FAULTS", "Arithmetic", "Bounded", "Case", "Outcome", "Report", "cases", "judge"]
