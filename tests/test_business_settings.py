"""Every setting of `business`, seen in what stands in Kommo; the payloads, to the letter of the vendor's document."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.calls.call import Call, StageName
from itgrix_kommo.config import Business, Customizations, Tasks, WorkingHours
from itgrix_kommo.customizations import CATALOGUE, Customizer
from itgrix_kommo.errors import KommoRejected
from itgrix_kommo.pipeline.intake import CALL, early_registration_of
from itgrix_kommo.pipeline.progress import Progress
from itgrix_kommo.pipeline.registration.walk import walk_early
from itgrix_kommo.pipeline.trial import params_for
from tests.registering import CLIENT, FIRST_STAGE, SALES, SHOP, Client, Hooks, a_client, counts, rules
from tests.story import ANN, BORIS, T0, ended, inbound, outbound, plan, stages


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with a_client() as made:
        yield made


class TestEachSetting:
    async def test_pipeline_and_status(self, client: Client) -> None:
        by = replace(rules(), pipeline_id=SHOP, status_id=70022)
        await client.register(ended(inbound()), by)
        (lead,) = client.account.leads.values()
        assert (lead.pipeline_id, lead.status_id) == (SHOP, 70022)

    async def test_tags_stand_on_contact_and_lead(self, client: Client) -> None:
        await client.register(ended(inbound()), rules(tags=["Phone", "New"]))
        (contact,), (lead,) = client.account.contacts.values(), client.account.leads.values()
        assert {*_tags(client, contact)} == {*_tags(client, lead)} == {"Phone", "New"}

    async def test_no_tags(self, client: Client) -> None:
        await client.register(ended(inbound()), rules(tags=[]))
        (contact,), (lead,) = client.account.contacts.values(), client.account.leads.values()
        assert [*_tags(client, contact), *_tags(client, lead)] == []

    async def test_the_default_user_takes_what_nobody_is_mapped_to(self, client: Client) -> None:
        nobodys = inbound(phone="199")
        await client.register(ended(nobodys), rules(default_user_id=BORIS))
        (contact,), (lead,), (note,) = (
            client.account.contacts.values(),
            client.account.leads.values(),
            client.account.calls,
        )
        assert contact.responsible_user_id == lead.responsible_user_id == note.responsible_user_id == BORIS

    async def test_without_a_default_user_kommo_decides(self, client: Client) -> None:
        await client.register(ended(inbound(phone="199")))
        (request,) = client.sandbox.audit.asked("POST", "/api/v4/contacts")
        assert "responsible_user_id" not in request.body[0]
        (note,) = client.account.calls
        assert (note.created_by, "call_responsible" in note.params) == (0, False)

    async def test_unsorted_needs_a_pipeline_that_takes_them(self, client: Client) -> None:
        by = replace(rules(unsorted=True), unsorted_pipelines=frozenset())
        await client.register(ended(inbound()), by)
        assert (len(client.account.unsorted), len(client.account.contacts)) == (0, 1)

    async def test_unsorted_leaves_known_clients_alone(self, client: Client) -> None:
        await client.add_contact()
        await client.register(ended(inbound()), rules(unsorted=True))
        assert not client.account.unsorted

    async def test_unsorted_takes_its_pipeline_and_tags_from_the_route(self, client: Client) -> None:
        by = replace(
            rules(unsorted=True, routes=[{"did": "4957770101", "pipeline_id": SHOP, "tags": ["Shop"]}]),
            unsorted_pipelines=frozenset({SHOP}),
        )
        await client.register(ended(inbound()), by)
        (entry,) = client.account.unsorted.values()
        assert entry.pipeline_id == SHOP

    async def test_a_route_by_did_begins_at_its_pipelines_first_stage(self, client: Client) -> None:
        routes = [
            {"did": "4957770199", "pipeline_id": 7003},
            {"did": "49577701XX", "pipeline_id": SHOP, "tags": ["Shop"]},
            {"trunk": "PJSIP/trunk", "pipeline_id": 7003},
        ]
        await client.register(ended(inbound()), rules(routes=routes))
        (lead,) = client.account.leads.values()
        assert (lead.pipeline_id, lead.status_id, _tags(client, lead)) == (SHOP, 70021, ["Shop"])

    async def test_what_fits_no_route_goes_where_business_says(self, client: Client) -> None:
        await client.register(ended(inbound()), rules(routes=[{"trunk": "PJSIP/other", "pipeline_id": SHOP}]))
        (lead,) = client.account.leads.values()
        assert (lead.pipeline_id, lead.status_id) == (SALES, FIRST_STAGE)

    @pytest.mark.parametrize("told", [inbound(answered=False), outbound()])
    async def test_reassign_on_answer_leaves_unanswered_calls_alone(self, client: Client, told: Any) -> None:
        contact_id = await client.add_contact(user=BORIS)
        await client.register(ended(told), rules(reassign_on_answer=True, create_leads="never"))
        assert client.account.contacts[contact_id].responsible_user_id == BORIS

    async def test_reassign_on_answer_takes_the_open_lead_as_well(self, client: Client) -> None:
        lead_id = await client.add_lead(await client.add_contact(), responsible_user_id=BORIS)
        await client.register(ended(inbound()), rules(reassign_on_answer=True))
        assert client.account.leads[lead_id].responsible_user_id == ANN

    async def test_without_reassign_on_answer_nothing_changes_hands(self, client: Client) -> None:
        contact_id = await client.add_contact(user=BORIS)
        lead_id = await client.add_lead(contact_id, responsible_user_id=BORIS)
        await client.register(ended(inbound()))
        assert client.account.contacts[contact_id].responsible_user_id == BORIS
        assert client.account.leads[lead_id].responsible_user_id == BORIS

    @pytest.mark.parametrize(("create_at", "name"), [("ringing", "requested"), ("answered", "accepted")])
    async def test_create_at(self, create_at: Any, name: str) -> None:
        async with a_client(search_delay_s=60) as client:
            by = rules(create_at=create_at)
            news = [early_registration_of(stage, plan(), create_at) for stage in stages(inbound())]
            (new,) = [one for one in news if one is not None]
            client.call_ids = [new.call_id]
            early = client.sheet(CALL.validate_python(new.call), by)
            await client.walked(early, lambda sheet: walk_early(sheet, StageName(f"conversation_{name}")))
            assert counts(client) == {"contacts": 1, "leads": 1, "calls": 0, "tasks": 0}
            await client.register_another(ended(inbound()), by)
            assert counts(client) == {"contacts": 1, "leads": 1, "calls": 1, "tasks": 0}

    async def test_without_create_contacts_a_known_client_is_registered(self, client: Client) -> None:
        await client.add_contact()
        await client.register(ended(inbound()), rules(create_contacts=False))
        assert counts(client) == {"contacts": 1, "leads": 1, "calls": 1, "tasks": 0}

    async def test_missed_inbound_calls_make_no_tasks_if_nobody_wants_them(self, client: Client) -> None:
        await client.register(ended(inbound(answered=False)), rules(tasks=Tasks(missed_inbound=False)))
        assert not client.account.tasks

    async def test_due_minutes_task_type_and_working_hours(self, client: Client) -> None:
        hours = WorkingHours.parse({"mon-fri": "09:00-18:00"})
        tasks = Tasks(due_minutes=45, task_type=2, working_hours=hours)
        by = replace(rules(tasks=tasks), timezone=UTC)
        await client.register(ended(inbound(answered=False)), by)
        (task,) = client.account.tasks.values()
        assert datetime.fromtimestamp(T0, UTC).strftime("%a %H:%M") == "Sun 13:52"
        assert datetime.fromtimestamp(task.complete_till, UTC).isoformat() == "2026-11-23T09:45:00+00:00"
        assert task.task_type_id == 2

    async def test_max_age_hours(self, client: Client) -> None:
        client.now = T0 + 30 * 3600
        await client.register(ended(inbound(answered=False)), rules(tasks=Tasks(max_age_hours=48)))
        assert len(client.account.tasks) == 1

    async def test_an_outbound_call_completes_the_task_too(self, client: Client) -> None:
        await client.register(ended(inbound(answered=False)))
        await client.register_another(ended(outbound(linkedid="1795355600.1")))
        (task,) = client.account.tasks.values()
        assert not task.is_completed
        await client.register_another(ended(inbound(linkedid="1795355700.1")))
        assert task is not client.account.tasks[task.id]
        assert client.account.tasks[task.id].is_completed

    def test_every_setting_is_tried(self) -> None:
        """`popup` is the live path's, see tests/test_stages.py; pipeline and stage come to `Rules` resolved."""
        files = [Path(__file__).with_name(f"{name}.py") for name in ("test_business_settings", "test_registration")]
        tried = "".join(file.read_text(encoding="utf-8") for file in files)
        for name in (*Business.model_fields, *Tasks.model_fields):
            assert name in {"popup", "pipeline_id", "status_id"} or re.search(rf"\b{name}=", tried), name


