"""`npattn notebook` writes the climb: its cells run, and their results are those of the docstrings."""

from __future__ import annotations

import ast
import doctest
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from npattn.cli.explain import pages, topics
from npattn.cli.notebook import climb as module
from npattn.cli.notebook import command
from npattn.cli.notebook.climb import PARTS, arguments, climb, contents, foundations, text_and_examples
from npattn.cli.notebook.words import INTRODUCTION, PICTURES
from npattn.learn.exercises import NAMES, read
from npattn.learn.explore import subjects
from npattn.learn.notebook import Cell, code, markdown, notebook
from npattn.learn.trace import Trace
from npattn.training import trainer
from support.cells import namespace, run
from support.command_line import Cli

PACKAGE = Path(module.__file__).parents[2]


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return climb()


@pytest.fixture
def npattn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cells: list[Cell]) -> Cli:
    """The command; its cells are made once for all tests, in English, with their language at the end."""
    monkeypatch.setattr(command, "climb", lambda language: [*cells, markdown(language)])
    return Cli(capsys)


def text_of(cells: list[Cell], kind: str) -> str:
    return "\n\n".join(cell.text for cell in cells if cell.kind == kind)


def plain(text: str) -> str:
    return " ".join(text.replace("<BLANKLINE>", "").split())


def test_the_file_is_written_once_and_the_same_each_time(npattn: Cli, tmp_path: Path, cells: list[Cell]) -> None:
    path = tmp_path / "my climb.ipynb"
    status, out, err = npattn("notebook", path)
    assert (status, err) == (0, "")
    first, second = out.splitlines()
    assert first == f"{path}: {len(cells) + 1} cells. To open it, in a folder of your own:"
    assert second == f"""pip install "npattn[notebook]" jupyterlab && jupyter lab '{path}'"""
    written = path.read_bytes()
    assert written.decode() == notebook([*cells, markdown("en")]) and list(tmp_path.iterdir()) == [path]
    assert "is there already; --overwrite replaces it" in npattn.fails("notebook", path)
    path.write_text("mine")
    assert "climb.ipynb" in npattn.fails("notebook", path) and path.read_text() == "mine"
    assert npattn("notebook", path, "--overwrite", "--language", "zh-CN").status == 0
    assert path.read_text(encoding="utf-8") == notebook([*cells, markdown("zh")]) and list(tmp_path.iterdir()) == [path]


def test_other_endings_and_folders_are_refused(npattn: Cli, tmp_path: Path) -> None:
    assert "FILE: expected a name that ends in .ipynb, got climb.md" in npattn.fails("notebook", "climb.md", status=2)
    assert "cannot write" in npattn.fails("notebook", tmp_path / "none" / "climb.ipynb")
    assert "the following arguments are required: FILE" in npattn.fails("notebook", status=2)
    assert list(tmp_path.iterdir()) == []


def test_it_is_a_notebook_of_format_4_5(cells: list[Cell]) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: the notebook is not validated")
    nbformat.validate(nbformat.reads(notebook(cells), 4))


def test_the_order_is_that_of_the_map() -> None:
    """The links of the map, with `…` between two versions, are the first sections of each part, in this order."""
    study = (PACKAGE / "README.md").read_text(encoding="utf-8").partition("**To study")[2].partition("**To check")[0]
    found = [name for part in PARTS for name in part.sections]
    modules = {topic.module.__name__: topic.name for topic in topics.topics().values()}
    places = []
    for path in re.findall(r"\]\((\w+/\w+)\.py\)", study.partition("\n6. ")[0]):
        dotted = f"npattn.{path.replace('/', '.')}"
        names = [modules.get(dotted, "trainer")]
        places.append(next(n for n, section in enumerate(found) if set(names) & set(section.split("+"))))
    assert places == sorted(places) and len(places) > 10
    assert [name for name in found if name.startswith("v")] == [f"v{number}" for number in range(1, 15)]
    layers = {topic.name for topic in topics.topics().values() if topic.module.__name__.startswith("npattn.layers.")}
    assert layers - {name for section in found for name in section.split("+")} == {"alibi", "rotary_frequencies"}
    assert max(Counter(found).values()) == 1


