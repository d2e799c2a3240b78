"""Raw figures into reports: medians, ratios of neighbours in time, tables in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from _common.sizes import SQUARE

Result = dict[str, Any]
Peers = Mapping[str, Sequence[Result]]                        # peer → the results of its processes


class Ratio(NamedTuple):
    """The median, the least and the greatest of the ratios of pairs."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"**{self.median:.2f}** ({self.least:.2f}–{self.greatest:.2f})"


def medians(results: Sequence[Result], key: str = "seconds") -> list[float]:
    """The median of every process."""
    return [statistics.median(result[key]) for result in results]


def median(results: Sequence[Result], key: str = "seconds") -> float:
    """The median of the medians of all processes."""
    return statistics.median(medians(results, key))


def ratio(ours: Sequence[Result], theirs: Sequence[Result], key: str = "seconds") -> Ratio:
    """The time of ours over the time of theirs in the same round."""
    ratios = [a / b for a, b in zip(medians(ours, key), medians(theirs, key), strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def peak(results: Sequence[Result]) -> int:
    """The largest peak memory of all processes, in bytes."""
    return max(result["peak_bytes"] for result in results)


def added(results: Sequence[Result]) -> int:
    """The largest memory that the calls of a process added to its memory before them, in bytes."""
    return max(result["peak_bytes"] - result["before_bytes"] for result in results)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The p of value ≈ c·size^p: the slope of the least-squares line through the logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def milliseconds(seconds: float) -> str:
    """Three digits, or all digits before the point."""
    ms = 1000 * seconds
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:#.3g}"


def megabytes(count: float) -> str:
    """Bytes as MB of 10⁶ bytes."""
    return f"{count / 1e6:,.0f}"


def comparison(what: str, found: Mapping[str, Peers], limit: str | None = None) -> str:
    """A row for each case: the times of npattn, torch and the limit, and npattn's ratios to the others."""
    others = [peer for peer in ("torch", limit) if peer and all(peer in peers for peers in found.values())]
    header = [what, "npattn ms"]
    for peer in others:
        header += [f"{peer} ms", f"npattn / {peer}"]
    rows = []
    for name, peers in found.items():
        row = [name, milliseconds(median(peers["npattn"]))]
        for peer in others:
            row += [milliseconds(median(peers[peer])), str(ratio(peers["npattn"], peers[peer]))]
        rows.append(row)
    return table(header, rows)


def rates(what: str, found: Mapping[str, tuple[Peers, int]], limit: str) -> str:
    """A row for each case: the operations, the operations a second of each peer and of a square product, the memory."""
    timed = [peer for peer in ("npattn", "torch", limit) if all(peer in peers for peers, _ in found.values())]
    header = [what, "GFLOP", *(f"{peer} GF/s" for peer in timed), "square GF/s"]
    header += [f"{peer} peak MB" for peer in timed if peer != limit]
    rows = []
    for name, (peers, count) in found.items():
        row = [name, f"{count / 1e9:,.2f}", *(f"{count / 1e9 / median(peers[peer]):,.0f}" for peer in timed)]
        row.append(f"{2 * SQUARE**3 / 1e9 / median(peers[limit], 'square_seconds'):,.0f}")
        rows.append([*row, *(megabytes(peak(peers[peer])) for peer in timed if peer != limit)])
    return table(header, rows)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], left: Collection[int] = (0,)) -> str:
    """A Markdown table, padded for reading in a terminal; columns in `left` are aligned left, the others right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = ["<" if i in left else ">" for i in range(len(widths))]
    formats = [f"{side}{width}" for side, width in zip(sides, widths, strict=True)]
    lines = ["| " + " | ".join(map(format, row, formats)) + " |" for row in cells]
    rules = ["-" * (width + 1) + ("-" if side == "<" else ":") for side, width in zip(sides, widths, strict=True)]
    return "\n".join([lines[0], "|" + "|".join(rules) + "|", *lines[1:]])
