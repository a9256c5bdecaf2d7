"""Some workers of one kind, handed out one job at a time; who is in a hurry goes first."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from typing import TYPE_CHECKING

import structlog

from itgrix_kommo.errors import HookError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from itgrix_kommo.customizations.workers import Worker

_log = structlog.get_logger(__name__)


class Pool:
    """To be made, used and closed within one event loop."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = tuple(workers)
        self._idle = list(workers)
        self._waiting: list[tuple[bool, int, asyncio.Future[Worker]]] = []
        self._arrivals = itertools.count()
        self._starting: set[asyncio.Task[None]] = set()
        self._closed = False

    def warm_up(self) -> None:
        """Start all workers in the background, so that the first call need not wait for it."""
        cold, self._idle = self._idle, []
        for worker in cold:
            self._start(worker)

    @contextlib.asynccontextmanager
    async def worker(self, *, urgent: bool) -> AsyncIterator[Worker]:
        """A worker for one job. Where all are busy, the urgent are served first, and each in order of arrival."""
        worker = await self._next(urgent=urgent)
        try:
            yield worker
        finally:
            if worker.ready or self._closed:
                self._hand_on(worker)
            else:
                self._start(worker)

    async def close(self) -> None:
        self._closed = True
        for _, _, ready in self._waiting:
            if not ready.done():
                ready.set_exception(HookError("the customizations are being stopped"))
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(worker.close() for worker in self._workers))

    async def _next(self, *, urgent: bool) -> Worker:
        if self._closed:
            raise HookError("the customizations are being stopped")
        if self._idle:
            return self._idle.pop()
        ready: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not urgent, next(self._arrivals), ready))
        try:
            return await ready
        except asyncio.CancelledError:
            # Given away in the very moment in which nobody wanted it any more.
            if ready.done() and not ready.cancelled() and ready.exception() is None:
                self._hand_on(ready.result())
            raise

    def _hand_on(self, worker: Worker) -> None:
        while self._waiting:
            _, _, ready = heapq.heappop(self._waiting)
            if not ready.done():
                ready.set_result(worker)
                return
        self._idle.append(worker)

    def _start(self, worker: Worker) -> None:
        task = asyncio.get_running_loop().create_task(self._started(worker))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _started(self, worker: Worker) -> None:
        """A worker that can't be started is handed on all the same: its next job tries again and tells why."""
        try:
            await worker.start()
        except HookError as error:
            _log.warning("hook_worker_not_started", error=str(error))
        self._hand_on(worker)
