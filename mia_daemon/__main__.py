"""`python -m mia_daemon` is `mia-daemon`."""

import sys

from mia_daemon.cli import main

if __name__ == "__main__":
    sys.exit(main())
