"""`python -m safe`."""

import sys

from safe.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
