"""Notes and tasks in the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.test_sandbox import ANN, BORIS, LEFT, PHONE, Api, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARAMS = {"uniq": "17.1", "duration": 54, "source": "itgrix_amo", "phone": PHONE}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


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
