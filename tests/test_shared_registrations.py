"""Registrations that nodes have in common, as long as they are kept and when they are forgotten; on real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

from itgrix_kommo.errors import StorageRefused
from itgrix_kommo.kommo.shares import Share
from itgrix_kommo.storage.chronicle import DAY
from itgrix_kommo.storage.database import Database, remembered
from itgrix_kommo.storage.engines import Work
from itgrix_kommo.storage.memory import KEPT_FOR, Memory
from itgrix_kommo.storage.registrations import NewRegistration, Registrations, State
from itgrix_kommo.storage.shared import SharedDatabase, handed, metadata, nodes
from itgrix_kommo.storage.shared_account import Heard, Known, SharedAccount
from itgrix_kommo.storage.shared_registrations import OTHERS_FIRST, SharedRegistrations, forget_before
from itgrix_kommo.storage.standing import UNHEARD, as_shared
from tests.pbx_servers import PostgreSql

pytestmark = pytest.mark.xdist_group("databases")

T = TypeVar("T")

CLIENT = "+79990000001"

UNKNOWING = Known(0, "", 0, 0.0)


class Node:
    """What a node does between its disk and the shared database, one thing at a time."""

    def __init__(self, name: str, database: Database, shared: SharedDatabase) -> None:
        self.name = name
        self.own = Registrations(database, name)
        self.memory = Memory(database, name)
        self.common = SharedRegistrations(shared, self.memory, name)
        self._database = database
        self._shared = shared
        self._account = SharedAccount(shared, name, 6)
        self._share = Share(name, begun=0.0)

    async def beat(self, wants: int = 1, known: Known = UNKNOWING) -> Heard:
        self._share = Share(self.name, begun=0.0)
        return await self._account.beat(self._share.beat(0.0, wants=wants, busy=0), known)

    async def keep_and_hand_over(self, call_id: str, client: str = CLIENT) -> None:
        await self.keep(call_id, client=client)
        await self.hand_over()

    async def keep(self, call_id: str, *, client: str = CLIENT, call: dict[str, Any] | None = None) -> None:
        new = NewRegistration(call_id, frozenset({call_id}), client, {"id": call_id} if call is None else call)
        assert await self.own.keep(new) is not None

    async def hand_over(self) -> None:
        while rows := await self.memory.to_hand_over():
            await self.common.hand_over(rows)

    async def remind(self) -> None:
        await self.common.remind(await self.memory.rows())

    async def work(self, state: State = State.DONE) -> list[str]:
        """See to what is in line; the calls that were."""
        line = await self.common.in_line(time.time() + 1.0, limit=9)
        for one in line.due:
            await self.common.close(one.id, state, progress={"steps": ["wanted"]})
        return [one.call_id for one in line.due]

    async def hear(self) -> None:
        ended = await self.common.to_tell()
        await self.memory.ended([row for _, row in ended])
        await self.common.told(ended)

    async def forget(self, days: float) -> int:
        return await forget_before(self._shared, self.name, time.time() - days * DAY, 200)

    async def let_pass(self, seconds: float) -> None:
        """On this node's disk: what it remembers is so much older."""
        older = sa.update(remembered).values(saved_at=remembered.c.saved_at - seconds)
        await self._database.write(lambda connection: connection.execute(older))


