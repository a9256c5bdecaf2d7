"""A pretended Asterisk that plays a recorded trace to whoever logs in over AMI, as if the calls happened now.

For tests, for a demo on a machine without Asterisk, and for trying a configuration on the calls of another PBX. To the
client it is an Asterisk where nothing lives until the trace begins and after it has ended. Filters are accepted and
have no effect: a client gets all that the trace holds, as from an Asterisk too old to filter.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from itgrix_kommo.ami.wanted import OWN_EVENTS
from itgrix_kommo.storage.trace import Recorded

BANNER: Final = b"Asterisk Call Manager/11.0.0\r\n"

MAX_ACTION: Final = 1 << 16
"""Bytes of one action of a client; Asterisk's own buffer holds far less."""

LONGEST_PAUSE: Final = 60.0
"""Seconds between two messages, however far apart they were recorded: nobody waits for a quiet night."""

PATIENCE: Final = 2.0
"""Seconds after the login until the trace begins for a client that does not ask which channels exist."""

_LISTS: Final = {
    "coreshowchannels": "CoreShowChannelsComplete",
    "status": "StatusComplete",
    "bridgelist": "BridgeListComplete",
}
_DEVICE_LISTS: Final = {
    "pjsipshowendpoints": ("PJSIP", "EndpointList", "EndpointListComplete"),
    "sippeers": ("SIP", "PeerEntry", "PeerlistComplete"),
    "iaxpeers": ("IAX2", "PeerEntry", "PeerlistComplete"),
}
_DEVICE = re.compile(rb"^Channel: (PJSIP|SIP|IAX2)/([^\r\n]+)-[0-9a-f]{8}\r?$", re.MULTILINE)
_OWN = tuple(b"Event: " + name.encode() for name in sorted(OWN_EVENTS))
_BREAKS = re.compile(r"[\r\n]+")


