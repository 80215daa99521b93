"""Runs the supervisor as a script, without the rest of the package: `python -I -S boot.py HOME`.

It stays for as long as the database does, and starts in the way of its first client. Importing the package's front
(driver, cryptography) would cost 0.2 s and 30 MB, and tie the database to what it has nothing to do with. HOME is
only there to be seen by whoever lists the processes.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path


def main() -> int:
    """Put bare packages in the place of ours, so that their `__init__` is not run, then supervise."""
    here = Path(__file__).resolve().parent
    folders = (here.parents[1], here.parents[0], here)
    for name, folder in zip(("mpesa_sync", "mpesa_sync.db", "mpesa_sync.db.embedded"), folders, strict=True):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    from mpesa_sync.db.embedded import supervisor

    return supervisor.main()


if __name__ == "__main__":
    sys.exit(main())
