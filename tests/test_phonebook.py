"""The phonebook against a whole account that changes behind its back, kept in a real database."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from itgrix_kommo.errors import KommoFault, StorageError
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Priority
from itgrix_kommo.kommo.listings import Client, OpenLead
from itgrix_kommo.kommo.phonebook import FRESH, Phonebook
from itgrix_kommo.kommo.webhooks import ClientGone, ClientTold, LeadGone
from itgrix_kommo.sandbox import Fault, Kind, Sandbox, records, seed
from itgrix_kommo.storage.database import Database, phonebook
from itgrix_kommo.storage.phonebook import PhonebookRows
from tests.kommo_account import PHONE, connect, contact, created, ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OTHER = "+12025550144"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox().serve() as served:
        served.switches.requests_per_second = 1000
        yield served


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[KommoClient]:
    async with connect(sandbox, per_second=7) as connected:
        yield connected


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'itgrix.db'}")
    yield opened
    await opened.close()


class Desk:
    """A phonebook, the time it goes by, and how often Kommo was asked because of it."""

    def __init__(self, sandbox: Sandbox, client: KommoClient, database: Database, **more: Any) -> None:
        self.seconds = 1_760_000_000.0
        self._sandbox = sandbox
        self._before = 0
        self.book = Phonebook(client, PhonebookRows(database), now=lambda: self.seconds, **more)

    def asked(self) -> int:
        """Requests since the last look."""
        before, self._before = self._before, self._sandbox.audit.total
        return self._before - before


@pytest.fixture
def desk(sandbox: Sandbox, client: KommoClient, database: Database) -> Desk:
    return Desk(sandbox, client, database)


async def lead_of(client: KommoClient, contact_id: int, **more: object) -> int:
    [lead] = ids(await client.create_leads([{"name": "L", "_embedded": {"contacts": [{"id": contact_id}]}, **more}]))
    return lead


async def change_phone(client: KommoClient, contact_id: int, phone: str) -> None:
    body = contact(phone)
    ids(await client.update_contacts([{"id": contact_id, "custom_fields_values": body["custom_fields_values"]}]))


class TestFinding:
    async def test_asked_once_and_then_answered_at_once_however_it_is_spelled(
        self, client: KommoClient, desk: Desk
    ) -> None:
        [ann] = await created(client, contact(responsible_user_id=9100002))
        assert desk.book.recall(PHONE) is None
        desk.asked()
        found = await desk.book.find(PHONE)
        assert desk.asked() == 1
        assert found is not None
        assert found.client == Client("contacts", ann, f"Contact {PHONE}", 9100002, (PHONE,))
        assert found.is_sole
        assert await desk.book.find("1 (202) 555-0143") == found
        assert desk.book.recall("2025550143") == found
        assert desk.asked() == 0

    async def test_nobody_is_never_remembered(self, client: KommoClient, desk: Desk) -> None:
        assert await desk.book.find(PHONE) is None
        [ann] = await created(client, contact())
        found = await desk.book.find(PHONE)
        assert found is not None
        assert found.client.id == ann

    async def test_the_oldest_of_several_and_companies_only_where_no_contact_has_it(
        self, sandbox: Sandbox, client: KommoClient, desk: Desk
    ) -> None:
        company = sandbox.account.add_card(Kind.COMPANIES, _with_phone(OTHER), by=9100001)
        sandbox.account.add_card(Kind.COMPANIES, _with_phone(PHONE), by=9100001)
        first, second = await created(client, contact(), contact())
        found = await desk.book.find(PHONE)
        assert found is not None
        assert [one.ref for one in found.clients] == [("contacts", first), ("contacts", second)]
        assert not found.is_sole
        found = await desk.book.find(OTHER)
        assert found is not None
        assert found.client.ref == ("companies", company.id)

    async def test_many_who_ask_for_the_same_ask_once_and_one_who_gives_up_takes_nobody_along(
        self, sandbox: Sandbox, client: KommoClient, desk: Desk
    ) -> None:
        await created(client, contact())
        desk.asked()
        sandbox.faults.add(Fault(effect="slow", seconds=0.2))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await desk.book.find(PHONE)
        answers = await asyncio.gather(*(desk.book.find(PHONE) for _ in range(5)))
        assert all(answer == answers[0] is not None for answer in answers)
        assert desk.asked() == 1

    async def test_a_failure_is_told_to_all_who_wait_and_remembered_by_none(
        self, sandbox: Sandbox, client: KommoClient, desk: Desk
    ) -> None:
        await created(client, contact())
        sandbox.faults.add(Fault(effect="status", status=500, count=3))
        answers = await asyncio.gather(*(desk.book.find(PHONE) for _ in range(2)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [KommoFault, KommoFault]
        assert await desk.book.find(PHONE) is not None

    @pytest.mark.parametrize("phone", ["", "anonymous"])
    async def test_who_hides_his_number_is_nobody(self, desk: Desk, phone: str) -> None:
        assert desk.book.recall(phone) is None
        assert await desk.book.find(phone) is None
        assert await desk.book.confirm(phone) is None
        assert desk.book.learn(phone, Client("contacts", 1, "", 0, ())) is None
        assert desk.asked() == 0


def _with_phone(phone: str) -> dict[str, Any]:
    return {"name": "Company", "fields": (records.FieldValue(seed.PHONE.id, (records.Value(phone),)),)}


class TestConfirming:
    async def test_with_open_leads_and_not_twice_in_a_minute(self, client: KommoClient, desk: Desk) -> None:
        [ann] = await created(client, contact())
        lead, _ = await lead_of(client, ann), await lead_of(client, ann, status_id=142)
        await desk.book.find(PHONE)
        desk.asked()
        found = await desk.book.confirm(PHONE)
        assert found is not None
        assert found.client.leads == (OpenLead(lead, "L", 7001, 70011, 9100001),)
        assert desk.asked() == 3  # the contact, its leads, and once the stages of incoming leads
        desk.seconds += FRESH - 1
        assert await desk.book.confirm(PHONE) == found
        assert desk.asked() == 0
        desk.seconds += 1
        renewed = await desk.book.confirm(PHONE)
        assert renewed is not None
        assert (renewed.clients, renewed.told_at) == (found.clients, desk.seconds)
        assert desk.asked() == 2

    async def test_hundreds_at_once_by_few_requests(self, client: KommoClient, desk: Desk) -> None:
        phones = [f"+1202555{number:04}" for number in range(300)]
        await created(client, *(contact(phone) for phone in phones))
        async for _ in desk.book.sync():
            pass
        desk.asked()
        found = await asyncio.gather(*(desk.book.confirm(phone) for phone in phones))
        assert all(one is not None and one.client.leads == () for one in found)
        assert desk.asked() == 2

    async def test_what_is_not_remembered_is_asked_for_whole(self, client: KommoClient, desk: Desk) -> None:
        [ann] = await created(client, contact())
        lead = await lead_of(client, ann)
        found = await desk.book.confirm(PHONE)
        assert found is not None
        assert [one.id for one in found.client.leads or ()] == [lead]
        assert await desk.book.confirm(OTHER) is None

    @pytest.mark.parametrize("filters", ["honoured", "ignored_on_cards"])
    async def test_who_was_deleted_or_merged_is_noticed(
        self, sandbox: Sandbox, client: KommoClient, desk: Desk, filters: Any
    ) -> None:
        sandbox.switches.filters = filters
        await client.account()
        ann, bob = await created(client, contact(), contact(OTHER))
        assert await desk.book.confirm(PHONE) is not None
        await change_phone(client, bob, PHONE)
        sandbox.account.delete_card(Kind.CONTACTS, ann)
        desk.seconds += FRESH
        found = await desk.book.confirm(PHONE)
        assert found is not None
        assert [one.id for one in found.clients] == [bob]
        sandbox.account.delete_card(Kind.CONTACTS, bob)
        desk.seconds += FRESH
        assert await desk.book.confirm(PHONE) is None
        assert desk.book.recall(PHONE) is None

    async def test_a_number_that_moved_to_another_is_noticed(self, client: KommoClient, desk: Desk) -> None:
        ann, bob = await created(client, contact(), contact(OTHER))
        await desk.book.confirm(PHONE)
        await change_phone(client, ann, "+12025550145")
        await change_phone(client, bob, PHONE)
        desk.seconds += FRESH
        found = await desk.book.confirm(PHONE)
        assert found is not None
        assert found.client.id == bob

    async def test_companies_too(self, sandbox: Sandbox, desk: Desk) -> None:
        company = sandbox.account.add_card(Kind.COMPANIES, _with_phone(PHONE), by=9100001)
        await desk.book.find(PHONE)
        desk.seconds += FRESH
        found = await desk.book.confirm(PHONE)
        assert found is not None
        assert found.client.ref == ("companies", company.id)
        assert found.client.leads == ()


class TestLearning:
    async def test_who_was_just_created_is_known_while_kommos_search_is_not(
        self, sandbox: Sandbox, client: KommoClient, desk: Desk
    ) -> None:
        sandbox.switches.search_delay_s = 30
        assert await desk.book.search(PHONE) is None
        [ann] = await created(client, contact())
        desk.book.learn(PHONE, Client("contacts", ann, "Ann", 9100001, (PHONE,)))
        lead = await lead_of(client, ann)
        desk.book.learn_lead("contacts", ann, OpenLead(lead, "L", 7001, 70011, 9100001))
        desk.asked()
        found = await desk.book.confirm(PHONE)
        assert found is not None
        assert (found.client.id, [one.id for one in found.client.leads or ()]) == (ann, [lead])
        assert desk.asked() == 0
        desk.seconds += FRESH
        assert await desk.book.confirm(PHONE) is not None

    async def test_the_forgotten_are_asked_for(self, client: KommoClient, desk: Desk) -> None:
        [ann] = await created(client, contact())
        await desk.book.find(PHONE)
        desk.book.forget("contacts", ann)
        desk.book.forget("contacts", 1)
        assert desk.book.recall(PHONE) is None

    async def test_webhooks_refresh_it(self, client: KommoClient, desk: Desk) -> None:
        [ann] = await created(client, contact())
        lead = await lead_of(client, ann)
        await desk.book.confirm(PHONE)
        desk.book.apply([ClientTold("contacts", ann, "Ann", 9100003, (PHONE,)), LeadGone(lead)])
        found = desk.book.recall(PHONE)
        assert found is not None
        assert (found.client.name, found.client.responsible_id, found.client.leads) == ("Ann", 9100003, ())
        desk.book.apply([ClientGone("contacts", ann)])
        assert desk.book.recall(PHONE) is None

    async def test_recent_callers_are_looked_up_in_advance_when_nobody_else_needs_kommo(
        self, sandbox: Sandbox, client: KommoClient, desk: Desk
    ) -> None:
        await created(client, contact(), contact(OTHER))
        await desk.book.find(OTHER)
        desk.asked()
        await desk.book.warm([OTHER, PHONE, "+12025550199"])
        assert desk.asked() == 3  # who is unknown is looked for among the companies, too
        assert desk.book.recall(PHONE) is not None
        sandbox.faults.add(Fault(effect="status", status=402))
        await desk.book.warm(["+12025550198", "+12025550197"])
        assert desk.asked() == 1


class TestSync:
    async def test_the_whole_account_page_by_page(self, sandbox: Sandbox, client: KommoClient, desk: Desk) -> None:
        made = await created(client, *(contact(f"+1202555{number:04}") for number in range(260)))
        ids(await client.update_contacts([{"id": made[0], **contact("+12025550000, +12025559999")}]))
        sandbox.account.add_card(Kind.COMPANIES, _with_phone("+12025558888"), by=9100001)
        progress = [(one.noun, one.read, one.phones, one.is_full) async for one in desk.book.sync()]
        assert progress == [
            ("contacts", 250, 251, False),
            ("contacts", 260, 261, False),
            ("companies", 1, 262, False),
        ]
        both = [desk.book.recall(phone) for phone in ("+12025550000", "+12025559999")]
        assert {one.client.id for one in both if one} == {made[0]}

    async def test_what_is_remembered_already_stays_and_is_refreshed(
        self, sandbox: Sandbox, client: KommoClient, database: Database
    ) -> None:
        desk = Desk(sandbox, client, database, most=3)
        made = await created(client, *(contact(f"+1202555000{number}") for number in range(5)))
        lead = await lead_of(client, made[4])
        await desk.book.confirm("+12025550004")
        ids(await client.update_contacts([{"id": made[4], "name": "Eve"}]))
        progress = [one async for one in desk.book.sync()]
        assert [(one.phones, one.is_full) for one in progress] == [(3, True), (3, False)]
        found = desk.book.recall("+12025550004")
        assert found is not None
        assert (found.client.name, [one.id for one in found.client.leads or ()]) == ("Eve", [lead])


class TestKeeping:
    async def test_it_survives_a_restart(
        self, sandbox: Sandbox, client: KommoClient, database: Database, desk: Desk
    ) -> None:
        [ann] = await created(client, contact())
        lead = await lead_of(client, ann)
        before = await desk.book.confirm(PHONE)
        await desk.book.flush()
        restarted = Desk(sandbox, client, database)
        await restarted.book.load()
        assert restarted.book.recall(PHONE) == before
        assert before is not None
        assert [one.id for one in before.client.leads or ()] == [lead]
        restarted.book.forget("contacts", ann)
        await restarted.book.flush()
        again = Desk(sandbox, client, database)
        await again.book.load()
        assert len(again.book) == 0

    async def test_the_longest_unused_make_room_here_and_in_the_database(
        self, sandbox: Sandbox, client: KommoClient, database: Database
    ) -> None:
        desk = Desk(sandbox, client, database, most=3)
        phones = [f"+1202555000{number}" for number in range(5)]
        for number, phone in enumerate(phones[:3]):
            desk.seconds += 1
            desk.book.learn(phone, Client("contacts", number, "", 0, (phone,)))
        desk.seconds += 7200
        desk.book.recall(phones[0])
        desk.seconds += 1
        desk.book.learn(phones[3], Client("contacts", 3, "", 0, (phones[3],)))
        await desk.book.flush()
        assert [desk.book.recall(phone) is not None for phone in phones] == [True, False, True, True, False]
        smaller = Desk(sandbox, client, database, most=2)
        await smaller.book.load()
        assert [smaller.book.recall(phone) is not None for phone in phones] == [True, False, False, True, False]
        larger = Desk(sandbox, client, database, most=9)
        await larger.book.load()
        assert len(larger.book) == 2

    async def test_it_is_kept_beside_the_work_and_tried_again(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("itgrix_kommo.kommo.phonebook.GATHER", 0.01)
        monkeypatch.setattr("itgrix_kommo.kommo.phonebook.AGAIN", 0.01)
        rows = desk.book._store
        has_failed, is_saved = asyncio.Event(), asyncio.Event()

        async def save(*given: Any) -> None:
            if not has_failed.is_set():
                has_failed.set()
                raise StorageError("disk full")
            await PhonebookRows.save(rows, *given)  # type: ignore[arg-type]  # the rows it was made with
            is_saved.set()

        monkeypatch.setattr(rows, "save", save)
        task = asyncio.create_task(desk.book.run())
        try:
            desk.book.learn(PHONE, Client("contacts", 5501, "Ann", 0, (PHONE,)))
            async with asyncio.timeout(5):
                await is_saved.wait()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert has_failed.is_set()
        assert [listing.client.id for listing, _ in await rows.load(10)] == [5501]

    async def test_a_row_that_can_not_be_read_is_let_go(self, database: Database, desk: Desk) -> None:
        desk.book.learn(PHONE, Client("contacts", 5501, "Ann", 0, (PHONE,)))
        await desk.book.flush()
        odd: list[Any] = [{}, {"phone": "b", "clients": [], "told_at": 1}, [], "x"]
        rows = [{"phone": name, "listing": one, "used_at": 1.0} for name, one in zip("abcd", odd, strict=True)]
        await database.write(lambda connection: connection.execute(sa.insert(phonebook), rows))
        await desk.book.load()
        assert len(desk.book) == 1
        count = sa.select(sa.func.count()).select_from(phonebook)
        assert await database.read(lambda connection: connection.execute(count).scalar()) == 1


async def test_a_caller_who_stays_on_the_line_waits_for_no_backfill(
    sandbox: Sandbox, client: KommoClient, desk: Desk
) -> None:
    """The same phone is being looked up for history: the live question goes its own way, before it."""
    await created(client, contact())
    history = asyncio.create_task(desk.book.search(PHONE, with_leads=False, priority=Priority.BACKFILL))
    found = await desk.book.find(PHONE)
    assert found == await history
    assert len(sandbox.audit.asked("GET", "/api/v4/contacts")) == 2
