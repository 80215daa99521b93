"""`Supervisor`: several serving processes. It starts them, starts another where one dies, and replaces them in turn.

It knows nothing of what they serve: a process says one byte when it serves, and ends on SIGTERM, or when the
supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mpesa_sync.backoff import Backoff
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.web.ports import Port

READY: Final = b"r"
"""What a process says to the supervisor once it serves."""
_log: Final = logs.get("workers")
_READY_WITHIN_S: Final = 60.0
_END_WITHIN_S: Final = 30.0
"""Draining, the server's own grace, and what is under way in the pool: then it is killed."""
_WELL_S: Final = 30.0
"""Who served for so long has not failed at its start: the next one is started at once."""
_AGAIN: Final = Backoff(max_retries=64, base_s=0.5, cap_s=15.0, total_s=float("inf"))


class WorkersNotStarted(MpesaSyncError):
    """A serving process ended before it served, at the first start."""

    code = "workers_not_started"


@dataclass(eq=False)
class Worker:
    """One serving process. `served_at`: since when it serves, on the loop's time; None while it does not."""

    process: asyncio.subprocess.Process
    listening: socket.socket
    control: socket.socket
    served_at: float | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def until_it_serves(self) -> bool:
        """Return True when it serves, False where it has ended before, or does not in time."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                said = await loop.sock_recv(self.control, 1)
        except (OSError, TimeoutError):
            return False
        if said != READY:
            return False
        self.served_at = loop.time()
        return True

    async def end(self) -> None:
        """Ask it to end, and kill it where it does not in time."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_END_WITHIN_S):
                await self.process.wait()
        except TimeoutError:
            _log.error(Event.WORKER_KILLED, pid=self.pid)
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        self.control.close()


class Supervisor:
    """Keeps `count` processes serving one port, each in a slot of its own.

    Arguments:
        port: each slot gets a socket of its own on it.
        command: of a process of the slot (0, 1 …), told the numbers of the two sockets that it inherits.
        environment: of every process.
        ended: told of the id of every process that has ended.
    """

    def __init__(
        self,
        port: Port,
        count: int,
        *,
        command: Callable[[int, int, int], Sequence[str]],
        environment: Mapping[str, str],
        ended: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self._port = port
        self._command = command
        self._environment = environment
        self._ended = ended
        self._count = count
        self._workers: dict[int, Worker] = {}
        self._spare: set[Worker] = set()

    @property
    def pids(self) -> list[int]:
        """The processes that serve, by slot."""
        return [worker.pid for _slot, worker in sorted(self._workers.items())]

    async def start(self) -> None:
        """Start all of them, and wait until they serve.

        Raises:
            WorkersNotStarted: one of them did not get that far; the others are ended.
        """
        for slot in range(self._count):
            self._workers[slot] = await self._started(slot, self._port.another())
        serving = await asyncio.gather(*(worker.until_it_serves() for worker in self._workers.values()))
        if not all(serving):
            await self.stop()
            raise WorkersNotStarted("A serving process has ended, or hangs, before it served; see what it said above.")

    async def run(self, stop: asyncio.Event, again: asyncio.Event) -> None:
        """Keep them serving until `stop` is set, and replace them, one after the other, when `again` is."""
        tasks = [asyncio.create_task(self._kept(slot), name=f"worker {slot}") for slot in range(self._count)]
        tasks.append(asyncio.create_task(self._replaced_when(again), name="restart"))
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _running = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                await task
        finally:
            for task in (stopped, *tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """End all of them, at the same time, and wait for it."""
        everyone = [*self._workers.values(), *self._spare]
        await asyncio.gather(*(worker.end() for worker in everyone))
        for worker in everyone:
            self._ended(worker.pid)
            worker.listening.close()

    async def _started(self, slot: int, listening: socket.socket) -> Worker:
        """Start a process that inherits its listening socket and the other end of a pair, and nothing else."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command(slot, listening.fileno(), theirs.fileno()),
                env=self._environment,
                pass_fds=(listening.fileno(), theirs.fileno()),
                process_group=0,  # a Ctrl-C at the terminal is for the supervisor alone
            )
        return Worker(process, listening, ours)

    async def _kept(self, slot: int) -> None:
        """Start another process whenever that of the slot dies."""
        failures = 0
        while True:
            worker = self._workers[slot]
            code = await worker.process.wait()
            if worker is not self._workers[slot]:
                continue  # it was replaced
            self._ended(worker.pid)
            lived_s = 0.0 if worker.served_at is None else asyncio.get_running_loop().time() - worker.served_at
            failures = 0 if lived_s >= _WELL_S else failures + 1
            wait_s = (failures > 1 and _AGAIN.delay_s(min(failures - 1, _AGAIN.max_retries), 0.0)) or 0.0
            _log.error(Event.WORKER_DIED, pid=worker.pid, code=code, again_in_s=round(wait_s, 1))
            # What waits on its socket comes back to the others; a new one does not listen before it serves.
            worker.listening.close()
            worker.control.close()
            await asyncio.sleep(wait_s)
            if worker is self._workers[slot]:
                worker = self._workers[slot] = await self._started(slot, self._port.another())
                if not await worker.until_it_serves():
                    await worker.end()

    async def _replaced_when(self, again: asyncio.Event) -> None:
        while True:
            await again.wait()
            again.clear()
            for slot in range(self._count):
                if not await self._replaced(slot):
                    break

    async def _replaced(self, slot: int) -> bool:
        """Replace the process of a slot by one that serves already; return False where the new one does not."""
        old = self._workers[slot]
        listening = self._port.another() if old.process.returncode is not None else old.listening.dup()
        new = await self._started(slot, listening)
        self._spare.add(new)
        if not await new.until_it_serves():
            await new.end()
            self._ended(new.pid)
            new.listening.close()
            self._spare.discard(new)
            _log.error(Event.WORKERS_NOT_REPLACED, pid=new.pid)
            return False
        old, self._workers[slot] = self._workers[slot], new
        self._spare.discard(new)
        self._spare.add(old)
        await old.end()
        self._ended(old.pid)
        old.listening.close()
        self._spare.discard(old)
        _log.info(Event.WORKER_REPLACED, pid=old.pid, by=new.pid)
        return True
