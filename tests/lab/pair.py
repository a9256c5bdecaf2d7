"""The two processes of a lab: the PBX under test and the world around it (phones and carriers)."""

from __future__ import annotations

import asyncio
import os

from tests.lab.asterisk import Asterisk, Slot, claim_slot, sweep
from tests.lab.registration import RegistrationRefusedError, register
from tests.lab.root import LabUnavailableError, Root, Say, ensure

__all__ = ["EXTENSIONS", "Pair"]

EXTENSIONS = (*range(101, 107), *range(201, 207))
CHAN_SIP_EXTENSION = 107  # where Asterisk still has that channel driver
REGISTERED_FOR = 7200  # seconds; no test session lasts as long


class Pair:
    """A PBX and its world on ports of their own; several pairs may run from one root at once."""

    def __init__(self, version: str = "22", *, say: Say = print) -> None:
        """Builds the root when it is missing. Raises LabUnavailableError."""
        self.root: Root = ensure(version, say=say)
        self.slot: Slot = claim_slot()
        sweep(self.root)
        label = f"{self.slot.number}-{os.getpid()}"
        no_chan_sip = "noload = chan_sip.so"
        self.pbx = Asterisk(self.root, "pbx", f"pbx-{label}", self.slot.pbx, {"cel": "no", "noload_sip": ""})
        self.world = Asterisk(self.root, "world", f"world-{label}", self.slot.world, {"noload_sip": no_chan_sip})

    @property
    def extensions(self) -> tuple[int, ...]:
        """The phones of this version's PBX."""
        return (*EXTENSIONS, CHAN_SIP_EXTENSION) if self.root.version == "16" else EXTENSIONS

    async def start(self) -> None:
        """Returns when both run and every phone is registered. Raises LabUnavailableError."""
        try:
            self.pbx.furnish()
            self.world.furnish()
            await asyncio.gather(self.pbx.start(), self.world.start())
            await self.register()
        except BaseException:
            self.stop()
            raise

    async def joins(self, other: Pair) -> None:
        """Lays a trunk between the two PBXs: `PJSIP/peer` on either leads to the other."""
        for here, there in ((self.pbx, other.pbx), (other.pbx, self.pbx)):
            await here.reconfigure("module reload res_pjsip.so", other_sip_port=str(there.ports.sip))

    async def revive(self) -> None:
        """Starts a PBX that was killed or stopped, with its old folder. Raises LabUnavailableError."""
        await self.pbx.start()
        await self.register()

    async def register(self) -> None:
        """Switches every phone on. Raises LabUnavailableError."""
        try:
            await asyncio.gather(*(self.switch(extension, on=True) for extension in self.extensions))
        except RegistrationRefusedError as refused:
            raise LabUnavailableError(f"{refused}; see {self.pbx.log}") from refused

    async def switch(self, extension: int, *, on: bool) -> None:
        """Registers one phone with the PBX or takes it off. Raises RegistrationRefusedError."""
        ports = self.pbx.ports
        registrar = ports.chan_sip if extension == CHAN_SIP_EXTENSION else ports.sip
        expires = REGISTERED_FOR if on else 0
        await register(extension, pbx_port=registrar, contact_port=ports.peer_sip, expires=expires)

    def stop(self) -> None:
        self.world.stop()
        self.pbx.stop()
        self.slot.release()
