"""`npattn evaluate` compares a model with a file of pairs."""

from __future__ import annotations

import argparse
import io
import itertools
import json
from pathlib import Path

import pytest

from npattn.cli import evaluate
from npattn.cli.terminal import Console
from npattn.runs import evaluate as evaluate_model
from npattn.runs import load_model
from npattn.tasks import load_task
from support.command_line import Cli

PAIRS = "knight\tN AY T\nread\tR EH D\n\nread\tR IY D\nread\tR IY D\ncolonel\tK ER N AH L\nchoir\tK W AY ER\n"

SMALL = ("--d-model", "4", "--heads", "1", "--layers", "1", "--steps", "3", "--workers", "1", "--rate", "0.05")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    Path("words.tsv").write_text(PAIRS, encoding="utf-8")
    return Cli(capsys)


def test_scores_and_worst_mistakes(run: Cli) -> None:
    status, out, err = run("evaluate", "g2p", "words.tsv")
    first, *rest = out.splitlines()
    assert (status, err) == (0, "") and first.startswith("4 sources, 5 pairs, greedy search, 0:0")
    assert rest == [
        "  exact match  50.00 %",
        "  error rate   46.67 %",
        "",
        "The worst of 2 mistakes",
        "  colonel: 4 edits of 5",
        "    written   K AA L AH N EH L",
        "    expected  K ER N AH L",
        "  choir: 3 edits of 4",
        "    written   CH W AA R",
        "    expected  K W AY ER",
    ]


def test_fewer_mistakes_are_shown(run: Cli) -> None:
    _, out, _ = run("evaluate", "g2p", "words.tsv", "--worst", "1", "--beam", "2")
    assert ", beam 2, " in out and "The worst of 2 mistakes\n  colonel" in out and "choir" not in out
    _, out, _ = run("evaluate", "g2p", "words.tsv", "--worst", "0")
    assert out.splitlines()[1:] == ["  exact match  50.00 %", "  error rate   46.67 %"]


def test_json(run: Cli) -> None:
    status, out, err = run("evaluate", "g2p", "words.tsv", "--json", "--worst", "1")
    (line,) = out.splitlines()
    assert (status, err) == (0, "") and json.loads(line) == {
        "file": "words.tsv", "sources": 4, "pairs": 5, "beam": 1, "ensemble": [], "exact_match": 0.5,
        "error_rate": 7 / 15, "parts": {},
        "mistakes": [{
            "source": "colonel", "prediction": "K AA L AH N EH L", "references": ["K ER N AH L"], "edits": 4,
            "length": 5}],
    }  # fmt: skip


