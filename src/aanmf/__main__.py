"""`python -m aanmf` is the command `aanmf`."""

import sys

from aanmf.cli import main

if __name__ == "__main__":
    sys.exit(main())
