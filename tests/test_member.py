"""A node as one of several, on a real PostgreSQL: what it may do when its time together has ended unnoticed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from itgrix_kommo.doctor.findings import Verdict
from itgrix_kommo.doctor.nodes import judge_limit
from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.limiter import Lapsed, Limiter, Priority
from itgrix_kommo.kommo.shares import ALONE_AT_MOST, LEASE, Share
from itgrix_kommo.pipeline.member import BEAT, Member, Mode
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.engines import Work
from itgrix_kommo.storage.memory import IN_DOUBT, Memory, Part, Remembered
from itgrix_kommo.storage.registrations import NewRegistration, Registrations, State
from itgrix_kommo.storage.shared import SharedDatabase, handed, nodes, slots
from itgrix_kommo.storage.shared_account import Known, SharedAccount
from itgrix_kommo.storage.shared_nodes import forget, members
from itgrix_kommo.storage.shared_registrations import SharedRegistrations
from tests.pbx_servers import PostgreSql
from tests.stoppable_clock import StoppableClock

T = TypeVar("T")

pytestmark = pytest.mark.xdist_group("databases")

WITHIN = 60.0


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


class Home:
    def __init__(
        self,
        member: Member,
        registrations: SharedRegistrations,
        limiter: Limiter,
        memory: Memory,
        together: Worker,
        alone: Worker,
        clock: StoppableClock,
    ) -> None:
        self.member = member
        self.registrations = registrations
        self.limiter = limiter
        self.memory = memory
        self.together = together
        self.alone = alone
        self.clock = clock
        self.is_answered = True

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def a_home(shared: SharedDatabase, directory: Path, part: Part | None = None) -> AsyncIterator[Home]:
    """A node at work; `part` is what it remembers of an earlier life."""
    own = await Database.open(f"sqlite+aiosqlite:///{directory}/itgrix.db")
    clock = StoppableClock()
    limiter = Limiter(6, clock=clock)
    together, alone = Worker(limiter), Worker(limiter)
    memory = Memory(own, "pbx1")
    if part is not None:
        await memory.keep_part(part)
    registrations = SharedRegistrations(shared, memory, "pbx1")
    member = Member(
        "pbx1", shared, memory, registrations, limiter, limit=6, together=together, alone=alone, pause=lambda: 0.0,
        is_answered=lambda: made.is_answered,
    )  # fmt: skip
    member._clock = clock.time
    made = Home(member, registrations, limiter, memory, together, alone, clock)
    running = asyncio.create_task(member.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        await own.close()


@pytest.fixture
async def home(shared: SharedDatabase, tmp_path: Path) -> AsyncIterator[Home]:
    async with a_home(shared, tmp_path) as made:
        yield made


async def test_who_stood_still_until_its_claims_ended_sends_nothing_more_on_their_strength(home: Home) -> None:
    await home.until(lambda: home.member.mode is Mode.TOGETHER and home.together.sent and home.together.sent[0] > 1)
    sent = home.together.sent[0]
    home.clock.passed += 60.0
    await home.until(lambda: len(home.together.sent) > 1 and home.together.sent[1])
    assert home.together.sent[0] == sent


async def test_who_stood_still_asks_whether_he_is_alone_before_he_goes_on_so(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have seen to his clients meanwhile."""
    await home.until(lambda: home.member.mode is Mode.TOGETHER and home.together.sent)
    beat, gate = home.member._account.beat, asyncio.Event()

    async def delayed(*given: Any) -> Any:
        await gate.wait()
        return await beat(*given)

    monkeypatch.setattr(home.member._account, "beat", delayed)
    home.clock.passed += 60.0
    assert home.member.mode is Mode.WAITING
    begun = home.clock.time()
    await home.until(lambda: home.clock.time() > begun + 3 * BEAT)
    gate.set()
    await home.until(lambda: len(home.together.sent) > 1)
    assert home.alone.sent == []


async def test_nothing_is_sent_before_it_is_known_that_nobody_else_has_this_name(home: Home) -> None:
    await home.until(lambda: home.member.nodes)
    assert home.member.mode is not Mode.BEGINNING or home.limiter.per_second == 0
    await home.until(lambda: home.member.mode is Mode.TOGETHER and home.limiter.per_second)


async def test_when_it_was_answered_last_is_remembered(home: Home) -> None:
    begun = time.time()
    await home.until(lambda: home.member.mode is Mode.TOGETHER)
    heard_at = (await home.memory.part()).heard_at
    assert heard_at is not None
    assert begun - 1 < heard_at <= time.time()


async def test_an_empty_database_in_the_place_of_the_one_before_is_prepared(home: Home, shared: SharedDatabase) -> None:
    await home.until(lambda: home.member.mode is Mode.TOGETHER)

    def empty(connection: sa.Connection) -> None:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))

    await shared.write(empty)
    await home.until(lambda: home.member.error)
    await home.until(lambda: not home.member.error)
    names = sa.select(nodes.c.name)
    assert await shared.read(lambda connection: connection.execute(names).scalars().all()) == ["pbx1"]


