"""The sandbox's limit, its faults, and what its audit notices."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from pydantic import ValidationError

from itgrix_kommo.sandbox import Fault, ManualClock, Sandbox, SandboxOptions, Switches
from tests.test_sandbox import ANN, PHONE, PROBLEM, Answer, Api, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.001)


class TestLimit:
    async def ask(self, api: Api, *, wait: float = 0) -> Answer:
        return await api.get("/v4/leads", wait=wait)

    async def test_the_eighth_in_a_second_is_too_many(self, api: Api) -> None:
        assert [(await self.ask(api)).status for _ in range(8)] == [204] * 7 + [429]
        answer = await self.ask(api)
        assert answer.content_type == PROBLEM
        assert answer.body == {
            "title": "Too Many Requests",
            "type": "https://httpstatus.es/429",
            "status": 429,
            "detail": "You have sent too many requests in a given amount of time. Please try again later.",
            "retry_after": 300,
        }
        assert "Retry-After" not in answer.headers

    async def test_the_second_slides(self, api: Api) -> None:
        for _ in range(4):
            assert (await self.ask(api)).status == 204
        api.clock.advance(0.9)
        assert [(await self.ask(api)).status for _ in range(3)] == [204] * 3
        assert (await self.ask(api, wait=0.125)).status == 204  # the first four have left the window
        assert api.sandbox.audit.most_in_a_second == 7

    async def test_whoever_hammers_stays_out(self, api: Api) -> None:
        for _ in range(7):
            await self.ask(api)
        assert [(await self.ask(api, wait=0.1)).status for _ in range(5)] == [429] * 5

    async def test_after_a_quiet_second_all_is_well(self, api: Api) -> None:
        assert [(await self.ask(api)).status for _ in range(9)][-2:] == [429, 429]
        assert (await self.ask(api, wait=1)).status == 204

    async def test_patience_may_be_enforced(self, api: Api) -> None:
        api.switches.retry_after_s, api.switches.retry_after_enforced = 20, True
        for _ in range(8):
            answer = await self.ask(api)
        assert answer.body["retry_after"] == 20
        assert (await self.ask(api, wait=2)).status == 429  # not waited: from here it is twenty seconds again
        assert (await self.ask(api, wait=19)).status == 429
        assert (await self.ask(api, wait=20)).status == 204

    @pytest.mark.parametrize(("kind", "content_type"), [("html", "text/html"), ("json", PROBLEM)])
    async def test_repeated_violations_end_in_a_block(self, api: Api, kind: str, content_type: str) -> None:
        api.switches.block_body = "json" if kind == "json" else "html"
        statuses = [(await self.ask(api)).status for _ in range(18)]
        assert statuses == [204] * 7 + [429] * 9 + [403] * 2
        answer = await api.get("/v4/account", wait=3600)  # for every request, for as long as it takes
        assert (answer.status, answer.content_type) == (403, content_type)
        assert ("nginx" in answer.body) == (kind == "html")
        assert (await api.ask("POST", "/sandbox/unblock")).status == 204
        assert (await self.ask(api)).status == 204

    async def test_violations_between_good_requests_do_not_add_up(self, api: Api) -> None:
        for _ in range(4):
            assert [(await self.ask(api)).status for _ in range(12)][7:] == [429] * 5
            assert (await self.ask(api, wait=1)).status == 204
            api.clock.advance(1)
        assert not api.sandbox.limiter.blocked

    async def test_the_sandboxs_own_pages_do_not_count(self, api: Api) -> None:
        for _ in range(20):
            assert (await api.get("/sandbox/audit", wait=0)).status == 200
        assert api.sandbox.audit.total == 0

    async def test_tokens_and_errors_count(self, api: Api) -> None:
        for _ in range(7):
            assert (await api.post("/oauth2/access_token", {}, wait=0)).status == 400
        assert (await api.get("/v4/nothing", wait=0)).status == 429


class TestFaults:
    async def test_count_skip_path_and_method(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="status", status=503, path="/api/v4/l*", method="get", skip=1, count=2))
        assert (await api.get("/v4/account")).status == 200
        assert (await api.post("/v4/leads", [{}])).status == 200
        statuses = [(await api.get("/v4/leads")).status for _ in range(4)]
        assert statuses == [200, 503, 503, 200]
        assert api.sandbox.faults.armed == []

    async def test_one_that_lasts_until_it_is_cleared(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="status", status=401, count=None))
        assert [(await api.get("/v4/account")).status for _ in range(3)] == [401] * 3
        api.sandbox.faults.clear()
        assert (await api.get("/v4/account")).status == 200

    async def test_from_the_start(self) -> None:
        options = SandboxOptions(clock=ManualClock(), faults=(Fault(effect="status", status=502),))
        async with opened(options) as api:
            assert [(await api.get("/v4/account")).status for _ in range(2)] == [502, 200]

    @pytest.mark.parametrize(
        ("status", "title", "detail"),
        [
            (401, "Unauthorized", "Invalid user name or password"),
            (402, "Payment Required", "Payment required"),
            (504, "Gateway Timeout", "Gateway Timeout"),
        ],
    )
    async def test_a_status_with_kommos_body(self, api: Api, status: int, title: str, detail: str) -> None:
        api.sandbox.faults.add(Fault(effect="status", status=status))
        answer = await api.get("/v4/account")
        assert (answer.status, answer.body["title"], answer.body["detail"]) == (status, title, detail)

    async def test_500_has_a_trace_and_no_type(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="status", status=500))
        body = (await api.get("/v4/account")).body
        assert body.pop("trace_id")
        assert body == {
            "title": "ErrInternalServer",
            "status": 500,
            "detail": "Our team are probably already working on the elimination of the problem",
        }

    async def test_429_with_its_own_patience(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="status", status=429, retry_after=3, count=2))
        assert (await api.get("/v4/account")).body["retry_after"] == 3
        assert (await api.get("/v4/account", wait=2.5)).body["retry_after"] == 3
        assert (await api.get("/v4/account", wait=3)).status == 200
        assert api.sandbox.audit.impatient == 1

    async def test_a_block_of_one_request(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="block"))
        answer = await api.get("/v4/account")
        assert (answer.status, answer.content_type) == (403, "text/html")
        assert (await api.get("/v4/account")).status == 200

    @pytest.mark.parametrize(("is_committed", "leads"), [(True, 1), (False, 0)])
    async def test_a_lost_answer(self, api: Api, leads: int, *, is_committed: bool) -> None:
        api.sandbox.faults.add(Fault(effect="disconnect", path="/api/v4/leads", committed=is_committed))
        with pytest.raises(aiohttp.ClientError):
            await api.post("/v4/leads", [{}])
        assert len(api.account.leads) == leads
        await until(lambda: len(api.sandbox.audit.requests) == 1)
        seen = api.sandbox.audit.requests[0]
        assert (seen.status, seen.fault, seen.body) == (0, "disconnect", [{}])

    async def test_a_hang(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="hang", seconds=20, committed=True))
        asked = asyncio.create_task(api.post("/v4/leads", [{}]))
        await until(lambda: api.clock.sleepers == 1)
        assert len(api.account.leads) == 1
        api.clock.advance(19)
        assert not asked.done()
        api.clock.advance(1)
        with pytest.raises(aiohttp.ClientError):
            await asked

    async def test_a_slow_answer(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="slow", seconds=20))
        asked = asyncio.create_task(api.post("/v4/leads", [{}]))
        await until(lambda: api.clock.sleepers == 1)
        api.clock.advance(20)
        assert (await asked).status == 200
        assert api.sandbox.audit.requests[0].took == 20

    @pytest.mark.parametrize("is_committed", [True, False])
    async def test_half_an_answer(self, api: Api, *, is_committed: bool) -> None:
        api.sandbox.faults.add(Fault(effect="truncated", committed=is_committed))
        answer = await api.post("/v4/leads", [{}])
        assert (answer.status, answer.content_type) == (200, "application/hal+json")
        assert isinstance(answer.body, str)
        assert answer.body.startswith('{"_')
        assert len(api.account.leads) == is_committed

    async def test_nonsense(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="html"))
        api.sandbox.faults.add(Fault(effect="empty"))
        html, empty = await api.get("/v4/account"), await api.get("/v4/account")
        assert (html.status, html.content_type) == (200, "text/html")
        assert (empty.status, empty.body) == (200, None)

    async def test_batches_that_are_too_heavy(self, api: Api) -> None:
        api.switches.heavy_batch = 50
        answer = await api.post("/v4/contacts", [{}] * 51)
        assert (answer.status, answer.body["title"]) == (504, "Gateway Timeout")
        assert not api.account.contacts
        assert (await api.post("/v4/contacts", [{}] * 50)).status == 200

    async def test_a_hanging_request_does_not_hold_up_the_end(self) -> None:
        clock = ManualClock()
        options = SandboxOptions(clock=clock, faults=(Fault(effect="hang"),))

        async def ask(url: str) -> None:
            async with session.post(f"{url}/api/v4/leads"):
                pass

        async with aiohttp.ClientSession() as session:
            async with Sandbox(options).serve() as sandbox:
                asked = asyncio.create_task(ask(sandbox.url))
                await until(lambda: clock.sleepers == 1)
            assert clock.sleepers == 0
            with pytest.raises(aiohttp.ClientError):
                await asked

    async def test_a_client_that_leaves_ends_its_hang(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="hang", committed=True))
        asked = asyncio.create_task(api.post("/v4/leads", [{}]))
        await until(lambda: api.clock.sleepers == 1)
        asked.cancel()
        await until(lambda: api.clock.sleepers == 0)
        assert len(api.account.leads) == 1
        assert [seen.status for seen in api.sandbox.audit.requests] == [0]


class TestAtRunTime:
    async def test_switches(self, api: Api) -> None:
        before = (await api.get("/sandbox/switches")).body
        assert before == Switches().model_dump()
        after = await api.patch("/sandbox/switches", {"popup_status": 202, "search_delay_s": 5})
        assert after.body == before | {"popup_status": 202, "search_delay_s": 5}
        assert (api.switches.popup_status, api.sandbox.account.switches.search_delay_s) == (202, 5)

    @pytest.mark.parametrize("asked", [{"popup_status": 201}, {"unpaid": True, "no_such": 1}, {"block_after": 0}])
    async def test_switches_change_all_or_none(self, api: Api, asked: dict[str, Any]) -> None:
        answer = await api.patch("/sandbox/switches", asked)
        assert (answer.status, answer.content_type) == (400, PROBLEM)
        assert list(asked)[-1] in answer.body["detail"]
        assert api.switches == Switches()

    async def test_a_switch_is_checked_in_python_too(self, api: Api) -> None:
        with pytest.raises(ValidationError):
            api.switches.popup_status = 201  # type: ignore[assignment]  # that is the point

    async def test_faults(self, api: Api) -> None:
        answer = await api.post("/sandbox/faults", {"effect": "status", "status": 503, "path": "/api/v4/calls"})
        assert answer.status == 201
        armed = (await api.get("/sandbox/faults")).body
        assert [(fault["effect"], fault["path"], fault["count"]) for fault in armed] == [("status", "/api/v4/calls", 1)]
        assert (await api.post("/v4/calls", [])).status == 503
        assert (await api.get("/sandbox/faults")).body == []
        await api.post("/sandbox/faults", {"effect": "hang", "count": None})
        assert (await api.ask("DELETE", "/sandbox/faults")).status == 204
        assert (await api.get("/v4/account")).status == 200
        assert (await api.post("/sandbox/faults", {"effect": "flood"})).status == 400

    async def test_no_foreign_form_can_post_here(self, api: Api) -> None:
        for data, kind in (
            (b'{"effect": "block"}', "text/plain"),
            (b"{", "application/json"),
            (b"[]", "application/json"),
        ):
            answer = await api.ask("POST", "/sandbox/faults", data=data, headers={"Content-Type": kind})
            assert (answer.status, answer.content_type) == (400, PROBLEM)
        assert api.sandbox.faults.armed == []

    async def test_revoking(self, api: Api) -> None:
        assert (await api.ask("POST", "/sandbox/revoke")).status == 204
        assert (await api.get("/v4/account")).status == 401


class TestAudit:
    async def test_every_request_is_kept(self, api: Api) -> None:
        await api.post("/v4/leads", [{"name": "ü"}], headers={"User-Agent": "itgrix/1"})
        await api.get("/v4/leads?limit=5")
        await api.ask("POST", "/v4/leads", data=b"\xff{", headers={"Content-Type": "application/json"})
        report = (await api.get("/sandbox/audit")).body
        assert report["total"] == 3
        first, second, third = report["requests"]
        assert first == {
            "number": 1,
            "at": 1_760_000_001.0,
            "method": "POST",
            "path": "/api/v4/leads",
            "query": "",
            "body": [{"name": "ü"}],
            "status": 200,
            "took": 0,
            "user_agent": "itgrix/1",
            "fault": None,
            "verdict": "pass",
        }
        assert (second["query"], second["body"]) == ("limit=5", None)
        assert (third["body"], third["status"]) == ("\ufffd{", 400)
        assert [seen.number for seen in api.sandbox.audit.asked("POST", "/api/v4/leads")] == [1, 3]

    async def test_no_secrets(self, api: Api) -> None:
        body = {"client_secret": "sandbox-secret", "refresh_token": "def502", "code": "c0de", "client_id": "x"}
        await api.post("/oauth2/access_token", body)
        assert api.sandbox.audit.requests[0].body == {
            "client_secret": "***",
            "refresh_token": "***",
            "code": "***",
            "client_id": "x",
        }
        assert "sandbox-token" not in json.dumps(api.sandbox.audit.report())

    async def test_no_secrets_in_what_is_no_object(self, api: Api) -> None:
        await api.ask("POST", "/oauth2/access_token", data=b"client_secret=sandbox-secret")
        assert "sandbox-secret" not in json.dumps(api.sandbox.audit.report())

    async def test_breaches_are_counted(self, api: Api) -> None:
        for _ in range(9):
            await api.get("/v4/account", wait=0)
        audit = api.sandbox.audit
        assert (audit.most_in_a_second, audit.breaches, audit.impatient) == (9, 2, 1)
        assert [seen.verdict for seen in audit.requests][-2:] == ["too many", "too many"]

    async def test_all_kinds_of_doubles(self, api: Api) -> None:
        first = await api.contact(PHONE, request_id="a")
        second = await api.contact("2025550143", request_id="a")
        leads = [await api.lead(first), await api.lead(first)]
        tasks = [await api.task(entity_id=first, entity_type="contacts") for _ in range(2)]
        await api.task(is_completed=True, entity_id=first, entity_type="contacts")
        note = {"note_type": "call_in", "params": {"uniq": "1", "duration": 1, "source": "x"}}
        await api.post(f"/v4/contacts/{second}/notes", [note, note])
        calls = [call.id for call in api.account.calls]
        assert api.sandbox.audit.duplicates() == {
            "calls_by_uniq": {"1": calls},
            "contacts_by_phone": {"2025550143": [first, second]},
            "open_leads_by_client": {f"contacts/{first}": leads},
            "open_tasks_by_card_and_text": {f"contacts/{first}: Call back": tasks},
            "unsorted_by_uniq": {},
            "created_by_request_id": {"contacts: a": [first, second]},
            "webhooks_by_destination": {},
        }

    async def test_creations_and_popups_are_in_the_report(self, api: Api) -> None:
        await api.contact(request_id="17.1")
        await api.post("/v2/events/", {"add": [{"type": "phone_call", "phone_number": PHONE, "users": [ANN]}]})
        report = (await api.get("/sandbox/audit")).body
        assert report["created"] == [{"what": "contacts", "id": 5501, "request_id": "17.1", "at": 1_760_000_001.0}]
        assert [(popup["phone"], popup["users"]) for popup in report["popups"]] == [(PHONE, [ANN])]


class TestOptions:
    def test_a_fault_is_checked(self) -> None:
        with pytest.raises(ValidationError):
            Fault(effect="status", status=200)
        with pytest.raises(ValidationError):
            Fault(effect="status", count=0)

    async def test_the_tokens_are_configurable(self) -> None:
        async with opened(SandboxOptions(clock=ManualClock(), admin_token="t0p")) as api:
            assert (await api.get("/v4/users")).status == 200
            assert (await api.get("/v4/users", token="sandbox-token")).status == 401

    def test_a_sandbox_needs_no_options(self) -> None:
        assert Sandbox().account.subdomain == "acme"