def _tags(client: Client, card: Any) -> list[str]:
    return [client.account.tags[card.kind][tag] for tag in card.tags]


CALL_KEYS = {
    "call_full", "call_result", "call_status", "created_at", "created_by", "direction", "duration", "link", "phone",
    "responsible_user_id", "source",
}  # fmt: skip
TASK_KEYS = {
    "call_full", "complete_till", "created_by", "entity_id", "entity_type", "is_completed", "responsible_user_id",
    "task_type", "text",
}  # fmt: skip
METADATA_KEYS = {
    "called_at", "duration", "from", "is_call_event_needed", "link", "phone", "service_code", "uniq",
}  # fmt: skip
UPDATE_KEYS = {"call_full", "id", "responsible_user_id"}

SEED: dict[str, set[str]] = {
    "need_registration": {"call_full", "call_stage"},
    "process_call_params": CALL_KEYS,
    "process_client_phone": {"phone", "call_full", "call_stage"},
    "process_contact_creation_params": {
        "call_full", "custom_fields_values", "name", "responsible_user_id", "tags",
    },
    "process_lead_creation_params": {
        "call_full", "_embedded", "name", "pipeline_id", "responsible_user_id", "status_id",
    },
    "process_task_creation_params": TASK_KEYS,
    "post_registration": {"call_full"},
    "process_contact_update_params": UPDATE_KEYS,
    "process_lead_update_params": UPDATE_KEYS,
    "process_unsorted_creation_params": {
        "call_full", "_embedded", "created_at", "metadata", "pipeline_id", "source_name", "source_uid",
    },
}  # fmt: skip
"""The keys that the vendor's document gives for what is asked once a call has ended."""


