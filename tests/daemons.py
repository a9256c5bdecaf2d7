"""Daemons as processes of their own, on invented hosts whose Asterisk is away: what they have to do stands in rows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from itgrix_kommo.pipeline.intake import registration_of
from itgrix_kommo.sandbox import Sandbox
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.registrations import Registrations, State
from tests.hosts import Certificate, Host, Namespace
from tests.pbx_servers import url_at
from tests.story import ANN, plan

WITHIN = 300.0
"""Seconds for whatever a test waits for, on a machine that has other things to do as well."""


class Starter:
    """A process that starts daemons without importing everything anew. They trust its `certificate`."""

    def __init__(self, process: asyncio.subprocess.Process, certificate: Certificate) -> None:
        self._process = process
        self.certificate = certificate
        self._turn = asyncio.Lock()

    async def start(self, config: Path, log: Path, namespace: Namespace | None = None) -> int:
        """The pid of a new daemon."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wanted = {"config": str(config), "log": str(log), "namespace": namespace and namespace.path}
        async with self._turn:
            self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
            return int(await self._process.stdout.readline())


@asynccontextmanager
async def a_starter(module: str = "tests.warm_start") -> AsyncIterator[Starter]:
    pipe = asyncio.subprocess.PIPE
    with tempfile.TemporaryDirectory(prefix="itgrix-certificate-") as directory:
        certificate = Certificate(Path(directory))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, stdin=pipe, stdout=pipe, cwd=Path(__file__).parents[1],
            env={**os.environ, "SSL_CERT_FILE": str(certificate.file)},
        )  # fmt: skip
        try:
            yield Starter(process, certificate)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


class Node:
    """A PBX whose Asterisk is away: what there is to do stands in its database.

    On a `host` it shares the database that is there; else it is by itself, on this machine.
    """

    def __init__(
        self,
        starter: Starter,
        sandbox: Sandbox,
        directory: Path,
        *,
        name: str = "pbx1",
        host: Host | None = None,
        limit: int = 6,
        **business: Any,
    ) -> None:
        self.sandbox = sandbox
        self.name = name
        self.port = host.port if host else unused_port()
        self._host = host
        self._namespace = host.namespace if host else None
        self._starter = starter
        self._config = directory / "config.json"
        self._log = directory / "log"
        self.url = f"sqlite+aiosqlite:///{directory}/itgrix.db"
        self._pid: int | None = None
        self._config.write_text(
            json.dumps(
                {
                    "ami": {"port": 1, "username": "itgrix", "secret": "itgrix-secret"},
                    "kommo": {
                        "base_url": host.kommo if host else sandbox.url,
                        "access_token": "sandbox-token",
                        "requests_per_second": limit,
                    },
                    "employees": [{"user_id": ANN, "extension": "101"}],
                    "numbers": {"trunks": ["PJSIP/trunk"], "region": "RU"},
                    "business": {"reassign_on_answer": True, **business},
                    "customizations": {"enabled": False},
                    "recordings": {"enabled": False},
                    "http": {"port": self.port, "admin": {"password": "admin-password"}},
                    "node": {"name": name},
                    "storage": {"url": self.url, "shared_url": url_at(host.database) if host else None},
                }
            )
        )
        self._config.chmod(0o600)

    @property
    def host(self) -> Host:
        assert self._host is not None, "it has no host of its own"
        return self._host

    async def keep(self, *calls: Any) -> None:
        database = await Database.open(self.url, beside_daemon=True)
        registrations = Registrations(database, self.name)
        for call in calls:
            new = registration_of(call, plan())
            assert new is not None
            assert await registrations.keep(new) is not None
        await database.close()

    def call_it(self, name: str, shared_url: str) -> None:
        """By its configuration, from the next start on."""
        settings = json.loads(self._config.read_text())
        settings["storage"]["shared_url"] = shared_url
        self._config.write_text(json.dumps({**settings, "node": {"name": name}}))
        self.name = name

    async def command(self, *arguments: str) -> str:
        """What a command of this host prints; it has to do what it was asked."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "itgrix_kommo", *arguments, "--config", str(self._config)),
            cwd=Path(__file__).parents[1],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        told, failed = await process.communicate()
        assert process.returncode == 0, failed.decode()
        return told.decode()

    async def start(self) -> None:
        self._pid = await self._starter.start(self._config, self._log, self._namespace)

    async def kill(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
        await self.gone()

    async def gone(self) -> None:
        """Wait until its daemon has ended by itself."""
        pid, self._pid = self._pid, None
        if pid is not None:
            await until(lambda: not is_alive(pid), self.log)

    def freeze(self) -> None:
        """As a virtual machine that is held: it stops in the midst of whatever it does, until it thaws."""
        assert self._pid is not None
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._pid is not None
        os.kill(self._pid, signal.SIGCONT)

    async def registered(self) -> None:
        """Wait until no row waits any more; none may have failed."""
        database = await Database.open(self.url, beside_daemon=True)
        registrations = Registrations(database, self.name)
        try:
            async with asyncio.timeout(WITHIN):
                while (counts := await registrations.counts())[State.WAITING] or counts.get(State.HANDED):
                    await asyncio.sleep(0.2)
            assert counts[State.FAILED] == counts[State.SKIPPED] == 0, self.log()
        except TimeoutError:
            pytest.fail(f"rows still wait:\n{self.log()[-4000:]}")
        finally:
            await database.close()

    async def status(self) -> dict[str, Any]:
        """What the daemon tells its administrator."""
        headers = {"Authorization": aiohttp.encode_basic_auth("admin", "admin-password")}
        connector = aiohttp.TCPConnector(socket_factory=self._namespace.socket if self._namespace else None)
        async with (
            aiohttp.ClientSession(headers=headers, connector=connector) as session,
            session.get(f"http://127.0.0.1:{self.port}/status", raise_for_status=True) as answer,
        ):
            told: dict[str, Any] = await answer.json()
            return told

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""


async def until(condition: Callable[[], object], log: Callable[[], str]) -> None:
    try:
        async with asyncio.timeout(WITHIN):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"it did not happen:\n{log()[-4000:]}")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
