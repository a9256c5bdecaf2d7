"""The connector as it is in life: a process of its own, with a configuration file and a log."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import unused_port

__all__ = ["Daemon", "DaemonFailedError"]

WITHIN = 20.0
"""Seconds for the daemon to start, to log in to Asterisk, and to end."""


class DaemonFailedError(Exception):
    """The daemon did not do as it must; the message shows the end of its log."""


class Daemon:
    """`settings` are the configuration without what is the host's own: port, storage, hooks."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self.config = directory / "config.json"
        self.log = directory / "daemon.log"
        self.address = f"http://127.0.0.1:{unused_port()}"
        self._process: asyncio.subprocess.Process | None = None
        own = {
            "http": {"port": int(self.address.rpartition(":")[2])},
            "storage": {"url": f"sqlite+aiosqlite:///{directory}/itgrix.db"},
        }
        self.config.touch(mode=0o600)
        self.config.write_text(json.dumps(settings | own, indent=2) + "\n", "utf-8")

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Returns once the daemon captures calls. Raises DaemonFailedError."""
        with self.log.open("ab") as log:
            # It ends with the one who started it, however that one ends; Ctrl-C goes to us alone, who end it in order.
            self._process = await asyncio.create_subprocess_exec(
                "setpriv", "--pdeathsig", "SIGTERM",
                sys.executable, "-m", "itgrix_kommo", "run", "--config", str(self.config),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(WITHIN):
                while not await self._captures():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise self._failed(f"captured no calls within {WITHIN:g} s") from None

    async def _captures(self) -> bool:
        try:
            return (await self.health())[0] == 200
        except aiohttp.ClientConnectionError:
            return False

    async def health(self) -> tuple[int, dict[str, Any]]:
        """Status and body of /healthz. Raises DaemonFailedError where the daemon has ended."""
        if self._process is None or self._process.returncode is not None:
            raise self._failed("has ended by itself")
        async with aiohttp.ClientSession() as session, session.get(f"{self.address}/healthz") as answer:
            return answer.status, await answer.json()

    async def is_idle(self) -> bool:
        """No call lives, and none waits to be registered."""
        try:
            _, body = await self.health()
        except aiohttp.ClientConnectionError:
            return False  # it is ending: the next look tells
        return not body["live_calls"] and not body["registrations"].get("waiting", 0)

    async def stop(self) -> None:
        """End it in order. Raises DaemonFailedError where it ended badly."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(WITHIN):
                status = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        if status:
            raise self._failed(f"ended with status {status}")

    def _failed(self, what: str) -> DaemonFailedError:
        last = self.log.read_text("utf-8", "replace").splitlines()[-5:]
        return DaemonFailedError("\n".join([f"the daemon {what}; the end of {self.log}:", *last]))
