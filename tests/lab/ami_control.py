"""A small AMI client for directing tests. It shares nothing with the product's: a bug there can't hide itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["AmiControl", "AmiRefusedError", "Event"]

FRAME_LIMIT = 1 << 20
ANSWER_WITHIN = 10.0

Event = dict[str, str]
"""One AMI frame; of a repeated header the last value stays."""


class AmiRefusedError(Exception):
    """Asterisk answered an action with an error."""


@dataclass(slots=True)
class AmiControl:
    """A logged-in connection that keeps every event it has seen, oldest first.

    `on_event` is called with each event as it arrives.
    """

    name: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    on_event: Callable[[Event], None] = lambda _event: None
    events: list[Event] = field(default_factory=list)
    frames: list[tuple[float, bytes]] = field(default_factory=list)
    """Every frame as it came, with its unix time of arrival; only filled when `keep_frames`."""
    keep_frames: bool = False
    closed: bool = False
    _answers: dict[str, asyncio.Future[Event]] = field(default_factory=dict)
    _lists: dict[str, list[Event]] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=itertools.count)
    _task: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        name: str,
        port: int,
        username: str,
        secret: str,
        *,
        on_event: Callable[[Event], None] = lambda _event: None,
        keep_frames: bool = False,
    ) -> AmiControl:
        """Logs in at 127.0.0.1:port. Raises OSError when nobody listens, AmiRefusedError for wrong credentials."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=FRAME_LIMIT)
        await asyncio.wait_for(reader.readline(), ANSWER_WITHIN)  # the banner
        control = cls(name, reader, writer, on_event=on_event, keep_frames=keep_frames)
        control._task = asyncio.create_task(control._listen())
        try:
            await control.action("Login", Username=username, Secret=secret)
        except BaseException:
            await control.close()
            raise
        return control

    async def close(self) -> None:
        self.writer.close()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def action(self, action: str, variables: dict[str, str] | None = None, **headers: str | int) -> Event:
        """Sends one action and returns its answer. Raises AmiRefusedError for `Response: Error`."""
        answer, _ = await self._send(action, variables, headers, listed=False)
        return answer

    async def items(self, action: str, **headers: str | int) -> list[Event]:
        """Sends an action that answers with a list of events and returns them without the closing one."""
        _, items = await self._send(action, None, headers, listed=True)
        return items

    async def command(self, line: str) -> str:
        """The output of a CLI command."""
        return (await self.action("Command", Command=line)).get("Output", "")

    async def _send(
        self, action: str, variables: dict[str, str] | None, headers: dict[str, str | int], *, listed: bool
    ) -> tuple[Event, list[Event]]:
        action_id = f"lab-{next(self._ids)}"
        lines = [("Action", action), ("ActionID", action_id), *headers.items()]
        lines += [("Variable", f"{name}={value}") for name, value in (variables or {}).items()]
        answered = self._answers[action_id] = asyncio.get_running_loop().create_future()
        if listed:
            self._lists[action_id] = []
        self.writer.write("".join(f"{name}: {value}\r\n" for name, value in lines).encode() + b"\r\n")
        try:
            answer = await asyncio.wait_for(answered, ANSWER_WITHIN)
        finally:
            self._answers.pop(action_id, None)
            items = self._lists.pop(action_id, [])
        if answer.get("Response") == "Error":
            raise AmiRefusedError(f"{self.name} refused {action} {headers}: {answer.get('Message')}")
        return answer, items

    async def _listen(self) -> None:
        try:
            while True:
                frame = await self.reader.readuntil(b"\r\n\r\n")
                if self.keep_frames:
                    self.frames.append((time.time(), frame))
                self._take(parse(frame))
        except (asyncio.IncompleteReadError, ConnectionError):
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionError(f"{self.name} closed the AMI connection"))
        finally:
            self.closed = True

    def _take(self, event: Event) -> None:
        action_id = event.get("ActionID", "")
        collected = self._lists.get(action_id)
        waiting = self._answers.get(action_id)
        if "Response" in event and waiting and not waiting.done():
            if collected is None or event["Response"] == "Error":
                waiting.set_result(event)
        elif "Event" in event and collected is not None:
            if event.get("EventList", "").casefold() == "complete":
                if waiting and not waiting.done():
                    waiting.set_result(event)
            else:
                collected.append(event)
        elif "Event" in event:
            self.events.append(event)
            self.on_event(event)


def parse(frame: bytes) -> Event:
    """Headers of one frame. The repeated `Output` of a command is joined by newlines."""
    event: Event = {}
    for line in frame.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            continue
        value = value.removeprefix(" ")
        event[name] = f"{event[name]}\n{value}" if name == "Output" and name in event else value
    return event
