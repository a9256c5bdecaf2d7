"""The sandbox as a server; and `opened`, with which its other tests reach it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from itgrix_kommo.sandbox import ManualClock, Sandbox, SandboxOptions, Switches, SystemClock, run_sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

PHONE = "+12025550143"
ANN, BORIS, CARLA, LEFT = 9100001, 9100002, 9100003, 9100009
HAL, PROBLEM = "application/hal+json", "application/problem+json"


class Answer(NamedTuple):
    status: int
    body: Any  # parsed JSON, None where the body is empty, the text where it is no JSON
    content_type: str
    headers: Mapping[str, str]

    def items(self, key: str) -> list[dict[str, Any]]:
        found = self.body["_embedded"][key]
        assert isinstance(found, list)
        return found

    def errors(self, item: int = 0) -> dict[str, str]:
        """Of a refused item: path → code."""
        return {error["path"]: error["code"] for error in self.body["validation-errors"][item]["errors"]}


class Api:
    """A client that keeps within the limit by moving the sandbox's clock one second before each request."""

    def __init__(self, sandbox: Sandbox, clock: ManualClock, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.account = sandbox.account
        self.switches = sandbox.switches
        self.clock = clock
        self._session = session

    async def ask(self, method: str, path: str, *, wait: float = 1.0, token: str = "", **more: Any) -> Answer:
        self.clock.advance(wait)
        headers = {"Authorization": f"Bearer {token or self.sandbox.options.admin_token}"} | more.pop("headers", {})
        if path.startswith("/v"):
            path = "/api" + path
        async with self._session.request(method, path, headers=headers, **more) as response:
            text = await response.text()
            try:
                body = json.loads(text) if text else None
            except ValueError:
                body = text
            return Answer(response.status, body, response.content_type, response.headers)

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.ask("GET", path, **more)

    async def post(self, path: str, body: object, **more: Any) -> Answer:
        return await self.ask("POST", path, json=body, **more)

    async def patch(self, path: str, body: object, **more: Any) -> Answer:
        return await self.ask("PATCH", path, json=body, **more)

    async def contact(self, phone: str = PHONE, **more: object) -> int:
        return await self._made("contacts", {"name": f"Contact {phone}", "custom_fields_values": phones(phone), **more})

    async def company(self, phone: str, **more: object) -> int:
        return await self._made(
            "companies", {"name": f"Company {phone}", "custom_fields_values": phones(phone), **more}
        )

    async def lead(self, *contact_ids: int, **more: object) -> int:
        contacts = [{"id": contact_id} for contact_id in contact_ids]
        return await self._made("leads", {"name": "Lead", "_embedded": {"contacts": contacts}, **more})

    async def task(self, **more: object) -> int:
        return await self._made("tasks", {"text": "Call back", "complete_till": 1_760_003_600, **more})

    async def _made(self, kind: str, body: dict[str, Any]) -> int:
        answer = await self.post(f"/v4/{kind}", [body])
        assert answer.status == 200, answer.body
        card_id = answer.items(kind)[0]["id"]
        assert isinstance(card_id, int)
        return card_id


def phones(*numbers: str) -> list[dict[str, Any]]:
    return [{"field_code": "PHONE", "values": [{"value": number, "enum_code": "WORK"} for number in numbers]}]


@asynccontextmanager
async def opened(options: SandboxOptions | None = None, **switches: Any) -> AsyncIterator[Api]:
    """A served sandbox with a clock that stands still, and a client of it; `switches` as in Switches."""
    clock = ManualClock()
    options = options or SandboxOptions(clock=clock, switches=Switches(**switches))
    assert isinstance(options.clock, ManualClock)
    async with Sandbox(options).serve() as sandbox, aiohttp.ClientSession(sandbox.url) as session:
        yield Api(sandbox, options.clock, session)


class TestServing:
    async def test_a_port_of_the_systems_choice(self) -> None:
        async with opened() as one, opened() as other:
            assert one.sandbox.url != other.sandbox.url
            assert (await one.get("/v4/account")).status == 200

    async def test_ipv6(self) -> None:
        async with Sandbox().serve("::1") as sandbox:
            assert sandbox.url.startswith("http://[::1]:")

    async def test_the_port_is_free_again_afterwards(self) -> None:
        async with Sandbox().serve() as sandbox:
            port = int(sandbox.url.rpartition(":")[2])
        async with Sandbox().serve(port=port) as again:
            assert again.url == sandbox.url

    async def test_run_serves_until_cancelled(self, unused_tcp_port: int) -> None:
        running = asyncio.create_task(run_sandbox("127.0.0.1", unused_tcp_port, SandboxOptions(subdomain="shop")))
        async with asyncio.timeout(10), aiohttp.ClientSession() as session:
            while True:
                try:
                    headers = {"Authorization": "Bearer sandbox-token"}
                    url = f"http://127.0.0.1:{unused_tcp_port}/api/v4/account"
                    async with session.get(url, headers=headers) as response:
                        assert (await response.json(content_type=None))["subdomain"] == "shop"
                        break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def test_make_app_alone_is_enough(self) -> None:
        async with TestClient(TestServer(Sandbox().make_app())) as client:
            response = await client.get("/api/v4/account", headers={"Authorization": "Bearer sandbox-token"})
            assert response.status == 200

    async def test_secrets_are_not_in_the_options_text(self) -> None:
        shown = repr(SandboxOptions(admin_token="t0p", user_token="us3r", client_secret="s3cret"))
        assert not any(secret in shown for secret in ("t0p", "us3r", "s3cret"))

    async def test_two_sandboxes_share_no_switches(self) -> None:
        options = SandboxOptions(clock=ManualClock())
        async with opened(options) as one:
            one.switches.unpaid = True
            assert not options.switches.unpaid

    async def test_clients_to_look_at(self) -> None:
        async with opened(SandboxOptions(clock=ManualClock(), clients=True)) as api:
            found = (await api.get("/v4/contacts?query=2025550143&with=leads")).items("contacts")
            assert [card["name"] for card in found] == ["Maria Gomez"]
            assert len(found[0]["_embedded"]["leads"]) == 1


class TestAdmission:
    @pytest.mark.parametrize("header", ["", "Bearer ", "Bearer nonsense", "Basic sandbox-token", "sandbox-token"])
    async def test_without_a_good_token(self, header: str) -> None:
        async with opened() as api:
            answer = await api.get("/v4/account", headers={"Authorization": header})
        assert answer.status == 401
        assert answer.content_type == PROBLEM
        assert answer.body == {
            "title": "Unauthorized",
            "type": "https://httpstatus.es/401",
            "status": 401,
            "detail": "Invalid user name or password",
        }

    async def test_revoked_tokens(self) -> None:
        async with opened() as api:
            api.sandbox.tokens.revoke_all()
            assert (await api.get("/v4/account")).status == 401

    async def test_unpaid(self) -> None:
        async with opened(unpaid=True) as api:
            answer = await api.get("/v4/leads")
        assert answer.status == 402
        assert answer.body == {
            "title": "Payment Required",
            "type": "https://httpstatus.es/402",
            "status": 402,
            "detail": "Payment required",
        }

    async def test_an_unknown_path(self) -> None:
        async with opened() as api:
            answer = await api.get("/v4/example")
            assert answer.body == {
                "title": "Not Found",
                "type": "https://httpstatus.es/404",
                "status": 404,
                "detail": f"Cannot GET {api.sandbox.url}/api/v4/example",
            }
        assert answer.status == 404

    @pytest.mark.parametrize(
        ("method", "path"), [("DELETE", "/v4/leads"), ("GET", "/v4/calls"), ("POST", "/v4/leads/unsorted")]
    )
    async def test_a_method_that_is_not_allowed(self, method: str, path: str) -> None:
        async with opened() as api:
            answer = await api.ask(method, path)
        assert answer.status == 405
        assert answer.body == {
            "title": "Method Not Allowed",
            "type": "https://httpstatus.es/405",
            "status": 405,
            "detail": "Method Not Allowed",
        }

    async def test_a_users_agent_is_asked_for_by_switch(self) -> None:
        async with opened(user_agent_required=True) as api:
            assert (await api.get("/v4/account", headers={"User-Agent": "itgrix"})).status == 200
            async with aiohttp.ClientSession(api.sandbox.url, skip_auto_headers=["User-Agent"]) as session:
                headers = {"Authorization": "Bearer sandbox-token"}
                async with session.get("/api/v4/account", headers=headers) as response:
                    assert response.status == 403

    async def test_every_answer_has_an_id(self) -> None:
        async with opened() as api:
            ids = {(await api.get(path)).headers["X-Request-Id"] for path in ("/v4/account", "/v4/no", "/v4/leads")}
        assert len(ids) == 3


class TestBodies:
    """What holds for every request that writes."""

    @pytest.mark.parametrize("raw", [b"", b"[]", b"{oops", b"\xff\xfe", b"[" * 5000, b"[" + b"9" * 5000 + b"]"])
    async def test_nothing_to_read(self, raw: bytes) -> None:
        async with opened() as api:
            answer = await api.ask("POST", "/v4/contacts", data=raw, headers={"Content-Type": "application/json"})
        assert answer.status == 400
        assert answer.body == {
            "title": "Bad Request",
            "type": "https://httpstatus.es/400",
            "status": 400,
            "detail": "Request data can not be empty",
        }

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/v4/leads/" + "9" * 5000, 204),
            ("/v4/leads?limit=" + "9" * 5000, 400),
            ("/v4/leads?filter[created_at][from]=" + "9" * 5000, 200),
            ("/v4/leads/links?filter[entity_id][]=" + "9" * 5000, 204),
            ("/v4/leads/unsorted/summary?filter[created_at][from][x]=5", 200),
            ("/v4/leads?filter=5&order=6&with[]=7&page[]=8", 400),
        ],
    )
    async def test_hostile_numbers(self, path: str, status: int) -> None:
        async with opened() as api:
            await api.lead()
            assert (await api.get(path)).status == status
            assert (await api.get("/v4/account", headers={"X-Context-User-ID": "9" * 5000})).status == 403

    async def test_json_that_is_not_declared_as_such(self) -> None:
        async with opened() as api:
            answer = await api.ask(
                "POST", "/v4/contacts", data=b'[{"name": "A"}]', headers={"Content-Type": "text/plain"}
            )
        assert (answer.status, answer.body["detail"]) == (400, "Request data can not be empty")

    @pytest.mark.parametrize("path", ["contacts", "companies", "leads", "tasks", "calls", "leads/unsorted/sip"])
    async def test_an_object_where_an_array_belongs(self, path: str) -> None:
        async with opened() as api:
            answer = await api.post(f"/v4/{path}", {"name": "A"})
        assert answer.status == 400
        assert answer.errors() == {"": "InvalidType"}

    async def test_too_many_at_once(self) -> None:
        async with opened() as api:
            answer = await api.post("/v4/contacts", [{"name": str(n)} for n in range(251)])
            assert answer.status == 422
            assert answer.body == {
                "title": "Unprocessable Entity",
                "type": "https://httpstatus.es/422",
                "status": 422,
                "detail": "Limit 250 per page",
            }
            assert not api.account.contacts
            assert (await api.post("/v4/contacts", [{"name": str(n)} for n in range(250)])).status == 200

    async def test_a_faulty_item_sinks_the_batch_and_is_named(self) -> None:
        async with opened() as api:
            answer = await api.post(
                "/v4/contacts", [{"name": "good"}, {"name": 5, "request_id": "17.1"}, {"name": None}]
            )
            assert not api.account.contacts
        assert answer.status == 400
        assert answer.content_type == PROBLEM
        assert answer.body == {
            "validation-errors": [
                {
                    "request_id": "17.1",
                    "errors": [
                        {"code": "InvalidType", "path": "name", "detail": "This value should be of type string."}
                    ],
                },
                {
                    "request_id": "2",
                    "errors": [{"code": "NotNullable", "path": "name", "detail": "This value should not be null."}],
                },
            ],
            "title": "Bad Request",
            "type": "https://httpstatus.es/400",
            "status": 400,
            "detail": "Request validation failed",
        }

    async def test_request_ids_come_back_unchanged_or_as_the_index(self) -> None:
        async with opened() as api:
            answer = await api.post("/v4/leads", [{"request_id": "a/ü 1"}, {}, {"request_id": "7"}])
        assert [item["request_id"] for item in answer.items("leads")] == ["a/ü 1", "1", "7"]

    @pytest.mark.parametrize(
        ("value", "code"),
        [("9100001", "InvalidType"), (True, "InvalidType"), (1.5, "InvalidType"), (None, "NotNullable")],
    )
    async def test_an_id_is_a_whole_number(self, value: object, code: str) -> None:
        async with opened() as api:
            answer = await api.post("/v4/leads", [{"responsible_user_id": value}])
        assert answer.errors() == {"responsible_user_id": code}


class TestClocks:
    async def test_a_manual_clock_wakes_whom_it_passes(self) -> None:
        clock = ManualClock(100)
        woken: list[int] = []

        async def sleep(until: int) -> None:
            await clock.sleep_until(until)
            woken.append(until)

        async with asyncio.TaskGroup() as group:
            for until in (130, 110, 100):
                group.create_task(sleep(until))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert (woken, clock.sleepers) == ([100], 2)
            clock.advance(29.5)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert (woken, clock.sleepers) == ([100, 110], 1)
            clock.advance(0.5)
        assert woken == [100, 110, 130]

    async def test_a_cancelled_sleeper_is_forgotten(self) -> None:
        clock = ManualClock()
        task = asyncio.create_task(clock.sleep_until(clock.now() + 1))
        await asyncio.sleep(0)
        assert clock.sleepers == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert clock.sleepers == 0

    def test_time_does_not_go_back(self) -> None:
        with pytest.raises(ValueError, match="does not go back"):
            ManualClock().advance(-1)

    async def test_the_system_clock(self) -> None:
        clock = SystemClock()
        start = clock.now()
        await clock.sleep_until(start + 0.02)
        assert clock.now() >= start + 0.02
        await clock.sleep_until(start)  # in the past: at once
