"""`npattn predict`: texts in, one line out for each, and pictures of attention in text."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.cli.program import main
from npattn.cli.terminal import alignment
from npattn.cli.terminal.attention_text import draw, side_by_side
from npattn.cli.terminal.console import width
from npattn.runs.load import load_run
from npattn.runs.prediction import predict
from npattn.tasks.vocabulary import BOS
from support.command_line import TINY, Cli, process, write_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps: enough to say something, if not the right thing."""
    root = tmp_path_factory.mktemp("predict")
    options = [*TINY, "--steps", "120", "--rate", "0.02", "--d-model", "16"]
    assert main(["train", str(write_pairs(root)), "--run", str(root / "run"), *options]) == 0
    return root / "run"


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    capsys.readouterr()
    return Cli(capsys)


def expected(folder: Path, texts: list[str], beam: int = 1) -> list[str]:
    model, codec, _ = load_run(folder)
    return predict(model, codec, texts, beam=beam)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_line_for_each_text(run: Cli, folder: Path, beam: int) -> None:
    texts = ["abc", "cab", "aad", "b"]
    status, out, err = run("predict", folder, *texts, "--beam", beam)
    assert (status, err) == (0, "")
    assert out.splitlines() == expected(folder, texts, beam)
    assert len(set(out.splitlines())) > 1


def test_beam_reaches_the_search(run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spy(*args: Any, beam: int) -> list[str]:
        return [str(beam)]

    monkeypatch.setattr("npattn.cli.predict.predict", spy)
    assert run("predict", folder, "abc").out == "1\n"
    assert run("predict", folder, "abc", "--beam", "7").out == "7\n"


def test_a_terminal_without_our_letters_is_no_reason_to_fail(folder: Path) -> None:
    status, out, err = process("predict", folder, "abc", "--show-attention", PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "") and "?" in out


def test_options_may_stand_between_the_texts(run: Cli, folder: Path) -> None:
    wanted = expected(folder, ["abc", "cab"], 2)
    assert run("predict", folder, "--beam", "2", "abc", "cab").out.splitlines() == wanted
    assert run("predict", "--beam", "2", folder, "abc", "cab").out.splitlines() == wanted
    assert run("predict", folder, "abc", "--beam", "2", "cab").out.splitlines() == wanted


def test_lines_of_standard_input_keep_their_places(folder: Path) -> None:
    status, out, err = process("predict", folder, stdin="abc\n\n  \r\ncab\r\nbad")
    first, second, third = expected(folder, ["abc", "cab", "bad"])
    assert (status, err) == (0, "")
    assert out.split("\n") == [first, "", "", second, third, ""]
    assert process("predict", folder, stdin="") == (0, "", "")


def test_what_is_no_text_is_named(folder: Path) -> None:
    status, _, err = process("predict", folder, stdin=b"abc\n\xff\xfe\n", PYTHONIOENCODING="utf-8:strict")
    assert status == 1 and err == "npattn: standard input, near line 1: expected text in utf-8\n"


def test_unknown_symbols_are_read_but_not_in_silence(run: Cli, folder: Path) -> None:
    status, out, err = run("predict", folder, "abc", "aße")
    assert status == 0 and out.count("\n") == 2
    assert err == "npattn: unknown to this model, read as <unk>: ß e\n"
    assert run("predict", folder, "a\x1b\x07\x85b").err.endswith(r"<unk>: \x1b \x07 \x85" + "\n")


def test_an_unvalidated_run_is_named(run: Cli, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((folder / "run.json").read_bytes())
    assert "not been validated yet" in run.fails("predict", tmp_path, "abc")
    (tmp_path / "run.json").write_text("{}")
    assert "run.json" in run.fails("predict", tmp_path, "abc")


def test_typing_gets_an_answer_to_each_line(
    run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

        def readline(self, *args: Any) -> str:
            answers.append(capsys.readouterr().out)
            return super().readline(*args)

    answers: list[str] = []
    monkeypatch.setattr("sys.stdin", Keyboard("abc\ncab\n"))
    assert run("predict", folder).status == 0
    assert answers[1:] == [line + "\n" for line in expected(folder, ["abc", "cab"])]


def test_the_alignment_is_what_the_search_saw(folder: Path) -> None:
    model, codec, _ = load_run(folder)
    target = predict(model, codec, ["abc"])[0]
    A = alignment(model, codec, "abc", target)
    assert A.shape == (2, len(target), 3)
    np.testing.assert_allclose(A.sum(-1), 1, rtol=1e-5)
    src = np.array([codec.encode_source("abc")])
    one_by_one = []
    for i in range(len(target)):
        tgt = np.array([[BOS, *codec.target_vocabulary.encode(target[:i])]])
        _, cache = model.forward(src, tgt)
        one_by_one.append(cache.attention_weights()["decoder.0.cross_attention"][0, :, -1])
    np.testing.assert_allclose(A, np.stack(one_by_one, 1), rtol=1e-4, atol=1e-6)


def test_attention_is_shown_below_the_line(run: Cli, folder: Path) -> None:
    target = expected(folder, ["abc"])[0]
    _, out, _ = run("predict", folder, "abc", "--show-attention")
    first, empty, sources, *rows, last = out.splitlines()
    assert (first, empty, last, sources.strip()) == (target, "", "", "abc")
    assert [row.split()[0] for row in rows] == list(target)
    _, out, _ = run("predict", folder, "abc", "--per-head")
    assert out.splitlines()[2].split() == ["head", "1", "head", "2"]


words = st.lists(st.text("ab七c\u0301", min_size=1, max_size=6), min_size=1, max_size=30)


@given(words, st.lists(st.sampled_from(["a", "七", "SH", "word"]), max_size=4), st.integers(0, 2**32 - 1))
def test_the_drawing_fits_and_shows_every_symbol(sources: list[str], targets: list[str], seed: int) -> None:
    A = np.random.default_rng(seed).dirichlet(np.ones(len(sources)), len(targets))
    lines = draw(A, sources, targets, columns=40)
    assert max(map(width, lines)) <= 40
    assert len(lines) % (1 + len(targets)) == 0
    heads = lines[:: 1 + len(targets)]
    assert "".join("".join(heads).split()) == "".join(sources)


def test_the_darkest_cell_stands_below_its_symbol() -> None:
    A = np.array([[0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
    head, first, second = draw(A, ["二", "月", "x"], ["A", "B"])
    assert head == "    二月x"
    assert first == "  A   ██" and second == "  B     █"
    assert draw(np.array([[0.1, 0.2, 0.2]]), "abc", "A") == ["    abc", "  A ▒██"]  # relative to the largest of the row
    head, first, second = draw(A, ["one", "two", "three"], ["A", "B"])
    assert head == "    one two three"
    assert first.index("█") == head.index("two") and second.index("█") == head.index("three")


def test_blocks_that_fit_stand_side_by_side() -> None:
    block = ["x" * 10, "y"]
    assert side_by_side([block] * 3, columns=22) == [
        "xxxxxxxxxx  xxxxxxxxxx", "y           y", "", "xxxxxxxxxx", "y", ""
    ]  # fmt: skip
    assert side_by_side([block], columns=3) == [*block, ""]
