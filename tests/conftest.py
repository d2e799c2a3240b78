"""Hypothesis: the same few examples in every run, or, with NPATTN_EXPLORE=500, 500 new ones for each test."""

from __future__ import annotations

import os
import secrets

import pytest
from hypothesis import HealthCheck, Phase, settings

# Scripts that need what the tests do not: PyTorch for golden numbers, mutmut for mutants.
collect_ignore = ["golden", "mutation"]

settings.register_profile("repeatable", derandomize=True, max_examples=25, deadline=None, database=None)
# For mutants: a failure counts, and its smallest example does not matter. mutmut runs the tests several times in one
# process, so that a method belongs to another instance each time.
settings.register_profile(
    "mutants", settings.get_profile("repeatable"), phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.differing_executors],
)  # fmt: skip

EXPLORE = int(os.environ.get("NPATTN_EXPLORE") or 0)
settings.register_profile("explore", max_examples=EXPLORE or 500, deadline=None, print_blob=True)
settings.load_profile("explore" if EXPLORE else "repeatable")


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads the option
def pytest_configure(config: pytest.Config) -> None:
    if EXPLORE and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(secrets.randbits(32))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if EXPLORE:
        seed = config.option.hypothesis_seed
        terminalreporter.write_line(f"explored; again: NPATTN_EXPLORE={EXPLORE} pytest --hypothesis-seed={seed}")
