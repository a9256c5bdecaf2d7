"""One Asterisk process in a chroot: its folder, its ports, its start, stop and sudden death."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.ami_control import AmiControl, AmiRefusedError, Event
from tests.lab.root import LabUnavailableError, Root

__all__ = ["Asterisk", "Ports", "Slot", "claim_slot", "sweep"]

ETC = Path(__file__).parent / "etc"
BOOTS_WITHIN = 60.0
STOPS_WITHIN = 10.0
KEEP_LOGS = 24 * 3600  # seconds that folders of earlier runs are kept
# Each pair of instances owns a block of ports below the ephemeral range; ten pairs may live on one machine.
FIRST_PORT = 12_000
PORTS_PER_SLOT = 2000
SLOTS = 10
FOLDERS = ("etc", "lib/keys", "log", "run", "spool/monitor", "spool/voicemail", "spool/tmp", "spool/outgoing")


@dataclass(frozen=True, slots=True)
class Ports:
    ami: int
    sip: int
    peer_sip: int
    rtp_start: int
    rtp_end: int
    chan_sip: int
    """The PBX's second SIP port, of its old channel driver; the world needs to know it too."""


@dataclass(slots=True)
class Slot:
    """A block of ports, held as long as this process lives or until `release`.

    The claim is an abstract socket's name: as wide as the network that the ports are in, gone with the process.
    """

    number: int
    held: socket.socket

    @property
    def pbx(self) -> Ports:
        return self._ports(ami=0, sip=1, peer_sip=11, rtp_start=100, rtp_end=1039)

    @property
    def world(self) -> Ports:
        return self._ports(ami=10, sip=11, peer_sip=1, rtp_start=1040, rtp_end=1979)

    def _ports(self, **offsets: int) -> Ports:
        base = FIRST_PORT + self.number * PORTS_PER_SLOT
        return Ports(chan_sip=base + 2, **{name: base + offset for name, offset in offsets.items()})

    def release(self) -> None:
        self.held.close()


def claim_slot() -> Slot:
    """The first block of ports that no other lab holds. Raises LabUnavailableError when all are taken."""
    for number in range(SLOTS):
        held = socket.socket(socket.AF_UNIX)
        try:
            held.bind(f"\0itgrix-kommo-lab-{number}")
        except OSError:
            held.close()
            continue
        return Slot(number, held)
    raise LabUnavailableError(f"all {SLOTS} blocks of lab ports are taken: stop a lab that is still running")


class Asterisk:
    """A role (`pbx` or `world`) of one lab. Paths that Asterisk speaks of are inside the root; see `outside`."""

    def __init__(self, root: Root, role: str, name: str, ports: Ports, settings: Mapping[str, str]) -> None:
        self.root = root
        self.role = role
        self.name = name
        self.ports = ports
        self.home = f"/lab/{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "home": self.home,
            "modules": root.modules,
            "ami_port": str(ports.ami),
            "sip_port": str(ports.sip),
            "peer_sip_port": str(ports.peer_sip),
            "other_sip_port": str(ports.sip),
            "chan_sip_port": str(ports.chan_sip),
            "rtp_start": str(ports.rtp_start),
            "rtp_end": str(ports.rtp_end),
            **settings,
        }

    def outside(self, inside: str) -> Path:
        """The real path of one that Asterisk names."""
        return self.root.path / inside.lstrip("/")

    @property
    def folder(self) -> Path:
        return self.outside(self.home)

    @property
    def log(self) -> Path:
        return self.folder / "log/full"

    @property
    def monitor(self) -> str:
        """The directory of recordings as Asterisk names it."""
        return f"{self.home}/spool/monitor"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the running process: `chroot` and `setpriv` hand over to it."""
        assert self._process is not None, "Asterisk.start was not awaited"
        return self._process.pid

    def furnish(self) -> None:
        """Writes a fresh folder with the role's configuration."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True)
        self._configure()

    def _configure(self) -> None:
        for template in sorted((ETC / self.role).iterdir()):
            text = re.sub(r"@([a-z_]+)@", lambda found: self._settings[found[1]], template.read_text("utf-8"))
            (self.folder / "etc" / template.name).write_text(text, "utf-8")

    async def start(self) -> None:
        """Starts the process and returns when it is fully booted. Raises LabUnavailableError with the log's end."""
        self._launch()
        deadline = time.monotonic() + BOOTS_WITHIN
        while not await self._booted():
            if not self.alive or time.monotonic() > deadline:
                ended = "ended" if not self.alive else f"was not booted within {BOOTS_WITHIN:.0f} s"
                self.kill()
                raise LabUnavailableError(f"Asterisk {self.name} {ended}: {self.last_words()} (whole log: {self.log})")
            await asyncio.sleep(0.05)

    def _launch(self) -> None:
        with (self.folder / "log/console").open("ab") as console:
            # The process dies with the one who started it, however that one ends.
            confined = ("setpriv", "--pdeathsig", "SIGKILL", "chroot", str(self.root.path))
            self._process = subprocess.Popen(
                [*confined, "/usr/sbin/asterisk", "-C", f"{self.home}/etc/asterisk.conf", "-f", "-n"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip

    async def reconfigure(self, command: str, **settings: str) -> None:
        """Writes the configuration with other settings and has the running process take it in by a CLI command."""
        self._settings.update(settings)
        self._configure()
        control = await self.control(lambda _event: None)
        await control.command(command)
        await control.close()

    async def _booted(self) -> bool:
        booted = asyncio.Event()

        def hear(event: Event) -> None:
            if event.get("Event") == "FullyBooted":
                booted.set()

        try:
            control = await self.control(hear)
        except (OSError, AmiRefusedError, asyncio.IncompleteReadError):
            return False
        try:
            await asyncio.wait_for(booted.wait(), BOOTS_WITHIN)
        finally:
            await control.close()
        return True

    async def control(self, on_event: Callable[[Event], None]) -> AmiControl:
        """A connection of the user `lab`, who may do everything."""
        return await AmiControl.connect(self.name, self.ports.ami, "lab", "lab-secret", on_event=on_event)

    def kill(self) -> None:
        """kill -9, as a crash or a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """An orderly end, forced when it lasts."""
        if self._process is None:
            return
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOPS_WITHIN)
        self.kill()

    def last_words(self) -> str:
        lines: list[str] = []
        for path in (self.folder / "log/console", self.log):
            if path.is_file():
                lines += path.read_text("utf-8", "replace").splitlines()[-6:]
        return " | ".join(line.strip() for line in lines) or "it said nothing"


def sweep(root: Root) -> None:
    """Removes folders of labs that ended more than a day ago."""
    for folder in (root.path / "lab").iterdir():
        old = time.time() - folder.stat().st_mtime > KEEP_LOGS
        if folder.name.startswith(("pbx-", "world-")) and old:
            shutil.rmtree(folder, ignore_errors=True)
