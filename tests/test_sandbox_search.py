"""Contacts and leads of the sandbox: searched, paged, filtered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from itgrix_kommo.sandbox import Kind
from tests.test_sandbox import BORIS, PHONE, Api, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [item["id"] for item in found]


class TestSearching:
    async def test_nothing_found_is_204_without_a_body(self, api: Api) -> None:
        await api.contact()
        for path in ("contacts?query=2025550000", "leads", "companies", "tasks", "contacts/1", "contacts?page=2"):
            answer = await api.get(f"/v4/{path}")
            assert (answer.status, answer.body) == (204, None)

    @pytest.mark.parametrize(
        ("stored", "query", "is_found"),
        [
            ("+1 202 555 0143", "2025550143", True),
            ("+12025550143", "+12025550143", True),
            ("+12025550143", "5550143", True),
            ("+79991234567", "89991234567", False),  # the text search sees another number
            ("89991234567", "9991234567", True),
            ("+12025550143", "2025550144", False),
        ],
    )
    async def test_by_phone_as_text(self, api: Api, stored: str, query: str, *, is_found: bool) -> None:
        await api.contact(stored, name="X")
        answer = await api.ask("GET", "/v4/contacts", params={"query": query})
        assert answer.status == (200 if is_found else 204)

    async def test_by_the_last_seven_digits_where_switched_so(self, api: Api) -> None:
        first, second = await api.contact("+12025550143", name="X"), await api.contact("+447775550143", name="Y")
        assert ids((await api.get("/v4/contacts?query=2025550143")).items("contacts")) == [first]
        api.switches.query_search = "last_7_digits"
        assert ids((await api.get("/v4/contacts?query=92025550143")).items("contacts")) == [first, second]

    async def test_other_fields_answer_too(self, api: Api) -> None:
        other = {"field_id": 804, "values": [{"value": "2025550143"}]}
        made = await api.post("/v4/contacts", [{"name": "Account", "custom_fields_values": [other]}])
        assert ids((await api.get("/v4/contacts?query=2025550143")).items("contacts")) == ids(made.items("contacts"))
        assert (await api.get("/v4/contacts?query=account")).status == 200

    async def test_a_slow_index(self, api: Api) -> None:
        api.switches.search_delay_s = 30
        contact_id = await api.contact()
        call = {"direction": "inbound", "phone": PHONE, "duration": 1, "source": "itgrix_amo"}
        assert (await api.get("/v4/contacts?query=2025550143")).status == 204
        assert (await api.post("/v4/calls", [call])).status == 400
        assert (await api.get(f"/v4/contacts/{contact_id}")).status == 200  # what has an id is there at once
        assert (await api.get("/v4/contacts")).status == 200
        api.clock.advance(30)
        assert ids((await api.get("/v4/contacts?query=2025550143")).items("contacts")) == [contact_id]
        assert (await api.post("/v4/calls", [call])).status == 200

    async def test_the_deleted_are_not_found(self, api: Api) -> None:
        contact_id = await api.contact()
        api.account.delete_card(Kind.CONTACTS, contact_id)
        assert (await api.get("/v4/contacts?query=2025550143")).status == 204
        assert (await api.get(f"/v4/contacts/{contact_id}")).status == 204
        deleted = (await api.get("/v4/contacts?with=only_deleted")).items("contacts")
        assert [(card["id"], card["is_deleted"]) for card in deleted] == [(contact_id, True)]


class TestPages:
    async def test_following_next(self, api: Api) -> None:
        await api.post("/v4/leads", [{"name": f"{n:03}"} for n in range(120)])
        path, names = "/v4/leads?with=contacts", []
        for _ in range(3):
            body = (await api.get(path)).body
            names += [lead["name"] for lead in body["_embedded"]["leads"]]
            if "next" not in body["_links"]:
                break
            path = body["_links"]["next"]["href"].removeprefix(api.sandbox.url)
        assert names == [f"{n:03}" for n in range(120)]
        assert body["_page"] == 3
        assert "limit=50" in body["_links"]["self"]["href"]

    @pytest.mark.parametrize(
        ("query", "status"), [("limit=251", 422), ("limit=0", 400), ("page=x", 400), ("page=-1", 400)]
    )
    async def test_what_is_no_page(self, api: Api, query: str, status: int) -> None:
        await api.contact()
        assert (await api.get(f"/v4/contacts?{query}")).status == status


class TestFilters:
    async def test_of_cards(self, api: Api) -> None:
        one, two = await api.contact("+12025550143"), await api.contact("+12025550144", responsible_user_id=BORIS)
        for query, found in {
            f"filter[id][]={one}&filter[id][]={two}": [one, two],
            f"filter[id]={two}": [two],
            f"filter[responsible_user_id][]={BORIS}": [two],
            "filter[custom_fields_values][801][]=%2B12025550143": [one],
            "filter[name][]=Contact %2B12025550144": [two],
            f"filter[created_at][from]={api.account.contacts[two].created_at}": [two],
            f"filter[updated_at][to]={api.account.contacts[one].updated_at}": [one],
            "filter[phone]=5": [one, two],  # what Kommo does not know it ignores
            "order[id]=desc": [two, one],
        }.items():
            assert ids((await api.get(f"/v4/contacts?{query}")).items("contacts")) == found, query
        assert (await api.get("/v4/contacts?filter[id][]=1")).status == 204

    async def test_of_leads(self, api: Api) -> None:
        one = await api.lead(price=5)
        two = await api.lead(pipeline_id=7002)
        three = await api.lead(status_id=143, loss_reason_id=31)
        await api.task(entity_id=one, entity_type="leads", complete_till=1_760_001_000)
        for query, found in {
            "filter[pipeline_id][]=7002": [two],
            "filter[price]=5": [one],
            "filter[statuses][0][pipeline_id]=7001&filter[statuses][0][status_id]=143": [three],
            "filter[statuses][0][status_id]=143": [one, two, three],  # half a pair is none
            "filter[closed_at][from]=1": [three],
            "filter[closest_task_at][to]=1760001000": [one],
            "order[created_at]=desc": [three, two, one],
        }.items():
            assert ids((await api.get(f"/v4/leads?{query}")).items("leads")) == found, query
        lost = (await api.get(f"/v4/leads/{three}?with=loss_reason")).body
        assert lost["_embedded"]["loss_reason"] == [{"id": 31, "name": "Too expensive"}]

    async def test_where_they_are_not_enabled_everything_comes_back(self, api: Api) -> None:
        one, two = await api.contact("+12025550143"), await api.contact("+12025550144")
        task_one = await api.task()
        task_two = await api.task(is_completed=True)
        api.switches.filters = "ignored_on_cards"
        assert ids((await api.get(f"/v4/contacts?filter[id][]={one}")).items("contacts")) == [one, two]
        assert ids((await api.get("/v4/tasks?filter[is_completed]=0")).items("tasks")) == [task_one]
        api.switches.filters = "ignored"
        assert ids((await api.get("/v4/tasks?filter[is_completed]=0")).items("tasks")) == [task_one, task_two]
