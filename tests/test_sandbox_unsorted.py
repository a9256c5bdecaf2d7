"""Incoming leads, and leads made together with their contact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.test_sandbox import BORIS, CARLA, PHONE, Answer, Api, opened, phones

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


def entry(uniq: str = "17.1", phone: str = PHONE, **more: object) -> dict[str, Any]:
    metadata = {
        "is_call_event_needed": False,
        "uniq": uniq,
        "duration": 54,
        "service_code": "itgrix_amo",
        "link": "https://pbx.example.com/1.mp3",
        "phone": phone,
        "from": phone,
        "called_at": 1_760_000_000,
    }
    contact = {"name": f"Contact {phone}", "custom_fields_values": phones(phone)}
    return {
        "source_name": "itgrix_amo",
        "source_uid": uniq,
        "pipeline_id": 7001,
        "created_at": 1_760_000_000,
        "metadata": metadata,
        "_embedded": {"leads": [{"name": f"Call from {phone}"}], "contacts": [contact]},
        **more,
    }


async def received(api: Api, *entries: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await api.post("/v4/leads/unsorted/sip", list(entries or [entry()]))
    assert answer.status == 200, answer.body
    return answer.items("unsorted")


class TestReceiving:
    async def test_a_call(self, api: Api) -> None:
        answer = await api.post("/v4/leads/unsorted/sip", [entry(request_id="17.1")])
        made = answer.items("unsorted")[0]
        base = f"{api.sandbox.url}/api/v4"
        assert answer.body["_total_items"] == 1
        assert made == {
            "uid": made["uid"],
            "account_id": 31000001,
            "request_id": "17.1",
            "_links": {"self": {"href": f"{base}/leads/unsorted/{made['uid']}"}},
            "_embedded": {
                "contacts": [{"id": 5501, "_links": {"self": {"href": f"{base}/contacts/5501"}}}],
                "leads": [{"id": 6601, "_links": {"self": {"href": f"{base}/leads/6601"}}}],
                "companies": [],
            },
        }

    async def test_its_cards_are_hidden_but_there(self, api: Api) -> None:
        await received(api)
        for path in ("contacts", "leads", "contacts?query=2025550143", "leads?filter[id][]=6601"):
            assert (await api.get(f"/v4/{path}")).status == 204
        assert (await api.get("/v4/contacts/5501")).body["is_unsorted"] is True
        lead = (await api.get("/v4/leads/6601?with=contacts")).body
        assert (lead["status_id"], lead["_embedded"]["contacts"][0]["id"]) == (70010, 5501)
        note = {"note_type": "call_in", "params": {"duration": 5, "source": "itgrix_amo"}}
        assert (await api.post("/v4/leads/6601/notes", [note])).status == 200

    async def test_the_list(self, api: Api) -> None:
        assert (await api.get("/v4/leads/unsorted")).status == 204
        made = await received(api, entry("1"), entry("2", pipeline_id=7002, created_at=1_750_000_000))
        one, two = [item["uid"] for item in made]
        body = (await api.get(f"/v4/leads/unsorted/{one}")).body
        assert (body["category"], body["source_uid"], body["pipeline_id"]) == ("sip", "1", 7001)
        assert body["metadata"]["from"] == PHONE
        assert "is_call_event_needed" not in body["metadata"]
        for query, found in {
            "": [two, one],
            "order[created_at]=desc": [one, two],
            f"filter[uid][]={one}": [one],
            "filter[category][]=sip&filter[pipeline_id]=7002": [two],
        }.items():
            listed = (await api.get(f"/v4/leads/unsorted?{query}")).items("unsorted")
            assert [item["uid"] for item in listed] == found, query
        assert (await api.get("/v4/leads/unsorted?filter[category][]=forms")).status == 204
        assert (await api.get("/v4/leads/unsorted/0")).status == 404

    async def test_a_call_event_by_wish(self, api: Api) -> None:
        await received(api)
        assert not api.account.calls
        wished = entry("18.1")
        wished["metadata"] |= {"is_call_event_needed": True, "call_responsible": BORIS}
        await received(api, wished)
        note = api.account.calls[0]
        assert (note.note_type, note.created_by, note.created_at) == ("call_in", BORIS, 1_760_000_000)
        assert (note.params["uniq"], note.params["source"]) == ("18.1", "itgrix_amo")

    async def test_the_identical_are_refused(self, api: Api) -> None:
        await received(api)
        assert (await api.post("/v4/leads/unsorted/sip", [entry()])).status == 400
        assert (await api.post("/v4/leads/unsorted/sip", [entry("3"), entry("3")])).status == 400
        assert len(api.account.unsorted) == 1
        await received(api, entry("2"))  # one source_uid alone makes no double, nor does the phone
        same_source = entry("4")
        same_source["source_uid"] = "17.1"
        await received(api, same_source)
        api.switches.identical_unsorted = "accepted"
        await received(api)
        assert set(api.sandbox.audit.duplicates()["unsorted_by_uniq"]) == {"17.1"}

    async def test_where_they_are_turned_off(self, api: Api) -> None:
        assert (await api.post("/v4/leads/unsorted/sip", [entry(pipeline_id=7003)])).status == 400
        api.switches.is_unsorted_on = False
        answer = await api.post("/v4/leads/unsorted/sip", [entry()])
        assert (answer.status, answer.body["title"]) == (400, "Bad Request")
        assert not api.account.leads

    @pytest.mark.parametrize("missing", ["source_uid", "source_name", "metadata"])
    async def test_what_is_required(self, api: Api, missing: str) -> None:
        body = entry()
        del body[missing]
        assert (await api.post("/v4/leads/unsorted/sip", [body])).errors() == {missing: "FieldMissing"}

    @pytest.mark.parametrize(
        ("change", "path", "code"),
        [
            ({"pipeline_id": 1}, "pipeline_id", "NotSupportedChoice"),
            ({"source_uid": ""}, "source_uid", "NotBlank"),
            ({"metadata": {"link": None}}, "metadata.link", "NotNullable"),
            ({"metadata": {"call_responsible": 1}}, "metadata.call_responsible", "NotSupportedChoice"),
            ({"metadata": {"call_result": "x"}}, "metadata.call_result", "FieldNotExpected"),
            ({"_embedded": {"leads": [{"tags": []}]}}, "_embedded.leads.0.tags", "FieldNotExpected"),
            ({"_embedded": {"leads": [{}, {}]}}, "_embedded.leads", "NotSupportedChoice"),
            (
                {"_embedded": {"contacts": [{"custom_fields_values": [{"field_id": 1, "values": [{"value": "1"}]}]}]}},
                "_embedded.contacts.0.custom_fields_values.0.field_id",
                "NotSupportedChoice",
            ),
        ],
    )
    async def test_refusals(self, api: Api, change: dict[str, Any], path: str, code: str) -> None:
        answer = await api.post("/v4/leads/unsorted/sip", [entry() | change])
        assert (answer.status, answer.errors()) == (400, {path: code})

    async def test_a_form(self, api: Api) -> None:
        form = {
            "source_name": "Site",
            "source_uid": "site",
            "metadata": {"form_id": 5, "form_name": "Ask", "form_page": "https://acme.example", "form_sent_at": 1},
            "_embedded": {"companies": [{"name": "Acme"}], "contacts": [{"name": "Ann"}]},
        }
        answer = await api.post("/v4/leads/unsorted/forms", [form])
        embedded = answer.items("unsorted")[0]["_embedded"]
        assert [len(embedded[name]) for name in ("leads", "contacts", "companies")] == [1, 1, 1]
        contact = (await api.get(f"/v4/contacts/{embedded['contacts'][0]['id']}")).body
        assert contact["_embedded"]["companies"][0]["id"] == embedded["companies"][0]["id"]
        assert (await api.get("/v4/leads/unsorted?filter[category][]=forms")).status == 200


class TestSorting:
    async def test_accepted(self, api: Api) -> None:
        uid = (await received(api))[0]["uid"]
        answer = await api.post(f"/v4/leads/unsorted/{uid}/accept", {"user_id": BORIS, "status_id": 70012})
        assert answer.status == 200
        assert answer.body == {
            "uid": uid,
            "pipeline_id": 7001,
            "category": "sip",
            "created_at": 1_760_000_000,
            "_embedded": {
                "leads": [{"id": 6601}],
                "contacts": [{"id": 5501, "is_deleted": False, "is_unsorted": False}],
                "companies": [],
            },
        }
        lead = (await api.get("/v4/leads")).items("leads")[0]
        assert (lead["id"], lead["status_id"], lead["responsible_user_id"]) == (6601, 70012, BORIS)
        assert (await api.get("/v4/contacts?query=2025550143")).items("contacts")[0]["id"] == 5501
        assert (await api.get(f"/v4/leads/unsorted/{uid}")).status == 404
        assert (await api.post(f"/v4/leads/unsorted/{uid}/accept", {})).status == 404

    async def test_accepted_without_a_body(self, api: Api) -> None:
        uid = (await received(api))[0]["uid"]
        assert (await api.ask("POST", f"/v4/leads/unsorted/{uid}/accept")).status == 200
        assert api.account.leads[6601].status_id == 70011

    @pytest.mark.parametrize("body", [{"status_id": 70010}, {"status_id": 70022}, {"user_id": 1}])
    async def test_wrongly_accepted(self, api: Api, body: dict[str, int]) -> None:
        uid = (await received(api))[0]["uid"]
        assert (await api.post(f"/v4/leads/unsorted/{uid}/accept", body)).status == 400
        assert api.account.unsorted[uid].state == "pending"

    async def test_declined(self, api: Api) -> None:
        uid = (await received(api))[0]["uid"]
        path = f"/v4/leads/unsorted/{uid}/decline"
        assert (await api.ask("DELETE", path)).errors() == {"user_id": "FieldMissing"}
        answer = await api.ask("DELETE", path, json={"user_id": CARLA})
        assert (answer.status, answer.body["uid"]) == (200, uid)
        assert (await api.get("/v4/leads/6601")).status == 204
        assert (await api.get("/v4/leads/unsorted")).status == 204

    async def test_a_call_can_not_be_linked(self, api: Api) -> None:
        uid = (await received(api))[0]["uid"]
        path = f"/v4/leads/unsorted/{uid}/link"
        assert (await api.post(path, {"link": {"entity_type": "leads", "entity_id": 1}})).status == 400
        assert (await api.post(path, {})).errors() == {"link": "FieldMissing"}

    async def test_the_summary(self, api: Api) -> None:
        one, two, _ = await received(api, entry("1"), entry("2"), entry("3", pipeline_id=7002))
        api.clock.advance(300)
        await api.post(f"/v4/leads/unsorted/{one['uid']}/accept", {})
        await api.ask("DELETE", f"/v4/leads/unsorted/{two['uid']}/decline", json={"user_id": CARLA})
        body = (await api.get("/v4/leads/unsorted/summary")).body
        del body["_links"]
        assert body == {
            "total": 3,
            "accepted": 1,
            "declined": 1,
            "average_sort_time": 302,
            "categories": {"sip": {"total": 3}},
        }
        assert (await api.get("/v4/leads/unsorted/summary?filter[pipeline_id]=7002")).body["total"] == 1
        later = await api.get("/v4/leads/unsorted/summary?filter[created_at][from]=1760000001")
        assert later.body["total"] == 0


class TestComplex:
    async def made(self, api: Api, phone: str = PHONE, **more: Any) -> Answer:
        contact = {"name": "New", "custom_fields_values": phones(phone)}
        embedded = {"contacts": [contact], "companies": [{"name": "Acme"}]} | more
        return await api.post("/v4/leads/complex", [{"name": "Lead", "request_id": "17.1", "_embedded": embedded}])

    async def test_a_bare_array_with_all_ids(self, api: Api) -> None:
        answer = await self.made(api)
        assert answer.status == 200
        assert answer.body == [
            {"id": 6601, "contact_id": 5501, "company_id": 5502, "request_id": ["17.1"], "merged": False}
        ]
        embedded = (await api.get("/v4/leads/6601?with=contacts")).body["_embedded"]
        assert (embedded["contacts"][0]["id"], embedded["companies"][0]["id"]) == (5501, 5502)

    async def test_doubles_are_recognised_only_where_it_is_switched_on(self, api: Api) -> None:
        contact_id = await api.contact()
        lead_id = await api.lead(contact_id)
        assert (await self.made(api)).body[0]["merged"] is False
        api.account.delete_card(api.account.leads[6602].kind, 6602)
        api.switches.duplicate_control = True
        again = (await self.made(api, "2025550143")).body[0]
        assert (again["merged"], again["contact_id"], again["id"]) == (True, contact_id, lead_id)

    async def test_no_doubles_inside_one_request(self, api: Api) -> None:
        api.switches.duplicate_control = True
        lead = {"_embedded": {"contacts": [{"custom_fields_values": phones(PHONE)}]}}
        answer = await api.post("/v4/leads/complex", [lead, lead])
        assert [(made["merged"], made["request_id"]) for made in answer.body] == [(False, ["0"]), (False, ["1"])]

    async def test_with_metadata_it_is_an_incoming_lead(self, api: Api) -> None:
        metadata = {"category": "sip", "uniq": "17.1", "phone": PHONE, "is_call_event_needed": True}
        answer = await self.made(api, metadata=metadata)
        assert answer.body[0]["id"] == 6601
        assert (await api.get("/v4/leads")).status == 204
        listed = (await api.get("/v4/leads/unsorted")).items("unsorted")
        assert [(item["category"], item["metadata"]) for item in listed] == [("sip", {"uniq": "17.1", "phone": PHONE})]
        assert len(api.account.calls) == 1
        api.switches.is_unsorted_on = False
        assert (await self.made(api, metadata=metadata)).status == 400

    @pytest.mark.parametrize("status", [400, 422])
    async def test_fifty_at_most(self, api: Api, status: int) -> None:
        api.switches.oversized_complex_status = 400 if status == 400 else 422
        assert (await api.post("/v4/leads/complex", [{}] * 51)).status == status
        assert (await api.post("/v4/leads/complex", [{}] * 50)).status == 200

    async def test_forty_values_at_most(self, api: Api) -> None:
        answer = await self.made(api, contacts=[{"custom_fields_values": phones(*["1"] * 41)}])
        assert answer.errors() == {"_embedded.contacts.0.custom_fields_values": "NotSupportedChoice"}
        refused = await self.made(api, contacts=[{"first_name": 5}])
        assert refused.errors() == {"_embedded.contacts.0.first_name": "InvalidType"}


class TestPopups:
    async def shown(self, api: Api, **event: Any) -> Answer:
        item = {"type": "phone_call", "phone_number": PHONE, **event}
        return await api.post("/v2/events/", {"add": [item]})

    async def test_to_the_users_named(self, api: Api) -> None:
        contact_id = await api.contact()
        answer = await self.shown(api, users=[BORIS, CARLA])
        popup = api.account.popups[0]
        assert answer.status == 200
        assert answer.body == {
            "_links": {"self": {"href": "/api/v2/events", "method": "post"}},
            "_embedded": {
                "items": [{"element_id": contact_id, "element_type": 1, "uid": popup.uid, "phone_number": PHONE}]
            },
        }
        assert (popup.users, popup.to_everyone) == ((BORIS, CARLA), False)

    @pytest.mark.parametrize("users", [BORIS, str(BORIS), f"{BORIS}, x", [str(BORIS)]])
    async def test_users_in_any_form(self, api: Api, users: object) -> None:
        await self.shown(api, users=users)
        assert api.account.popups[0].users == (BORIS,)

    @pytest.mark.parametrize("event", [{}, {"users": []}, {"users": None}, {"users": ""}])
    async def test_nobody_named_is_everybody(self, api: Api, event: dict[str, Any]) -> None:
        await self.shown(api, **event)
        assert api.account.popups[0].to_everyone
        assert len(api.account.popups[0].users) == 3

    async def test_the_card_by_eight_digits(self, api: Api) -> None:
        contact_id = await api.contact("+12025550143")
        lead_id = await api.lead(contact_id)
        company_id = await api.company("+12025550100")
        for phone, found in {
            "+4725550143": (2, lead_id),
            "5550143": (None, None),
            "12025550100": (3, company_id),
        }.items():
            item = (await self.shown(api, phone_number=phone)).items("items")[0]
            assert (item["element_type"], item["element_id"]) == found, phone

    async def test_several_in_one_request_and_as_a_form(self, api: Api) -> None:
        events = [{"type": "phone_call", "phone_number": phone} for phone in ("1", "2")]
        assert len((await api.post("/v2/events", {"add": events})).items("items")) == 2
        form = {"add[0][type]": "phone_call", "add[0][phone_number]": PHONE, "add[0][users][]": str(BORIS)}
        assert (await api.ask("POST", "/v2/events/", data=form)).status == 200
        assert [popup.users for popup in api.account.popups][-1] == (BORIS,)

    async def test_202_by_switch(self, api: Api) -> None:
        api.switches.popup_status = 202
        assert (await self.shown(api)).status == 202

    @pytest.mark.parametrize(
        "body", [{}, {"add": []}, {"add": ["x"]}, {"add": [{"type": "call"}]}, {"add": [{"type": "phone_call"}]}, []]
    )
    async def test_refusals(self, api: Api, body: object) -> None:
        assert (await api.post("/v2/events/", body)).status == 400
        assert not api.account.popups
