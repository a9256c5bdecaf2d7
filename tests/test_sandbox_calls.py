"""Calls in the sandbox: whom a phone means, what is written, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from itgrix_kommo.sandbox import Kind
from tests.test_sandbox import ANN, BORIS, HAL, LEFT, PHONE, PROBLEM, Api, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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
