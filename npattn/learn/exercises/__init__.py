"""Exercises: derive a backward on paper, write it in NumPy, and let the gradient checker answer in words.

`sheets/` has one file an exercise, in Markdown: the question, the code with its solution, the arguments to check it at,
three hints, and typical mistakes with the words that explain them. `sheet` reads it and cuts the starter from the
solution, so the two cannot differ. `grading` checks a student's file. What they say on the screen is in
`npattn.cli.exercise`.
"""

from npattn.learn.exercises.grading import BLANK, RIGHT, WRONG, Result, Row, grade
from npattn.learn.exercises.sheet import NAMES, Exercise, Mistake, read

__all__ = ["BLANK", "NAMES", "RIGHT", "WRONG", "Exercise", "Mistake", "Result", "Row", "grade", "read"]
