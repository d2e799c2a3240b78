"""Training on several ranks of MPI equals one process, keeps all ranks the same, and raises an error on all of them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import distributed
from npattn._internal.system.blas_threads import can_limit_blas
from npattn.training.ranks import GradientBuffer, Ranks
from support import on_ranks
from support.mpi import ROOT, finish, needs_mpi, start
from support.transformer_toys import deviation, toy_model

#: By case, the results of each rank.
Results = dict[str, list[Any]]


@pytest.fixture(scope="module", params=[2, 3])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Run all cases on two and on three ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    status, _, err = finish(start(request.param, ROOT / "tests" / "support" / "on_ranks.py", folder))
    assert status == 0, err
    ranks = [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(request.param)]
    return {name: [rank[name] for rank in ranks] for name in on_ranks.CASES}


def bits(value: Any) -> bytes:
    return pickle.dumps(value)


def assert_close(one: dict[str, Any], other: dict[str, Any], rel: float = 1e-12) -> None:
    """Losses, weights and Adam's moments differ by at most `rel` times the largest number of their kind."""
    assert one["trainer"] == other["trainer"] and one["adam"]["t"] == other["adam"]["t"]
    for kind in ("losses", "params", "m", "v"):
        a, b = flat(one, kind), flat(other, kind)
        np.testing.assert_allclose(a, b, rtol=0, atol=rel * np.abs(b).max())


def flat(state: dict[str, Any], kind: str) -> Any:
    if kind in state:
        return state[kind]
    return np.concatenate([array.ravel() for name, array in state["adam"].items() if name.startswith(f"{kind}.")])


@needs_mpi
class TestOneProcess:
    """Several ranks equal one process."""

    def test_losses_and_weights(self, results: Results) -> None:
        alone = on_ranks.steps(None)
        for rank in results["steps"]:
            assert_close(rank, alone)

    @pytest.mark.parametrize(("case", "workers"), [("dropout", 1), ("two_workers", 2)])
    def test_dropout_equals_one_process_with_as_many_shards(self, results: Results, case: str, workers: int) -> None:
        alone = on_ranks.dropout(None, workers * len(results[case]))
        for rank in results[case]:
            assert_close(rank, alone)
        with pytest.raises(AssertionError):
            assert_close(alone, on_ranks.dropout(None, 1))

    def test_a_language_model(self, results: Results) -> None:
        alone = on_ranks.text(None, len(results["text"]))
        for rank in results["text"]:
            assert_close(rank, alone)
            assert bits(rank) == bits(results["text"][0])
        with pytest.raises(AssertionError):
            assert_close(alone, on_ranks.text(None, 1))       # dropout of one shard draws other numbers

    def test_float32(self, results: Results) -> None:
        alone = on_ranks.float32(None)
        for rank in results["float32"]:
            assert rank["params"].dtype == np.float32
            assert_close(rank, alone, rel=1e-4)

    def test_gradients_of_the_whole_batch(self, results: Results) -> None:
        loss, grads, nothing, zero = on_ranks.gradients(None)
        assert (nothing, zero) == (0, 0)
        for got_loss, got, got_nothing, got_zero in results["gradients"]:
            assert type(got_loss) is float and got_loss == pytest.approx(loss, rel=1e-12)
            assert deviation(got, grads) < 1e-12
            assert (got_nothing, got_zero) == (0, 0)

    def test_all_ranks_continue_from_the_state_that_rank_0_loaded(self, results: Results) -> None:
        whole = on_ranks.resumes(None)
        for rank in results["resumes"]:
            assert bits(rank["before"]) == bits(whole["before"])
            assert rank["after"]["trainer"] == {"seed": 1, "steps": 4}
        # Each shard draws its own dropout, so the losses differ from those of one process, but not among the ranks.
        assert len({bits(rank["after"]) for rank in results["resumes"]}) == 1

    def test_ranks_are_the_same_to_the_bit(self, results: Results) -> None:
        for case in ("steps", "dropout", "two_workers", "float32"):
            assert len({bits(rank) for rank in results[case]}) == 1


