"""Recordings over real HTTP: whole, in parts, unchanged, refused, and to listeners who take their time."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from itgrix_kommo.config import Recordings as Settings
from itgrix_kommo.recordings import serving
from itgrix_kommo.recordings.archive import Recordings
from itgrix_kommo.recordings.completeness import Patience
from itgrix_kommo.recordings.links import Ticket
from itgrix_kommo.recordings.recording import Recording
from itgrix_kommo.recordings.serving import disposition, routes
from tests.recorded_sounds import Index, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from itgrix_kommo.recordings.archive import Playable

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC).timestamp()


class House:
    """An archive behind a server, with one mp3 and one file that is a thousand different bytes long."""

    def __init__(self, archive: Recordings, address: str, client: ClientSession, monitor: Path) -> None:
        self.archive = archive
        self.client = client
        self.monitor = monitor
        self._address = address

    def url(self, recording_id: str, expires_at: int | None = None) -> str:
        assert self.archive._links is not None
        path = self.archive._links.link(Ticket(recording_id, expires_at)).removeprefix("https://pbx.example.com")
        return self._address + path

    def path(self, path: str) -> str:
        return f"{self._address}/{path}"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    monitor = tmp_path / "monitor"
    monitor.mkdir()
    index = Index()
    (monitor / "raw.alaw").write_bytes(bytes(range(250)) * 4)
    tone(monitor / "call.mp3", "-f", "mp3")
    for recording_id, name in (("raw", "raw.alaw"), ("mp3", "call.mp3"), ("gone", "gone.mp3")):
        await index.put(Recording(recording_id, (str(monitor / name),), 'Иван "101"', NOW))
    settings = Settings(directories=(str(monitor),), public_url="https://pbx.example.com", cache_gb=0)
    archive = Recordings(
        settings, index, key=b"k" * 32, cache=tmp_path / "cache", patience=Patience(), clock=lambda: NOW
    )
    app = web.Application()
    app.add_routes(routes(archive, lambda recording: "It lies on pbx2 alone." if recording.startswith("pbx2-") else ""))
    async with TestServer(app) as server, ClientSession() as client:
        yield House(archive, str(server.make_url("")), client, monitor)
    await archive.close()


class TestWhole:
    async def test_an_mp3_is_one(self, house: House) -> None:
        async with house.client.get(house.url("mp3")) as answer:
            content = await answer.read()
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "audio/mpeg"
            assert answer.headers["Accept-Ranges"] == "bytes"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Disposition"] == (
                "inline; filename=\"____ _101_.mp3\"; filename*=UTF-8''%D0%98%D0%B2%D0%B0%D0%BD%20%22101%22.mp3"
            )
        assert content == (house.monitor / "call.mp3").read_bytes()

    async def test_head_tells_the_same_and_sends_nothing(self, house: House) -> None:
        async with house.client.get(house.url("raw")) as answer:
            told = answer.headers.copy()
        async with house.client.head(house.url("raw")) as answer:
            assert answer.status == 200
            assert await answer.read() == b""
            for name in ("Content-Length", "Content-Type", "ETag", "Last-Modified", "Accept-Ranges"):
                assert answer.headers[name] == told[name]
            assert answer.headers["Content-Length"] == "1000"

    async def test_it_is_not_sent_twice(self, house: House) -> None:
        async with house.client.get(house.url("raw")) as answer:
            etag, changed = answer.headers["ETag"], answer.headers["Last-Modified"]
        assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
        for headers in ({"If-None-Match": etag}, {"If-Modified-Since": changed}):
            async with house.client.get(house.url("raw"), headers=headers) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
                assert answer.headers["ETag"] == etag
        async with house.client.get(house.url("raw"), headers={"If-Match": '"other"'}) as answer:
            assert answer.status == 412


class TestParts:
    @pytest.mark.parametrize(
        ("header", "part", "content_range"),
        [
            ("bytes=0-99", slice(0, 100), "bytes 0-99/1000"),
            ("bytes=990-", slice(990, 1000), "bytes 990-999/1000"),
            ("bytes=-1", slice(999, 1000), "bytes 999-999/1000"),
            ("bytes=500-5000", slice(500, 1000), "bytes 500-999/1000"),
        ],
    )
    async def test_one(self, header: str, part: slice, content_range: str, house: House) -> None:
        content = (house.monitor / "raw.alaw").read_bytes()
        async with house.client.get(house.url("raw"), headers={"Range": header}) as answer:
            assert answer.status == 206
            assert answer.headers["Content-Range"] == content_range
            assert await answer.read() == content[part]

    async def test_several(self, house: House) -> None:
        content = (house.monitor / "raw.alaw").read_bytes()
        async with house.client.get(house.url("raw"), headers={"Range": "bytes=0-9, 500-509, -10"}) as answer:
            assert answer.status == 206
            kind, _, boundary = answer.headers["Content-Type"].partition("; boundary=")
            body = await answer.read()
            assert int(answer.headers["Content-Length"]) == len(body)
        assert kind == "multipart/byteranges"
        first, *parts, last = body.split(f"\r\n--{boundary}".encode())
        assert (first, last) == (b"", b"--\r\n")
        for part, begin in zip(parts, (0, 500, 990), strict=True):
            head, _, data = part.partition(b"\r\n\r\n")
            assert f"Content-Range: bytes {begin}-{begin + 9}/1000".encode() in head
            assert b"Content-Type: application/octet-stream" in head
            assert data == content[begin : begin + 10]

    async def test_none_within_the_file(self, house: House) -> None:
        async with house.client.get(house.url("raw"), headers={"Range": "bytes=1000-"}) as answer:
            assert answer.status == 416
            assert answer.headers["Content-Range"] == "bytes */1000"

    async def test_of_the_very_file_only(self, house: House) -> None:
        async with house.client.head(house.url("raw")) as answer:
            etag, changed = answer.headers["ETag"], answer.headers["Last-Modified"]
        for if_range, status in ((etag, 206), (changed, 206), ('"other"', 200), (f"W/{etag}", 200)):
            headers = {"Range": "bytes=0-9", "If-Range": if_range}
            async with house.client.get(house.url("raw"), headers=headers) as answer:
                assert answer.status == status
                assert len(await answer.read()) == (10 if status == 206 else 1000)

    async def test_a_range_of_a_head_is_ignored(self, house: House) -> None:
        async with house.client.head(house.url("raw"), headers={"Range": "bytes=0-9"}) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, "1000")


class TestRefusals:
    @pytest.mark.parametrize(
        "path",
        [
            "recordings/x.mp3",
            "recordings/" + "A" * 64 + ".mp3",
            "recordings/..%2f..%2fetc%2fpasswd.mp3",
            "recordings/%2e%2e/%2e%2e/etc/passwd",
            "recordings/call.mp3",
            "recordings/%00.mp3",
            "recordings/.mp3",
            "recordings/",
            "recordings/" + "A" * 5000 + ".mp3",
            "recordings/%D0%98.mp3",
        ],
    )
    async def test_nothing_is_found_by_any_other_name(self, path: str, house: House) -> None:
        async with house.client.get(house.path(path)) as answer:
            assert answer.status == 404
            assert "root" not in await answer.text()

    async def test_one_that_lies_on_another_node_is_told_so(self, house: House) -> None:
        async with house.client.get(house.url("pbx2-1795355557.10")) as answer:
            assert answer.status == 503
            assert await answer.text() == "It lies on pbx2 alone.\n"

    async def test_a_deleted_one_is_told_without_its_path(self, house: House) -> None:
        async with house.client.get(house.url("gone")) as answer:
            assert answer.status == 404
            assert await answer.text() == "The recording is no longer kept.\n"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"

    async def test_an_expired_link_is_told(self, house: House) -> None:
        async with house.client.get(house.url("mp3", int(NOW))) as answer:
            assert (answer.status, await answer.text()) == (410, "This link has expired.\n")
        async with house.client.get(house.url("mp3", int(NOW) + 1)) as answer:
            assert answer.status == 200

    async def test_nobody_writes(self, house: House) -> None:
        for method in ("POST", "PUT", "DELETE"):
            async with house.client.request(method, house.url("mp3")) as answer:
                assert answer.status == 405


async def test_the_crms_page_may_ask_first(house: House) -> None:
    asks = {"Origin": "https://acme.kommo.com", "Access-Control-Request-Headers": "range"}
    async with house.client.options(house.url("mp3"), headers=asks) as answer:
        assert answer.status == 204
        assert "Range" in answer.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Private-Network" not in answer.headers
    asks["Access-Control-Request-Private-Network"] = "true"
    async with house.client.options(house.url("mp3"), headers=asks) as answer:
        assert answer.headers["Access-Control-Allow-Private-Network"] == "true"


@asynccontextmanager
async def listener(house: House, recording_id: str) -> AsyncIterator[asyncio.StreamReader]:
    """Someone who asks and then reads, or not, as he likes; behind a small window."""
    url = house.url(recording_id)
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port), limit=1024)
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


class TestSlowListeners:
    SIZE = 64 * 1024 * 1024

    @pytest.fixture
    def reads(self, house: House, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """A large file; the list counts what was read of it for all listeners."""
        with (house.monitor / "raw.alaw").open("wb") as file:
            file.truncate(self.SIZE)
        counted: list[int] = []
        read = house.archive.read

        async def counting(playable: Playable, begin: int, length: int) -> bytes:
            data = await read(playable, begin, length)
            counted.append(len(data))
            return data

        monkeypatch.setattr(house.archive, "read", counting)
        return counted

    async def test_hold_little_memory(self, house: House, reads: list[int]) -> None:
        async with listener(house, "raw") as reader:
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            before = -1
            async with asyncio.timeout(20):
                while before != len(reads):  # until it stops of itself
                    before = len(reads)
                    await asyncio.sleep(0.2)
            assert 0 < sum(reads) < self.SIZE // 4  # what the kernel's buffers took
            assert max(reads) == serving.CHUNK

    async def test_are_let_go_in_the_end(self, house: House, reads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(serving, "STALLED", 0.2)
        async with listener(house, "raw") as reader:
            await reader.readline()
            length = 0
            async with asyncio.timeout(20):
                before = -1
                while before != len(reads):
                    before = len(reads)
                    await asyncio.sleep(0.5)
                try:
                    while data := await reader.read(1 << 20):
                        length += len(data)
                except ConnectionError:
                    pass
            assert length < self.SIZE

    async def test_a_file_that_shrinks_breaks_the_connection(self, house: House, reads: list[int]) -> None:
        async with listener(house, "raw") as reader:
            await reader.readline()
            async with asyncio.timeout(20):
                while not reads:
                    await asyncio.sleep(0.01)
                with (house.monitor / "raw.alaw").open("r+b") as file:
                    file.truncate(serving.CHUNK)
                length = 0
                try:
                    while data := await reader.read(1 << 20):
                        length += len(data)
                except ConnectionError:
                    pass
            assert length < self.SIZE


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("call.mp3", "call.mp3"),
        ('a"b\\c.mp3', "a_b_c.mp3"),
        ("a\r\nSet-Cookie: x=1.mp3", "a__Set-Cookie_ x_1.mp3"),
        ("Ñandú.mp3", "_and_.mp3"),
    ],
)
def test_a_file_name_stays_within_its_header(name: str, plain: str) -> None:
    header = disposition(name)
    assert f'filename="{plain}"' in header
    assert header.isascii()
    assert "\n" not in header
