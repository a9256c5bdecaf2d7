"""The vocabulary of scenarios: who calls whom, who answers, refuses or hangs up.

A party (a client out there, a phone of the PBX) has legs: its channels in the world. What a party does is told to the
world over AMI the moment the test says so; nothing is timed in advance.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, Self

from tests.lab.ami_control import AmiRefusedError, Event
from tests.lab.observation import Observation, StepFailedError
from tests.lab.pair import EXTENSIONS, Pair

__all__ = ["Client", "Lab", "Leg", "Party", "Phone"]

STEP = 8.0  # seconds a step may take before the scenario fails
CARRIERS = {"trunk": "carrier", "trunk2": "carrier2"}
# SIP answer → the hangup cause that makes Asterisk send it.
REJECTIONS = {403: 21, 404: 1, 408: 18, 410: 22, 480: 19, 484: 28, 486: 17, 488: 58, 500: 38, 503: 34, 603: 16}
UP, RINGING = "6", "5"

State = Literal["calling", "ringing", "up", "ended"]


@dataclass(slots=True, eq=False)
class Leg:
    """One channel of the world: an end of a call."""

    party: Party
    uniqueid: str
    incoming: bool
    state: State
    channel: str = ""
    call_id: str = ""
    """SIP Call-ID, by which the PBX's channel of the same dialog is found."""
    dialled: str = ""
    cause: int | None = None
    """Hangup cause as the world saw it, once ended."""
    pbx_channel: str = ""

    @property
    def live(self) -> bool:
        return self.state != "ended"

    def __str__(self) -> str:
        return f"{'call to' if self.incoming else 'call from'} {self.party} ({self.dialled}, {self.state})"


class Party:
    """Somebody with a number who calls and is called."""

    def __init__(self, lab: Lab, number: str) -> None:
        self.lab = lab
        self.number = number
        self.legs: list[Leg] = []
        """Every leg of the party in this test, oldest first."""

    def __str__(self) -> str:
        return self.number

    @property
    def leg(self) -> Leg:
        """The newest live leg. Raises StepFailedError when the party is in no call."""
        for leg in reversed(self.legs):
            if leg.live:
                return leg
        raise StepFailedError(f"{self} is in no call, so it can do nothing with it")

    async def rings(self, *, within: float = STEP) -> Leg:
        """Returns once an incoming call rings here."""
        return await self.lab.seen.until(lambda: self._newest("ringing"), f"{self} rings", within)

    async def answers(self, *, within: float = STEP) -> Leg:
        """Waits for the ring, picks up, and returns once the PBX has bridged or otherwise taken the call."""
        leg = await self.rings(within=within)
        await self.lab.redirect(leg, "talk")
        await self.lab.seen.until(lambda: leg.state == "up", f"{leg} is answered", within)
        await self.lab.find_pbx_channel(leg)
        return leg

    async def rejects(self, code: int = 486, *, within: float = STEP) -> Leg:
        """Waits for the ring and refuses with that SIP status (486 busy, 603 decline, 480, 404, 403, 503 …)."""
        leg = await self.rings(within=within)
        await self.lab.hang_up(leg, REJECTIONS[code])
        return leg

    async def hangs_up(self, *, within: float = STEP) -> Leg:
        """Ends the newest leg, answered or not, and returns once it is gone."""
        leg = self.leg
        await self.lab.hang_up(leg, 16)
        await self.lab.seen.until(lambda: not leg.live, f"the end of {leg}", within)
        return leg

    async def is_answered(self, *, within: float = STEP) -> Leg:
        """Returns once the newest outgoing leg was answered by the far side (a menu or a queue counts)."""
        leg = self.legs[-1]
        await self.lab.seen.until(lambda: leg.state == "up", f"an answer to {leg}", within)
        return leg

    async def hears_ringing(self, *, within: float = STEP) -> Leg:
        """Returns once the newest outgoing leg hears that the far side rings."""
        leg = self.legs[-1]
        await self.lab.seen.until(lambda: leg.state in {"ringing", "up"}, f"ringing on {leg}", within)
        return leg

    async def talks(self, *, within: float = STEP) -> Leg:
        """Returns once the PBX has the newest live leg in a bridge together with somebody else."""
        leg = self.leg
        await self.lab.find_pbx_channel(leg)
        board = self.lab.seen.switchboard
        await self.lab.seen.until(lambda: board.companions(leg.pbx_channel), f"{leg} talks", within)
        return leg

    async def is_hung_up(self, *, within: float = STEP) -> int:
        """Returns once no leg of the party lives, with the hangup cause that the last one got."""
        await self.lab.seen.until(lambda: not any(leg.live for leg in self.legs), f"the end of {self}'s calls", within)
        return self.legs[-1].cause or 0

    async def presses(self, digits: str) -> None:
        """Sends DTMF on the newest live leg."""
        leg = self.leg
        for digit in digits:
            await self.lab.seen.world.action("PlayDTMF", Channel=leg.channel, Digit=digit, Duration=80)

    def _newest(self, state: State) -> Leg | None:
        return next((leg for leg in reversed(self.legs) if leg.state == state and leg.incoming), None)


class Client(Party):
    """Somebody outside, behind a carrier."""

    async def calls(self, did: str, *, trunk: str = "trunk", name: str = "") -> Leg:
        """Calls a DID of the PBX through `trunk` or `trunk2`; returns at once, ringing or not."""
        return await self.lab.originate(self, f"PJSIP/{did}@{CARRIERS[trunk]}", did, f'"{name}" <{self.number}>')


