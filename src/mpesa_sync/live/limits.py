"""Every figure of the live path, in one place: times in seconds, and how many."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how many; the defaults are those of facts/live.md.

    Arguments:
        stale_after_s: a feed that was not proven live for so long is said to be stale (L6).
        probe_every_s, probe_timeout_s: the proof of life on the listener's own connection.
        connect_timeout_s: how long one attempt to connect may take.
        read_timeout_s: how long one read of bars may take, so that one that hangs is said to be stale in time (L6).
        sweep_every_s: full facts of all watched bars are read so often (L2).
        forget_after_s: a bar without streams is watched for so long after its last use.
        idle_bars: at most so many bars are watched without streams.
        read_batch, sweep_batch: bars in one statement, for wakes and for sweeps.
        bumps: versions that are moved at the same time for writers that moved none.
        streams, streams_per_address, streams_per_bar: more are refused, in this process.
        beat_every_s: between two heartbeats of a stream.
        drain_after_s: a client that takes nothing for so long is closed.
        life_s: the shortest and the longest life of a stream; it is drawn between the two.
        retry_ms: how long a client waits before it comes back, at least and at most.
        tick_every_s: how often the shared timer looks.
        slice_of: streams that are served before others get a turn (L7).
        held_s: how long, in each of its turns, a crowded bar waits at most for a read of other bars (L7): a read and
            the one after it on a busy machine.
    """

    stale_after_s: float = 3.0
    probe_every_s: float = 1.0
    probe_timeout_s: float = 2.0
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 2.5
    sweep_every_s: float = 10.0
    forget_after_s: float = 60.0
    idle_bars: int = 20_000
    read_batch: int = 500
    sweep_batch: int = 200
    bumps: int = 2
    streams: int = 20_000
    streams_per_address: int = 1_000
    streams_per_bar: int = 10_000
    beat_every_s: float = 15.0
    drain_after_s: float = 5.0
    life_s: tuple[float, float] = (1_800.0, 3_600.0)
    retry_ms: tuple[int, int] = (500, 5_000)
    tick_every_s: float = 0.25
    slice_of: int = 32
    held_s: float = 0.003
