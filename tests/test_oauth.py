"""The grant against a Kommo that rotates tokens, loses answers and revokes; kept in a real database."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.errors import (
    KommoError,
    KommoFault,
    KommoRejected,
    KommoUnauthorized,
    KommoUnreachable,
    StorageError,
)
from itgrix_kommo.kommo.answers import Answer
from itgrix_kommo.kommo.batches import Added, Unanswered
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.oauth import AGAIN_AFTER_FAULT, AGAIN_AFTER_REFUSAL, Grant, Integration, OAuthTokens
from itgrix_kommo.kommo.retry import Backoff
from itgrix_kommo.kommo.transport import Transport
from itgrix_kommo.sandbox import Fault, ManualClock, Sandbox, SandboxOptions
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DAY = 86_400
TOKEN_PATH = "/oauth2/access_token"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def sandbox(clock: ManualClock) -> AsyncIterator[Sandbox]:
    options = SandboxOptions(clock=clock)
    options.switches.requests_per_second = 1000  # this clock stands still
    async with Sandbox(options).serve() as served:
        yield served


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'itgrix.db'}")
    yield opened
    await opened.close()


class Node:
    """One process of the connector."""

    def __init__(self, sandbox: Sandbox, store: Tokens, bare: Transport, clock: ManualClock) -> None:
        options = sandbox.options
        integration = Integration(options.client_id, options.client_secret, options.redirect_uri)
        self.tokens = OAuthTokens(integration, store, bare, now=clock.now)
        self.store = store
        self.client: KommoClient


@asynccontextmanager
async def running(sandbox: Sandbox, database: Database) -> AsyncIterator[Node]:
    clock = sandbox.clock
    assert isinstance(clock, ManualClock)
    limiter = Limiter(7)
    store = Tokens(database, sandbox.options.client_id)
    async with Transport(sandbox.url, None, limiter, timeout_s=5) as bare:
        node = Node(sandbox, store, bare, clock)
        async with Transport(sandbox.url, node.tokens, limiter, timeout_s=5) as transport:
            node.client = KommoClient(transport, retry=Backoff(attempts=1))
            yield node


@pytest.fixture
async def node(sandbox: Sandbox, database: Database) -> AsyncIterator[Node]:
    async with running(sandbox, database) as node:
        yield node


@pytest.fixture
async def granted(sandbox: Sandbox, node: Node) -> Node:
    await node.tokens.grant_by(sandbox.tokens.issue_code(sandbox.options.admin_id))
    return node


def exchanges(sandbox: Sandbox) -> int:
    return len(sandbox.audit.asked("POST", TOKEN_PATH))


async def kept(node: Node) -> Grant:
    grant = await node.store.load()
    assert grant is not None
    return grant


class TestFirstGrant:
    async def test_a_code_opens_the_account_and_the_grant_survives_a_restart(
        self, sandbox: Sandbox, database: Database, granted: Node
    ) -> None:
        assert (await granted.client.account()).id == 31000001
        async with running(sandbox, database) as restarted:
            assert (await restarted.client.account()).id == 31000001
        assert exchanges(sandbox) == 1

    async def test_without_one_a_person_is_asked(self, sandbox: Sandbox, node: Node) -> None:
        with pytest.raises(KommoUnauthorized, match="itgrix-kommo login"):
            await node.client.account()
        assert sandbox.audit.total == 0

    async def test_granted_by_another_process_it_is_found_without_a_restart(
        self, sandbox: Sandbox, database: Database, node: Node
    ) -> None:
        async with running(sandbox, database) as login:
            await login.tokens.grant_by(sandbox.tokens.issue_code(sandbox.options.admin_id))
        assert (await node.client.account()).id == 31000001

    @pytest.mark.parametrize("code", ["wrong", "used", "late"])
    async def test_a_code_that_is_none_changes_nothing(
        self, sandbox: Sandbox, clock: ManualClock, granted: Node, code: str
    ) -> None:
        before = await kept(granted)
        given = "wrong" if code == "wrong" else sandbox.tokens.issue_code(sandbox.options.admin_id)
        if code == "used":
            await granted.tokens.grant_by(given)
            before = await kept(granted)
        if code == "late":
            clock.advance(21 * 60)
        with pytest.raises(KommoRejected, match="code"):
            await granted.tokens.grant_by(given)
        assert await kept(granted) == before

    async def test_a_new_grant_takes_the_place_of_one_that_was_revoked(self, sandbox: Sandbox, granted: Node) -> None:
        sandbox.tokens.revoke_all()
        with pytest.raises(KommoUnauthorized):
            await granted.client.account()
        await granted.tokens.grant_by(sandbox.tokens.issue_code(sandbox.options.admin_id))
        assert (await granted.client.account()).id == 31000001


class TestRenewal:
    async def test_before_its_end_by_one_request_whoever_waits_for_it(
        self, sandbox: Sandbox, clock: ManualClock, granted: Node
    ) -> None:
        first = await kept(granted)
        clock.advance(DAY - 300)
        accounts = await asyncio.gather(*(granted.client.account() for _ in range(5)))
        assert len(accounts) == 5
        assert exchanges(sandbox) == 2
        second = await kept(granted)
        assert second.previous == first.refresh_token
        assert second.access_token != first.access_token

    async def test_for_weeks(self, sandbox: Sandbox, clock: ManualClock, granted: Node) -> None:
        for _ in range(10):
            clock.advance(2 * DAY)
            assert (await granted.client.account()).id == 31000001
        assert exchanges(sandbox) == 11
        assert not any(seen.status == 401 for seen in sandbox.audit.requests)

    async def test_a_401_renews_once_and_the_write_goes_through_once(self, sandbox: Sandbox, granted: Node) -> None:
        sandbox.tokens._revoked.add((await kept(granted)).access_token)
        outcomes = await asyncio.gather(*(granted.client.create_contacts([{"name": str(n)}]) for n in range(4)))
        assert all(isinstance(one, Added) for [one] in outcomes)
        assert exchanges(sandbox) == 2
        assert len(sandbox.account.contacts) == 4

    @pytest.mark.parametrize("effect", ["disconnect", "truncated", "html", "empty"])
    async def test_an_answer_that_was_lost_costs_nothing(
        self, sandbox: Sandbox, clock: ManualClock, granted: Node, effect: Any
    ) -> None:
        clock.advance(2 * DAY)
        sandbox.faults.add(Fault(effect=effect, path=TOKEN_PATH, committed=True))
        [outcome] = await granted.client.create_contacts([{"name": "x"}])
        assert isinstance(outcome, Unanswered)
        assert isinstance(outcome.error, KommoUnreachable)
        assert not outcome.error.may_have_happened  # the contact's request was never sent
        clock.advance(AGAIN_AFTER_FAULT)
        assert isinstance((await granted.client.create_contacts([{"name": "x"}]))[0], Added)
        assert len(sandbox.account.contacts) == 1

    async def test_what_fails_while_the_old_one_is_good_disturbs_nobody(
        self, sandbox: Sandbox, clock: ManualClock, granted: Node
    ) -> None:
        clock.advance(DAY - 300)
        sandbox.faults.add(Fault(effect="status", status=500, path=TOKEN_PATH))
        for _ in range(3):
            assert (await granted.client.account()).id == 31000001
        assert exchanges(sandbox) == 2
        clock.advance(AGAIN_AFTER_FAULT)
        await granted.client.account()
        assert exchanges(sandbox) == 3

    async def test_while_one_renews_it_the_others_go_on_with_the_old_one(
        self, sandbox: Sandbox, clock: ManualClock, granted: Node
    ) -> None:
        clock.advance(DAY - 300)
        sandbox.faults.add(Fault(effect="hang", path=TOKEN_PATH, seconds=60))
        renewing = asyncio.create_task(granted.client.account())
        async with asyncio.timeout(5):
            while not clock.sleepers:
                await asyncio.sleep(0)
        assert (await granted.client.account()).id == 31000001
        assert not renewing.done()
        clock.advance(60)
        assert (await renewing).id == 31000001

    async def test_those_who_wait_together_fail_together(
        self, sandbox: Sandbox, clock: ManualClock, granted: Node
    ) -> None:
        clock.advance(2 * DAY)
        sandbox.faults.add(Fault(effect="status", status=500, path=TOKEN_PATH, count=None))
        failed = await asyncio.gather(*(granted.client.account() for _ in range(5)), return_exceptions=True)
        assert [type(one) for one in failed] == [KommoFault] * 5
        assert exchanges(sandbox) == 2

    async def test_a_revoked_grant_needs_a_person_and_is_not_asked_for_again_and_again(
        self, sandbox: Sandbox, clock: ManualClock, granted: Node
    ) -> None:
        clock.advance(2 * DAY)
        await granted.client.account()
        sandbox.tokens.revoke_all()
        before = exchanges(sandbox)
        for _ in range(3):
            with pytest.raises(KommoUnauthorized):
                await granted.client.account()
        assert exchanges(sandbox) - before == 2  # by the refresh token, and by the one it came from
        clock.advance(2 * DAY)
        with pytest.raises(KommoUnauthorized, match=r"Token has been revoked.*itgrix-kommo login"):
            await granted.client.account()
        clock.advance(AGAIN_AFTER_REFUSAL - 1)
        with pytest.raises(KommoUnauthorized):
            await granted.client.account()
        assert exchanges(sandbox) - before == 4

    async def test_the_token_before_is_tried_where_the_new_pair_was_never_used(
        self, clock: ManualClock, granted: Node
    ) -> None:
        first = await kept(granted)
        # A pair that Kommo no longer knows, as after a restored backup of theirs; the one it came from still is good.
        await granted.store.save(Grant("a", "r", first.expires_at, first.refresh_token), replacing=None)
        clock.advance(2 * DAY)
        assert (await granted.client.account()).id == 31000001


class TestKeeping:
    async def test_a_pair_that_can_not_be_kept_is_not_used(
        self, sandbox: Sandbox, clock: ManualClock, granted: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def full(_grant: Grant, *, replacing: Grant | None) -> bool:
            raise StorageError(f"disk full, {replacing}")

        clock.advance(2 * DAY)
        with monkeypatch.context() as broken:
            broken.setattr(granted.store, "save", full)
            with pytest.raises(KommoUnreachable, match="not used: disk full"):
                await granted.client.account()
        assert len(sandbox.audit.requests) == 2
        clock.advance(AGAIN_AFTER_FAULT)
        assert (await granted.client.account()).id == 31000001

    async def test_a_database_that_can_not_be_read_is_a_passing_fault(
        self, granted: Node, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def locked() -> Grant | None:
            raise StorageError("locked")

        clock.advance(2 * DAY)
        monkeypatch.setattr(granted.store, "load", locked)
        with pytest.raises(KommoUnreachable, match="can't be read: locked"):
            await granted.client.account()

    async def test_two_processes_that_renew_at_once_end_with_one_pair(
        self, sandbox: Sandbox, database: Database, clock: ManualClock, granted: Node
    ) -> None:
        clock.advance(2 * DAY)
        async with running(sandbox, database) as other:
            await asyncio.gather(granted.client.account(), other.client.account())
            assert await granted.tokens.token() == await other.tokens.token() == (await kept(granted)).access_token
            for _ in range(3):
                clock.advance(2 * DAY)
                await other.client.account()
                await granted.client.account()

    async def test_what_is_replaced_must_still_be_there(self, granted: Node) -> None:
        grant = await kept(granted)
        newer = replace(grant, refresh_token="newer")
        assert not await granted.store.save(newer, replacing=newer)
        assert await granted.store.save(newer, replacing=grant)
        assert not await granted.store.save(grant, replacing=grant)
        assert (await kept(granted)).refresh_token == "newer"

    async def test_one_that_was_taken_away_while_we_renewed_it(
        self, granted: Node, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def taken_away(_grant: Grant, *, replacing: Grant | None) -> bool:
            monkeypatch.setattr(granted.store, "_client_id", "another")
            return replacing is None

        clock.advance(2 * DAY)
        monkeypatch.setattr(granted.store, "save", taken_away)
        with pytest.raises(KommoUnauthorized, match="nobody has granted"):
            await granted.tokens.token()


class TestSecrecy:
    async def test_tokens_are_shown_nowhere(
        self, sandbox: Sandbox, clock: ManualClock, granted: Node, tmp_path: Path
    ) -> None:
        with capture_logs() as logs:
            clock.advance(2 * DAY)
            sandbox.faults.add(Fault(effect="truncated", path=TOKEN_PATH, committed=True))
            with pytest.raises(KommoError) as caught:
                await granted.client.account()
            clock.advance(AGAIN_AFTER_FAULT)
            await granted.client.account()
        grant = await kept(granted)
        shown = f"{logs} {caught.value} {grant} {granted.tokens} {granted.tokens._integration}"
        for secret in (grant.access_token, grant.refresh_token, grant.previous, sandbox.options.client_secret):
            assert secret not in shown
        modes = {entry.stat().st_mode & 0o777 for entry in os.scandir(tmp_path)}
        assert modes == {0o600}

    async def test_a_file_that_was_open_to_all_is_closed(self, tmp_path: Path) -> None:
        path = tmp_path / "restored.db"
        sqlite3.connect(path).close()
        path.touch()
        path.chmod(0o644)
        await (await Database.open(f"sqlite+aiosqlite:///{path}")).close()
        assert path.stat().st_mode & 0o777 == 0o600

    async def test_what_the_database_refuses_is_told_without_the_tokens(self, database: Database) -> None:
        store = Tokens(database, "x")
        with pytest.raises(StorageError) as caught:
            await store.save(Grant("secret-a", None, 1.0), replacing=None)  # type: ignore[arg-type]  # what SQLite refuses
        assert "secret-a" not in f"{caught.value} {caught.value.__cause__}"

    @pytest.mark.parametrize(
        "pair",
        [
            {},
            {"access_token": "a\r\nX: y", "refresh_token": "r", "expires_in": 86400},
            {"access_token": "a", "refresh_token": "", "expires_in": 86400},
            {"access_token": "a", "refresh_token": "r", "expires_in": 0},
        ],
    )
    async def test_a_pair_that_is_none_is_not_kept(self, granted: Node, clock: ManualClock, pair: Any) -> None:
        before = await kept(granted)
        clock.advance(2 * DAY)

        async def request(*_: object, **__: object) -> Any:
            return answer(pair)

        granted.tokens._transport.request = request  # type: ignore[method-assign]  # no sandbox answers like this
        with pytest.raises(KommoUnreachable, match="makes no sense") as caught:
            await granted.tokens.token()
        assert "X: y" not in str(caught.value)
        assert await kept(granted) == before


def answer(body: object) -> Answer:
    return Answer(f"POST {TOKEN_PATH}", 200, body)
