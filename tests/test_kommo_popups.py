from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from itgrix_kommo.errors import (
    KommoBlocked,
    KommoError,
    KommoFault,
    KommoRejected,
    KommoUnauthorized,
    KommoUnreachable,
)
from itgrix_kommo.kommo.answers import Answer
from itgrix_kommo.kommo.limiter import Limiter, Priority
from itgrix_kommo.kommo.popups import PATH, Popups
from itgrix_kommo.kommo.transport import LongLivedToken, Transport
from itgrix_kommo.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

BLOCKED = KommoBlocked("blocked", status=403)


class SlowTransport(Transport):
    """Lets a request go out after `queue` seconds, and answers it with what `answers` hold, else well."""

    def __init__(self, per_second: int = 6, *, queue: float = 0.0) -> None:
        self.limiter = Limiter(per_second)
        self.queue = queue
        self.takes = 0.0
        self.answers: list[KommoError | None] = []
        self.unsent: list[KommoError] = []
        self.sent: list[tuple[float, list[tuple[str, list[int]]]]] = []
        self.requests = 0

    async def request(
        self,
        method: str,
        path: str,
        *,
        priority: Priority,
        params: Sequence[tuple[str, str]] = (),  # noqa: ARG002 (the transport's)
        body: object = None,
    ) -> Answer:
        assert (method, path, priority) == ("POST", PATH, Priority.LIVE)
        self.requests += 1
        if self.unsent:
            raise self.unsent.pop(0)
        await asyncio.sleep(self.queue)
        assert callable(body)
        added = body()["add"]
        shown = [(one["phone_number"], one["users"]) for one in added]
        self.sent.append((asyncio.get_running_loop().time(), shown))
        await asyncio.sleep(self.takes)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, KommoUnauthorized):  # as a renewed token has it
            return await self.request(method, path, priority=priority, body=body)
        if answer is not None:
            raise answer
        return Answer(f"{method} {path}", 200, {})

    @property
    def phones(self) -> list[list[str]]:
        return [[phone for phone, _ in shown] for _, shown in self.sent]