@pytest.fixture
async def pair(shared: SharedDatabase, tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    databases = [await Database.open(f"sqlite+aiosqlite:///{tmp_path}/{name}.db") for name in ("pbx1", "pbx2")]
    made = [Node(f"pbx{number}", database, shared) for number, database in enumerate(databases, 1)]
    for node in made:
        await node.beat()
    yield made[0], made[1]
    for database in databases:
        await database.close()


async def calls_in(shared: SharedDatabase) -> dict[str, str]:
    query = sa.select(handed.c.call_id, handed.c.state)
    return dict(await shared.read(lambda connection: connection.execute(query).all()))


async def let_pass(shared: SharedDatabase, days: float) -> None:
    """Since whatever was kept or came to its end there."""
    older = sa.update(handed).values(
        created_at=handed.c.created_at - days * DAY, ended_at=handed.c.ended_at - days * DAY
    )
    await shared.write(lambda connection: connection.execute(older))


async def away(shared: SharedDatabase, name: str, until: float = 0.0) -> None:
    lapsed = sa.update(nodes).where(nodes.c.name == name).values(until=until)
    await shared.write(lambda connection: connection.execute(lapsed))


async def leave(shared: SharedDatabase, *names: str) -> None:
    """These are away for more than a day: the others know them no more."""
    await shared.write(lambda connection: connection.execute(sa.delete(nodes).where(nodes.c.name.in_(names))))


class TestStanding:
    async def test_its_node_can_tell_how_its_call_stands(self, pair: tuple[Node, Node], shared: SharedDatabase) -> None:
        first, second = pair
        await first.keep_and_hand_over("1.1")
        await away(shared, "pbx1")
        line = await second.common.in_line(time.time() + 1.0, limit=9)
        (held,) = await as_shared(shared, await first.own.latest(9))
        assert (held.state, held.reason, held.attempts) == (State.HANDED, "the node pbx2 is at it", 0)
        await second.common.postpone(line.due[0].id, due_at=5.0, reason="Kommo is away")
        (late,) = await as_shared(shared, await first.own.latest(9))
        assert (late.reason, late.attempts, late.due_at) == ("Kommo is away", 1, 5.0)
        await shared.write(lambda connection: connection.execute(sa.update(handed).values(due_at=0.0)))
        (again,) = (await second.common.in_line(time.time() + 1.0, limit=9)).due
        await second.common.close(again.id, State.SKIPPED, reason="no entity")
        (over,) = await as_shared(shared, await first.own.latest(9))
        assert over.reason == "skipped by pbx2, which this PBX hears when its daemon runs: no entity"

    async def test_what_is_not_there_stays_as_it_is(self, pair: tuple[Node, Node], shared: SharedDatabase) -> None:
        first, _ = pair
        await first.keep_and_hand_over("1.1")
        await first.own.keep(NewRegistration("1.2", frozenset({"1.2"}), CLIENT, {}, State.FAILED, "refused"))
        await shared.write(lambda connection: connection.execute(sa.delete(handed)))
        rows = await first.own.latest(9)
        assert await as_shared(shared, rows) == rows
        assert [one.reason for one in await as_shared(None, rows)] == ["refused", UNHEARD]


class TestStandingIn:
    async def test_for_who_seems_to_be_away_only_because_the_servers_clock_has_jumped_nobody_does(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        first, second = pair
        await first.keep_and_hand_over("1.1")
        assert (await first.common.in_line(time.time() + 1.0, limit=9)).due
        await away(shared, "pbx1", until=1000.0)
        second.common.latest = lambda: 999.0
        assert await second.work() == []
        await second.keep_and_hand_over("2.1")  # of the same client
        assert await second.work() == []
        second.common.latest = lambda: 1001.0
        assert await second.work() == ["1.1"]
        assert await second.work() == ["2.1"]


class TestCutOffFromKommo:
    async def test_the_others_see_to_its_calls_but_to_none_that_it_is_at(self, pair: tuple[Node, Node]) -> None:
        first, second = pair
        await first.keep_and_hand_over("1.1")
        await first.keep_and_hand_over("1.2", "+79990000002")
        assert await second.work() == []
        first.common.is_answered = lambda: False
        assert (await first.common.in_line(time.time() + 1.0, limit=9)).due == [], "the others come first"
        held = await first.common.in_line(time.time() + OTHERS_FIRST + 1.0, limit=9)
        assert len(held.due) == 1, "one shows whether Kommo is still away"
        await first.beat(wants=0)
        assert await second.work() == ["1.2"]
        await first.common.release()
        assert await second.work() == ["1.1"]

    async def test_it_tries_no_more_than_one(self, pair: tuple[Node, Node]) -> None:
        first, _ = pair
        await first.keep_and_hand_over("1.1")
        first.common.is_answered = lambda: False
        line = await first.common.in_line(time.time() + OTHERS_FIRST + 1.0, limit=9, busy=["+79990000002"])
        assert line.due == []


class TestClaims:
    async def test_claims_of_a_look_whose_answer_was_lost_hold_nobody_up(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        """The second one stood in for the first, which came back meanwhile: only that may work at it."""
        first, second = pair
        await first.keep_and_hand_over("1.1")
        await away(shared, "pbx1")
        assert (await second.common.in_line(time.time() + 1.0, limit=9)).due
        await first.beat()
        assert await first.work() == []
        assert await second.work() == []
        assert await first.work() == ["1.1"]

    async def test_a_client_who_is_being_served_stays_claimed(self, pair: tuple[Node, Node]) -> None:
        first, second = pair
        await first.keep_and_hand_over("1.1")
        assert (await first.common.in_line(time.time() + 1.0, limit=9)).due
        assert not (await first.common.in_line(time.time() + 1.0, limit=9, busy=[CLIENT])).due
        await second.keep_and_hand_over("2.1")
        assert await second.work() == []


class TestWhatPostgresCanNotHold:
    async def test_it_is_left_to_a_person_and_holds_up_no_other(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        first, _ = pair
        await first.keep("1.1")
        await first.keep("1.2", client="+7" * 200)
        await first.keep("1.3", call={"rang_at": float("inf")})
        await first.keep("1.4")
        await first.hand_over()
        assert await calls_in(shared) == {"1.1": "waiting", "1.4": "waiting"}
        rows = {row.call_id: row for row in await first.own.latest(9)}
        assert [rows[name].state for name in ("1.1", "1.2", "1.3", "1.4")] == [
            State.HANDED, State.FAILED, State.FAILED, State.HANDED,
        ]  # fmt: skip
        assert "can't hold it: value too long" in rows["1.2"].reason
        assert await first.memory.to_hand_over() == {}

    async def test_texts_are_told_without_what_is_no_text_there(self, pair: tuple[Node, Node]) -> None:
        first, _ = pair
        odd = {"name": "Zoe\0 \ud800", "and\0": ["\U0001f4de \\u0000", 7]}
        await first.keep("1.1", call=odd)
        await first.hand_over()
        (one,) = (await first.common.in_line(time.time() + 1.0, limit=9)).due
        assert one.call == {"name": "Zoe\ufffd \ufffd", "and\ufffd": ["\U0001f4de \\u0000", 7]}
        await first.common.save_progress(one.id, {"hooks": {"process_client_phone": {"phone": "+7\0"}}})
        await first.common.postpone(one.id, due_at=0.0, reason="Kommo says \0")
        (one,) = (await first.common.in_line(time.time() + 1.0, limit=9)).due
        assert one.progress == {"hooks": {"process_client_phone": {"phone": "+7\ufffd"}}}
        assert one.reason == "Kommo says \ufffd"

    async def test_changes_that_are_kept_together_do_not_fail_together(self, pair: tuple[Node, Node]) -> None:
        first, _ = pair
        for number in range(5):
            await first.keep(f"1.{number}", client=f"+7999000000{number}")
        await first.hand_over()
        due = (await first.common.in_line(time.time() + 1.0, limit=9)).due
        saved = await asyncio.gather(
            *(first.common.save_progress(one.id, {"at": float("inf") if one is due[3] else 1.0}) for one in due),
            return_exceptions=True,
        )
        assert [type(one) for one in saved] == [*[type(None)] * 3, StorageRefused, type(None)]
        await first.common.release()
        due = (await first.common.in_line(time.time() + 1.0, limit=9)).due
        assert [one.progress for one in due] == [{"at": 1.0}] * 3 + [{}, {"at": 1.0}]

    async def test_what_had_failed_in_common_and_was_done_alone_is_told(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        first, _ = pair
        await first.keep_and_hand_over("1.1")
        await first.work(State.FAILED)
        await first.hear()
        older = [(await first.memory.rows())[0]]
        assert await first.memory.ended_unknown(0) == {}
        (row,) = await first.own.latest(9)
        assert await first.own.retry(row.id, time.time())
        await first.own.close(row.id, State.DONE, progress={"contact": 1})
        ended = await first.memory.ended_unknown(0)
        await first.common.tell_ended(ended)
        assert await calls_in(shared) == {"1.1": "done"}
        assert await first.memory.ended_unknown(0) == {}
        await shared.write(lambda connection: connection.execute(sa.delete(handed)))
        await first.common.remind(older)  # a copy of before was put back
        await first.remind()
        assert await calls_in(shared) == {"1.1": "done"}

    async def test_what_ended_alone_is_told_without_it(self, pair: tuple[Node, Node], shared: SharedDatabase) -> None:
        first, second = pair
        for call_id, call in (("1.1", {"at": float("inf")}), ("1.2", {})):
            new = NewRegistration(call_id, frozenset({call_id}), CLIENT, call, State.SKIPPED, "unwanted")
            assert await first.own.keep(new) is not None
        ended = await first.memory.ended_unknown(0)
        await first.common.tell_ended(ended)
        assert await calls_in(shared) == {"1.2": "skipped"}
        assert [row.call_id for row in await first.memory.rows()] == ["1.2"]
        await shared.write(lambda connection: connection.execute(sa.delete(handed)))
        with capture_logs() as logs:
            await second.common.remind(ended.values())
        assert await calls_in(shared) == {"1.2": "skipped"}
        assert [(line["event"], line["call_id"]) for line in logs] == [("not_reminded", "1.1")]


class TestLine:
    async def test_the_first_look_after_a_long_outage_is_answered_in_time(
        self, pair: tuple[Node, Node], shared: SharedDatabase, shared_server: PostgreSql
    ) -> None:
        """PostgreSQL has not counted yet what was handed over a moment ago."""
        first, _ = pair

        def fill(connection: sa.Connection) -> None:
            connection.execute(sa.text("ALTER TABLE handed SET (autovacuum_enabled = off)"))
            connection.execute(sa.text("TRUNCATE handed"))
            connection.execute(
                sa.text(
                    """
                    INSERT INTO handed (node, call_id, client, state, due_at, attempts, created_at, call, progress,
                                        reason, version, worker, epoch, is_told)
                    SELECT 'pbx1', i, '+7999' || i % 50000, 'waiting', 0, 0, 0, '{}', '{}', '', 0, '', a.epoch, false
                    FROM generate_series(1, 100000) i, account a
                    """
                )
            )

        def empty(connection: sa.Connection) -> None:
            connection.execute(sa.text("TRUNCATE handed"))
            connection.execute(sa.text("ALTER TABLE handed RESET (autovacuum_enabled)"))

        engine = create_async_engine(shared_server.address)  # without the nodes' time-outs
        async with engine.begin() as connection:
            await connection.run_sync(fill)
        await engine.dispose()
        try:
            line = await first.common.in_line(time.time() + 1.0, limit=200)
        finally:
            await shared.write(empty)
        assert [one.call_id for one in line.due] == [str(number) for number in range(1, 201)]


class TestOfClient:
    async def test_walks_that_begin_together_look_together(
        self, pair: tuple[Node, Node], shared: SharedDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two hundred of them, and few connections: who waited too long for one, the beats too, went without."""
        first, second = pair
        for number in range(40):
            await first.keep(f"1.{number}", client=f"+7{number % 20}")
        await first.hand_over()
        for number in range(20):
            await second.keep(f"2.{number}", client=f"+7{number}")
        await second.hand_over()
        due = {one.client: one for one in (await first.common.in_line(time.time() + 1.0, limit=99)).due}
        read, reads = shared.read, 0

        async def counted(work: Work[T]) -> T:
            nonlocal reads
            reads += 1
            return await read(work)

        monkeypatch.setattr(shared, "read", counted)
        clients = [f"+7{number}" for number in range(20)]
        found = await asyncio.gather(*(first.common.of_client(one, before=due[one].id) for one in clients))
        assert [[one.call_id for one in rows] for rows in found] == [
            [f"pbx2:2.{number}", f"1.{number + 20}"] for number in range(20)
        ]
        (latest,) = await first.common.of_client("+70", before=due["+70"].id, limit=1)
        assert latest.call_id == "pbx2:2.0"
        assert await first.common.of_client("+7nobody", before=2**31 - 1) == []
        assert reads == 3


class TestRetried:
    async def test_who_retries_what_is_done_hears_of_it(self, pair: tuple[Node, Node], shared: SharedDatabase) -> None:
        """It was given up for lost; then the node that had done it came back, and remembered."""
        first, second = pair
        await first.keep_and_hand_over("1.1")
        await away(shared, "pbx1")
        assert await second.work() == ["1.1"]
        await shared.write(lambda connection: connection.execute(sa.delete(handed)))
        await first.memory.ended(await first.common.unknown((await first.memory.handed(0)).values()))
        await second.remind()
        await first.hear()
        (row,) = await first.own.latest(9)
        assert row.state is State.FAILED
        assert await first.own.retry(row.id, time.time())
        await first.hand_over()
        await first.hear()
        (row,) = await first.own.latest(9)
        assert row.state is State.DONE


class TestEmptied:
    async def test_what_others_remember_is_waited_for_before_anything_is_taken_up(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        """Somebody put an empty database in its place; the first one there knows of the other's call only that it was
        handed over, and the other one that it is done.
        """
        first, second = pair
        await first.keep_and_hand_over("1.1")
        await away(shared, "pbx1")
        due = (await second.common.in_line(time.time() + 1.0, limit=9)).due
        await second.common.postpone(due[0].id, due_at=0.0, reason="Kommo is away")
        await first.beat()
        assert await first.work() == ["1.1"]
        await first.hear()

        def empty(connection: sa.Connection) -> None:
            for table in metadata.sorted_tables:
                connection.execute(sa.delete(table))

        await shared.write(empty)
        others = (("pbx1", 3), ("pbx2", 3))
        heard = await second.beat(known=Known(7, "before", 0, 0.0, others))
        assert [(one.name, one.is_here) for one in heard.nodes] == [("pbx1", False), ("pbx2", True)]
        await second.remind()
        await second.beat(known=Known(8, heard.epoch, 0, 0.0, others))
        assert await second.work() == []
        await first.beat(known=Known(7, "before", 0, 0.0, others))
        await first.remind()
        await first.beat(known=Known(9, heard.epoch, 0, 0.0, others))
        assert await second.work() == []
        assert await calls_in(shared) == {"1.1": "done"}


class TestForgetting:
    async def test_what_waited_longer_than_it_is_kept_is_not_registered_twice(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        """The other node still remembers it as waiting, and tells so when an older copy of the database is put back."""
        first, second = pair
        await first.keep_and_hand_over("1.1")
        await away(shared, "pbx1")
        line = await second.common.in_line(time.time() + 1.0, limit=9)
        await second.common.postpone(line.due[0].id, due_at=0.0, reason="Kommo is away")
        await let_pass(shared, days=40)
        await first.beat()
        assert await first.work() == ["1.1"]
        await first.hear()
        assert await first.forget(days=1) == 0
        await second.remind()
        assert await calls_in(shared) == {"1.1": "done"}
        assert await second.work() == []

    async def test_it_goes_once_nobody_remembers_it_otherwise(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        first, second = pair
        await first.keep_and_hand_over("1.1")
        assert await first.work() == ["1.1"]
        await let_pass(shared, days=8.5)
        assert await first.forget(days=1) == 0  # it has not heard the end of its own call yet
        await first.hear()
        assert await second.forget(days=1) == 0
        assert await first.forget(days=30) == 0
        assert await first.forget(days=1) == 1
        await first.let_pass(KEPT_FOR + 1.0)
        await first.remind()
        assert await calls_in(shared) == {}

    @pytest.mark.parametrize("state", [State.WAITING, State.FAILED])
    async def test_what_waits_or_failed_stays(
        self, pair: tuple[Node, Node], shared: SharedDatabase, state: State
    ) -> None:
        first, _ = pair
        await first.keep_and_hand_over("1.1")
        if state is State.FAILED:
            await first.work(State.FAILED)
            await first.hear()
        await let_pass(shared, days=400)
        assert await first.forget(days=1) == 0
        assert await calls_in(shared) == {"1.1": state}

    async def test_others_forget_what_a_node_that_is_gone_never_heard_of(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        first, second = pair
        await first.keep_and_hand_over("1.1")
        await leave(shared, "pbx1")
        assert await second.work() == ["1.1"]
        assert await second.forget(days=1) == 0
        await let_pass(shared, days=8.5)
        assert await second.forget(days=1) == 1

    async def test_taken_up_again_it_is_not_over(self, pair: tuple[Node, Node], shared: SharedDatabase) -> None:
        first, _ = pair
        await first.keep_and_hand_over("1.1")
        await first.work()
        await let_pass(shared, days=100)
        await first.common.take_up_again(await first.common.to_tell())
        assert await first.work() == ["1.1"]
        await first.hear()
        assert await first.forget(days=30) == 0


class TestMemory:
    async def test_what_is_remembered_too_long_is_not_told(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        """A node was away for long: the others have finished its call, and forgotten it meanwhile."""
        first, _ = pair
        await first.keep_and_hand_over("1.1")
        await shared.write(lambda connection: connection.execute(sa.delete(handed)))
        await first.let_pass(KEPT_FOR + 1.0)
        assert await first.memory.rows() == []

    async def test_it_is_forgotten_in_portions(self, pair: tuple[Node, Node]) -> None:
        first, _ = pair
        for number in range(5):
            await first.keep_and_hand_over(f"1.{number}")
        at = time.time() + 1.0
        assert [await first.memory.forget_before(at, 2) for _ in range(4)] == [2, 2, 1, 0]

    async def test_calls_that_the_others_have_forgotten_are_left_to_a_person(
        self, pair: tuple[Node, Node], shared: SharedDatabase
    ) -> None:
        first, _ = pair
        await first.keep_and_hand_over("1.1")
        await first.keep_and_hand_over("1.2")
        gone = sa.delete(handed).where(handed.c.call_id == "1.1")
        await shared.write(lambda connection: connection.execute(gone))
        number = 0
        while handed_over := await first.memory.handed(number):
            await first.memory.ended(await first.common.unknown(handed_over.values()))
            number = max(handed_over)
        lost, kept = await first.own.by_call("1.1"), await first.own.by_call("1.2")
        assert lost is not None
        assert kept is not None
        assert (lost.state, kept.state) == (State.FAILED, State.HANDED)
        assert "look in Kommo whether it is there" in lost.reason
