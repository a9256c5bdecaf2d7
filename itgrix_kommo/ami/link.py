"""The link to Asterisk: connects, logs in, keeps alive, comes back, and always says what it may have missed.

Of panoramisk 1.4, `_Manager` below uses

* `Manager.__init__` and `Manager.connect`: TCP or TLS to the host, with our protocol from its `protocol_factory`;
* `Manager.send_action` with `actions.Action`: ids, repeated headers, and how an action is written.

Overridden, because they are wrong for a daemon: `connection_made` (logs in without looking at the answer, starts a ping
that nobody awaits), `connection_lost` and `close` (reconnect every two seconds for ever, and leave that pending),
`send_awaiting_actions` (replays what was asked while the link was down: an old click-to-call rings minutes later).
Not used: `AMIProtocol` (drops letters cut between chunks, quadratic on endless lines, loses empty headers, answers that
come in part never end), `dispatch` and `register_event` (a raising handler closes the connection, coroutines lose the
order), `Message` (recurses when copied), `CallManager` (keeps every event).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import panoramisk
import structlog
from panoramisk import actions as panoramisk_actions

from itgrix_kommo.ami.actions import Action, Reply
from itgrix_kommo.ami.decode import encode_endpoints, encode_resync
from itgrix_kommo.ami.outbox import Outbox, Received
from itgrix_kommo.ami.protocol import AmiProtocol, Answer
from itgrix_kommo.ami.settings import AmiSettings, LinkStatus, Pace
from itgrix_kommo.ami.snapshot import CHANNEL_LISTS, ENDPOINT_LISTS, bridges, endpoints, live_channels
from itgrix_kommo.ami.wanted import EVENT_MASK, server_filters
from itgrix_kommo.calls.events import Endpoints, Resync
from itgrix_kommo.errors import AmiActionFailed, AmiActionTimeout, AmiError, AmiLoginRefused, AmiUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

_log = structlog.get_logger(__name__)

_TCP_USER_TIMEOUT_MS = 30_000
"""Unacknowledged bytes end a connection after this long; the kernel's own patience is a quarter of an hour."""


class _Manager(panoramisk.Manager):  # type: ignore[misc]  # the library ships no types
    """panoramisk's manager without a connection life of its own; see the module's docstring."""

    def connection_made(self, connecting: asyncio.Future[Any]) -> None:
        if not connecting.cancelled() and connecting.exception() is None:
            _, self.protocol = connecting.result()

    def connection_lost(self, exc: Exception | None) -> None:
        """The protocol tells its own end."""

    def close(self) -> None:
        """The protocol is closed by its owner."""

    async def send_awaiting_actions(self, *_: object) -> None:
        """Nothing is ever sent again."""


