"""Figures, their two themes and their files.

A picture takes its colours from its Axes: dark ink on a light page, light ink on a dark page. So text stays readable
whether `panels`, a notebook or a style sheet made the Axes. No global setting is changed, and pyplot is never imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from npattn._internal.checks import check_path
from npattn.plot.fonts import one_warning_for_missing_letters

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.text import Text

Theme = Literal["light", "dark"]


class Palette(NamedTuple):
    """The colours of a picture, as hexadecimal RGB.

    Its six `colours` are those of Okabe and Ito, which differ with every kind of colour vision.
    """

    page: str
    ink: str                                                  # text
    faint: str                                                # grids, frames and crosses
    colours: tuple[str, ...]                                  # lines and areas, in the order of use
    low_to_high: tuple[str, ...]                              # weights from 0 to 1; lightness changes evenly
    negative_to_positive: tuple[str, ...]


BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE = "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7"

PALETTES: dict[Theme, Palette] = {
    "light": Palette(
        "#ffffff", "#1f2328", "#8c959f", (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY),
        ("#ffffff", "#cfe6f7", "#7cbfe8", "#2f86c4", "#0b4f85", "#06294a"), (BLUE, "#ffffff", VERMILION),
    ),
    "dark": Palette(
        "#0d1117", "#e6edf3", "#7d8590", (SKY, ORANGE, GREEN, PURPLE, VERMILION, BLUE),
        ("#0d1117", "#0b3a61", "#1268a5", "#56b4e9", "#a8daf6", "#f4fbff"), (SKY, "#0d1117", ORANGE),
    ),
}  # fmt: skip


def panels(
    count: int,
    width: float = 4.0,
    height: float = 3.6,
    *,
    columns: int | None = None,
    theme: Theme = "light",
) -> list[Axes]:
    """Return the Axes of a new figure with `count` panels of the same size, row by row.

    - count: the number of panels, 1 or more.
    - width, height: the size of one panel in inches.
    - columns: panels in a row; None puts all in one row.
    - theme: "light" or "dark".

    Raises ModuleNotFoundError when matplotlib is missing, ValueError for a count below 1 or an unknown theme.

    >>> [list(ax.figure.get_size_inches()) for ax in panels(2, 3.0, 2.0)][0] == [6, 2]
    True
    """
    if count < 1:
        raise ValueError(f"count: expected 1 or more, got {count}")
    columns = min(count, columns or count)
    names = [*map(str, range(count)), *"." * (-count % columns)]
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    return list(mosaic(rows, columns * width, len(rows) * height, theme=theme).values())


def mosaic(
    rows: Sequence[Sequence[str]], width: float, height: float, *, theme: Theme = "light", **ratios: Any
) -> dict[str, Axes]:
    """Return the Axes of a new figure by name, in the order in which the names appear in `rows`.

    - rows: the layout, one name for each cell. A repeated name covers several cells; "." leaves a cell empty.
    - width, height: the size of the figure in inches.
    - theme: "light" or "dark".
    - ratios: `width_ratios` and `height_ratios`, the relative sizes of columns and rows.

    Raises ModuleNotFoundError when matplotlib is missing, ValueError for an unknown theme or an impossible layout.

    >>> list(mosaic([["A", "A"], ["E", "."]], 4.0, 3.0, theme="dark"))
    ['A', 'E']
    """
    if theme not in PALETTES:
        raise ValueError(f"theme: expected {' or '.join(PALETTES)}, got {theme!r}")
    palette = PALETTES[theme]
    figure = figure_class()(figsize=(width, height), layout="constrained", facecolor=palette.page)
    axes: dict[str, Axes] = figure.subplot_mosaic([list(row) for row in rows], empty_sentinel=".", **ratios)
    for ax in axes.values():
        ax.set_facecolor(palette.page)
        ax.tick_params(colors=palette.ink, labelsize=9, width=0.8)
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            text.set_color(palette.ink)
        for side, spine in ax.spines.items():
            spine.set(visible=side in ("left", "bottom"), color=palette.faint, linewidth=0.8)
    return axes


def figure_class() -> type[Figure]:
    """Return matplotlib's class of figures. Raises a ModuleNotFoundError that says how to install it."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('drawing needs matplotlib: pip install "npattn[figures]"') from error
    return Figure


