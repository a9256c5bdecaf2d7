"""One request to Kommo and its answer: the token, the limit, the breaker, the time-outs, the log line."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import json
import socket
import struct
import termios
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, Self

import aiohttp
import structlog
from yarl import URL

from itgrix_kommo import __version__
from itgrix_kommo.errors import (
    ConfigError,
    KommoOverloaded,
    KommoRejected,
    KommoUnauthorized,
    KommoUnreachable,
)
from itgrix_kommo.kommo.answers import Answer, interpret, parse, words_of
from itgrix_kommo.kommo.bodies import without_nulls
from itgrix_kommo.kommo.breaker import Breaker
from itgrix_kommo.kommo.limiter import Lapsed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import SimpleNamespace, TracebackType

    from itgrix_kommo.kommo.limiter import Limiter, Priority, Slot

MOST_BYTES = 8 * 1024 * 1024
"""A page of 250 entities with all their fields stays well below; more would hold the event loop up in parsing."""

CONNECT_WITHIN = 5.0
"""Seconds for name, TCP and TLS; who is not through by then gets through no better later."""

PAUSE_WITHOUT_ADVICE = 1.0
PAUSE_WITHOUT_ADVICE_AT_MOST = 60.0
"""Seconds of silence after a 429 that names none: doubled from the first to the second by each 429 in a row."""

BLOCK_PAUSE = 5.0
"""Seconds of silence that other nodes are asked for while this one is blocked; asked again and again."""

SILENT_FOR = 20.0
"""Seconds without any answer, though requests were made, after which Kommo is out of this host's reach."""

TRY_AGAIN = 60.0
"""Seconds after which it may be in reach again, where no request was made that would have shown it."""

USER_AGENT = f"itgrix-kommo/{__version__}"

_slot: ContextVar[Slot] = ContextVar("slot")

_log = structlog.get_logger(__name__)


class TokenSource(Protocol):
    """Where the bearer token comes from."""

    async def token(self) -> str: ...

    async def renew(self, refused: str) -> bool:
        """Kommo answered 401 to `refused`: true if there is another token now, worth one more attempt."""
        ...


def is_token(text: str) -> bool:
    """Whether this can stand in a header: one word of ASCII."""
    return text.isascii() and text.isprintable() and text.split() == [text]


class LongLivedToken:
    """A token made by hand in Kommo: nothing but a person renews it."""

    def __init__(self, token: str) -> None:
        if not is_token(token):
            raise ConfigError("kommo.access_token: empty, or characters that no token has: copy it from Kommo again")
        self._token = token

    async def token(self) -> str:
        return self._token

    async def renew(self, refused: str) -> bool:  # noqa: ARG002 (the protocol's: an OAuth grant compares it)
        return False


