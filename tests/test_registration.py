"""One ended call on its way into Kommo: what it becomes, and that it becomes so once whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from itgrix_kommo.calls.call import Call
from itgrix_kommo.errors import KommoError, KommoRejected
from itgrix_kommo.kommo.batches import Added
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Limiter, Priority
from itgrix_kommo.kommo.transport import LongLivedToken, Transport
from itgrix_kommo.pipeline import registration
from itgrix_kommo.pipeline.intake import CALL, HIDDEN, registration_of
from itgrix_kommo.pipeline.registration import NO_ENTITY, Progress, Rules, Settling, Steps
from itgrix_kommo.sandbox import Fault, Sandbox, SandboxOptions
from tests.story import ANN, BORIS, ended, inbound, internal, outbound, plan

RULES = Rules(
    phone_field_id=801,
    create_contacts=True,
    default_user_id=None,
    missed_responsible="entity",
    tags=("Itgrix",),
    language="en",
)
CLIENT = "+79990000001"


class Desk:
    """A sandbox account with our client before it, and the row of one registration."""

    def __init__(self, sandbox: Sandbox, transport: Transport) -> None:
        self.sandbox = sandbox
        self.transport = transport
        self.client = KommoClient(transport)
        self.row: dict[str, Any] = {}
        self.now = 1_795_400_000.0

    def steps(self, call: Call, rules: Rules = RULES, phone: str = CLIENT) -> Steps:
        async def save(progress: dict[str, Any]) -> None:
            self.row = progress

        progress = Progress.model_validate(self.row)
        return Steps(call, phone, progress, client=self.client, rules=rules, save=save, now=lambda: self.now)

    async def register(self, call: Call, rules: Rules = RULES) -> str:
        return await self.steps(call, rules).walk()


@asynccontextmanager
async def a_desk(**switches: Any) -> AsyncIterator[Desk]:
    sandbox = Sandbox(SandboxOptions())
    sandbox.account.switches.requests_per_second = 1000
    for name, value in switches.items():
        setattr(sandbox.account.switches, name, value)
    async with (
        sandbox.serve(port=0) as served,
        Transport(served.url, LongLivedToken("sandbox-token"), Limiter(7), timeout_s=2) as transport,
    ):
        yield Desk(served, transport)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with a_desk() as opened:
        yield opened


async def add_client(desk: Desk, phone: str = CLIENT, user: int = BORIS) -> int:
    body = {
        "name": "Ivan",
        "responsible_user_id": user,
        "custom_fields_values": [{"field_id": 801, "values": [{"value": phone, "enum_code": "WORK"}]}],
    }
    (added,) = await desk.client.create_contacts([body])
    assert isinstance(added, Added)
    return added.id


class TestWhatItBecomes:
    async def test_an_unknown_client_becomes_a_contact_with_the_call_on_his_card(self, desk: Desk) -> None:
        await desk.register(ended(inbound()))
        (contact,) = desk.sandbox.account.contacts.values()
        (note,) = desk.sandbox.account.calls
        assert contact.name == f"Contact {CLIENT}"
        assert contact.responsible_user_id == ANN
        assert (note.note_type, note.entity_id) == ("call_in", contact.id)
        assert note.params == {
            "uniq": "1795355557.1",
            "duration": 30,
            "source": "itgrix_amo",
            "phone": CLIENT,
            "call_result": "Talked",
            "call_status": 4,
            "call_responsible": ANN,
        }
        assert (note.created_by, note.responsible_user_id) == (ANN, ANN)

    async def test_a_known_client_gets_the_call_by_kommos_own_matching(self, desk: Desk) -> None:
        contact_id = await add_client(desk, "8 (999) 000-00-01")
        await desk.register(ended(inbound()))
        posted = [one.path for one in desk.sandbox.audit.requests if one.method == "POST"]
        assert posted == ["/api/v4/contacts", "/api/v4/calls"]
        (note,) = desk.sandbox.account.calls
        assert note.entity_id == contact_id
        assert desk.row["call"] == {"note_id": note.id, "entity_type": "contacts", "entity_id": contact_id}

    async def test_of_two_contacts_with_one_number_the_oldest_gets_it(self, desk: Desk) -> None:
        oldest = await add_client(desk)
        await add_client(desk)
        await desk.register(ended(inbound()))
        assert [note.entity_id for note in desk.sandbox.account.calls] == [oldest]

    async def test_a_missed_call_goes_to_the_entitys_responsible(self, desk: Desk) -> None:
        await add_client(desk, user=BORIS)
        await desk.register(ended(inbound(answered=False)))
        (note,) = desk.sandbox.account.calls
        assert (note.responsible_user_id, note.params["call_status"], note.params["duration"]) == (BORIS, 6, 0)

    @pytest.mark.parametrize(
        ("setting", "default", "expected"), [("rung", None, ANN), ("default", BORIS, BORIS), ("default", None, 0)]
    )
    async def test_a_missed_call_goes_where_the_setting_says(
        self, desk: Desk, setting: Any, default: int | None, expected: int
    ) -> None:
        await add_client(desk, user=BORIS)
        rules = replace(RULES, missed_responsible=setting, default_user_id=default)
        await desk.register(ended(inbound(answered=False)), rules)
        (note,) = desk.sandbox.account.calls
        assert note.created_by == expected
        assert note.params.get("call_responsible") == (expected or None)

    async def test_an_unanswered_outbound_call_stays_with_who_dialled(self, desk: Desk) -> None:
        await add_client(desk, user=BORIS)
        await desk.register(ended(outbound()))
        (note,) = desk.sandbox.account.calls
        assert (note.note_type, note.responsible_user_id, note.params["call_status"]) == ("call_out", ANN, 7)

    async def test_without_permission_to_create_the_call_is_skipped_and_says_why(self, desk: Desk) -> None:
        assert await desk.register(ended(inbound()), replace(RULES, create_contacts=False)) == NO_ENTITY
        assert not desk.sandbox.account.contacts
        assert not desk.sandbox.account.calls


LOST_ANSWERS = [
    Fault(effect="disconnect", method="POST", path="/api/v4/contacts", committed=True),
    Fault(effect="disconnect", method="POST", path="/api/v4/contacts", committed=False),
    Fault(effect="truncated", method="POST", path="/api/v4/contacts", committed=True),
    Fault(effect="disconnect", method="POST", path="/api/v4/contacts/notes", committed=True),
    Fault(effect="disconnect", method="POST", path="/api/v4/contacts/notes", committed=False),
    Fault(effect="status", status=500, method="POST", path="/api/v4/contacts/notes", committed=True),
]


class TestOnce:
    @pytest.mark.parametrize("fault", LOST_ANSWERS, ids=lambda fault: f"{fault.path} {fault.effect} {fault.committed}")
    async def test_a_lost_answer_makes_nothing_twice(self, fault: Fault) -> None:
        async with a_desk(search_delay_s=0.5) as desk:
            desk.sandbox.faults.add(fault)
            call = ended(inbound())
            with pytest.raises(KommoError) as lost:
                await desk.register(call)
            assert lost.value.may_have_happened
            assert desk.row["writing"] is not None
            await self.finish(desk, call)
            assert len(desk.sandbox.account.contacts) == 1
            assert len(desk.sandbox.account.calls) == 1

    @pytest.mark.parametrize("committed", [True, False])
    async def test_a_lost_answer_of_calls_is_found_on_the_lead_where_kommo_put_it(self, committed: bool) -> None:  # noqa: FBT001
        async with a_desk() as desk:
            contact_id = await add_client(desk)
            lead = {"name": "Deal", "_embedded": {"contacts": [{"id": contact_id}]}}
            await desk.transport.request("POST", "/api/v4/leads", body=[lead], priority=Priority.REGISTRATION)
            fault = Fault(effect="disconnect", method="POST", path="/api/v4/calls", committed=committed)
            desk.sandbox.faults.add(fault)
            call = ended(inbound())
            with pytest.raises(KommoError):
                await desk.register(call)
            await self.finish(desk, call)
            (note,) = desk.sandbox.account.calls
            assert desk.row["call"]["note_id"] == note.id

    async def test_a_crash_before_every_request_and_after_every_answer_makes_nothing_twice(self) -> None:
        """The process dies at its n-th durable step, for every n; what it had asked for may be half done."""
        call = ended(inbound())
        for moment in range(12):
            async with a_desk() as desk:
                steps = desk.steps(call)
                steps._save_row = dying_at(moment, steps._save_row)
                try:
                    await steps.walk()
                except Crash:
                    desk.now += registration.SETTLE
                    await desk.register(call)
                assert len(desk.sandbox.account.contacts) == 1, moment
                assert len(desk.sandbox.account.calls) == 1, moment

    async def test_it_waits_until_kommo_can_show_what_may_have_been_written(self, desk: Desk) -> None:
        desk.sandbox.faults.add(Fault(effect="disconnect", method="POST", path="/api/v4/contacts", committed=False))
        call = ended(inbound())
        with pytest.raises(KommoError):
            await desk.register(call)
        with pytest.raises(Settling) as waits:
            await desk.register(call)
        assert waits.value.until == desk.now + registration.SETTLE

    async def test_a_refusal_is_told_in_the_servers_words(self, desk: Desk) -> None:
        call = ended(inbound(answered=False))
        with pytest.raises(KommoRejected, match="responsible_user_id"):
            await desk.register(call, replace(RULES, default_user_id=1, missed_responsible="default"))
        assert desk.row["writing"] is None

    @staticmethod
    async def finish(desk: Desk, call: Call) -> None:
        await asyncio.sleep(0.6)  # the sandbox's search index, 0.5 s late, works by the clock on the wall
        desk.now += registration.SETTLE
        assert await desk.register(call) == ""


class Crash(Exception):
    pass


def dying_at(
    moment: int, save: Callable[[dict[str, Any]], Awaitable[None]]
) -> Callable[[dict[str, Any]], Awaitable[None]]:
    """Die at the n-th save: for even moments before the row is written, for odd ones right after."""
    count = 0

    async def saving(progress: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if count == moment // 2 + 1:
            if moment % 2:
                await save(progress)
            raise Crash
        await save(progress)

    return saving


class TestIntake:
    def test_only_calls_with_clients_become_rows(self) -> None:
        new = registration_of(ended(inbound("89990000001")), plan())
        assert new is not None
        assert (new.client, new.state) == (CLIENT, "waiting")
        assert CALL.validate_python(new.call) == ended(inbound("89990000001"))

    def test_a_hidden_number_is_kept_as_skipped_with_the_reason(self) -> None:
        new = registration_of(ended(inbound("anonymous")), plan())
        assert new is not None
        assert (new.state, new.reason) == ("skipped", HIDDEN)

    def test_a_call_between_colleagues_is_no_business_of_the_crm(self) -> None:
        assert registration_of(ended(internal()), plan()) is None
