"""`npattn train --mpi`: one run on several ranks. It can be stopped, fail or be killed, and resume on other ranks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn._internal.files import FolderLock, load_arrays
from npattn.cli.train.ranks import require_alone
from npattn.runs.log import read_log
from support.command_line import Cli, Outcome, write_pairs
from support.mpi import ROOT, finish, needs_mpi, start

OPTIONS = ["--steps", "6", "--d-model", "8", "--heads", "2", "--layers", "1", "--batch", "8", "--workers", "1",
           "--checkpoint-every", "2", "--validate-every", "3"]  # fmt: skip
STEADY = [*OPTIONS, "--dropout", "0"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path)


def train(ranks: int, pairs: Path, folder: str, *options: str, what: str = "nothing", step: int = 1,
          rank: int = -1) -> Outcome:  # fmt: skip
    """Train on so many ranks of MPI (0: without MPI); `what` happens in step `step` of rank `rank`."""
    script = [str(ROOT / "tests" / "support" / "disturbed.py"), what, str(step), str(rank)]
    argv = [*script, "train", pairs.name, "--run", folder, *options, *["--mpi"] * (ranks > 0)]
    if ranks:
        return Outcome(*finish(start(ranks, *argv, cwd=pairs.parent)))
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *argv], cwd=pairs.parent, env=environment, capture_output=True, text=True, timeout=60
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def checkpoint(pairs: Path, folder: str) -> tuple[dict[str, Any], int]:
    arrays, metadata = load_arrays(pairs.parent / folder / "last.npz")
    return arrays, metadata["trainer"]["steps"]


def error_lines(outcome: Outcome) -> list[str]:
    """Return the lines of npattn; mpiexec writes others when a job fails."""
    return [line for line in outcome.err.splitlines() if line.startswith("npattn:")]


@needs_mpi
@pytest.mark.long
def test_one_run_on_changing_numbers_of_ranks(pairs: Path) -> None:
    """A run on two ranks, then without MPI, then on three ranks equals a run without a stop, to rounding."""
    assert train(0, pairs, "whole", *STEADY).status == 0
    two = train(2, pairs, "parts", *STEADY, what="stop", step=2, rank=1)
    assert two.status == 130, two
    assert two.out.count("Stopped after step 2; the checkpoint is written") == 1
    assert "mpiexec -n 2 npattn train mirror.tsv --run parts --resume --mpi\n" in two.out
    assert "2 ranks of 1 worker" in " ".join(two.out.split())
    assert checkpoint(pairs, "parts")[1] == 2
    alone = train(0, pairs, "parts", "--resume", what="stop", step=3)
    assert alone.status == 130 and "  npattn train mirror.tsv --run parts --resume\n" in alone.out
    three = train(3, pairs, "parts", "--resume", "--workers", "1", "--beam", "2")
    assert three.status == 0, three
    for text in ("mirror: 36 pairs", "resumed   after step 3", "greedy, all 3", "beam 2, all 3", "Use it with"):
        assert three.out.count(text) == 1, three
    (whole, _), (parts, steps) = checkpoint(pairs, "whole"), checkpoint(pairs, "parts")
    assert steps == 6 and whole.keys() == parts.keys()
    for name in whole:
        if "b_K" not in name:                                 # its gradient is rounding noise
            np.testing.assert_allclose(parts[name], whole[name], rtol=0, atol=1e-4 * max(abs(whole[name]).max(), 1))
    logs = [read_log(pairs.parent / folder) for folder in ("whole", "parts")]
    assert logs[0]["step"] == logs[1]["step"] == [3, 6]
    for name in ("loss", "exact match", "error rate"):
        np.testing.assert_allclose(logs[1][name], logs[0][name], rtol=1e-3)
    assert sorted(path.name for path in (pairs.parent / "parts").iterdir()) == [
        "best.npz", "last.npz", "log.tsv", "run.json"
    ]  # fmt: skip
    settings = json.loads((pairs.parent / "parts" / "run.json").read_text())["settings"]
    assert (settings["ranks"], settings["workers"]) == (2, 1)


@needs_mpi
@pytest.mark.long
def test_on_as_many_ranks_a_stopped_run_ends_on_the_same_bits(pairs: Path) -> None:
    """The run has dropout, is killed in its fifth step, and resumes from the checkpoint of step 4."""
    assert train(2, pairs, "whole", *OPTIONS, "--dropout", "0.2", "--average", "2").status == 0
    killed = train(2, pairs, "parts", *OPTIONS, "--dropout", "0.2", "--average", "2", what="kill", step=5, rank=1)
    assert killed.status not in (0, 1, 130)
    assert checkpoint(pairs, "parts")[1] == 4
    again = train(2, pairs, "parts", "--resume")
    assert again.status == 0, again
    (whole, _), (parts, _) = checkpoint(pairs, "whole"), checkpoint(pairs, "parts")
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


@needs_mpi
@pytest.mark.long
def test_only_rank_0_uses_the_folder_of_a_run(pairs: Path) -> None:
    """The other ranks start in another folder, as on another computer, and write nothing there."""
    for options in (OPTIONS, ["--resume"]):
        outcome = train(2, pairs, "run", *options, what="elsewhere", rank=1)
        assert outcome.status == 0 and not error_lines(outcome), outcome
        assert [path.name for path in (pairs.parent / "elsewhere").iterdir()] == ["mirror.tsv"]
    assert checkpoint(pairs, "run")[1] == 6
    (line,) = error_lines(train(2, pairs, "run", *OPTIONS, what="elsewhere", rank=1))
    assert line == "npattn: run holds a run already: go on with --resume, or choose another --run"


@needs_mpi
class TestFailures:
    @pytest.mark.long                                         # the other ranks wait 3 s for its outcome
    def test_an_error_of_one_rank_ends_all(self, pairs: Path) -> None:
        outcome = train(2, pairs, "run", *OPTIONS, what="fail", step=4, rank=1)
        assert outcome.status not in (0, 130)
        assert error_lines(outcome) == ["npattn: rank 1 of 2: out of memory: no room for a step"]
        assert checkpoint(pairs, "run")[1] == 2

    @pytest.mark.parametrize(
        ("what", "rank", "words"),
        [
            ("nan", -1, "step 4: expected a finite loss, got nan ("),
            ("drift", 1, "parameters after step 4: expected the same on every rank, got "),
            ("full_disk", 0, "last.npz: cannot write: No space left on device"),
        ],
    )
    def test_an_error_of_all_ranks_is_printed_once(self, pairs: Path, what: str, rank: int, words: str) -> None:
        outcome = train(2, pairs, "run", *OPTIONS, what=what, step=4, rank=rank)
        assert outcome.status == 1
        (line,) = error_lines(outcome)
        assert words in line and "; the checkpoint of step 2 stands in run/last.npz" in line
        assert "Traceback" not in outcome.err
        assert checkpoint(pairs, "run")[1] == 2

    def test_before_the_first_step(self, pairs: Path) -> None:
        (line,) = error_lines(train(2, pairs, "missing", "--resume"))
        assert line == "npattn: missing: expected the folder of a run, found no run.json"
        (line,) = error_lines(train(2, pairs, "run", *OPTIONS, "--smooth"))
        assert line.startswith("npattn: unknown argument --smooth")

    @pytest.mark.parametrize("options", [OPTIONS, ["--resume"]], ids=["new", "resumed"])
    def test_beside_another_training(self, pairs: Path, options: list[str]) -> None:
        if options[0] == "--resume":
            assert train(2, pairs, "run", *OPTIONS).status == 0
        (pairs.parent / "run").mkdir(exist_ok=True)
        lock = FolderLock(pairs.parent / "run")
        lock.acquire()
        outcome = train(2, pairs, "run", *options)
        lock.release()
        (line,) = error_lines(outcome)
        assert outcome.status == 1
        assert f"run: expected no other training in this folder, found that of process {os.getpid()} on" in line

    def test_ctrl_c_twice_stops_at_once(self, pairs: Path) -> None:
        outcome = train(2, pairs, "run", *OPTIONS, what="interrupt", step=4)
        (line,) = error_lines(outcome)
        assert outcome.status == 130 and "stopped at once after step 3; the checkpoint of step 2 stands in" in line
        assert line.endswith("; go on with: mpiexec -n 2 npattn train mirror.tsv --run run --resume --mpi")


@needs_mpi
def test_ctrl_c_in_the_terminal(pairs: Path) -> None:
    """The signal goes to mpiexec and to all ranks. What mpiexec passes on, and how often, depends on the MPI."""
    job = start(2, "-m", "npattn", "train", pairs.name, "--mpi", *OPTIONS, "--steps", "100000", cwd=pairs.parent)
    while not (pairs.parent / "runs" / "mirror" / "last.npz").exists() and job.poll() is None:
        os.sched_yield()
    os.killpg(job.pid, signal.SIGINT)
    status, _, err = finish(job)
    assert status != 0 and "Traceback" not in err
    checkpoint(pairs, "runs/mirror")


class TestWithoutMpi:
    def test_resuming_without_mpi_on_other_workers(
        self, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A run of four ranks with three workers each: without MPI it has one worker for each core, or `--workers`."""
        run = Cli(capsys)
        monkeypatch.chdir(pairs.parent)
        monkeypatch.setattr("npattn.training.trainer.cores", lambda: 5)
        monkeypatch.setattr("npattn.training.trainer.can_limit_blas", lambda: True)
        assert run("train", pairs, *OPTIONS).status == 0
        path = Path("runs", "mirror", "run.json")
        description = json.loads(path.read_text(encoding="utf-8"))
        assert description["settings"]["ranks"] == 1
        description["settings"] |= {"ranks": 4, "workers": 3}
        path.write_text(json.dumps(description), encoding="utf-8")
        assert "seed 0, 5 workers" in " ".join(run("train", pairs, "--resume").out.split())
        assert "seed 0, 2 workers" in " ".join(run("train", pairs, "--resume", "--workers", "2").out.split())
        assert json.loads(path.read_text(encoding="utf-8")) == description
        description["settings"]["ranks"] = 0
        path.write_text(json.dumps(description), encoding="utf-8")
        assert "ranks: expected 1 or more, got 0" in run.fails("train", pairs, "--resume")

    @pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
    def test_several_processes_without_the_option_mpi(
        self, pairs: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(name, "4")
        line = Cli(capsys).fails("train", pairs, *OPTIONS, status=2)
        assert line.startswith("npattn: mpiexec started 4 of these processes: add --mpi for one training on all")
        assert line.endswith("(see npattn train --help)")
        monkeypatch.setenv(name, "1")
        require_alone()

    def test_mpi4py_is_missing(
        self, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "mpi4py", None)
        line = Cli(capsys).fails("train", pairs, *OPTIONS, "--mpi")
        assert line.startswith("npattn: MPI cannot be used: ") and 'pip install "npattn[mpi]"' in line
        assert not (pairs.parent / "runs").exists()
        monkeypatch.setenv("PMI_RANK", "1")                   # rank 0 prints the error
        assert Cli(capsys)("train", pairs, *OPTIONS, "--mpi") == Outcome(1, "", "")
