"""Recordings over HTTP: GET and HEAD with ranges, for the card's player and for whoever saves the file.

Nothing of a request names a file: the link's signed part leads to an id, the id to what the index remembers.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from aiohttp import web

from itgrix_kommo.recordings import ranges
from itgrix_kommo.recordings.links import PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from itgrix_kommo.recordings.archive import Playable
    from itgrix_kommo.recordings.links import Ticket

CHUNK: Final = 64 * 1024
"""Bytes in memory for one listener, however slow he is."""

STALLED: Final = 300.0
"""Seconds without reading after which a listener is let go; a paused player comes back for the rest by itself."""

_NANOSECONDS: Final = 1_000_000_000

# The link itself is the credential and no cookie counts, so any page may play it: the CRM's, whose host is the
# account's, and its mobile shells.
_CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Range, If-Range, If-None-Match, If-Modified-Since, If-Match",
    "Access-Control-Max-Age": "86400",
    "Vary": "Access-Control-Request-Private-Network",
}
_NOT_A_TOKEN: Final = re.compile(r"[^A-Za-z0-9 .+()_-]", re.ASCII)


class Archive(Protocol):
    """What serving needs of `archive.Recordings`."""

    def ticket(self, signed: str) -> Ticket | None: ...

    def has_expired(self, ticket: Ticket) -> bool: ...

    async def open(self, recording_id: str) -> Playable | None: ...

    async def read(self, playable: Playable, begin: int, length: int) -> bytes: ...


def routes(archive: Archive, elsewhere: Callable[[str], str] = lambda _: "") -> list[web.RouteDef]:
    """The routes of GET, HEAD and OPTIONS /recordings/{signed}.mp3.

    `elsewhere` tells of a recording's id which other node has it, and how that is; empty where none has.
    """

    async def play(request: web.Request) -> web.StreamResponse:
        ticket = archive.ticket(request.match_info["signed"])
        if ticket is None:
            return _words(404, "There is no such recording.")
        if archive.has_expired(ticket):
            return _words(410, "This link has expired.")
        playable = await archive.open(ticket.recording_id)
        if playable is None and (words := elsewhere(ticket.recording_id)):
            return _words(503, words)
        if playable is None:
            return _words(404, "The recording is no longer kept.")
        with playable.file:
            return await _answer(request, archive, playable)

    async def preflight(request: web.Request) -> web.Response:
        headers = {**_CORS, **_PREFLIGHT}
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            # The CRM is public, a PBX often is not: the browser asks before it crosses that border.
            headers["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=headers)

    return [web.get(PATH, play), web.options(PATH, preflight)]


async def _answer(request: web.Request, archive: Archive, playable: Playable) -> web.StreamResponse:
    changed_at = playable.changed_ns // _NANOSECONDS
    headers = {
        **_CORS,
        "Accept-Ranges": "bytes",
        # The same link turns from the original into the mp3: ask each time, and hear "not modified".
        "Cache-Control": "private, no-cache",
        "ETag": playable.etag,
        "Last-Modified": formatdate(changed_at, usegmt=True),
    }
    status = ranges.status(request.headers, playable.etag, changed_at)
    if status != 200:
        return web.Response(status=status, headers=headers)
    headers["Content-Disposition"] = disposition(playable.file_name)
    headers["Content-Type"] = playable.media_type
    spans = None
    if request.method == "GET" and ranges.still_wanted(request.headers.get("If-Range"), playable.etag, changed_at):
        spans = ranges.requested(",".join(request.headers.getall("Range", [])) or None, playable.size)
    if spans == ():
        return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{playable.size}"})
    body: list[bytes | ranges.Span]
    if spans is None:
        body = [ranges.Span(0, playable.size)]
    elif len(spans) == 1:
        headers["Content-Range"] = spans[0].content_range(playable.size)
        body = [spans[0]]
    else:
        boundary = secrets.token_hex(16)
        headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
        body = ranges.multipart(spans, playable.size, playable.media_type, boundary)
    response = web.StreamResponse(status=200 if spans is None else 206, headers=headers)
    response.content_length = sum(len(part) if isinstance(part, bytes) else part.length for part in body)
    await response.prepare(request)
    if request.method == "GET":
        await _send(request, response, archive, playable, body)
    return response


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    archive: Archive,
    playable: Playable,
    body: list[bytes | ranges.Span],
) -> None:
    try:
        async for data in _data(archive, playable, body):
            async with asyncio.timeout(STALLED):
                await response.write(data)
    except (TimeoutError, EOFError):
        # The promised length can't be kept any more: only a broken connection tells the listener.
        if request.transport is not None:
            request.transport.abort()


async def _data(archive: Archive, playable: Playable, body: list[bytes | ranges.Span]) -> AsyncIterator[bytes]:
    for part in body:
        if isinstance(part, bytes):
            yield part
            continue
        at = part.begin
        while at < part.end:
            data = await archive.read(playable, at, min(CHUNK, part.end - at))
            if not data:
                raise EOFError(f"the file ended at {at}, before {part.end}")
            yield data
            at += len(data)


def disposition(file_name: str) -> str:
    """The Content-Disposition of a file shown in its place; its name in two spellings, as old clients know one only."""
    plain = _NOT_A_TOKEN.sub("_", file_name)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='', errors='replace')}"


def _words(status: int, words: str) -> web.Response:
    return web.Response(status=status, text=f"{words}\n", headers={**_CORS, "Cache-Control": "no-store"})
