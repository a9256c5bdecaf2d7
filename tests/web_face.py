"""The HTTP face on free ports of this host, with an Asterisk and a phonebook that do as the test says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import unused_port

from itgrix_kommo.ami.actions import Action, Reply
from itgrix_kommo.ami.settings import LinkStatus
from itgrix_kommo.config import Config
from itgrix_kommo.configured import number_plan
from itgrix_kommo.customizations import Customizer
from itgrix_kommo.errors import ItgrixError, KommoError
from itgrix_kommo.kommo.listings import Client, Listing
from itgrix_kommo.kommo.webhooks import Change
from itgrix_kommo.web.face import Face, Rooms
from itgrix_kommo.web.health import Health
from itgrix_kommo.web.metrics import Figures
from itgrix_kommo.web.oauth import Grants
from itgrix_kommo.web.read_call import Past
from itgrix_kommo.web.status import Part

ACCOUNT = "https://acme.kommo.com"
ACCOUNT_ID = 31_000_001
ANN, BORIS = 9_100_001, 9_100_002
ORIGINATE_TOKEN = "originate-token-of-tests"
AUTODISTRIBUTION_TOKEN = "autodistribution-token-of-tests"
WEBHOOK_SECRET = "webhook-secret-of-tests"
CLIENT_SECRET = "client-secret-of-tests"
CLIENT_ID = "7c1d0000-0000-4000-8000-000000000001"
PASSWORD = "admin-password-of-tests"
BY_TOKEN = {"Authorization": f"Bearer {ORIGINATE_TOKEN}"}
ASKED = {"extension": "101", "phone": "+79991234567"}


def settings(directory: Path, **more: Any) -> dict[str, Any]:
    """A configuration with all doors; `more` replaces whole sections."""
    return {
        "ami": {"username": "itgrix", "secret": "ami-secret-of-tests"},
        "kommo": {
            "base_url": ACCOUNT,
            "access_token": "access-token-of-tests",
            "webhook_secret": WEBHOOK_SECRET,
            "integration": {
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "redirect_uri": "https://pbx.example.com/oauth/kommo",
            },
        },
        "employees": [{"user_id": ANN, "extension": "101"}, {"user_id": BORIS, "extension": "102"}],
        "numbers": {"region": "RU", "trunks": ["PJSIP/trunk"], "outside_prefixes": ["9"]},
        "customizations": {"directory": str(directory)},
        "http": {
            "port": unused_port(),
            "admin": {"password": PASSWORD},
            "tokens": {"originate": ORIGINATE_TOKEN, "autodistribution": AUTODISTRIBUTION_TOKEN},
        },
        **more,
    }


@dataclass
class FakeAsterisk:
    """Takes every action, or fails as told."""

    status: LinkStatus = LinkStatus(connected=True)  # noqa: RUF009 (it is frozen)
    actions: list[Action] = field(default_factory=list)
    failure: Exception | None = None

    async def send(self, action: Action, *, within: float | None = None) -> Reply:
        del within
        if self.failure is not None:
            raise self.failure
        self.actions.append(action)
        return Reply({"Response": "Success", "Message": "Originate successfully queued"})


@dataclass
class FakePhones:
    """Knows `clients` by phone; `hangs` for ever, or `fails`, where told."""

    clients: dict[str, Client] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    hangs: bool = False
    fails: ItgrixError | None = None

    async def find(self, phone: str) -> Listing | None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        client = self.clients.get(phone)
        return Listing(phone, (client,), 0.0) if client else None

    def apply(self, changes: Iterable[Change]) -> None:
        self.changes += changes


@dataclass
class FakeOutside:
    part: Part = Part()  # noqa: RUF009 (it is frozen)
    fault: str = ""

    def parts(self) -> Mapping[str, Callable[[], Part]]:
        return {"asterisk": lambda: self.part}

    async def health(self) -> Health:
        return Health(self.fault, (), 2, {"waiting": 1})

    async def figures(self) -> Figures:
        return Figures(up={"asterisk": True}, live_calls=2, ended_calls=5, registrations={"waiting": 1})


@dataclass
class FakeGrants:
    """Takes every code, or fails as told."""

    codes: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    failure: KommoError | None = None

    async def grant_by(self, code: str) -> None:
        self.codes.append(code)
        if self.failure is not None:
            raise self.failure

    async def forget(self, why: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.forgotten.append(why)


class Served:
    """A face that listens: `url` is the local listener's, `public` the other one's, if there is one."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        past: Past | None,
        grants: Grants | None,
        public_routes: Sequence[web.AbstractRouteDef],
    ) -> None:
        self.config = config
        self.directory = directory
        self.asterisk = FakeAsterisk()
        self.phones = FakePhones()
        self.outside = FakeOutside()
        self.account_id: int | None = ACCOUNT_ID
        self.access: list[str] = []
        self.customizer = Customizer(config.customizations)
        rooms = Rooms(
            plan=number_plan(config),
            asterisk=self.asterisk,
            customizer=self.customizer,
            phonebook=self.phones,
            account_id=lambda: self.account_id,
            user_name={ANN: "Ann", BORIS: "Boris"}.__getitem__,
            outside=self.outside,
            past=past,
            grants=grants,
            access_granted=lambda: self.access.append("granted"),
            access_ended=lambda error: self.access.append(str(error)),
        )
        self.face = Face(config, rooms, public_routes=public_routes)
        self.url = ""
        self.public = f"http://127.0.0.1:{config.http.public.port}" if config.http.public else ""
        self.http: aiohttp.ClientSession

    @property
    def originated(self) -> Action:
        (action,) = self.asterisk.actions
        return action

    async def ask(
        self, method: str, path: str, *, json_body: Any = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        given = {"json": json_body} if json_body is not None else {}
        async with self.http.request(method, self.url + path, headers=headers, **given, **more) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def call(self, body: Any = None, headers: Mapping[str, str] = BY_TOKEN) -> Answer:
        return await self.ask("POST", "/originate", json_body=ASKED if body is None else body, headers=headers)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def refuses(self, status: int, words: str = "") -> None:
        """Hold it to be a refusal as promised: problem+json that says why."""
        assert self.status == status, self.body
        assert self.headers["Content-Type"] == "application/problem+json", self.headers
        assert set(self.json) == {"type", "title", "status", "detail"}
        assert self.json["status"] == status
        assert words in self.json["detail"], self.json


@asynccontextmanager
async def face_of(
    directory: Path,
    hooks: Mapping[str, str] | None = None,
    *,
    past: Past | None = None,
    grants: Grants | None = None,
    public_routes: Sequence[web.AbstractRouteDef] = (),
    **more: Any,
) -> AsyncIterator[Served]:
    """A face that listens; `hooks` are Python customizations by name, `more` replaces sections of the configuration."""
    actions = directory / "actions"
    actions.mkdir(exist_ok=True)
    for name, code in (hooks or {}).items():
        (actions / f"{name}.py").write_text(code)
    served = Served(Config.model_validate(settings(actions, **more)), directory, past, grants, public_routes)
    await served.customizer.start()
    runs = [asyncio.ensure_future(run) for run in served.face.runs]
    try:
        async with served.face.open() as url, aiohttp.ClientSession() as served.http:
            served.url = url
            yield served
    finally:
        for run in runs:
            run.cancel()
            with suppress(asyncio.CancelledError):
                await run
        await served.customizer.stop()


def signed(*, key: str = CLIENT_SECRET, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """Kommo's token of the user Ann, made a second from now so that no daemon of a test is younger; None omits."""
    now = int(time.time()) + 1
    body = {
        "iss": ACCOUNT,
        "aud": "https://pbx.example.com",
        "jti": hashlib.sha256(str(time.perf_counter_ns()).encode()).hexdigest(),
        "iat": now,
        "nbf": now,
        "exp": now + 1800,
        "account_id": ACCOUNT_ID,
        "user_id": ANN,
        "subdomain": "acme",
        "client_uuid": CLIENT_ID,
        **claims,
    }
    parts = [header or {"typ": "JWT", "alg": "HS256"}, {name: one for name, one in body.items() if one is not None}]
    text = ".".join(_part(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_part(hmac.digest(key.encode(), text.encode(), 'sha256'))}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def by_widget(**claims: Any) -> dict[str, str]:
    return {"X-Auth-Token": signed(**claims)}
