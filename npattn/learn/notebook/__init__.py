"""Notebooks: `latex` finds the formulas in a text and writes them in LaTeX, `cells` makes the file of a notebook.

`answers` checks an exercise that was solved in a cell. What the notebook of the climb contains is in
`npattn.cli.notebook`.
"""

from npattn.learn.notebook.answers import Answer, check
from npattn.learn.notebook.cells import Cell, code, markdown, notebook
from npattn.learn.notebook.latex import blocks_in_latex, prose_in_latex

__all__ = ["Answer", "Cell", "blocks_in_latex", "check", "code", "markdown", "notebook", "prose_in_latex"]
