"""Show the seven versions: formula, what is new, shapes, weights, and the errors of the gradients."""

from __future__ import annotations

from npattn import check_gradients
from npattn._internal.checks import Array
from npattn.cli.terminal import WIDTH, Console, pad_right, shade
from npattn.cli.tour.example import WORDS, Example

#: Columns of the margin, which holds the name of an entry.
MARGIN = 13


def show_version(number: int, example: Example, console: Console) -> float:
    """Show one version and return its largest error. Raises GradientError for a wrong gradient."""
    version, arrays, options, queries = example
    y, cache = version.module.forward(*arrays.values(), **options)
    report = check_gradients(version.module.forward, version.module.backward, tuple(arrays.values()), options)
    output = "y" if y.ndim == 1 else "Z" if "W_O" in arrays else "Y"
    module = version.module.__name__.rpartition(".")[2]
    title = f"{number}  {version.name}"
    console.lines(("", console.style(title, "bold") + console.style(module.rjust(WIDTH - len(title)), "dim")))
    entry("formula", formula_lines(version.formula), console)
    entry("new", [version.changed], console)
    shapes = [f"{name} {shape(array)}" for name, array in arrays.items()]
    entry("shapes", filled([*shapes, f"→ {output} {shape(y)}"], "  "), console)
    entry("weights a" if y.ndim == 1 else "weights A", weight_lines(cache.A, queries), console)
    gradients = " ".join(f"d{argument.name}" for argument in report.arguments)
    entry("backward", [f"{gradients}   largest error {report.max_error:.1e}"], console)
    return report.max_error


def entry(name: str, lines: list[str], console: Console) -> None:
    """Write lines with a name in the margin."""
    for i, text in enumerate(lines):
        console.line("   " + console.style(pad_right(name if i == 0 else "", MARGIN - 3), "dim") + text)


def weight_lines(A: Array, queries: tuple[str, ...]) -> list[str]:
    """Return weights (N_X,), (N_Q, N_X) or (H, N_Q, N_X) as text: inputs across, queries down, heads side by side."""
    heads = A.reshape(-1, len(queries), len(WORDS))
    margin = max(map(len, queries)) + 1
    lines = []
    if len(heads) > 1:
        lines.append(" " * margin + "".join(pad_right(f"head {h + 1}", 33) for h in range(len(heads))))
    columns = 5 if len(heads) > 1 else 6
    lines.append(" " * margin + "  ".join("".join(f"{word:>{columns}}" for word in WORDS) for _ in heads))
    for i, query in enumerate(queries):
        rows = (head[i] for head in heads)
        lines.append(pad_right(query, margin) + "  ".join("".join(f"{a:>{columns}.2f}" for a in row) for row in rows))
        if len(heads) == 1:
            lines[-1] += "   " + "".join(map(shade, heads[0, i]))
    return lines


def formula_lines(formula: str) -> list[str]:
    """Break a long formula between its equations."""
    *equations, last = formula.split(",  ")
    return filled([*(f"{equation}," for equation in equations), last], "  ")


def filled(parts: list[str], joint: str) -> list[str]:
    """Join parts into lines that fit beside the margin. A part is never broken."""
    lines: list[str] = []
    for part in parts:
        if lines and MARGIN + len(lines[-1] + joint + part) <= WIDTH:
            lines[-1] += joint + part
        else:
            lines.append(part)
    return lines


def shape(array: Array) -> str:
    """Write a shape; Python's comma after a single size is left out."""
    return f"({', '.join(map(str, array.shape))})"
