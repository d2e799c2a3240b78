"""`npattn explain` prints derivations and code as they stand in the source."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap

import pytest

import npattn
from npattn import layers
from npattn.attention import VERSIONS
from npattn.cli.explain import topics as explain
from npattn.cli.terminal.console import width
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
    for version in VERSIONS:
        assert {version.module.forward, version.module.backward} <= explained
    assert {getattr(layers, name) for name in layers.__all__} <= explained
    public = {getattr(npattn, name) for name in npattn.__all__}
    files = ("npattn._", "npattn.runs.")                      # no mathematics
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
    assert listed == list(TOPICS)
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


@pytest.mark.parametrize("number", range(1, 7))
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
    done = subprocess.run([sys.executable, "-OO", "-m", "npattn", "explain", "v5"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == run("explain", "v5").out


def test_more_than_two_topics_are_refused(run: Cli) -> None:
    assert "expected at most two topics, got 3" in run.fails("explain", "v1", "v2", "v3", status=2)
