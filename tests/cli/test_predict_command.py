"""`npattn predict` prints one line for each text, and attention as text."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Transformer
from npattn.cli.predict.steps import RUNNERS_UP
from npattn.cli.program import main
from npattn.cli.terminal import alignment, draw_alignments, legend_line
from npattn.cli.terminal.attention_text import shade_lines, side_by_side
from npattn.cli.terminal.console import width
from npattn.runs.load import load_run
from npattn.runs.prediction import predict
from npattn.runs.trained import TrainedModel
from npattn.tasks.vocabulary import BOS, EOS
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
    def spy(self: Any, texts: list[str], **options: Any) -> list[str]:
        return [str(options["beam"])]

    monkeypatch.setattr(TrainedModel, "__call__", spy)
    assert run("predict", folder, "abc").out == "None\n"
    assert run("predict", folder, "abc", "--beam", "7").out == "7\n"


def test_the_n_best_with_their_scores(run: Cli, folder: Path) -> None:
    model = load_run(folder)
    status, out, err = run("predict", folder, "abc", "", " c  ab", "--n-best", "2")
    assert (status, err) == (0, "npattn: not in the model's vocabulary, read as <unk>: ' '\n")
    wanted = [
        f"{shown}\t{each.text}\t{each.score:.4f}"
        for shown, source in (("abc", "abc"), ("c ab", "c  ab"))
        for each in model(source, n_best=2, unknown="<unk>")
    ]
    assert out.split("\n") == [*wanted[:2], "", *wanted[2:], ""]
    _, out, _ = run("predict", folder, "abc", "--n-best", "2", "--show-attention")
    _, best, _ = run("predict", folder, "abc", "--beam", "2", "--show-attention")
    assert out.splitlines() == wanted[:2] + best.splitlines()[1:]
    line = run.fails("predict", folder, "abc", "--n-best", "3", "--beam", "2", status=2)
    assert "--n-best: expected at most --beam 2, got 3" in line


def test_an_ensemble(run: Cli, folder: Path) -> None:
    model, other = load_run(folder), folder.parent / "other"
    shutil.copytree(folder, other)
    changed = Transformer.load(other / "best.npz")
    changed.params.flat[:] *= np.random.default_rng(0).uniform(-1, 1, changed.params.flat.size)
    changed.save(other / "best.npz")
    ensemble = [load_run(other)]
    best = model("abc", n_best=2, ensemble=ensemble)
    assert best != model("abc", n_best=2) != ensemble[0]("abc", n_best=2)
    status, out, err = run("predict", folder, "abc", "--n-best", "2", "--ensemble", other)
    assert (status, err) == (0, "") and out.splitlines() == [f"abc\t{each.text}\t{each.score:.4f}" for each in best]
    found = run("predict", folder, "abc", "cab", "--ensemble", other, "--ensemble", other).out.splitlines()
    assert found == model(["abc", "cab"], ensemble=2 * ensemble)


@pytest.mark.parametrize("option", [["--explain"], ["--show-attention"], ["--per-head"], ["--plot", "a.png"]])
def test_what_shows_a_single_model(run: Cli, folder: Path, option: list[str]) -> None:
    line = run.fails("predict", folder, "abc", "--ensemble", folder, *option, status=2)
    assert f"{option[0]}: expected without --ensemble, because it shows a single model" in line


def test_the_models_of_an_ensemble_must_fit(run: Cli, folder: Path) -> None:
    assert "npattn: g2p: expected the target_unit of the first" in run.fails("predict", folder, "--ensemble", "g2p")
    assert "nowhere: " in run.fails("predict", folder, "abc", "--ensemble", "nowhere")


def test_json_is_an_object_for_each_text(run: Cli, folder: Path) -> None:
    model = load_run(folder)
    status, out, err = process("predict", folder, "--json", stdin=b"abc\n\ncab\na\n\xff\n")
    *found, last = [json.loads(line) for line in out.splitlines()]
    assert found == [{"text": text, "target": model(text) if text else ""} for text in ("abc", "", "cab", "a")]
    assert status == 1 and last["text"] == "\udcff"
    assert last["error"] == "standard input, line 5: expected text in UTF-8, got '\\udcff'"
    assert err == f"npattn: {last['error']}\n"
    _, out, _ = run("predict", folder, "abc", "", "--json", "--n-best", "2")
    best = [each._asdict() for each in model("abc", n_best=2)]
    assert [json.loads(line) for line in out.splitlines()] == [
        {"text": "abc", "targets": best}, {"text": "", "targets": []},
    ]  # fmt: skip


@pytest.mark.parametrize("option", ["--show-attention", "--per-head"])
def test_json_has_no_pictures(run: Cli, folder: Path, option: str) -> None:
    assert "--json: expected without" in run.fails("predict", folder, "a", "--json", option, status=2)


def test_a_line_that_is_too_long_is_named_and_the_others_are_answered(
    run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npattn.runs.prediction.SCORES_OF_TEXT", 32)   # of two heads: 4 symbols
    monkeypatch.setattr("sys.stdin", io.StringIO("abc\n" * 1500 + "abcab\ncab\n"))
    first, last = expected(folder, ["abc", "cab"])
    status, out, err = run("predict", folder)
    assert status == 1
    assert out.splitlines() == [first] * 1500 + ["", last]
    assert err == "npattn: standard input, line 1501: expected at most 4 characters, got 5\n"
    status, out, err = run("predict", folder, "abcab", "cab", "--show-attention")
    assert status == 1 and out.splitlines()[:2] == ["", last]
    assert err == "npattn: text 1: expected at most 4 characters, got 5\n"


def in_terminal(encoding: str, *argv: str | Path) -> tuple[int, str]:
    """Call the command line in a terminal of that encoding; return the status and what the terminal got."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "npattn", *map(str, argv)]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "NO_COLOR": "1"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as done:
        os.close(theirs)
        got = b""
        with contextlib.suppress(OSError):                    # Linux's end of a terminal
            while data := os.read(ours, 4096):
                got += data
    os.close(ours)
    return done.returncode, got.decode(encoding).replace("\r\n", "\n")


