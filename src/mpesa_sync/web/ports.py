"""`Port`: one port for several processes. Each has a listening socket of its own, and the kernel spreads connections.

The parent makes the sockets and keeps them, so that what waits to be accepted outlives a process that is replaced.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from mpesa_sync.web.server import refused_address


class Port:
    """A port that is taken, by nobody but us, and the sockets on it. None of them listens before a process does."""

    def __init__(self, taken: socket.socket) -> None:
        self.taken = taken

    def another(self) -> socket.socket:
        """Return another socket on the port.

        Raises:
            ConfigurationError: the kernel gives none.
        """
        made = socket.socket(self.taken.family)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(self.taken.getsockname())
        except OSError as exc:
            made.close()
            host, number = self.taken.getsockname()[:2]
            raise refused_address(host, number, exc) from None
        return made


@contextmanager
def port(host: str, number: int) -> Iterator[Port]:
    """Take a port until the block ends; 0 takes any free one.

    Raises:
        ConfigurationError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as taken:
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((host, number))  # alone: a second program is refused the port that it might share below
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as exc:
            raise refused_address(host, number, exc) from None
        yield Port(taken)
