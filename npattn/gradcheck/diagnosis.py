"""From a finding to a row of the report: where a gradient is wrong, and in what way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from npattn.gradcheck.hints import shape_hint, value_hint
from npattn.gradcheck.probes import Probe
from npattn.gradcheck.report import ArgumentReport, Verdict
from npattn.gradcheck.trees import numbers
from npattn.gradcheck.trial import ENTRYWISE, Finding, Trial


def row(trial: Trial, finding: Finding, beside_kink: bool, locate: bool) -> ArgumentReport:
    """Return the row of one finding. `locate` searches a large wrong gradient for its wrong entry, which takes time."""
    verdict: Verdict = "kink" if beside_kink and finding.verdict == "ok" else finding.verdict
    hint = None
    if verdict == "wrong":
        finding = replace(finding, probes=_located(trial, finding)) if locate else finding
        hint = _value_hint(trial, finding)
    elif verdict == "noisy":
        hint = f"cannot be judged: rounding in forward hides {finding.noise:.0e} of it"
    return _row(trial, finding, verdict, hint)


def mismatch_row(trial: Trial, leaf: int, verdict: Verdict, text: str, found: ArgumentReport | None) -> ArgumentReport:
    """Return the row of a gradient with the wrong dtype, or with the wrong shape, of which nothing else is known."""
    if found is not None:
        return replace(found, verdict=verdict, hint=text)
    hint = shape_hint(trial.gradients[leaf].shape, trial.loss.pair.leaves[leaf].shape)
    unknown = Finding(leaf, verdict, error=np.inf, coverage="nothing")
    return _row(trial, unknown, verdict, f"{text}; {hint}" if hint else text)


def _row(trial: Trial, finding: Finding, verdict: Verdict, hint: str | None) -> ArgumentReport:
    array, name, worst = trial.loss.pair.leaves[finding.leaf], trial.loss.pair.names[finding.leaf], finding.worst
    is_alone = worst is not None and len(worst.direction) == 1  # its direction moves no other argument
    slopes = (worst.index, worst.analytic, worst.numeric.value) if worst and is_alone else (None, None, None)
    found = (finding.coverage, finding.error, *slopes, verdict, hint, finding.noise)
    return ArgumentReport(name, array.shape, str(array.dtype), trial.method, *found)


def _located(trial: Trial, finding: Finding) -> tuple[Probe, ...]:
    """Return probes of single entries: all of them, or for a large gradient the wrong one, found by halving."""
    if trial.entrywise:
        return finding.probes
    if trial.gradients[finding.leaf].size <= ENTRYWISE:
        return tuple(trial.prober.every_entry(finding.leaf))
    return *finding.probes, trial.prober.worst_entry(finding.leaf)


def _value_hint(trial: Trial, finding: Finding) -> str | None:
    gradient, names = trial.gradients[finding.leaf], trial.loss.pair.names
    arrays = [*zip(names, trial.loss.values, strict=True), *(("the output", y) for y in numbers(trial.loss.y))]
    axes = [(f"axis {k} of {name}", n) for name, array in arrays for k, n in enumerate(np.shape(array))]
    numeric = np.array([probe.numeric.value for probe in finding.probes])
    if len(numeric) != gradient.size:  # some directions, not every entry
        return value_hint(np.array([probe.analytic for probe in finding.probes]), numeric, [], axes)
    others = [(names[i], other) for i, other in enumerate(trial.gradients) if i != finding.leaf]
    return value_hint(gradient, numeric.reshape(gradient.shape), others, axes)