class Transport:
    """Sends requests to one account, each in a slot of the limiter; an async context manager.

    Without `tokens` it sends none, as the OAuth exchange needs it. `timeout_s` counts from the moment a request may go
    out: the wait for a slot is not in it, whoever has a deadline of his own cancels.
    `node` is told in each request, where several share the account.
    """

    def __init__(
        self,
        base_url: str,
        tokens: TokenSource | None,
        limiter: Limiter,
        *,
        timeout_s: float = 10.0,
        breaker: Breaker | None = None,
        node: str = "",
    ) -> None:
        try:
            self._base = URL(base_url).origin()
        except (ValueError, TypeError):
            raise ConfigError("kommo.base_url: this is no address such as https://acme.kommo.com") from None
        self._tokens = tokens
        self._user_agent = f"{USER_AGENT} ({node})" if node else USER_AGENT
        self._overloads = 0
        self._paused_until = 0.0
        self._silent_since: float | None = None
        self._was_silent_at = float("-inf")
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self.limiter = limiter
        self.breaker = Breaker() if breaker is None else breaker

    def __repr__(self) -> str:
        return f"Transport({str(self._base)!r})"

    @property
    def pause(self) -> float:
        """For how many seconds Kommo told us to send nothing; while it blocks us, always a few."""
        rest = max(0.0, self._paused_until - asyncio.get_running_loop().time())
        return rest if self.breaker.reason is None else max(rest, BLOCK_PAUSE)

    @property
    def is_answered(self) -> bool:
        """False while Kommo is out of this host's reach, as far as anybody tries."""
        return asyncio.get_running_loop().time() >= self._was_silent_at + TRY_AGAIN

    async def __aenter__(self) -> Self:
        tracing = aiohttp.TraceConfig()
        tracing.on_request_headers_sent.append(_mark_sent)
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept": "application/hal+json, application/json"},
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, connect=min(CONNECT_WITHIN, self._timeout_s)),
            connector=aiohttp.TCPConnector(limit=0, socket_factory=_socket),  # the limiter is the limit
            request_class=_Request,
            middlewares=[_never_resend],
            trace_configs=[tracing],
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        priority: Priority,
        params: Sequence[tuple[str, str]] = (),
        body: object = None,
    ) -> Answer:
        """The answer to one request, or a KommoError whose `may_have_happened` tells of a write what is known.

        `path` begins with ``/``; `body` is a list or mapping of JSON's own types, nulls are left out of it. A callable
        makes it in the moment it may go out, anew where that moment passed unused; what it raises ends the request, and
        nothing was sent.
        """
        data = body if body is None or callable(body) else encode(f"{method} {path}", body)
        if self._tokens is None:
            return await self._send(method, path, params, data, None, priority)
        token = await self._tokens.token()
        try:
            return await self._send(method, path, params, data, token, priority)
        except KommoUnauthorized:
            if not await self._tokens.renew(token):
                raise
        # A refused token did nothing, so this is safe for writes too.
        return await self._send(method, path, params, data, await self._tokens.token(), priority)

    async def _send(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]],
        data: bytes | Callable[[], object] | None,
        token: str | None,
        priority: Priority,
    ) -> Answer:
        self.breaker.check()
        async with self.limiter.slot(priority) as slot:
            while True:
                made = encode(f"{method} {path}", data()) if callable(data) else data
                self.breaker.enter()
                try:
                    status, raw = await self._exchange(method, path, params, made, token, slot)
                except Lapsed:
                    _log.info("kommo_slot_lapsed", method=method, path=path, remedy="it waits for its turn again")
                    await slot.again()
                else:
                    return self._judge(method, path, status, raw)

    async def _exchange(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]],
        data: bytes | None,
        token: str | None,
        slot: Slot,
    ) -> tuple[int, bytes]:
        if self._session is None:
            message = "the transport is not open: use it inside `async with`"
            raise RuntimeError(message)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        loop = asyncio.get_running_loop()
        begun = loop.time()
        status: int | None = None
        fault: str | None = None
        _slot.set(slot)
        try:
            async with self._session.request(
                method,
                self._base.with_path(path),
                params=list(params),
                data=data,
                headers=headers,
                allow_redirects=False,  # the token goes to the configured host alone
                trace_request_ctx=slot,
            ) as response:
                status = response.status
                self._silent_since, self._was_silent_at = None, float("-inf")
                return status, await _read(response, f"{method} {path}")
        except Lapsed:
            fault = "it was too late to send it"
            raise
        # Only words go on: these exceptions hold the request's headers, the token among them, and its query.
        except TimeoutError:
            fault = f"nothing within {self._timeout_s:g} s" if slot.was_sent else "no connection in time"
        except aiohttp.ClientConnectorError as error:
            fault = str(error)
        except (aiohttp.ClientError, ConnectionError) as error:
            fault = f"the answer broke off or is no HTTP ({type(error).__name__})"
        finally:
            # What the query holds (phone numbers) does not belong into a log.
            _log.debug(
                "kommo_request",
                method=method,
                path=path,
                status=status,
                ms=round((loop.time() - begun) * 1000),
                fault=fault,
            )
        if status is None:
            self._silent_since = begun if self._silent_since is None else self._silent_since
            if loop.time() >= self._silent_since + SILENT_FOR:
                self._was_silent_at = loop.time()
        raise KommoUnreachable(
            f"Kommo at {self._base} did not answer {method} {path}: {fault}: check the network and kommo.base_url",
            status=status,
            may_have_happened=slot.was_sent,
        )

    def _judge(self, method: str, path: str, status: int, raw: bytes) -> Answer:
        if status == 403:
            is_json, problem = parse(raw)
            is_json = is_json and isinstance(problem, dict)
            words = words_of(status, problem if is_json else None, path)
            if blocked := self.breaker.refused(method, path, is_json=is_json, words=words):
                raise blocked
        else:
            self.breaker.answered(method, path, status)
        if status != 429:
            self._overloads = 0
        try:
            return interpret(f"{method} {path}", status, raw)
        except KommoOverloaded as error:
            self._pause(error.retry_after)
            raise

    def _pause(self, advised: float | None) -> None:
        self._overloads += 1
        doubled = PAUSE_WITHOUT_ADVICE * 2.0 ** min(self._overloads - 1, 10)
        pause = min(doubled, PAUSE_WITHOUT_ADVICE_AT_MOST) if advised is None else advised
        _log.warning("kommo_overloaded", pause_s=pause)
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + pause)
        self.limiter.pause_for(pause)


def encode(request: str, body: object) -> bytes:
    """`body` as JSON without nulls, which Kommo refuses in calls and notes; text that is no Unicode becomes ``?``.

    Raises KommoRejected for what can't be written as JSON: it would never be accepted, and it was not sent.
    """
    try:
        return json.dumps(without_nulls(body), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError) as error:
        raise KommoRejected(
            f"{request} was not sent, its body can't be written as JSON: {error}: use plain JSON values"
        ) from None


async def _read(response: aiohttp.ClientResponse, request: str) -> bytes:
    raw = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        raw += chunk
        if len(raw) > MOST_BYTES:
            response.close()  # the rest is not waited for
            raise KommoUnreachable(
                f"Kommo's answer to {request} is longer than {MOST_BYTES} bytes: ask for fewer items, "
                "and check that kommo.base_url is Kommo",
                status=response.status,
                may_have_happened=True,
            )
    return bytes(raw)


class _Request(aiohttp.ClientRequest):
    """Its slot learns by which connection it travels."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        _slot.get().is_under_way = functools.partial(_is_under_way, conn.transport)
        return await super().send(conn)


def _is_under_way(transport: asyncio.Transport | None) -> bool:
    """Whether the kernel has bytes that the other end has not acknowledged."""
    if transport is None or transport.is_closing():
        return False
    file = transport.get_extra_info("socket").fileno()
    (count,) = struct.unpack("i", fcntl.ioctl(file, termios.TIOCOUTQ, bytes(4)))
    return bool(count)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """One that is given up with what was not delivered: after a network fault the kernel would go on trying for
    minutes, and Kommo do what has been done anew since.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return made


async def _never_resend(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp quietly repeats a GET whose connection broke: a request that the limiter would not know of."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientPayloadError(type(error).__name__) from None


async def _mark_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    """aiohttp calls this before it writes the first byte; what this raises closes the connection with nothing sent."""
    slot: Slot = context.trace_request_ctx
    slot.sent()
