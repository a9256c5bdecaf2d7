"""A page that behaves as Kommo's does, as far as its documentation tells, with an uploaded widget on it.

RequireJS and jQuery are the real ones (Debian's packages). What Kommo's own code does stands in `kommo_page.html`:
which callbacks it calls when, `add_action`, `i18n`, and `$authorizedAjax`, which has the account sign a token for each
request.
"""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from tests.headless_browser import DEADLINE, Page
from tests.web_face import signed

SCRIPTS = Path("/usr/share/javascript")
PAGE = Path(__file__).with_suffix(".html")


class KommoPage:
    """`token` makes what the account signs (None: it fails), `tokens` is how many it was asked for.

    `api` is the address of a sandbox that answers the account's API on the same origin.
    """

    def __init__(self, page: Page, api: str = "") -> None:
        self.page = page
        self.api = api
        self.files: zipfile.ZipFile
        self.origin = ""
        self.language = "en"
        self.token: Callable[[], str | None] = lambda: signed(iss=self.origin)
        self.tokens = 0

    def upload(self, widget: bytes) -> None:
        self.files = zipfile.ZipFile(io.BytesIO(widget))

    async def opens(
        self, *, settings: dict[str, str] | None = None, language: str = "en", copies: int = 1, phones: list[str]
    ) -> None:
        """A user with this language opens a lead's page that shows these phones."""
        self.language = language
        await self.page.go(f"{self.origin}/?{language}")
        await self.run(f"kommo.boot({json.dumps({'settings': settings or {}, 'copies': copies, 'area': 'lcard'})})")
        await self.run(f"kommo.show({json.dumps(phones)})")

    async def run(self, script: str) -> Any:
        return await self.page.run(script)

    async def clicks(self, phone: str) -> None:
        await self.run(f"kommo.click({json.dumps(phone)})")

    async def cards(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = await self.run("kommo.cards()")
        return found

    async def shows(self, **wanted: str) -> dict[str, str]:
        """Wait until there is one card, with what is wanted of it."""
        found: list[dict[str, str]] = []
        try:
            async with asyncio.timeout(DEADLINE):
                while len(found) != 1 or not found[0].items() >= wanted.items():
                    found = await self.cards()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"wanted {wanted}, seen {found}") from None
        return found[0]

    async def shows_nothing(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while await self.run("document.querySelector('.itgrix-calls') !== null"):
                await asyncio.sleep(0.05)

    def text(self, section: str, key: str) -> str:
        """What the widget says in the user's language."""
        found: str = json.loads(self.files.read(f"i18n/{self.language}.json"))[section][key]
        return found

    async def _page(self, request: web.Request) -> web.Response:
        text = PAGE.read_text().replace("<html>", f'<html lang="{request.query_string}">')
        return web.Response(text=text, content_type="text/html")

    async def _script(self, request: web.Request) -> web.FileResponse:
        name = request.match_info["name"]
        return web.FileResponse(SCRIPTS / {"require": "requirejs"}.get(name, name) / f"{name}.js")

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        kind = "text/javascript" if name.endswith(".js") else "application/json"
        return web.Response(body=self.files.read(name), content_type=kind, charset="utf-8")

    async def _token(self, _: web.Request) -> web.Response:
        self.tokens += 1
        token = self.token()
        return web.json_response({"token": token}) if token else web.Response(status=500)

    async def _elsewhere(self, request: web.Request) -> web.Response:
        """What is no connector: it welcomes everybody, or answers in JSON of its own."""
        if request.match_info["kind"] == "pages":
            return web.Response(text="<!doctype html><h1>Welcome</h1>", content_type="text/html")
        return web.json_response(["welcome"])

    async def _api(self, request: web.Request) -> web.Response:
        passed = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        async with (
            ClientSession() as http,
            http.request(
                request.method, self.api + request.raw_path, headers=passed, data=await request.read()
            ) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._page),
            web.get("/js/{name}.js", self._script),
            web.get("/widgets/itgrix_code/{name:.+}", self._file),
            web.post("/elsewhere/{kind}/originate", self._elsewhere),
            web.get("/ajax/v2/integrations/{client_id}/disposable_token", self._token),
            web.route("*", "/api/{path:.+}", self._api),
        ]


@asynccontextmanager
async def kommo_page(page: Page, api: str = "") -> AsyncIterator[KommoPage]:
    """The account's pages on an origin of their own, shown in `page`."""
    kommo = KommoPage(page, api)
    app = web.Application()
    app.add_routes(kommo.routes())
    async with TestServer(app) as server:
        kommo.origin = str(server.make_url("")).rstrip("/")
        yield kommo
