"""The sandbox as a web server: what stands between the socket and the account."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from itgrix_kommo.kommo import brackets

from . import (
    page,
    routes_account,
    routes_activity,
    routes_cards,
    routes_complex,
    routes_oauth,
    routes_popups,
    routes_unsorted,
    routes_webhooks,
    seed,
)
from .account import Account
from .audit import Audit, Seen, without_secrets
from .delivery import Deliveries
from .faults import Faults
from .limiter import Limiter, Verdict
from .oauth import Tokens
from .options import SandboxOptions
from .problems import BLOCK_PAGE, ApiError, problem, problem_response
from .routes_sandbox import Desk
from .visit import HAL_JSON, Visit

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .faults import Fault
    from .records import User
    from .visit import Handler

    WebHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LARGEST_BODY = 8 * 1024 * 1024  # bytes: 250 contacts with all their fields are well below
_V4, _V2 = "/api/v4", "/api/v2"


class Sandbox:
    """A Kommo account at an address of its own.

    `async with Sandbox(options).serve() as sandbox:` — then `sandbox.url` is what a client takes for
    `https://acme.kommo.com`, `sandbox.account` what is in it, `sandbox.audit` what was asked, `sandbox.faults` what
    shall go wrong.
    """

    def __init__(self, options: SandboxOptions | None = None) -> None:
        self.options = options = options or SandboxOptions()
        self.clock = options.clock
        self.switches = options.switches.model_copy()
        self.account = Account(self.clock, self.switches, account_id=options.account_id, subdomain=options.subdomain)
        self.faults = Faults(self.switches)
        for fault in options.faults:
            self.faults.add(fault)
        self.limiter = Limiter(self.clock, self.switches)
        self.audit = Audit(self.account)
        self.deliveries = Deliveries(self.account)
        self.tokens = Tokens(
            self.clock,
            account_id=options.account_id,
            client_id=options.client_id,
            client_secret=options.client_secret,
            redirect_uri=options.redirect_uri,
        )
        self.tokens.add_long_lived(options.admin_token, options.admin_id)
        self.tokens.add_long_lived(options.user_token, options.user_id)
        if options.clients:
            seed.add_clients(self.account)
        self.url = ""

    def make_app(self) -> web.Application:
        app = web.Application(middlewares=[self._gate], client_max_size=_LARGEST_BODY)
        for prefix, routes in (
            (_V4, routes_account.ROUTES),
            (_V4, routes_activity.ROUTES),
            (_V4, routes_unsorted.ROUTES),
            (_V4, routes_complex.ROUTES),
            (_V4, routes_cards.ROUTES),
            (_V4, routes_webhooks.ROUTES),
            (_V2, routes_popups.ROUTES),
        ):
            for method, path, handler in routes:
                app.router.add_route(method, prefix + path, self._authorized(handler))
        app.router.add_routes(routes_oauth.routes(self.tokens, consenting_user=self.options.admin_id))
        app.router.add_routes(Desk(self).routes())
        app.router.add_routes(page.routes(self))
        app.cleanup_ctx.append(self._delivering)
        return app

    async def _delivering(self, app: web.Application) -> AsyncIterator[None]:
        del app
        await self.deliveries.start()
        yield
        await self.deliveries.stop()

    @asynccontextmanager
    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        at: socket.socket | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Sandbox]:
        """Listens while the block runs; with port 0 the system chooses one, told in `url`.

        `at` is a bound TCP socket to listen at in place of these, `tls` what it is to be encrypted by.
        """
        # A client that leaves ends the hang it was kept in; what a handler writes it writes without awaiting anything.
        runner = web.AppRunner(self.make_app(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            if at is None:
                site: web.BaseSite = web.TCPSite(runner, host, port, ssl_context=tls)
            else:
                site = web.SockSite(runner, at, ssl_context=tls)
            await site.start()
            bound = runner.addresses[0]
            name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
            self.url = f"{'http' if tls is None else 'https'}://{name}:{bound[1]}"
            yield self
        finally:
            await runner.cleanup()

    # From the outside in: gate (count, limit, faults, audit), then authorization, then the handler

    @web.middleware
    async def _gate(self, request: web.Request, handler: WebHandler) -> web.StreamResponse:
        if not request.path.startswith(("/api/", "/oauth2/")):
            return await handler(request)
        at = self.clock.now()
        verdict = self.limiter.admit()
        number = self.audit.arrived(at, self.limiter.in_this_second, verdict)
        body = _shown(await request.read())
        if request.path.startswith("/oauth2/"):
            body = without_secrets(body)
        fault = self.faults.take(request.method, request.path) if verdict is Verdict.PASS else None
        response: web.StreamResponse | None = None
        try:
            if verdict is not Verdict.PASS:
                response = self._refused(verdict)
            else:
                response = (
                    await self._struck(fault, request, handler) if fault else await _carried_out(request, handler)
                )
            response.headers["X-Request-Id"] = secrets.token_hex(16)
            return response
        finally:
            is_answered = response is not None and request.transport is not None and not request.transport.is_closing()
            self.audit.record(
                Seen(
                    number=number,
                    at=at,
                    method=request.method,
                    path=request.path,
                    query=request.query_string,
                    body=body,
                    status=response.status if response is not None and is_answered else 0,
                    took=self.clock.now() - at,
                    user_agent=request.headers.get("User-Agent", ""),
                    fault=fault.effect if fault else None,
                    verdict=verdict.value,
                )
            )
            self.account.revision += 1

    def _refused(self, verdict: Verdict) -> web.Response:
        if verdict is Verdict.BLOCKED:
            self.account.disable_webhooks()
            return _block_page() if self.switches.block_body == "html" else problem_response(problem(403), 403)
        return self._too_many(self.switches.retry_after_s)

    def _too_many(self, retry_after: int) -> web.Response:
        self.audit.told_to_wait(self.clock.now() + retry_after)
        return problem_response(problem(429, retry_after=retry_after), 429)

    async def _struck(self, fault: Fault, request: web.Request, handler: WebHandler) -> web.StreamResponse:
        answer = await _carried_out(request, handler) if fault.committed or fault.effect == "slow" else None
        instead = self._instead(fault, answer)
        if instead is not None:
            return instead
        if fault.effect != "disconnect":
            await self.clock.sleep_until(self.clock.now() + fault.seconds)
        if fault.effect == "slow" and answer is not None:
            return answer
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _instead(self, fault: Fault, answer: web.StreamResponse | None) -> web.Response | None:
        """The answer in place of the true one; None where there is none at all, or not yet."""
        match fault.effect:
            case "status":
                return self._status(fault)
            case "block":
                return _block_page()
            case "html":
                return web.Response(text="<html><body><h1>It works!</h1></body></html>", content_type="text/html")
            case "empty":
                return web.Response()
            case "truncated":
                whole = answer.text if isinstance(answer, web.Response) and answer.text else '{"_links":{"self":{"hr'
                return web.Response(text=whole[: len(whole) // 2], content_type=HAL_JSON)
            case _:
                return None

    def _status(self, fault: Fault) -> web.Response:
        if fault.status == 429:
            return self._too_many(self.switches.retry_after_s if fault.retry_after is None else fault.retry_after)
        more = {"trace_id": secrets.token_hex(8)} if fault.status == 500 else {}
        return problem_response(problem(fault.status, **more), fault.status)

    def _authorized(self, handler: Handler) -> WebHandler:
        async def enter(request: web.Request) -> web.StreamResponse:
            user = self._user_of(request)
            if self.switches.unpaid:
                raise ApiError(402)
            if self.switches.user_agent_required and not request.headers.get("User-Agent"):
                raise ApiError(403)
            await self._not_too_heavy(request)
            return await handler(Visit(request, self.account, user))

        return enter

    def _user_of(self, request: web.Request) -> User:
        """The token's user, or the one whom an administrator's `X-Context-User-ID` names."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user_id = self.tokens.user_of(token.strip()) if scheme.lower() == "bearer" else None
        user = None if user_id is None else self.account.users.get(user_id)
        if user is None or not user.is_active:
            raise ApiError(401)
        context = request.headers.get("X-Context-User-ID")
        if context is None:
            return user
        other = self.account.users.get(brackets.whole(context) or 0)
        if not user.is_admin or other is None or not other.is_active:
            raise ApiError(403)
        return other

    async def _not_too_heavy(self, request: web.Request) -> None:
        largest = self.switches.heavy_batch
        if largest is not None and request.method in {"POST", "PATCH"}:
            body = _shown(await request.read())
            if isinstance(body, list) and len(body) > largest:
                raise ApiError(504)


async def _carried_out(request: web.Request, handler: WebHandler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as refused:
        return problem_response(refused.body, refused.status)
    except web.HTTPNotFound:
        return problem_response(problem(404, f"Cannot {request.method} {request.url}"), 404)
    except web.HTTPMethodNotAllowed:
        return problem_response(problem(405), 405)


def _block_page() -> web.Response:
    return web.Response(status=403, text=BLOCK_PAGE, content_type="text/html")


def _shown(raw: bytes) -> Any:
    """The body as JSON where it is JSON, else as text; None where there is none."""
    if not raw:
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw.decode(errors="replace")


async def run_sandbox(
    host: str, port: int, options: SandboxOptions, on_ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serves until it is cancelled; `on_ready` is told the address. Raises OSError where it can't be had."""
    async with Sandbox(options).serve(host, port) as served:
        on_ready(served.url)
        await asyncio.Event().wait()
