"""`npattn tour`, and `npattn check` of the package."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn.attention import MODERN_VERSIONS, VERSIONS, v2_dot_product
from npattn.cli import program
from npattn.cli.check import cases
from npattn.cli.terminal.console import width
from npattn.cli.tour import command as tour
from npattn.cli.tour import versions
from npattn.cli.tour.example import examples
from npattn.tasks import load_dates
from support.command_line import Cli
from support.pairs import discover


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def small_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_dates(n_train=64)
    small = {"d_model": 8, "n_heads": 2, "d_ff": 16, "n_encoder_layers": 1, "n_decoder_layers": 1}
    small_task = type(task)(**{**vars(task), "defaults": {**task.defaults, **small}, "test": task.test[:50]})
    monkeypatch.setattr(tour, "load_task", lambda name: small_task)


def test_the_tour(run: Cli, small_dates: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run("tour", "--steps", "10", "--workers", "1")
    assert (status, err) == (0, "")
    for version in VERSIONS:
        assert version.name in out and version.changed in out
        assert version.formula in re.sub(r",\n *", ",  ", out)
    errors = [float(error) for error in re.findall(r"largest error (\S+)", out)]
    assert len(errors) == 7 and 0 < max(errors) <= 1e-12
    assert re.search(r"exact match \S+ %: every symbol is right in \d+ of 50 test dates$", out, re.M)
    assert len(re.findall(r" → .*(right|wrong)$", out, re.M)) == tour.SHOWN
    assert {"   npattn train g2p", "   npattn check", "   npattn figures g2p --text knight"} <= set(out.splitlines())
    assert "\033" not in out and "\r" not in out
    assert max(map(width, out.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_every_suggested_command_can_be_copied(run: Cli, small_dates: None, tmp_path: Path) -> None:
    """Each stands alone on its line, is understood, and names a folder with a space in quotes."""
    folder = tmp_path / "a b"
    _, out, _ = run("tour", "--steps", "2", "--workers", "1", "--run", folder)
    commands = re.findall(r"^   (npattn .*)$", out, re.M)
    assert len(commands) == 10
    parsed = [program.parse(shlex.split(command)[1:]) for command in commands]
    assert str(folder) in [getattr(args, "model", None) for args in parsed]


def test_the_tour_keeps_its_model_in_the_folder_of_run(run: Cli, small_dates: None, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    status, out, _ = run("tour", "--steps", "2", "--workers", "1", "--run", folder)
    assert status == 0 and f"predict {folder}" in out and "train dates" not in out
    assert run("predict", folder, "28 July 2025").status == 0
    assert "holds a run already" in run.fails("tour", "--run", folder)


def test_a_wrong_gradient_ends_the_tour(run: Cli, small_dates: None, monkeypatch: pytest.MonkeyPatch) -> None:
    right = v2_dot_product.backward

    def wrong(dy: Any, cache: Any) -> Any:
        dq, dX = right(dy, cache)
        return dq, 1.001 * dX

    monkeypatch.setattr(v2_dot_product, "backward", wrong)
    status, _, err = run("tour", "--steps", "2")
    assert status == 1
    assert err == "npattn: npattn.attention.v2_dot_product.forward: wrong gradient of X (npattn check shows more)\n"


def test_the_largest_weights_are_where_the_queries_point() -> None:
    """Who? finds "she", where? finds the sea wall, a verb its subject, a preposition its place."""
    found = []
    for version, arrays, options, queries in examples():
        _, cache = version.module.forward(*arrays.values(), **options)
        found.append(cache.A.reshape(-1, len(queries), 6))
    she, sat, by, _, sea, wall = range(6)
    for A in found[1:5]:
        assert set(np.argsort(A[0, -1])[-2:]) == {sea, wall}
    assert found[3][0, 0].argmax() == found[4][0, 0].argmax() == she
    assert found[1].max() > found[2].max()
    np.testing.assert_array_equal(found[3][0, 1], found[2][0, 0])
    assert [found[5][0, q].argmax() for q in (she, sat, by, sea, wall)] == [sat, she, wall, by, by]
    assert [found[6][0, q].argmax() for q in (she, sat)] == [sat, she]
    assert [found[6][1, q].argmax() for q in (by, sea, wall)] == [wall, by, by]


def test_the_first_text_of_each_form_is_chosen() -> None:
    texts = ["5 July 1999", "28 May 2001", "5/7/1999", "28 MAY 2001", "二〇二五年七月", "一〇年八月", "1/1/1901"]
    assert tour.varied(texts, 10) == [0, 2, 3, 4]
    assert tour.varied(texts, 2) == [0, 2]


def test_long_formulas_break_between_equations() -> None:
    lines = versions.formula_lines(",  ".join(["A = softmax(E)"] * 9))
    assert len(lines) > 1 and all(len(line) + versions.MARGIN <= 80 for line in lines)
    assert all(line.endswith(",") for line in lines[:-1]) and lines[-1].endswith(")")


@pytest.mark.long
def test_check_finds_every_gradient_right(run: Cli) -> None:
    status, out, err = run("check")
    assert (status, err) == (0, "")
    rows = re.findall(r"^  \S.*?\s+[\d,]+ +(\S+) +(\S+)  right$", out, re.M)
    assert len(rows) == len(cases.cases())
    assert all(float(exact) <= 1e-12 and float(central) <= 1e-7 for exact, central in rows)
    assert any(float(exact) > 0 for exact, _ in rows)
    assert "WRONG" not in out and out.rstrip().endswith("every gradient is right")
    assert max(map(len, out.splitlines())) <= 80


def test_check_finds_a_wrong_gradient(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    right = v2_dot_product.backward

    def wrong(dy: Any, cache: Any) -> Any:
        dq, dX = right(dy, cache)
        return dq, dX * (1 + 1e-5)

    monkeypatch.setattr(v2_dot_product, "backward", wrong)
    everything = cases.cases()
    monkeypatch.setattr("npattn.cli.check.command.cases", lambda: everything[:6])
    status, out, _ = run("check")
    assert status == 1
    assert re.findall(r"^  (v\d[^0-9]*?) +\d.*WRONG$", out, re.M) == ["v2 dot-product attention", "v2, masked"]
    assert "npattn.attention.v2_dot_product.forward" in out and "off by a factor of 1 + 1e-05" in out


def test_check_covers_every_backward() -> None:
    """Every public pair of the package is a case, or a part of a model. Whole models are cases.

    The cases of versions with a past add what is kept to the output, see the next test.
    """
    parts = ("npattn.transformer.", "npattn.language_model.")
    adapted = {
        "npattn.layers.softmax.softmax",
        "npattn.attention.dot_product.scaled_dot_product_attention",
        "npattn.attention.tiled.attention.tiled_attention",
    }
    checked = {f"{case.forward.__module__}.{case.forward.__name__}" for case in cases.cases()}
    with_a_past = {f"{version.module.__name__}.forward" for version in MODERN_VERSIONS}
    assert {name for name in discover() if not name.startswith(parts)} - checked == adapted | with_a_past
    backwards = {case.backward for case in cases.cases()}
    for name in adapted:
        module, _, function = name.rpartition(".")
        assert getattr(importlib.import_module(module), f"{function}_backward") in backwards


@pytest.mark.parametrize("number", [version.number for version in MODERN_VERSIONS])
def test_check_runs_the_backward_of_each_modern_version(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    (version,) = (version for version in MODERN_VERSIONS if version.number == number)
    case = next(case for case in cases.cases() if re.match(rf"v{number}\b", case.name))
    monkeypatch.setattr(version.module, "backward", lambda *_: ("that of", number))
    _, cache = case.forward(*case.args, **case.options)
    assert case.backward((None, None, None)[: 2 if number == 14 else 3], cache) == ("that of", number)
