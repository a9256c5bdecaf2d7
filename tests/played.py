"""A host whose Asterisk is a recorded trace: the daemon a process of its own, its Kommo a sandbox."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp.test_utils import unused_port
from typer.testing import CliRunner

from itgrix_kommo import log
from itgrix_kommo.cli import main as cli
from itgrix_kommo.errors import ItgrixError
from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from itgrix_kommo.sandbox.player import Player
from itgrix_kommo.storage.trace import Recorded, read_trace

TRACES = Path(__file__).parent / "traces" / "22"
ANN, BORIS, CLARA = 9_100_001, 9_100_002, 9_100_003
WITHIN = 60.0
"""Seconds for what takes some, on a machine that has other things to do as well."""


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str


def frames_of(*names: str) -> list[Recorded]:
    """Recorded calls, one after another."""
    return [recorded for name in names for recorded in read_trace(TRACES / f"{name}.trace")]


class Host:
    """`config` is written at each start. What the daemon logs goes through a pipe, so that no full disk stops it."""

    def __init__(self, player: Player, sandbox: Sandbox, directory: Path) -> None:
        self.player = player
        self.sandbox = sandbox
        self.directory = directory
        self.files = directory / "itgrix.files"
        self.path = directory / "config.json"
        self.lines: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.config: dict[str, Any] = {
            "ami": {"port": player.port, "username": "itgrix", "secret": "itgrix-secret"},
            "kommo": {"base_url": sandbox.url, "access_token": "sandbox-token", "timeout_s": 5},
            "employees": [
                {"user_id": ANN, "extension": "101"},
                {"user_id": BORIS, "extension": "102"},
                {"user_id": CLARA, "extension": "103"},
            ],
            "numbers": {"trunks": ["PJSIP/trunk", "PJSIP/trunk2"], "region": "RU"},
            "http": {"port": unused_port()},
            "recordings": {"enabled": False},
            "customizations": {"directory": str(directory / "actions")},
            "storage": {"url": f"sqlite+aiosqlite:///{directory}/itgrix.db"},
            "logging": {"level": "info"},
        }
        (directory / "actions").mkdir(exist_ok=True)

    @property
    def account(self) -> Any:
        return self.sandbox.account

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def write_config(self) -> None:
        self.path.write_text(json.dumps(self.config))
        self.path.chmod(0o600)

    async def launch(self) -> None:
        """Start the daemon."""
        self.write_config()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "itgrix_kommo", "run", "--config", str(self.path), stderr=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def start(self) -> None:
        """Start the daemon and wait until it serves."""
        begun = len(self.lines)
        await self.launch()
        await self.until(lambda: self.logged("serving", begun))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.lines.append(line.decode("utf-8", "replace"))

    def logged(self, event: str, since: int = 0) -> list[dict[str, Any]]:
        """The lines of this event, from the `since`-th line of the log on."""
        lines = [json.loads(line) for line in self.lines[since:] if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end of the daemon; its exit status."""
        assert self._process is not None
        assert self._reading is not None
        async with asyncio.timeout(WITHIN):
            await self._reading
            return await self._process.wait()

    async def stop(self) -> None:
        self.send(signal.SIGTERM)
        assert await self.ended() == 0, "".join(self.lines)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self.ended()

    async def until(self, condition: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(WITHIN):
                while not condition():
                    running = self._process is None or self._process.returncode is None
                    assert running, "".join(self.lines)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"it did not happen; the daemon's log:\n{''.join(self.lines)}")

    async def health(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.config['http']['port']}/healthz"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def command(self, *arguments: str, given: str = "") -> Done:
        """What a command on this host's configuration says; in this process, for a start costs a second."""
        return await asyncio.to_thread(_command, [*arguments, "--config", str(self.path)], given)

    async def json(self, *arguments: str) -> Any:
        done = await self.command(*arguments, "--json")
        assert done.status == 0, done.stderr
        return json.loads(done.stdout)


def _command(arguments: list[str], given: str) -> Done:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        log.configure("warning", "console", stream=io.StringIO())
        done = CliRunner().invoke(cli.commands, arguments, input=given)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    if isinstance(done.exception, ItgrixError):
        return Done(1, done.stdout, str(done.exception))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


@asynccontextmanager
async def a_host(frames: Iterable[Recorded], directory: Path, *, speed: float = 1000.0) -> AsyncIterator[Host]:
    """Its Asterisk says `frames` to whoever logs in, at `speed` times that of life."""
    player = Player(frames, username="itgrix", secret="itgrix-secret", speed=speed)
    async with Sandbox(SandboxOptions()).serve(port=0) as sandbox, player.serve():
        host = Host(player, sandbox, directory)
        try:
            yield host
        finally:
            await host.kill()
