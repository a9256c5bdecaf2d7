"""The HTTP face as a whole: which doors there are, behind which listener, and what they lead to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from itgrix_kommo.ami.outbox import Received
from itgrix_kommo.calls.call import Stage
from itgrix_kommo.calls.numbers import NumberPlan
from itgrix_kommo.config import Config, Listener
from itgrix_kommo.customizations import Customizer
from itgrix_kommo.errors import KommoUnauthorized
from itgrix_kommo.kommo.oauth import integration_of
from itgrix_kommo.kommo.webhooks import Change
from itgrix_kommo.web import openapi
from itgrix_kommo.web.admin import AdminDoor
from itgrix_kommo.web.autodistribution import Autodistribution, AutodistributionDesk, Phones
from itgrix_kommo.web.certificate import Certificate
from itgrix_kommo.web.dialling import DialRules
from itgrix_kommo.web.health import Health, health_routes
from itgrix_kommo.web.metrics import CONTENT_TYPE, Figures, Metrics
from itgrix_kommo.web.oauth import Grants, OAuthDesk
from itgrix_kommo.web.originate import Asterisk, ClickToCall
from itgrix_kommo.web.originate_routes import OriginateDesk
from itgrix_kommo.web.read_call import Past, ReadCallDesk
from itgrix_kommo.web.server import serving
from itgrix_kommo.web.status import Grade, Part, StatusBoard
from itgrix_kommo.web.webhooks import WebhookInbox
from itgrix_kommo.web.widget_tokens import WidgetTokens


class Memory(Phones, Protocol):
    """What is needed of `kommo.phonebook.Phonebook`."""

    def apply(self, changes: Iterable[Change]) -> None: ...


class View(Protocol):
    """What is needed of `outside.Outside`."""

    def parts(self) -> Mapping[str, Callable[[], Part]]: ...

    async def health(self) -> Health: ...

    async def figures(self) -> Figures: ...


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the face needs of the other rooms. `account_id` is None while Kommo has not told it.

    `past` is None where the PBX keeps no calls, `grants` where a long-lived token opens Kommo. `access_granted` and
    `access_ended` are to be told what a person decided in Kommo.
    """

    plan: NumberPlan
    asterisk: Asterisk
    customizer: Customizer
    phonebook: Memory
    account_id: Callable[[], int | None]
    user_name: Callable[[int], str]
    outside: View
    past: Past | None
    grants: Grants | None
    access_granted: Callable[[], None]
    access_ended: Callable[[KommoUnauthorized], None]