class Phone(Party):
    """A desk phone registered with the PBX."""

    def __init__(self, lab: Lab, extension: int) -> None:
        super().__init__(lab, str(extension))
        self.extension = extension
        self.online = True

    async def calls(self, number: str) -> Leg:
        """Dials an extension, a feature code or an outside number."""
        return await self.lab.originate(self, f"PJSIP/{number}@phone{self.extension}", number, "")

    async def goes_offline(self) -> None:
        """Unregisters; the PBX finds nobody there."""
        await self.lab.pair.switch(self.extension, on=False)
        self.online = False

    async def comes_online(self) -> None:
        await self.lab.pair.switch(self.extension, on=True)
        self.online = True


class Lab:
    """A scenario's stage over a running pair; made anew for each test."""

    _numbers = itertools.count(1)

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.seen = Observation(pair)
        self.seen.on_world_event = self._hear
        self._phones = {str(extension): Phone(self, extension) for extension in EXTENSIONS}
        self._clients: dict[str, Client] = {}
        self._legs: dict[str, Leg] = {}

    async def __aenter__(self) -> Self:
        await self.seen.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.clear()
        finally:
            await self.seen.close()

    def phone(self, extension: int) -> Phone:
        return self._phones[str(extension)]

    def client(self, number: str | None = None) -> Client:
        """Somebody outside; without a number a fresh invented one, +7999…, unique on this machine's labs."""
        number = number or f"+7999{self.pair.slot.number:02d}{next(self._numbers):05d}"
        return self._clients.setdefault(subscriber(number), Client(self, number))

    async def clear(self) -> None:
        """Hangs up whatever lives on both sides and switches every phone on."""
        for side in (self.seen.world, self.seen.pbx):
            try:
                await side.action("Hangup", Channel="/.*/", Cause=16)
            except AmiRefusedError:
                continue  # there was none
        await self.quiet()
        for phone in self._phones.values():
            if not phone.online:
                await phone.comes_online()

    async def quiet(self, *, within: float = STEP) -> None:
        """Returns once the PBX has no channel left."""
        await self.seen.until(lambda: not self.seen.switchboard.channels, "the end of every call", within)

    async def originate(self, party: Party, channel: str, dialled: str, caller_id: str) -> Leg:
        uniqueid = f"lab-{self.pair.slot.number}-{next(self._numbers)}"
        leg = Leg(party, uniqueid, incoming=False, state="calling", dialled=dialled)
        self._legs[leg.uniqueid] = leg
        party.legs.append(leg)
        await self.seen.world.action(
            "Originate", Channel=channel, ChannelId=leg.uniqueid, Async="true", Timeout=600_000,
            Context="talk", Exten="s", Priority=1, CallerID=caller_id,
        )  # fmt: skip
        await self.seen.until(lambda: leg.channel, f"the channel of {leg}", STEP)
        return leg

    async def redirect(self, leg: Leg, context: str) -> None:
        await self.seen.world.action("Redirect", Channel=leg.channel, Context=context, Exten="s", Priority=1)

    async def hang_up(self, leg: Leg, cause: int) -> None:
        await self.seen.world.action("Hangup", Channel=leg.channel, Cause=cause)

    async def find_pbx_channel(self, leg: Leg) -> str:
        """The PBX's channel of the same SIP dialog."""
        call_id = leg.call_id or await self._call_id("world", leg.channel)
        for channel in list(self.seen.switchboard.channels):
            if not leg.pbx_channel and await self._call_id("pbx", channel) == call_id:
                leg.pbx_channel = channel
        if not leg.pbx_channel:
            raise StepFailedError(await self.seen.report(f"the PBX has no channel for {leg} (Call-ID {call_id!r})"))
        return leg.pbx_channel

    async def _call_id(self, side: Literal["pbx", "world"], channel: str) -> str:
        if not channel.startswith("PJSIP/"):
            return ""
        control = self.seen.pbx if side == "pbx" else self.seen.world
        try:
            return (await control.action("Getvar", Channel=channel, Variable="CHANNEL(pjsip,call-id)"))["Value"]
        except AmiRefusedError:
            return ""  # it ended meanwhile

    def _hear(self, event: Event) -> None:
        kind = event["Event"]
        if kind == "UserEvent" and event.get("UserEvent") == "Rings":
            self._ring(event)
        leg = self._legs.get(event.get("Uniqueid", ""))
        if leg is None:
            return
        if kind == "Newchannel":
            leg.channel = event["Channel"]
        elif kind == "Newstate" and event["ChannelState"] in {RINGING, UP}:
            leg.state = "up" if event["ChannelState"] == UP else "ringing"
        elif kind == "Hangup":
            leg.state, leg.cause = "ended", int(event["Cause"])

    def _ring(self, event: Event) -> None:
        number = event["Number"]
        party = self._phones.get(number) or self._clients.get(subscriber(number))
        if party is None:
            party = self.client(number)
        leg = Leg(party, event["Uniqueid"], incoming=True, state="ringing", dialled=number)
        leg.channel, leg.call_id = event["Channel"], event["CallID"]
        self._legs[leg.uniqueid] = leg
        party.legs.append(leg)


def subscriber(number: str) -> str:
    """What stays of a number however the dialplan writes it: its last ten digits."""
    return number[-10:]
