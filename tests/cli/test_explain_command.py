"""`npattn explain` prints derivations and code as they stand in the source, and the pages of npattn.learn."""

from __future__ import annotations

import ast
import inspect
import io
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import npattn
from npattn import layers
from npattn.attention import MODERN_VERSIONS, VERSIONS
from npattn.cli.explain import command, pages
from npattn.cli.explain import topics as explain
from npattn.cli.terminal.console import Console, width
from support.command_line import Cli

TOPICS = explain.topics()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.mark.parametrize("name", TOPICS)
def test_every_topic_is_shown_as_it_stands_in_the_source(run: Cli, name: str) -> None:
    status, out, err = run("explain", name)
    assert (status, err) == (0, "")
    topic = TOPICS[name]
    shown = set(out.splitlines())
    for section, text in explain.sections(topic):
        assert {line.rstrip() for line in text.splitlines()} <= shown, section
    for member in topic.members:
        assert {f"  {line}".rstrip() for line in explain.code_of(member).splitlines()} <= shown, member


def test_the_code_is_the_source_without_the_docstring() -> None:
    for topic in TOPICS.values():
        for member in topic.members:
            if inspect.isclass(member):
                continue
            shown = ast.parse(explain.code_of(member)).body[0]
            source = ast.parse(textwrap.dedent(inspect.getsource(member))).body[0]
            assert isinstance(source, ast.FunctionDef) and isinstance(shown, ast.FunctionDef)
            if ast.get_docstring(source) is not None:
                del source.body[0]
            assert ast.dump(shown) == ast.dump(source)


def test_the_code_of_forward_and_backward_follows_their_sections(run: Cli) -> None:
    out = run("explain", "v5").out
    landmarks = "\nForward\n", "def forward(", "\nBackward\n", "def backward(", "\nChanged\n", "\nBy hand\n"
    places = [out.index(text) for text in landmarks]
    assert places == sorted(places)


def test_the_example_comes_after_all_code(run: Cli) -> None:
    out = run("explain", "transformer").out
    assert out.index("def feed_forward_backward(") < out.index("\nExample\n")


def test_every_version_layer_and_public_function_of_mathematics_is_a_topic() -> None:
    explained = {member for topic in TOPICS.values() for member in topic.members}
    for version in VERSIONS + MODERN_VERSIONS:
        assert {version.module.forward, version.module.backward} <= explained
    assert {getattr(layers, name) for name in layers.__all__} <= explained
    public = {getattr(npattn, name) for name in npattn.__all__}
    files = ("npattn._", "npattn.runs.", "npattn.learn.")     # no mathematics of their own
    functions = {each for each in public if inspect.isfunction(each) and not each.__module__.startswith(files)}
    assert functions <= explained


@pytest.mark.parametrize(
    ("written", "meant"),
    [("V5", "v5"), ("v5_cross_attention", "v5"), ("cross-attention", "v5"), ("layer-norm", "layer_norm"),
     ("Adam", "adam"), ("noam_rate", "rates"), ("scaled_dot_product_attention", "attention")],
)  # fmt: skip
def test_a_topic_has_several_names(written: str, meant: str) -> None:
    assert explain.find_topic(written).name == meant


def test_without_a_topic_it_lists_all_topics(run: Cli) -> None:
    status, out, err = run("explain")
    assert (status, err) == (0, "")
    listed = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert listed == [*pages.PAGES, *TOPICS]
    assert max(map(width, out.splitlines())) <= 80


def test_the_error_for_an_unknown_topic_suggests_similar_names(run: Cli) -> None:
    assert "layernrm: unknown topic; did you mean layer_norm?" in run.fails("explain", "layernrm", status=2)
    assert "npattn explain lists all topics" in run.fails("explain", "zzz", status=2)


def test_every_module_of_a_topic_has_its_sections() -> None:
    for topic in TOPICS.values():
        names = [name for name, _ in explain.sections(topic)]
        assert names[0] == ""
        if len(topic.members) == 2 and not topic.name.endswith(("search", "check_gradients")):
            assert {"Forward", "Backward", "Source"} <= set(names), topic.name


def test_the_declared_shapes_are_printed_once(run: Cli) -> None:
    out = run("explain", "v5").out
    assert "\nShapes\nQ (…, N_Q, D_Q), X (…, N_X, D_X), W_K (D_X, D_Q)," in out
    assert out.count("W_K (D_X, D_Q)") == 1


