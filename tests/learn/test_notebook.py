"""The file of a notebook, and the check of an exercise in a cell."""

from __future__ import annotations

import json

import pytest

from npattn.learn.exercises import read
from npattn.learn.notebook import Answer, cells, check, code, markdown, notebook
from support.cells import namespace, run

SOLVED = read("softmax").solution


def test_a_notebook_is_that_of_format_4_5() -> None:
    text = notebook([markdown("# Title", "", "Text α.\n"), code("\nx = 1\nx\n")])
    assert text.endswith("}\n") and "α" in text
    one, two = (each["id"] for each in json.loads(text)["cells"])
    assert json.loads(text) == {
        "cells": [
            {"cell_type": "markdown", "id": one, "metadata": {}, "source": ["# Title\n", "\n", "Text α."]},
            {"cell_type": "code", "id": two, "metadata": {}, "source": ["x = 1\n", "x"], "execution_count": None,
             "outputs": []},
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }  # fmt: skip


def test_ids_are_unique_and_stay_when_other_cells_change() -> None:
    def ids(*found: cells.Cell) -> list[str]:
        return [each["id"] for each in json.loads(notebook(found))["cells"]]

    found = ids(code("1"), code("1"), markdown("1"), code("2"))
    assert len(set(found)) == 4 and all(len(name) == 10 for name in found)
    assert ids(markdown("new"), code("1"), code("2"))[1:] == [found[0], found[3]]


def answer(text: str, name: str = "softmax", function: str = "backward") -> str:
    names = namespace()
    run([code("from npattn.learn.notebook import check"), code(text)], names)
    return run([code(f"check({name!r}, {function})")], names)[0]


def test_an_answer_in_a_cell_is_checked_in_words() -> None:
    assert answer(SOLVED) == "dE: right\nAll is right."
    blank = SOLVED.replace("dE = A *", "dE = ...  # A *")
    assert answer(blank) == "dE: still blank\nNot right yet. The hints are below."
    wrong = answer("print('here')\n" + SOLVED.replace("A * (dA - (A * dA).sum(axis=-1, keepdims=True))", "A * dA"))
    printed, *words, where, last = wrong.splitlines()
    (mistake,) = (each for each in read("softmax").mistakes if each.new == "A * dA")
    assert printed == "here" and "\n".join(words).replace("\n  ", " ") == f"dE: wrong: {mistake.words}"
    assert len(words) == 2 and max(map(len, words)) <= 100
    assert where.startswith("  dE: at [") and last == "Not right yet. The hints are below."


def test_the_first_wrong_line_is_named() -> None:
    wrong = read("v5").solution.replace("dA = dY @ V.T", "dA = dY @ V.T * 3 ")
    *_, line, last = answer(wrong, "v5").splitlines()
    assert line.startswith("The first wrong gradient is made in line 23, dA = dY @ V.T * 3")
    assert last == "Not right yet. The hints are below."


def test_what_is_no_function_of_a_cell_is_refused() -> None:
    with pytest.raises(KeyError, match="sofmax"):
        check("sofmax", answer)
    with pytest.raises(TypeError, match=r"^function: expected one that a cell defines, got 3$"):
        check("softmax", 3)  # type: ignore[arg-type]
    message = f"^function: expected one that a cell defines, got {__name__}.answer$"
    with pytest.raises(ValueError, match=message):
        check("softmax", answer)
    names = namespace()
    exec("def backward(): pass", names)
    with pytest.raises(ValueError, match=r"^function: expected one that a cell defines, got __main__\.backward$"):
        check("softmax", names["backward"])
    assert repr(Answer("a\nb")) == "a\nb"
