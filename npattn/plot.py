"""Pictures of attention, positions and learning curves, for who has matplotlib (the extra ``figures``).

Every function draws into `ax`, or into a new figure of its own, and returns the Axes; `save` writes its figure to a
file. pyplot, with its global state and its windows, is never imported.

>>> import numpy as np
>>> ax = attention_map(np.array([[0.9, 0.1], [0.2, 0.8]]), ["who?", "where?"], ["she", "sea"])
>>> ax.get_xlabel(), ax.get_ylabel()
('attended to', 'query')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npattn._shapes import dims
from npattn._types import Array

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes

#: Up to this many cells of a row are labelled one by one.
LABELLED = 60


def panels(count: int, width: float = 4.0, height: float = 3.6) -> list[Axes]:
    """Return the Axes of a new figure, `count` side by side, each of the given size in inches.

    Raises ModuleNotFoundError when matplotlib is missing, ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count: expected 1 or more, got {count}")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("drawing needs matplotlib: pip install npattn[figures]") from error
    figure = Figure(figsize=(count * width, height), layout="constrained")
    return list(figure.subplots(1, count, squeeze=False)[0])


def save(ax: Axes, path: str | PathLike[str], *, dpi: int = 150) -> None:
    """Write the figure that `ax` belongs to, in the format that the name asks for (.png, .svg, .pdf …)."""
    ax.figure.canvas.figure.savefig(path, dpi=dpi)            # the whole one, when ax is on a part of it


def attention_map(
    A: Array, queries: Sequence[str] | None = None, inputs: Sequence[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw weights A (N_Q, N_X), a row for each query: white is 0, the darkest blue 1.

    `queries` and `inputs` label rows and columns. Raises ValueError when A has other axes or the labels another number.
    """
    N_Q, N_X = A.shape if A.ndim == 2 else (None, None)
    if N_Q is None or N_X is None:
        raise ValueError(f"A: expected (N_Q, N_X), got {A.shape}")
    for name, labels, size in (("queries", queries, N_Q), ("inputs", inputs, N_X)):
        if labels is not None and len(labels) != size:
            raise ValueError(f"{name}: expected {size} labels for A {A.shape}, got {len(labels)}")
    ax = ax or panels(1, max(3.0, 0.3 * min(N_X, LABELLED)), max(2.4, 0.3 * min(N_Q, LABELLED)))[0]
    ax.imshow(A, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if inputs is not None and N_X <= LABELLED:
        tilted = 45 if max(map(len, inputs), default=0) > 2 else 0
        ax.set_xticks(range(N_X), inputs, rotation=tilted)
    if queries is not None and N_Q <= LABELLED:
        ax.set_yticks(range(N_Q), queries)
    ax.set(xlabel="attended to", ylabel="query")
    return ax


def positions(P: Array, *, ax: Axes | None = None) -> Axes:
    """Draw position vectors P (N, D), as of `npattn.sinusoidal_positions`: blue is −1, red is 1."""
    dims(P=(P, "N D"))
    ax = ax or panels(1, 6.0, 3.6)[0]
    image = ax.imshow(P, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    ax.figure.colorbar(image, ax=ax)
    ax.set(xlabel="column d", ylabel="position n", title="P[n, d]")
    return ax


def learning_curve(
    log: Mapping[str, Sequence[float]], score: str, *, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a score against minutes, from the log of a run (`npattn.run_log.read_log`).

    Call it again with the same `ax` to compare runs; `label` names them. Raises ValueError when the score is missing.
    """
    missing = [name for name in ("minutes", score) if name not in log]
    if missing:
        raise ValueError(f"log: expected {' and '.join(missing)} among its columns, got {', '.join(log)}")
    ax = ax or panels(1, 6.0, 3.6)[0]
    percent = 100 * np.asarray(log[score], float)
    options: dict[str, Any] = {} if label is None else {"label": label}
    ax.plot(log["minutes"], percent, marker="o", markersize=3, **options)
    ax.set(xlabel="minutes", ylabel=f"{score} on validation items, %")
    ax.grid(alpha=0.3)
    if label is not None:
        ax.legend()
    return ax
