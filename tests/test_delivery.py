"""The delivery: every kept call reaches Kommo once, whatever Kommo does meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.config import Business, Customizations
from itgrix_kommo.customizations import Customizer
from itgrix_kommo.errors import (
    KommoForbidden,
    KommoRejected,
    KommoUnauthorized,
    KommoUnreachable,
    StorageError,
    StorageRefused,
)
from itgrix_kommo.kommo.checks import Report, Wanted
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.listings import Client
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.kommo.retry import Backoff
from itgrix_kommo.kommo.transport import LongLivedToken, Transport
from itgrix_kommo.pipeline import delivery
from itgrix_kommo.pipeline.clients import Clients
from itgrix_kommo.pipeline.delivery import Delivery
from itgrix_kommo.pipeline.gate import Gate
from itgrix_kommo.pipeline.intake import early_registration_of, registration_of
from itgrix_kommo.pipeline.progress import Progress
from itgrix_kommo.pipeline.registration import sheet as sheets
from itgrix_kommo.pipeline.registration.desk import Settling
from itgrix_kommo.pipeline.registration.sheet import Sheet
from itgrix_kommo.pipeline.registration.walk import walk
from itgrix_kommo.pipeline.rules import Rules
from itgrix_kommo.sandbox import Fault, Sandbox, SandboxOptions
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.phonebook import PhonebookRows
from itgrix_kommo.storage.registrations import Line, Registration, Registrations, State
from tests.recorder import Recorder
from tests.story import T0, ended, inbound, plan, stages

WITHIN = 10.0


def rules_of(report: Report) -> Rules:
    assert report.phone_field_id is not None
    assert report.pipeline_id is not None
    assert report.status_id is not None
    business = Business(create_leads="never")
    return Rules(business, "en", report.phone_field_id, report.pipeline_id, report.status_id)


class Office:
    """A delivery at work between a database and a sandbox account."""

    def __init__(self, sandbox: Sandbox, database: Database, client: KommoClient) -> None:
        registrations = Registrations(database, "pbx1")
        self.sandbox = sandbox
        self.registrations = registrations
        self.phonebook = Phonebook(client, PhonebookRows(database))
        self.gate = Gate(client, Wanted(), rules_of, shut_pauses=(0.05,))
        self.delivery = Delivery(
            registrations,
            client,
            Clients(self.phonebook),
            Customizer(Customizations(enabled=False)),
            Recorder(),
            self.gate,
            phone_of=str,
            backoff=Backoff(attempts=None, first=0.01, ceiling=0.05),
        )
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        self._tasks = [asyncio.create_task(self.gate.run()), asyncio.create_task(self.delivery.run())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for ended_task in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(ended_task, asyncio.CancelledError), ended_task

    async def keep(self, number: int = 1, client: str = "+79990000001", *, recording: str = "") -> int:
        """An ended call of this client becomes a row; calls are told apart by their `number`."""
        told = inbound(client, linkedid=f"1795355557.{number * 10}", recording=recording)
        new = registration_of(ended(told), plan())
        assert new is not None
        row = await self.registrations.keep(new)
        assert row is not None
        self.delivery.nudge()
        return row

    async def until(self, row: int, condition: Callable[[Registration], object]) -> Registration:
        async with asyncio.timeout(WITHIN):
            while True:
                found = await self.registrations.get(row)
                assert found is not None
                if condition(found):
                    return found
                await asyncio.sleep(0.01)

    async def reaches(self, row: int, state: State) -> Registration:
        return await self.until(row, lambda found: found.state is state)


@asynccontextmanager
async def an_office(directory: Path, **switches: Any) -> AsyncIterator[Office]:
    sandbox = Sandbox(SandboxOptions())
    sandbox.account.switches.requests_per_second = 1000
    for name, value in switches.items():
        setattr(sandbox.account.switches, name, value)
    database = await Database.open(f"sqlite+aiosqlite:///{directory}/itgrix.db")
    try:
        async with (
            sandbox.serve(port=0) as served,
            Transport(served.url, LongLivedToken("sandbox-token"), Limiter(7), timeout_s=2) as transport,
        ):
            made = Office(served, database, KommoClient(transport))
            yield made
            await made.close()
    finally:
        await database.close()


@pytest.fixture
async def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    monkeypatch.setattr(sheets, "SETTLE", 0.05)
    monkeypatch.setattr(delivery, "TOGETHER", 0.01)
    async with an_office(tmp_path) as made:
        made.open()
        yield made


class TestDelivering:
    async def test_what_is_kept_arrives(self, office: Office) -> None:
        row = await office.keep()
        done = await office.reaches(row, State.DONE)
        (note,) = office.sandbox.account.calls
        assert done.progress["call"]["id"] == note.id

    async def test_what_was_kept_before_the_start_arrives(self, tmp_path: Path) -> None:
        async with an_office(tmp_path) as office:
            row = await office.keep()
            office.open()
            await office.reaches(row, State.DONE)

    async def test_a_call_of_another_node_is_written_without_its_recording(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another node has worked for the client since: what is remembered of him is not trusted."""
        first = await office.reaches(await office.keep(), State.DONE)
        del office.sandbox.account.contacts[first.progress["entity"]["id"]]
        in_line = office.registrations.in_line

        async def of_another_node(*given: Any, **more: Any) -> Line:
            line = await in_line(*given, **more)
            return Line([dataclasses.replace(one, node="pbx2", is_elsewhere=True) for one in line.due], line.next_at)

        monkeypatch.setattr(office.registrations, "in_line", of_another_node)
        second = await office.reaches(await office.keep(2, recording="/var/spool/2.wav"), State.DONE)
        assert second.progress["entity"]["id"] != first.progress["entity"]["id"]
        assert second.progress["link_is_due"]
        assert "link" not in second.progress["steps"]

    async def test_who_is_alone_does_not_trust_what_he_remembers(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another node may have worked for the client since, and can't tell him."""
        first = await office.reaches(await office.keep(), State.DONE)
        del office.sandbox.account.contacts[first.progress["entity"]["id"]]
        monkeypatch.setattr(office.delivery, "_is_alone", True)
        second = await office.reaches(await office.keep(2), State.DONE)
        assert second.progress["entity"]["id"] != first.progress["entity"]["id"]

    async def test_what_was_postponed_is_taken_up_in_its_time(self, tmp_path: Path) -> None:
        async with an_office(tmp_path) as office:
            row = await office.keep()
            await office.registrations.postpone(row, due_at=time.time() + 1.0, reason="later")
            office.open()
            await office.reaches(row, State.DONE)

    async def test_two_calls_of_one_client_make_one_contact(self, office: Office) -> None:
        rows = [await office.keep(number) for number in (1, 2, 3)]
        for row in rows:
            await office.reaches(row, State.DONE)
        assert len(office.sandbox.account.contacts) == 1
        assert [note.params["uniq"] for note in office.sandbox.account.calls] == [
            "1795355557.10",
            "1795355557.20",
            "1795355557.30",
        ]

    async def test_many_clients_are_served_side_by_side_but_not_all_at_once(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "AT_ONCE", 2)
        monkeypatch.setattr(delivery, "REFILL", 1)
        under_way, most = 0, 0

        async def counted(sheet: Sheet) -> str:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await walk(sheet)
            finally:
                under_way -= 1

        monkeypatch.setattr(delivery, "walk", counted)
        rows = [await office.keep(number, f"+7999000000{number}") for number in range(1, 6)]
        for row in rows:
            await office.reaches(row, State.DONE)
        assert most == 2


class TestHistory:
    async def test_a_call_of_the_past_knows_that_its_client_was_reached_since(self, office: Office) -> None:
        for story in (inbound(at=T0 + 3600, linkedid="1795359157.1"), inbound(answered=False)):
            new = registration_of(ended(story), plan())
            assert new is not None
            await office.registrations.keep(new)
        (missed, _) = await office.registrations.latest(2)
        past = delivery.ClientsHistory(office.registrations, missed)
        assert await past.reached_after(T0 + 60)
        assert not await past.reached_after(T0 + 3600)

    async def test_a_task_is_closed_once_the_client_was_reached(self, office: Office) -> None:
        missed = registration_of(ended(inbound(answered=False)), plan())
        assert missed is not None
        row = await office.registrations.keep(missed)
        assert row is not None
        office.delivery.nudge()
        await office.reaches(row, State.DONE)
        (task,) = office.sandbox.account.tasks.values()
        assert not task.is_completed
        await office.reaches(await office.keep(2), State.DONE)
        (task,) = office.sandbox.account.tasks.values()
        assert task.is_completed
        closed = await office.registrations.get(row)
        assert closed is not None
        assert closed.progress["task_closed"]

    async def test_an_early_row_makes_the_contact_alone(self, office: Office) -> None:
        ringing = stages(inbound())[0]
        early = early_registration_of(ringing, plan(), "ringing")
        assert early is not None
        row = await office.registrations.keep(early)
        assert row is not None
        office.delivery.nudge()
        await office.reaches(row, State.DONE)
        assert (len(office.sandbox.account.contacts), len(office.sandbox.account.calls)) == (1, 0)


class TestTrouble:
    @pytest.mark.parametrize("status", [500, 502, 504])
    async def test_a_fault_of_kommo_is_tried_again(self, office: Office, status: int) -> None:
        fault = Fault(effect="status", status=status, method="POST", path="/api/v4/contacts*", count=2)
        office.sandbox.faults.add(fault)
        row = await office.keep()
        done = await office.reaches(row, State.DONE)
        assert done.attempts >= 1
        assert len(office.sandbox.account.contacts) == len(office.sandbox.account.calls) == 1

    async def test_what_was_begun_before_is_not_believed_to_be_known(self, office: Office) -> None:
        """Who made the lead died before he could tell the phonebook of it."""
        await office.close()
        office.gate._rules_of = lambda report: dataclasses.replace(rules_of(report), business=Business())
        office.open()
        made = await office.reaches(await office.keep(1), State.DONE)
        await office.close()
        begun = Progress.model_validate(made.progress).model_copy(update={"call": None, "steps": ["wanted", "lead"]})
        assert begun.entity is not None
        second = await office.keep(2)
        await office.registrations.save_progress(second, begun.model_dump(mode="json"))
        phone = "+79990000001"
        office.phonebook.learn(phone, Client(begun.entity.type, begun.entity.id, "", 0, (phone,), leads=()))
        third = await office.keep(3)
        office.open()
        await office.reaches(second, State.DONE)
        await office.reaches(third, State.DONE)
        assert len(office.sandbox.account.leads) == 1

    async def test_a_lost_answer_waits_until_it_can_be_looked_for(self, office: Office) -> None:
        office.sandbox.faults.add(Fault(effect="disconnect", method="POST", path="*/contacts", committed=True))
        row = await office.keep()
        await office.reaches(row, State.DONE)
        assert len(office.sandbox.account.contacts) == 1

    async def test_a_refusal_is_parked_in_the_servers_words_and_followers_pass(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def refused(sheet: Sheet) -> str:
            if sheet.call.id.endswith(".10"):
                raise KommoRejected("Kommo refused it: FieldMissing", status=400)
            return await walk(sheet)

        monkeypatch.setattr(delivery, "walk", refused)
        first, second = await office.keep(1), await office.keep(2)
        assert (await office.reaches(first, State.FAILED)).reason == "Kommo refused it: FieldMissing"
        await office.reaches(second, State.DONE)

    async def test_a_missing_right_parks_the_call(self, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(delivery, "walk", raising(KommoForbidden("no right to add contacts", status=403)))
        row = await office.keep()
        assert "no right" in (await office.reaches(row, State.FAILED)).reason

    async def test_a_wrong_token_stops_everything_until_it_is_mended(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusals = iter([KommoUnauthorized("the token has expired", status=401)])

        async def once(sheet: Sheet) -> str:
            for error in refusals:
                raise error
            return await walk(sheet)

        monkeypatch.setattr(delivery, "walk", once)
        row = await office.keep()
        found = await office.until(row, lambda found: found.attempts)
        assert (found.state, found.reason) == (State.WAITING, "the token has expired")
        await office.reaches(row, State.DONE)

    async def test_a_fault_of_ours_in_one_call_does_not_stop_the_others(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(sheet: Sheet) -> str:
            if sheet.call.id.endswith(".10"):
                raise ZeroDivisionError
            return await walk(sheet)

        monkeypatch.setattr(delivery, "walk", broken)
        first, second = await office.keep(1, "+79990000001"), await office.keep(2, "+79990000002")
        await office.reaches(second, State.DONE)
        found = await office.until(first, lambda found: found.attempts)
        assert "ZeroDivisionError" in found.reason
        parked = await office.reaches(first, State.FAILED)
        assert (parked.attempts, "report this" in parked.reason) == (delivery.BROKEN_AFTER, True)

    async def test_a_database_that_fails_holds_the_call_back_and_nothing_else(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "SAVE_AGAIN", 0.05)
        full = StorageError("database or disk is full")
        save, in_line = office.registrations.save_progress, office.registrations.in_line
        failures = {"save": 3, "due": 1}

        async def saving(number: int, progress: dict[str, Any]) -> None:
            failures["save"] -= 1
            if failures["save"] >= 0:
                raise full
            await save(number, progress)

        async def looking(now: float, *, limit: int, busy: Sequence[str] = ()) -> Line:
            failures["due"] -= 1
            if failures["due"] >= 0:
                raise full
            return await in_line(now, limit=limit, busy=busy)

        monkeypatch.setattr(office.registrations, "save_progress", saving)
        monkeypatch.setattr(office.registrations, "in_line", looking)
        with capture_logs() as logs:
            found = await office.reaches(await office.keep(), State.DONE)
        assert found.attempts == 0
        told = [line["event"] for line in logs if line["log_level"] == "error"]
        assert sorted(told) == ["registration_not_saved"] * 3 + ["registrations_not_read"]

    async def test_what_the_database_can_not_hold_is_parked_and_followers_pass(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save = office.registrations.save_progress

        async def saving(number: int, progress: dict[str, Any]) -> None:
            if number == first:
                raise StorageRefused("the shared database can't hold it: value too long")
            await save(number, progress)

        monkeypatch.setattr(office.registrations, "save_progress", saving)
        first = await office.keep(1)
        second = await office.keep(2)
        assert "value too long" in (await office.reaches(first, State.FAILED)).reason
        await office.reaches(second, State.DONE)

    async def test_two_calls_of_a_client_who_waits_do_not_keep_it_awake(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = 0
        in_line = office.registrations.in_line

        async def looking(now: float, *, limit: int, busy: Sequence[str] = ()) -> Line:
            nonlocal looks
            looks += 1
            return await in_line(now, limit=limit, busy=busy)

        async def away(_: Sheet) -> str:
            raise Settling(time.time() + 60)

        monkeypatch.setattr(office.registrations, "in_line", looking)
        monkeypatch.setattr(delivery, "walk", away)
        await office.until(await office.keep(1), lambda found: found.attempts)
        await office.keep(2)
        other = await office.keep(3, "+79990000002")
        await office.until(other, lambda found: found.attempts)
        assert looks < 10

    async def test_what_is_skipped_says_why(self, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
        async def skipping(_: Sheet) -> str:
            return "no entity"

        monkeypatch.setattr(delivery, "walk", skipping)
        row = await office.keep()
        assert (await office.reaches(row, State.SKIPPED)).reason == "no entity"

    async def test_a_client_who_is_to_be_forgotten_is_let_go_in_mid_walk(self, office: Office) -> None:
        office.sandbox.faults.add(Fault(effect="hang", method="POST", path="/api/v4/contacts"))
        row = await office.keep()
        async with asyncio.timeout(WITHIN):
            while office.sandbox.faults.armed:
                await asyncio.sleep(0.01)
        await office.registrations.close(row, State.SKIPPED, reason="erased")
        async with asyncio.timeout(WITHIN):
            await office.delivery.let_go(["+79990000001", "+79990000002"])
        found = await office.registrations.get(row)
        assert found is not None
        assert (found.state, found.reason) == (State.SKIPPED, "erased")
        await office.reaches(await office.keep(2, "+79990000002"), State.DONE)
        assert len(office.sandbox.account.calls) == 1

    async def test_cancelled_in_mid_walk_it_is_taken_up_again(self, tmp_path: Path) -> None:
        async with an_office(tmp_path) as office:
            office.sandbox.faults.add(Fault(effect="hang", method="GET", path="/api/v4/contacts", seconds=5))
            office.open()
            row = await office.keep()
            async with asyncio.timeout(WITHIN):
                while office.sandbox.faults.armed:  # until the search hangs
                    await asyncio.sleep(0.01)
            await office.close()
            assert (await office.reaches(row, State.WAITING)).attempts == 0
            office.open()
            await office.reaches(row, State.DONE)


class TestGate:
    async def test_calls_wait_while_the_account_is_not_as_it_must_be(self, tmp_path: Path) -> None:
        async with an_office(tmp_path, phone_field=False) as office:
            office.open()
            row = await office.keep()
            async with asyncio.timeout(WITHIN):
                while not any("PHONE" in line for line in office.gate.stops()):
                    await asyncio.sleep(0.01)
            assert not office.gate.is_open
            assert (await office.reaches(row, State.WAITING)).attempts == 0
            office.sandbox.account.switches.phone_field = True
            await office.reaches(row, State.DONE)
            assert office.gate.stops() == []

    async def test_it_says_what_a_person_must_do(self, office: Office) -> None:
        async with asyncio.timeout(WITHIN):
            await office.gate.opened()
        office.gate.shut(KommoUnreachable("Kommo is gone"))
        assert office.gate.stops() == ["Kommo: Kommo is gone: registering goes on when this is mended"]
        async with asyncio.timeout(WITHIN):
            await office.gate.opened()


def raising(error: Exception) -> Any:
    async def walk(_: Sheet) -> str:
        raise error

    return walk
