"""What one node learns of a phone, the others know; on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.listings import Client, OpenLead
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.kommo.transport import Transport
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.phonebook import PhonebookRows
from itgrix_kommo.storage.shared import SharedDatabase
from itgrix_kommo.storage.shared_phonebook import SharedPhonebook

pytestmark = pytest.mark.xdist_group("databases")

PHONE = "+79990000001"


class Node:
    def __init__(self, name: str, database: Database, shared: SharedDatabase) -> None:
        self.store = SharedPhonebook(PhonebookRows(database), shared, name)
        transport = Transport("http://127.0.0.1:1", None, Limiter(1))
        self.now = 1_795_355_557.0
        self.book = Phonebook(KommoClient(transport, region="RU"), self.store, now=lambda: self.now)

    async def tell(self) -> None:
        await self.book.flush()
        await self.store.tell()

    async def hear(self) -> None:
        await self.store.hear(self.book.take_in)
        await self.book.flush()

    def knows(self) -> list[int]:
        listing = self.book.recall(PHONE)
        return [client.id for client in listing.clients] if listing else []


@pytest.fixture
async def nodes(shared: SharedDatabase, tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    databases = [await Database.open(f"sqlite+aiosqlite:///{tmp_path}/{name}.db") for name in ("pbx1", "pbx2")]
    yield Node("pbx1", databases[0], shared), Node("pbx2", databases[1], shared)
    for database in databases:
        await database.close()


def ivan(number: int, phone: str = PHONE) -> Client:
    return Client("contacts", number, "Ivan", 9_100_001, (phone,), leads=())


async def test_what_one_learns_the_other_knows_and_keeps(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    first.book.learn(PHONE, ivan(5501))
    await first.tell()
    await second.hear()
    assert second.knows() == [5501]
    assert len(await second.store.load(10)) == 1
    # It goes no further, back and forth.
    await second.tell()
    await first.hear()
    assert (first.knows(), first.book._listings.unsaved) == ([5501], set())


async def test_nothing_is_written_on_the_others_word_alone(nodes: tuple[Node, Node]) -> None:
    (first, second), phone = nodes, "+79990000002"
    first.book.learn(phone, ivan(5501, phone))
    assert await first.book.confirm(phone) is not None
    await first.tell()
    await second.hear()
    second.now = first.now
    with pytest.raises(RuntimeError, match="transport is not open"):  # Kommo itself is asked
        await second.book.confirm(phone)


async def test_a_lead_made_since_is_told_too(nodes: tuple[Node, Node]) -> None:
    (first, second), phone = nodes, "+79990000003"
    first.book.learn(phone, ivan(5501, phone))
    await first.tell()
    first.book.learn_lead("contacts", 5501, OpenLead(6601, "Deal", 7001, 1, 9_100_001))
    await first.tell()
    await second.hear()
    listing = second.book.recall(phone)
    assert listing is not None
    assert [lead.id for client in listing.clients for lead in client.leads or ()] == [6601]


async def test_what_is_gone_is_gone_for_all_and_a_later_word_counts(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    first.book.learn(PHONE, ivan(5501))
    await first.tell()
    await second.hear()
    second.book.forget("contacts", 5501)
    await second.tell()
    await first.hear()
    assert first.knows() == []
    first.now += 1e9  # later than the server's word
    first.book.learn(PHONE, ivan(5502))
    await first.tell()
    await second.hear()
    assert second.knows() == [5502]
    second.book.learn(PHONE, ivan(5501))  # said long before, and told only now
    await second.tell()
    await first.hear()
    assert first.knows() == [5502]


async def test_without_the_server_nothing_is_lost_and_nobody_waits(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db")
    shared = SharedDatabase("postgresql+asyncpg://itgrix@127.0.0.1:1/itgrix")
    node = Node("pbx1", database, shared)
    node.book.learn(PHONE, ivan(5501))
    await node.book.flush()
    with pytest.raises(StorageError):
        await node.store.tell()
    assert len(node.store._untold) == 1
    assert len(await node.store.load(10)) == 1
    await database.close()
    await shared.close()