@asynccontextmanager
async def running(popups: Popups) -> AsyncIterator[None]:
    task = asyncio.create_task(popups.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(is_so: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not is_so():
            await asyncio.sleep(0.005)


class TestShow:
    @pytest.mark.parametrize(("phone", "users"), [("+1202", []), ("", [1]), (" ", [1])])
    async def test_nobody_would_be_everybody_and_no_phone_is_no_call(self, phone: str, users: list[int]) -> None:
        with pytest.raises(ValueError, match="needs a phone and the ids of the users"):
            Popups(SlowTransport()).show(phone, users)

    async def test_at_once_and_what_waits_meanwhile_together(self) -> None:
        transport = SlowTransport()
        transport.takes = 0.2
        popups = Popups(transport)
        async with running(popups):
            popups.show("1", [7, 5, 7])
            await until(lambda: len(transport.sent) == 1)
            for phone in ("2", "3", "4"):
                popups.show(phone, [5])
            await until(lambda: popups.shown == 4)
        assert transport.sent[0][1] == [("1", [5, 7])]
        assert transport.phones == [["1"], ["2", "3", "4"]]

    async def test_fifty_at_most(self) -> None:
        transport = SlowTransport()
        popups = Popups(transport)
        for number in range(60):
            popups.show(str(number), [1])
        async with running(popups):
            await until(lambda: popups.shown == 60)
        assert [len(phones) for phones in transport.phones] == [50, 10]

    @pytest.mark.parametrize(("per_second", "pause"), [(7, 1 / 3), (6, 1 / 3), (4, 1 / 2), (1, 2.0)])
    async def test_half_of_the_limit_is_left_to_others(self, per_second: int, pause: float) -> None:
        transport = SlowTransport(per_second)
        popups = Popups(transport)
        async with running(popups):
            for number in range(3):
                popups.show(str(number), [1])
                await until(lambda number=number: len(transport.sent) == number + 1)  # type: ignore[misc]  # bound now
        times = [at for at, _ in transport.sent]
        assert all(later - former >= pause - 0.01 for former, later in pairwise(times))


class TestDying:
    @pytest.fixture(autouse=True)
    def short_life(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("itgrix_kommo.kommo.popups.LIFE", 1.0)

    async def test_one_that_waited_too_long_is_not_shown_and_the_younger_is(self) -> None:
        transport = SlowTransport(queue=0.6)
        popups = Popups(transport)
        popups.show("old", [1])
        await asyncio.sleep(0.6)  # it grows old before anybody sends
        popups.show("young", [1])
        async with running(popups):
            await until(lambda: popups.shown + popups.lost == 2)
        assert transport.phones == [["young"]]

    async def test_none_left_is_no_request(self) -> None:
        transport = SlowTransport(queue=0.7)
        popups = Popups(transport)
        popups.show("old", [1])
        await asyncio.sleep(0.5)
        async with running(popups):
            await until(lambda: popups.lost == 1)
            transport.queue = 0
            popups.show("new", [1])
            await until(lambda: popups.shown == 1)
        assert transport.phones == [["new"]]

    async def test_a_turn_that_never_comes_is_not_waited_for(self) -> None:
        transport = SlowTransport(queue=3600)
        popups = Popups(transport)
        async with running(popups):
            popups.show("1", [1])
            await until(lambda: popups.lost == 1)
        assert (popups.shown, transport.sent) == (0, [])

    async def test_nor_an_answer_and_it_is_not_sent_again(self) -> None:
        transport = SlowTransport()
        transport.takes = 3600
        popups = Popups(transport)
        async with running(popups):
            popups.show("1", [1])
            await until(lambda: popups.lost == 1)
            transport.takes = 0
            popups.show("2", [1])
            await until(lambda: popups.shown == 1)
        assert transport.phones == [["1"], ["2"]]


class TestFaults:
    async def test_what_fails_is_lost_and_the_next_goes(self) -> None:
        transport = SlowTransport()
        transport.answers = [KommoFault("x", status=500, may_have_happened=True)]
        popups = Popups(transport)
        async with running(popups):
            popups.show("1", [1])
            await until(lambda: popups.lost == 1)
            popups.show("2", [1])
            await until(lambda: popups.shown == 1)
        assert transport.phones == [["1"], ["2"]]

    async def test_where_there_is_no_way_to_kommo_it_is_not_knocked_at_again_and_again(self) -> None:
        transport = SlowTransport()
        transport.unsent = [BLOCKED]
        popups = Popups(transport)
        popups.show("1", [1])
        popups.show("2", [1])
        async with running(popups):
            await until(lambda: popups.lost == 2)
            popups.show("3", [1])
            await until(lambda: popups.shown == 1)
        assert transport.requests == 2

    async def test_one_that_kommo_refuses_takes_no_other_down(self) -> None:
        transport = SlowTransport()
        refused: Any = KommoRejected("no", status=400)
        transport.answers = [refused, refused, None, None]
        popups = Popups(transport)
        for phone in ("bad", "1", "2"):
            popups.show(phone, [1])
        async with running(popups):
            await until(lambda: popups.shown + popups.lost == 3)
        assert transport.phones == [["bad", "1", "2"], ["bad"], ["1"], ["2"]]
        assert (popups.shown, popups.lost) == (2, 1)

    async def test_an_answer_that_is_no_json_is_one_all_the_same(self) -> None:
        transport = SlowTransport()
        transport.answers = [KommoUnreachable("no JSON", status=202, may_have_happened=True)]
        popups = Popups(transport)
        async with running(popups):
            popups.show("1", [1])
            await until(lambda: popups.shown == 1)

    async def test_a_renewed_token_sends_the_same_list(self) -> None:
        transport = SlowTransport()
        transport.answers = [KommoUnauthorized("x", status=401)]
        popups = Popups(transport)
        popups.show("1", [1])
        popups.show("2", [1])
        async with running(popups):
            await until(lambda: popups.shown == 2)
        assert transport.phones == [["1", "2"], ["1", "2"]]


class TestAccount:
    async def test_they_are_seen_by_the_named_users_alone(self) -> None:
        async with Sandbox().serve() as sandbox:
            sandbox.switches.popup_status = 202
            sandbox.faults.add(Fault(effect="html", committed=True))
            tokens = LongLivedToken(sandbox.options.admin_token)
            async with Transport(sandbox.url, tokens, Limiter(6)) as transport:
                popups = Popups(transport)
                async with running(popups):
                    popups.show("+12025550143", [9100001])
                    await until(lambda: popups.shown == 1)
                    popups.show("+12025550144", [9100002, 9100003])
                    await until(lambda: popups.shown == 2)
            seen = [(one.phone, one.users, one.to_everyone) for one in sandbox.account.popups]
        assert seen == [("+12025550143", (9100001,), False), ("+12025550144", (9100002, 9100003), False)]

    async def test_a_storm_of_them_delays_no_lookup_and_breaks_no_limit(self) -> None:
        async with Sandbox().serve() as sandbox:
            tokens = LongLivedToken(sandbox.options.admin_token)
            async with Transport(sandbox.url, tokens, Limiter(6)) as transport:
                popups = Popups(transport)
                loop = asyncio.get_running_loop()
                async with running(popups):
                    waits = []
                    for number in range(12):
                        for ringing in range(30):
                            popups.show(f"+1202555{number:02}{ringing:02}", [9100001])
                        begun = loop.time()
                        await transport.request("GET", "/api/v4/account", priority=Priority.REGISTRATION)
                        waits.append(loop.time() - begun)
                    await until(lambda: popups.shown == 360)
            assert max(waits) < 1.5
            assert len(sandbox.audit.asked("POST", PATH)) <= 12
            assert sandbox.audit.breaches == 0
            assert popups.lost == 0
