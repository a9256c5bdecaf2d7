"""The nodes of an account as a person sees and changes them: listed, forgotten, renamed; on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from itgrix_kommo.doctor.findings import Verdict
from itgrix_kommo.doctor.nodes import judge_account, judge_limit, judge_members
from itgrix_kommo.errors import NodeAtWork, StorageError
from itgrix_kommo.kommo.shares import Share
from itgrix_kommo.storage import names, shared_nodes
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.memory import Memory, Part
from itgrix_kommo.storage.names import GRAVE
from itgrix_kommo.storage.registrations import NewRegistration, Registrations, State
from itgrix_kommo.storage.shared import SharedDatabase, handed, nodes, shared_phonebook, slots
from itgrix_kommo.storage.shared_account import Known, SharedAccount
from itgrix_kommo.storage.shared_nodes import Member, Moved, failed_of, forget, members, rename, wait_until_away
from itgrix_kommo.storage.shared_registrations import SharedRegistrations, forget_before
from tests.pbx_servers import PostgreSql
from tests.test_cli import command

pytestmark = pytest.mark.xdist_group("databases")


class Node:
    """What a node does between its disk and the shared database, one thing at a time."""

    def __init__(self, name: str, database: Database, shared: SharedDatabase) -> None:
        self.name = name
        self.database = database
        self.own = Registrations(database, name)
        self.memory = Memory(database, name)
        self.common = SharedRegistrations(shared, self.memory, name)
        self._shared = shared
        self._share = Share(name, begun=0.0)
        self._at = 0.0

    async def beat(self) -> None:
        self._at += 1.0
        heard = await SharedAccount(self._shared, self.name, 6).beat(
            self._share.beat(self._at, wants=1, busy=0), Known(0, "", 0, 0.0)
        )
        self._share.answered(heard.answer, sent_at=self._at, at=self._at)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        async def beat_on() -> None:
            while True:
                await self.beat()
                await asyncio.sleep(0.1)

        beating = asyncio.create_task(beat_on())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def go_away(self, seconds: float = 60.0) -> None:
        """It was heard of that long ago for the last time."""
        until = sa.update(nodes).where(nodes.c.name == self.name).values(until=time.time() + 20.0 - seconds)
        await self._shared.write(lambda connection: connection.execute(until))

    async def hand_over(self, *call_ids: str, client: str = "+7999") -> None:
        for call_id in call_ids:
            new = NewRegistration(call_id, frozenset({call_id}), client, {"id": call_id, "started_at": 0.0})
            assert await self.own.keep(new) is not None
        await self.common.hand_over(await self.memory.to_hand_over())

    async def work(self, state: State, reason: str = "") -> list[str]:
        """Close the one that is first in line; the call that it was."""
        line = await self.common.in_line(time.time() + 1.0, limit=1)
        for one in line.due:
            await self.common.close(one.id, state, reason=reason)
        return [one.call_id for one in line.due]

    async def begin(self) -> None:
        """Note what is being written of the one first in line, and come no further."""
        (one,) = (await self.common.in_line(time.time() + 1.0, limit=1)).due
        await self.common.postpone(one.id, due_at=0.0, reason="Kommo is away")

    async def come_back(self) -> None:
        """As a daemon does when it is together with the others again."""
        await self.beat()
        await self.common.release()
        await self.common.remind(await self.memory.rows())

    async def hear(self) -> None:
        ended = await self.common.to_tell()
        await self.memory.ended([row for _, row in ended])
        await self.common.told(ended)


@pytest.fixture
async def pair(shared: SharedDatabase, tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """pbx1, which is away, and pbx2."""
    made = []
    for name in ("pbx1", "pbx2"):
        database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/{name}.db", beside_daemon=True)
        made.append(Node(name, database, shared))
    for _ in range(20):
        for node in made:
            await node.beat()
    await made[0].go_away()
    yield made[0], made[1]
    for node in made:
        await node.database.close()


@pytest.fixture
def config(shared_server: PostgreSql, tmp_path: Path) -> Path:
    """That of pbx1."""
    path = tmp_path / "config.json"
    settings: dict[str, Any] = {
        "ami": {"username": "itgrix", "secret": "itgrix-secret"},
        "kommo": {"base_url": "http://127.0.0.1:1", "access_token": "sandbox-token"},
        "node": {"name": "pbx1"},
        "storage": {"url": f"sqlite+aiosqlite:///{tmp_path}/pbx1.db", "shared_url": shared_server.address},
    }
    path.write_text(json.dumps(settings))
    path.chmod(0o600)
    return path


def call_it(config: Path, name: str, **more: Any) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), "node": {"name": name}, **more}))


async def rows_of(shared: SharedDatabase) -> dict[tuple[str, str], str]:
    query = sa.select(handed.c.node, handed.c.call_id, handed.c.state)
    found = await shared.read(lambda connection: connection.execute(query).all())
    return {(row.node, row.call_id): row.state for row in found}


class TestMembers:
    async def test_who_is_there_and_what_waits(self, shared: SharedDatabase, pair: tuple[Node, Node]) -> None:
        first, _ = pair
        await first.hand_over("1.1", "1.2")
        await first.hand_over("1.3", client="+7998")
        away, here = await members(shared)
        assert (away.name, away.is_here, away.waiting, away.failed, away.fixed_share) == ("pbx1", False, 3, 0, 3)
        assert away.seen == pytest.approx(60.0, abs=10.0)
        assert (here.name, here.is_here, here.waiting, here.slots) == ("pbx2", True, 0, 1)

    async def test_nobody_was_there_yet(self, shared_server: PostgreSql) -> None:
        empty = SharedDatabase(shared_server.address.replace("/postgres", "/template1"))
        assert await members(empty) == []
        await empty.close()


class TestForget:
    async def test_its_part_is_the_others_at_once_and_what_waits_they_finish(
        self, shared: SharedDatabase, pair: tuple[Node, Node]
    ) -> None:
        first, second = pair
        await first.hand_over("1.1", "1.2")
        assert await second.work(State.FAILED, "Kommo refused the call") == ["1.1"]
        assert [one.reason for one in await failed_of(shared, "pbx1")] == ["Kommo refused the call"]
        assert await forget(shared, "pbx1") == Moved(2, waiting=1, failed=1)
        for _ in range(3):
            await second.beat()
        (left,) = [one for one in await members(shared) if one.name == "pbx2"]
        homes = await shared.read(lambda connection: connection.execute(sa.select(slots.c.home)).scalars().all())
        assert (left.fixed_share, "pbx1" in homes) == (3, False)
        assert await second.work(State.DONE) == ["1.2"]
        assert [one._replace(seen=left.seen) for one in await members(shared)] == [left]  # nothing is left of pbx1's
        assert await failed_of(shared, "pbx1") == []

    async def test_one_that_is_at_work_is_not_forgotten(self, shared: SharedDatabase, pair: tuple[Node, Node]) -> None:
        _, second = pair
        with pytest.raises(NodeAtWork, match=r"pbx2 was at work \d+ s ago: stop its daemon"):
            await forget(shared, second.name)

    async def test_who_comes_back_all_the_same_hears_what_became_of_its_calls(
        self, shared: SharedDatabase, pair: tuple[Node, Node]
    ) -> None:
        first, second = pair
        await first.hand_over("1.1")
        await second.work(State.FAILED, "Kommo refused the call")
        await forget(shared, "pbx1")
        await first.come_back()
        await first.hear()
        (row,) = await first.own.latest(9)
        assert (row.state, row.reason) == (State.SKIPPED, "its PBX was forgotten; before: Kommo refused the call")


class TestRename:
    async def test_its_registrations_its_part_and_its_phones_go_along(
        self, shared: SharedDatabase, pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shared_nodes, "PORTION", 1)
        first, second = pair
        phone = {"phone": "7999", "used_at": 0.0, "told_at": 0.0, "changed_at": 0.0, "node": "pbx1"}
        await shared.write(lambda connection: connection.execute(sa.insert(shared_phonebook), phone))
        await first.hand_over("1.1", "1.2")
        await second.hand_over("1.1", client="+7998")
        assert await rename(shared, "pbx1", "madrid") == Moved(2, waiting=2)
        renamed, other = await members(shared)
        assert (renamed.name, renamed.waiting, renamed.fixed_share) == ("madrid", 2, 3)
        assert (other.name, other.waiting) == ("pbx2", 1)
        told_by = sa.select(shared_phonebook.c.node)
        assert await shared.read(lambda connection: connection.execute(told_by).scalars().all()) == ["madrid"]
        assert await rename(shared, "pbx1", "madrid") == Moved()  # done again, nothing is left to do
        await names.rename(first.database, "pbx1", "madrid")
        madrid = Node("madrid", first.database, shared)
        await madrid.come_back()
        assert [await madrid.work(State.DONE) for _ in range(3)] == [["1.1"], ["1.2"], []]
        await madrid.hear()
        assert (await madrid.own.counts())[State.DONE] == 2

    async def test_neither_name_may_be_at_work(self, shared: SharedDatabase, pair: tuple[Node, Node]) -> None:
        first, _ = pair
        for old, new in (("pbx2", "madrid"), ("pbx1", "pbx2")):
            with pytest.raises(NodeAtWork, match="pbx2 was at work"):
                await rename(shared, old, new)
        await first.hand_over("1.1")
        assert await rows_of(shared) == {("pbx1", "1.1"): "waiting"}

    async def test_who_was_stopped_a_moment_ago_is_waited_for(
        self, shared: SharedDatabase, pair: tuple[Node, Node]
    ) -> None:
        first, second = pair
        told: list[str] = []

        def hear(words: str) -> None:
            told.append(words)
            ending.append(asyncio.create_task(first.go_away()))

        ending: list[asyncio.Task[None]] = []
        await first.go_away(0.0)
        await wait_until_away(shared, ["pbx1", "madrid"], hear)
        assert told[0].startswith("pbx1 counts as being at work for ")
        await asyncio.gather(*ending)
        async with second.at_work():
            with pytest.raises(NodeAtWork, match=r"pbx2 was at work \d+ s ago"):
                await wait_until_away(shared, ["pbx2"], told.append)

    async def test_a_call_of_either_name_is_an_error_and_nothing_is_changed(
        self, shared: SharedDatabase, pair: tuple[Node, Node]
    ) -> None:
        first, second = pair
        await first.hand_over("1.1", "1.2")
        await second.hand_over("1.2")
        await second.go_away()
        before = await rows_of(shared)
        with pytest.raises(StorageError, match=r"1\.2 is a call of pbx1 and of pbx2 alike"):
            await rename(shared, "pbx1", "pbx2", was_new=True)
        assert await rows_of(shared) == before

    async def test_the_name_of_another_pbx_that_is_away_is_not_taken(
        self, shared: SharedDatabase, pair: tuple[Node, Node], config: Path
    ) -> None:
        first, second = pair
        await second.go_away()
        call_it(config, "pbx2")
        await first.hand_over("1.1")
        refused = await asyncio.to_thread(command, "nodes", "rename", "pbx1", "--config", config)
        assert (refused.returncode, "pbx2 is another PBX of this account" in refused.stderr) == (1, True)
        assert "itgrix-kommo nodes forget pbx2 first" in refused.stderr
        assert await rows_of(shared) == {("pbx1", "1.1"): "waiting"}
        assert not await names.was_called(first.database, "pbx2")
        await Memory(first.database, "pbx2").keep_part(Part())
        assert await names.was_called(first.database, "pbx2")
        assert await rename(shared, "pbx1", "pbx2", was_new=True) == Moved(1, waiting=1)
        assert [one.name for one in await members(shared)] == ["pbx2"]

    async def test_what_others_remember_by_the_former_name_does_not_come_back(
        self, shared: SharedDatabase, pair: tuple[Node, Node]
    ) -> None:
        """pbx2 stood in and came no further; pbx1 finished it itself; then it was renamed, and pbx2 started again."""
        first, second = pair
        await first.hand_over("1.1")
        await second.begin()
        await first.beat()
        assert await first.work(State.DONE) == ["1.1"]
        await first.go_away()
        await rename(shared, "pbx1", "madrid")
        await second.come_back()
        assert await second.work(State.DONE) == []
        assert await rows_of(shared) == {("madrid", "1.1"): "done", ("pbx1", "1.1"): "skipped"}

    async def test_an_older_copy_that_knows_the_former_name_brings_nothing_back(
        self, shared: SharedDatabase, pair: tuple[Node, Node]
    ) -> None:
        first, second = pair
        await first.hand_over("1.1")
        copy = await shared.read(lambda connection: connection.execute(sa.select(handed)).mappings().all())
        await rename(shared, "pbx1", "madrid")
        await names.rename(first.database, "pbx1", "madrid")
        madrid = Node("madrid", first.database, shared)
        await madrid.come_back()
        assert await madrid.work(State.DONE) == ["1.1"]

        def put_back(connection: sa.Connection) -> None:
            connection.execute(sa.delete(handed))
            connection.execute(sa.insert(handed), [dict(row) for row in copy])

        await shared.write(put_back)
        await madrid.come_back()
        assert await second.work(State.DONE) == []
        assert await rows_of(shared) == {("madrid", "1.1"): "done", ("pbx1", "1.1"): "skipped"}

    async def test_renamed_back_and_forth_all_is_where_it_belongs(
        self, shared: SharedDatabase, pair: tuple[Node, Node]
    ) -> None:
        first, _ = pair
        await first.hand_over("1.1")
        for old, new in (("pbx1", "madrid"), ("madrid", "pbx1")):
            assert await rename(shared, old, new) == Moved(1, waiting=1)
            await names.rename(first.database, old, new)
        await first.come_back()
        assert await first.work(State.DONE) == ["1.1"]
        assert await rows_of(shared) == {("pbx1", "1.1"): "done", ("madrid", "1.1"): "skipped"}

    async def test_what_is_left_of_the_former_name_is_cleaned_away(
        self, shared: SharedDatabase, pair: tuple[Node, Node]
    ) -> None:
        first, _ = pair
        await first.hand_over("1.1")
        await rename(shared, "pbx1", "madrid")
        older = sa.update(handed).where(handed.c.version == GRAVE).values(ended_at=handed.c.ended_at - 9 * 86400)
        await shared.write(lambda connection: connection.execute(older))
        assert await forget_before(shared, "pbx2", time.time(), 9) == 1
        assert await rows_of(shared) == {("madrid", "1.1"): "waiting"}


class TestDoctor:
    async def test_who_is_away_is_told_with_what_waits_and_failed(self, pair: tuple[Node, Node], config: Path) -> None:
        first, second = pair
        await first.hand_over("1.1", "1.2")
        await second.work(State.FAILED)
        call_it(config, "pbx2")
        async with second.at_work():
            own, away = [one for one in await nodes_findings(config) if one["name"] == "database"]
        assert (own["verdict"], own["words"]) == ("ok", "nodes at work: pbx2")
        words = "pbx1 has been away for 1 minute; its registrations: 1 waiting, 1 failed"
        assert (away["verdict"], away["words"]) == ("warning", words)
        assert "type itgrix-kommo nodes forget pbx1" in away["remedy"]

    def test_who_is_away_itself_is_told_once(self) -> None:
        gone = Member("pbx1", is_here=False, seen=None, waiting=0, failed=2, slots=0, fixed_share=0, version="")
        (own,) = judge_members([gone], "pbx1")
        assert own.words == "this node (pbx1) is not at work there; at work: none"
        _, other = judge_members([gone], "pbx2")
        assert other.words == "pbx1 is gone, and nobody can retry its 2 registrations that failed"
        assert len(judge_members([gone._replace(failed=0, waiting=2)], "pbx2")) == 1  # the others see to these
        (nobody,) = judge_members([], "pbx1")
        assert "no node has been there yet" in nobody.words

    @pytest.mark.usefixtures("pair")
    async def test_limits_that_differ_are_told(self, shared: SharedDatabase, config: Path) -> None:
        agreed = next(one for one in await nodes_findings(config) if one["name"] == "limit")
        assert (agreed["verdict"], agreed["words"]) == ("ok", "all have 6 requests a second")
        other = sa.update(nodes).where(nodes.c.name == "pbx2").values(per_second=4)
        await shared.write(lambda connection: connection.execute(other))
        differing = next(one for one in await nodes_findings(config) if one["name"] == "limit")
        assert differing["verdict"] == "warning"
        assert differing["words"] == "the nodes differ, and 4 counts: pbx1 has 6, pbx2 has 4"
        assert "kommo.requests_per_second" in differing["remedy"]

    @pytest.mark.usefixtures("pair")
    async def test_daemons_of_the_version_before_tell_none(self, shared: SharedDatabase) -> None:
        async def alter(change: str) -> None:
            await shared.write(lambda connection: connection.execute(sa.text(f"ALTER TABLE nodes {change}")))

        await alter("DROP COLUMN per_second, DROP COLUMN account")
        try:
            found = await members(shared)
        finally:
            await alter("ADD COLUMN per_second INTEGER, ADD COLUMN account BIGINT")
        assert [(one.per_second, one.account) for one in found] == [(None, None)] * 2
        assert judge_limit(found).verdict is judge_account(found).verdict is Verdict.SKIPPED

    @pytest.mark.usefixtures("pair")
    async def test_in_another_account_by_mistake(self, shared: SharedDatabase) -> None:
        async def tell(name: str, account: int) -> None:
            told = sa.update(nodes).where(nodes.c.name == name).values(account=account)
            await shared.write(lambda connection: connection.execute(told))

        await tell("pbx1", 1001)
        await tell("pbx2", 1001)
        assert judge_account(await members(shared)).verdict is Verdict.OK
        await tell("pbx2", 2002)
        found = judge_account(await members(shared))
        assert found.verdict is Verdict.FAULT
        assert found.words == "the nodes are in different Kommo accounts: pbx1 in 1001, pbx2 in 2002"


async def nodes_findings(config: Path) -> list[dict[str, str]]:
    told = json.loads((await asyncio.to_thread(command, "check", "--json", "--config", config)).stdout)["checks"]
    return [one for one in told if one["group"] == "nodes"]


class TestCommands:
    async def test_list(self, pair: tuple[Node, Node], config: Path) -> None:
        first, second = pair
        await first.hand_over("1.1")
        call_it(config, "pbx3")
        async with second.at_work():
            shown = await asyncio.to_thread(command, "nodes", "list", "--config", config)
            told = await asyncio.to_thread(command, "nodes", "list", "--json", "--config", config)
        assert shown.returncode == 0, shown.stderr
        assert "away since" in shown.stdout
        assert "This PBX (pbx3) is not among them" in shown.stdout
        away, here = json.loads(told.stdout)
        assert (away["name"], away["is_at_work"], away["waiting"], away["fixed_share"]) == ("pbx1", False, 1, 3)
        assert (here["name"], here["is_at_work"], here["is_this_one"], here["away_since"]) == (
            "pbx2",
            True,
            False,
            None,
        )

    async def test_forget_asks_tells_what_goes_and_lets_go(
        self, shared: SharedDatabase, pair: tuple[Node, Node], config: Path
    ) -> None:
        first, second = pair
        await first.hand_over("1.1", "1.2")
        await second.work(State.FAILED, "no [/such] \x1b[2J field")
        refused = command("nodes", "forget", "pbx1", "--config", config)
        assert (refused.returncode, "pbx1 is this PBX itself" in refused.stderr) == (1, True)
        call_it(config, "pbx2")
        asked = command("nodes", "forget", "pbx1", "--config", config)
        assert asked.returncode == 1  # nobody is there to say yes
        for words in ("fixed share of 3 for up to 23 hours more", "that the others finish: 1", "[/such]"):
            assert words in asked.stdout
        assert "\x1b" not in asked.stdout
        assert len(await members(shared)) == 2
        done = command("nodes", "forget", "pbx1", "--yes", "--json", "--config", config)
        told = json.loads(done.stdout)
        assert (told["forgotten"], told["fixed_share"], told["waiting"]) == ("pbx1", 3, 1)
        assert [one["call_id"] for one in told["failed"]] == ["1.1"]

    async def test_forget_refuses_who_is_at_work(self, pair: tuple[Node, Node], config: Path) -> None:
        _, second = pair
        async with second.at_work():
            refused = await asyncio.to_thread(command, "nodes", "forget", "pbx2", "--yes", "--config", config)
        assert (refused.returncode, "pbx2 is at work" in refused.stderr) == (1, True)

    async def test_rename_in_both_databases_and_again_after_a_crash_between_them(
        self, shared: SharedDatabase, pair: tuple[Node, Node], config: Path
    ) -> None:
        first, _ = pair
        await first.hand_over("1.1")
        call_it(config, "madrid")
        await rename(shared, "pbx1", "madrid")  # and here it died
        assert "rename pbx1" in command("run", "--config", config).stderr
        done = command("nodes", "rename", "pbx1", "--json", "--config", config)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["here"]["handed"], told["shared"]["registrations"]) == (1, 0)
        assert await rows_of(shared) == {("madrid", "1.1"): "waiting", ("pbx1", "1.1"): "skipped"}
        again = command("nodes", "rename", "pbx1", "--config", config)
        assert (again.returncode, "nothing is kept under the name pbx1" in again.stderr) == (1, True)

    async def test_without_the_server_nothing_is_renamed(self, pair: tuple[Node, Node], config: Path) -> None:
        first, _ = pair
        await first.own.keep(NewRegistration("1.1", frozenset({"1.1"}), "+7999", {"id": "1.1"}))
        url = f"sqlite+aiosqlite:///{config.parent}/pbx1.db"
        away = "postgresql+asyncpg://itgrix@127.0.0.1:1/itgrix"
        call_it(config, "madrid", storage={"url": url, "shared_url": away})
        refused = command("nodes", "rename", "pbx1", "--config", config)
        assert (refused.returncode, "look after PostgreSQL" in refused.stderr) == (1, True)
        assert (await first.own.counts())[State.WAITING] == 1
