"""An Asterisk Manager that does as the test says, over a real socket.

It answers actions by a table (`answers`: action name to the frames of its answer, written with ``{id}`` for the
ActionID) and sends what the test gives to `send`. Actions without an entry are refused as Asterisk refuses unknown
ones. `Listener` is the other end: a link that runs, to this or to a real Asterisk, and all it heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from itgrix_kommo.ami.link import AmiLink
from itgrix_kommo.ami.settings import AmiSettings, LinkStatus, Pace

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from itgrix_kommo.ami.outbox import Received
    from itgrix_kommo.calls.events import Event

BANNER = b"Asterisk Call Manager/9.0.0\r\n"
WITHIN = 5.0
"""Seconds within which whatever is awaited here must have happened."""

Headers: TypeAlias = dict[str, str]
Answers: TypeAlias = dict[str, str | Callable[[Headers], str] | None]
"""None: no answer at all."""

SUCCESS = "Response: Success\r\nActionID: {id}\r\n\r\n"
REFUSED = "Response: Error\r\nActionID: {id}\r\nMessage: Permission denied\r\n\r\n"
UNKNOWN = "Response: Error\r\nActionID: {id}\r\nMessage: Invalid/unknown command\r\n\r\n"
CHALLENGE = "Response: Success\r\nActionID: {id}\r\nChallenge: 840415273\r\n\r\n"
BOOTED = "Event: FullyBooted\r\nPrivilege: system,all\r\nUptime: 9\r\nLastReload: 9\r\nStatus: Fully Booted\r\n\r\n"


def listing(complete: str, *items: str) -> str:
    """A list as Asterisk answers with: `items` are events without their ActionID."""
    parts = ["Response: Success\r\nActionID: {id}\r\nEventList: start\r\nMessage: will follow\r\n\r\n"]
    parts += [item.replace("\r\n", "\r\nActionID: {id}\r\n", 1) + "\r\n" for item in items]
    parts.append(f"Event: {complete}\r\nActionID: {{id}}\r\nEventList: Complete\r\nListItems: {len(items)}\r\n\r\n")
    return "".join(parts)


def channel_item(uniqueid: str, *, bridge: str = "", age: str = "00:01:05") -> str:
    return (
        f"Event: CoreShowChannel\r\nChannel: PJSIP/101-{uniqueid}\r\nChannelState: 6\r\nChannelStateDesc: Up\r\n"
        "CallerIDNum: 101\r\nCallerIDName: <unknown>\r\nConnectedLineNum: \r\nConnectedLineName: \r\nLanguage: en\r\n"
        f"AccountCode: \r\nContext: internal\r\nExten: 102\r\nPriority: 1\r\nUniqueid: {uniqueid}\r\n"
        f"Linkedid: {uniqueid}\r\nBridgeId: {bridge}\r\nApplication: Dial\r\nApplicationData: PJSIP/102\r\n"
        f"Duration: {age}\r\n"
    )


def answers() -> Answers:
    """Those of an idle PBX without devices whose user may do everything."""
    return {
        "Challenge": CHALLENGE,
        "Login": lambda _: SUCCESS + BOOTED,
        "Filter": SUCCESS,
        "Ping": SUCCESS,
        "BridgeList": listing("BridgeListComplete"),
        "CoreShowChannels": listing("CoreShowChannelsComplete"),
        "CoreSettings": "Response: Success\r\nActionID: {id}\r\nAsteriskVersion: 22.10.0\r\n\r\n",
    }


def md5_key(secret: str) -> str:
    """What a login must hand in for the challenge above."""
    return hashlib.md5(f"840415273{secret}".encode(), usedforsecurity=False).hexdigest()


class Session:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.actions: list[Headers] = []
        self.raw: list[bytes] = []
        self.over = False

    async def listen(self, server: AmiServer) -> None:
        self.send(server.banner)
        while True:
            raw = await self._reader.readuntil(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in raw.decode().strip().split("\r\n"))
            self.raw.append(raw)
            self.actions.append(headers)
            server.changed()
            answer = server.answers.get(headers["Action"], UNKNOWN)
            if callable(answer):
                answer = answer(headers)
            if answer is not None:
                self.send(answer.replace("{id}", headers["ActionID"]))

    def send(self, data: bytes | str) -> None:
        self._writer.write(data.encode() if isinstance(data, str) else data)

    async def drain(self) -> None:
        await self._writer.drain()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to read."""
        return self._writer.transport.get_write_buffer_size()

    def hang_up(self, last: bytes = b"") -> None:
        """Close, after `last` was sent."""
        self._writer.write(last)
        self._writer.close()

    def asked(self, action: str) -> list[Headers]:
        return [each for each in self.actions if each["Action"] == action]


