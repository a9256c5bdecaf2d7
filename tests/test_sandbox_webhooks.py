"""Webhooks of the sandbox: subscribed, told in Kommo's older words, delivered again and given up."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from itgrix_kommo.kommo import brackets
from itgrix_kommo.sandbox import Kind
from itgrix_kommo.sandbox.delivery import Delivery, pause_before_next
from tests.test_sandbox import ANN, BORIS, PHONE, Api, opened, phones
from tests.test_sandbox_faults import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOOK = "https://pbx.example.com/webhooks/kommo/s3cret"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


class Receiver:
    """Somebody's web server that Kommo tells; answers with `statuses` in turn, then 200."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.always = 200
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.silence: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-www-form-urlencoded"
        form = await request.post()
        self.told.put_nowait(brackets.parse((key, str(value)) for key, value in form.items()))
        if self.silence is not None:
            await self.silence.wait()
        return web.Response(status=self.statuses.pop(0) if self.statuses else self.always)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await self.told.get()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    heard = Receiver()
    app = web.Application()
    app.router.add_post("/hook", heard.handle)
    async with TestServer(app) as server:
        heard.url = str(server.make_url("/hook"))
        yield heard


async def subscribe(api: Api, destination: str, *settings: str) -> None:
    answer = await api.post("/v4/webhooks", {"destination": destination, "settings": list(settings), "sort": 10})
    assert answer.status == 200, answer.body


class TestSubscriptions:
    async def test_made_read_and_removed(self, api: Api) -> None:
        assert (await api.get("/v4/webhooks")).status == 204
        answer = await api.post(
            "/v4/webhooks", {"destination": HOOK, "settings": ["add_contact", "note_lead"], "sort": 10}
        )
        now = api.account.now()
        assert answer.status == 200
        assert answer.body == {
            "id": 401,
            "destination": HOOK,
            "created_at": now,
            "updated_at": now,
            "account_id": 31000001,
            "created_by": ANN,
            "sort": 10,
            "disabled": False,
            "settings": ["add_contact", "note_lead"],
        }
        listed = await api.ask("GET", "/v4/webhooks", params={"filter[destination]": HOOK})
        assert (listed.body["_total_items"], listed.items("webhooks")) == (1, [answer.body])
        assert (await api.get("/v4/webhooks?filter[destination]=https://other.example")).status == 204
        removed = await api.ask("DELETE", "/v4/webhooks", json={"destination": HOOK})
        assert (removed.status, removed.body) == (204, None)
        assert (await api.ask("DELETE", "/v4/webhooks", json={"destination": HOOK})).status == 404

    @pytest.mark.parametrize(("switch", "settings"), [("replace", ["note_lead"]), ("merge", ["add_lead", "note_lead"])])
    async def test_the_same_destination_again(self, api: Api, switch: str, settings: list[str]) -> None:
        api.switches.same_destination = "merge" if switch == "merge" else "replace"
        await subscribe(api, HOOK, "add_lead")
        await subscribe(api, HOOK, "note_lead")
        assert [hook["settings"] for hook in (await api.get("/v4/webhooks")).items("webhooks")] == [settings]

    @pytest.mark.parametrize(
        ("body", "errors"),
        [
            ({"destination": "pbx.example.com", "settings": ["add_lead"]}, {"destination": "NotSupportedChoice"}),
            ({"destination": "javascript:alert(1)", "settings": ["add_lead"]}, {"destination": "NotSupportedChoice"}),
            ({"destination": HOOK, "settings": ["add_call"]}, {"settings.0": "NotSupportedChoice"}),
            ({"destination": HOOK, "settings": []}, {"settings": "NotBlank"}),
            ({"destination": HOOK}, {"settings": "FieldMissing"}),
            ([{"destination": HOOK, "settings": ["add_lead"]}], {"": "InvalidType"}),
        ],
    )
    async def test_refusals(self, api: Api, body: object, errors: dict[str, str]) -> None:
        answer = await api.post("/v4/webhooks", body)
        assert (answer.status, answer.errors()) == (400, errors)

    async def test_only_for_administrators(self, api: Api) -> None:
        body = {"destination": HOOK, "settings": ["add_lead"]}
        token = api.sandbox.options.user_token
        assert (await api.post("/v4/webhooks", body, token=token)).status == 403
        assert (await api.ask("DELETE", "/v4/webhooks", json={"destination": HOOK}, token=token)).status == 403

    async def test_a_hundred_at_most(self, api: Api) -> None:
        for number in range(100):
            await subscribe(api, f"{HOOK}/{number}", "add_lead")
        assert (await api.post("/v4/webhooks", {"destination": HOOK, "settings": ["add_lead"]})).status == 422


