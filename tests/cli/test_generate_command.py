"""`npattn generate` writes what follows a prompt, as it comes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npattn import generate
from npattn.cli.generate import command
from npattn.cli.generate.command import MAX_NEW, first_ids, max_new
from npattn.hf_weights.text import TextModel
from npattn.runs import load_text_model, new_run
from npattn.tasks import load_text
from support.command_line import Cli
from support.language_model_toys import toy_config, toy_language_model
from support.text_folders import END, TEXT, ByteTokenizer, repeating_folder
from support.transformer_toys import toy_model

SAME = TEXT[1:] + TEXT * 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose model writes `TEXT` again and again, and the package that reads its tokenizer."""
    monkeypatch.setitem(sys.modules, "tokenizers", SimpleNamespace(Tokenizer=ByteTokenizer))
    return repeating_folder(tmp_path / "model")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command gave to `npattn.generate`."""
    found: dict[str, Any] = {}

    def spy(model: Any, ids: Any, n: int, **options: Any) -> Any:
        found.update(options, ids=[row.tolist() for row in ids], max_new=n)
        return generate(model, ids, n, **options)

    monkeypatch.setattr(command, "generate", spy)
    return found


class TestText:
    @pytest.mark.parametrize("n", range(10))
    def test_the_prompt_and_what_follows_it(self, run: Cli, folder: Path, n: int) -> None:
        status, out, err = run("generate", folder, "n", "--max-new", str(n), "--temperature", "0")
        assert (status, err) == (0, "")
        assert out == "n" + SAME.encode()[:n].decode(errors="replace") + "\n"

    def test_the_default_length(self, run: Cli, folder: Path) -> None:
        out = run("generate", folder, "n", "--temperature", "0", "--no-prompt").out
        assert out == SAME.encode()[:MAX_NEW].decode(errors="replace") + "\n"

    def test_it_ends_with_the_models_end(self, run: Cli, folder: Path) -> None:
        assert run("generate", folder, "n.", "--temperature", "0").out == "n.\n"

    def test_the_ends_of_generation_config(self, run: Cli, folder: Path, given: dict[str, Any]) -> None:
        """They count instead of the model's; settings without an end change nothing."""
        greedy = "generate", folder, "n", "--temperature", "0", "--max-new", "30"
        file = folder / "generation_config.json"
        whole = f"n{SAME.encode()[:30].decode()}\n"
        for ends, text, ids in ((10, "né 中\n", [10]), ([32, 10], "né\n", [32, 10]), (None, whole, [END])):
            file.write_text(json.dumps({"eos_token_id": ends, "do_sample": True}), encoding="utf-8")
            assert run(*greedy).out == text and given["stop_id"] == ids
        file.write_text("[]", encoding="utf-8")
        assert "generation_config.json: expected a mapping, got list" in run.fails(*greedy)
        for wrong in ("x", [[1, 2], [3]], [True], 1.5):
            file.write_text(json.dumps({"eos_token_id": wrong}), encoding="utf-8")
            assert "expected an eos_token_id that is an id or a list of ids, got" in run.fails(*greedy)

    def test_it_ends_before_a_text(self, run: Cli, folder: Path) -> None:
        greedy = "generate", folder, "n", "--temperature", "0", "--max-new", "30"
        assert run(*greedy, "--stop", "中\nn").out == "né \n"
        assert run(*greedy, "--stop", "", "--stop", "no", "--stop", "\n", "--no-prompt").out == "é 中\n"

    def test_pieces_come_one_by_one(self, run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written: list[str] = []
        monkeypatch.setattr(command, "generate", lambda *args, callback, **options: [
            written.append(repr(run.capsys.readouterr().out)) for byte in TEXT[1:].encode() if not callback(0, byte)
        ])  # fmt: skip
        assert run("generate", folder, "n").out == "\n"
        assert written == ["'n'", "'é'", "' '", "''", "''", "'中'", "'\\n'"]

    def test_words_and_options_in_any_order(self, run: Cli, folder: Path, given: dict[str, Any]) -> None:
        wanted = run("generate", folder, "a  b n", "--max-new", "3").out
        assert given["ids"] == [list(b"a  b n")]
        for argv in (("--max-new", "3", folder, "a  b", "n"), (folder, "--max-new", "3", "a  b", "n"),
                     (folder, "a  b", "--max-new", "3", "n")):  # fmt: skip
            assert run("generate", *argv).out == wanted

    def test_the_options_of_sampling(self, run: Cli, folder: Path, given: dict[str, Any]) -> None:
        run("generate", folder, "n", "--max-new", "1")
        del given["callback"]
        assert given == {
            "ids": [[110]], "max_new": 1, "temperature": 1.0, "top_k": None, "top_p": None, "rng": 0, "stop_id": [256],
        }  # fmt: skip
        numbers = ["--max-new", "2", "--temperature", ".5", "--top-k", "3", "--top-p", "1", "--seed", "7"]
        run("generate", folder, "n", *numbers)
        del given["callback"]
        assert given == {
            "ids": [[110]], "max_new": 2, "temperature": 0.5, "top_k": 3, "top_p": 1.0, "rng": 7, "stop_id": [256],
        }  # fmt: skip

    def test_the_same_seed_gives_the_same_text(self, run: Cli, folder: Path) -> None:
        hot = "generate", folder, "n", "--temperature", "9", "--max-new", "9"
        first, again, other = (run(*hot, "--seed", seed).out for seed in "112")
        assert first == again != other


class TestStandardInput:
    @pytest.mark.parametrize(("content", "prompt"), [("n\n", "n"), ("a\nn", "a\nn"), ("n\n\n", "n\n"), ("n \n", "n ")])
    def test_the_prompt(
        self, run: Cli, folder: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, content: str, prompt: str
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(content))
        assert run("generate", folder, "--max-new", "0").out == prompt + "\n"
        assert given["ids"] == [list(prompt.encode())]

    def test_a_terminal_is_asked(self, run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        keyboard = io.StringIO("n\n")
        monkeypatch.setattr(keyboard, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", keyboard)
        assert run("generate", folder, "--max-new", "0") == (0, "n\n", "npattn: type the prompt; Ctrl-D ends it\n")


class Terminal(io.StringIO):
    """A terminal that lacks some letters."""

    encoding = "latin-1"

    def isatty(self) -> bool:
        return True


class TestOutput:
    def test_control_codes_are_escaped_on_a_terminal_alone(
        self, run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = "\x1b[31m\t\n"
        assert run("generate", folder, wanted, "--max-new", "0").out == wanted + "\n"
        terminal = Terminal()
        monkeypatch.setattr("sys.stdout", terminal)
        assert run("generate", folder, wanted, "--max-new", "0").status == 0
        assert terminal.getvalue() == "\\x1b[31m\t\n\n"

    def test_a_letter_that_a_terminal_lacks_is_an_error(
        self, run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        terminal = Terminal()
        monkeypatch.setattr("sys.stdout", terminal)
        message = "standard output: expected an encoding that has '中', got latin-1; files and pipes get UTF-8"
        assert run.fails("generate", folder, "n", "--temperature", "0") == f"npattn: {message}"
        assert terminal.getvalue() == "né "

    def test_ctrl_c_ends_the_line_first(self, run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*args: Any, callback: Any, **options: Any) -> None:
            callback(0, ord("x"))
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "generate", interrupted)
        assert run("generate", folder, "n") == (130, "nx\n", "npattn: interrupted\n")

    def test_a_broken_pipe_is_quiet(self, run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Pipe(io.StringIO):
            def write(self, text: str) -> int:
                if text == "é":
                    raise BrokenPipeError
                return super().write(text)

        monkeypatch.setattr("sys.stdout", Pipe())
        assert run("generate", folder, "n", "--temperature", "0") == (141, "", "")


class TestModels:
    def test_a_run_on_text(self, run: Cli, tmp_path: Path, given: dict[str, Any]) -> None:
        (tmp_path / "text.txt").write_text("to be or not to be " * 4)
        sizes = {"d_model": 8, "n_heads": 2, "layers": 1, "batch_size": 2, "steps": 2, "workers": 1}
        list(new_run(tmp_path / "run", load_text(files=[tmp_path / "text.txt"], context=8), sizes).train())
        loaded = load_text_model(tmp_path / "run")
        status, out, err = run("generate", tmp_path / "run", "be", "--temperature", "0", "--max-new", "4")
        (new,) = generate(loaded.model, [np.array(loaded.encode("be"))], 4, temperature=0)
        assert (status, out, err) == (0, f"be{loaded.decode(new)}\n", "") and given["ids"] == [[256, 98, 101]]

    def test_what_is_no_model(self, run: Cli, tmp_path: Path) -> None:
        assert "run.json" in run.fails("generate", tmp_path, "n")

    def test_an_encoder_and_decoder(self, run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded = TextModel(toy_model(), ByteTokenizer())
        monkeypatch.setattr(command, "load_text_folder", lambda path: loaded)
        wanted = f"expected a language model, got an encoder and decoder: npattn predict {folder} TEXT"
        assert run.fails("generate", folder, "n") == f"npattn: {folder}: {wanted}"

    def test_without_the_package(self, run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        wanted = 'npattn: text for a folder of Hugging Face needs the package tokenizers: pip install "npattn[hf]"'
        assert run.fails("generate", folder, "n") == wanted

    def test_learned_positions_bound_the_default_length(
        self, run: Cli, folder: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        learned = toy_config("gpt2")                          # for 9 ids
        assert [max_new(None, n, learned) for n in (1, 8, 9, 10)] == [8, 1, 0, 0]
        assert max_new(None, 3, toy_config("gpt2", max_length=1000)) == MAX_NEW == max_new(None, 3, toy_config("llama"))
        assert max_new(None, 3, toy_config("llama", max_length=9)) == MAX_NEW
        assert max_new(7, 8, learned) == 7
        assert run("generate", folder, "n", "--temperature", "0").status == 0 and given["max_new"] == MAX_NEW
        loaded = TextModel(toy_language_model("gpt2", vocab=257, d_model=8, d_head=2), ByteTokenizer())
        monkeypatch.setattr(command, "load_text_folder", lambda path: loaded)
        assert run("generate", folder, "né").status == 0 and given["max_new"] == 6


class TestPrompts:
    def test_an_empty_prompt_is_the_begin_id(self, run: Cli, folder: Path, given: dict[str, Any]) -> None:
        wanted = "prompt: expected some text, as the model has no id of a beginning; got none"
        assert run.fails("generate", folder, "") == f"npattn: {wanted}"
        repeating_folder(folder, bos_id=ord("n"))
        assert run("generate", folder, "", "--temperature", "0", "--max-new", "3").out == "é \n"
        assert given["ids"] == [[ord("n")]]
        assert first_ids(toy_config("llama", bos_id=(3, 4))) == [3]

    @pytest.mark.parametrize("argv", [["a\udcff"], ["a", "--stop", "\udcff"]])
    def test_text_must_be_utf_8(self, run: Cli, folder: Path, argv: list[str]) -> None:
        name = "--stop" if len(argv) > 1 else "prompt"
        line = run.fails("generate", folder, *argv)
        assert line == f"npattn: {name}: expected text in UTF-8, got {argv[-1]!r}"

    @pytest.mark.parametrize(("option", "value", "wanted"), [
        ("--max-new", "-1", "a whole number of 0 or more"), ("--temperature", "-1", "a number of at least 0"),
        ("--top-k", "0", "a whole number of 1 or more"), ("--top-p", "0", "a number above 0"),
        ("--seed", "x", "a whole number of 0 or more"),
    ])  # fmt: skip
    def test_numbers_out_of_range(self, run: Cli, folder: Path, option: str, value: str, wanted: str) -> None:
        line = run.fails("generate", folder, "n", option, value, status=2)
        assert line == f"npattn: argument {option}: expected {wanted}, got '{value}' (see npattn generate --help)"

    def test_top_p_above_1(self, run: Cli, folder: Path) -> None:
        assert run.fails("generate", folder, "n", "--top-p", "2").startswith("npattn: top_p: expected ")

    def test_a_folder_must_be_named(self, run: Cli) -> None:
        assert "RUN: expected a path, got ''" in run.fails("generate", "", status=2)
        assert "the following arguments are required: RUN (see" in run.fails("generate", status=2)
