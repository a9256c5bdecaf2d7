"""The way in to a listener: who is let in, how many at a time, and how long their TLS handshake may take.

asyncio's own server takes whoever comes, also those who never say a word of TLS, until the process may open no file any
more: then the journal, the database, Asterisk and the other listener can't be had either.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from itgrix_kommo.web.lines import Lines

MOST_INSIDE: Final = 1500
"""Connections at a time; whoever comes then waits at the kernel's door, which has room for `BACKLOG`."""

BACKLOG: Final = 1024

FILES: Final = 8192
"""That the process should be allowed to open: two listeners full of connections, and plenty for everything else."""

HANDSHAKE_WITHIN: Final = 10.0
"""Seconds; an honest one takes less than one."""

MOST_HANDSHAKES: Final = 200
"""At a time; beyond that the longest goes."""

_GOODBYE_WITHIN: Final = 2.0
"""Seconds for TLS's goodbye of who is shown out."""

_LOOK_EVERY: Final = 0.05
_AGAIN_AFTER: Final = 1.0
"""Seconds until it is tried again where a connection can't be taken."""

_log = structlog.get_logger(__name__)


class Entrance:
    """Lets in who comes to `sockets` (listening, non-blocking); `speaker` makes who speaks with him.

    `inside` tells how many are there, `most` is how many there may be.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        speaker: Callable[[], asyncio.Protocol],
        inside: Callable[[], int],
        *,
        tls: ssl.SSLContext | None = None,
        most: int | None = None,
    ) -> None:
        self._sockets = sockets
        self._speaker = speaker
        self._inside = inside
        self._tls = tls
        self._most = most if most is not None else room()
        self._welcoming: dict[asyncio.Task[None], None] = {}
        self._lines = Lines(most=1)

    async def run(self) -> None:
        """Let them in until cancelled; then nobody stands half inside."""
        try:
            async with asyncio.TaskGroup() as doors:
                for one in self._sockets:
                    doors.create_task(self._keep(one))
        finally:
            waiting = list(self._welcoming)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _keep(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._inside() + len(self._welcoming) >= self._most:  # noqa: ASYNC110 (nobody tells who leaves)
                await asyncio.sleep(_LOOK_EVERY)
            try:
                connection, _ = await loop.sock_accept(listening)
            except ConnectionError:  # he has left already
                continue
            except OSError as error:  # the process may open no more files
                self._lines.warn(_log, "connection_not_taken", time.time(), error=error.strerror)
                await asyncio.sleep(_AGAIN_AFTER)
                continue
            if self._tls is not None and len(self._welcoming) >= MOST_HANDSHAKES:
                next(iter(self._welcoming)).cancel()
            task = loop.create_task(self._welcome(connection))
            self._welcoming[task] = None
            task.add_done_callback(self._welcoming.pop)

    async def _welcome(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        welcome: Awaitable[object] = (
            loop.connect_accepted_socket(self._speaker, connection)
            if self._tls is None
            else loop.connect_accepted_socket(
                self._speaker,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_WITHIN,
                ssl_shutdown_timeout=_GOODBYE_WITHIN,
            )
        )
        with suppress(OSError):  # he spoke no TLS, or too late; ssl.SSLError is one
            await welcome


def room() -> int:
    """How many connections one listener may have, so that most files are left to everything else."""
    return min(MOST_INSIDE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 3)


def allow_files() -> None:
    """Let this process open as many files as it should, as far as it may decide that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def listening(host: str, port: int) -> list[socket.socket]:
    """Sockets on every address of `host`; port 0 takes a free one. Raises OSError where one can't be had."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets
