"""The stage of one test over a running pair: its people, its calls, its PBX that may die and come back."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from tests.lab.ami_control import AmiControl, AmiRefusedError, Event
from tests.lab.observation import Observation
from tests.lab.pair import Pair
from tests.lab.recorder import recording
from tests.lab.scenario import STEP, Client, Leg, Party, Phone

__all__ = ["Lab"]

UP, RINGING = "6", "5"
BYTES_PER_SECOND = 16_000  # of a mailbox's recordings
NUMBERS = itertools.count(1)


class Lab:
    """Made anew for each test: begins and ends with no channel and every phone registered."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.seen = Observation(pair)
        self.seen.on_world_event = self._hear
        self._phones = {str(extension): Phone(self, extension) for extension in pair.extensions}
        self._clients: dict[str, Client] = {}
        self.clients: list[str] = []
        """The fresh numbers of those whom the test asked for without one, in order."""
        self._legs: dict[str, Leg] = {}

    async def __aenter__(self) -> Self:
        if not self.pair.pbx.alive:
            await self.pair.revive()
        await self.seen.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if not self.pair.pbx.alive:
                await self.pbx_returns()
            await self.clear()
        finally:
            await self.seen.close()

    def phone(self, extension: int) -> Phone:
        return self._phones[str(extension)]

    def client(self, number: str | None = None) -> Client:
        """Somebody outside; without a number a fresh invented one, +7999…, unique among the labs of this machine.

        The fresh ones begin at +799901, above the employees' mobiles.
        """
        if number is None:
            number = f"+7999{self.pair.slot.number + 1:02d}{next(NUMBERS):05d}"
            self.clients.append(number)
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
        """Returns once neither side has a channel left."""
        gone = "the end of every call"
        await self.seen.until(lambda: not self.seen.switchboard.channels and not self._live_legs(), gone, within)

    async def only_left(self, *parties: Party, within: float = STEP) -> None:
        """Returns once nobody but these has a call, and the PBX no channel but theirs."""

        def alone() -> bool:
            legs = self._live_legs()
            return {leg.party for leg in legs} <= {*parties} and len(self.seen.switchboard.channels) == len(legs)

        await self.seen.until(alone, f"the end of every call but {', '.join(map(str, parties))}'s", within)

    async def passes(self, seconds: float) -> None:
        """That time passes: a talk lasts, a phone rings on."""
        await asyncio.sleep(seconds)

    async def speaks_to_mailbox(self, mailbox: int, *, seconds: float = 2.0, within: float = STEP) -> None:
        """Returns once the mailbox has recorded that much of who is speaking to it (all do who are answered)."""
        folder = self.pair.pbx.folder / f"spool/voicemail/default/{mailbox}"
        enough = seconds * BYTES_PER_SECOND

        def recorded() -> bool:
            return any(path.stat().st_size > enough for path in folder.glob("tmp/*.wav"))

        await self.seen.until(recorded, f"{seconds:g} s of speech in {folder}", within)

    async def pbx_dies(self) -> None:
        """kill -9 of the PBX in the middle of whatever it does; the world's calls hang in the air."""
        self.pair.pbx.kill()
        await self.seen.until(lambda: self.seen.pbx.closed or None, "the end of the PBX's AMI", STEP)

    async def pbx_returns(self) -> None:
        """Starts the PBX again, with the same ports and folders; every phone registers."""
        await self.pair.revive()
        await self.seen.open_pbx()
        for phone in self._phones.values():
            phone.online = True

    @asynccontextmanager
    async def cel(self) -> AsyncIterator[None]:
        """CEL over AMI, and into the table `cel` of `pair.pbx.folder / "log/master.db"`, while the block lasts."""
        await self.pair.pbx.reconfigure("module reload cel", cel="yes")
        try:
            yield
        finally:
            await self.pair.pbx.reconfigure("module reload cel", cel="no")

    @asynccontextmanager
    async def record(self, path: Path) -> AsyncIterator[None]:
        """Saves what the PBX tells the daemon's user while the block lasts, as a trace."""
        async with recording(self.pair, path):
            yield

    async def originate(self, party: Party, channel: str, dialled: str, caller_id: str) -> Leg:
        uniqueid = f"lab-{self.pair.slot.number}-{next(NUMBERS)}"
        leg = Leg(party, uniqueid, incoming=False, state="calling", dialled=dialled)
        self._legs[leg.uniqueid] = leg
        party.legs.append(leg)
        await self.seen.world.action(
            "Originate", Channel=channel, ChannelId=leg.uniqueid, Async="true", Timeout=600_000,
            Context="talk", Exten="s", Priority=1, CallerID=caller_id,
        )  # fmt: skip
        await self.seen.until(lambda: leg.channel, f"the channel of {leg}", STEP)
        return leg

    async def click_to_call(
        self, extension: int, number: str, *, channel: str = "PJSIP/{}", context: str = "from-internal"
    ) -> None:
        """Has the PBX ring a phone and, once it answers, call the number, as a click-to-call does."""
        await self.seen.pbx.action(
            "Originate", Channel=channel.format(extension), Context=context, Exten=number, Priority=1, Async="true",
            CallerID=f'"{number}" <{extension}>', Timeout=30_000, ChannelId=f"click-{next(NUMBERS)}",
        )  # fmt: skip

    async def redirect(self, leg: Leg, context: str) -> None:
        await self.seen.world.action("Redirect", Channel=leg.channel, Context=context, Exten="s", Priority=1)

    async def hang_up(self, leg: Leg, cause: int) -> None:
        await self.seen.world.action("Hangup", Channel=leg.channel, Cause=cause)

    async def world_variable(self, leg: Leg, name: str) -> str:
        return await variable(self.seen.world, leg.channel, name)

    async def pbx_channel(self, leg: Leg) -> str:
        """The PBX's channel of the same SIP dialog, asked anew each time: a masquerade may exchange it."""
        call_id = await self.world_variable(leg, "CHANNEL(pjsip,call-id)")
        others: set[str] = set()
        deadline = time.monotonic() + STEP
        while True:
            told = len(self.seen.pbx_events)
            for channel in self.seen.switchboard.channels.keys() - others:
                found = await self._pbx_call_id(channel)
                if call_id and found == call_id:
                    return channel
                others |= {channel} if found else set()
            awaited = f"the PBX's channel of {leg} (Call-ID {call_id!r})"
            await self.seen.more_than(told, awaited, deadline - time.monotonic())

    async def _pbx_call_id(self, channel: str) -> str:
        technology = channel.partition("/")[0]
        names = {"PJSIP": "CHANNEL(pjsip,call-id)", "SIP": "SIPCALLID"}
        return await variable(self.seen.pbx, channel, names[technology]) if technology in names else ""

    def _live_legs(self) -> list[Leg]:
        return [leg for leg in self._legs.values() if leg.live]

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
        party = self._phones.get(number) or self.client(number)
        leg = Leg(party, event["Uniqueid"], incoming=True, state="ringing", dialled=number, channel=event["Channel"])
        self._legs[leg.uniqueid] = leg
        party.legs.append(leg)


async def variable(control: AmiControl, channel: str, name: str) -> str:
    """A channel's variable; empty when the channel is gone."""
    try:
        return (await control.action("Getvar", Channel=channel, Variable=name))["Value"]
    except AmiRefusedError:
        return ""


def subscriber(number: str) -> str:
    """What stays of a number however the dialplan writes it: its last ten digits."""
    return number[-10:]
