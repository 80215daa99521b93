"""`python -m mpesa_sync.migration`, the same as `mpesa-sync migrate`."""

import sys

from mpesa_sync.cli.main import run

if __name__ == "__main__":
    sys.argv.insert(1, "migrate")
    run()