class Player:
    """Plays `recorded` from its beginning to each client that logs in as `username` with `secret`.

    The recorded pauses are divided by `speed`. Times of the trace mean nothing else: the client takes its own.
    """

    def __init__(self, recorded: Iterable[Recorded], *, username: str, secret: str, speed: float = 1.0) -> None:
        if not (speed > 0 and math.isfinite(speed)):
            raise ValueError(f"a trace can't be played {speed} times as fast: give a number above 0")
        # A daemon's own journal is a trace as well; what its link wrote there, Asterisk never said.
        self.recorded = [each for each in recorded if not each.frame.startswith(_OWN)]
        self.speed = speed
        self.port = 0
        self.times_played = 0
        """How many clients have had the whole of it."""
        self._username = username
        self._secret = secret
        self._devices = _devices(self.recorded)
        self._clients: set[asyncio.Task[None]] = set()
        self._finished = asyncio.Condition()

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Player]:
        """Listens while the block runs; with port 0 the system chooses one, told in `port`."""
        server = await asyncio.start_server(self._accept, host, port, limit=MAX_ACTION)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for client in self._clients:
                client.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            await server.wait_closed()

    async def played(self, times: int = 1) -> None:
        """Returns once that many clients have had the whole trace."""
        async with self._finished:
            await self._finished.wait_for(lambda: self.times_played >= times)

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each message."""
        before = math.inf
        for at, _ in self.recorded:
            pause = (at - before) / self.speed
            # A clock that was set back, and times that are no numbers, are no pauses.
            yield min(pause, LONGEST_PAUSE) if pause > 0 else 0.0
            before = at

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        if client is None:
            raise AssertionError("a connection is served by a task of its own")
        self._clients.add(client)
        session = _Session(reader, writer, self._answers, knows=self._knows)
        playing = asyncio.create_task(self._play(session))
        # Who hangs up, sends what is no AMI, or is not let in, is gone; so is everybody when the player ends.
        try:
            with contextlib.suppress(
                asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, OSError
            ):
                await session.listen()
        finally:
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await playing
            self._clients.discard(client)
            writer.close()

    async def _play(self, session: _Session) -> None:
        await session.logged_in.wait()
        with contextlib.suppress(TimeoutError):
            # A call that began before the client asked what exists would be taken for one that is over.
            async with asyncio.timeout(PATIENCE):
                await session.looked.wait()
        for pause, (_, frame) in zip(self.pauses(), self.recorded, strict=True):
            if pause:
                await asyncio.sleep(pause)
            session.send(frame + b"\r\n\r\n")
            await session.drain()
        async with self._finished:
            self.times_played += 1
            self._finished.notify_all()

    def _knows(self, login: Mapping[str, str], challenge: str) -> bool:
        """Whether a Login is the right one; `challenge` is what the client was given, or empty."""
        if not _same(login.get("username", ""), self._username):
            return False
        if login.get("authtype", "").upper() != "MD5":
            return _same(login.get("secret", ""), self._secret)
        key = hashlib.md5(f"{challenge}{self._secret}".encode(), usedforsecurity=False).hexdigest()
        return bool(challenge) and _same(login.get("key", ""), key)

    def _answers(self, action: Mapping[str, str]) -> list[dict[str, str]]:
        """What an Asterisk at rest says to an action of somebody who is logged in."""
        name = action["action"].lower()
        if name in _LISTS:
            return _list(_LISTS[name], [])
        if name in _DEVICE_LISTS:
            technology, item, complete = _DEVICE_LISTS[name]
            devices = self._devices.get(technology)
            if devices is not None:
                return _list(complete, [{"Event": item, "ObjectName": device} for device in devices])
        simple = {
            "ping": {"Ping": "Pong", "Timestamp": f"{time.time():.6f}"},
            "filter": {"Message": "Success"},
            "events": {"Events": "On"},
            "coresettings": {"AMIversion": "11.0.0", "AsteriskVersion": "22 (a recorded trace)"},
        }.get(name)
        if simple is not None:
            return [{"Response": "Success", **simple}]
        return [_refusal(f"Invalid/unknown command: {action['action'][:60]}: this is a recorded trace")]


class _Session:
    """One client's connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: Callable[[Mapping[str, str]], list[dict[str, str]]],
        *,
        knows: Callable[[Mapping[str, str], str], bool],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answers = answers
        self._knows = knows
        self._challenge = ""
        self.logged_in = asyncio.Event()
        self.looked = asyncio.Event()

    async def listen(self) -> None:
        """Answers until one side ends it."""
        self.send(BANNER)
        while True:
            action = _headers(await self._reader.readuntil(b"\r\n\r\n"))
            answers, goes_on = self._obey(action)
            for answer in answers:
                self.send(_message(answer, action.get("actionid", "")))
            await self.drain()
            if not goes_on:
                return
            if action["action"].lower() in {"coreshowchannels", "status"} and self.logged_in.is_set():
                self.looked.set()

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    def _obey(self, action: Mapping[str, str]) -> tuple[list[dict[str, str]], bool]:
        """The answer, and whether the connection stays."""
        match action["action"].lower():
            case "challenge" if action.get("authtype", "").upper() == "MD5":
                self._challenge = str(secrets.randbelow(10**9))
                return [{"Response": "Success", "Challenge": self._challenge}], True
            case "login":
                if not self._knows(action, self._challenge):
                    return [_refusal("Authentication failed")], False
                self.logged_in.set()
                accepted = {"Response": "Success", "Message": "Authentication accepted"}
                booted = {"Event": "FullyBooted", "Privilege": "system,all", "Status": "Fully Booted"}
                return [accepted, booted], True
            case "logoff":
                return [{"Response": "Goodbye", "Message": "Thanks for all the fish."}], False
            case _ if not self.logged_in.is_set():
                return [_refusal("Permission denied")], True
            case _:
                return self._answers(action), True


def _devices(recorded: Iterable[Recorded]) -> dict[str, list[str]]:
    """The devices whose channels a trace shows, by technology, in the order of their names."""
    found: dict[str, set[str]] = {}
    for _, frame in recorded:
        for technology, name in _DEVICE.findall(frame):
            found.setdefault(technology.decode(), set()).add(name.decode("utf-8", "replace"))
    return {technology: sorted(names) for technology, names in found.items()}


def _list(complete: str, items: list[dict[str, str]]) -> list[dict[str, str]]:
    begin = {"Response": "Success", "EventList": "start", "Message": "A listing will follow"}
    return [begin, *items, {"Event": complete, "EventList": "Complete", "ListItems": str(len(items))}]


def _refusal(words: str) -> dict[str, str]:
    return {"Response": "Error", "Message": words}


def _message(headers: Mapping[str, str], action_id: str) -> bytes:
    """One message; the action's id is its second header, as with Asterisk."""
    (kind, first), *rest = headers.items()
    ours = [("ActionID", action_id)] if action_id and first != "FullyBooted" else []
    lines = (f"{name}: {_BREAKS.sub(' ', value)}\r\n" for name, value in [(kind, first), *ours, *rest])
    return "".join(lines).encode() + b"\r\n"


def _headers(raw: bytes) -> dict[str, str]:
    """An action's headers by their names in small letters, the last one where one is repeated."""
    found = {"action": ""}
    for line in raw.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip().lower()] = value.strip()
    return found


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
