"""What registrations write together, against a whole Kommo account: nothing is written for who has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import NamedTuple

import pytest

from itgrix_kommo.kommo.batches import Added, Outcome, Refused
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Limiter, Priority
from itgrix_kommo.kommo.transport import LongLivedToken, Transport
from itgrix_kommo.pipeline.mail import Mail
from itgrix_kommo.sandbox import Kind, Sandbox
from tests.kommo_account import contact

Asked = asyncio.Task[Outcome]


class Counter(NamedTuple):
    """Where contacts are handed in; the account has one request a second."""

    sandbox: Sandbox
    limiter: Limiter
    mail: Mail

    async def hand_in(self, *names: str) -> list[Asked]:
        """All in one list, which waits for its slot."""
        asked = [asyncio.create_task(_outcome(self.mail.contacts(_named(name)))) for name in names]
        while not self.limiter.waiting:
            await asyncio.sleep(0)
        return asked

    @property
    def written(self) -> list[str]:
        return [card.name for card in self.sandbox.account.cards[Kind.CONTACTS].values()]

    @property
    def requests(self) -> int:
        return len(self.sandbox.audit.asked("POST", "/api/v4/contacts"))


def _named(name: str) -> dict[str, object]:
    nobody = {"responsible_user_id": 1} if name == "bad" else {}
    return {**contact(), "name": name, "request_id": name, **nobody}


async def _outcome(waited_for: Awaitable[Outcome]) -> Outcome:
    return await waited_for


async def leave(*asked: Asked) -> None:
    for one in asked:
        one.cancel()
    await asyncio.wait(asked)


@pytest.fixture
async def counter() -> AsyncIterator[Counter]:
    async with Sandbox().serve(port=0) as sandbox:
        limiter = Limiter(1)
        tokens = LongLivedToken(sandbox.options.admin_token)
        async with Transport(sandbox.url, tokens, limiter) as transport:
            yield Counter(sandbox, limiter, Mail(KommoClient(transport)))


async def test_who_has_gone_while_the_list_waited_is_not_in_it(counter: Counter) -> None:
    async with counter.limiter.slot(Priority.LIVE):
        first, gone, last = await counter.hand_in("first", "gone", "last")
        await leave(gone)
    assert [type(await one) for one in (first, last)] == [Added, Added]
    assert (counter.written, counter.requests) == (["first", "last"], 1)


async def test_where_nobody_is_left_no_request_is_made_and_the_slot_comes_back_whole(counter: Counter) -> None:
    async with counter.limiter.slot(Priority.LIVE):
        await leave(*await counter.hand_in("one", "other"))
    while counter.limiter.waiting or counter.limiter.held:
        await asyncio.sleep(0)
        assert not counter.requests
    async with counter.limiter.slot(Priority.LIVE):
        (later,) = await counter.hand_in("later")
    assert type(await later) is Added
    assert (counter.written, counter.requests) == (["later"], 1)


async def test_who_leaves_while_culprits_are_looked_for_is_not_sent_again(counter: Counter) -> None:
    async with counter.limiter.slot(Priority.LIVE):
        first, bad, gone, last = await counter.hand_in("first", "bad", "gone", "last")
    while not counter.requests or not counter.limiter.waiting:  # the list was refused, its rest waits
        await asyncio.sleep(0.01)
    assert not any(one.done() for one in (first, bad, gone, last))
    await leave(gone)
    assert [type(await one) for one in (first, bad, last)] == [Added, Refused, Added]
    assert (counter.written, counter.requests) == (["first", "last"], 2)