class TestTold:
    async def test_a_new_contact(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "add_contact")
            contact_id = await api.contact(name=PHONE, tags_to_add=[{"name": "pbx"}])
            told = await heard.next()
            now = str(api.account.now())
            tag_id = str(next(iter(api.account.tags[Kind.CONTACTS])))
            field = {"id": "801", "name": "Phone", "code": "PHONE", "values": {"0": {"value": PHONE, "enum": "9001"}}}
            assert told == {
                "contacts": {
                    "add": {
                        "0": {
                            "id": str(contact_id),
                            "name": PHONE,
                            "responsible_user_id": str(ANN),
                            "date_create": now,
                            "last_modified": now,
                            "created_user_id": str(ANN),
                            "modified_user_id": str(ANN),
                            "account_id": "31000001",
                            "custom_fields": {"0": field},
                            "tags": {"0": {"id": tag_id, "name": "pbx"}},
                            "created_at": now,
                            "updated_at": now,
                            "type": "contact",
                        }
                    }
                },
                "account": {
                    "subdomain": "acme",
                    "id": "31000001",
                    "_links": {"self": "https://acme.kommo.com"},
                },
            }

    async def test_companies_travel_as_contacts(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "add_company")
            await api.company("1")
            assert (await heard.next())["contacts"]["add"]["0"]["type"] == "company"

    async def test_only_what_is_subscribed(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "delete_lead")
            lead_id = await api.lead(await api.contact())
            api.account.delete_card(Kind.LEADS, lead_id)
            assert (await heard.next())["leads"] == {
                "delete": {"0": {"id": str(lead_id), "status_id": "70011", "pipeline_id": "7001"}}
            }
            assert heard.told.empty()

    async def test_another_stage_and_another_responsible(self, api: Api) -> None:
        async with receiver() as heard:
            lead_id, contact_id = await api.lead(), await api.contact()
            await subscribe(api, heard.url, "status_lead")
            await api.patch(f"/v4/leads/{lead_id}", {"status_id": 142})
            item = (await heard.next())["leads"]["status"]["0"]
            assert (item["status_id"], item["old_status_id"]) == ("142", "70011")
            await subscribe(api, heard.url, "responsible_lead", "responsible_contact")
            await api.patch(f"/v4/leads/{lead_id}", {"responsible_user_id": BORIS})
            item = (await heard.next())["leads"]["responsible"]["0"]
            assert (item["responsible_user_id"], item["old_responsible_user_id"]) == (str(BORIS), str(ANN))
            await api.patch(f"/v4/contacts/{contact_id}", {"responsible_user_id": BORIS})
            item = (await heard.next())["contacts"]["update"]["0"]
            assert item["old_responsible_user_id"] == str(ANN)

    async def test_ones_own_call_comes_back(self, api: Api) -> None:
        async with receiver() as heard:
            lead_id = await api.lead(await api.contact())
            await subscribe(api, heard.url, "note_lead")
            call = {"direction": "outbound", "phone": PHONE, "duration": 5, "source": "itgrix_amo", "uniq": "17.1"}
            await api.post("/v4/calls", [call])
            note = (await heard.next())["leads"]["note"]["0"]["note"]
            assert (note["note_type"], note["element_type"], note["element_id"]) == ("11", "2", str(lead_id))
            assert json.loads(note["text"]) == {
                "UNIQ": "17.1",
                "LINK": "",
                "PHONE": PHONE,
                "DURATION": 5,
                "SRC": "itgrix_amo",
            }
            assert json.loads(note["metadata"])["event_source"]["id"] == 0

    async def test_tasks(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "add_task", "update_task")
            contact_id = await api.contact()
            task_id = await api.task(entity_id=contact_id, entity_type="contacts")
            item = (await heard.next())["task"]["add"]["0"]
            assert (item["element_id"], item["element_type"], item["status"]) == (str(contact_id), "1", "0")
            assert (item["complete_till"], item["complete_before"]) == ("2025-10-09 09:53:20", "1760003600")
            await api.patch(f"/v4/tasks/{task_id}", {"is_completed": True, "result": {"text": "Reached"}})
            item = (await heard.next())["task"]["update"]["0"]
            assert (item["status"], item["action_close"], item["result"]["text"]) == ("1", "1", "Reached")

    async def test_an_accepted_incoming_lead(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "add_lead", "add_contact")
            contact = {"name": "New", "custom_fields_values": phones(PHONE)}
            entry = {"source_uid": "1", "source_name": "pbx", "metadata": {}, "_embedded": {"contacts": [contact]}}
            uid = (await api.post("/v4/leads/unsorted/sip", [entry])).items("unsorted")[0]["uid"]
            assert heard.told.empty()
            await api.post(f"/v4/leads/unsorted/{uid}/accept", {})
            assert {key for _ in range(2) for key in await heard.next()} == {"leads", "contacts", "account"}


