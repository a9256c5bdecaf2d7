"""One connection to Asterisk: bytes in, ordered events and answers out.

It stands in for panoramisk's `AMIProtocol` and knows nothing of reconnecting; see `link` for the connection's life.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from itgrix_kommo.ami.actions import check
from itgrix_kommo.ami.codec import Codec
from itgrix_kommo.ami.decode import decode
from itgrix_kommo.ami.headers import text_of, value_of
from itgrix_kommo.ami.outbox import Received
from itgrix_kommo.ami.wanted import OWN_EVENTS
from itgrix_kommo.errors import AmiActionFailed, AmiProtocolError, AmiUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from panoramisk.actions import Action

MAX_LIST: Final = 100_000
"""Items of one answer; a PBX has fewer channels and devices."""

GATHER: Final = 0.1
"""Seconds between two looks at the socket while no answer is awaited. Asterisk writes event by event, and each look
costs more than what it finds: what came together is understood together. Nobody sees a pop-up
that much earlier, and who asks something looks at once.
"""

MUCH: Final = 64 * 1024
"""Bytes after which the next look follows at once: there is more than a look takes."""

PING_ID: Final = "itgrix-ping"
"""All pings share one id that nobody waits for: any byte that comes back proves life."""

_PING = f"Action: Ping\r\nActionID: {PING_ID}\r\n\r\n".encode()

_OWN = tuple(b"Event: " + name.encode() for name in sorted(OWN_EVENTS))

Answer: TypeAlias = list[bytes]
"""Frames: the response, then the items of a list without the event that closes it."""


class _Pending:
    """An action whose answer has not come in full."""

    __slots__ = ("future", "listed", "name", "parts", "then")

    def __init__(
        self,
        name: str,
        *,
        listed: bool,
        then: Callable[[Answer, float], Received] | None,
        future: asyncio.Future[Answer],
    ) -> None:
        self.name = name
        self.listed = listed
        self.then = then
        self.future = future
        self.parts: Answer = []


class AmiProtocol(asyncio.Protocol):
    """`deliver` gets the events of each network chunk at once, in their order.

    `greeted` is done when the banner came, `booted` when Asterisk said FullyBooted, `closed` when all is over; its
    result is the reason.
    """

    def __init__(self, *, clock: Callable[[], float], deliver: Callable[[list[Received]], None]) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._time = loop.time
        self._clock = clock
        self._deliver = deliver
        self._codec = Codec()
        self._pending: dict[str, _Pending] = {}
        self._transport: asyncio.Transport
        self._connected = False
        self._reason: Exception | None = None
        self.greeted: asyncio.Future[str] = loop.create_future()
        self.booted = asyncio.Event()
        self.closed: asyncio.Future[Exception] = loop.create_future()
        self.heard_at = self._time()
        self.heard_clock = clock()
        self.paused_at: float | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self.truncated = False
        self.delivered = 0

    @property
    def messages(self) -> int:
        """All that Asterisk sent, wanted or not."""
        return self._codec.messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connected = True
        self.heard_at = self._time()
        if self._reason is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._time()
        at = self.heard_clock = self._clock()
        batch: list[Received] = []
        for frame in self._codec.feed(data):
            if self._pending or not frame.startswith(b"Event:"):
                answers, inserted = self._answered(frame, at)
                if inserted is not None:
                    batch.append(inserted)
                if answers:
                    continue
            # What the link writes into journals by itself, nobody may say to it.
            event = None if frame.startswith(_OWN) else decode(frame, at)
            if event is not None:
                batch.append(Received(frame, event))
            elif frame.startswith(b"Event: FullyBooted"):
                self.booted.set()
            elif frame.startswith(b"Event: Shutdown"):
                # It closes the connection by itself, after the last hangups.
                self._reason = AmiUnavailable("Asterisk is shutting down")
        self.delivered += len(batch)
        self._deliver(batch)
        self._check_stream()
        if self._connected and self.paused_at is None and not self._pending and len(data) < MUCH:
            self._transport.pause_reading()
            self._gathering = self._loop.call_later(GATHER, self._read_on)

    def _read_on(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
            if self._connected and self.paused_at is None:
                self._transport.resume_reading()

    def _check_stream(self) -> None:
        if self._codec.fault is not None:
            self.cut(AmiProtocolError(f"Asterisk sent {self._codec.fault}: the connection is of no more use"))
        elif not self.greeted.done():
            if self._codec.version is not None:
                self.greeted.set_result(self._codec.version)
            elif self._codec.messages:
                self.cut(
                    AmiProtocolError("who answers is no Asterisk Manager: it did not greet as one; check the port")
                )

    def connection_lost(self, exc: Exception | None) -> None:
        self.truncated = self._codec.close()
        reason = self._reason or AmiUnavailable(f"the connection was lost: {exc or 'Asterisk closed it'}")
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(AmiUnavailable(f"{pending.name} got no answer: {reason}"))
        if not self.greeted.done():
            self.greeted.set_exception(reason)
            self.greeted.exception()  # taken note of: whoever waited may have given up
        if not self.closed.done():
            self.closed.set_result(reason)

    def cut(self, reason: Exception) -> None:
        """End the connection at once, also one that is only being made; `closed` will tell `reason`."""
        if self._reason is None:
            self._reason = reason
        if self._connected:
            # Not close(): that would wait for a peer that may be gone to take what is still to be written.
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading: the kernel's buffers fill, then Asterisk waits."""
        if self.paused_at is None:
            self.paused_at = self._time()
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on; what was not heard meanwhile is no silence."""
        if self.paused_at is not None:
            self.paused_at = None
            self.heard_at = self._time()
            self._transport.resume_reading()

    def ping(self) -> None:
        self._transport.write(_PING)

    def send(
        self,
        action: Action,
        *,
        as_list: bool | None = None,
        then: Callable[[Answer, float], Received] | None = None,
    ) -> asyncio.Future[Answer]:
        """Write `action`; the future gets its answer, AmiActionFailed with Asterisk's words, or AmiUnavailable.

        `then` makes an event of the complete answer, which is put among the others at the very place where the answer
        ended. Whoever gives the future up (a time-out) cancels it: the late answer is then ignored.
        """
        check(dict(action))
        name, action_id = str(action["Action"]), str(action["ActionID"])
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            future.set_exception(AmiUnavailable(f"{name} was not sent: the connection is closed"))
            return future
        if action_id in self._pending:
            raise AmiProtocolError(f"{name}: the ActionID {action_id!r} is already waited for")
        self._pending[action_id] = _Pending(name, listed=bool(as_list), then=then, future=future)
        future.add_done_callback(lambda done: self._forget(action_id, done))
        self._transport.write(str(action).encode())
        self._read_on()
        return future

    def _forget(self, action_id: str, done: asyncio.Future[Answer]) -> None:
        self._pending.pop(action_id, None)
        if not done.cancelled():
            done.exception()  # taken note of: whoever asked may be gone

    def _answered(self, frame: bytes, at: float) -> tuple[bool, Received | None]:
        """Whether `frame` belongs to an answer, and the event that its completion makes."""
        text = text_of(frame)
        is_response = frame.startswith(b"Response:")
        pending = self._pending.get(value_of(text, "ActionID"))
        if pending is None or not (is_response or pending.listed):
            # A response that came too late, or an event with an id of ours that is for the tracker.
            return False, None
        if pending.future.done():
            return True, None
        if is_response:
            self._take_response(pending, frame, text)
        elif value_of(text, "EventList").lower() == "complete" or frame.partition(b"\r\n")[0].endswith(b"Complete"):
            inserted = None if pending.then is None else pending.then(pending.parts, at)
            pending.future.set_result(pending.parts)
            return True, inserted
        elif len(pending.parts) > MAX_LIST:
            pending.future.set_exception(AmiProtocolError(f"{pending.name} lists more than {MAX_LIST} items"))
        else:
            pending.parts.append(frame)
        return True, None

    @staticmethod
    def _take_response(pending: _Pending, frame: bytes, text: str) -> None:
        verdict = text.partition("\r\n")[0].partition(": ")[2]
        if verdict in {"Error", "Fail", "Failure"}:
            words = value_of(text, "Message") or "no reason given"
            pending.future.set_exception(AmiActionFailed(f"Asterisk refused {pending.name}: {words}"))
        elif pending.listed:
            pending.parts.append(frame)
        else:
            pending.future.set_result([frame])
