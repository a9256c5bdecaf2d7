"""What nodes share of an account beside calls: the limit, Kommo's pauses, the OAuth grant; on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from itgrix_kommo.errors import KommoUnreachable, NameTaken, StorageError
from itgrix_kommo.kommo.answers import LONGEST_PAUSE
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.oauth import TOKEN_PATH, Grant, Integration, OAuthTokens
from itgrix_kommo.kommo.shares import COOL, LEASE, Share
from itgrix_kommo.kommo.transport import Transport
from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from itgrix_kommo.storage import shared_account
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.shared import SharedDatabase, account, nodes, slots
from itgrix_kommo.storage.shared_account import Heard, Known, SharedAccount
from itgrix_kommo.storage.shared_tokens import SharedTokens
from itgrix_kommo.storage.tokens import Tokens
from tests.hosts import Relay
from tests.pbx_servers import PostgreSql, url_at

pytestmark = pytest.mark.xdist_group("databases")


class ServerClock:
    """PostgreSQL's, as beats see it: `at` is what the nodes' own show, `jumped` by how much it is wrong.

    Each beat costs a millisecond.
    """

    at = 0.0
    jumped = 0.0
    beats = 0

    def now(self) -> float:
        self.beats += 1
        return 1_795_000_000.0 + self.at + self.jumped + self.beats / 1000


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> ServerClock:
    made = ServerClock()
    monkeypatch.setattr(shared_account, "CLOCK", sa.bindparam("now", callable_=made.now, type_=sa.Double))
    monkeypatch.setattr(Node, "clock", made)
    return made


class Node:
    clock = ServerClock()

    def __init__(self, name: str, shared: SharedDatabase, limit: int = 6) -> None:
        self.account = SharedAccount(shared, name, limit)
        self.share = Share(name, begun=0.0)
        self.known = Known(0, "", 0, 0.0)

    async def beat(self, at: float = 0.0, *, pause: float = 0.0) -> Heard:
        self.clock.at = at
        beat = self.share.beat(at, wants=9, busy=0)
        heard = await self.account.beat(beat, self.known._replace(pause=pause))
        self.share.answered(heard.answer, sent_at=at, at=at)
        self.known = self.known._replace(tick=heard.tick, epoch=heard.epoch)
        return heard


class TestBeats:
    async def test_nodes_that_come_at_once_share_what_there_is(self, shared: SharedDatabase) -> None:
        made = [Node(f"pbx{number}", shared) for number in range(4)]
        for at in range(60):
            await asyncio.gather(*(node.beat(float(at)) for node in made))
        assert sum(node.share.capacity(60.0) for node in made) == 6
        assert [len(node.share.homes) for node in made] == [1, 1, 1, 1]
        heard = await made[0].beat(61.0)
        assert {one.name for one in heard.nodes if one.is_here} == {"pbx0", "pbx1", "pbx2", "pbx3"}

    async def test_what_kommo_told_one_holds_the_others(self, shared: SharedDatabase) -> None:
        first, second = Node("pbx1", shared), Node("pbx2", shared)
        await second.beat()
        assert (await first.beat(pause=30.0)).pause == 0.0  # it knows that itself
        assert (await second.beat()).pause == pytest.approx(30.0, abs=5.0)

    async def test_an_older_copy_begins_a_new_epoch(self, shared: SharedDatabase) -> None:
        node = Node("pbx1", shared)
        before = (await node.beat()).epoch
        assert (await node.beat()).epoch == before
        await shared.write(lambda connection: connection.execute(sa.update(account).values(tick=0)))
        after = await node.beat()
        assert after.epoch != before
        assert (await node.beat()).epoch == after.epoch

    async def test_another_limit_counts_from_the_next_beat_on(self, shared: SharedDatabase) -> None:
        node = Node("pbx1", shared)
        await node.beat(0.0)
        assert node.share.capacity(0.0) == 6
        node.account = SharedAccount(shared, "pbx1", 2)
        await node.beat(1.0)
        assert node.share.capacity(1.0) == 2
        node.account = SharedAccount(shared, "pbx1", 7)
        for at in range(2, 25):  # what was out of use comes back when its last lease is over
            await node.beat(float(at))
        assert node.share.capacity(24.0) == 7

    async def test_the_least_of_all_nodes_figures_counts(self, shared: SharedDatabase) -> None:
        made = [Node("pbx1", shared, limit=6), Node("pbx2", shared, limit=4), Node("pbx3", shared, limit=7)]
        for at in range(30):
            heard = [await node.beat(float(at)) for node in made]
        assert [one.limit for one in heard] == [4, 4, 4]
        assert {one.name: one.per_second for one in heard[0].nodes} == {"pbx1": 6, "pbx2": 4, "pbx3": 7}
        assert sum(node.share.capacity(30.0) for node in made) == 4

    async def test_that_of_a_node_that_is_away_too_for_it_may_be_at_work_alone(self, shared: SharedDatabase) -> None:
        first, second = Node("pbx1", shared, limit=6), Node("pbx2", shared, limit=4)
        for at in range(30):
            await first.beat(float(at))
            await second.beat(float(at))
        for at in range(30, 61):
            heard = await first.beat(float(at))
        assert ([one.is_here for one in heard.nodes], heard.limit) == ([True, False], 4)
        assert first.share.capacity(60.0) == 2, "the others' homes are reserved"
        forget = sa.delete(nodes).where(nodes.c.name == "pbx2")
        await shared.write(lambda connection: connection.execute(forget))
        for at in range(61, 85):
            assert (await first.beat(float(at))).limit == 6
        assert first.share.capacity(84.0) == 6

    async def test_what_is_held_of_slots_out_of_use_is_still_known_when_they_come_back(
        self, shared: SharedDatabase
    ) -> None:
        first, second = Node("pbx1", shared), Node("pbx2", shared)
        for at in range(30):
            await first.beat(float(at))
            await second.beat(float(at))
        assert len(second.share.homes) == 3
        first.account = SharedAccount(shared, "pbx1", 2)
        await first.beat(30.0)
        first.account = SharedAccount(shared, "pbx1", 6)
        for at in range(31, 35):  # the other one has heard nothing of it
            await first.beat(float(at))
            assert first.share.capacity(float(at)) + second.share.capacity(float(at)) <= 6
        assert second.share.capacity(35.0) == 3

    async def test_an_older_programs_row_tells_no_figure(self, shared: SharedDatabase) -> None:
        first, second = Node("pbx1", shared, limit=6), Node("pbx2", shared, limit=4)
        await second.beat()
        unknown = sa.update(nodes).values(per_second=None)
        await shared.write(lambda connection: connection.execute(unknown))
        heard = await first.beat()
        assert (heard.limit, [one.per_second for one in heard.nodes]) == (6, [6, None])

    async def test_a_second_daemon_of_the_same_name_is_refused_and_the_first_goes_on(
        self, shared: SharedDatabase
    ) -> None:
        first, second = Node("pbx1", shared), Node("pbx1", shared)
        for at in range(3):
            await first.beat(float(at))
        await second.beat(3.0)  # so a restarted one looks, too
        for at in range(4, 8):
            await first.beat(float(at))
            with pytest.raises(NameTaken, match=r"node\.name: another daemon is pbx1 too"):
                await second.beat(float(at))
            second.share.forfeit()
            assert (first.share.capacity(float(at)), second.share.capacity(at + 3600.0)) == (6, 0)

    async def test_a_name_is_free_again_once_its_daemon_is_away(self, shared: SharedDatabase) -> None:
        first, second = Node("pbx1", shared), Node("pbx1", shared)
        await first.beat(0.0)
        await second.beat(0.0)
        await first.beat(1.0)
        with pytest.raises(NameTaken):
            await second.beat(1.0)
        second.share.forfeit()
        away = sa.update(nodes).values(until=nodes.c.until - 60.0)
        await shared.write(lambda connection: connection.execute(away))
        await second.beat(2.0)
        assert second.share.homes
        with pytest.raises(NameTaken):
            await first.beat(2.0)

    async def test_beats_whose_answers_were_lost_are_nobody_elses(self, shared: SharedDatabase) -> None:
        node = Node("pbx1", shared)
        await node.beat(0.0)
        for at in range(1, 4):
            await node.account.beat(node.share.beat(float(at), wants=9, busy=0), node.known)
            await node.account.beat(node.share.beat(float(at), wants=9, busy=0), node.known)
            await node.beat(float(at))

    async def test_a_node_away_for_a_day_leaves_its_part(self, shared: SharedDatabase) -> None:
        first, second, third = (Node(name, shared) for name in ("pbx1", "pbx2", "pbx3"))
        for at in range(40):
            for one in (first, second, third):
                await one.beat(float(at))
        assert len(first.share.homes) == 2
        gone = sa.update(nodes).where(nodes.c.name == "pbx2").values(until=nodes.c.until - 86400.0 - 60.0)
        await shared.write(lambda connection: connection.execute(gone))
        heard = await first.beat(41.0)
        assert [one.name for one in heard.nodes] == ["pbx1", "pbx3"]
        assert len(first.share.homes) == 3


class TestWhoIsCutOff:
    """In the midst of a transaction, whose end PostgreSQL waits for: for hours, if nobody tells it."""

    async def test_holds_up_nobodys_beat(self, shared: SharedDatabase, shared_server: PostgreSql) -> None:
        pulled = asyncio.Event()
        async with Relay(shared_server.at).open() as cable:
            cut_off = SharedDatabase(url_at(("127.0.0.1", cable.port)))

            def turn(connection: sa.Connection) -> None:
                connection.execute(sa.select(account).with_for_update())
                sa.util.await_only(cable.pull())
                pulled.set()
                connection.execute(sa.select(account))

            await Node("pbx1", shared).beat()
            turning = asyncio.create_task(cut_off.write(turn))
            await pulled.wait()
            begun = time.monotonic()
            with suppress(StorageError):
                await Node("pbx2", shared).beat()
            await Node("pbx2", shared).beat()
            assert time.monotonic() < begun + LEASE - COOL, "meanwhile it would have begun to wait"
            await cable.plug()
            with pytest.raises(StorageError):
                await turning
            await cut_off.close()


class TestEmptied:
    async def test_who_is_cut_off_meanwhile_keeps_his_share(self, shared: SharedDatabase) -> None:
        first, second = Node("pbx1", shared), Node("pbx2", shared)
        for at in range(40):
            await first.beat(float(at))
            heard = await second.beat(float(at))
        first.known = first.known._replace(others=tuple((one.name, one.homes) for one in heard.nodes))
        for table in (slots, nodes, account):
            await shared.write(lambda connection, table=table: connection.execute(sa.delete(table)))  # type: ignore[misc]
        for at in range(40, 100):
            await first.beat(float(at))
        assert (first.share.capacity(100.0), second.share.capacity(100.0)) == (3, 3)
        for at in range(100, 140):
            await first.beat(float(at))
            await second.beat(float(at))
        assert [len(node.share.homes) for node in (first, second)] == [3, 3]


class TestJumpsOfTheServersClock:
    async def test_backward_the_dead_are_not_waited_for(self, shared: SharedDatabase, clock: ServerClock) -> None:
        first, second = Node("pbx1", shared), Node("pbx2", shared)
        for at in range(30):
            await first.beat(float(at))
            await second.beat(float(at))
        clock.jumped = -3600.0
        for at in range(30, 52):
            heard = await first.beat(float(at))
        assert [one.name for one in heard.nodes if one.is_here] == ["pbx1"]
        assert first.share.capacity(52.0) == 3, "one may be at work alone with the others"
        await second.beat(52.0)

    async def test_backward_an_answer_to_come_is_no_answer(self, shared: SharedDatabase, clock: ServerClock) -> None:
        first, second = Node("pbx1", shared), Node("pbx2", shared)
        for at in range(5):
            await first.beat(float(at))
            await second.beat(float(at))
        clock.jumped = -3.0
        await first.beat(5.0)
        clock.jumped = 0.0  # the server is at that time now
        acked = sa.select(nodes.c.name, nodes.c.acked)
        told = dict(await shared.read(lambda connection: connection.execute(acked).all()))
        assert (told["pbx2"], told["pbx1"]) == (0.0, 0.0)

    async def test_a_pause_is_not_prolonged_by_one(self, shared: SharedDatabase, clock: ServerClock) -> None:
        first, second = Node("pbx1", shared), Node("pbx2", shared)
        await first.beat(0.0, pause=30.0)
        clock.jumped = -86400.0
        assert (await second.beat(1.0)).pause == LONGEST_PAUSE
        await first.beat(2.0, pause=28.0)
        assert (await second.beat(2.0)).pause == pytest.approx(28.0, abs=0.1)


class Holder:
    """A node that has, or will have, the grant."""

    def __init__(self, store: SharedTokens, own: Tokens, tokens: OAuthTokens) -> None:
        self.store = store
        self.own = own
        self.tokens = tokens


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions()).serve(port=0) as made:
        yield made


@pytest.fixture
async def holders(shared: SharedDatabase, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[tuple[Holder, Holder]]:
    options = sandbox.options
    integration = Integration(options.client_id, options.client_secret, options.redirect_uri)
    async with AsyncExitStack() as stack:
        made = []
        for name in ("pbx1", "pbx2"):
            database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/{name}.db")
            stack.push_async_callback(database.close)
            own = Tokens(database, options.client_id)
            store = SharedTokens(shared, own, options.client_id)
            bare = await stack.enter_async_context(Transport(sandbox.url, None, Limiter(3)))
            made.append(Holder(store, own, OAuthTokens(integration, store, bare)))
        await made[0].tokens.grant_by(sandbox.tokens.issue_code(options.admin_id))
        yield made[0], made[1]


class TestGrant:
    async def test_both_use_what_one_was_granted(self, holders: tuple[Holder, Holder]) -> None:
        first, second = holders
        assert await second.tokens.token() == await first.tokens.token()

    async def test_one_renews_it_for_all(self, holders: tuple[Holder, Holder], sandbox: Sandbox) -> None:
        first, second = holders
        refused = await first.tokens.token()
        assert await second.tokens.token() == refused
        assert await asyncio.gather(*(one.tokens.renew(refused) for one in holders)) == [True, True]
        assert len(sandbox.audit.asked("POST", TOKEN_PATH)) == 2  # the grant, and one renewal
        assert await first.tokens.token() == await second.tokens.token() != refused

    async def test_an_older_copy_gets_the_newer_pair_again(self, holders: tuple[Holder, Holder]) -> None:
        first, second = holders
        newer = await first.store.load()
        assert newer is not None
        older = Grant("older", "older", newer.expires_at - 3600)
        await first.store._save(older, replacing=None)
        assert await first.store.load() == newer
        assert await second.store.load() == newer

    async def test_forgotten_by_one_it_is_gone_for_all(self, holders: tuple[Holder, Holder]) -> None:
        first, second = holders
        await second.tokens.token()
        await first.store.forget()
        assert (await first.store.load(), await second.store.load(), await second.own.load()) == (None, None, None)

    async def test_without_the_server_the_copy_serves_and_nothing_is_renewed(
        self, holders: tuple[Holder, Holder], sandbox: Sandbox
    ) -> None:
        first, _ = holders
        token = await first.tokens.token()
        away = SharedDatabase("postgresql+asyncpg://itgrix@127.0.0.1:1/itgrix")
        first.store._database = away
        assert await first.tokens.token() == token
        with pytest.raises(KommoUnreachable, match="can't be renewed now"):
            await first.tokens.renew(token)
        assert len(sandbox.audit.asked("POST", TOKEN_PATH)) == 1
        with pytest.raises(StorageError):
            await first.store.forget()
        assert await first.own.load() is not None
        await away.close()
