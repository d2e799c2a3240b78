"""Pictures of attention, positions and learning, with matplotlib (the extra ``figures``).

Every function draws into `ax`, or into a new figure when `ax` is None, and returns the Axes. `save` writes the figure
to a file. `panels` and `mosaic` make figures in a light and a dark theme. In Axes from elsewhere, a picture uses the
colours of text and page that it finds there. pyplot is never imported, because it keeps a global state and opens
windows. Chinese labels use an installed font with Chinese letters, see `npattn.plot.fonts`. The scripts in the folder
figures/ of the repository use this module.

>>> import numpy as np
>>> ax = attention_map(np.array([[0.9, 0.1], [0.2, 0.8]]), ["who?", "where?"], ["she", "sea"])
>>> ax.get_xlabel(), ax.get_ylabel()
('attended to', 'query')
"""

from npattn.plot.canvas import Palette, Theme, check_format, grid, legend, mosaic, palette_of, panels, save, title
from npattn.plot.curves import learning_curve, position_products, spread
from npattn.plot.maps import attention_map, colour_bar, heads, positions, signed_map

__all__ = [
    "Palette",
    "Theme",
    "attention_map",
    "check_format",
    "colour_bar",
    "grid",
    "heads",
    "learning_curve",
    "legend",
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
