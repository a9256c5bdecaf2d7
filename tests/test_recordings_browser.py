"""A recording is played as in the CRM's card: by a real browser's audio element, in a page of another origin."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from itgrix_kommo.config import Recordings as Settings
from itgrix_kommo.recordings.archive import Recordings
from itgrix_kommo.recordings.completeness import Patience
from itgrix_kommo.recordings.recording import CallFacts, Prepared
from itgrix_kommo.recordings.serving import routes
from tests.headless_browser import Page, open_page
from tests.recorded_sounds import FORMATS, PITCH, Index, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LISTEN = """(async (link, later) => {
    const audio = new Audio();
    audio.crossOrigin = "anonymous";
    const heard = (name, enough = () => true) => new Promise((yes, no) => {
        audio.addEventListener(name, () => enough() && yes());
        audio.addEventListener("error", () => no(new Error(audio.error.message)));
    });
    const known = heard("loadedmetadata");
    audio.src = link;
    await known;
    await Promise.all([audio.play(), heard("timeupdate", () => audio.currentTime > 0.2)]);
    const played = audio.currentTime;
    const sought = heard("seeked");
    audio.currentTime = later;
    await sought;
    await heard("timeupdate", () => audio.currentTime > later + 0.2);
    audio.pause();
    return {duration: audio.duration, played, resumed: audio.currentTime, seekable: audio.seekable.end(0)};
})"""

# Decoding needs the file's bytes, so here CORS counts as well.
PITCH_OF = """(async link => {
    const answer = await fetch(link);
    const decoded = await new OfflineAudioContext(1, 8000, 8000).decodeAudioData(await answer.arrayBuffer());
    const sound = decoded.getChannelData(0).slice(8000, 16000);
    const crossings = sound.reduce((sum, value, at) => sum + (at > 0 && (value < 0) !== (sound[at - 1] < 0)), 0);
    const [type, ranges] = ["content-type", "accept-ranges"].map(name => answer.headers.get(name));
    return {pitch: crossings / 2, type, ranges};
})"""


class Card:
    """The CRM's page in a browser, and the recordings on another address."""

    def __init__(self, page: Page, archive: Recordings, monitor: Path, requests: list[tuple[str, int]]) -> None:
        self.page = page
        self.archive = archive
        self.monitor = monitor
        self.requests = requests  # Range header and status of each

    async def link(self, name: str) -> str:
        facts = CallFacts(name, datetime(2026, 11, 22, 10, 15, tzinfo=UTC), "+79991234567", "101")
        answer = await self.archive.prepare(name, facts)
        assert isinstance(answer, Prepared), answer
        assert answer.is_mp3
        return answer.link

    async def run(self, script: str, *arguments: object) -> Any:
        return await self.page.run(f"{script}({', '.join(map(json.dumps, arguments))})")


@pytest.fixture
async def card(tmp_path: Path) -> AsyncIterator[Card]:
    monitor = tmp_path / "monitor"
    monitor.mkdir()
    requests: list[tuple[str, int]] = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(request)
        requests.append((request.headers.get("Range", ""), answer.status))
        return answer

    async def page_of_the_crm(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>a card</title>", content_type="text/html")

    crm, pbx = web.Application(), web.Application(middlewares=[note])
    crm.router.add_get("/", page_of_the_crm)
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    archive = Recordings(
        Settings(directories=(str(monitor),), public_url=address),
        Index(),
        key=b"k" * 32,
        cache=tmp_path / "cache",
        patience=Patience(quiet=0.1),
        spare=0,
    )
    pbx.add_routes(routes(archive))
    runner = web.AppRunner(pbx)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        async with TestServer(crm) as crm_server, open_page(tmp_path / "profile") as page:
            await page.go(str(crm_server.make_url("/")))
            yield Card(page, archive, monitor, requests)
    finally:
        await runner.cleanup()
        await archive.close()


async def test_a_recording_plays_and_seeks_and_has_its_length(card: Card) -> None:
    tone(card.monitor / "call.wav", seconds=600)
    link = await card.link("call.wav")

    heard = await card.run(LISTEN, link, 480)

    assert heard["duration"] == pytest.approx(600, abs=0.5)
    assert heard["seekable"] == pytest.approx(600, abs=0.5)
    assert heard["played"] > 0.2
    assert 480.2 < heard["resumed"] < 500
    assert {status for asked, status in card.requests if asked.startswith("bytes=")} == {206}


@pytest.mark.parametrize("extension", ["wav", "WAV", "gsm", "ulaw", "sln16", "stereo.wav"])
async def test_what_asterisk_writes_sounds_right_in_a_browser(extension: str, card: Card) -> None:
    tone(card.monitor / f"call.{extension}", *FORMATS[extension], seconds=3)
    link = await card.link(f"call.{extension}")

    heard = await card.run(PITCH_OF, link)

    assert heard["pitch"] == pytest.approx(PITCH, rel=0.03)
    assert (heard["type"], heard["ranges"]) == ("audio/mpeg", "bytes")