async def test_a_jump_of_the_servers_clock_is_told_and_makes_nobody_seem_away(home: Home) -> None:
    await home.until(lambda: home.member.mode is Mode.TOGETHER)
    with capture_logs() as logs:
        home.clock.passed += 5.0  # which the server's did not
        await home.until(lambda: [one for one in logs if one["event"] == "shared_clock_jumped"])
    assert home.registrations.latest() == float("-inf")


async def test_nodes_that_are_configured_with_different_limits_are_told_of_once(
    home: Home, shared: SharedDatabase
) -> None:
    await home.until(lambda: home.member.mode is Mode.TOGETHER)
    assert (home.member.difference, home.member.facts()["limit"]) == ("", 6)
    other = Share("pbx2", begun=0.0)
    known = Known(0, "", 0, 0.0)

    async def beats(limit: int) -> None:
        await SharedAccount(shared, "pbx2", limit).beat(other.beat(0.0, wants=1, busy=0), known)

    with capture_logs() as logs:
        await beats(4)
        await home.until(lambda: home.member.difference)
        assert home.member.difference == (
            "kommo.requests_per_second is 6 at pbx1, 4 at pbx2: 4 counts: give it the same value on all PBXs"
        )
        facts = home.member.facts()
        assert facts["limit"] == 4
        assert [one["requests_per_second"] for one in facts["nodes"].values()] == [6, 4]
        seen = home.clock.time()
        await home.until(lambda: home.clock.time() > seen + 3 * BEAT)
        await beats(6)
        await home.until(lambda: not home.member.difference)
    told = [one for one in logs if one["event"] in {"limits_differ", "limits_agree"}]
    assert [(one["event"], one["log_level"], one["limit"]) for one in told] == [
        ("limits_differ", "warning", 4),
        ("limits_agree", "info", 6),
    ]


async def test_who_has_another_account_is_told_of_and_nobody_finishes_his_calls(
    shared: SharedDatabase, tmp_path: Path
) -> None:
    async with a_home(shared, tmp_path) as home:
        home.member._account_id = lambda: 1001
        await home.until(lambda: home.member.mode is Mode.TOGETHER)
        other, theirs = Share("pbx2", begun=0.0), SharedAccount(shared, "pbx2", 6)
        row = Remembered("pbx2", "1.1", "+7999", "waiting", 0.0, 0, time.time(), {}, {}, "", 0)
        with capture_logs() as logs:
            for account in (2002, None):  # the second is another life's, which has not heard yet
                await theirs.beat(other.beat(0.0, wants=1, busy=0), Known(0, "", 0, 0.0, account=account))
            await SharedRegistrations(shared, home.memory, "pbx2").hand_over({1: row})
            await home.until(lambda: home.member.difference)
        assert home.member.difference.startswith("the nodes' Kommo account is 1001 at pbx1, 2002 at pbx2: ")
        assert [one["log_level"] for one in logs if one["event"] == "accounts_differ"] == ["error"]
        away = sa.update(nodes).where(nodes.c.name == "pbx2")
        await shared.write(lambda connection: connection.execute(away.values(until=time.time() - 60.0)))
        common = SharedRegistrations(shared, home.memory, "pbx1")  # one that believes the server's clock at once
        assert (await common.in_line(time.time(), limit=9)).due == []
        await shared.write(lambda connection: connection.execute(away.values(account=1001)))
        assert [one.call_id for one in (await common.in_line(time.time(), limit=9)).due] == ["1.1"]


async def test_who_finds_all_of_the_limit_kept_by_others_that_are_away_says_so(
    shared: SharedDatabase, tmp_path: Path
) -> None:
    dead = Share("pbx2", begun=0.0)
    await SharedAccount(shared, "pbx2", 6).beat(dead.beat(0.0, wants=1, busy=0), Known(0, "", 0, 0.0))
    gone = sa.update(slots).values(home="pbx2", holder=None, until=0.0)
    await shared.write(lambda connection: connection.execute(gone))
    await shared.write(lambda connection: connection.execute(sa.update(nodes).values(until=time.time() - 60.0)))
    async with a_home(shared, tmp_path) as home:
        await home.until(lambda: home.member.mode is Mode.TOGETHER)
        assert home.member.starved_by == ["pbx2"]
        facts = judge_limit(await members(shared))
        assert (facts.verdict, facts.words) == (
            Verdict.FAULT,
            "pbx2, which is away, keeps all of it, and nobody sends anything to Kommo",
        )
        await forget(shared, "pbx2")
        await home.until(lambda: home.limiter.per_second)
        assert home.member.starved_by == []


