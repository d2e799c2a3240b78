"""What teaches: `pages` (foundations, glossary, cheat sheet), `trace` (every number of a backward), `exercises`.

`notebook` has the cells of a Jupyter notebook and formulas in LaTeX.

The mathematics itself is not here: each layer and each version of attention derives its own backward.
"""
