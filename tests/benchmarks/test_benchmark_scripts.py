"""Each benchmark runs once at a toy size, reports and draws; RESULTS.md has its results. No test depends on a time."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import run
from _common import harness
from _common.harness import Job, Result, Runner
from _common.sizes import SIZES
from support.inline_runner import InlineRunner

ROOT = Path(__file__).parents[2]
BENCHMARKS: dict[str, ModuleType] = {name: script for name, (_, script, _) in run.BENCHMARKS.items()}
ABOUT: Result = {
    "cpu": "a processor", "cores": 2, "environment": {}, "torch": None,
    "npattn": {"python": "3", "numpy": "2", "blas": "OpenBLAS 0"},
}  # fmt: skip


def quick(name: str, *options: str) -> Result:
    """Measure at a toy size, without PyTorch."""
    return json.loads(_quick(name, *options))


@functools.cache
def _quick(name: str, *options: str) -> str:
    script = BENCHMARKS[name]
    parsed = harness.parser(script).parse_args(["--quick", "--rounds", "1", *options])
    data = script.measure(parsed, InlineRunner(script))
    return json.dumps({"benchmark": name, "date": "2026-01-01", "machine": ABOUT, **data})


@pytest.fixture(autouse=True)
def small_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """The square product of the real size takes a second, and no test needs its rate."""
    monkeypatch.setattr("_common.products.SQUARE", 32)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name != "scaling")) for name in BENCHMARKS]
)
def test_every_benchmark_runs_reports_and_draws(name: str, tmp_path: Path) -> None:
    _, script, options = run.BENCHMARKS[name]
    data = quick(name, *options)
    report = script.report(data)
    assert "npattn" in report and "torch" not in report
    assert "nan" not in report and "\n|--" in report
    pytest.importorskip("matplotlib")
    script.draw(data, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_busy_neighbours_end_with_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    script, started = BENCHMARKS["train_step"], []
    popen = subprocess.Popen

    def recorded(*args: Any, **options: Any) -> Any:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    with pytest.raises(KeyboardInterrupt), script.busy(2):
        assert [process.poll() for process in started] == [None, None]
        raise KeyboardInterrupt
    assert len(started) == 2 and None not in [process.poll() for process in started]
    assert quick("train_step", "--neighbours", "1")["sizes"] and len(started) == 3


def with_torch(value: Any) -> Any:
    """Add PyTorch with twice npattn's times wherever npattn has figures."""
    if not isinstance(value, dict):
        return value
    value = {key: with_torch(each) for key, each in value.items()}
    if isinstance(value.get("npattn"), list):
        value["torch"] = [{**each, "seconds": [2 * s for s in each["seconds"]]} for each in value["npattn"]]
    if "count" in value:
        value["alike"] = 1.0
    return value


@pytest.mark.parametrize("name", ["train_step", "long_attention", "gradcheck", "decode", "scaling"])
def test_reports_compare_with_torch_when_it_ran(name: str) -> None:
    report = BENCHMARKS[name].report(with_torch(quick(name)))
    assert "torch" in report
    if name in ("train_step", "long_attention", "gradcheck"):
        assert "**0.50** (0.50–0.50)" in report
    if name == "decode":
        assert "**2.00** (2.00–2.00)" in report


def test_peers_alternate_and_a_missing_torch_is_left_out() -> None:
    class Recorder(Runner):
        def call(self, peer: str, job: Job) -> Result:
            called.append(peer)
            return {"peer": peer}

    called: list[str] = []
    jobs: dict[str, Job] = {"npattn": {}, "torch": {}, "products": {}}
    found = Recorder("script.py", "python").alternate(jobs, 2)
    assert called == ["npattn", "torch", "products"] * 2
    assert {peer: len(results) for peer, results in found.items()} == {"npattn": 2, "torch": 2, "products": 2}
    assert list(Recorder("script.py", None).alternate(jobs, 1)) == ["npattn", "products"]


