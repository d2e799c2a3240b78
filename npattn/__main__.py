"""``python -m npattn``: the command line."""

import sys

from npattn.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