@pytest.mark.parametrize(("port", "level"), [(None, "error"), (1, "warning")])
async def test_an_address_that_a_person_has_to_mend_is_told_as_an_error(
    shared_server: PostgreSql, tmp_path: Path, port: int | None, level: str
) -> None:
    url = sa.make_url(shared_server.address).set(database="nowhere")
    refusing = SharedDatabase((url if port is None else url.set(port=port)).render_as_string(hide_password=False))
    with capture_logs() as logs:
        async with a_home(refusing, tmp_path) as home:
            await home.until(lambda: home.member.error)
    (told,) = [one for one in logs if one["event"] == "shared_database_away"]
    assert told["log_level"] == level, told
    await refusing.close()


@pytest.mark.parametrize(("unheard", "share"), [(3600.0, 2), (ALONE_AT_MOST, 0)])
async def test_a_restart_does_not_prolong_the_day_for_which_it_may_go_on_alone(
    tmp_path: Path, unheard: float, share: int
) -> None:
    part = Part(frozenset({1, 2}), 7, "epoch", heard_at=time.time() - unheard)
    away = SharedDatabase("postgresql+asyncpg://itgrix@127.0.0.1:1/itgrix")
    async with a_home(away, tmp_path, part) as home:
        await home.until(lambda: home.member.error)
        home.clock.passed += LEASE
        await home.until(lambda: home.alone.sent and not home.limiter.has_lapsed)
        assert (home.member.mode, home.member.facts()["share"]) == (Mode.ALONE, share)
        await home.until(lambda: home.alone.sent[0] if share else home.limiter.waiting)
        assert bool(home.alone.sent[0]) == bool(share)
    await away.close()


class Doubtful(SharedDatabase):
    """Its answer to a commit is lost, as long as `is_cut`."""

    is_cut = False

    async def write(self, work: Work[T], *, before_commit: Callable[[], Awaitable[None]] | None = None) -> T:
        done = await super().write(work, before_commit=before_commit)
        if self.is_cut:
            raise StorageError("no answer")
        return done


async def test_what_another_node_may_have_is_left_to_it(
    shared: SharedDatabase, shared_server: PostgreSql, tmp_path: Path
) -> None:
    """The network went while PostgreSQL committed what was handed over; who goes on alone must not do it as well."""
    doubtful = Doubtful(shared_server.address)
    async with a_home(doubtful, tmp_path) as home:
        own = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db", beside_daemon=True)
        registrations = Registrations(own, "pbx1")
        await home.until(lambda: home.together.sent)
        doubtful.is_cut = True
        await registrations.keep(NewRegistration("1.1", frozenset({"1.1"}), "+79990000001", {"id": "1.1"}))
        home.member.nudge()
        async with asyncio.timeout(WITHIN):
            while await shared.read(lambda connection: connection.execute(sa.select(handed)).first()) is None:
                await asyncio.sleep(0.01)
        line = await registrations.in_line(time.time(), limit=9)
        assert line.due == []
        assert (await registrations.latest(9))[0].reason == IN_DOUBT
        doubtful.is_cut = False
        async with asyncio.timeout(WITHIN):
            while not await home.memory.handed(0):
                await asyncio.sleep(0.01)
        assert [row.state for row in await home.memory.rows()] == [State.WAITING]
        await own.close()
    await doubtful.close()


async def test_a_recordings_link_waits_until_kommo_answers_its_node(
    home: Home, shared: SharedDatabase, tmp_path: Path
) -> None:
    """The others have registered its calls meanwhile; only here is the recording."""
    own = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db", beside_daemon=True)
    registrations = Registrations(own, "pbx1")

    async def end(call_id: str, progress: dict[str, object]) -> None:
        ended = sa.update(handed).where(handed.c.call_id == call_id).values(state="done", progress=progress)
        await shared.write(lambda connection: connection.execute(ended))

    async def state(call_id: str) -> str:
        query = sa.select(handed.c.state).where(handed.c.call_id == call_id)
        return str(await shared.read(lambda connection: connection.execute(query).scalar()))

    await home.until(lambda: home.together.sent)
    for number in (1, 2):
        call_id = f"1.{number}"
        await registrations.keep(
            NewRegistration(call_id, frozenset({call_id}), f"+7999000000{number}", {"id": call_id})
        )
    async with asyncio.timeout(WITHIN):
        while len(await home.memory.handed(0)) < 2:
            await asyncio.sleep(0.01)
        home.is_answered = False
        await home.until(lambda: home.member.mode is Mode.CUT_OFF)
        await end("1.1", {"link_is_due": True})
        await end("1.2", {})
        while len(await home.memory.handed(0)) > 1:
            await asyncio.sleep(0.01)
        assert await state("1.1") == "done"
        home.is_answered = True
        while await state("1.1") != "waiting":
            await asyncio.sleep(0.01)
    await own.close()
