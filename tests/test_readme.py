"""The README's snippets are run as they stand, and its links lead somewhere."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from npattn import cli, layers

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


@pytest.mark.parametrize("picture", sorted(set(re.findall(r'(?:srcset|src)="([^"]+)"', README))))
def test_every_picture_is_there(picture: str) -> None:
    assert (ROOT / picture).stat().st_size > 10_000


def test_the_pytest_example_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With linear layers as those of somebody's own module."""
    (block,) = re.findall(r"^```python\n(import npattn.*?def test_.*?)^```$", README, re.M | re.S)
    monkeypatch.setitem(sys.modules, "mylayers", layers)
    namespace: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), namespace)
    namespace["test_linear"]()
    monkeypatch.setattr(layers, "linear_backward", lambda dY, cache: layers.softmax(dY))
    exec(compile(block, "README.md", "exec"), namespace)
    with pytest.raises(AssertionError):
        namespace["test_linear"]()


@pytest.mark.parametrize("command", re.findall(r"^npattn .*$", README, re.MULTILINE))
def test_every_command_is_understood(command: str) -> None:
    """What the commands do is tested in test_cli_*.py; here, that the README calls them as they are."""
    assert cli.parse(shlex.split(command)[1:]).run