class AmiLink:
    """Calls as they happen, in one ordered stream, and actions while Asterisk is there.

    `run` lives as long as the daemon. `batches` yields what came with each network chunk: events, after each login a
    `Resync` (with the moment since when events were missed), and `Endpoints` when they changed. A slow consumer makes
    Asterisk wait, nothing is dropped; beyond `Pace.stall_limit` the link is cut, and the next Resync tells the gap.

    A Resync stands in the stream where Asterisk's answer ended; what happened between its `asked_at` and its `at` came
    before it, as events of their own. `blind_since` is when a former daemon last heard Asterisk: what the first Resync
    says.
    """

    def __init__(
        self,
        settings: AmiSettings,
        *,
        blind_since: float | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """`blind_since` is when an earlier daemon last heard this Asterisk, in Unix seconds."""
        self.settings = settings
        self._pace = pace or Pace()
        self._clock = clock
        self._dice = dice
        self._status = LinkStatus(since=clock())
        self._outbox = Outbox(self._pace.high_water, pause=self._pause, resume=self._resume)
        self._manager: _Manager | None = None
        self._protocol: AmiProtocol | None = None
        self._use_filters = True
        self._blind_since = blind_since
        self._seeing = False
        self._endpoints: frozenset[str] = frozenset()
        self._complaint = ""

    @property
    def status(self) -> LinkStatus:
        protocol = self._protocol
        if protocol is None:
            return replace(self._status, waiting=self._outbox.waiting)
        return replace(
            self._status,
            messages=self._status.messages + protocol.messages,
            events=self._status.events + protocol.delivered,
            waiting=self._outbox.waiting,
        )

    async def run(self) -> None:
        """Keep the link, for ever; cancel it to stop. What was received stays in `batches` until it is taken."""
        failures = 0
        try:
            while True:
                # Events that nobody takes would only pile up again.
                await self._outbox.drained()
                logins = self._status.connections
                reason = await self._session()
                failures = 1 if self._status.connections > logins else failures + 1
                await asyncio.sleep(self._lost(reason, failures))
        finally:
            self._down("the link was stopped")
            self._outbox.close()

    async def batches(self) -> AsyncIterator[list[Received]]:
        """Everything in order, one list for each network chunk; ends after `run` has."""
        while (batch := await self._outbox.get()) is not None:
            yield batch

    async def send(self, action: Action, *, within: float | None = None) -> Reply:
        """Ask something of Asterisk and return its answer.

        Raises AmiUnavailable at once where there is no link (and when it is lost before the answer; nothing is ever
        sent again), AmiActionTimeout after `within` seconds, AmiActionFailed with Asterisk's words, AmiProtocolError
        for an action that can't be written safely.
        """
        return Reply.read((await self._ask(action, within, listed=False))[0])

    async def send_list(self, action: Action, *, within: float | None = None) -> list[Reply]:
        """The items of an action that answers with a list; raises as `send` does."""
        return [Reply.read(frame) for frame in (await self._ask(action, within, listed=True))[1:]]

    async def _ask(self, action: Action, within: float | None, *, listed: bool) -> Answer:
        if self._manager is None or not self._status.connected:
            why = self._status.error or "not connected yet"
            raise AmiUnavailable(f"there is no link to Asterisk at {self._place}: {why}")
        answer = self._manager.send_action(panoramisk_actions.Action(dict(action)), as_list=listed)
        return await self._answer(answer, str(action["Action"]), within)

    async def _answer(self, answer: asyncio.Future[Answer], name: str, within: float | None = None) -> Answer:
        seconds = self._pace.answer_within if within is None else within
        try:
            # Not wait_for(): in Python 3.11 it forgets a cancellation that comes together with the answer.
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise AmiActionTimeout(f"Asterisk did not answer {name} within {seconds:g} s; it may still do it") from None

    @property
    def _place(self) -> str:
        return f"{self.settings.host}:{self.settings.port}"

    async def _session(self) -> Exception:
        """One connection from its beginning to its end; returns the reason of the end."""
        tasks: list[asyncio.Task[None]] = []
        try:
            protocol = self._protocol = await self._connect()
            tasks.append(_attend(self._keep_alive(protocol), protocol))
            await self._log_in(protocol)
            tasks.append(_attend(self._watch(protocol), protocol))
            return await asyncio.shield(protocol.closed)
        except (OSError, AmiError) as error:
            return error
        finally:
            await self._leave(tasks)

    async def _connect(self) -> AmiProtocol:
        settings = self.settings
        protocol = AmiProtocol(clock=self._clock, deliver=self._outbox.put)
        self._manager = _Manager(
            host=settings.host,
            port=settings.port,
            ssl=ssl.create_default_context() if settings.tls is True else settings.tls,
            protocol_factory=lambda: protocol,
            loop=asyncio.get_running_loop(),
        )
        greeted = False
        try:
            async with asyncio.timeout(self._pace.connect_within) as patience:
                transport, _ = await self._manager.connect()
                _guard(transport.get_extra_info("socket"))
                self._status = replace(self._status, ami_version=await protocol.greeted)
                greeted = True
        except TimeoutError:
            if not patience.expired():
                raise  # the kernel's own
            seconds = self._pace.connect_within
            raise AmiUnavailable(f"nobody at {self._place} greeted as Asterisk does within {seconds:g} s") from None
        finally:
            if not greeted:
                protocol.cut(AmiUnavailable("given up"))
        return protocol

    async def _log_in(self, protocol: AmiProtocol) -> None:
        settings = self.settings
        try:
            challenge = await self._do(protocol, {"Action": "Challenge", "AuthType": "MD5"})
            key = hashlib.md5(f"{challenge.get('Challenge')}{settings.secret}".encode(), usedforsecurity=False)
            credentials = {"AuthType": "MD5", "Key": key.hexdigest()}
        except AmiActionFailed:
            credentials = {"Secret": settings.secret}
        try:
            await self._do(
                protocol, {"Action": "Login", "Username": settings.username, **credentials, "Events": EVENT_MASK}
            )
        except AmiActionFailed as refusal:
            raise AmiLoginRefused(
                f"Asterisk at {self._place} does not let {settings.username!r} in ({refusal}): compare ami.username and"
                " ami.secret with manager.conf, and its permit and deny with the address we come from"
            ) from None
        self._status = replace(
            self._status,
            connected=True,
            since=self._clock(),
            error="",
            login_refused=False,
            limits=(),
            filtered=False,
            booted=False,
            connections=self._status.connections + 1,
        )
        self._complaint = ""
        _log.info("Asterisk lets us in", place=self._place, ami_version=self._status.ami_version)

    async def _do(self, protocol: AmiProtocol, action: Action) -> Reply:
        sent = protocol.send(panoramisk_actions.Action(dict(action)))
        return Reply.read((await self._answer(sent, str(action["Action"])))[0])

    async def _watch(self, protocol: AmiProtocol) -> None:
        """Everything between the login and the end."""
        await self._set_filters(protocol)
        booted = await self._booted(protocol, self._pace.boot_grace)
        await self._look(protocol)
        with contextlib.suppress(AmiActionFailed):
            version = (await self._do(protocol, {"Action": "CoreSettings"})).get("AsteriskVersion")
            self._status = replace(self._status, asterisk_version=version)
        while True:
            await self._list_endpoints(protocol)
            if booted:
                await asyncio.sleep(self._pace.look_every)
            else:
                # Devices and channel drivers may come up only now.
                booted = await self._booted(protocol, self._pace.look_every)
            await self._look(protocol)

    async def _booted(self, protocol: AmiProtocol, within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                await protocol.booted.wait()
        except TimeoutError:
            return False
        self._status = replace(self._status, booted=True)
        return True

    async def _set_filters(self, protocol: AmiProtocol) -> None:
        if not self._use_filters:
            self._limit("Asterisk took only some of our filters: it sends everything")
            return
        for number, expression in enumerate(server_filters()):
            try:
                await self._do(protocol, {"Action": "Filter", "Operation": "Add", "Filter": expression})
            except AmiActionFailed as refusal:
                if number:
                    # What the others let through is not enough, and a filter can't be taken back.
                    self._use_filters = False
                    raise AmiUnavailable(f"{refusal}, though it took another one: connecting again without") from None
                self._limit(f"{refusal}: it sends everything; the right `system` in write= lets us ask for less")
                return
        self._status = replace(self._status, filtered=True)

    async def _look(self, protocol: AmiProtocol) -> None:
        """Ask what exists; the Resync goes into the stream by itself."""
        asked_at = self._clock()
        listing = protocol.send(panoramisk_actions.Action({"Action": "BridgeList"}), as_list=True)

        def resync(channels: Answer, at: float) -> Received:
            known = listing.result()[1:] if listing.done() and listing.exception() is None else []
            event = Resync(at, asked_at, live_channels(channels[1:], at), bridges(known), self._blind_since)
            if event.blind_since is not None:
                self._status = replace(self._status, gaps=self._status.gaps + 1)
            self._blind_since = None
            self._seeing = True
            return Received(encode_resync(event), event)

        refusal: AmiActionFailed | None = None
        for name in CHANNEL_LISTS:
            try:
                await self._answer(
                    protocol.send(panoramisk_actions.Action({"Action": name}), as_list=True, then=resync), name
                )
            except AmiActionFailed as failed:
                refusal = refusal or failed
            else:
                return
        self._limit(f"{refusal}: calls that began before us stay unknown; give the user `reporting` in write=")

    async def _list_endpoints(self, protocol: AmiProtocol) -> None:
        names: set[str] = set()
        for listed in ENDPOINT_LISTS:
            sent = protocol.send(panoramisk_actions.Action({"Action": listed.action}), as_list=True)
            # An Asterisk without that channel driver, or without such devices, answers with an error.
            with contextlib.suppress(AmiActionFailed):
                names |= endpoints((await self._answer(sent, listed.action))[1:], listed)
        # None at all is rather a missing right than a PBX without phones: what was known stays known.
        if names and names != self._endpoints:
            self._endpoints = frozenset(names)
            event = Endpoints(self._clock(), self._endpoints)
            self._outbox.put([Received(encode_endpoints(event), event)])

    async def _keep_alive(self, protocol: AmiProtocol) -> None:
        pace = self._pace
        loop = asyncio.get_running_loop()
        while True:
            if protocol.paused_at is not None:
                if loop.time() - protocol.paused_at >= pace.stall_limit:
                    raise AmiUnavailable(f"nobody took the events for {pace.stall_limit:g} s: the link was cut")
            else:
                silent = loop.time() - protocol.heard_at
                if silent >= pace.silence_limit:
                    raise AmiUnavailable(f"Asterisk was silent for {silent:.0f} s and did not answer our pings")
                if silent >= pace.ping_after:
                    protocol.ping()
            await asyncio.sleep(pace.ping_after / 2)

    async def _leave(self, tasks: list[asyncio.Task[None]]) -> None:
        protocol, self._protocol, self._manager = self._protocol, None, None
        if protocol is None:
            return
        protocol.cut(AmiUnavailable("the daemon ended the connection"))
        if self._seeing:
            self._seeing = False
            self._blind_since = protocol.heard_clock
        self._status = replace(
            self._status,
            messages=self._status.messages + protocol.messages,
            events=self._status.events + protocol.delivered,
        )
        for task in tasks:
            task.cancel()
        # Not `await task`: to ignore its cancellation would be to ignore our own as well.
        ends: list[asyncio.Future[Any]] = [*tasks, protocol.closed]
        await asyncio.wait(ends)
        self._status = replace(self._status, truncated=self._status.truncated + protocol.truncated)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, AmiError):
                raise error  # a fault of our own: the daemon is to fall, and loudly

    def _lost(self, reason: Exception, failures: int) -> float:
        """Tell it, and return the seconds to wait before the next attempt."""
        refused = isinstance(reason, AmiLoginRefused)
        pause = self._pace.pause(failures, refused=refused, dice=self._dice())
        words = str(reason) or type(reason).__name__
        self._down(words, refused=refused)
        # The first of its kind is worth a warning; a PBX that is away all night is not worth a thousand.
        tell = _log.debug if words == self._complaint else _log.warning
        self._complaint = words
        tell("there is no link to Asterisk", place=self._place, reason=words, next_attempt_s=round(pause, 1))
        return pause

    def _down(self, error: str, *, refused: bool = False) -> None:
        since = self._clock() if self._status.connected else self._status.since
        self._status = replace(self._status, connected=False, since=since, error=error, login_refused=refused)

    def _limit(self, words: str) -> None:
        if words not in self._status.limits:
            self._status = replace(self._status, limits=(*self._status.limits, words))
            _log.warning("Asterisk limits us", place=self._place, limit=words)

    def _pause(self) -> None:
        if self._protocol is not None:
            self._protocol.pause()

    def _resume(self) -> None:
        if self._protocol is not None:
            self._protocol.resume()


def _attend(work: Coroutine[Any, Any, None], protocol: AmiProtocol) -> asyncio.Task[None]:
    """Run `work` beside the connection; where it fails, the connection ends for that reason."""

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            protocol.cut(error)

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task


def _guard(connection: socket.socket) -> None:
    """Let the kernel notice a peer that is gone, also while nothing is read."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
