"""The walk through the seven versions: formula, what changed, shapes, weights, and how right the gradients are."""

from __future__ import annotations

from npattn import check_gradients
from npattn._internal.checks import Array
from npattn.cli.terminal import WIDTH, Console, left
from npattn.cli.tour.example import WORDS, Example

LEVELS = " ▁▂▃▄▅▆▇█"
LABEL = 13


def walk(examples: list[Example], console: Console) -> float:
    """Show every version on its example, prove its gradients, and return the largest error of all."""
    return max(show(number, example, console) for number, example in enumerate(examples, 1))


def show(number: int, example: Example, console: Console) -> float:
    """Show one version; raise GradientError when a gradient is wrong."""
    version, arrays, options, queries = example
    y, cache = version.module.forward(*arrays.values(), **options)
    report = check_gradients(version.module.forward, version.module.backward, tuple(arrays.values()), options)
    output = "y" if y.ndim == 1 else "Z" if "W_O" in arrays else "Y"
    module = version.module.__name__.rpartition(".")[2]
    title = f"{number}  {version.name}"
    console.line()
    console.line(console.style(title, "bold") + console.style(module.rjust(WIDTH - len(title)), "dim"))
    entry("formula", formula_lines(version.formula), console)
    entry("new", [version.changed], console)
    shapes = [f"{name} {shape(array)}" for name, array in arrays.items()]
    entry("shapes", filled([*shapes, f"→ {output} {shape(y)}"], "  "), console)
    entry("weights", weight_lines(cache.A, queries), console)
    gradients = " ".join(f"d{argument.name}" for argument in report.arguments)
    entry("backward", [f"{gradients}   largest error {report.max_error:.1e}"], console)
    return report.max_error


def entry(name: str, lines: list[str], console: Console) -> None:
    """Write lines with a name in the margin."""
    for i, text in enumerate(lines):
        console.line("   " + console.style(left(name if i == 0 else "", LABEL - 3), "dim") + text)


def weight_lines(A: Array, queries: tuple[str, ...]) -> list[str]:
    """Write weights (N_X,), (N_Q, N_X) or (H, N_Q, N_X): the inputs across, the queries down, heads side by side."""
    heads = A.reshape(-1, len(queries), len(WORDS))
    margin = max(map(len, queries)) + 1
    lines = []
    if len(heads) > 1:
        lines.append(" " * margin + "".join(left(f"head {h + 1}", 33) for h in range(len(heads))))
    columns = 5 if len(heads) > 1 else 6
    lines.append(" " * margin + "  ".join("".join(f"{word:>{columns}}" for word in WORDS) for _ in heads))
    for i, query in enumerate(queries):
        rows = (head[i] for head in heads)
        lines.append(left(query, margin) + "  ".join("".join(f"{a:>{columns}.2f}" for a in row) for row in rows))
        if len(heads) == 1:
            lines[-1] += "   " + "".join(LEVELS[round(8 * a)] for a in heads[0, i])
    return lines


def formula_lines(formula: str) -> list[str]:
    """Break a formula between its equations, where it is too long."""
    return filled([part + "," for part in formula.split(",  ")], "  ", last_comma=False)


def filled(parts: list[str], joint: str, *, last_comma: bool = True) -> list[str]:
    """Join parts into lines that fit beside the margin, never breaking one."""
    lines: list[str] = []
    for part in parts:
        if lines and LABEL + len(lines[-1] + joint + part) <= WIDTH:
            lines[-1] += joint + part
        else:
            lines.append(part)
    return lines if last_comma else [*lines[:-1], lines[-1].rstrip(",")]


def shape(array: Array) -> str:
    """Write a shape without the comma that a tuple of one has."""
    return f"({', '.join(map(str, array.shape))})"
