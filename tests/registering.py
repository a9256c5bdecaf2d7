"""Registrations at work on a sandbox account: a client, the rows of his calls, customizations as functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

from itgrix_kommo.calls.call import Call
from itgrix_kommo.config import Business, Hook, ListEntry
from itgrix_kommo.customizations import CATALOGUE, Cancelled, Data, Verdict
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Limiter, Priority
from itgrix_kommo.kommo.listings import Listing
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.kommo.transport import LongLivedToken, Transport
from itgrix_kommo.pipeline.clients import Clients
from itgrix_kommo.pipeline.mail import Mail
from itgrix_kommo.pipeline.progress import Progress
from itgrix_kommo.pipeline.registration import desk
from itgrix_kommo.pipeline.registration.desk import Desk, Earlier
from itgrix_kommo.pipeline.registration.sheet import Sheet
from itgrix_kommo.pipeline.registration.walk import walk
from itgrix_kommo.pipeline.rules import Rules
from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from tests.recorder import Recorder
from tests.story import ANN, BORIS, T0

CLIENT = "+79990000001"
SALES, SHOP, FIRST_STAGE = 7001, 7002, 70011


def rules(*, language: Any = "en", blacklist: tuple[ListEntry, ...] = (), **business: Any) -> Rules:
    return Rules(
        business=Business(**business),
        language=language,
        phone_field_id=801,
        pipeline_id=SALES,
        status_id=FIRST_STAGE,
        stages={SALES: FIRST_STAGE, SHOP: 70021},
        unsorted_pipelines=frozenset({SALES}),
        users={ANN: "Ann Lee"},
        phones={ANN: ("101",)},
        blacklist=blacklist,
    )


class Hooks:
    """Customizations as functions: params to data, or to None for *cancel*."""

    def __init__(self, **functions: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        self.functions = functions
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def hooks(self) -> list[Hook]:
        return [hook for hook in CATALOGUE if hook in self.functions]

    async def call(
        self, hook: Hook, params: dict[str, Any], *, full: Callable[[], dict[str, Any]], call_id: str = ""
    ) -> Verdict:
        assert call_id
        params = {**params, "call_full": full()}
        assert CATALOGUE[hook].misfits(params) == []
        self.asked.append((hook, params))
        unchanged = CATALOGUE[hook].unchanged(params)
        if hook not in self.functions:
            return Verdict(hook, unchanged)
        data = self.functions[hook](unchanged if hook != "process_client_phone" else params)
        return Verdict(hook, data, Cancelled() if data is None else Data(data))


class Nothing:
    """A phonebook's store that keeps nothing."""

    async def load(self, most: int) -> list[tuple[Listing, float]]:
        assert most > 0
        return []

    async def forget_before(self, at: float) -> int:
        assert at > 0
        return 0

    async def save(self, listings: Collection[tuple[Listing, float]], gone: Collection[str]) -> None:
        pass


class Client:
    """A sandbox account with our client before it; the rows of the registrations of one phone, in their order."""

    def __init__(self, sandbox: Sandbox, transport: Transport) -> None:
        self.sandbox = sandbox
        self.transport = transport
        self.kommo = KommoClient(transport)
        self.mail = Mail(self.kommo)
        self.phonebook = Phonebook(self.kommo, Nothing(), now=lambda: self.now)
        self.hooks: desk.Hooks = Hooks()
        self.recorder = Recorder()
        self.rows: list[dict[str, Any]] = [{}]
        self.call_ids: list[str] = [""]
        self.now = T0 + 60
        self.reached_at = 0.0

    @property
    def account(self) -> Any:
        return self.sandbox.account

    @property
    def row(self) -> dict[str, Any]:
        return self.rows[-1]

    # What the steps ask of history
    async def reached_after(self, at: float) -> bool:
        return self.reached_at > at

    async def earlier(self) -> list[Earlier]:
        rows = list(enumerate(self.rows))[:-1]
        return [Earlier(number, self.call_ids[number], Progress.model_validate(row)) for number, row in reversed(rows)]

    async def save(self, number: int, progress: dict[str, Any]) -> None:
        self.rows[number] = progress

    async def _save_row(self, progress: dict[str, Any]) -> None:
        self.rows[-1] = progress

    def sheet(self, call: Call, by: Rules) -> Sheet:
        by_desk = Desk(self.kommo, Clients(self.phonebook), self.mail, self.hooks, by, self.recorder, lambda: self.now)
        return Sheet(call, call.client.number, Progress.model_validate(self.row), by_desk, self, self._save_row)

    async def register(self, call: Call, by: Rules | None = None) -> str:
        """Go on with the last row."""
        return await self.walked(self.sheet(call, by or rules()))

    async def walked(self, sheet: Sheet, walking: Callable[[Sheet], Awaitable[str]] = walk) -> str:
        """As the delivery does it: what the walk has not saved is saved in the end."""
        try:
            return await walking(sheet)
        finally:
            await sheet.save_rest()

    async def register_another(self, call: Call, by: Rules | None = None) -> str:
        self.rows.append({})
        self.call_ids.append(call.id)
        return await self.register(call, by)

    async def add(self, noun: str, body: dict[str, Any]) -> int:
        answer = await self.transport.request("POST", f"/api/v4/{noun}", body=[body], priority=Priority.REGISTRATION)
        (made,) = answer.embedded(noun)
        return int(made["id"])

    async def add_contact(self, phone: str = CLIENT, user: int = BORIS) -> int:
        values = [{"field_id": 801, "values": [{"value": phone, "enum_code": "WORK"}]}]
        return await self.add("contacts", {"name": "Ivan", "responsible_user_id": user, "custom_fields_values": values})

    async def add_lead(self, contact_id: int, **more: Any) -> int:
        return await self.add("leads", {"name": "Deal", "_embedded": {"contacts": [{"id": contact_id}]}, **more})

    def posts(self) -> list[str]:
        return [one.path.removeprefix("/api/v4/") for one in self.sandbox.audit.requests if one.method == "POST"]


@asynccontextmanager
async def a_client(**switches: Any) -> AsyncIterator[Client]:
    sandbox = Sandbox(SandboxOptions())
    sandbox.account.switches.requests_per_second = 1000
    for name, value in switches.items():
        setattr(sandbox.account.switches, name, value)
    limiter = Limiter(7)
    limiter.per_second = 1000  # these tests are about what is written, not how fast
    async with (
        sandbox.serve(port=0) as served,
        Transport(served.url, LongLivedToken("sandbox-token"), limiter, timeout_s=2) as transport,
    ):
        made = Client(served, transport)
        yield made


def counts(client: Client) -> dict[str, int]:
    return {name: len(getattr(client.account, name)) for name in ("contacts", "leads", "calls", "tasks")}
