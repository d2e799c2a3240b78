"""Pictures of attention, positions, learning and the Transformer, for who has matplotlib (the extra ``figures``).

Every function draws into `ax`, or into a new figure of its own, and returns the Axes; `save` writes its figure to a
file. `panels` and `mosaic` make figures in a light and a dark theme, and pictures drawn into other Axes take over the
ink and page that they find. pyplot, with its global state and its windows, is never imported. Labels in letters that
matplotlib's own font lacks, Chinese ones say, are drawn with an installed font that has them, see `npattn.plot.fonts`.

>>> import numpy as np
>>> ax = attention_map(np.array([[0.9, 0.1], [0.2, 0.8]]), ["who?", "where?"], ["she", "sea"])
>>> ax.get_xlabel(), ax.get_ylabel()
('attended to', 'query')
"""

from npattn.plot.architecture import architecture
from npattn.plot.blocks import formula_height, mathematics, matrix_formulas
from npattn.plot.canvas import Palette, Theme, grid, legend, mosaic, palette_of, panels, save, title
from npattn.plot.curves import learning_curve, position_products, spread
from npattn.plot.maps import attention_map, heads, positions, signed_map

__all__ = [
    "Palette",
    "Theme",
    "architecture",
    "attention_map",
    "formula_height",
    "grid",
    "heads",
    "learning_curve",
    "legend",
    "mathematics",
    "matrix_formulas",
    "mosaic",
    "palette_of",
    "panels",
    "position_products",
    "positions",
    "save",
    "signed_map",
    "spread",
    "title",
]
