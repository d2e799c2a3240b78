"""The benchmark of the modern versions measures what it says, at toy sizes and without times that a test depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import modern_attention
from _common import harness
from _common.harness import Job, Result, Runner


class Direct(Runner):
    """Calls the workers in this process."""

    def call(self, peer: str, job: Job) -> Result:
        worker = modern_attention.torch_worker if peer == "torch" else modern_attention.npattn_worker
        return {"peak_bytes": 2**30, **worker(job)}


@pytest.fixture(scope="module")
def data() -> Result:
    options = harness.parser(modern_attention).parse_args(["--quick", "--rounds", "1"])
    return modern_attention.measure(options, Direct(None, None))


def test_it_reports_every_part_and_draws(data: Result, tmp_path: Path) -> None:
    report = modern_attention.report(data)
    assert report.count("\n|--") == 5 and "torch" not in report and "nan" not in report
    assert "\nTurning over plain: 16 " in report and "\nExponents of the time: npattn " in report
    pytest.importorskip("matplotlib")
    modern_attention.draw(data, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_state_is_constant_and_keys_and_values_grow(data: Result) -> None:
    kept = {
        peer: [peers[peer][0]["kept_bytes"] for peers in data["parts"]["delta"].values()]
        for peer in ("npattn", "plain")
    }
    assert kept == {"npattn": [4 * 64 * 64 * 4] * 2, "plain": [2 * 4 * N * 64 * 4 for N in (64, 128)]}


def test_only_the_idea_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window, grouped keys or rotary frequencies are options of npattn's call and missing in the plain call."""
    import npattn
    from npattn.attention import v8_causal, v9_rotary

    calls: list[dict[str, Any]] = []

    def recorded(*arrays: Any, **options: Any) -> Any:
        calls.append({**options, "K": arrays[1].shape})
        raise InterruptedError

    for module, name in ((npattn, "tiled_attention"), (v8_causal, "forward"), (v9_rotary, "forward")):
        monkeypatch.setattr(module, name, recorded)
    for part, case in (("window", ""), ("grouped", "train"), ("rotary", "")):
        for idea in (True, False):
            call, _ = modern_attention.PREPARE[part]({"part": part, "kind": case, "length": 64, "idea": idea})
            with pytest.raises(InterruptedError):
                call()
    window, all_of_it, few, repeated, turned, plain = calls
    assert (window["window"], all_of_it["window"]) == (16, None)
    assert (few["K"], few["grouped"]) == ((1, 2, 64, 64), True) and repeated["K"] == (1, 16, 64, 64)
    assert "frequencies" in turned and turned | plain == turned


def test_figures_of_torch_get_columns(data: Result) -> None:
    found = {case: peers | {"torch": peers["plain"]} for case, peers in data["parts"]["grouped"].items()}
    report = modern_attention.report({"parts": {"grouped": found}})
    assert "npattn / torch" in report and "torch MB added" in report