def palette_of(ax: Axes) -> Palette:
    """Return the light or the dark palette, whichever fits the page of `ax`, with the page and ink of `ax`.

    - ax: Axes of any figure. The page is their background, or the figure's where theirs is transparent.

    >>> palette_of(panels(1, theme="dark")[0]).page
    '#0d1117'
    """
    from matplotlib.colors import to_hex, to_rgba

    page = to_rgba(ax.get_facecolor())
    if page[3] == 0:                                          # transparent: the figure shows through
        page = to_rgba(ax.figure.get_facecolor())
    luminance = 0.2126 * page[0] + 0.7152 * page[1] + 0.0722 * page[2]
    theme: Theme = "light" if page[3] == 0 or luminance > 0.4 else "dark"
    return PALETTES[theme]._replace(page=to_hex(page), ink=to_hex(ax.xaxis.label.get_color()))


def colour_map(colours: Sequence[str]) -> Colormap:
    """Return the colour map that goes through the given colours in equal steps."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("npattn", list(colours))


def title(ax: Axes, text: str, **options: Any) -> Text:
    """Give Axes a title in the colour of their text, and return it.

    - ax: the Axes.
    - text: the title; matplotlib sets what stands between dollar signs as mathematics.
    - options: those of matplotlib's `set_title`.

    >>> title(panels(1)[0], "weights").get_text()
    'weights'
    """
    return ax.set_title(text, **{"fontsize": 10, "color": palette_of(ax).ink, **options})


def legend(ax: Axes, **options: Any) -> None:
    """Add a legend in the colour of the Axes' text, without a frame.

    - ax: the Axes; their labelled lines and areas are listed.
    - options: those of matplotlib's `legend`.

    >>> (ax,) = panels(1)
    >>> _ = ax.plot([1, 2], label="loss")
    >>> legend(ax, loc="upper left")
    >>> ax.get_legend().get_frame_on()
    False
    """
    ax.legend(labelcolor=palette_of(ax).ink, frameon=False, fontsize=9, **options)


def grid(ax: Axes) -> None:
    """Add a faint grid behind the lines.

    - ax: the Axes.

    >>> (ax,) = panels(1)
    >>> grid(ax)
    >>> ax.get_axisbelow()
    True
    """
    ax.grid(color=palette_of(ax).faint, alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)


def check_format(path: str | PathLike[str]) -> None:
    """Raise an error unless `save` can write a file of this name: before a long computation, say.

    - path: the file.

    Raises ValueError for a format that matplotlib does not write, TypeError for what is no path, ModuleNotFoundError
    when matplotlib is missing.

    >>> check_format("map.txt")
    Traceback (most recent call last):
    ValueError: path: expected a name that ends in .png, .svg, .pdf or as matplotlib can, got 'map.txt'
    """
    ending = check_path("path", path).suffix.lower().removeprefix(".")
    if ending not in figure_class()().canvas.get_supported_filetypes():
        raise ValueError(f"path: expected a name that ends in .png, .svg, .pdf or as matplotlib can, got {str(path)!r}")


def save(ax: Axes, path: str | PathLike[str], *, dpi: int = 160, colours: int | None = None) -> None:
    """Write the figure that `ax` belongs to.

    - ax: any Axes of the figure.
    - path: the file. Its ending chooses the format: .png, .svg, .pdf …
    - dpi: pixels for each inch.
    - colours: None keeps all colours. A number up to 256 writes a .png of so many colours, chosen to fit, which takes a
      third of the bytes.

    Letters that no installed font has are drawn as boxes, and a UserWarning lists them.
    Raises ValueError for a format that matplotlib does not write, and for `colours` in another one than .png; TypeError
    for what are no Axes or no path; OSError when the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (ax,) = panels(1, 1.0, 1.0)
    ...     save(ax, f"{folder}/empty.png", colours=2)
    """
    if not hasattr(getattr(ax, "figure", None), "canvas"):
        raise TypeError(f"ax: expected Axes, got {type(ax).__name__}")
    check_format(path)
    if colours is not None and Path(path).suffix.lower() != ".png":
        raise ValueError(f"colours: expected None unless path ends in .png, got {colours} and {str(path)!r}")
    figure = ax.figure.canvas.figure                          # the whole figure, also when ax is in a subfigure
    with one_warning_for_missing_letters():
        if colours is None:
            figure.savefig(path, dpi=dpi)
            return
        from PIL import Image  # matplotlib itself requires it

        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)