class TestDelivery:
    async def test_a_bad_answer_is_tried_four_times_more(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "add_lead")
            heard.always = 500
            await api.lead()
            start = api.clock.now()
            for pause in (300, 900, 900, 3600):
                await heard.next()
                await until(lambda: api.clock.sleepers == 1)
                api.clock.advance(pause)
            await heard.next()
            await until(lambda: len(api.sandbox.deliveries.log) == 5)
            tries = api.sandbox.deliveries.log
            assert [delivery.at - start for delivery in tries] == [0, 300, 1200, 2100, 5700]
            assert {delivery.status for delivery in tries} == {500}
            assert api.clock.sleepers == 0
            shown = (await api.get("/sandbox/deliveries")).body
            assert [delivery["attempt"] for delivery in shown] == [1, 2, 3, 4, 5]

    async def test_until_it_succeeds(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "add_lead")
            heard.statuses = [404]
            await api.lead()
            await until(lambda: api.clock.sleepers == 1)
            api.clock.advance(300)
            await until(lambda: len(api.sandbox.deliveries.log) == 2)
            assert [delivery.status for delivery in api.sandbox.deliveries.log] == [404, 200]

    async def test_two_seconds_to_answer(self, api: Api) -> None:
        api.switches.webhook_timeout_s = 0.05  # of real time, so that nobody has to wait for two
        async with receiver() as heard:
            heard.silence = asyncio.Event()
            await subscribe(api, heard.url, "add_lead")
            await api.lead()
            await until(lambda: len(api.sandbox.deliveries.log) == 1)
            heard.silence.set()
        assert api.sandbox.deliveries.log[0].status == 0

    async def test_nobody_there(self, api: Api, unused_tcp_port: int) -> None:
        await subscribe(api, f"http://127.0.0.1:{unused_tcp_port}/", "add_lead")
        await api.lead()
        await until(lambda: len(api.sandbox.deliveries.log) == 1)
        assert api.sandbox.deliveries.log[0].status == 0

    @pytest.mark.parametrize(
        ("status", "pauses"),
        [
            (200, [None]),
            (299, [None]),
            (0, [300, 900, None]),
            (301, [300, 900, None]),
            (404, [300, 900, None]),
            (499, [300, 900, 900, 3600, None]),
            (503, [300, 900, 900, 3600, None]),
            (600, [300, 900, None]),
        ],
    )
    def test_the_pauses(self, status: int, pauses: list[int | None]) -> None:
        tries = [Delivery(HOOK, "add_lead", attempt, 0.0, status) for attempt in range(1, len(pauses) + 1)]
        assert [pause_before_next(delivery) for delivery in tries] == pauses

    async def test_after_a_hundred_bad_answers_it_is_disabled(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "add_lead")
            heard.always = 500
            await api.post("/v4/leads", [{}] * 100)
            await until(lambda: len(api.sandbox.deliveries.log) == 100)
            assert (await api.get("/v4/webhooks")).items("webhooks")[0]["disabled"] is False
            await api.lead()
            await until(lambda: len(api.sandbox.deliveries.log) == 101)
            assert (await api.get("/v4/webhooks")).items("webhooks")[0]["disabled"] is True
            await api.lead()
            assert len(api.sandbox.deliveries.log) == 101
            await subscribe(api, heard.url, "add_lead")  # saved by hand: it lives again
            assert (await api.get("/v4/webhooks")).items("webhooks")[0]["disabled"] is False

    async def test_a_block_disables_them(self, api: Api) -> None:
        await subscribe(api, HOOK, "add_lead")
        for _ in range(17):
            await api.get("/v4/account", wait=0)
        assert api.sandbox.limiter.blocked
        assert [hook.disabled for hook in api.account.webhooks.values()] == [True]

    async def test_old_failures_do_not_count(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "add_lead")
            heard.always = 400
            await api.post("/v4/leads", [{}] * 100)
            await until(lambda: len(api.sandbox.deliveries.log) == 100)
            heard.always = 200
            api.clock.advance(7200)  # the retries succeed
            await until(lambda: len(api.sandbox.deliveries.log) == 200)
            heard.always = 400
            await api.lead()
            await until(lambda: len(api.sandbox.deliveries.log) == 201)
            assert not next(iter(api.account.webhooks.values())).disabled

    async def test_a_removed_one_is_not_tried_again(self, api: Api) -> None:
        async with receiver() as heard:
            await subscribe(api, heard.url, "add_lead")
            heard.always = 500
            await api.lead()
            await until(lambda: api.clock.sleepers == 1)
            await api.ask("DELETE", "/v4/webhooks", json={"destination": heard.url})
            api.clock.advance(300)
            await until(lambda: api.clock.sleepers == 0)
            await api.get("/v4/account")
            assert len(api.sandbox.deliveries.log) == 1


