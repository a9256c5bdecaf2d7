"""The phonebook after a start: it knows who called lately before they call again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from itgrix_kommo.kommo.checks import Wanted
from itgrix_kommo.pipeline import clients
from itgrix_kommo.pipeline.clients import warm_by_recent_callers
from itgrix_kommo.pipeline.gate import Gate
from itgrix_kommo.pipeline.intake import registration_of
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.registrations import Registrations
from tests.registering import a_client, rules
from tests.story import ended, inbound, plan

ANNAS, BORISS, HIDDEN = "+79990000001", "+79990000002", "anonymous"


async def test_recent_callers_are_looked_up_once_the_gate_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "RECENT_CALLERS", 2)
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db")
    registrations = Registrations(database, "pbx1")
    told = ["+79990000009", ANNAS, HIDDEN, BORISS, ANNAS]
    for number, client in enumerate(told, 1):
        new = registration_of(ended(inbound(client, linkedid=f"1795355557.{number * 10}")), plan())
        assert new is not None
        await registrations.keep(new)
    async with a_client() as account:
        for phone in (ANNAS, BORISS, "+79990000009"):
            await account.add_contact(phone)
        gate = Gate(account.kommo, Wanted(), lambda _: rules(), shut_pauses=(0.05,))
        warming = asyncio.create_task(warm_by_recent_callers(gate, registrations, account.phonebook))
        before = account.sandbox.audit.total
        await asyncio.wait({warming}, timeout=0.1)
        assert account.sandbox.audit.total == before
        examining = asyncio.create_task(gate.run())
        async with asyncio.timeout(10):
            await warming
        examining.cancel()
        assert [account.phonebook.recall(phone) is not None for phone in (ANNAS, BORISS, "+79990000009")] == [
            True,
            True,
            False,
        ]
    await database.close()
