"""A real browser without a window, told over its DevTools protocol what to do on a page."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, ClientWebSocketResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
DEADLINE = 60.0  # seconds for anything: starting it on a busy machine takes some


class BrowserError(Exception):
    """The browser, or the script in its page, failed."""


class Page:
    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._asked = 0

    async def go(self, address: str) -> None:
        """Returns when the page is loaded."""
        await self._ask("Page.enable")
        await self._ask("Page.navigate", url=address, until="Page.loadEventFired")

    async def run(self, script: str) -> Any:
        """What the promise of the script, an expression, comes to, as JSON has it."""
        answer = await self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(answer["exceptionDetails"].get("exception", {}).get("description", answer))
        return answer["result"].get("value")

    async def _ask(self, method: str, *, until: str | None = None, **params: object) -> dict[str, Any]:
        """The answer to a command; with `until`, not before that event as well."""
        self._asked += 1
        await self._socket.send_json({"id": self._asked, "method": method, "params": params})
        answer: dict[str, Any] | None = None
        async with asyncio.timeout(DEADLINE):
            while answer is None or until is not None:
                message = await self._socket.receive_json()
                if message.get("id") == self._asked:
                    if "error" in message:
                        raise BrowserError(message["error"])
                    answer = message["result"]
                elif message.get("method") == until:
                    until = None
        return answer


@asynccontextmanager
async def open_page(profile: Path) -> AsyncIterator[Page]:
    """A browser with a fresh profile in that directory and one empty page; it ends with the block."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise BrowserError(f"none of {', '.join(NAMES)} is installed: run apt-get install chromium")
    process = await asyncio.create_subprocess_exec(
        program,
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0", f"--user-data-dir={profile}"),
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        port = await _port(profile / "DevToolsActivePort")
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                pages = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _port(announcement: Path) -> int:
    async with asyncio.timeout(DEADLINE):
        while (port := _announced(announcement)) is None:
            await asyncio.sleep(0.05)
        return port


def _announced(announcement: Path) -> int | None:
    try:
        port, newline, _ = announcement.read_text().partition("\n")
    except FileNotFoundError:
        return None
    return int(port) if newline else None
