"""Medians, ratios, exponents and tables of the benchmarks, and the operations that they count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _common import tables
from _common.sizes import SIZES, TOY, Attention, Linear, decoding_products, operations, products


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=7), st.floats(0.1, 10))
def test_the_drift_of_the_machine_does_not_change_a_ratio(drift: list[float], share: float) -> None:
    theirs = [{"seconds": [speed, speed, 9 * speed]} for speed in drift]   # a median ignores one slow call
    ours = [{"seconds": [share * speed]} for speed in drift]
    assert tables.ratio(ours, theirs) == pytest.approx((share, share, share))


@given(st.floats(-1, 3), st.floats(1e-3, 1e3))
def test_the_exponent_of_a_power_law_is_found(p: float, c: float) -> None:
    sizes = [16, 32, 128, 512]
    assert tables.exponent(sizes, [c * size**p for size in sizes]) == pytest.approx(p, abs=1e-9)


def test_memory_is_the_largest_of_all_processes() -> None:
    results = [{"peak_bytes": 7, "before_bytes": 1}, {"peak_bytes": 9, "before_bytes": 5}]
    assert tables.peak(results) == 9 and tables.added(results) == 6


def test_tables_are_markdown() -> None:
    text = tables.table(["name", "ms", "text"], [["a", 1.5, "x | y"], ["longer", 10, ""]], left=(0, 2))
    assert text.splitlines() == [
        r"| name   |  ms | text   |",
        r"|--------|----:|--------|",
        r"| a      | 1.5 | x \| y |",
        r"| longer |  10 |        |",
    ]
    assert tables.milliseconds(1.2345) == "1,234" and tables.milliseconds(0.0012345) == "1.23"


def test_the_operations_of_the_papers_model() -> None:
    """6 + 6 layers, d = 512, 512 rows: an encoder layer has 12 d² weights, a decoder layer 16 d²."""
    rows, d = 512, 512
    linear = 6 * (12 + 16) * d**2 * rows + 8000 * d * rows
    attention = 3 * 6 * 2 * 8 * 64 * 64 * d
    assert operations(products(SIZES["base"])) == 2 * (linear + attention)
    assert 3 * operations(products(SIZES["base"])) == pytest.approx(151.5e9, rel=1e-3)


@pytest.mark.parametrize("what", ["step", "share", "decoding", "tiles"])
def test_the_products_do_the_operations_counted(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import long_attention
    from _common import products as alone

    done = []
    real = np.matmul

    def counting(A: Any, B: Any, out: Any) -> None:
        done.append(2 * out.size * A.shape[-1])
        real(A, B, out=out)

    shapes = list(decoding_products(TOY, rows=3, N_S=5, steps=4, copies=2))
    calls, expected = {
        "step": ([alone.step(TOY)(0, 1)], 3 * operations(products(TOY))),
        "share": ([alone.step(TOY)(i, 3) for i in range(3)], 3 * operations(products(TOY))),
        "decoding": ([alone.decoding(shapes)], operations(shapes)),
        "tiles": ([alone.tiles(8 * 4, 16, 64)], long_attention.operations(32, causal=False)),
    }[what]
    monkeypatch.setattr(np, "matmul", counting)
    for call in calls:
        call()
    assert sum(done) == expected


def test_shapes_of_decoding() -> None:
    shapes = list(decoding_products(TOY, rows=3, N_S=5, steps=4, copies=2))
    own = [each.N_X for each in shapes if isinstance(each, Attention) and each.N_Q == 1 and each.N_X != 5]
    assert own == [1, 2, 3, 4]                                # one position more at every step
    assert shapes[-1] == Linear(6, TOY.d_model, TOY.vocabulary)
