"""Our access to the account from its grant to its end: the daemon with a browser before it, and the command `login`."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from itgrix_kommo.app import Daemon
from itgrix_kommo.config import Config
from itgrix_kommo.configured import oauth_tokens
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.oauth import Grant
from itgrix_kommo.kommo.transport import Transport
from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.tokens import Tokens

PASSWORD = "admin-password-of-tests"
ADMIN = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}
WITHIN = 20.0


@pytest.fixture
def port() -> int:
    return unused_port()


@pytest.fixture
async def sandbox(port: int) -> AsyncIterator[Sandbox]:
    back = f"http://127.0.0.1:{port}/oauth/kommo"
    async with Sandbox(SandboxOptions(redirect_uri=back, uninstall_hook=f"{back}/uninstalled")).serve() as served:
        yield served


@pytest.fixture
def settings(sandbox: Sandbox, port: int, tmp_path: Path) -> dict[str, Any]:
    options = sandbox.options
    return {
        "ami": {"port": 1, "username": "itgrix", "secret": "itgrix-secret"},
        "kommo": {
            "base_url": sandbox.url,
            "integration": {
                "client_id": options.client_id,
                "client_secret": options.client_secret,
                "redirect_uri": options.redirect_uri,
            },
            "webhook_secret": "webhook-secret-of-tests",
        },
        "customizations": {"enabled": False},
        "recordings": {"public_url": f"http://127.0.0.1:{port}"},
        "http": {"port": port, "admin": {"password": PASSWORD}},
        "storage": {"url": f"sqlite+aiosqlite:///{tmp_path}/itgrix.db"},
    }


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(WITHIN):
        while not await condition():
            await asyncio.sleep(0.05)


async def stored(settings: dict[str, Any]) -> Grant | None:
    database = await Database.open(settings["storage"]["url"], beside_daemon=True)
    try:
        return await Tokens(database, settings["kommo"]["integration"]["client_id"]).load()
    finally:
        await database.close()


@asynccontextmanager
async def a_daemon(settings: dict[str, Any]) -> AsyncIterator[str]:
    """It runs, beside no Asterisk; its address."""
    daemon = Daemon(Config.model_validate(settings))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(daemon.run(ready.set_result))
    try:
        async with asyncio.timeout(WITHIN):
            yield await ready
    finally:
        daemon.stop()
        await running


async def test_a_grant_in_the_browser_its_webhook_and_its_end(sandbox: Sandbox, settings: dict[str, Any]) -> None:
    async with a_daemon(settings) as url, aiohttp.ClientSession() as browser:

        async def stops() -> str:
            async with browser.get(f"{url}/healthz") as answer:
                return " ".join((await answer.json())["registering_stopped_by"])

        async def is_open() -> bool:
            return not await stops()

        async def is_shut_for_good() -> bool:
            return "uninstalled in Kommo" in await stops()

        async def is_subscribed() -> bool:
            async with browser.get(f"{url}/status", headers=ADMIN) as answer:
                return bool((await answer.json())["outside"]["webhooks"]["subscribed"])

        async def nobody() -> bool:
            return "nobody has granted us access" in await stops()

        await until(nobody)
        for _ in range(2):
            async with browser.get(f"{url}/oauth/kommo/login", headers=ADMIN) as page:
                assert page.status == 200
                assert page.url.path == "/oauth/kommo"
                assert "Access is granted" in await page.text()
            await until(is_open)
            await until(is_subscribed)
            (hook,) = sandbox.account.webhooks.values()
            assert hook.destination == f"{url}/webhooks/kommo/webhook-secret-of-tests"
            grant = await stored(settings)
            assert grant is not None

            async with browser.get(page.url) as replayed:
                assert replayed.status == 409
            assert await stored(settings) == grant

            async with browser.post(f"{sandbox.url}/sandbox/uninstall") as answer:
                assert await answer.json() == {"hook": f"{url}/oauth/kommo/uninstalled", "status": 200}
            await until(is_shut_for_good)
            assert await stored(settings) is None
            async with browser.get(f"{url}/status", headers=ADMIN) as answer:
                status = await answer.json()
            assert status["app_state"] == "stopped"
            assert "uninstalled in Kommo" in status["outside"]["kommo"]["error"]


class Login:
    """The command at a terminal, where a person reads and types."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def address(self) -> str:
        """What is to be opened in the browser."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WITHIN):
            while not (line := (await self._process.stdout.readline()).decode().strip()).startswith("http"):
                assert line
        return line

    async def types(self, text: str) -> tuple[int, str]:
        async with asyncio.timeout(WITHIN):
            out, err = await self._process.communicate(f"{text}\n".encode())
        return self._process.returncode or 0, out.decode() + err.decode()


@asynccontextmanager
async def login(settings: dict[str, Any], directory: Path) -> AsyncIterator[Login]:
    path = directory / "config.json"
    path.write_text(json.dumps(settings))
    path.chmod(0o600)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "itgrix_kommo", "login", "--config", str(path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Login(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def agreed(address: str) -> str:
    """Where the browser is sent to by whoever agrees."""
    async with aiohttp.ClientSession() as browser, browser.get(address, allow_redirects=False) as answer:
        assert answer.status == 302
        return answer.headers["Location"]


class TestLogin:
    async def test_by_the_address_that_is_pasted(self, settings: dict[str, Any], tmp_path: Path) -> None:
        async with login(settings, tmp_path) as command:
            status, text = await command.types(await agreed(await command.address()))
        assert (status, "access is granted" in text) == (0, True), text
        assert await stored(settings) is not None

    async def test_with_the_daemon_running_nothing_is_to_be_pasted(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        async with a_daemon(settings), login(settings, tmp_path) as command, aiohttp.ClientSession() as browser:
            async with browser.get(await command.address()) as page:
                assert "Access is granted" in await page.text()
            status, text = await command.types("")
        assert (status, "access is granted" in text) == (0, True), text

    async def test_what_the_daemon_has_taken_already_is_fine_as_well(
        self, sandbox: Sandbox, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        async with login(settings, tmp_path) as command:
            address = await agreed(await command.address())
            config = Config.model_validate(settings)
            database = await Database.open(settings["storage"]["url"], beside_daemon=True)
            async with Transport(sandbox.url, None, Limiter(7)) as bare:
                code = address.partition("code=")[2].partition("&")[0]
                await oauth_tokens(config, database, bare).grant_by(code)
            await database.close()
            status, text = await command.types(address)
        assert (status, "access is granted" in text) == (0, True), text

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda _: "", "no access was granted meanwhile"),
            (lambda _: "no address at all", "no code of this login"),
            (lambda address: address.replace("state=", "state=x"), "no code of this login"),
            (lambda address: address.replace("referer=127.0.0.1", "referer=evil.example"), "another account"),
            (lambda address: address.partition("?")[0] + "?error=access_denied", "chosen not to allow it"),
            (lambda address: address.replace("code=", "code=x"), "Kommo"),
        ],
    )
    async def test_what_does_not_serve(
        self, settings: dict[str, Any], tmp_path: Path, change: Callable[[str], str], words: str
    ) -> None:
        async with login(settings, tmp_path) as command:
            status, text = await command.types(change(await agreed(await command.address())))
        assert (status, words in text) == (1, True), text
        assert "Traceback" not in text
        assert await stored(settings) is None
