"""`npattn predict FOLDER` answers with an encoder and decoder of Hugging Face."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import Transformer, beam_search, greedy_search
from npattn.cli.predict import command
from npattn.cli.predict import folder as predict_folder
from npattn.hf_weights.text import TextModel
from support.command_line import Cli
from support.language_model_toys import toy_language_model
from support.text_folders import ByteTokenizer
from support.transformer_toys import toy_model


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Transformer:
    """A model of bytes, which every folder has."""
    model = toy_model(13, src_vocab=257, tgt_vocab=257)
    monkeypatch.setattr(predict_folder, "load_text_folder", lambda path: TextModel(model, ByteTokenizer()))
    return model


@pytest.fixture
def folder(tmp_path: Path, model: Transformer) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def expected(model: Transformer, text: str, beam: int, **options: Any) -> str:
    src, longest = np.array([list(text.encode())]), 2 * len(text) + 50
    words = {"bad_words_ids": [], "forced_bos_id": None}
    if beam == 1:
        ids = greedy_search(model, src, longest, **words | options)[0]
    else:
        hugging_face = {"normalisation": "power", "early_stopping": False, "ending": "open", "length_penalty": 1.0}
        ids = beam_search(model, src, beam, **{"max_len": longest} | words | hugging_face | options)[0][0].ids
    return " ".join(ByteTokenizer().decode(ids).split())


@pytest.mark.parametrize("beam", [1, 3])
def test_a_line_for_each_text(run: Cli, folder: Path, model: Transformer, beam: int) -> None:
    options = ["--beam", str(beam)] if beam > 1 else []
    status, out, err = run("predict", folder, "abc", *options, " ", "hello")
    wanted = [expected(model, "abc", beam), "", expected(model, "hello", beam)]
    assert (status, err) == (0, "") and out.split("\n") == [*wanted, ""] and len(set(wanted)) == 3


def test_the_lines_of_standard_input(
    run: Cli, folder: Path, model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("abc\n\udcff\nhello"))
    status, out, err = run("predict", folder)
    assert status == 1 and out.split("\n") == [expected(model, "abc", 1), "", expected(model, "hello", 1), ""]
    assert err == "npattn: standard input, line 2: expected text in UTF-8, got '\\udcff'\n"


def test_a_terminal_is_asked(run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard = io.StringIO("")
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", keyboard)
    assert run("predict", folder) == (0, "", "npattn: type one text on each line; Ctrl-D ends the input\n")


def test_the_search_that_the_folder_asks_for(run: Cli, folder: Path, model: Transformer) -> None:
    settings = {"num_beams": 3, "max_length": 9, "forced_bos_token_id": 98, "bad_words_ids": [[108]],
                "early_stopping": True, "length_penalty": 2.0, "forced_eos_token_id": 2}  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(settings))
    words: dict[str, Any] = {"bad_words_ids": [[108]], "forced_bos_id": 98}
    beams = {"max_len": 7, "early_stopping": True, "length_penalty": 2.0, "ending": "forced"}
    assert run("predict", folder, "abc") == (0, expected(model, "abc", 3, **words, **beams) + "\n", "")
    greedy = greedy_search(model, np.array([list(b"abc")]), 7, **words)[0]
    assert run("predict", folder, "abc", "--beam", "1").out == ByteTokenizer().decode(greedy) + "\n"
    assert greedy[0] == 98 and len(greedy) == 7


def test_settings_that_are_left_out_are_named(run: Cli, folder: Path, model: Transformer) -> None:
    (folder / "generation_config.json").write_text('{"no_repeat_ngram_size": 3, "do_sample": true}')
    status, out, err = run("predict", folder, "abc")
    assert (status, out) == (0, expected(model, "abc", 1) + "\n")
    assert err == f"npattn: {folder}: left out of the search: do_sample=True, no_repeat_ngram_size=3\n"


def test_learned_positions_bound_texts(run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_model(13, src_vocab=257, tgt_vocab=257, positions="learned", max_length=4)
    monkeypatch.setattr(predict_folder, "load_text_folder", lambda path: TextModel(model, ByteTokenizer()))
    status, out, err = run("predict", folder, "abcde", "abcd")
    found = greedy_search(model, np.array([list(b"abcd")]), 4, bad_words_ids=[])
    assert (status, err) == (1, "npattn: text 1: expected at most 4 ids, got 5\n")
    assert out == "\n" + ByteTokenizer().decode(found[0]) + "\n"


@pytest.mark.parametrize("option", [
    ["--n-best", "2"], ["--ensemble", "g2p"], ["--json"], ["--explain"], ["--show-attention"], ["--per-head"],
    ["--plot", "a.png"],
])  # fmt: skip
def test_options_of_runs(run: Cli, folder: Path, option: list[str]) -> None:
    line = run.fails("predict", folder, "abc", *option, status=2)
    wanted = f"{option[0]}: expected a run of npattn train, got a folder of Hugging Face (see npattn predict --help)"
    assert line == f"npattn: {wanted}"


def test_a_language_model(run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = TextModel(toy_language_model("llama"), ByteTokenizer())
    monkeypatch.setattr(predict_folder, "load_text_folder", lambda path: loaded)
    wanted = f"npattn: {folder}: expected an encoder and decoder, got a language model: npattn generate {folder} PROMPT"
    assert run.fails("predict", folder, "abc") == wanted


def test_g2p_is_the_shipped_model_where_a_folder_has_its_name(
    run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load_model(name: Any) -> None:
        asked.append(name)
        raise ValueError("the shipped model")

    monkeypatch.chdir(folder)
    (folder / "g2p").mkdir()
    (folder / "g2p" / "config.json").write_text("{}")
    monkeypatch.setattr(command, "load_model", load_model)
    assert run.fails("predict", "g2p", "abc") == "npattn: the shipped model" and asked == ["g2p"]
    assert run("predict", "./g2p", "").out == "\n"
