"""The daemon killed at every point: what it was writing is in Kommo once, whether the request was done or not.

Each case is a daemon process of its own, killed by SIGKILL while Kommo hangs, and started again. They run side by
side, for most of their time is the settle time.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.kommo.limiter import Limiter, Priority
from itgrix_kommo.kommo.transport import LongLivedToken, Transport
from itgrix_kommo.sandbox import Fault, Sandbox, SandboxOptions
from tests.daemons import Node, Starter, a_starter, until
from tests.story import ANN, BORIS, ended, inbound

CLIENT = "+79990000001"
SIDE_BY_SIDE = 24
SEARCH_DELAY = 6.0
"""Seconds until the account's search shows a client: longer than a restart, shorter than the settle time."""


@dataclass(frozen=True, slots=True)
class Point:
    """A request at which the daemon dies. `is_known`: the client has a contact and an open lead before it all.

    `is_later`: his second call comes to it, not the first.
    """

    name: str
    method: str
    path: str
    is_known: bool = False
    is_later: bool = False
    unsorted: bool = False


POINTS = (
    Point("contact", "POST", "/api/v4/contacts"),
    Point("lead", "POST", "/api/v4/leads"),
    Point("unsorted", "POST", "/api/v4/leads/unsorted/sip", unsorted=True),
    Point("call note", "POST", "/api/v4/leads/notes"),
    Point("call", "POST", "/api/v4/calls", is_known=True),
    Point("task", "POST", "/api/v4/tasks"),
    Point("contact update", "PATCH", "/api/v4/contacts", is_known=True, is_later=True),
    Point("lead update", "PATCH", "/api/v4/leads", is_known=True, is_later=True),
    Point("task completion", "PATCH", "/api/v4/tasks", is_later=True),
)


@dataclass(frozen=True, slots=True)
class Case:
    point: Point
    committed: bool
    search_delay: float = 0.0

    def __str__(self) -> str:
        late = ", search late" if self.search_delay else ""
        return f"{self.point.name}, {'done' if self.committed else 'not done'}{late}"


CASES = [
    *(Case(point, committed) for point in POINTS for committed in (True, False)),
    *(Case(point, committed=True, search_delay=SEARCH_DELAY) for point in POINTS if not point.is_known),
]


async def add_known_client(sandbox: Sandbox) -> None:
    """His contact and his open lead are Boris's."""
    async with Transport(sandbox.url, LongLivedToken("sandbox-token"), Limiter(6)) as transport:

        async def add(noun: str, body: dict[str, Any]) -> int:
            path = f"/api/v4/{noun}"
            answer = await transport.request("POST", path, body=[body], priority=Priority.REGISTRATION)
            return int(answer.embedded(noun)[0]["id"])

        phone = {"field_id": 801, "values": [{"value": CLIENT, "enum_code": "WORK"}]}
        contact = {"name": "Ivan", "responsible_user_id": BORIS, "custom_fields_values": [phone]}
        tied = {"contacts": [{"id": await add("contacts", contact)}]}
        await add("leads", {"name": "Deal", "responsible_user_id": BORIS, "_embedded": tied})


async def killed_at(case: Case, starter: Starter, directory: Path) -> Sandbox:
    """The account after a missed and an answered call of one client, the daemon killed at that point."""
    async with Sandbox(SandboxOptions()).serve(port=0) as sandbox:
        if case.point.is_known:
            await add_known_client(sandbox)
        sandbox.switches.search_delay_s = case.search_delay
        fault = Fault(effect="hang", method=case.point.method, path=case.point.path, committed=case.committed)
        sandbox.faults.add(fault)
        node = Node(starter, sandbox, directory, unsorted=case.point.unsorted)
        begun = float(int(time.time()) - 300)
        missed = ended(inbound(CLIENT, linkedid=f"{begun:.0f}.10", at=begun, answered=False))
        answered = ended(inbound(CLIENT, linkedid=f"{begun:.0f}.20", at=begun + 60))
        try:
            # One after the other: a client who was reached since needs no task.
            for call, dies in ((missed, not case.point.is_later), (answered, case.point.is_later)):
                await node.keep(call)
                await node.start()
                if dies:
                    await until(lambda: not sandbox.faults.armed, node.log)
                    await node.kill()
                    await node.start()
                await node.registered()
                await node.kill()
        finally:
            await node.kill()
    return sandbox


CLIENTS, CALLS_OF_EACH, KILLS = 34, 6, 5


async def killed_at_random(starter: Starter, directory: Path) -> Sandbox:
    """The account after some hundred waiting calls, the daemon killed again and again while it registers them."""
    dice = random.Random(4)  # noqa: S311 (the moments of crashes are no secret)
    async with Sandbox(SandboxOptions()).serve(port=0) as sandbox:
        sandbox.switches.search_delay_s = 2.0
        node = Node(starter, sandbox, directory)
        begun = float(int(time.time()) - 3600)
        for number in range(CALLS_OF_EACH):
            at = begun + number * 60
            await node.keep(
                *(
                    ended(
                        inbound(
                            f"+7999000{client:04}",
                            linkedid=f"{at:.0f}.{client * 10}",
                            at=at,
                            answered=number % 2 == 0,
                        )
                    )
                    for client in range(CLIENTS)
                )
            )
        try:
            for _ in range(KILLS):
                await node.start()
                asked = sandbox.audit.total + dice.randrange(6, 16)  # five of them examine the account
                await until(lambda asked=asked: sandbox.audit.total >= asked, node.log)  # type: ignore[misc]  # mypy can't infer a lambda's default
                await asyncio.sleep(dice.uniform(0.0, 0.3))
                await node.kill()
            await node.start()
            await node.registered()
        finally:
            await node.kill()
    return sandbox


async def test_killed_while_it_writes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All cases in one test, for they run side by side."""
    turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def run(case: Case, starter: Starter) -> None:
        async with turns:
            sandbox = await killed_at(case, starter, tmp_path_factory.mktemp("node"))
        account = sandbox.account
        (contact,), (lead,), (task,) = account.contacts.values(), account.leads.values(), account.tasks.values()
        assert len(account.unsorted) == case.point.unsorted
        assert [note.params["uniq"].partition(".")[2] for note in account.calls] == ["10", "20"]
        assert task.is_completed
        if not case.point.unsorted:
            assert (contact.responsible_user_id, lead.responsible_user_id) == (ANN, ANN)
        assert_clean(sandbox)

    async with a_starter() as starter:
        outcomes = await asyncio.gather(*(run(case, starter) for case in CASES), return_exceptions=True)
    failed = {str(case): repr(outcome) for case, outcome in zip(CASES, outcomes, strict=True) if outcome is not None}
    assert not failed, "\n".join(f"{case}: {why}" for case, why in failed.items())


async def test_killed_at_random_under_a_backlog(tmp_path: Path) -> None:
    async with a_starter() as starter:
        sandbox = await killed_at_random(starter, tmp_path)
    account = sandbox.account
    assert (len(account.contacts), len(account.leads)) == (CLIENTS, CLIENTS)
    assert len(account.calls) == CLIENTS * CALLS_OF_EACH
    assert len(account.tasks) == CLIENTS  # for the last call of each; after the others he was reached
    assert_clean(sandbox)


def assert_clean(sandbox: Sandbox) -> None:
    assert not any(sandbox.audit.duplicates().values()), sandbox.audit.duplicates()
    assert sandbox.audit.breaches == 0
