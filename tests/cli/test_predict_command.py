"""`npattn predict` prints one line for each text, and attention as text."""

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
from npattn.cli.terminal.attention_text import shade_lines, side_by_side
from npattn.cli.terminal.console import width
from npattn.runs.load import load_run
from npattn.runs.prediction import predict
from npattn.tasks.vocabulary import BOS
from support.command_line import TINY, Cli, process, write_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps. Its outputs are not empty, but often wrong."""
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


def test_beam_is_passed_to_the_search(run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spy(*args: Any, beam: int) -> list[str]:
        return [str(beam)]

    monkeypatch.setattr("npattn.cli.predict.predict", spy)
    assert run("predict", folder, "abc").out == "1\n"
    assert run("predict", folder, "abc", "--beam", "7").out == "7\n"


def test_a_terminal_that_cannot_show_the_shades_gets_question_marks(folder: Path) -> None:
    status, out, err = process("predict", folder, "abc", "--show-attention", PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "") and "?" in out


def test_options_may_stand_between_the_texts(run: Cli, folder: Path) -> None:
    wanted = expected(folder, ["abc", "cab"], 2)
    assert run("predict", folder, "--beam", "2", "abc", "cab").out.splitlines() == wanted
    assert run("predict", "--beam", "2", folder, "abc", "cab").out.splitlines() == wanted
    assert run("predict", folder, "abc", "--beam", "2", "cab").out.splitlines() == wanted


def test_empty_lines_of_standard_input_give_empty_lines(folder: Path) -> None:
    status, out, err = process("predict", folder, stdin="abc\n\n  \r\ncab\r\nbad")
    first, second, third = expected(folder, ["abc", "cab", "bad"])
    assert (status, err) == (0, "")
    assert out.split("\n") == [first, "", "", second, third, ""]
    assert process("predict", folder, stdin="") == (0, "", "")


def test_an_undecodable_line_is_named_by_its_number(folder: Path) -> None:
    status, _, err = process("predict", folder, stdin=b"abc\n\xff\xfe\n", PYTHONIOENCODING="utf-8:strict")
    assert status == 1 and err == "npattn: standard input, near line 1: expected text in utf-8\n"


def test_a_warning_lists_unknown_symbols(run: Cli, folder: Path) -> None:
    status, out, err = run("predict", folder, "abc", "aße")
    assert status == 0 and out.count("\n") == 2
    assert err == "npattn: not in the model's vocabulary, read as <unk>: ß e\n"
    assert run("predict", folder, "a\x1b\x07\x85b").err.endswith(r"<unk>: \x1b \x07 \x85" + "\n")


def test_a_run_without_a_model_is_an_error(run: Cli, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((folder / "run.json").read_bytes())
    assert "not been validated yet" in run.fails("predict", tmp_path, "abc")
    (tmp_path / "run.json").write_text("{}")
    assert "run.json" in run.fails("predict", tmp_path, "abc")


def test_on_a_terminal_each_line_is_answered_before_the_next(
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


def test_the_alignment_has_the_weights_of_the_search(folder: Path) -> None:
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


def test_attention_is_printed_below_the_output(run: Cli, folder: Path) -> None:
    target = expected(folder, ["abc"])[0]
    _, out, _ = run("predict", folder, "abc", "--show-attention")
    first, empty, sources, *rows, last = out.splitlines()
    assert (first, empty, last, sources.strip()) == (target, "", "", "abc")
    assert [row.split()[0] for row in rows] == list(target)
    _, out, _ = run("predict", folder, "abc", "--per-head")
    assert out.splitlines()[2].split() == ["head", "1", "head", "2"]


words = st.lists(st.text("ab七c\u0301", min_size=1, max_size=6), min_size=1, max_size=30)


@given(words, st.lists(st.sampled_from(["a", "七", "SH", "word"]), max_size=4), st.integers(0, 2**32 - 1))
def test_the_shades_fit_the_width_and_every_symbol_is_shown(sources: list[str], targets: list[str], seed: int) -> None:
    A = np.random.default_rng(seed).dirichlet(np.ones(len(sources)), len(targets))
    lines = shade_lines(A, sources, targets, columns=40)
    assert max(map(width, lines)) <= 40
    assert len(lines) % (1 + len(targets)) == 0
    heads = lines[:: 1 + len(targets)]
    assert "".join("".join(heads).split()) == "".join(sources)


def test_the_darkest_shade_stands_below_its_symbol() -> None:
    A = np.array([[0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
    head, first, second = shade_lines(A, ["二", "月", "x"], ["A", "B"])
    assert head == "    二月x"
    assert first == "  A   ██" and second == "  B     █"
    assert shade_lines(np.array([[0.1, 0.2, 0.2]]), "abc", "A") == ["    abc", "  A ▒██"]  # 0.2 is the row's largest
    head, first, second = shade_lines(A, ["one", "two", "three"], ["A", "B"])
    assert head == "    one two three"
    assert first.index("█") == head.index("two") and second.index("█") == head.index("three")


def test_texts_that_fit_stand_side_by_side() -> None:
    text = ["x" * 10, "y"]
    assert side_by_side([text] * 3, columns=22) == [
        "xxxxxxxxxx  xxxxxxxxxx", "y           y", "", "xxxxxxxxxx", "y", ""
    ]  # fmt: skip
    assert side_by_side([text], columns=3) == [*text, ""]