def test_no_search_ends_before_its_last_step() -> None:
    import decode

    for search in decode.SEARCHES:
        job = {"search": search, "warm_up": 0, "repeats": 1, "batches": 1}
        (steps,) = {len(ids) for ids in decode.npattn_worker(job)["ids"]}
        assert steps == decode.batches(job)[0][1]


def test_options_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    for name, option, value in [
        ("train_step", "--sizes", "tiny,huge"),
        ("decode", "--searches", "random"),
        ("decode", "--lengths", "16,many"),
        ("long_attention", "--lengths", "0"),
        ("scaling", "--axes", "depth"),
    ]:
        with pytest.raises(SystemExit):
            harness.parser(BENCHMARKS[name]).parse_args([option, value])
        assert f"argument {option}: expected" in capsys.readouterr().err
    parse = harness.parser(BENCHMARKS["train_step"]).parse_args
    assert parse(["--sizes", "base,tiny"]).sizes == ["base", "tiny"] and parse([]).sizes == list(SIZES)


def test_results_keep_the_figures_of_benchmarks_that_did_not_run(tmp_path: Path) -> None:
    for name in ("scaling", "gradcheck"):
        run.keep(name, quick(name), tmp_path / "results")
    text = run.text(tmp_path / "results")
    assert text.index("## Gradient checks") < text.index("## Scale")
    assert "`python benchmarks/gradcheck.py`, 2026-01-01: a processor, 2 cores" in text
    assert "no PyTorch: npattn alone" in text and "## Decoding" not in text
    (tmp_path / "results" / "by_hand.md").write_text("## A task\n", encoding="utf-8")
    assert run.text(tmp_path / "results") == f"{text}\n## A task\n"


def test_results_show_each_kind_of_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BENCHMARKS["scaling"], "draw", lambda data, path: None)
    data = quick("scaling")
    for kernel, vectors in (("Haswell", "AVX-512"), ("SkylakeX", "AVX-512"), ("Other", "NEON")):
        about = {**ABOUT, "npattn": {**ABOUT["npattn"], "blas_kernel": [kernel], "vectors": vectors}}
        run.keep("scaling", {**data, "machine": about}, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.json")} == {"scaling-avx2", "scaling-avx-512", "scaling-neon"}
    text = run.text(tmp_path)
    places = [text.index(f"### Scale, {kind}\n") for kind in ("NEON", "AVX2", "AVX-512")]
    assert places == sorted(places) and text.count("## Scale\n") == 1


def test_results_md_is_what_run_writes() -> None:
    """From the raw figures and the hand-written by_hand.md, with the descriptions and titles of today's scripts."""
    folder = ROOT / "benchmarks"
    text = (folder / "RESULTS.md").read_text(encoding="utf-8")
    assert text == run.text(folder / "results")
    assert all(f"\n## {title}\n" in text for title, _, _ in run.BENCHMARKS.values())
    assert text.endswith((folder / "results" / "by_hand.md").read_text(encoding="utf-8"))


@pytest.mark.long
def test_the_one_command_in_processes_of_its_own(tmp_path: Path) -> None:
    """With a `torch` that cannot be imported, so the test does the same on every machine."""
    (tmp_path / "torch.py").write_text("raise ImportError", encoding="utf-8")
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick", "--out", str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*command, "--only", "train_step"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "## Training step" in text and "no PyTorch: npattn alone" in text
    data = json.loads(next((tmp_path / "results").glob("train_step-*.json")).read_text(encoding="utf-8"))
    (size,) = data["sizes"].values()
    (process,) = size["peers"]["npattn"]
    assert len(process["seconds"]) == 2 and process["peak_bytes"] >= process["before_bytes"]
    assert data["machine"]["npattn"]["numpy"] == np.__version__

    named = subprocess.run([*command, "--torch-python", sys.executable], capture_output=True, text=True, env=env)
    assert named.returncode == 1
    assert "expected an interpreter that can import torch" in named.stderr