class TestTheVendorsDocument:
    """`Hooks` holds each payload to the catalogue's types."""

    async def asked(self, client: Client, *calls: Call, **business: Any) -> dict[str, dict[str, Any]]:
        """What each customization was given, the last time; all of them exist."""
        hooks = Hooks(**{hook: lambda data: data for hook in SEED})
        client.hooks = hooks
        for call in calls:
            await client.register_another(call, rules(**business))
        return dict(hooks.asked)

    async def test_a_missed_call_of_a_stranger(self, client: Client) -> None:
        asked = await self.asked(client, ended(inbound(answered=False)))
        assert {hook: set(params) for hook, params in asked.items()} == {
            hook: keys for hook, keys in SEED.items() if hook != "process_unsorted_creation_params"
        } | {"process_call_params": CALL_KEYS}
        contact, lead = asked["process_contact_creation_params"], asked["process_lead_creation_params"]
        assert contact["name"] == f"Contact {CLIENT}"
        assert contact["custom_fields_values"] == [
            {"field_id": 801, "values": [{"enum_code": "WORK", "value": CLIENT}]}
        ]
        assert contact["tags"] == ["Itgrix"]
        assert lead["name"] == f"{CLIENT} - missed incoming"
        assert lead["_embedded"] == {"contacts": [{"id": client.row["entity"]["id"]}], "tags": [{"name": "Itgrix"}]}
        assert (lead["pipeline_id"], lead["status_id"]) == (SALES, FIRST_STAGE)
        call, task = asked["process_call_params"], asked["process_task_creation_params"]
        assert (call["direction"], call["duration"], call["phone"], call["source"]) == (
            "inbound", 0, CLIENT, "itgrix_amo",
        )  # fmt: skip
        assert (call["created_at"], call["created_by"], call["responsible_user_id"]) == (int(T0), ANN, ANN)
        assert task["text"] == f"Call back Contact {CLIENT} on a missed call from a number {CLIENT}"
        assert (task["task_type"], task["created_by"], task["is_completed"]) == (1, 0, False)
        assert {params["call_stage"] for params in asked.values() if "call_stage" in params} == {"call_ended"}

    async def test_a_stranger_among_the_incoming_leads(self, client: Client) -> None:
        asked = await self.asked(client, ended(inbound(answered=False)), unsorted=True)
        entry = asked["process_unsorted_creation_params"]
        assert set(entry) == SEED["process_unsorted_creation_params"]
        assert set(entry["metadata"]) == METADATA_KEYS
        assert entry["_embedded"] == {
            "contacts": [
                {
                    "custom_fields_values": [{"field_id": 801, "values": [{"enum_code": "WORK", "value": CLIENT}]}],
                    "name": f"Contact {CLIENT}",
                    "tags": ["Itgrix"],
                }
            ],
            "leads": [{"name": f"{CLIENT} - missed incoming", "pipeline_id": SALES, "tags": [{"name": "Itgrix"}]}],
        }
        assert entry["metadata"] == {
            "called_at": int(T0),
            "duration": 0,
            "from": CLIENT,
            "is_call_event_needed": False,
            "link": "",
            "phone": "4957770101",
            "service_code": "itgrix_amo",
            "uniq": "1795355557.1",
        }
        assert (entry["source_name"], entry["source_uid"]) == ("itgrix_amo", "1795355557.1")

    @pytest.mark.parametrize(
        ("told", "name"),
        [
            (inbound(), "incoming"),
            (inbound(answered=False), "missed incoming"),
            (outbound(), "missed outgoing"),
        ],
    )
    async def test_the_leads_name(self, client: Client, told: Any, name: str) -> None:
        asked = await self.asked(client, ended(told))
        assert asked["process_lead_creation_params"]["name"] == f"{CLIENT} - {name}"

    async def test_a_call_tried_out_later_gives_what_was_asked(self, client: Client) -> None:
        """`hooks try --call` shows each customization what it was given, but for what was not known then."""
        call = ended(inbound(answered=False))
        asked = await self.asked(client, call)
        for hook, params in asked.items():
            tried = params_for(CATALOGUE[hook].name, call, Progress.model_validate(client.row), CLIENT, rules())  # type: ignore[index]  # the names of hooks
            assert tried is not None
            assert _but_call_full(tried) == _but_call_full(params), hook


