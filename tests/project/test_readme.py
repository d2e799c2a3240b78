"""The README's snippets are run as they stand, its links lead somewhere, and its Chinese edition says the same."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from npattn import layers
from npattn.cli import program

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
BOTH = pytest.mark.parametrize("text", [README, CHINESE], ids=["English", "Chinese"])


def blocks(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, re.M | re.S)


def commands(text: str) -> list[str]:
    """Return the commands of npattn in the blocks, and those in the prose between backticks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [*re.findall(r"^npattn .*$", "\n".join(blocks(text)), re.M), *re.findall(r"`(npattn [^`]+)`", prose)]


def test_every_snippet_gives_what_it_shows() -> None:
    tests = doctest.DocTestParser().get_doctest(README, {}, "README.md", "README.md", 0)
    assert len(tests.examples) > 10
    failed, _ = doctest.DocTestRunner().run(tests)
    assert failed == 0


@BOTH
def test_every_link_leads_to_a_file(text: str) -> None:
    found = [target for target in links(text) if not target.startswith("http")]
    assert len(found) > 15
    assert [target for target in found if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("path", sorted(ROOT.rglob("README.md")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_of_the_other_pages_lead_to_files(path: Path) -> None:
    found = [target for target in links(path.read_text(encoding="utf-8")) if not target.startswith("http")]
    assert [target for target in found if not (path.parent / target).exists()] == []


def test_every_command_of_pytest_and_python_names_a_file() -> None:
    """In all pages: a test or a script that moves takes its command along."""
    pages = [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md"), ROOT / "benchmarks/RESULTS.md"]
    for path in pages:
        named = re.findall(r"\b(?:tests|benchmarks|figures|npattn)/[\w/]+\.py\b", path.read_text(encoding="utf-8"))
        assert [name for name in named if not (ROOT / name).exists()] == [], path


@BOTH
def test_it_stays_short(text: str) -> None:
    assert len(text.splitlines()) <= 200


@BOTH
def test_every_picture_is_there(text: str) -> None:
    assert len(pictures(text)) > 1
    assert all((ROOT / picture).stat().st_size > 10_000 for picture in pictures(text))


def test_the_editions_lead_to_each_other() -> None:
    assert "README.zh-CN.md" in links(README) and "README.md" in links(CHINESE)


def test_the_chinese_edition_has_the_same_code_links_and_pictures() -> None:
    """A page that has a Chinese edition is linked in it."""
    assert blocks(CHINESE) == blocks(README)
    assert pictures(CHINESE) == pictures(README)
    in_chinese = {link: link.removesuffix(".md") + ".zh-CN.md" for link in links(README)}
    wanted = {chinese if (ROOT / chinese).is_file() else link for link, chinese in in_chinese.items()}
    assert {*links(CHINESE)} - {"README.md"} == wanted - {"README.zh-CN.md"}


def test_the_chinese_edition_has_the_same_sections_with_the_same_figures() -> None:
    """A figure that changes in one edition alone is found here, by its section and its line of a table."""
    english, chinese = sections(README), sections(CHINESE)
    assert [level for level, _ in chinese] == [level for level, _ in english]
    for (_, ours), (_, theirs) in zip(english, chinese, strict=True):
        title = ours.partition("\n")[0]
        assert rows(theirs) == rows(ours), title
        assert sorted(numbers(theirs)) == sorted(numbers(ours)), title


def links(text: str) -> list[str]:
    return sorted(set(re.findall(r"\]\(([^)#]+)\)", text)))


def pictures(text: str) -> list[str]:
    return re.findall(r'(?:srcset|src)="([^"]+)"', text)


def sections(text: str) -> list[tuple[int, str]]:
    """Cut a text at its headings; return the level of each, and the section without its code."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [(len(part) - len(part.lstrip("#")), part) for part in re.split(r"^(?=#+ )", prose, flags=re.M)]


def rows(text: str) -> list[list[str]]:
    """Return the numbers of each line of the tables."""
    return [sorted(numbers(line)) for line in text.split("\n") if line.startswith("|")]


def numbers(text: str) -> list[str]:
    return re.findall(r"\d[\d,.]*(?:e[-+]?\d+)?(?<![,.])", re.sub(r"\([^()]*\.(?:py|png|md)\)", "", text))


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


@pytest.mark.parametrize("command", commands(README))
def test_every_command_is_understood(command: str) -> None:
    """What the commands do is tested in tests/cli; here, that the README calls them as they are."""
    assert program.parse(shlex.split(command)[1:]).run