def test_a_terminal_without_the_shades_gets_others(run: Cli, folder: Path) -> None:
    status, out = in_terminal("ascii", "predict", folder, "abc", "--show-attention")
    assert status == 0 and "* from 0.4, # from 0.7" in out and "?" not in out
    first, *rows = (line for line in out.splitlines() if line.strip())
    _, utf8, _ = run("predict", folder, "abc", "--show-attention")
    assert [row.translate(str.maketrans("░▒▓█", ".:*#")) for row in utf8.splitlines() if row] == [first, *rows]


def test_a_terminal_without_the_letters_of_a_formula_is_told_so() -> None:
    status, out = in_terminal("ascii", "explain", "softmax")
    last = out.splitlines()[-1]
    assert status == 0 and "?" in out
    assert last.startswith("npattn: ascii, the encoding of this terminal, lacks letters: ? stands for ")
    assert r"\u2211" in last or r"\u03a3" in last             # Σ: standard error escapes what it lacks


@pytest.fixture(scope="module")
def ipa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose targets are letters of the IPA."""
    root = tmp_path_factory.mktemp("ipa")
    path = root / "pairs.tsv"
    path.write_text("".join(f"{w}\t{w.translate(str.maketrans('abc', 'ʃəŋ'))}\n" for w in
                            map("".join, itertools.product("abc", repeat=3))), encoding="utf-8")  # fmt: skip
    assert main(["train", str(path), "--run", str(root / "run"), *TINY, "--steps", "60", "--rate", "0.02"]) == 0
    return root / "run"


LOCALES: tuple[dict[str, str], ...] = (
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
)


@pytest.mark.parametrize("locale", LOCALES, ids=str)
def test_files_are_read_and_written_in_utf8_in_every_locale(ipa: Path, locale: dict[str, str]) -> None:
    first, second, last = expected(ipa, ["abc", "é", "cab"])
    assert set(first) & set("ʃəŋ")
    lines = b"\xef\xbb\xbfabc\n" + "é\n".encode() + b"caf\xe9\ncab\n"
    status, out, err = process("predict", ipa, stdin=lines, **locale)
    assert status == 1 and out == f"{first}\n{second}\n\n{last}\n"
    assert err.splitlines() == [
        "npattn: standard input, line 3: expected text in UTF-8, got 'caf\\udce9'",
        "npattn: not in the model's vocabulary, read as <unk>: 'é'",   # one symbol, and no byte order mark
    ]


def test_a_result_that_a_terminal_cannot_show_is_an_error(ipa: Path) -> None:
    status, out = in_terminal("latin-1", "predict", ipa, "abc")
    assert status == 1 and "?" not in out
    assert "npattn: standard output: expected an encoding that has" in out and "files and pipes get UTF-8" in out


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


def test_a_warning_lists_unknown_symbols(run: Cli, folder: Path) -> None:
    status, out, err = run("predict", folder, "abc", "aße")
    assert status == 0 and out.count("\n") == 2
    assert err == "npattn: not in the model's vocabulary, read as <unk>: 'ß' 'e'\n"
    assert run("predict", folder, "a\x1b\x07\x85b c").err.endswith(r"<unk>: '\x1b' '\x07' '\x85' ' '" + "\n")


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
    assert A.shape == (2, len(target) + 1, 3)
    np.testing.assert_allclose(A.sum(-1), 1, rtol=1e-5)
    src = np.array([codec.encode_source("abc")])
    one_by_one = []
    for i in range(len(target) + 1):                          # the last step chooses <eos>
        tgt = np.array([[BOS, *codec.target_vocabulary.encode(target[:i])]])
        _, cache = model.forward(src, tgt)
        one_by_one.append(cache.attention_weights()["decoder.0.cross_attention"][0, :, -1])
    np.testing.assert_allclose(A, np.stack(one_by_one, 1), rtol=1e-4, atol=1e-6)


def test_attention_is_printed_below_the_output(run: Cli, folder: Path) -> None:
    target = expected(folder, ["abc"])[0]
    _, out, _ = run("predict", folder, "abc", "--show-attention")
    first, empty, sources, *rows, last, weights, shades, end = out.splitlines()
    assert (first, empty, last, sources.strip(), end) == (target, "", "", "abc", "")
    assert [row.split()[0] for row in rows] == [*target, "<eos>"]
    assert f"{weights}\n{shades}" == legend_line(per_head=False)
    assert "the last decoder layer's cross-attention, the mean of its heads" in weights
    _, out, _ = run("predict", folder, "abc", "--per-head")
    assert out.splitlines()[2].split() == ["head", "1", "head", "2"]
    _, out, _ = run("predict", folder, "abc", "cab", "--per-head")
    assert out.count(legend_line(per_head=True)) == 1


def test_the_picture_of_attention_has_a_row_for_the_end_and_one_scale(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    model, codec, _ = load_run(folder)
    for per_head in (False, True):
        figure = draw_alignments(model, codec, [("abc", "cb"), ("ab", "ba")], per_head=per_head).figure
        *maps, bar = figure.axes
        assert len(maps) == (4 if per_head else 2) and bar.get_ylim() == (0, 1)
        assert bar.get_ylabel() == "weights $A$ from 0 to 1,\nthe same scale in every picture"
        for ax, target in zip(maps, ("cb",) * (len(maps) // 2) + ("ba",) * (len(maps) // 2), strict=True):
            assert [tick.get_text() for tick in ax.get_yticklabels()] == [*target, "<eos>"]


def test_a_prediction_is_explained_with_the_probabilities_of_the_model(run: Cli, folder: Path) -> None:
    model = load_run(folder)
    target = model("abc")
    tgt = np.array([model.codec.encode_target(target)])
    logits, _ = model.transformer.forward(np.array([model.codec.encode_source("abc")]), tgt[:, :-1])
    p = np.exp(logits[0].astype(float))
    p /= p.sum(-1, keepdims=True)
    names = model.codec.target_vocabulary.decode(range(len(model.codec.target_vocabulary)))
    _, out, _ = run("predict", folder, "abc", "--explain")
    first, empty, *rows, total, end = out.splitlines()
    assert (first, empty, end) == (target, "", "")
    for row, written, probabilities in zip(rows, [*target, "<eos>"], p, strict=True):
        words = row.split()
        assert words[0] == written and "<eos>" in words[::2]
        ranked = [names[j] for j in np.argsort(-probabilities) if names[j] not in (written, "<pad>", "<bos>")]
        assert words[2::2][:RUNNERS_UP] == ranked[:RUNNERS_UP]
        shown = [float(word) for word in words[1::2]]
        np.testing.assert_allclose(shown, [probabilities[names.index(word)] for word in words[::2]], atol=5.1e-5)
    log_p = np.log(p[np.arange(len(target) + 1), tgt[0, 1:]]).sum()
    assert total == f"  P = {np.exp(log_p):.4f}, the product of the first column; log P = {log_p:.4f}"
    _, both, _ = run("predict", folder, "abc", "--explain", "--show-attention")
    _, attention, _ = run("predict", folder, "abc", "--show-attention")
    assert both.splitlines() == out.splitlines()[:-1] + attention.splitlines()[1:]
    _, found, _ = run("predict", folder, "abc", "--explain", "--json")
    answer = json.loads(found)
    assert answer["log_probability"] == pytest.approx(log_p, abs=1e-5)
    for step, written, probabilities in zip(answer["steps"], tgt[0, 1:], p, strict=True):
        assert step["symbol"] == names[written]
        assert step["probability"] == pytest.approx(probabilities[written], abs=1e-6)
        assert ("<eos>" in step["others"]) == (written != EOS)
    _, found, _ = run("predict", folder, "abc", "", "--explain", "--json", "--n-best", "2")
    best, none = map(json.loads, found.splitlines())
    for each in best["targets"]:
        assert [step["symbol"] for step in each["steps"]] == [*each["text"], "<eos>"]
        logs = [np.log(step["probability"]) for step in each["steps"]]
        assert sum(logs) == pytest.approx(each["log_probability"], abs=1e-4)
        assert sum(logs) / ((5 + len(logs)) / 6) ** 0.6 == pytest.approx(each["score"], abs=1e-4)   # as --help says
    assert none == {"text": "", "targets": []}


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
    A = np.array([[0.04, 0.92, 0.04], [0.04, 0.04, 0.92]])
    head, first, second = shade_lines(A, ["二", "月", "x"], ["A", "B"])
    assert head == "    二月x"
    assert first == "  A   ██" and second == "  B     █"
    steps = np.array([[0.049, 0.05, 0.2, 0.4, 0.7], [0.2] * 5])    # the scale is the same in every row
    assert shade_lines(steps, "abcde", "AB") == ["    abcde", "  A  ░▒▓█", "  B ▒▒▒▒▒"]
    head, first, second = shade_lines(A, ["one", "two", "three"], ["A", "B"])
    assert head == "    one two three"
    assert first.index("█") == head.index("two") and second.index("█") == head.index("three")


def test_texts_that_fit_stand_side_by_side() -> None:
    text = ["x" * 10, "y"]
    assert side_by_side([text] * 3, columns=22) == [
        "xxxxxxxxxx  xxxxxxxxxx", "y           y", "", "xxxxxxxxxx", "y", ""
    ]  # fmt: skip
    assert side_by_side([text], columns=3) == [*text, ""]