def _but_call_full(params: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if key != "call_full"}


class TestBadInput:
    async def test_without_a_default_a_refused_user_is_left_out(self, client: Client) -> None:
        client.hooks = Hooks(process_contact_creation_params=lambda data: {**data, "responsible_user_id": 1})
        await client.register(ended(inbound()))
        _, again = client.sandbox.audit.asked("POST", "/api/v4/contacts")
        assert "responsible_user_id" not in again.body[0]
        assert counts(client) == {"contacts": 1, "leads": 1, "calls": 1, "tasks": 0}

    @pytest.mark.parametrize(
        ("hook", "change", "words"),
        [
            ("process_lead_creation_params", {"pipeline_id": 5}, "pipeline_id"),
            ("process_contact_creation_params", {"custom_fields_values": [{"field_id": 5, "values": []}]}, "field"),
        ],
    )
    async def test_what_kommo_refuses_is_told_in_its_words_and_can_be_retried(
        self, client: Client, hook: str, change: dict[str, Any], words: str
    ) -> None:
        client.hooks = Hooks(**{hook: lambda data: {**data, **change}})
        call = ended(inbound())
        with pytest.raises(KommoRejected, match=words):
            await client.register(call)
        assert not client.account.calls
        client.hooks = Hooks()  # the file was mended: it is asked anew
        assert await client.register(call) == ""
        assert counts(client) == {"contacts": 1, "leads": 1, "calls": 1, "tasks": 0}

    async def test_rubbish_from_customizations_is_noted_and_stops_nothing(self, client: Client, tmp_path: Path) -> None:
        for hook in SEED:
            (tmp_path / f"{hook}.py").write_text(f"def {hook}(params):\n    return {{'state': 'success', 'data': 5}}\n")
        customizer = Customizer(Customizations.model_validate({"directory": str(tmp_path)}))
        await customizer.start()
        client.hooks = customizer
        try:
            assert await client.register(ended(inbound(answered=False))) == ""
        finally:
            await customizer.stop()
        assert counts(client) == {"contacts": 1, "leads": 1, "calls": 1, "tasks": 1}
        failed = {note.split()[0] for note in client.row["notes"] if " failed: " in note}
        assert failed == SEED.keys() - {"process_unsorted_creation_params", "post_registration"}
