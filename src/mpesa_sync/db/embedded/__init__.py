"""Our own small supervisor for an embedded PostgreSQL: one data folder, any number of client processes.

`async with running(home) as server:` starts the server of a folder or joins the one that runs there; it is stopped
cleanly when the last client has gone, in whatever way. `client` is what programs call; `supervisor` is the detached
process; the other modules are its parts. Nothing here knows what the database is used for.
"""

from mpesa_sync.db.embedded.binaries import Binaries, Distribution, binaries
from mpesa_sync.db.embedded.client import Server, exists, is_running, running, start

__all__ = [
    "Binaries",
    "Distribution",
    "Server",
    "binaries",
    "exists",
    "is_running",
    "running",
    "start",
]