class AmiServer:
    """Listens on a port of its own; `sessions` are the connections so far, in their order."""

    def __init__(self, *, banner: bytes = BANNER, tls: ssl.SSLContext | None = None) -> None:
        self.banner = banner
        self.answers = answers()
        self.sessions: list[Session] = []
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._condition = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shut()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Nobody is there any more, all connections break off."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = Session(reader, writer)
        self.sessions.append(session)
        self.changed()
        try:
            await session.listen(self)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            self._tasks.discard(task)
            session.over = True
            self.changed()
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def changed(self) -> None:
        self._condition.set()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that connections and actions bring about."""
        try:
            async with asyncio.timeout(WITHIN):
                while not condition():
                    self._condition.clear()
                    await self._condition.wait()
        except TimeoutError:
            asked = [[each["Action"] for each in session.actions] for session in self.sessions]
            raise AssertionError(f"did not happen: {what}; asked so far: {asked}") from None

    async def asked(self, action: str, *, times: int = 1, session: int = -1) -> Headers:
        """The `times`-th action of that name on one connection."""

        def there() -> bool:
            return len(self.sessions) > max(session, 0) and len(self.sessions[session].asked(action)) >= times

        await self.until(there, f"{action} asked {times} times")
        return self.sessions[session].asked(action)[times - 1]


QUICK = Pace(retry_first=0.01, retry_ceiling=0.02, boot_grace=0.2)
"""Comes back at once, so that tests need not wait; all else as in life."""

E = TypeVar("E")


class Listener:
    """A link to a local port that runs, and everything that came out of it; `holding` leaves it in there."""

    def __init__(
        self,
        port: int,
        *,
        pace: Pace = QUICK,
        holding: bool = False,
        blind_since: float | None = None,
        **settings: Any,
    ) -> None:
        given = {"host": "127.0.0.1", "port": port, "username": "itgrix", "secret": "s3cr3t", **settings}
        self.link = AmiLink(AmiSettings(**given), pace=pace, blind_since=blind_since)
        self.batches: list[list[Received]] = []
        self.received: list[Received] = []
        self._taking = asyncio.Event()
        self._news = asyncio.Event()
        if not holding:
            self._taking.set()

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.link.run())
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop the link and hear the rest of it."""
        self._running.cancel()
        self._taking.set()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        await self._listening

    def take(self) -> None:
        self._taking.set()

    async def _listen(self) -> None:
        await self._taking.wait()
        async for batch in self.link.batches():
            self.batches.append(batch)
            self.received += batch
            self._news.set()

    @property
    def events(self) -> list[Event]:
        return [each.event for each in self.received]

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def hears(self, kind: type[E], *, times: int = 1) -> E:
        """The `times`-th event of a kind."""
        await self.hears_that(lambda: len(self.all(kind)) >= times, f"{kind.__name__} {times} times")
        return self.all(kind)[times - 1]

    async def hears_that(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that events bring about."""
        try:
            async with asyncio.timeout(WITHIN):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            kinds = [type(event).__name__ for event in self.events[-50:]]
            raise AssertionError(f"was not heard: {what}; {len(self.received)} events, the last ones {kinds}") from None

    async def is_told(self, words: str) -> LinkStatus:
        """The status, once its error holds `words`."""
        await self.until(lambda status: words in status.error, f"the error {words!r}")
        return self.link.status

    async def until(self, condition: Callable[[LinkStatus], bool], what: str) -> None:
        """Wait for a status; it tells nobody when it changes, so it is looked at again and again."""
        deadline = asyncio.get_running_loop().time() + WITHIN
        while not condition(self.link.status):
            assert asyncio.get_running_loop().time() < deadline, f"did not happen: {what}; now {self.link.status}"
            await asyncio.sleep(0.005)