class Face:
    """To be told what Asterisk says (`hear`) and what is understood of it (`follow`); `runs` are to run beside it."""

    def __init__(
        self,
        config: Config,
        rooms: Rooms,
        *,
        local_routes: Sequence[web.AbstractRouteDef] = (),
        public_routes: Sequence[web.AbstractRouteDef] = (),
    ) -> None:
        """`local_routes` and `public_routes` are those of other rooms; the latter are served to the outside too."""
        http, kommo = config.http, config.kommo
        self._config = config
        self._rooms = rooms
        self._begun_at = time.time()
        self._certificates = {
            name: Certificate(f"{name}.tls_certificate", Path(one.tls_certificate), Path(one.tls_key or ""))
            for name, one in self._listeners().items()
            if one.tls_certificate is not None
        }
        self.door = AdminDoor(http.admin, trusted=http.trusted_proxies)
        self.clicks = ClickToCall(
            config.originate,
            config.employees,
            DialRules(config.originate, rooms.plan),
            rooms.asterisk,
            rooms.customizer,
        )
        self.autodistribution = Autodistribution(
            rooms.phonebook, rooms.plan, config.employees, rooms.customizer, user_name=rooms.user_name
        )
        secret, tokens = kommo.webhook_secret, http.tokens
        self.webhooks = WebhookInbox(
            secret.get_secret_value() if secret else None, rooms.account_id, rooms.phonebook.apply
        )
        self._board = StatusBoard(
            {**rooms.outside.parts(), **{f"{name}.tls": self._certificate_part(name) for name in self._certificates}},
            customizer=rooms.customizer.status,
            facts=self._facts,
        )
        self._metrics = Metrics()
        widget = WidgetTokens(kommo.integration, kommo.base_url, rooms.account_id) if kommo.integration else None
        desk = OriginateDesk(
            self.clicks,
            account_url=kommo.base_url,
            token=tokens.originate.get_secret_value() if tokens.originate else None,
            widget=widget,
            trusted=http.trusted_proxies,
        )
        questions = AutodistributionDesk(
            self.autodistribution,
            token=tokens.autodistribution.get_secret_value() if tokens.autodistribution else None,
            trusted=http.trusted_proxies,
        )
        oauth = OAuthDesk(
            integration_of(config),
            rooms.grants,
            base_url=kommo.base_url,
            account_id=rooms.account_id,
            on_granted=rooms.access_granted,
            on_ended=rooms.access_ended,
        )
        self.read_call = ReadCallDesk(rooms.past, zone=config.node.timezone, trusted=http.trusted_proxies)
        self.public_routes = [*desk.routes(), *self.webhooks.routes(), *oauth.public_routes(), *public_routes]
        self.local_routes = [
            *self.public_routes,
            *questions.routes(),
            *health_routes(rooms.outside.health),
            web.get("/status", self.door.guarding(self._status)),
            web.get("/metrics", self.door.guarding(self._measured)),
            *self.read_call.routes(self.door.guarding),
            *oauth.local_routes(self.door.guarding),
            web.get(openapi.PATH, self._description),
            *local_routes,
        ]

    def use(self, config: Config) -> None:
        """Dial and distribute by this configuration from now on; listeners and credentials stay."""
        rules = DialRules(config.originate, self._rooms.plan)
        self.clicks.use(config.originate, config.employees, rules)
        self.autodistribution.use(config.employees)

    def hear(self, batch: Sequence[Received]) -> None:
        self.clicks.clicks.hear(received.event for received in batch)

    def follow(self, stage: Stage) -> None:
        self.clicks.clicks.follow(stage)

    @property
    def runs(self) -> list[Coroutine[Any, Any, None]]:
        return [self.webhooks.run(), self._board.run(), *(one.run() for one in self._certificates.values())]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Listen; gives the address of the local listener. Raises ConfigError where one can't be had."""
        async with contextlib.AsyncExitStack() as stack:
            addresses = []
            for name, listener in self._listeners().items():
                certificate = self._certificates.get(name)
                routes = self.local_routes if name == "http" else self.public_routes
                addresses.append(
                    await stack.enter_async_context(
                        serving(
                            routes,
                            listener.host,
                            listener.port,
                            name=name,
                            tls=certificate.context if certificate else None,
                            middlewares=[self._metrics.measuring()],
                        )
                    )
                )
            stack.callback(self.clicks.end)
            stack.callback(self.read_call.end)
            yield addresses[0]

    def _listeners(self) -> dict[str, Listener]:
        http = self._config.http
        return {"http": http, "http.public": http.public} if http.public else {"http": http}

    def _certificate_part(self, name: str) -> Callable[[], Part]:
        def part() -> Part:
            error = self._certificates[name].error
            return Part(error, Grade.WARNING if error else Grade.OK)

        return part

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(await self._board.body())

    async def _measured(self, _: web.Request) -> web.Response:
        figures = await self._rooms.outside.figures()
        figures = replace(
            figures,
            originates=self.clicks.results,
            autodistributions=self.autodistribution.results,
            webhooks=self.webhooks.results,
            started_at=self._begun_at,
            certificates={name: one.ends_at for name, one in self._certificates.items() if one.ends_at is not None},
        )
        text = await asyncio.to_thread(self._metrics.text, figures)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def _description(self, _: web.Request) -> web.Response:
        return web.json_response(openapi.description(version("itgrix-kommo")))

    async def _facts(self) -> dict[str, Any]:
        health = await self._rooms.outside.health()
        return {
            "version": version("itgrix-kommo"),
            "node": self._config.node.name,
            "started_at": int(self._begun_at),
            "registering_stopped_by": health.registering_stopped_by,
            "troubles": health.troubles,
            "live_calls": health.live_calls,
            "registrations": health.registrations,
            "originate": dict(self.clicks.results),
            "autodistribution": dict(self.autodistribution.results),
            "webhooks": dict(self.webhooks.results),
            "read_call": self.read_call.going.facts() if self.read_call.going else None,
        }