class TestBrackets:
    def test_there_and_back(self) -> None:
        tree = {"a": {"b": [{"c": 1}, {"c": None}]}, "d": True, "e": "x"}
        pairs = brackets.flatten(tree)
        assert pairs == [("a[b][0][c]", "1"), ("a[b][1][c]", ""), ("d", "1"), ("e", "x")]
        assert brackets.parse(pairs) == {"a": {"b": {"0": {"c": "1"}, "1": {"c": ""}}}, "d": "1", "e": "x"}

    @pytest.mark.parametrize(
        ("pairs", "tree"),
        [
            ([("a[]", "1"), ("a[]", "2")], {"a": {"0": "1", "1": "2"}}),
            ([("a", "1"), ("a[b]", "2")], {"a": "1"}),
            ([("a[b", "1"), ("[x]", "2")], {"a[b": "1", "[x]": "2"}),
            ([("a" + "[x]" * 50, "1")], {}),
        ],
    )
    def test_odd_keys(self, pairs: list[tuple[str, str]], tree: dict[str, Any]) -> None:
        assert brackets.parse(pairs) == tree

    def test_listed(self) -> None:
        assert brackets.listed("1") == ["1"]
        assert brackets.listed({"0": "1", "x": {}}) == ["1"]
        assert brackets.listed(None) == []
