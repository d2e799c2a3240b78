"""``python -m npattn``: the command line."""

import sys

from npattn.cli import main

if __name__ == "__main__":
    sys.exit(main())
