"""The vocabulary of scenarios: who calls whom, who answers, refuses, transfers or hangs up.

A party (a client out there, a phone of the PBX) has legs: its channels in the world. What a party does is told to the
world over AMI the moment the test says so; nothing is timed in advance.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from tests.lab.observation import StepFailedError

if TYPE_CHECKING:
    from tests.lab.stage import Lab

__all__ = ["STEP", "Client", "Leg", "Party", "Phone"]

STEP = 8.0  # seconds a step may take before the scenario fails
CARRIERS = {"trunk": "carrier", "trunk2": "carrier2"}
# SIP answer → the hangup cause that makes Asterisk send it.
REJECTIONS = {403: 21, 404: 1, 408: 18, 410: 22, 480: 19, 484: 28, 486: 17, 488: 58, 500: 38, 503: 34, 603: 16}
NORMAL_CLEARING = 16
DIGIT_MS = 80
PAUSE_BETWEEN_DIGITS = 0.08
"""Seconds. Of two digits without a pause the PBX may take the second for a repetition: RTP tells them by their time."""

State = Literal["calling", "ringing", "up", "ended"]


@dataclass(slots=True, eq=False)
class Leg:
    """One channel of the world: an end of a call."""

    party: Party
    uniqueid: str
    incoming: bool
    state: State
    dialled: str
    channel: str = ""
    cause: int | None = None
    """Hangup cause as the world saw it, once ended."""

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
    def live_legs(self) -> list[Leg]:
        return [leg for leg in self.legs if leg.live]

    @property
    def leg(self) -> Leg:
        """The newest live leg. Raises StepFailedError when the party is in no call."""
        if not self.live_legs:
            raise StepFailedError(f"{self} is in no call, so it can do nothing with it")
        return self.live_legs[-1]

    async def rings(self, *, within: float = STEP) -> Leg:
        """Returns once an incoming call rings here."""

        def ringing() -> Leg | None:
            return next((leg for leg in reversed(self.legs) if leg.incoming and leg.state == "ringing"), None)

        return await self.lab.seen.until(ringing, f"{self} rings", within)

    async def answers(self, *, within: float = STEP) -> Leg:
        """Waits for the ring and picks up; returns once the PBX knows (for a bridge await `talks`)."""
        leg = await self.rings(within=within)
        await self.lab.redirect(leg, "talk")
        await self.lab.seen.until(lambda: leg.state == "up", f"{leg} is answered", within)
        await self.lab.pbx_channel(leg)
        return leg

    async def rejects(self, code: int = 486, *, within: float = STEP) -> Leg:
        """Waits for the ring and refuses with that SIP status (486 busy, 603 decline, 480, 404, 403, 503 …)."""
        leg = await self.rings(within=within)
        await self.lab.hang_up(leg, REJECTIONS[code])
        await self.lab.seen.until(lambda: not leg.live, f"the end of {leg} after its refusal", within)
        return leg

    async def hangs_up(self, leg: Leg | None = None, *, within: float = STEP) -> Leg:
        """Ends that leg, else the newest, answered or not, and returns once it is gone."""
        leg = leg or self.leg
        await self.lab.hang_up(leg, NORMAL_CLEARING)
        await self.lab.seen.until(lambda: not leg.live, f"the end of {leg}", within)
        return leg

    async def is_answered(self, *, within: float = STEP) -> Leg:
        """Returns once the newest leg was answered by the far side (a menu or a queue counts)."""
        leg = self.legs[-1]
        await self.lab.seen.until(lambda: leg.state == "up", f"an answer to {leg}", within)
        return leg

    async def hears_ringing(self, *, within: float = STEP) -> Leg:
        """Returns once the newest leg hears that the far side rings."""
        leg = self.legs[-1]
        await self.lab.seen.until(lambda: leg.state in {"ringing", "up"}, f"ringing on {leg}", within)
        return leg

    async def talks(self, *, to: Party | None = None, within: float = STEP) -> Leg:
        """Returns once the PBX has the newest live leg in a bridge with somebody, or just with that party's."""
        leg = self.leg
        mine = await self.lab.pbx_channel(leg)
        theirs = {await self.lab.pbx_channel(to.leg)} if to else set()
        board = self.lab.seen.switchboard

        def bridged() -> bool:
            companions = board.companions(mine)
            return theirs <= companions if theirs else bool(companions)

        await self.lab.seen.until(bridged, f"{leg} talks{f' to {to}' if to else ''}", within)
        return leg

    async def is_hung_up(self, *, within: float = STEP) -> int:
        """Returns once no leg of the party lives, with the hangup cause that the last one got."""
        await self.lab.seen.until(lambda: not self.live_legs, f"the end of {self}'s calls", within)
        return self.legs[-1].cause or 0

    async def presses(self, digits: str) -> None:
        """Sends DTMF on the newest live leg; returns when the PBX has heard the last digit."""
        leg = self.leg
        channel = await self.lab.pbx_channel(leg)
        for digit in digits:
            since = len(self.lab.seen.pbx_events)
            await self.lab.seen.world.action("PlayDTMF", Channel=leg.channel, Digit=digit, Duration=DIGIT_MS)
            await self.lab.seen.event(
                "DTMFEnd", within=STEP, since=since, Channel=channel, Digit=digit, Direction="Received"
            )
            await asyncio.sleep(PAUSE_BETWEEN_DIGITS)


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

    async def forwards(self, to: str, *, within: float = STEP) -> Leg:
        """Waits for the ring and answers 302 with that number."""
        leg = await self.rings(within=within)
        await self._refer(leg, self._uri(to))
        await self.lab.seen.until(lambda: not leg.live, f"the end of {leg} after its 302", within)
        return leg

    async def holds(self) -> Leg:
        """Puts the newest call on hold by a re-INVITE; returns when the PBX knows."""
        leg = await self.talks()
        await self.lab.redirect(leg, "hold")
        await self.lab.seen.event("Hold", within=STEP, Channel=await self.lab.pbx_channel(leg))
        return leg

    async def resumes(self) -> Leg:
        """Takes the newest call from hold; returns when the PBX knows."""
        leg = self.leg
        since = len(self.lab.seen.pbx_events)
        await self.lab.redirect(leg, "talk")
        await self.lab.seen.event("Unhold", within=STEP, since=since, Channel=await self.lab.pbx_channel(leg))
        return leg

    async def transfers(self, to: str, *, within: float = STEP) -> None:
        """Blind transfer by REFER; returns when this phone is out of the call."""
        leg = await self.talks()
        await self._refer(leg, self._uri(to))
        await self.lab.seen.until(lambda: not leg.live, f"{self} leaves after its REFER to {to}", within)

    async def consults(self, to: str) -> Leg:
        """Holds the newest call and calls somebody else, as before an attended transfer."""
        await self.holds()
        return await self.calls(to)

    async def hands_over(self, *, within: float = STEP) -> None:
        """Joins its two calls by REFER with Replaces and leaves; the second may still be ringing."""
        first, second = self.live_legs[-2:]
        call_id, ours, theirs = [
            await self.lab.world_variable(second, f"CHANNEL(pjsip,{name})")
            for name in ("call-id", "local_tag", "remote_tag")
        ]
        replaces = quote(f"{call_id};to-tag={theirs};from-tag={ours}", safe="")
        await self._refer(first, f"{self._uri(second.dialled)}?Replaces={replaces}")
        await self.lab.seen.until(lambda: not self.live_legs, f"{self} leaves after its REFER with Replaces", within)

    async def transfers_by_code(self, to: str) -> None:
        """Blind transfer with `##`; returns when this phone is out of the call."""
        leg = await self.talks()
        await self.presses(f"##{to}")
        await self.lab.seen.until(lambda: not leg.live, f"{self} leaves after ##{to}", STEP)

    async def consults_by_code(self, to: str) -> None:
        """Begins an attended transfer with `*2`: the PBX calls the other one. Hang up to hand over."""
        await self.talks()
        await self.presses(f"*2{to}")

    async def parks(self, lot: str = "70") -> str:
        """Parks its call by REFER to 70, or to 60, where it is kept three seconds; returns the parking space."""
        since = len(self.lab.seen.pbx_events)
        leg = await self.talks()
        await self._refer(leg, self._uri(lot))
        return (await self.lab.seen.event("ParkedCall", within=STEP, since=since))["ParkingSpace"]

    async def parks_by_code(self) -> str:
        """Parks its call with `#72`; returns the parking space."""
        since = len(self.lab.seen.pbx_events)
        await self.talks()
        await self.presses("#72")
        return (await self.lab.seen.event("ParkedCall", within=STEP, since=since))["ParkingSpace"]

    def _uri(self, number: str) -> str:
        return f"sip:{number}@127.0.0.1:{self.lab.pair.pbx.ports.sip}"

    async def _refer(self, leg: Leg, target: str) -> None:
        await self.lab.seen.world.action("Setvar", Channel=leg.channel, Variable="TARGET", Value=target)
        await self.lab.redirect(leg, "transfer")
