"""Figures, their two themes and their files.

A picture takes its colours from the Axes that it is drawn into: light ink on a dark page, dark ink on a light one. So
whatever `panels`, a notebook or a style sheet made the Axes, text stays readable, and no global setting is touched.
pyplot, with its state and its windows, is never imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from npattn.plot.fonts import one_warning_for_missing_letters

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.text import Text

Theme = Literal["light", "dark"]


class Palette(NamedTuple):
    """What to draw with. The six colours are Okabe and Ito's, told apart with every kind of colour vision."""

    page: str
    ink: str
    faint: str                   # for grids, frames and what is only carried along
    colours: tuple[str, ...]
    low_to_high: tuple[str, ...]     # from nothing to everything, evenly in lightness
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
    """Return the Axes of a new figure, `count` of them, each of the given size in inches, read along the rows.

    They stand side by side, or in rows of `columns`.
    Raises ModuleNotFoundError when matplotlib is missing, ValueError for a count below 1 or an unknown theme.

    >>> [list(ax.figure.get_size_inches()) for ax in panels(2, 3.0, 2.0)][0] == [6, 2]
    True
    """
    if count < 1:
        raise ValueError(f"count: expected 1 or more, got {count}")
    columns = min(count, columns or count)
    names = [str(i) for i in range(count)] + ["."] * (-count % columns)
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    return list(mosaic(rows, columns * width, len(rows) * height, theme=theme).values())


def mosaic(
    rows: Sequence[Sequence[str]], width: float, height: float, *, theme: Theme = "light", **ratios: Any
) -> dict[str, Axes]:
    """Return the Axes of a new figure of the given size in inches by name, in the order of their first appearance.

    `rows` draws the layout: a name that is repeated covers several cells, "." leaves one empty. `width_ratios` and
    `height_ratios` are those of columns and rows.
    Raises ModuleNotFoundError when matplotlib is missing, ValueError for a layout or a theme that is none.

    >>> list(mosaic([["A", "A"], ["E", "."]], 4.0, 3.0, theme="dark"))
    ['A', 'E']
    """
    if theme not in PALETTES:
        raise ValueError(f"theme: expected {' or '.join(PALETTES)}, got {theme!r}")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("drawing needs matplotlib: pip install npattn[figures]") from error
    palette = PALETTES[theme]
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=palette.page)
    layout: Any = [list(row) for row in rows]
    axes: dict[str, Axes] = figure.subplot_mosaic(layout, empty_sentinel=".", **ratios)
    for ax in axes.values():
        dress(ax, palette)
    return axes


def dress(ax: Axes, palette: Palette) -> None:
    """Give Axes the colours of a palette, and no more lines around them than they need."""
    ax.set_facecolor(palette.page)
    ax.tick_params(colors=palette.ink, labelsize=9, width=0.8)
    for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
        text.set_color(palette.ink)
    for side, spine in ax.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=palette.faint, linewidth=0.8)


def palette_of(ax: Axes) -> Palette:
    """Return the palette that fits a page as light or dark as that of `ax`, with the page and ink that are there.

    >>> palette_of(panels(1, theme="dark")[0]).page
    '#0d1117'
    """
    from matplotlib.colors import to_hex, to_rgba

    page = to_rgba(ax.get_facecolor())
    if page[3] == 0:                                          # transparent: what shines through
        page = to_rgba(ax.figure.get_facecolor())
    luminance = 0.2126 * page[0] + 0.7152 * page[1] + 0.0722 * page[2]
    theme: Theme = "light" if page[3] == 0 or luminance > 0.4 else "dark"
    return PALETTES[theme]._replace(page=to_hex(page), ink=to_hex(ax.xaxis.label.get_color()))


def colour_map(colours: Sequence[str]) -> Colormap:
    """Return the map that goes through the given colours in equal steps."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("npattn", list(colours))


def title(ax: Axes, text: str, **options: Any) -> Text:
    """Give Axes a title in their ink; options are those of matplotlib's `set_title`.

    >>> title(panels(1)[0], "weights").get_text()
    'weights'
    """
    style: dict[str, Any] = {"fontsize": 10, "color": palette_of(ax).ink}
    return ax.set_title(text, **style | options)


def legend(ax: Axes, **options: Any) -> None:
    """Add a legend in the ink of the Axes, without a frame; options are those of matplotlib's `legend`.

    >>> (ax,) = panels(1)
    >>> _ = ax.plot([1, 2], label="loss")
    >>> legend(ax, loc="upper left")
    >>> ax.get_legend().get_frame_on()
    False
    """
    ax.legend(labelcolor=palette_of(ax).ink, frameon=False, fontsize=9, **options)


def grid(ax: Axes) -> None:
    """Add a grid that stays behind what it measures.

    >>> (ax,) = panels(1)
    >>> grid(ax)
    >>> ax.get_axisbelow()
    True
    """
    ax.grid(color=palette_of(ax).faint, alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)


def save(ax: Axes, path: str | PathLike[str], *, dpi: int = 160, colours: int | None = None) -> None:
    """Write the figure that `ax` belongs to, in the format that the name asks for (.png, .svg, .pdf …).

    `colours`, up to 256, writes a .png of so many, chosen to fit, in a third of the bytes. Letters that no installed
    font has are drawn as boxes, and a UserWarning names them.
    Raises ValueError for a format that matplotlib does not write, OSError when the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (ax,) = panels(1, 1.0, 1.0)
    ...     save(ax, f"{folder}/empty.png", colours=2)
    """
    figure = ax.figure.canvas.figure                          # the whole one, when ax is on a part of it
    with one_warning_for_missing_letters():
        if colours is None:
            figure.savefig(path, dpi=dpi)
            return
        from PIL import Image  # which matplotlib itself requires

        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)