def test_every_formula_is_latex(cells: list[Cell]) -> None:
    text = text_of(cells, "markdown")
    assert text.count("$$") % 2 == 0 and (text.count("$") - 2 * text.count("$$")) % 2 == 0
    assert not re.search(r"^    \S|>>>|explain \[", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


def test_forward_and_backward_have_their_code_below_them(cells: list[Cell]) -> None:
    text = "\n".join(cell.text for cell in cells)
    for name in (f"v{number}" for number in range(1, 15)):
        own = text.partition(f'<a id="section-{name}">')[2].partition("\n## ")[0]
        landmarks = ("import", "**Forward**", "**Shapes**", "**`forward`**", "def forward(", "**Backward**",
                     "**`backward`**", "def backward(", "**Changed**", "**By hand**", "**Called above**",
                     "**Every number.**", "found = npattn.trace(v", "draw(found)", "check_gradients(")  # fmt: skip
        places = [own.index(landmark) for landmark in landmarks]
        assert places == sorted(places) and own.count(f'npattn.explore("{name}")') == 1, name
    explored = re.findall(r'npattn\.explore\("(\w+)"\)', text)
    assert set(explored) <= subjects().keys() and len(explored) == text.count("**Every number.**")
    assert "**Forward**\n\n| | |\n" in text and "**Backward**  Line by line" in text
    code = text_of(cells, "code")
    assert "def _update(" in text and "def _update(" not in code and "_check_squares" not in code


def test_a_cell_of_code_ends_with_a_result() -> None:
    text = "By A.\n\n>>> x = 1\n>>> for i in (1, 2):\n...     x += i\n>>> x\n4\n>>> y = x\n\nEnd."
    assert list(text_and_examples(text)) == [
        markdown("By $A$."), code("x = 1\nfor i in (1, 2):\n    x += i\nx"), code("y = x"), markdown("End.")
    ]  # fmt: skip


def test_the_arguments_of_an_example_are_those_of_the_trace() -> None:
    def forward(X: int, W: int = 7, b: int | None = None, *, n: int) -> None: ...

    call = ast.parse("forward(X[:1], b=b, n=2, **more)").body[0]
    assert isinstance(call, ast.Expr) and isinstance(call.value, ast.Call)
    assert arguments(call.value, forward) == (["X[:1]", "7", "b"], ["n=2", "**more"])


def test_links_lead_to_sections(cells: list[Cell]) -> None:
    text = text_of(cells, "markdown")
    anchors = re.findall(r'<a id="([^"]+)"', text)
    assert len(anchors) == len(set(anchors)) > 40
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(anchors)
    assert not re.search(r"\]\((?!#)[^)]*\.(?:md|py)", text)


def test_every_exercise_is_there_with_hints_and_solution(cells: list[Cell]) -> None:
    code, text = text_of(cells, "code"), text_of(cells, "markdown")
    assert re.findall(r'^check\("(\w+)", (?:backward|step|make_mask)\)$', code, re.MULTILINE) == [
        name for part in PARTS for section in part.sections for name in NAMES
        if module.EXERCISES.get(name, name) in section.split("+")
    ]  # fmt: skip
    assert Counter(re.findall(r'^check\("(\w+)"', code, re.MULTILINE)) == Counter(NAMES)
    for exercise in map(read, NAMES):
        assert f"### Exercise: {exercise.title}\n" in text
        assert f"<details><summary>Solution</summary>\n\n```python\n{exercise.solution.strip()}\n```" in text
        assert exercise.starter.partition('"""\n\n')[2].strip() in code
    assert text.count("<summary>Hint 3</summary>") == len(NAMES)


def test_the_code_is_that_of_the_package(cells: list[Cell]) -> None:
    shown = {cell.text for cell in cells if cell.kind == "code"}
    text = text_of(cells, "markdown")
    for part in PARTS:
        for name in (name for section in part.sections for name in section.split("+") if name != "trainer"):
            for member in topics.topics()[name].members:
                source = topics.code_of(member)
                assert source in shown or source in text, member


def drawn_right(figure: Any, found: Trace) -> None:
    """Check that each matrix is drawn as it is, and its gradient, with two scales."""
    maps = {ax.get_title(): ax.get_images()[0] for ax in figure.axes if ax.get_title()}
    drawn = [name for name in found if name in maps]
    rows = [drawn[start : start + 5] for start in range(0, len(drawn), 5)]
    assert list(maps) == [d + name for row in rows for d in ("", "d") for name in row] and len(drawn) > 1
    for title, image in maps.items():
        numbers = getattr(found, title)
        assert (image.get_array().ravel() == numbers.ravel()).all()
        assert image.get_array().shape[1] == numbers.shape[-1]
    assert len({image.get_clim() for image in maps.values()}) == 2 == len(figure.axes) - len(maps)
    assert figure.get_size_inches()[0] == 1.6 * min(len(drawn), 5) + 2


@pytest.fixture(scope="module")
def shown(cells: list[Cell]) -> list[str]:
    """What each cell of code shows, after the cells before it; all but two pictures are left to the long test."""
    names = namespace()
    kept = [cell for cell in cells if cell.kind == "code" and cell.text != "draw(found)"]
    outputs = run(kept[:1], names)
    for cell in kept[1:]:
        outputs += run([cell], names)
        if "npattn.trace((npattn.layers.softmax" in cell.text or "npattn.trace(v7" in cell.text:
            drawn_right(names["draw"](names["found"]), names["found"])
    return outputs


def test_all_cells_run_and_give_what_the_docstrings_say(cells: list[Cell], shown: list[str]) -> None:
    wants = [pages.markdown("foundations", "en").replace("```", "")]
    for part in PARTS:
        for section in part.sections:
            own = trainer.Trainer if section == "trainer" else topics.topics()[section.partition("+")[0]].module
            wants.append(topics.docstring_of(own))
    outputs = iter(shown)
    count = 0
    for text in wants:
        for example in doctest.DocTestParser().get_examples(text):
            if example.want:
                assert any(plain(output) == plain(example.want) for output in outputs), example.source
                count += 1
    assert count > 170


def test_all_gradients_are_right_and_all_exercises_blank(cells: list[Cell], shown: list[str]) -> None:
    code = [cell.text for cell in cells if cell.kind == "code" and cell.text != "draw(found)"]
    checks = [out for text, out in zip(code, shown, strict=True) if text.startswith("print(npattn.check_gradients(")]
    assert len(checks) == 33
    assert all(re.match(r"__main__\.\S+: \d+ gradients? right, largest error ", out) for out in checks)
    answers = [out for text, out in zip(code, shown, strict=True) if text.startswith("check(")]
    assert len(answers) == len(NAMES)
    assert all("still blank" in out and out.endswith("Not right yet. The hints are below.") for out in answers)
    traces = [out for text, out in zip(code, shown, strict=True) if "npattn.trace(" in text]
    assert len(traces) == 33 and all(out.startswith("npattn.") for out in traces)


def test_the_introduction_and_foundations_are_there_in_chinese(cells: list[Cell]) -> None:
    chinese, english = (list(foundations(language)) for language in ("zh", "en"))
    assert [cell for cell in chinese if cell.kind == "code"] == [cell for cell in english if cell.kind == "code"]
    assert cells[3 : 3 + len(english)] == english and len(chinese) == len(english)
    texts = "\n".join(cell.text for cell in chinese)
    assert texts.startswith('# <a id="foundations"></a>基础') and '## <a id="f9"></a>F9. softmax 的' in texts
    assert "$dX$" in texts and "English" not in texts and "中文" not in english[0].text
    assert "如何运行" in INTRODUCTION["zh"] and cells[0].text == INTRODUCTION["en"].strip()
    assert contents("zh").startswith("[基础") and "\n2. 注意力的七个版本: [Version 1, " in contents("zh")
    assert cells[1].text == contents("en") and "\n1. Two layers that everything uses: [Linear](" in contents("en")


@pytest.mark.long
def test_each_section_runs_after_the_first_cell_alone(cells: list[Cell]) -> None:
    first = next(cell for cell in cells if cell.kind == "code")
    sections: list[list[Cell]] = [[]]
    for cell in cells[cells.index(first) + 1 :]:
        if re.match(r"#{1,2} ", cell.text) and cell.kind == "markdown":
            sections.append([])
        sections[-1].append(cell)
    assert len(sections) > 50
    for section in sections:
        names = namespace()
        run([first, *section], names)


@pytest.mark.long
def test_jupyter_runs_it_and_shows_the_pictures(cells: list[Cell], tmp_path: Path) -> None:
    """What `.ci/run` does after `pip install 'npattn[notebook]'`."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: Jupyter does not run the notebook")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: Jupyter does not run the notebook")
    import nbformat

    found = nbformat.reads(notebook(cells), 4)
    nbclient.NotebookClient(found, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in found.cells for output in cell.get("outputs", ())]
    kinds = Counter(kind for output in outputs for kind in output.get("data", ()))
    assert kinds["image/png"] == sum(cell.text == "draw(found)" for cell in cells) + len(PICTURES) + 1
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert list(tmp_path.iterdir()) == []
