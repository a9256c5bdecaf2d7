"""A node as one of several, on a real PostgreSQL: what it may do when its time together has ended unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from itgrix_kommo.kommo.limiter import Lapsed, Limiter, Priority
from itgrix_kommo.pipeline.member import Member, Mode
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.memory import Memory
from itgrix_kommo.storage.shared import SharedDatabase
from itgrix_kommo.storage.shared_registrations import SharedRegistrations
from tests.pbx_servers import PostgreSql, a_postgresql

pytestmark = pytest.mark.xdist_group("databases")

WITHIN = 60.0


class Clock:
    """The loop's; `passed` are the seconds for which the process stood still."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.passed = 0.0

    def time(self) -> float:
        return self.loop.time() + self.passed

    def call_later(self, delay: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        return self.loop.call_later(delay, callback)


class Worker:
    """Sends as fast as it may, and takes its time to stop. `sent` is how much, in each of its lives."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self.sent: list[int] = []

    def nudge(self) -> None:
        pass

    async def let_go(self, clients: Collection[str]) -> None:
        pass

    async def run(self) -> None:
        self.sent.append(0)
        life = len(self.sent) - 1
        try:
            while True:
                async with self._limiter.slot(Priority.REGISTRATION) as slot:
                    with suppress(Lapsed):
                        slot.sent()
                        self.sent[life] += 1
        finally:
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSql]:
    with a_postgresql() as made:
        yield made


class Home:
    def __init__(self, member: Member, worker: Worker, clock: Clock) -> None:
        self.member = member
        self.worker = worker
        self.clock = clock

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture
async def home(server: PostgreSql, tmp_path: Path) -> AsyncIterator[Home]:
    shared = SharedDatabase(server.address)
    own = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db")
    clock = Clock()
    limiter = Limiter(6, clock=clock)
    worker, idle = Worker(limiter), Worker(limiter)
    memory = Memory(own, "pbx1")
    registrations = SharedRegistrations(shared, memory, "pbx1")
    member = Member(
        "pbx1", shared, memory, registrations, limiter, limit=6, together=worker, alone=idle, pause=lambda: 0.0
    )
    member._clock = clock.time
    running = asyncio.create_task(member.run())
    try:
        yield Home(member, worker, clock)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await own.close()
        await shared.close()


async def test_who_stood_still_until_its_claims_ended_sends_nothing_more_on_their_strength(home: Home) -> None:
    await home.until(lambda: home.member.mode is Mode.TOGETHER and home.worker.sent and home.worker.sent[0] > 1)
    sent = home.worker.sent[0]
    home.clock.passed += 60.0
    await home.until(lambda: len(home.worker.sent) > 1 and home.worker.sent[1])
    assert home.worker.sent[0] == sent
