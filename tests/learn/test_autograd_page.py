"""The page that sets PyTorch's autograd beside version 5 shows what PyTorch printed, and its lines are those of v5.

golden/make_autograd.py ran PyTorch; it is not needed here.
"""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npattn
from npattn.attention import v5_cross_attention

PAGES = Path(npattn.__file__).parent / "learn" / "pages"
ENGLISH, CHINESE = ((PAGES / f"autograd{ending}").read_text(encoding="utf-8") for ending in (".md", ".zh-CN.md"))
GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "autograd.npz"))
BACKWARD = inspect.getsource(inspect.unwrap(v5_cross_attention.backward))


def of(kind: str) -> dict[str, Any]:
    """Return letter → entry of one kind."""
    return {key.partition("/")[2]: value for key, value in GOLDEN.items() if key.startswith(f"{kind}/")}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def table(text: str) -> list[list[str]]:
    """Return the cells of each row, without the two rows of the head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"][2:]


def ours() -> dict[str, Any]:
    """Run the lines of the page that need no PyTorch, and return their names."""
    test = doctest.DocTestParser().get_doctest(ENGLISH, {}, "autograd.md", "autograd.md", 0)
    result = doctest.DocTestRunner().run(test, clear_globs=False)
    assert result.attempted > 15 and result.failed == 0
    return test.globs


def test_the_page_shows_what_pytorch_printed() -> None:
    assert blocks(ENGLISH, "text") == GOLDEN["printed"].tolist()


def test_the_gradients_of_pytorch_are_ours() -> None:
    names = ours()
    gradients = of("gradient")
    names["dK_T"] = names["dK"].T
    assert len(gradients) == 11
    for letter, gradient in gradients.items():
        np.testing.assert_allclose(names[f"d{letter}"], gradient, rtol=1e-15, atol=1e-15, err_msg=letter)


def test_the_table_has_the_nodes_and_operations_that_pytorch_ran() -> None:
    nodes = {line.split()[0]: line.split()[1] for line in GOLDEN["printed"][0].splitlines()}
    rows = {row[0].partition(" ")[0]: row for row in table(ENGLISH)}
    assert [letter for letter in rows if letter in nodes] == list(nodes)                    # in this order
    for letter, node in nodes.items():
        shown = re.findall(r"`(\w+)", rows[letter][2]) + (re.findall(r"`(\w+)", rows["X"][2]) if letter == "K" else [])
        assert (rows[letter][1], shown) == (node, of("ran")[letter].tolist()), letter


def test_every_line_of_the_backward_is_in_the_table() -> None:
    """As it stands in the module; a line that changes there has to change on the page."""
    shown = re.findall(r"`([^`]+)`", " ".join(row[3] for row in table(ENGLISH)))
    lines = [line.partition("  #")[0].strip() for line in BACKWARD.rpartition("check_backward")[2].splitlines()[1:]]
    assert len(lines) == 11
    for line in lines:
        assert line in shown or (line.startswith("dX +=") and {line.partition("+= ")[2], "dX += …"} <= {*shown}), line


def test_pytorch_keeps_what_our_cache_has() -> None:
    kept = {letter for letters in of("kept").values() for letter in letters.tolist()}
    assert kept == set(v5_cross_attention.Cache._fields)
    assert of("kept")["A"].tolist() == ["A"]                  # the softmax keeps its result alone


@pytest.mark.parametrize("language", ["python", "text"])
def test_both_editions_have_the_same_blocks(language: str) -> None:
    assert blocks(CHINESE, language) == blocks(ENGLISH, language)


def test_both_editions_have_the_same_sections_and_table() -> None:
    assert [len(mark) for mark in re.findall(r"^(#+) ", CHINESE, re.M)] == [1, 2, 2, 2, 2]
    assert len(re.findall(r"^- ", CHINESE, re.M)) == len(re.findall(r"^- ", ENGLISH, re.M)) == 7
    english, chinese = table(ENGLISH), table(CHINESE)
    for one, other in zip(english, chinese, strict=True):
        assert re.findall(r"`[^`]+`|\w+Backward0|\bF\d+", " ".join(one)) == re.findall(
            r"`[^`]+`|\w+Backward0|\bF\d+", " ".join(other)
        )


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_its_links_lead_to_files(text: str) -> None:
    found = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(found) == 3 and [target for target in found if not (PAGES / target).exists()] == []
