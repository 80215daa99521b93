"""What the longer proofs share."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Final

import pytest

_FILES: Final = 6_000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have as many sockets as the system allows it."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < _FILES:
        pytest.skip(f"{most} open files are too few here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
