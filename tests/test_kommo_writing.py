"""What the client writes to a whole Kommo account, and how it is known again when the answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from itgrix_kommo.errors import KommoForbidden
from itgrix_kommo.kommo.batches import Added, Refused, Unanswered
from itgrix_kommo.kommo.bodies import for_api
from itgrix_kommo.kommo.client import KommoClient, UnsortedState
from itgrix_kommo.kommo.recognition import (
    call_note_with,
    is_linked,
    left_to_change,
    written_call,
    written_lead,
    written_task,
    written_unsorted,
)
from itgrix_kommo.sandbox import Fault, Kind, Sandbox
from tests.kommo_account import PHONE, call, connect, contact, created, ids, unsorted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox().serve() as served:
        yield served


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[KommoClient]:
    async with connect(sandbox) as connected:
        yield connected


class TestLeads:
    async def test_a_lead_is_tied_to_its_contact_at_once_or_later(self, client: KommoClient) -> None:
        [ann, bob] = await created(client, contact(), contact("+12025550144"))
        [one, two] = ids(await client.create_leads([{"name": "one", "_embedded": {"contacts": [{"id": ann}]}}, {}]))
        assert ids(await client.link_leads([(two, ann), (one, bob)])) == [two, one]
        assert ids(await client.link_leads([(two, ann)])) == [two]
        lead = await client.lead(one)
        assert lead is not None
        assert lead.contact_ids == (ann, bob)
        assert is_linked(lead, bob)
        assert not is_linked(lead, 1)
        bad, good = await client.link_leads([(one, 999), (two, bob)])
        assert isinstance(bad, Refused)
        assert "to_entity_id: NotSupportedChoice" in bad.detail
        assert isinstance(good, Added)

    async def test_open_ones_are_not_closed_nor_waiting_among_the_incoming(
        self, sandbox: Sandbox, client: KommoClient
    ) -> None:
        [one, won] = ids(await client.create_leads([{"name": "one"}, {"name": "two", "status_id": 142}]))
        [incoming] = await client.create_unsorted([unsorted()])
        assert isinstance(incoming, Added)
        client._filters_work = False  # only asked for by itself an incoming lead is shown
        assert [lead.id for lead in await client.open_leads([one, won, incoming.id])] == [one]
        before = sandbox.audit.total
        assert await client.open_leads([]) == []
        assert sandbox.audit.total == before

    async def test_a_lead_that_may_have_been_written_is_known_again(
        self, sandbox: Sandbox, client: KommoClient
    ) -> None:
        [ann] = await created(client, contact())
        body = {"name": "+12025550143 - incoming", "_embedded": {"contacts": [{"id": ann}]}}
        [earlier] = ids(await client.create_leads([body]))
        sandbox.faults.add(Fault(effect="disconnect", path="/api/v4/leads", method="POST", committed=True))
        since = sandbox.clock.now()
        [lost] = await client.create_leads([body])
        assert isinstance(lost, Unanswered)
        assert lost.error.may_have_happened
        known = await client.contact(ann)
        assert known is not None
        found = written_lead(await client.leads(known.lead_ids), body, since, known=[earlier])
        assert found is not None
        assert found.id == earlier + 1

    async def test_leads_change_their_stage_and_responsible(self, client: KommoClient) -> None:
        [one] = ids(await client.create_leads([{"name": "one"}]))
        body = {"id": one, "status_id": 70012, "pipeline_id": 7001, "responsible_user_id": 9100003}
        assert ids(await client.update_leads([body])) == [one]
        lead = await client.lead(one)
        assert lead is not None
        assert left_to_change(lead, body) == {}


class TestUnsorted:
    async def test_what_becomes_of_an_incoming_lead(self, sandbox: Sandbox, client: KommoClient) -> None:
        outcomes = await client.create_unsorted([unsorted(), unsorted("17.2"), unsorted("17.3")])
        added = [outcome for outcome in outcomes if isinstance(outcome, Added)]
        assert len(added) == 3
        entries = [sandbox.account.unsorted[one.uid] for one in added]
        assert [(one.id, one.entity_id) for one in added] == [(one.lead_id, one.contact_ids[0]) for one in entries]
        for number, one in enumerate(entries[:2]):
            sandbox.account.sort(one, accepted=number == 0, by=9100001)
        states = [await client.unsorted_state(one.uid, one.id) for one in added]
        assert states == [UnsortedState.ACCEPTED, UnsortedState.DECLINED, UnsortedState.PENDING]
        cards = [card for kind in Kind for card in sandbox.account.cards[kind].values()]
        tags = {sandbox.account.tags[card.kind][tag] for card in cards for tag in card.tags}
        assert tags == {"Itgrix"}

    async def test_one_that_may_have_been_written_is_known_again(self, sandbox: Sandbox, client: KommoClient) -> None:
        await client.create_unsorted([unsorted("16.1", created_at=1759990000), unsorted("17.1")])
        sandbox.faults.add(Fault(effect="truncated", path="/api/v4/leads/unsorted/sip", committed=True))
        body = unsorted("17.2", created_at=1760000001)
        [lost] = await client.create_unsorted([body])
        assert isinstance(lost, Unanswered)
        assert lost.error.may_have_happened
        entries = await client.recent_unsorted(1760000000)
        assert [entry.source_uid for entry in entries] == ["17.2", "17.1"]
        found = written_unsorted(entries, body)
        assert found is not None
        assert (found.uniq, len(found.lead_ids), len(found.contact_ids)) == ("17.2", 1, 1)
        assert written_unsorted(entries, unsorted("17.3")) is None
        assert await client.recent_unsorted(1770000000) == []

    async def test_identical_ones_are_refused_by_kommo(self, client: KommoClient) -> None:
        outcomes = await client.create_unsorted([unsorted(request_id="a"), unsorted(request_id="b")])
        assert [type(outcome) for outcome in outcomes] == [Added, Refused]

    async def test_an_account_without_incoming_leads(self, sandbox: Sandbox, client: KommoClient) -> None:
        sandbox.switches.is_unsorted_on = False
        assert [type(outcome) for outcome in await client.create_unsorted([unsorted()])] == [Refused]


class TestTasks:
    async def test_from_the_hooks_body_to_its_completion(self, sandbox: Sandbox, client: KommoClient) -> None:
        [ann] = await created(client, contact())
        hook = {
            "call_full": {"conversations": {}},
            "complete_till": 1760003600,
            "created_by": 0,
            "entity_id": ann,
            "entity_type": "contacts",
            "is_completed": False,
            "responsible_user_id": 9100001,
            "task_type": 3,
            "text": "Call back Ann on a missed call",
            "result": None,
        }
        body = for_api("task", hook)
        sandbox.faults.add(Fault(effect="hang", seconds=0, path="/api/v4/tasks", method="POST", committed=True))
        since = sandbox.clock.now()
        [lost] = await client.create_tasks([body])
        assert isinstance(lost, Unanswered)
        task = written_task(await client.tasks("contacts", ann, is_completed=False), body, since)
        assert task is not None
        assert (task.task_type_id, task.is_completed, task.responsible_user_id) == (3, False, 9100001)
        assert ids(await client.complete_tasks([task.id], "Reached")) == [task.id]
        done = await client.task(task.id)
        assert done is not None
        assert done.is_completed
        assert sandbox.account.tasks[task.id].result == "Reached"
        assert await client.tasks("contacts", ann, is_completed=False) == []
        assert [one.id for one in await client.tasks("contacts", ann)] == [task.id]
        assert await client.task(1) is None

    async def test_only_those_of_the_card_even_where_filters_are_ignored(
        self, sandbox: Sandbox, client: KommoClient
    ) -> None:
        sandbox.switches.filters = "ignored"
        [ann, bob] = await created(client, contact(), contact("+12025550144"))
        task = {"text": "x", "complete_till": 1760003600, "entity_type": "contacts"}
        one, two, _, done = ids(
            await client.create_tasks(
                [
                    {**task, "entity_id": ann},
                    {**task, "entity_id": ann},
                    {**task, "entity_id": bob},
                    {**task, "entity_id": ann, "is_completed": True},
                ]
            )
        )
        assert [found.id for found in await client.tasks("contacts", ann)] == [done, two, one]
        assert [found.id for found in await client.tasks("contacts", ann, is_completed=False)] == [two, one]
        assert [found.id for found in await client.tasks("contacts", ann, is_completed=True)] == [done]


class TestCalls:
    async def test_a_call_lands_on_the_card_that_kommo_chooses(self, client: KommoClient) -> None:
        [ann] = await created(client, contact())
        [outcome] = await client.add_calls([call(link=None, call_status=4, call_responsible=9100001)])
        assert isinstance(outcome, Added)
        assert (outcome.entity_type, outcome.entity_id) == ("contacts", ann)
        [note] = await client.notes("contacts", ann)
        assert (note.id, note.uniq, note.note_type) == (outcome.id, "17.1", "call_in")

    async def test_nobody_has_this_phone(self, client: KommoClient) -> None:
        [outcome] = await client.add_calls([call()])
        assert isinstance(outcome, Refused)
        assert outcome.status == 263

    @pytest.mark.parametrize("status", [200, 400])
    async def test_one_bad_call_never_takes_its_batch_down(
        self, sandbox: Sandbox, client: KommoClient, status: int
    ) -> None:
        sandbox.switches.mixed_calls_status = 200 if status == 200 else 400
        await created(client, contact())
        outcomes = await client.add_calls([call("+12025550199", request_id="stranger"), call(request_id="ann")])
        assert [(type(outcome), outcome.request_id) for outcome in outcomes] == [(Refused, "stranger"), (Added, "ann")]

    async def test_call_notes_on_chosen_cards(self, client: KommoClient) -> None:
        [ann] = await created(client, contact())
        params = {"uniq": "17.2", "duration": 5, "source": "itgrix_amo", "phone": PHONE, "link": None}
        body = {"entity_id": ann, "note_type": "call_out", "params": params, "created_by": 9100001}
        [outcome] = await client.add_call_notes("contacts", [body])
        assert isinstance(outcome, Added)
        assert [note.uniq for note in await client.notes("contacts", ann)] == ["17.2"]
        del params["duration"]
        [refused] = await client.add_call_notes("contacts", [body])
        assert isinstance(refused, Refused)
        assert "params.duration: FieldMissing" in refused.detail

    async def test_a_write_whose_answer_was_lost_is_recognised_afterwards(
        self, sandbox: Sandbox, client: KommoClient
    ) -> None:
        [ann] = await created(client, contact())
        sandbox.faults.add(Fault(effect="disconnect", path="/api/v4/calls", committed=True))
        [outcome] = await client.add_calls([call(uniq="17.3")])
        assert isinstance(outcome, Unanswered)
        assert outcome.error.may_have_happened
        assert [note.uniq for note in await client.notes("contacts", ann)] == ["17.3"]
        assert len(sandbox.audit.asked("POST", "/api/v4/calls")) == 1

    async def test_a_recording_comes_later(self, client: KommoClient) -> None:
        [ann] = await created(client, contact())
        await client.add_calls([call(uniq="17.4", call_status=4, call_responsible=9100001, call_result="Talked")])
        note = written_call(await client.notes("contacts", ann), "17.4")
        assert note is not None
        link = "https://pbx.example.com/recordings/x.mp3"
        assert ids(await client.update_call_notes("contacts", [call_note_with(note, link=link)])) == [note.id]
        [changed] = await client.notes("contacts", ann)
        assert changed.params == {**note.params, "link": link}
        assert changed.params["call_result"] == "Talked"


class TestWebhooks:
    async def test_subscribed_listed_and_ended(self, client: KommoClient) -> None:
        address = "https://pbx.example.com/webhooks/kommo/s3cret"
        assert await client.webhooks() == []
        hook = await client.subscribe(address, {"update_contact", "delete_contact"})
        assert hook.settings == ("delete_contact", "update_contact")
        assert [(one.destination, one.disabled) for one in await client.webhooks()] == [(address, False)]
        await client.unsubscribe(address)
        await client.unsubscribe(address)
        assert await client.webhooks() == []

    async def test_only_an_administrator_may(self, sandbox: Sandbox) -> None:
        async with connect(sandbox, token=sandbox.options.user_token) as client:
            with pytest.raises(KommoForbidden):
                await client.subscribe("https://pbx.example.com/x", {"add_contact"})


class TestHeaviness:
    async def test_what_was_too_heavy_travels_lighter_and_only_the_harmless_goes_again_at_once(
        self, sandbox: Sandbox, client: KommoClient
    ) -> None:
        sandbox.switches.heavy_batch = 20
        outcomes = await client.create_contacts([contact(f"+1202555{number:04}") for number in range(100)])
        assert [type(one) for one in outcomes] == [Unanswered] * 75 + [Added] * 25
        assert all(one.error.may_have_happened for one in outcomes if isinstance(one, Unanswered))
