"""How much the longer proofs do (faults.md), and from which seed. `make prove-night` does ten times that."""

from __future__ import annotations

import os
import random
from typing import Final

TIMES: Final = int(os.environ.get("MPESA_SYNC_PROVE_TIMES", "1"))
SEED: Final = int(os.environ.get("MPESA_SYNC_PROVE_SEED", str(random.SystemRandom().getrandbits(32))))
"""Printed by every proof that draws from it; given, the same is drawn again."""

KILLS: Final = 300 * TIMES
COMMIT_CUTS: Final = 200 * TIMES
MACHINES: Final = 10 * TIMES
STATEMENTS: Final = 500
"""Of each machine: 5,000 interleaved statements in all."""
TRANSITIONS: Final = 20_000 * TIMES
API_CASES: Final = 200 * TIMES
SOAK_S: Final = 180.0 if TIMES == 1 else 1_200.0


def limit_s(seconds: float) -> float:
    """Return what a proof may take, for one that takes `seconds` at most by day."""
    return seconds * TIMES