@pytest.mark.parametrize("number", range(1, 10))
def test_two_topics_give_the_difference_of_their_code(run: Cli, number: int) -> None:
    """The difference has every changed line of both versions, and no docstring."""
    one, other = TOPICS[f"v{number}"], TOPICS[f"v{number + 1}"]
    status, out, err = run("explain", f"v{number}", f"v{number + 1}")
    assert (status, err) == (0, "")
    head, rule, difference = out.partition(f"--- {one.module.__name__}\n+++ {other.module.__name__}\n")
    assert head.split() == ["Changed", *dict(explain.sections(other))["Changed"].split()] and rule
    assert '\"\"\"' not in out
    sources = [explain.without_docstrings(inspect.getsource(t.module)).splitlines() for t in (one, other)]
    for sign, mine, theirs in (("-", *sources), ("+", *reversed(sources))):
        changed = [line[1:] for line in difference.splitlines() if line.startswith(sign)]
        assert changed and all(line in [each.rstrip() for each in mine] for line in changed)
        assert all(line in theirs for line in mine if line.rstrip() not in changed)


def test_derivations_are_printed_without_docstrings_in_memory(run: Cli) -> None:
    for topic in ("v5", "F9"):
        process = [sys.executable, "-OO", "-m", "npattn", "explain", topic]
        done = subprocess.run(process, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode() == run("explain", topic).out


def test_more_than_two_topics_are_refused(run: Cli) -> None:
    assert "expected at most two topics, got 3" in run.fails("explain", "v1", "v2", "v3", status=2)


@pytest.mark.parametrize("language", ["en", "zh", "zh-CN"])
@pytest.mark.parametrize("page", pages.PAGES)
def test_a_page_is_printed_with_all_its_words_and_formulas(run: Cli, page: str, language: str) -> None:
    status, out, err = run("explain", page, "--language", language)
    assert (status, err) == (0, "")
    text = pages.markdown(page, language[:2])
    formulas = re.findall(r"^ {4}.+$|^>>> .+$", text, re.MULTILINE)
    assert all(line in out for line in formulas)
    text = re.sub(r"<a id=\S+></a>|\]\([^)]*\)|^```\w*$|^.*\| (中文|\[中文).*$", "", text, flags=re.MULTILINE)
    assert re.findall(r"[^\s\[\]]", out) == re.findall(r"[^\s\[\]]", text)
    assert "](" not in out and "```" not in out and "<a id" not in out
    prose = [line for line in out.splitlines() if not line.startswith(("    ", "|"))]
    assert max(map(width, prose)) <= 80
    assert (len(re.findall(r"[\u4e00-\u9fff]", out)) > len(out) / 9) == (language != "en" and page != "cheat_sheet")


@pytest.mark.parametrize(
    ("words", "first"),
    [("foundations F9", "## F9. The softmax Jacobian"), ("foundations#F9", "## F9. The softmax Jacobian"),
     ("F9", "## F9. The softmax Jacobian"), ("Foundations f16", "## F16. How a gradient is checked"),
     ("F9 --language zh", "## F9. softmax 的雅可比矩阵"),
     ("glossary Residual stream", "- **residual stream** (残差流)"),
     ("glossary WER", "- **PER, WER** ("), ("glossary#cotangent --language zh-CN", "- **cotangent**（余切向量）"),
     ("cheat-sheet v7", "## v7")],
)  # fmt: skip
def test_one_section_or_entry_is_printed(run: Cli, words: str, first: str) -> None:
    status, out, err = run("explain", *words.split())
    assert (status, err) == (0, "")
    assert out.startswith(first)
    assert len(re.findall(r"^(?:## |- \*\*)", out, re.MULTILINE)) == 1


def test_every_section_is_printed_as_the_page_has_it(run: Cli) -> None:
    whole = run("explain", "foundations").out
    for name in (f"F{n}" for n in range(1, 17)):
        assert run("explain", name).out in whole


@pytest.mark.parametrize(
    ("words", "first"),
    [("cotangent", "- **cotangent** ("), ("residual stream", "- **residual stream** ("), ("Epoch", "- **epoch** ("),
     ("kronecker", "- **Kronecker's delta** ("), ("glossary kronecker", "- **Kronecker's delta** ("),
     ("cotangent --language zh", "- **cotangent**（")],
)  # fmt: skip
def test_a_term_of_the_glossary_is_found_alone_and_by_a_piece(run: Cli, words: str, first: str) -> None:
    assert run("explain", *words.split()).out.startswith(first)


def test_a_topic_comes_before_a_term_and_a_piece_of_several_terms_is_refused(run: Cli) -> None:
    for name in ("softmax", "Softmax", "cross-attention"):     # terms of the glossary too
        assert run("explain", name).out.startswith("npattn.")
    assert "norm: not in glossary; did you mean" in run.fails("explain", "glossary", "norm", status=2)
    assert "entropy-: unknown topic" in run.fails("explain", "entropy-", status=2)


@pytest.mark.parametrize("name", TOPICS)
def test_what_the_code_calls_is_explained_if_it_is_not_shown(run: Cli, name: str) -> None:
    """Every function with a docstring that the shown code calls by its name, found here from the syntax tree."""
    topic, calls = TOPICS[name], set()
    for member in topic.members:
        for node in ast.walk(ast.parse(explain.code_of(member))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("SHAPES.check", "SHAPES.check_backward"):
                calls.add(ast.unparse(node.func))
            elif isinstance(node, ast.Attribute) and node.attr == "mT":
                calls.add(".mT")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                function = getattr(topic.module, node.func.id, None)
                if inspect.isfunction(function) and function.__module__ != "typing" and explain.docstring_of(function):
                    calls |= {node.func.id} - {member.__name__ for member in topic.members}
    assert {called for called, _ in explain.called(topic)} == calls
    assert all(text.endswith(".") for _, text in explain.called(topic))


def test_what_is_called_is_printed_in_the_words_of_its_docstring(run: Cli) -> None:
    out = run("explain", "layer_norm").out.partition("\nCalled above\n")[2]
    assert re.search(r"^sum_rows +1ᵀ dY over all rows", out, re.MULTILINE)
    assert re.search(r"^row_sum +Σ over the last axis", out, re.MULTILINE)
    out = run("explain", "v5").out.partition("\nCalled above\n")[2]
    assert re.search(r"^project +X W \+ b", out, re.MULTILINE) and re.search(r"^\.mT +NumPy", out, re.MULTILINE)


def test_the_error_for_an_unknown_section_or_entry_suggests_similar_names(run: Cli) -> None:
    assert "f17: not in foundations; did you mean f" in run.fails("explain", "foundations", "F17", status=2)
    assert "did you mean residual stream?" in run.fails("explain", "glossary", "residual", "streem", status=2)
    assert "glossary prints all of it" in run.fails("explain", "glossary", "qqq", status=2)
    assert "foundatons: unknown topic; did you mean foundations?" in run.fails("explain", "foundatons", status=2)


def test_a_page_cannot_be_compared_with_a_topic(run: Cli) -> None:
    for page in ("foundations", "cheat-sheet", "F9", "glossary", "cotangent"):
        reason = "a page or a part of one cannot be compared with a topic"
        message = f"{page}: {reason}; npattn explain {page} prints it"
        assert message in run.fails("explain", "v5", page, status=2)
    message = "v5: not in foundations, and a page cannot be compared with a topic; npattn explain foundations prints"
    assert message in run.fails("explain", "foundations", "v5", status=2)
    assert "v5: unknown topic" not in run.fails("explain", "v5", "v55", status=2)


def test_a_derivation_has_one_language(run: Cli) -> None:
    assert "v5 is in English only" in run.fails("explain", "v5", "--language", "zh", status=2)
    assert "v55: unknown topic" in run.fails("explain", "v55", "--language", "zh", status=2)


def test_the_list_names_the_pages_in_the_language(run: Cli) -> None:
    for language, title in (("en", "Foundations: from a loss"), ("zh", "基础：从损失")):
        assert run("explain", "--language", language).out.split(maxsplit=1)[1].startswith(title)


def test_a_topic_ends_with_the_sections_that_it_refers_to(run: Cli) -> None:
    derivation, _, end = run("explain", "softmax").out.partition("\nFoundations\n")
    assert "foundations F9" in derivation
    assert "npattn explain F9  The softmax Jacobian" in end.splitlines()


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_bold_headings_and_terms_and_code_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(io.BytesIO(), encoding="utf-8")
    command.show_page("## F1. Loss\n\nA **long\nterm** and x.\n\n    >>> 2**3 + 3**2\n", Console(terminal))
    terminal.seek(0)
    shown = terminal.read()
    assert shown == "\033[1mF1. Loss\033[0m\n\nA \033[1mlong\nterm\033[0m and x.\n\n    >>> 2**3 + 3**2\n"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_terminal_that_lacks_the_letters_gets_an_error_and_no_false_formula(language: str) -> None:
    text = pages.find(["F9"], language)
    assert text is not None
    terminal = Terminal(io.BytesIO(), encoding="cp1252")
    with pytest.raises(ValueError, match="files and pipes get UTF-8"):
        command.show_page(text, Console(terminal))
    assert terminal.tell() == 0


def test_the_pages_are_found_in_a_zip(tmp_path: Path, run: Cli) -> None:
    package = Path(npattn.__file__).parent
    with zipfile.ZipFile(tmp_path / "npattn.zip", "w") as archive:
        for path in package.rglob("*"):
            if path.suffix in (".py", ".md"):
                archive.write(path, path.relative_to(package.parent))
    code = "import sys, npattn.cli; print(npattn.__file__); sys.exit(npattn.cli.main(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "npattn.zip")}
    process = [sys.executable, "-c", code, "explain", "F9", "--language", "zh"]
    done = subprocess.run(process, capture_output=True, timeout=60, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    home, _, printed = done.stdout.decode().partition("\n")
    assert "npattn.zip" in home
    assert printed == run("explain", "F9", "--language", "zh").out
