"""The explorer: a page in the browser where every number of a forward and its backward can be seen and changed.

`subjects` says what can be shown, with which switches; `page` has the data of a page, and `formula` writes each number
as the formula that gives it. `server` and `saved` serve the page and write it as one file, from `assets/`.
"""

from npattn.learn.explore.page import Page, build, entry, everything
from npattn.learn.explore.subjects import Subject, subjects

__all__ = ["Page", "Subject", "build", "entry", "everything", "subjects"]
