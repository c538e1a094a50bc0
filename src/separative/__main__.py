"""The command line interface, run as ``python -m separative``."""

import sys

from separative.cli import main

if __name__ == "__main__":
    sys.exit(main())
