"""`npattn explain`: the derivation and the code as they stand in the source, fitted to a terminal."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

import npattn
from command_line import Cli
from npattn import explain, layers
from npattn.attention import VERSIONS
from npattn.commands.console import width
from npattn.commands.fitting import fit_code, fit_formula, fit_text

TOPICS = explain.topics()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize("name", TOPICS)
def test_every_topic_is_shown_whole_and_fits_80_columns(run: Cli, name: str) -> None:
    status, out, err = run("explain", name)
    assert (status, err) == (0, "")
    assert max(map(width, out.splitlines())) <= 80
    topic = TOPICS[name]
    shown = words(out)
    for section, text in explain.sections(topic):
        assert is_part(words(text), shown), section
    for member in topic.members:
        code = [word for word in words(explain.code_of(member)) if word != "#"]
        assert is_part(code, [word for word in shown if word != "#"]), member


def is_part(some: list[str], whole: list[str]) -> bool:
    """Tell whether every word is there as often as it has to be: wrapping moves comments above long code."""
    return all(whole.count(word) >= some.count(word) for word in set(some))


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


def test_forward_stands_after_forward_and_backward_after_backward(run: Cli) -> None:
    out = run("explain", "v5").out
    landmarks = "\nForward\n", "def forward(", "\nBackward\n", "def backward(", "\nBy hand\n"
    places = [out.index(text) for text in landmarks]
    assert places == sorted(places)


def test_every_version_layer_and_public_function_of_mathematics_is_a_topic() -> None:
    explained = {member for topic in TOPICS.values() for member in topic.members}
    for version in VERSIONS:
        assert {version.module.forward, version.module.backward} <= explained
    assert {getattr(layers, name) for name in layers.__all__} <= explained
    public = {getattr(npattn, name) for name in npattn.__all__}
    functions = {each for each in public if inspect.isfunction(each) and not each.__module__.startswith("npattn._")}
    assert functions <= explained


@pytest.mark.parametrize(
    ("written", "meant"),
    [("V5", "v5"), ("v5_cross_attention", "v5"), ("cross-attention", "v5"), ("layer-norm", "layer_norm"),
     ("Adam", "adam"), ("noam_rate", "rates"), ("scaled_dot_product_attention", "attention")],
)  # fmt: skip
def test_a_topic_goes_by_several_names(written: str, meant: str) -> None:
    assert explain.find_topic(written).name == meant


def test_alone_it_lists_the_topics(run: Cli) -> None:
    status, out, err = run("explain")
    assert (status, err) == (0, "")
    listed = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert listed == list(TOPICS)
    assert max(map(width, out.splitlines())) <= 80


def test_an_unknown_topic_is_one_line_with_near_matches(run: Cli) -> None:
    assert "layernrm: no topic of ours; did you mean layer_norm?" in run.fails("explain", "layernrm", status=2)
    assert "npattn explain lists them" in run.fails("explain", "zzz", status=2)


def test_every_module_explained_has_its_sections() -> None:
    for topic in TOPICS.values():
        names = [name for name, _ in explain.sections(topic)]
        assert names[0] == ""
        if len(topic.members) == 2 and topic.name not in ("relu", "gelu"):
            assert {"Forward", "Backward", "Shapes", "Source"} <= set(names), topic.name


text = st.lists(st.text("aβ=ᵀ,()", min_size=1, max_size=12), min_size=1, max_size=30)


@given(text, st.lists(st.integers(1, 6), min_size=30, max_size=30), st.integers(30, 100))
def test_no_word_of_a_formula_is_lost(parts: list[str], gaps: list[int], columns: int) -> None:
    line = "    " + "".join(part + " " * gap for part, gap in zip(parts, gaps, strict=False)).rstrip()
    lines = fit_formula(line, columns)
    assert words(" ".join(lines)) == words(line)
    assert max(map(len, lines)) <= columns


def test_a_formula_that_fits_is_left_alone_and_columns_stay_below_one_another() -> None:
    line = "    y = x    dx = dy,  dy = dx    see there"
    assert fit_text(line, 50) == [line]
    assert fit_text(line, 34) == ["    y = x    dx = dy,  dy = dx", "             see there"]


def test_comments_stand_below_one_another_or_above_long_code() -> None:
    code = "def f():\n    a = 1                                   # one\n    return a  # it\n    # alone"
    assert fit_code(code, 60) == [
        "def f():", "    a = 1                               # one",
        "    return a                            # it", "    # alone",
    ]  # fmt: skip
    long = f"    {'x + ' * 12}x  # {'many words ' * 3}".rstrip()
    above, *rest = fit_code(long, 60)
    assert above == "    # many words many words many words"
    assert " ".join(rest).split() == ("x + " * 12 + "x").split()
    assert not any(re.search(r"\S# ", line) for line in fit_code("    y = (aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa)  # c", 80))
