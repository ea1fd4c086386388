"""``python -m r1reward``: the command line, where its script is not on the path."""

import sys

from r1reward.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
