"""The README's snippets are run as they stand, and its links lead somewhere."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

from npattn import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_snippet_gives_what_it_shows() -> None:
    tests = doctest.DocTestParser().get_doctest(README, {}, "README.md", "README.md", 0)
    assert len(tests.examples) > 10
    failed, _ = doctest.DocTestRunner().run(tests)
    assert failed == 0


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_leads_to_a_file(target: str) -> None:
    if not target.startswith("http"):
        assert (ROOT / target).exists()


@pytest.mark.parametrize("command", re.findall(r"^npattn .*$", README, re.MULTILINE))
def test_every_command_is_understood(command: str) -> None:
    """What the commands do is tested in test_cli_*.py; here, that the README calls them as they are."""
    assert cli.parse(shlex.split(command)[1:]).run
