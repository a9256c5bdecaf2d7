"""The listeners: where the daemon is spoken to over HTTP, and how long whoever speaks may take."""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from itgrix_kommo.errors import ConfigError
from itgrix_kommo.web.entrance import Entrance, listening
from itgrix_kommo.web.occupant import occupant
from itgrix_kommo.web.problems import Handler, problem, telling_problems

REQUEST_WITHIN: Final = 15.0
"""Seconds from the connection to the end of the first request's head: who takes longer does so on purpose."""

IDLE_WITHIN: Final = 60.0
"""Seconds between an answer and the end of the next request's head."""

MOST_IDLE: Final = 400
"""Connections on which nothing is asked; beyond that the longest idle go."""

LARGEST_BODY: Final = 64 * 1024
"""Bytes, where a handler sets no limit of its own."""

SERVER: Final = "itgrix-kommo"
"""What the header Server says: nothing of our parts."""

_LOOK_EVERY: Final = 1.0

# The library writes a traceback with the bytes for everything that is no HTTP: anybody could fill the log with it.
# What goes wrong in a handler is told by `telling_problems`.
_quiet = logging.getLogger("itgrix_kommo.web.protocol")
_quiet.setLevel(logging.CRITICAL + 1)


class Doorkeeper:
    """Shows out who connects and says nothing, or says it letter by letter."""

    def __init__(self, *, request_within: float = REQUEST_WITHIN, idle_within: float = IDLE_WITHIN) -> None:
        self._request_within = request_within
        self._idle_within = idle_within
        self._busy: set[web.RequestHandler] = set()
        self._leave_by: dict[web.RequestHandler, float] = {}

    @web.middleware
    async def noting(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The head has come: from here on the handler's own limits hold."""
        self._busy.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._busy.discard(request.protocol)
            self._leave_by[request.protocol] = asyncio.get_running_loop().time() + self._idle_within

    async def run(self, server: web.Server, every: float = _LOOK_EVERY) -> None:
        """Look at all connections, again and again."""
        while True:
            self.look(server.connections)
            await asyncio.sleep(every)

    def look(self, connections: Sequence[Any]) -> None:
        """Close those of these connections that have been idle for too long, or are too many."""
        now = asyncio.get_running_loop().time()
        idle = [one for one in connections if one not in self._busy]
        # Who was not there at the last look may have asked already: in a rush his request is still unread.
        old = [one for one in idle if one in self._leave_by]
        self._leave_by = {one: self._leave_by.get(one, now + self._request_within) for one in idle}
        longest_idle = sorted(old, key=lambda one: self._leave_by[one])
        for number, one in enumerate(longest_idle):
            if number < len(longest_idle) - MOST_IDLE or self._leave_by[one] <= now:
                one.force_close()


@asynccontextmanager
async def serving(
    routes: Iterable[web.AbstractRouteDef],
    host: str,
    port: int,
    *,
    name: str = "http",
    tls: ssl.SSLContext | None = None,
    middlewares: Sequence[Any] = (),
    doorkeeper: Doorkeeper | None = None,
    most: int | None = None,
) -> AsyncIterator[str]:
    """Serve `routes` until left; gives the address under which they are served. Port 0 takes a free one.

    `name` is the setting of this listener, `most` how many connections it may have (None: what the process bears).
    Raises ConfigError where the address can't be had.
    """
    doorkeeper = doorkeeper or Doorkeeper()
    app = web.Application(
        middlewares=[doorkeeper.noting, *middlewares, telling_problems()], client_max_size=LARGEST_BODY
    )
    app.add_routes(routes)
    app.on_response_prepare.append(_add_headers)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=2.0)
    await runner.setup()
    server = _server_of(runner)
    loop = asyncio.get_running_loop()
    try:
        try:
            sockets = await listening(host, port)
        except OSError as error:
            holder = await asyncio.to_thread(occupant, port) if error.errno == errno.EADDRINUSE else ""
            raise ConfigError(
                f"{name}: {host}:{port} can't be listened on: {error.strerror}{f' by {holder}' if holder else ''}: "
                f"choose another {name}.port, or stop what uses it (ss -ltnp tells)"
            ) from error
        entrance = Entrance(
            sockets, lambda: _Speaker(server, loop=loop), lambda: len(server.connections), tls=tls, most=most
        )
        bound = sockets[0].getsockname()
        place = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        keeping = [
            asyncio.create_task(doorkeeper.run(server), name=f"doorkeeper of {name}"),
            asyncio.create_task(entrance.run(), name=f"entrance of {name}"),
        ]
        try:
            yield f"{'https' if tls else 'http'}://{place}:{bound[1]}"
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            for one in sockets:
                one.close()
    finally:
        await runner.cleanup()


class _Speaker(web.RequestHandler):
    """Speaks HTTP; to who does not, it answers no more than to others, and not in the library's name."""

    __slots__ = ()

    def __init__(self, server: web.Server, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, logger=_quiet, access_log=_quiet, keepalive_timeout=IDLE_WITHIN)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 (the library gives it; it tells of our inside)
        message: str | None = None,  # noqa: ARG002 (likewise; it repeats what was sent)
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        detail = (
            "a fault of the daemon's own" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "this is no sound HTTP"
        )
        answer = problem(status, detail, {"Server": SERVER})
        answer.force_close()
        return answer


def _server_of(runner: web.AppRunner) -> web.Server:
    server = runner.server
    if server is None:
        raise AssertionError("a runner that was set up has a server")
    return server


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
