"""The sandbox's own endpoints, beside the API it plays: read the audit, arrange trouble, lift a block."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from pydantic import ValidationError

from .faults import Fault
from .problems import problem, problem_response
from .switches import Switches

if TYPE_CHECKING:
    from .server import Sandbox


class Desk:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/sandbox/audit", self.audit),
            web.get("/sandbox/deliveries", self.deliveries),
            web.get("/sandbox/switches", self.show_switches),
            web.patch("/sandbox/switches", self.set_switches),
            web.get("/sandbox/faults", self.show_faults),
            web.post("/sandbox/faults", self.add_fault),
            web.delete("/sandbox/faults", self.clear_faults),
            web.post("/sandbox/unblock", self.unblock),
            web.post("/sandbox/revoke", self.revoke),
            web.post("/sandbox/uninstall", self.uninstall),
        ]

    async def audit(self, _: web.Request) -> web.Response:
        return web.json_response(self._sandbox.audit.report())

    async def deliveries(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(delivery) for delivery in self._sandbox.deliveries.log])

    async def show_switches(self, _: web.Request) -> web.Response:
        return web.json_response(self._sandbox.switches.model_dump())

    async def set_switches(self, request: web.Request) -> web.Response:
        """An object with the switches that shall change; all of them do, or none."""
        asked = await _object(request)
        switches = self._sandbox.switches
        try:
            checked = Switches.model_validate(switches.model_dump() | asked)
        except ValidationError as failure:
            return _refused(failure)
        for name in asked:
            setattr(switches, name, getattr(checked, name))
        return web.json_response(switches.model_dump())

    async def show_faults(self, _: web.Request) -> web.Response:
        return web.json_response([fault.model_dump() for fault in self._sandbox.faults.armed])

    async def add_fault(self, request: web.Request) -> web.Response:
        try:
            fault = Fault.model_validate(await _object(request))
        except ValidationError as failure:
            return _refused(failure)
        self._sandbox.faults.add(fault)
        return web.json_response(fault.model_dump(), status=201)

    async def clear_faults(self, _: web.Request) -> web.Response:
        self._sandbox.faults.clear()
        return web.Response(status=204)

    async def unblock(self, _: web.Request) -> web.Response:
        """What Kommo's support does after a storm of 429."""
        self._sandbox.limiter.reset()
        return web.Response(status=204)

    async def revoke(self, _: web.Request) -> web.Response:
        """What an administrator does who disables the integration."""
        self._sandbox.tokens.revoke_all()
        return web.Response(status=204)

    async def uninstall(self, _: web.Request) -> web.Response:
        """What an administrator does who takes the integration out: its tokens end, and its hook is told once."""
        tokens, hook = self._sandbox.tokens, self._sandbox.options.uninstall_hook
        tokens.revoke_all()
        headers = {"User-Agent": "amoService-oAuth-Code-Sender/1.0"}
        status = 0
        with suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10)) as session,
                session.get(hook, params=tokens.uninstalled(), allow_redirects=False) as answer,
            ):
                status = answer.status
        return web.json_response({"hook": hook, "status": status})


async def _object(request: web.Request) -> dict[str, Any]:
    """The JSON body. Other content types are refused, so that no foreign web page can post a form here."""
    try:
        body = json.loads(await request.read()) if request.content_type == "application/json" else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(
            text=json.dumps(problem(400, "A JSON object is needed, sent as application/json")),
            content_type="application/problem+json",
        )
    return body


def _refused(failure: ValidationError) -> web.Response:
    told = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in failure.errors()]
    return problem_response(problem(400, "; ".join(told)), 400)