class TestWithoutFile:
    @pytest.fixture
    def dictionary(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        """A small dictionary in place of the package's. Words 1, 2, 21 and 22 are its test, word 3 is learnt."""
        words = ["ab", "bad", "cars", "car", *(f"d{letter}" for letter in "abcdefghijklmnopq"), "knight", "read", "x"]
        lines = [f"{word} K" + " AA1 R AA1" * (word == "car") for word in words]
        lines += ["bad B AE1 D", "knight N AY1 T", "read R EH1 D", "read(2) R IY1 D"]
        path = tmp_path / "cmudict.dict"
        path.write_text("\n".join(lines), encoding="utf-8")
        monkeypatch.setattr("npattn.tasks.g2p.find_dictionary", lambda: path)
        return path

    def test_the_test_of_the_task_and_its_parts(self, run: Cli, dictionary: Path) -> None:
        task = load_task("g2p")
        assert {item.source for item in task.test} == {"bad", "car", "knight", "read"}
        (part,) = task.subsets.values()
        assert {task.test[i].source for i in part} == {"bad", "knight", "read"}
        assert run("train", "g2p", "--run", "r", *SMALL).status == 0
        model = load_model("r")
        found = evaluate_model(model, {item.source: item.references for item in task.test})
        inner = evaluate_model(model, {task.test[i].source: task.test[i].references for i in part})
        assert found[:2] != inner[:2]
        status, out, _ = run("evaluate", "r", "--worst", "1")
        first, *rest = out.splitlines()
        assert status == 0 and first.startswith("4 sources, 8 pairs, greedy search, 0:0")
        assert rest[:6] == [
            f"  exact match {found.exact:7.2%}".replace("%", " %"),
            f"  error rate  {found.error_rate:7.2%}".replace("%", " %"),
            "",
            "stem-disjoint: 3 sources of these",
            f"  exact match {inner.exact:7.2%}".replace("%", " %"),
            f"  error rate  {inner.error_rate:7.2%}".replace("%", " %"),
        ]
        told = json.loads(run("evaluate", "r", "--json").out)
        assert told["file"] is None and (told["exact_match"], told["error_rate"]) == found[:2]
        assert told["parts"] == {
            "stem-disjoint": {"sources": 3, "exact_match": inner.exact, "error_rate": inner.error_rate}}  # fmt: skip

    def test_other_data_and_a_part_without_words(self, run: Cli, dictionary: Path) -> None:
        with_twins = "\n".join(f"{word} K" for word in ("a", "b", "b's", "b'", "bs", "bed", "bing", "bs's"))
        dictionary.write_text(with_twins, encoding="utf-8")
        assert not any(load_task("g2p").subsets.values())
        assert run("train", "g2p", "--run", "r", *SMALL).status == 0
        status, out, _ = run("evaluate", "r", "--worst", "0")
        assert status == 0 and len(out.splitlines()) == 3
        dictionary.write_text(with_twins + "\nx K", encoding="utf-8")
        assert "g2p: expected the data that the run began with, got other data" in run.fails("evaluate", "r")

    def test_a_run_that_began_with_another_model(self, run: Cli) -> None:
        """Its ids are those of that model."""
        for name, letters, n in (("first", "abc", 4), ("second", "bc", 5)):
            words = map("".join, itertools.product(letters, repeat=n))
            Path(f"{name}.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words), encoding="utf-8")
        assert run("train", "first.tsv", "--run", "r", *SMALL).status == 0
        steps = SMALL[SMALL.index("--steps") :]
        assert run("train", "second.tsv", "--run", "s", "--from", "r", *steps).status == 0
        assert run("evaluate", "s").status == 0

    def test_a_run_without_a_test(self, run: Cli) -> None:
        Path("train.tsv").write_text("ab\tb\nba\ta\naa\ta\nbb\tb\n", encoding="utf-8")
        Path("more.tsv").write_text("aab\tb\n", encoding="utf-8")
        assert run("train", "train.tsv", "--run", "r", "--validation", "more.tsv", *SMALL).status == 0
        assert "expected a file of pairs to test on, because the run keeps none" in run.fails("evaluate", "r")
        Path("train.tsv").unlink()
        assert "train.tsv" in run.fails("evaluate", "r")


def test_an_ensemble(run: Cli) -> None:
    lines = [f"{a}{b}\t{b}{a}\n" for a in "abcd" for b in "abcd"]
    Path("train.tsv").write_text("".join(lines), encoding="utf-8")
    for seed in ("1", "2"):
        assert run("train", "train.tsv", "--run", seed, "--seed", seed, *SMALL).status == 0
    model, other = load_model("1"), load_model("2")
    targets = {line[:2]: [line[3:5]] for line in lines}
    alone, together = evaluate_model(model, targets), evaluate_model(model, targets, ensemble=[other, other])
    assert together.mistakes != alone.mistakes
    told = json.loads(run("evaluate", "1", "train.tsv", "--ensemble", "2", "--ensemble", "2", "--json").out)
    assert (told["ensemble"], told["exact_match"], told["error_rate"]) == (["2", "2"], *together[:2])
    assert [each["prediction"] for each in told["mistakes"]] == [each.prediction for each in together.mistakes[:10]]
    assert "npattn: g2p: expected the " in run.fails("evaluate", "1", "train.tsv", "--ensemble", "g2p")
    status, out, _ = run("evaluate", "1", "train.tsv", "--ensemble", "2", "--beam", "2")
    assert status == 0 and ", beam 2, 2 models together, 0:0" in out.splitlines()[0]


def test_several_targets_are_all_shown(run: Cli) -> None:
    Path("pairs.tsv").write_text("knight\tN AY\nknight\tN IY T\n", encoding="utf-8")
    assert "    expected  N AY or N IY T\n" in run("evaluate", "g2p", "pairs.tsv")[1]


def test_unknown_symbols_are_named(run: Cli) -> None:
    Path("pairs.tsv").write_text("kn8ght\tN AY1 T\n", encoding="utf-8")
    status, _, err = run("evaluate", "g2p", "pairs.tsv")
    assert status == 0 and err.splitlines() == [
        "npattn: not in the model's vocabulary, read as <unk>: '8'",
        "npattn: in targets, but never written by this model: 'AY1'",
    ]


def test_texts_that_a_terminal_cannot_show_are_an_error(run: Cli) -> None:
    Path("pairs.tsv").write_text("knight\tnaɪt\n", encoding="utf-8")
    args = argparse.Namespace(model="g2p", file=Path("pairs.tsv"), beam=1, worst=1, json=False, ensemble=[])
    with pytest.raises(ValueError, match="expected an encoding that has 'ɪ', got cp1252"):
        evaluate.run(args, Console(io.TextIOWrapper(io.BytesIO(), "cp1252")))


@pytest.mark.parametrize(("argv", "status", "words"), [
    (["nowhere", "words.tsv"], 1, "nowhere"),
    (["g2p", "none.tsv"], 1, "none.tsv: expected a file of lines of source, one tab, target, found no such file"),
    (["g2p", "words.tsv", "--ensemble", "nowhere"], 1, "nowhere"),
    (["g2p", "words.tsv", "--worst", "-1"], 2, "--worst"),
    (["g2p", "words.tsv", "--beam", "0"], 2, "--beam"),
])  # fmt: skip
def test_wrong_command_lines(run: Cli, argv: list[str], status: int, words: str) -> None:
    assert words in run.fails("evaluate", *argv, status=status)
