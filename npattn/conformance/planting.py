"""A fault as steps that are replaced, and the reference implementation with a fault planted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from npattn.conformance import model_reference, reference

REFERENCES: dict[str, type[reference.Layer]] = {**reference.REFERENCES, **model_reference.REFERENCES}


class Fault(NamedTuple):
    """A name, a sentence that says what is wrong, and the steps that it replaces."""

    says: str
    steps: dict[str, Callable[..., Any]]


def fault(says: str, **steps: Callable[..., Any]) -> Fault:
    return Fault(says, steps)


def plant(of: str, fault: Fault | None = None) -> type[reference.Layer]:
    """Return the reference implementation of a kind of layer, with the fault if there is one."""
    return type("Planted", (REFERENCES[of],), dict(fault.steps) if fault else {})
