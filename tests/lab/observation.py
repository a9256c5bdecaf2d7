"""What the lab sees: both sides' events, the PBX's channels and bridges, and waiting for something to become true."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tests.lab.ami_control import AmiControl, AmiRefusedError, Event
from tests.lab.pair import Pair

__all__ = ["Observation", "StepFailedError", "Switchboard"]

T = TypeVar("T")

ASKED_AGAIN = 0.1  # seconds: files and rows come without an event
SHOWN_EVENTS = 14
# Headers worth reading in a failure, in this order.
SHOWN_HEADERS = (
    "Event",
    "Channel",
    "DestChannel",
    "ChannelStateDesc",
    "DialStatus",
    "Cause",
    "Exten",
    "BridgeUniqueid",
)
UNTOLD = {"VarSet", "Newexten", "RTCPSent", "RTCPReceived", "TestEvent", "DeviceStateChange", "ChallengeSent"}


class StepFailedError(AssertionError):
    """A step of a scenario did not happen within its deadline; the message shows what both sides saw last."""


@dataclass(slots=True)
class Switchboard:
    """The PBX's live channels and bridges, kept from its events."""

    channels: dict[str, Event] = field(default_factory=dict)
    """Channel name → its latest snapshot."""
    bridges: dict[str, set[str]] = field(default_factory=dict)
    """Bridge id → names of the channels in it."""

    def feed(self, event: Event) -> None:
        kind, channel, bridge = event.get("Event"), event.get("Channel", ""), event.get("BridgeUniqueid", "")
        if kind in {"Newchannel", "Newstate"}:
            self.channels[channel] = event
        elif kind == "Hangup":
            self.channels.pop(channel, None)
        elif kind == "Rename":
            self.channels[event["Newname"]] = self.channels.pop(channel, event)
        elif kind == "BridgeEnter" and event.get("BridgeTechnology") != "holding_bridge":  # parked, not talking
            self.bridges.setdefault(bridge, set()).add(channel)
        elif kind == "BridgeLeave":
            self.bridges.get(bridge, set()).discard(channel)
        elif kind == "BridgeDestroy":
            self.bridges.pop(bridge, None)

    def companions(self, channel: str) -> set[str]:
        """Who hears the channel: those it is bridged with, also through Local channels, which don't count."""
        reached, ahead = {channel}, [channel]
        while ahead:
            here = ahead.pop()
            beside = {other for members in self.bridges.values() if here in members for other in members}
            if here.endswith((";1", ";2")):
                beside.add(here[:-1] + ("1" if here[-1] == "2" else "2"))
            ahead += beside - reached
            reached |= beside
        return {other for other in reached - {channel} if not other.startswith("Local/")}


class Observation:
    """Control connections to both sides of a pair; `open` before use, `close` after."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.switchboard = Switchboard()
        self.pbx_events: list[Event] = []
        self.world_events: list[Event] = []
        self.on_world_event: Callable[[Event], None] = lambda _event: None
        self._pbx: AmiControl | None = None
        self._world: AmiControl | None = None
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        await self.open_pbx()
        self._world = await self.pair.world.control(self._hear_world)

    async def open_pbx(self) -> None:
        """Connects to the PBX, anew after it was restarted: what was live before is gone."""
        if self._pbx is not None:
            await self._pbx.close()
        self.switchboard = Switchboard()
        self._pbx = await self.pair.pbx.control(self._hear_pbx)
        for shown in await self._pbx.items("CoreShowChannels"):
            self.switchboard.channels[shown["Channel"]] = shown

    async def close(self) -> None:
        for control in (self._pbx, self._world):
            if control is not None:
                await control.close()

    @property
    def pbx(self) -> AmiControl:
        assert self._pbx is not None, "Observation.open was not awaited"
        return self._pbx

    @property
    def world(self) -> AmiControl:
        assert self._world is not None, "Observation.open was not awaited"
        return self._world

    def _hear_pbx(self, event: Event) -> None:
        self.pbx_events.append(event)
        self.switchboard.feed(event)
        self._tell()

    def _hear_world(self, event: Event) -> None:
        self.world_events.append(event)
        self.on_world_event(event)
        self._tell()

    def _tell(self) -> None:
        self._news.set_result(None)
        self._news = asyncio.get_running_loop().create_future()

    async def until(self, condition: Callable[[], T | None], awaited: str, within: float) -> T:
        """The first true value of the condition, asked again at each event, and often. Raises StepFailedError."""
        deadline = time.monotonic() + within
        while True:
            if found := condition():
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise StepFailedError(await self.report(f"{awaited} did not happen within {within:g} s"))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._news), min(left, ASKED_AGAIN))

    async def more_than(self, told: int, awaited: str, within: float) -> None:
        """Returns when the PBX has told more than so many events. Raises StepFailedError."""
        await self.until(lambda: len(self.pbx_events) > told, awaited, within)

    async def event(self, kind: str, *, within: float, since: int = 0, **headers: str) -> Event:
        """The first PBX event of that kind and with those headers, from index `since` on. Raises StepFailedError."""

        def seen() -> Event | None:
            wanted = {"Event": kind, **headers}
            for event in self.pbx_events[since:]:
                if wanted.items() <= event.items():
                    return event
            return None

        return await self.until(seen, f"PBX event {kind} {headers or ''}".rstrip(), within)

    async def report(self, failure: str) -> str:
        """The failure and the last that was seen of both sides."""
        parts = [failure]
        for side, events in (("PBX", self.pbx_events), ("world", self.world_events)):
            told = [event for event in events if event["Event"] not in UNTOLD][-SHOWN_EVENTS:]
            parts.append(f"-- the {side}'s last events")
            parts += ["  " + " ".join(event[name] for name in SHOWN_HEADERS if event.get(name)) for event in told]
        for side, control in (("PBX", self._pbx), ("world", self._world)):
            if control is not None:
                parts.append(f"-- the {side}'s channels\n{await channels_of(control)}")
        parts.append(f"-- logs: {self.pair.pbx.log} {self.pair.world.log}")
        return "\n".join(parts)


async def channels_of(control: AmiControl) -> str:
    try:
        return (await control.command("core show channels concise")).strip() or "  none"
    except (AmiRefusedError, OSError, TimeoutError) as lost:
        return f"  unknown: {lost}"
