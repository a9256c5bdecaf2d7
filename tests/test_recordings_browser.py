"""A recording is played as in the CRM's card: by a real browser's audio element, in a page of another origin."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from itgrix_kommo.config import Recordings as Settings
from itgrix_kommo.recordings.archive import Recordings
from itgrix_kommo.recordings.recording import CallFacts, Prepared
from itgrix_kommo.recordings.serving import routes
from tests.headless_browser import Page, open_page
from tests.recorded_sounds import FORMATS, PITCH, Index, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.lab.stage import Lab

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

    def __init__(self, page: Page, archive: Recordings, requests: list[tuple[str, int]]) -> None:
        self.page = page
        self.archive = archive
        self.requests = requests  # Range header and status of each

    async def link(self, name: str) -> str:
        facts = CallFacts(name, datetime(2026, 11, 22, 10, 15, tzinfo=UTC), "+79991234567", "101")
        answer = await self.archive.prepare(name, facts)
        assert isinstance(answer, Prepared), answer
        assert answer.is_mp3
        return answer.link

    async def run(self, script: str, *arguments: object) -> Any:
        return await self.page.run(f"{script}({', '.join(map(json.dumps, arguments))})")


@asynccontextmanager
async def a_card(tmp_path: Path, settings: Settings) -> AsyncIterator[Card]:
    """A browser at the CRM's page, and the recordings of these settings."""
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
        settings.model_copy(update={"public_url": address}),
        Index(),
        key=b"k" * 32,
        cache=tmp_path / "cache",
        spare=0,
    )
    pbx.add_routes(routes(archive))
    runner = web.AppRunner(pbx)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        async with TestServer(crm) as crm_server, open_page(tmp_path / "profile") as page:
            await page.go(str(crm_server.make_url("/")))
            yield Card(page, archive, requests)
    finally:
        await runner.cleanup()
        await archive.close()


@pytest.fixture
def monitor(tmp_path: Path) -> Path:
    folder = tmp_path / "monitor"
    folder.mkdir()
    return folder


@pytest.fixture
async def card(tmp_path: Path, monitor: Path) -> AsyncIterator[Card]:
    async with a_card(tmp_path, Settings(directories=(str(monitor),))) as card:
        yield card


async def test_a_recording_plays_and_seeks_and_has_its_length(card: Card, monitor: Path) -> None:
    tone(monitor / "call.wav", seconds=600)
    link = await card.link("call.wav")

    heard = await card.run(LISTEN, link, 480)

    assert heard["duration"] == pytest.approx(600, abs=0.5)
    assert heard["seekable"] == pytest.approx(600, abs=0.5)
    assert heard["played"] > 0.2
    assert 480.2 < heard["resumed"] < 500
    assert {status for asked, status in card.requests if asked.startswith("bytes=")} == {206}


@pytest.mark.parametrize("extension", ["wav", "WAV", "gsm", "ulaw", "sln16", "stereo.wav"])
async def test_what_asterisk_writes_sounds_right_in_a_browser(extension: str, card: Card, monitor: Path) -> None:
    tone(monitor / f"call.{extension}", *FORMATS[extension], seconds=3)
    link = await card.link(f"call.{extension}")

    heard = await card.run(PITCH_OF, link)

    assert heard["pitch"] == pytest.approx(PITCH, rel=0.03)
    assert (heard["type"], heard["ranges"]) == ("audio/mpeg", "bytes")


@pytest.mark.lab
async def test_a_real_call_plays_and_is_as_long_as_the_conversation(lab: Lab, tmp_path: Path) -> None:
    pbx = lab.pair.pbx
    monitor = str(pbx.outside(pbx.monitor))
    client, anna = lab.client(), lab.phone(101)
    await client.calls("4957770301")
    await anna.answers()
    await client.talks()
    began = asyncio.get_running_loop().time()
    (named,) = {event["Value"] for event in lab.seen.pbx_events if event.get("Variable") == "MIXMONITOR_FILENAME"}
    async with asyncio.timeout(30):
        while recorded(Path(monitor) / Path(named).name) < 4.0:
            await asyncio.sleep(0.05)
    await client.hangs_up()
    talked = asyncio.get_running_loop().time() - began
    await lab.quiet()

    settings = Settings(directories=(monitor,), path_map={str(pbx.monitor): monitor})
    async with a_card(tmp_path, settings) as card:
        link = await card.link(named)
        heard = await card.run(LISTEN, link, 2)
        sound = await card.run(PITCH_OF, link)

    assert heard["duration"] == pytest.approx(talked, abs=1.0)
    assert heard["resumed"] > 2.2
    assert sound["pitch"] == pytest.approx(440, rel=0.03)  # what the lab's people say, all day long


def recorded(path: Path) -> float:
    """Seconds of sound in a WAV that Asterisk is writing."""
    return max(0, path.stat().st_size - 44) / 16000 if path.exists() else 0.0
