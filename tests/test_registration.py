"""One ended call on its way into Kommo: what it becomes, and that it becomes so once whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from itgrix_kommo.calls.call import Call, StageName
from itgrix_kommo.config import ListEntry, Tasks
from itgrix_kommo.errors import KommoError, KommoRejected
from itgrix_kommo.pipeline.intake import CALL, early_registration_of, registration_of
from itgrix_kommo.pipeline.registration.client import NO_ENTITY
from itgrix_kommo.pipeline.registration.desk import Settling
from itgrix_kommo.pipeline.registration.recording import LOOK_AGAIN, RECORDING_GIVEN_UP
from itgrix_kommo.pipeline.registration.sheet import SETTLE
from itgrix_kommo.pipeline.registration.walk import HIDDEN, UNWANTED, walk_early
from itgrix_kommo.sandbox import Fault
from tests.recorder import LINK
from tests.registering import CLIENT, FIRST_STAGE, SALES, SHOP, Client, Hooks, a_client, counts, rules
from tests.story import ANN, BORIS, T0, ended, inbound, internal, outbound, plan, stages


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with a_client() as made:
        yield made


class TestTheCall:
    async def test_an_unknown_client_becomes_a_contact_with_a_lead_and_the_call_on_it(self, client: Client) -> None:
        assert await client.register(ended(inbound())) == ""
        (contact,), (lead,), (note,) = (
            client.account.contacts.values(),
            client.account.leads.values(),
            client.account.calls,
        )
        assert (contact.name, contact.responsible_user_id) == (f"Contact {CLIENT}", ANN)
        assert (lead.name, lead.pipeline_id, lead.status_id) == (f"{CLIENT} - incoming", SALES, FIRST_STAGE)
        assert (note.note_type, note.entity_id) == ("call_in", lead.id)
        assert note.params == {
            "uniq": "1795355557.1",
            "duration": 30,
            "source": "itgrix_amo",
            "phone": CLIENT,
            "call_result": "Talked",
            "call_status": 4,
            "call_responsible": ANN,
        }
        assert (note.created_by, note.responsible_user_id, note.created_at) == (ANN, ANN, int(T0))

    async def test_a_known_client_gets_the_call_by_kommos_own_matching(self, client: Client) -> None:
        contact_id = await client.add_contact("8 (999) 000-00-01")
        await client.register(ended(inbound()), rules(create_leads="never"))
        assert client.posts() == ["contacts", "calls"]
        (note,) = client.account.calls
        assert client.row["call"] == {"id": note.id, "entity_type": "contacts", "entity_id": contact_id}

    async def test_of_two_contacts_with_one_number_the_oldest_gets_it(self, client: Client) -> None:
        oldest = await client.add_contact()
        await client.add_contact()
        await client.register(ended(inbound()), rules(create_leads="never"))
        assert [note.entity_id for note in client.account.calls] == [oldest]

    async def test_a_company_is_found_where_no_contact_is(self, client: Client) -> None:
        phone = {"field_code": "PHONE", "values": [{"value": CLIENT, "enum_code": "WORK"}]}
        company = await client.add("companies", {"name": "Acme", "custom_fields_values": [phone]})
        await client.register(ended(inbound()), rules(create_leads="never"))
        assert not client.account.contacts
        assert [note.entity_id for note in client.account.calls] == [company]

    async def test_an_unanswered_outbound_call_stays_with_who_dialled(self, client: Client) -> None:
        await client.add_contact(user=BORIS)
        await client.register(ended(outbound()), rules(create_leads="never"))
        (note,) = client.account.calls
        assert (note.note_type, note.responsible_user_id, note.params["call_status"]) == ("call_out", ANN, 7)

    @pytest.mark.parametrize(
        ("setting", "default", "expected"),
        [("entity", None, BORIS), ("rung", None, ANN), ("default", BORIS, BORIS), ("default", None, 0)],
    )
    async def test_a_missed_call_goes_where_the_setting_says(
        self, client: Client, setting: str, default: int | None, expected: int
    ) -> None:
        await client.add_contact(user=BORIS)
        by = rules(create_leads="never", missed_responsible=setting, default_user_id=default)
        await client.register(ended(inbound(answered=False)), by)
        (note,) = client.account.calls
        assert (note.created_by, note.params["duration"]) == (expected, 0)
        assert note.params.get("call_responsible") == (expected or None)

    async def test_texts_are_in_the_configured_language(self, client: Client) -> None:
        await client.register(ended(inbound(answered=False)), rules(language="ru"))
        (note,), (lead,) = client.account.calls, client.account.leads.values()
        assert note.params["call_result"] == "Звонивший положил трубку"
        assert lead.name == f"{CLIENT} - пропущенный входящий"


class TestTheLead:
    async def test_a_client_with_an_open_lead_needs_no_other(self, client: Client) -> None:
        lead_id = await client.add_lead(await client.add_contact())
        await client.register(ended(inbound()))
        assert list(client.account.leads) == [lead_id]
        assert [note.entity_id for note in client.account.calls] == [lead_id]

    async def test_a_closed_lead_is_no_open_one(self, client: Client) -> None:
        closed = await client.add_lead(await client.add_contact(), status_id=143)
        await client.register(ended(inbound()))
        assert len(client.account.leads) == 2
        assert [note.entity_id for note in client.account.calls] != [closed]

    async def test_always_makes_one_for_every_call(self, client: Client) -> None:
        await client.add_lead(await client.add_contact())
        await client.register(ended(inbound()), rules(create_leads="always"))
        assert len(client.account.leads) == 2

    async def test_never_makes_none(self, client: Client) -> None:
        await client.register(ended(inbound()), rules(create_leads="never"))
        assert not client.account.leads

    async def test_a_route_decides_pipeline_tags_and_default_user(self, client: Client) -> None:
        route = {"trunk": "PJSIP/trunk", "pipeline_id": SHOP, "default_user_id": BORIS, "tags": ["Shop"]}
        by = rules(routes=[route], missed_responsible="default")
        await client.register(ended(inbound(answered=False)), by)
        (lead,), (contact,) = client.account.leads.values(), client.account.contacts.values()
        assert (lead.pipeline_id, lead.responsible_user_id, contact.responsible_user_id) == (SHOP, BORIS, BORIS)


class TestUnsorted:
    async def test_an_unknown_callers_call_waits_among_the_incoming_leads(self, client: Client) -> None:
        await client.register(ended(inbound()), rules(unsorted=True))
        (entry,), (note,) = client.account.unsorted.values(), client.account.calls
        assert entry.metadata["uniq"] == "1795355557.1"
        assert (entry.metadata["from"], entry.metadata["phone"]) == (CLIENT, "4957770101")
        assert note.entity_id == client.row["deal"]["id"]
        assert client.row["deal"]["is_unsorted"]

    async def test_his_second_call_goes_to_the_same_entrys_lead(self, client: Client) -> None:
        await client.register(ended(inbound()), rules(unsorted=True))
        await client.register_another(ended(inbound(linkedid="1795355600.1")), rules(unsorted=True))
        assert len(client.account.unsorted) == 1
        assert len({note.entity_id for note in client.account.calls}) == 1

    async def test_an_outbound_call_makes_a_contact_instead(self, client: Client) -> None:
        await client.register(ended(outbound()), rules(unsorted=True))
        assert not client.account.unsorted
        assert len(client.account.contacts) == 1


class TestTasks:
    async def test_a_missed_call_asks_for_a_call_back(self, client: Client) -> None:
        await client.register(ended(inbound(answered=False)))
        (task,), (lead,) = client.account.tasks.values(), client.account.leads.values()
        assert task.text == f"Call back Contact {CLIENT} on a missed call from a number {CLIENT}"
        assert (task.entity_type, task.entity_id, task.task_type_id) == ("leads", lead.id, 1)
        assert task.complete_till == int(T0) + 3 + 15 * 60
        assert not task.is_completed

    async def test_an_answered_one_does_not(self, client: Client) -> None:
        await client.register(ended(inbound()))
        assert not client.account.tasks

    async def test_an_unanswered_outbound_one_does_if_wanted(self, client: Client) -> None:
        await client.register(ended(outbound()))
        assert not client.account.tasks
        await client.register_another(
            ended(outbound(linkedid="1795355600.1")), rules(tasks=Tasks(unanswered_outbound=True))
        )
        (task,) = client.account.tasks.values()
        assert task.text.startswith("Call ")

    async def test_it_is_completed_once_the_client_was_reached(self, client: Client) -> None:
        await client.register(ended(inbound(answered=False)))
        await client.register_another(ended(inbound(linkedid="1795355600.1")))
        (task,) = client.account.tasks.values()
        assert task.is_completed
        assert client.rows[0]["task_closed"]

    async def test_but_not_if_nobody_wants_that(self, client: Client) -> None:
        await client.register(ended(inbound(answered=False)))
        by = rules(tasks=Tasks(complete_on_contact=False))
        await client.register_another(ended(inbound(linkedid="1795355600.1")), by)
        assert not next(iter(client.account.tasks.values())).is_completed

    async def test_a_call_of_long_ago_makes_none(self, client: Client) -> None:
        client.now = T0 + 25 * 3600
        await client.register(ended(inbound(answered=False)))
        assert not client.account.tasks
        assert "too long ago" in client.row["notes"][0]

    async def test_a_client_who_was_reached_since_needs_none(self, client: Client) -> None:
        client.reached_at = T0 + 50
        await client.register(ended(inbound(answered=False)))
        assert not client.account.tasks
        assert "was reached since" in client.row["notes"][0]


class TestTheRecording:
    async def test_its_link_stands_in_the_call(self, client: Client) -> None:
        await client.register(ended(inbound(recording="in-1.wav")))
        (note,) = client.account.calls
        assert note.params["link"] == LINK
        ((named, facts),) = client.recorder.asked
        assert (named, facts.recording_id, facts.client) == ("in-1.wav", "pbx1-1795355557.2", CLIENT)

    async def test_one_that_still_grows_is_linked_later_and_once(self, client: Client) -> None:
        client.recorder.unfinished = 2
        call = ended(inbound(recording="in-1.wav"))
        with pytest.raises(Settling):
            await client.register(call)
        (note,) = client.account.calls
        assert "link" not in note.params
        client.now += LOOK_AGAIN
        assert await client.register(call) == ""
        (note,) = client.account.calls
        assert note.params["link"] == LINK
        assert note.params["call_result"] == "Talked"
        assert await client.register(call) == ""
        assert len(client.account.calls) == 1
        assert len(client.recorder.asked) == 3

    async def test_one_that_never_is_complete_is_given_up(self, client: Client) -> None:
        client.recorder.unfinished = 99
        client.now += RECORDING_GIVEN_UP
        assert await client.register(ended(inbound(recording="in-1.wav"))) == ""
        assert "never complete" in client.row["notes"][-1]

    async def test_a_customization_may_say_there_is_none(self, client: Client) -> None:
        client.hooks = Hooks(process_record_file_path=lambda _: None)
        await client.register(ended(inbound(recording="in-1.wav")))
        (note,) = client.account.calls
        assert "link" not in note.params

    async def test_a_missed_call_has_none(self, client: Client) -> None:
        await client.register(ended(inbound(answered=False, recording="in-1.wav")))
        assert client.recorder.asked == []


class TestEarly:
    async def test_contact_and_lead_are_made_while_it_rings_and_used_at_the_end(self) -> None:
        async with a_client(search_delay_s=60) as client:
            ringing = next(stage for stage in stages(inbound()) if stage.name is StageName.REQUESTED)
            new = early_registration_of(ringing, plan(), "ringing")
            assert new is not None
            client.call_ids = [new.call_id]
            early = client.sheet(CALL.validate_python(new.call), rules())
            assert await client.walked(early, lambda sheet: walk_early(sheet, StageName.REQUESTED)) == ""
            assert counts(client) == {"contacts": 1, "leads": 1, "calls": 0, "tasks": 0}
            assert {params.get("call_stage") for _, params in asked(client)} == {"conversation_requested", None}
            await client.register_another(ended(inbound()))
            assert counts(client) == {"contacts": 1, "leads": 1, "calls": 1, "tasks": 0}

    @pytest.mark.parametrize(("create_at", "name"), [("end", None), ("ringing", "requested"), ("answered", "accepted")])
    def test_only_at_the_configured_stage(self, create_at: Any, name: str | None) -> None:
        made = [stage for stage in stages(inbound()) if early_registration_of(stage, plan(), create_at)]
        assert [stage.name for stage in made] == ([f"conversation_{name}"] if name else [])

    def test_not_for_colleagues_nor_for_who_hides_his_number(self) -> None:
        for told in (internal(), inbound("anonymous")):
            assert not any(early_registration_of(stage, plan(), "ringing") for stage in stages(told))


class TestCustomizations:
    async def test_each_is_asked_what_the_catalogue_says_and_once(self, client: Client) -> None:
        await client.register(ended(inbound(answered=False)))
        assert [hook for hook, _ in asked(client)] == [
            "process_client_phone",
            "need_registration",
            "process_contact_creation_params",
            "process_lead_creation_params",
            "process_call_params",
            "process_task_creation_params",
            "post_registration",
        ]
        last = asked(client)[-1][1]["call_full"]
        assert (last["entity"]["id"], last["entity"]["is_new"]) == (client.row["entity"]["id"], True)
        assert last["deal"]["id"] == client.row["deal"]["id"]

    async def test_the_phone_is_changed_before_anything_is_asked_of_kommo(self, client: Client) -> None:
        client.hooks = Hooks(process_client_phone=lambda given: {"phone": "8" + given["phone"][2:]})
        await client.register(ended(inbound()))
        (contact,) = client.account.contacts.values()
        assert contact.name == "Contact 89990000001"

    async def test_a_hidden_caller_is_skipped_unless_a_customization_names_him(self, client: Client) -> None:
        assert await client.register(ended(inbound("anonymous"))) == HIDDEN
        client.hooks = Hooks(process_client_phone=lambda _: {"phone": CLIENT})
        assert await client.register_another(ended(inbound("anonymous"))) == ""
        assert len(client.account.calls) == 1

    async def test_need_registration_has_the_last_word(self, client: Client) -> None:
        client.hooks = Hooks(need_registration=lambda _: {"result": False})
        assert await client.register(ended(inbound())) == UNWANTED
        assert client.posts() == []

    async def test_the_blacklist_is_asked_first(self, client: Client) -> None:
        by = rules(blacklist=(ListEntry(match="client", pattern="+7999XXXXXXX"),))
        assert "blacklist" in await client.register(ended(inbound()), by)
        assert [hook for hook, _ in asked(client)] == ["process_client_phone"]

    @pytest.mark.parametrize(
        ("hook", "missing"),
        [
            ("process_call_params", "calls"),
            ("process_lead_creation_params", "leads"),
            ("process_task_creation_params", "tasks"),
        ],
    )
    async def test_empty_data_cancels_that_request_alone(self, client: Client, hook: str, missing: str) -> None:
        client.hooks = Hooks(**{hook: lambda _: None})
        await client.register(ended(inbound(answered=False)))
        made = {name: len(getattr(client.account, name)) for name in ("contacts", "leads", "calls", "tasks")}
        assert made == {"contacts": 1, "leads": 1, "calls": 1, "tasks": 1, missing: 0}
        assert any("cancelled by customization" in note for note in client.row["notes"])

    async def test_without_a_contact_nothing_can_follow(self, client: Client) -> None:
        client.hooks = Hooks(process_contact_creation_params=lambda _: None)
        assert "cancelled by customization" in await client.register(ended(inbound()))
        assert client.posts() == []

    async def test_extra_fields_and_tags_reach_kommo_in_its_own_form(self, client: Client) -> None:
        client.hooks = Hooks(
            process_contact_creation_params=lambda data: {**data, "tags": ["VIP"], "first_name": "Ivan"},
            process_call_params=lambda data: {**data, "call_result": "waited 3 s"},
        )
        await client.register(ended(inbound()))
        (contact,), (note,) = client.account.contacts.values(), client.account.calls
        assert contact.first_name == "Ivan"
        assert note.params["call_result"] == "waited 3 s"
        assert client.sandbox.audit.asked("POST", "/api/v4/contacts")[0].body[0]["_embedded"] == {
            "tags": [{"name": "VIP"}]
        }

    async def test_contact_and_lead_are_updated_only_if_something_differs(self, client: Client) -> None:
        lead_id = await client.add_lead(await client.add_contact(user=BORIS), responsible_user_id=BORIS)
        client.hooks = Hooks(
            process_contact_update_params=lambda data: data,
            process_lead_update_params=lambda data: {**data, "responsible_user_id": ANN},
        )
        await client.register(ended(inbound()))
        changed = [one.path for one in client.sandbox.audit.requests if one.method == "PATCH"]
        assert changed == ["/api/v4/leads"]
        assert client.account.leads[lead_id].responsible_user_id == ANN

    async def test_who_answers_becomes_responsible_if_wanted(self, client: Client) -> None:
        contact_id = await client.add_contact(user=BORIS)
        await client.register(ended(inbound()), rules(reassign_on_answer=True, create_leads="never"))
        assert client.account.contacts[contact_id].responsible_user_id == ANN

    async def test_without_permission_to_create_the_call_is_skipped_and_says_why(self, client: Client) -> None:
        assert await client.register(ended(inbound()), rules(create_contacts=False)) == NO_ENTITY
        assert client.posts() == []

    async def test_a_refused_user_is_replaced_by_the_default(self, client: Client) -> None:
        client.hooks = Hooks(process_contact_creation_params=lambda data: {**data, "responsible_user_id": 1})
        await client.register(ended(inbound()), rules(default_user_id=BORIS))
        (contact,) = client.account.contacts.values()
        assert contact.responsible_user_id == BORIS

    async def test_a_refusal_is_told_in_the_servers_words(self, client: Client) -> None:
        client.hooks = Hooks(process_lead_creation_params=lambda data: {**data, "pipeline_id": 1})
        with pytest.raises(KommoRejected, match="pipeline"):
            await client.register(ended(inbound()))
        assert client.row["writing"] is None


KINDS = ("contacts", "leads", "leads/notes", "tasks")


class TestOnce:
    @pytest.mark.parametrize("effect", ["disconnect", "truncated"])
    @pytest.mark.parametrize("path", KINDS)
    @pytest.mark.parametrize("committed", [True, False])
    async def test_a_lost_answer_makes_nothing_twice(self, path: str, effect: Any, *, committed: bool) -> None:
        if effect == "truncated" and not committed:
            return  # half of an answer is an answer to something done
        async with a_client(search_delay_s=0.3) as client:
            client.sandbox.faults.add(Fault(effect=effect, method="POST", path=f"/api/v4/{path}", committed=committed))
            call = ended(inbound(answered=False))
            with pytest.raises(KommoError) as lost:
                await client.register(call)
            assert lost.value.may_have_happened
            assert client.row["writing"] is not None
            await finish(client, call)
            assert counts(client) == {"contacts": 1, "leads": 1, "calls": 1, "tasks": 1}

    async def test_what_waited_long_before_it_went_out_is_looked_for_until_kommo_finds_it(self) -> None:
        """Its row was saved when it began to wait for its turn, and nobody was left to save when that came."""
        async with a_client(search_delay_s=1.0) as client:
            fault = Fault(effect="disconnect", method="POST", path="/api/v4/contacts", committed=True)
            client.sandbox.faults.add(fault)
            call = ended(inbound())
            with pytest.raises(KommoError):
                await client.register(call)
            client.row["writing"]["gone_by"] = None
            client.now += 3600.0
            with pytest.raises(Settling):
                await client.register(call)
            await asyncio.sleep(0.7)  # with what `finish` waits, longer than the sandbox's search
            await finish(client, call)
            assert counts(client)["contacts"] == 1

    @pytest.mark.parametrize("committed", [True, False])
    async def test_a_lost_incoming_lead_is_found_again(self, client: Client, *, committed: bool) -> None:
        client.sandbox.faults.add(Fault(effect="disconnect", method="POST", path="*/unsorted/sip", committed=committed))
        call, by = ended(inbound()), rules(unsorted=True)
        with pytest.raises(KommoError):
            await client.register(call, by)
        client.now += SETTLE
        assert await client.register(call, by) == ""
        assert (len(client.account.unsorted), len(client.account.calls)) == (1, 1)

    @pytest.mark.parametrize("committed", [True, False])
    async def test_a_lost_call_is_found_on_the_lead_where_kommo_put_it(
        self, client: Client, *, committed: bool
    ) -> None:
        await client.add_lead(await client.add_contact())
        client.sandbox.faults.add(Fault(effect="disconnect", method="POST", path="/api/v4/calls", committed=committed))
        call = ended(inbound())
        with pytest.raises(KommoError):
            await client.register(call)
        client.now += SETTLE
        assert await client.register(call) == ""
        (note,) = client.account.calls
        assert client.row["call"]["id"] == note.id

    @pytest.mark.parametrize(
        ("path", "business"), [("calls", {}), ("leads/notes", {}), ("leads/unsorted/sip", {"unsorted": True})]
    )
    async def test_what_was_begun_is_known_again_whatever_the_node_is_called_since(
        self, client: Client, path: str, business: dict[str, Any]
    ) -> None:
        """From one PBX to several, and under another name, while an answer is lost."""
        if path == "calls":
            await client.add_lead(await client.add_contact())
        client.sandbox.faults.add(Fault(effect="disconnect", method="POST", path=f"/api/v4/{path}", committed=True))
        call, by = ended(inbound()), rules(**business)
        with pytest.raises(KommoError):
            await client.register(call, by)
        assert client.row["uniq"] == call.id
        client.now += SETTLE
        assert await client.register(call, replace(by, node="madrid", is_one_of_several=True)) == ""
        (note,) = client.account.calls
        assert (note.params["uniq"], len(client.account.leads)) == (call.id, 1)
        assert [entry.metadata["uniq"] for entry in client.account.unsorted.values()] == [call.id] * len(business)
        assert client.row["uniq"] == call.id

    async def test_what_was_not_begun_goes_by_the_name_of_its_node(self, client: Client) -> None:
        client.sandbox.faults.add(Fault(effect="disconnect", method="GET", path="/api/v4/contacts", count=None))
        call, by = ended(inbound()), replace(rules(unsorted=True), is_one_of_several=True)
        with pytest.raises(KommoError):
            await client.register(call, by)
        client.sandbox.faults.clear()
        assert await client.register(call, replace(by, node="madrid")) == ""
        (entry,), (note,) = client.account.unsorted.values(), client.account.calls
        assert {entry.source_uid, entry.metadata["uniq"], note.params["uniq"]} == {f"madrid-{call.id}"}

    async def test_a_crash_before_and_after_every_save_makes_nothing_twice_and_asks_nobody_twice(self) -> None:
        """The process dies at its n-th durable step, for every n; what it had asked for may be half done."""
        call = ended(inbound(answered=False))
        moment, crashed = 0, True
        while crashed:
            async with a_client() as client:
                client.hooks = Hooks(
                    process_call_params=lambda data: data, process_task_creation_params=lambda data: data
                )
                sheet = client.sheet(call, rules())
                sheet._save_row = dying_at(moment, sheet._save_row)
                try:
                    await client.walked(sheet)
                    crashed = False
                except Crash:
                    await resume(client, call)
                assert counts(client) == {"contacts": 1, "leads": 1, "calls": 1, "tasks": 1}, moment
            moment += 1
        assert moment > 16

    async def test_it_waits_until_kommo_can_show_what_may_have_been_written(self, client: Client) -> None:
        client.sandbox.faults.add(Fault(effect="disconnect", method="POST", path="/api/v4/contacts", committed=False))
        call = ended(inbound())
        with pytest.raises(KommoError):
            await client.register(call)
        with pytest.raises(Settling) as waits:
            await client.register(call)
        assert waits.value.until == client.now + SETTLE


async def finish(client: Client, call: Call) -> None:
    await asyncio.sleep(0.4)  # the sandbox's search index, 0.3 s late, works by the clock on the wall
    await resume(client, call)


async def resume(client: Client, call: Call) -> None:
    client.now += SETTLE
    try:
        assert await client.register(call) == ""
    except Settling:  # who crashed has not said when it had gone out
        client.now += SETTLE
        assert await client.register(call) == ""


def asked(client: Client) -> list[tuple[str, dict[str, Any]]]:
    assert isinstance(client.hooks, Hooks)
    return client.hooks.asked


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
    def test_a_call_with_a_client_becomes_a_row_and_comes_back_whole(self) -> None:
        new = registration_of(ended(inbound("89990000001")), plan())
        assert new is not None
        assert (new.client, new.state) == (CLIENT, "waiting")
        assert CALL.validate_python(new.call) == ended(inbound("89990000001"))

    def test_who_hides_his_number_is_told_from_everybody_else(self) -> None:
        new = registration_of(ended(inbound("anonymous")), plan())
        assert new is not None
        assert new.client == new.call_id

    def test_a_call_between_colleagues_is_no_business_of_the_crm(self) -> None:
        assert registration_of(ended(internal()), plan()) is None
