"""Calls, notes and tasks in the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from itgrix_kommo.sandbox import Kind
from tests.test_sandbox import ANN, BORIS, HAL, LEFT, PHONE, PROBLEM, Api, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARAMS = {"uniq": "17.1", "duration": 54, "source": "itgrix_amo", "phone": PHONE}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


def call(phone: str = PHONE, **more: object) -> dict[str, Any]:
    return {"direction": "inbound", "phone": phone, "duration": 54, "source": "itgrix_amo", "uniq": "17.1", **more}


async def target(api: Api, phone: str = PHONE) -> tuple[str, int] | None:
    """Where a call from that phone lands."""
    answer = await api.post("/v4/calls", [call(phone)])
    if answer.status != 200:
        return None
    written = answer.items("calls")[0]
    return written["entity_type"], written["entity_id"]


class TestMatching:
    async def test_the_only_open_lead(self, api: Api) -> None:
        contact_id = await api.contact()
        await api.lead(contact_id, status_id=142)
        lead_id = await api.lead(contact_id)
        assert await target(api) == ("lead", lead_id)

    async def test_no_lead_or_several_mean_the_contact(self, api: Api) -> None:
        contact_id = await api.contact()
        assert await target(api) == ("contact", contact_id)
        await api.lead(contact_id)
        await api.lead(contact_id)
        assert await target(api) == ("contact", contact_id)

    @pytest.mark.parametrize(
        ("stored", "asked", "is_found"),
        [
            ("+7 (999) 123-45-67", "89991234567", True),
            ("+12025550143", "2025550143", True),
            ("+12025550143", "+443025550143", False),
            ("101", "101", True),
            ("+12025550101", "101", False),
        ],
    )
    async def test_the_last_ten_digits(self, api: Api, stored: str, asked: str, *, is_found: bool) -> None:
        await api.contact(stored)
        assert (await target(api, asked) is not None) is is_found

    async def test_the_oldest_of_several_contacts(self, api: Api) -> None:
        first = await api.contact()
        await api.contact()
        assert await target(api) == ("contact", first)

    async def test_companies_after_contacts(self, api: Api) -> None:
        company_id = await api.company(PHONE)
        assert await target(api) == ("company", company_id)
        contact_id = await api.contact()
        assert await target(api) == ("contact", contact_id)

    async def test_the_deleted_are_not_matched(self, api: Api) -> None:
        contact_id = await api.contact()
        api.account.delete_card(Kind.CONTACTS, contact_id)
        assert await target(api) is None

    async def test_only_the_phone_field_counts(self, api: Api) -> None:
        await api.contact("1", custom_fields_values=[{"field_id": 804, "values": [{"value": PHONE}]}])
        assert await target(api) is None

    async def test_unsorted_contacts_by_switch(self, api: Api) -> None:
        contact = {"name": "New", "custom_fields_values": [{"field_code": "PHONE", "values": [{"value": PHONE}]}]}
        entry = {"source_uid": "1", "source_name": "pbx", "metadata": {}, "_embedded": {"contacts": [contact]}}
        assert (await api.post("/v4/leads/unsorted/sip", [entry])).status == 200
        assert await target(api) is None
        api.switches.calls_match_unsorted = True
        assert await target(api) == ("contact", min(api.account.contacts))


class TestCalls:
    async def test_written(self, api: Api) -> None:
        lead_id = await api.lead(await api.contact())
        details = {"link": "https://pbx.example.com/1.mp3", "call_result": "Talked", "call_status": 4}
        answer = await api.post("/v4/calls", [call(call_responsible=BORIS, created_at=1_750_000_000) | details])
        note_id = answer.items("calls")[0]["id"]
        entity = {"id": lead_id, "_links": {"self": {"href": f"{api.sandbox.url}/api/v4/leads/{lead_id}"}}}
        assert (answer.status, answer.content_type) == (200, HAL)
        assert answer.body == {
            "_total_items": 1,
            "errors": [],
            "_embedded": {
                "calls": [
                    {
                        "id": note_id,
                        "entity_id": lead_id,
                        "entity_type": "lead",
                        "account_id": 31000001,
                        "request_id": "0",
                        "_embedded": {"entity": entity},
                    }
                ]
            },
        }
        note = (await api.get(f"/v4/leads/{lead_id}/notes/{note_id}")).body
        assert note["note_type"] == "call_in"
        assert (note["created_by"], note["created_at"]) == (BORIS, 1_750_000_000)
        assert note["params"] == {
            "uniq": "17.1",
            "duration": 54,
            "source": "itgrix_amo",
            "phone": PHONE,
            "call_responsible": BORIS,
            **details,
        }

    async def test_the_author(self, api: Api) -> None:
        await api.contact()
        calls = [
            call(call_responsible=BORIS, created_by=ANN),
            call(call_responsible=str(BORIS), created_by=ANN),  # digits in a string are a name
            call(direction="outbound"),
        ]
        assert (await api.post("/v4/calls", calls)).status == 200
        assert [(note.note_type, note.created_by) for note in api.account.calls] == [
            ("call_in", BORIS),
            ("call_in", ANN),
            ("call_out", 0),
        ]

    async def test_an_unknown_phone(self, api: Api) -> None:
        answer = await api.post("/v4/calls", [call(request_id="17.1")])
        assert (answer.status, answer.content_type) == (400, PROBLEM)
        detail = answer.body["errors"][0].pop("detail")
        assert isinstance(detail, str)
        assert answer.body == {
            "_total_items": 0,
            "errors": [{"title": "Entity not found", "status": 263, "request_id": "17.1"}],
            "_embedded": {"calls": []},
        }
        assert not api.account.calls

    @pytest.mark.parametrize("status", [200, 400])
    async def test_one_hit_one_miss(self, api: Api, status: int) -> None:
        api.switches.mixed_calls_status = 200 if status == 200 else 400
        await api.contact()
        answer = await api.post("/v4/calls", [call("+19995550000"), call()])
        assert (answer.status, answer.body["_total_items"]) == (status, 1)
        assert [error["request_id"] for error in answer.body["errors"]] == ["0"]
        assert [written["request_id"] for written in answer.items("calls")] == ["1"]
        assert len(api.account.calls) == 1

    async def test_the_same_uniq_twice(self, api: Api) -> None:
        await api.contact()
        await api.post("/v4/calls", [call(), call()])
        first, second = [note.id for note in api.account.calls]
        assert api.sandbox.audit.duplicates()["calls_by_uniq"] == {"17.1": [first, second]}
        api.switches.repeated_uniq = "refused"
        answer = await api.post("/v4/calls", [call(), call(uniq="18.1")])
        assert [written["request_id"] for written in answer.items("calls")] == ["1"]
        assert answer.body["errors"][0]["request_id"] == "0"

    @pytest.mark.parametrize("missing", ["direction", "phone", "duration", "source"])
    async def test_what_is_required(self, api: Api, missing: str) -> None:
        body = call()
        del body[missing]
        answer = await api.post("/v4/calls", [body])
        assert (answer.status, answer.errors()) == (400, {missing: "FieldMissing"})

    @pytest.mark.parametrize("name", ["link", "call_result", "call_status", "uniq", "created_by", "call_responsible"])
    async def test_nulls_are_refused(self, api: Api, name: str) -> None:
        await api.contact()
        answer = await api.post("/v4/calls", [call() | {name: None}])
        assert (answer.status, answer.errors()) == (400, {name: "NotNullable"})

    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [
            ("direction", "in", "NotSupportedChoice"),
            ("duration", -1, "NotSupportedChoice"),
            ("duration", "54", "InvalidType"),
            ("call_status", 0, "NotSupportedChoice"),
            ("call_status", 8, "NotSupportedChoice"),
            ("call_responsible", 1, "NotSupportedChoice"),
            ("call_responsible", 0, "NotSupportedChoice"),
            ("call_responsible", [], "InvalidType"),
            ("responsible_user_id", LEFT, "NotSupportedChoice"),
            ("phone", " ", "NotBlank"),
            ("call_full", {}, "FieldNotExpected"),
        ],
    )
    async def test_wrong_values(self, api: Api, name: str, value: object, code: str) -> None:
        await api.contact()
        answer = await api.post("/v4/calls", [call() | {name: value}])
        assert (answer.status, answer.errors()) == (400, {name: code})
        assert not api.account.calls


class TestNotes:
    async def test_a_call_note_on_a_card_of_choice(self, api: Api) -> None:
        lead_id = await api.lead()
        note = {"note_type": "call_out", "created_by": BORIS, "responsible_user_id": BORIS, "created_at": 1_750_000_000}
        params = PARAMS | {"call_status": 6, "call_result": "No answer", "call_responsible": BORIS}
        answer = await api.post(f"/v4/leads/{lead_id}/notes", [note | {"params": params, "request_id": "17.1"}])
        note_id = answer.items("notes")[0]["id"]
        href = f"{api.sandbox.url}/api/v4/leads/{lead_id}/notes/{note_id}"
        assert answer.items("notes") == [
            {"id": note_id, "entity_id": lead_id, "request_id": "17.1", "_links": {"self": {"href": href}}}
        ]
        assert (await api.get(f"/v4/leads/notes/{note_id}")).body == {
            "id": note_id,
            "entity_id": lead_id,
            "created_by": BORIS,
            "updated_by": BORIS,
            "created_at": 1_750_000_000,
            "updated_at": api.account.notes[note_id].updated_at,
            "responsible_user_id": BORIS,
            "group_id": 0,
            "note_type": "call_out",
            "params": params,
            "is_pinned": False,
            "account_id": 31000001,
            "_links": {"self": {"href": href}},
        }
        assert api.account.notes[note_id].updated_at > 1_750_000_000

    async def test_on_several_cards_by_entity_id(self, api: Api) -> None:
        one, two = await api.contact("1"), await api.contact("2")
        notes = [{"entity_id": card, "note_type": "common", "params": {"text": "Hello"}} for card in (one, two)]
        answer = await api.post("/v4/contacts/notes", notes)
        assert [note["entity_id"] for note in answer.items("notes")] == [one, two]
        del notes[0]["entity_id"]
        notes[1]["entity_id"] = 1
        refused = await api.post("/v4/contacts/notes", notes)
        assert [refused.errors(0), refused.errors(1)] == [
            {"entity_id": "FieldMissing"},
            {"entity_id": "NotSupportedChoice"},
        ]
        assert len(api.account.notes) == 2

    @pytest.mark.parametrize(
        ("change", "path", "code"),
        [
            ({"duration": None}, "duration", "NotNullable"),
            ({"duration": "54"}, "duration", "InvalidType"),
            ({"source": None}, "source", "NotNullable"),
            ({"source": ""}, "source", "NotBlank"),
            ({"link": None}, "link", "NotNullable"),
            ({"call_status": None}, "call_status", "NotNullable"),
            ({"call_result": None}, "call_result", "NotNullable"),
            ({"call_responsible": 5}, "call_responsible", "NotSupportedChoice"),
            ({"direction": "inbound"}, "direction", "FieldNotExpected"),
        ],
    )
    async def test_params_of_calls_are_strict(self, api: Api, change: dict[str, Any], path: str, code: str) -> None:
        lead_id = await api.lead()
        answer = await api.post(f"/v4/leads/{lead_id}/notes", [{"note_type": "call_in", "params": PARAMS | change}])
        assert (answer.status, answer.errors()) == (400, {f"params.{path}": code})
        assert not api.account.notes

    async def test_duration_and_source_are_required_and_little_else(self, api: Api) -> None:
        lead_id = await api.lead()
        path = f"/v4/leads/{lead_id}/notes"
        refused = await api.post(path, [{"note_type": "call_in", "params": {"source": "pbx"}}])
        assert refused.errors() == {"params.duration": "FieldMissing"}
        refused = await api.post(path, [{"note_type": "call_in", "params": {"duration": 0}}])
        assert refused.errors() == {"params.source": "NotBlank"}
        assert (
            await api.post(path, [{"note_type": "call_in", "params": {"source": "pbx", "duration": 0, "link": ""}}])
        ).status == 200

    async def test_kinds_of_note(self, api: Api) -> None:
        lead_id = await api.lead()
        path = f"/v4/leads/{lead_id}/notes"
        assert (await api.post(path, [{"note_type": "call", "params": {}}])).errors() == {
            "note_type": "NotSupportedChoice"
        }
        assert (await api.post(path, [{"note_type": "common", "params": {}}])).errors() == {
            "params.text": "FieldMissing"
        }
        service = {"note_type": "service_message", "params": {"service": "pbx", "text": "Voicemail"}}
        assert (await api.post(path, [service])).status == 200

    async def test_an_unknown_card(self, api: Api) -> None:
        assert (await api.post("/v4/leads/1/notes", [{"note_type": "common", "params": {"text": "x"}}])).status == 404
        assert (await api.get("/v4/leads/1/notes")).status == 404
        assert (await api.get("/v4/leads/notes/1")).status == 404

    async def test_filters(self, api: Api) -> None:
        lead_id = await api.lead()
        path = f"/v4/leads/{lead_id}/notes"
        assert (await api.get(path)).status == 204
        made = await api.post(
            path,
            [
                {"note_type": "common", "params": {"text": "x"}},
                {"note_type": "call_in", "params": PARAMS},
                {"note_type": "call_out", "params": PARAMS},
            ],
        )
        common, call_in, call_out = [note["id"] for note in made.items("notes")]
        for query, found in {
            "filter[note_type][]=call_in&filter[note_type][]=call_out": [call_in, call_out],
            "filter[note_type]=common": [common],
            f"filter[id][]={call_out}": [call_out],
            f"filter[updated_at][from]={api.account.now() + 1}": [],
            "order[id]=desc&limit=2": [call_out, call_in],
        }.items():
            answer = await api.get(f"{path}?{query}")
            assert [note["id"] for note in (answer.items("notes") if found else [])] == found, query
            assert answer.status == (200 if found else 204)
        everywhere = await api.get(f"/v4/leads/notes?filter[entity_id][]={lead_id}&filter[note_type][]=call_in")
        assert [note["id"] for note in everywhere.items("notes")] == [call_in]

    async def test_a_recording_is_added_later(self, api: Api) -> None:
        lead_id = await api.lead()
        made = await api.post(f"/v4/leads/{lead_id}/notes", [{"note_type": "call_in", "params": PARAMS}])
        note_id = made.items("notes")[0]["id"]
        params = PARAMS | {"link": "https://pbx.example.com/1.mp3"}
        one = await api.patch(f"/v4/leads/{lead_id}/notes/{note_id}", {"note_type": "call_in", "params": params})
        assert one.items("notes")[0]["updated_at"] == api.account.now()
        assert api.account.notes[note_id].params["link"] == "https://pbx.example.com/1.mp3"
        refused = await api.patch(f"/v4/leads/{lead_id}/notes/{note_id}", {"params": {"link": "x"}})
        assert refused.errors() == {"params.duration": "FieldMissing"}
        many = [{"id": note_id, "params": PARAMS}]
        assert (await api.patch("/v4/leads/notes", many)).status == 200
        assert (await api.patch(f"/v4/leads/{lead_id}/notes", many)).status == 200
        assert "link" not in api.account.notes[note_id].params
        other = await api.lead()
        assert (await api.patch(f"/v4/leads/{other}/notes", many)).errors() == {"id": "NotSupportedChoice"}
        assert (await api.patch("/v4/leads/notes", [{"id": 1}])).errors() == {"id": "NotSupportedChoice"}
        assert (await api.patch(f"/v4/leads/{other}/notes/{note_id}", {"params": params})).status == 404

    async def test_pinning(self, api: Api) -> None:
        lead_id = await api.lead()
        made = await api.post(f"/v4/leads/{lead_id}/notes", [{"note_type": "common", "params": {"text": "x"}}])
        path = f"/v4/leads/notes/{made.items('notes')[0]['id']}"
        assert (await api.post(f"{path}/pin", None)).body["is_pinned"] is True
        assert (await api.post(f"{path}/unpin", None)).body["is_pinned"] is False


class TestTasks:
    async def test_made_and_read(self, api: Api) -> None:
        lead_id = await api.lead()
        body = {"text": "Call back", "complete_till": 1_760_003_600, "entity_id": lead_id, "entity_type": "leads"}
        answer = await api.post("/v4/tasks", [body | {"responsible_user_id": BORIS, "request_id": "miss-17.1"}])
        task_id = answer.items("tasks")[0]["id"]
        links = {"_links": {"self": {"href": f"{api.sandbox.url}/api/v4/tasks/{task_id}"}}}
        assert answer.items("tasks") == [{"id": task_id, "request_id": "miss-17.1", **links}]
        now = api.account.now()
        assert (await api.get(f"/v4/tasks/{task_id}")).body == {
            "id": task_id,
            "created_by": ANN,
            "updated_by": ANN,
            "created_at": now,
            "updated_at": now,
            "responsible_user_id": BORIS,
            "group_id": 0,
            "entity_id": lead_id,
            "entity_type": "leads",
            "duration": 0,
            "is_completed": False,
            "task_type_id": 1,
            "text": "Call back",
            "result": [],
            "complete_till": 1_760_003_600,
            "account_id": 31000001,
            **links,
        }

    async def test_completed(self, api: Api) -> None:
        task_id = await api.task()
        answer = await api.patch(f"/v4/tasks/{task_id}", {"is_completed": True, "result": {"text": "Reached"}})
        assert answer.items("tasks")[0]["updated_at"] == api.account.now()
        body = (await api.get(f"/v4/tasks/{task_id}")).body
        assert (body["is_completed"], body["result"], body["text"]) == (True, {"text": "Reached"}, "Call back")
        assert (await api.patch("/v4/tasks", [{"id": task_id, "is_completed": False}])).status == 200
        assert not api.account.tasks[task_id].is_completed

    @pytest.mark.parametrize(
        ("change", "path", "code"),
        [
            ({"text": " "}, "text", "NotBlank"),
            ({"complete_till": "soon"}, "complete_till", "InvalidType"),
            ({"task_type_id": 9}, "task_type_id", "NotSupportedChoice"),
            ({"task_type": 1}, "task_type", "FieldNotExpected"),
            ({"entity_id": 1, "entity_type": "leads"}, "entity_id", "NotSupportedChoice"),
            ({"entity_id": 1}, "entity_type", "FieldMissing"),
            ({"entity_id": 1, "entity_type": "contact"}, "entity_type", "NotSupportedChoice"),
            ({"responsible_user_id": LEFT}, "responsible_user_id", "NotSupportedChoice"),
            ({"responsible_user_id": None}, "responsible_user_id", "NotNullable"),
        ],
    )
    async def test_refusals(self, api: Api, change: dict[str, Any], path: str, code: str) -> None:
        answer = await api.post("/v4/tasks", [{"text": "Call back", "complete_till": 1_760_003_600} | change])
        assert (answer.status, answer.errors()) == (400, {path: code})
        assert not api.account.tasks

    async def test_text_and_time_are_required(self, api: Api) -> None:
        assert (await api.post("/v4/tasks", [{}])).errors() == {"text": "FieldMissing", "complete_till": "FieldMissing"}
        assert (await api.patch("/v4/tasks/1", {"text": "x"})).errors() == {"id": "NotSupportedChoice"}
        assert (await api.get("/v4/tasks/1")).status == 204

    async def test_filters(self, api: Api) -> None:
        contact_id = await api.contact()
        lead_id = await api.lead(contact_id, pipeline_id=7002)
        one = await api.task(entity_id=contact_id, entity_type="contacts", responsible_user_id=BORIS)
        two = await api.task(entity_id=lead_id, entity_type="leads", task_type_id=2, complete_till=1)
        three = await api.task(is_completed=True)
        for query, found in {
            "filter[is_completed]=0": [one, two],
            "filter[is_completed][]=1": [three],
            f"filter[entity_type]=leads&filter[entity_id][]={lead_id}": [two],
            f"filter[responsible_user_id][]={BORIS}": [one],
            "filter[task_type][]=2": [two],
            "filter[task_type_id][]=2": [two],
            f"filter[id][]={one}&filter[id][]={three}": [one, three],
            "filter[lead_statuses][0][pipeline_id]=7002&filter[lead_statuses][0][status_id]=70021": [two],
            f"filter[updated_at]={api.account.tasks[three].updated_at}": [three],
            "order[complete_till]=asc": [two, one, three],
        }.items():
            assert [task["id"] for task in (await api.get(f"/v4/tasks?{query}")).items("tasks")] == found, query