@needs_mpi
class TestConsistency:
    def test_a_number_that_is_not_finite_on_one_rank_stops_all_and_changes_nothing(self, results: Results) -> None:
        expected = [("FloatingPointError", "step 2: expected a finite loss, got inf")]
        for failures, unchanged, loss in results["not_finite"]:
            assert failures[:1] == expected
            kind, message = failures[1]
            assert kind == "ValueError" and message.startswith("gradient of 'encoder.0.norm_1.gamma': expected finite")
            assert unchanged
            assert loss == results["not_finite"][0][2] and np.isfinite(loss)
        assert len({str(failures) for failures, *_ in results["not_finite"]}) == 1

    def test_drift_is_an_error_on_every_rank_that_names_the_ranks(self, results: Results) -> None:
        ranks = len(results["drift"])
        others = "on rank 0;" if ranks == 2 else "on ranks 0, 2;"
        for before, (kind, message) in results["drift"]:
            assert before == ("", "")
            assert kind == "RanksDiffer"
            assert message.startswith("parameters after step 2: expected the same on every rank, got ")
            assert others in message and message.endswith(" on rank 1")
        assert len({message for _, (_, message) in results["drift"]}) == 1

    def test_ranks_with_other_batches(self, results: Results) -> None:
        """The error comes at the first step, or later when the ranks are compared."""
        last = len(results["other_batches"]) - 1
        for (kind, at_once), (later_kind, later) in results["other_batches"]:
            assert kind == later_kind == "RanksDiffer"
            assert at_once.startswith("batches: expected the same on every rank, got ")
            assert later.startswith("batches after step 2: expected the same on every rank, got ")
            assert at_once.endswith(f" on rank {last}") and later.endswith(f" on rank {last}")

    def test_ranks_with_other_settings(self, results: Results) -> None:
        last = len(results["other_settings"]) - 1
        for failures in results["other_settings"]:
            assert {kind for kind, _ in failures} == {"RanksDiffer"}
            assert [message.partition(":")[0] for _, message in failures] == ["clip", "optimizer", "smoothing", "model"]
            assert failures[0][1].startswith("clip: expected the same on every rank, got 0.5 on rank")
            assert failures[0][1].endswith(f"; None on rank {last}")

    def test_a_request_of_one_rank_stops_all_after_the_same_step(self, results: Results) -> None:
        assert results["stop"] == [[False, True, False]] * len(results["stop"])

    def test_messages(self, results: Results) -> None:
        n = len(results["messages"])
        for rank, it in enumerate(results["messages"]):
            assert it["from_first"] == ("rank", 0)
            assert it["broken"] == ("OSError", "[Errno 28] No space left on device: 'file'")
            assert it["called"] == [0] * (rank == 0)
            assert it["gather"] == list(range(n))
            assert it["share_out"] == [[10 * i for i in range(m)] for m in (0, 1, 7)]
            assert it["copies"] == ([0.0, 0.0, 0.0], 4)
            assert 1 <= it["sharing"] <= n
            assert it["workers"] == 2                         # the smallest number that any rank has

    def test_a_rank_uses_threads_when_it_has_enough_work(self, results: Results) -> None:
        assert results["enough_work"] == [[2, 1]] * len(results["enough_work"])

    def test_ranks_share_the_cores_of_a_computer(self, results: Results) -> None:
        for it in results["messages"]:
            cores, workers = it["cores"]
            assert workers == (max(1, cores // it["sharing"]) if can_limit_blas() else 1)
        for rank, it in zip(results["blas"], results["messages"], strict=True):
            assert rank in (None, {1 if it["sharing"] > 1 else 2})


class TestAlone:
    """Without a communicator, or with a single rank, no message is sent."""

    def test_the_cases_run_in_one_process(self) -> None:
        assert on_ranks.stop(None) == [True, False, False]
        assert on_ranks.enough_work(None) == [2, 1]
        alone = on_ranks.messages(None)
        assert alone["from_first"] == ("rank", 0) and alone["gather"] == [0] and alone["sharing"] == 1
        assert on_ranks.blas(None) in (None, {2})
        assert alone["share_out"] == [[10 * i for i in range(m)] for m in (0, 1, 7)]

    def test_a_communicator_of_one_rank_is_not_used(self) -> None:
        class Single:
            def Get_rank(self) -> int:
                return 0

            def Get_size(self) -> int:
                return 1

        ranks = Ranks(Single())  # type: ignore[arg-type]
        assert (ranks.rank, ranks.size, ranks.comm) == (0, 1, None)
        assert bits(on_ranks.steps(Single())) == bits(on_ranks.steps(None))  # type: ignore[arg-type]

    def test_mpi4py_is_imported_only_on_request(self) -> None:
        script = "import sys, npattn.cli, npattn.training.ranks, npattn.runs; sys.exit('mpi4py' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0

    def test_the_buffer_has_the_order_of_the_parameters(self) -> None:
        params = toy_model(tie="none", src_vocab=5).params
        grads = GradientBuffer(params)
        for name, view in params.items():
            grads[name][...] = view
        np.testing.assert_array_equal(grads.memory[:-2], params.flat)
        assert grads.memory.size == params.flat.size + 2 and np.shares_memory(grads.flat, grads.memory)


class TestPrediction:
    """The times that benchmarks/distributed.py predicts for many ranks."""

    def test_by_hand(self) -> None:
        """8 MB on four ranks: 2 · 3/4 · 8 MB at 1 GB/s are 12 ms, and six messages of 1 ms 6 ms."""
        network = distributed.Network(bandwidth=1e9, latency=1e-3)
        assert distributed.sum_seconds(4, 8e6, network) == pytest.approx(0.018)
        assert distributed.efficiency(4, 0.018, 8e6, network) == pytest.approx(0.5)
        assert distributed.sum_seconds(1, 8e6, network) == 0
        assert distributed.efficiency(1, 0.018, 8e6, network) == 1
