"""Where the calls take place: on a real Asterisk, or in the record of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from itgrix_kommo.ami.wanted import sieve
from itgrix_kommo.sandbox.player import Player
from itgrix_kommo.storage.trace import Recorded, read_trace, write_trace
from tests.demo.calls import PLACED, WAVES, Placed
from tests.lab.ami_control import AmiRefusedError
from tests.lab.observation import StepFailedError
from tests.lab.pair import Pair
from tests.lab.root import Say, ensure
from tests.lab.stage import Lab

__all__ = ["TRACE", "Pbx", "real_asterisk", "recorded_asterisk"]

TRACE = Path(__file__).parent / "calls.trace"
USERNAME, SECRET = "itgrix", "itgrix-secret"
VERSION = "22"

Told = Callable[[Placed, str], None]
"""What becomes of a call while it is placed: ``calling``, ``over``, or why it could not be placed."""


class Pbx(Protocol):
    speed: float
    """How many times faster than life."""

    @property
    def ami_port(self) -> int: ...

    async def place(self, tell: Told) -> None:
        """Place every call; returns when the last one is over."""


class RealAsterisk:
    speed = 1.0

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def ami_port(self) -> int:
        return self._lab.pair.pbx.ports.ami

    async def place(self, tell: Told) -> None:
        for wave in WAVES:
            await asyncio.gather(*(self._place(placed, tell) for placed in wave))
            await self._lab.clear()

    async def _place(self, placed: Placed, tell: Told) -> None:
        tell(placed, "calling")
        try:
            await placed.play(self._lab)
        except (StepFailedError, AmiRefusedError) as failure:
            tell(placed, f"could not be placed: {str(failure).splitlines()[0]}")
        else:
            tell(placed, "over")


class RecordedAsterisk:
    def __init__(self, player: Player) -> None:
        self._player = player
        self.speed = player.speed

    @property
    def ami_port(self) -> int:
        return self._player.port

    async def place(self, tell: Told) -> None:
        for placed in PLACED:
            tell(placed, "calling")
        await self._player.played()
        for placed in PLACED:
            tell(placed, "over")


@asynccontextmanager
async def real_asterisk(say: Say, *, record: Path | None = None) -> AsyncIterator[RealAsterisk]:
    """A PBX and a world of phones and carriers around it; `record` is where a trace of it goes in the end.

    Raises LabUnavailableError.
    """
    await asyncio.to_thread(ensure, VERSION, say=say)
    pair = Pair(VERSION, say=say)
    try:
        await pair.start()
        async with AsyncExitStack() as stack:
            lab = await stack.enter_async_context(Lab(pair))
            if record is not None:
                await stack.enter_async_context(lab.record(record))
            yield RealAsterisk(lab)
        if record is not None:
            _thin_out(record)
    finally:
        pair.stop()


@asynccontextmanager
async def recorded_asterisk(trace: Path, *, speed: float) -> AsyncIterator[RecordedAsterisk]:
    async with Player(read_trace(trace), username=USERNAME, secret=SECRET, speed=speed).serve() as player:
        yield RecordedAsterisk(player)


def _thin_out(trace: Path) -> None:
    """Leave what an Asterisk sends that was asked for only the wanted events; the rest is four fifths of the file."""
    kept = [Recorded(at, frame) for at, frame in list(read_trace(trace)) if sieve([frame])]
    write_trace(trace, kept)
