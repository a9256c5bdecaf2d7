"""The listeners themselves: two of them, TLS, slow and broken clients, and everybody at once."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import unused_port

from itgrix_kommo.errors import ConfigError
from itgrix_kommo.web.bodies import read_bytes
from itgrix_kommo.web.certificate import Certificate
from itgrix_kommo.web.entrance import FILES, allow_files, room
from itgrix_kommo.web.server import MOST_IDLE, Doorkeeper, serving
from tests.web_face import PASSWORD, Served, face_of

WITHIN = 8.0


@pytest.fixture
async def face(tmp_path: Path) -> AsyncIterator[Served]:
    async with face_of(tmp_path) as served:
        yield served


def make_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


class TestTwoListeners:
    async def test_the_public_one_shows_the_public_doors_alone(self, tmp_path: Path) -> None:
        http = {"port": unused_port(), "admin": {"password": PASSWORD}, "public": {"port": unused_port()}}
        async with face_of(tmp_path, http=http) as face:
            inside = {path: (await face.ask("GET", path)).status for path in DOORS}
            face.url = face.public
            outside = {path: (await face.ask("GET", path)).status for path in DOORS}
        assert inside == DOORS
        shown = {"/originate/some-id": 401, "/originate": 405, "/oauth/kommo": 404, "/oauth/kommo/uninstalled": 400}
        assert outside == {**dict.fromkeys(DOORS, 404), **shown}

    async def test_an_address_that_is_taken(self, tmp_path: Path) -> None:
        async with face_of(tmp_path) as face:
            port = face.config.http.port
            with pytest.raises(ConfigError, match=f"http.public: 127.0.0.1:{port} can't be listened on"):
                async with serving([], "127.0.0.1", port, name="http.public"):
                    pass


DOORS = {
    "/originate": 405,
    "/originate/some-id": 401,
    "/autodistribution?from=1": 200,
    "/healthz": 200,
    "/openapi.json": 200,
    "/status": 401,
    "/metrics": 401,
    "/pbx/read_call?id=1.1": 401,
    "/oauth/kommo": 404,  # no grant is wanted where a long-lived token is configured
    "/oauth/kommo/login": 401,
    "/oauth/kommo/uninstalled": 400,
    "/": 404,
}


class TestRefusals:
    async def test_are_all_of_one_kind(self, face: Served) -> None:
        (await face.ask("GET", "/nothing")).refuses(404)
        refused = await face.ask("DELETE", "/originate")
        refused.refuses(405, "Allow")
        assert refused.headers["Allow"] == "OPTIONS,POST"
        (await face.ask("GET", "/../../etc/passwd")).refuses(404)

    async def test_a_fault_of_ours_shows_nothing_of_itself(self) -> None:
        async def broken(_: web.Request) -> web.Response:
            raise ValueError("the inside of it")

        async with (
            serving([web.get("/", broken)], "127.0.0.1", 0) as url,
            aiohttp.ClientSession() as http,
            http.get(url) as answer,
        ):
            text = await answer.text()
        assert answer.status == 500
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "inside" not in text
        assert "Traceback" not in text

    async def test_a_fault_of_ours_fills_no_log(self) -> None:
        async def broken(_: web.Request) -> web.Response:
            raise ValueError("the inside of it")

        with structlog.testing.capture_logs() as lines:
            async with serving([web.get("/", broken)], "127.0.0.1", 0) as url, aiohttp.ClientSession() as http:
                for _ in range(15):
                    async with http.get(url) as answer:
                        assert answer.status == 500
        assert [line["event"] for line in lines] == ["http_handler_broke"] * 10
        assert lines[0]["log_level"] == "error"
        assert lines[0]["exc_info"]

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 500 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /originate HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"POST /originate HTTP/1.1\r\nHost: x\r\nContent-Encoding: zstd\r\nContent-Length: 2\r\n\r\n{}",
            b"POST /originate HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    )
    async def test_what_is_no_http(self, face: Served, request_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", face.config.http.port)
        writer.write(request_bytes)
        writer.write_eof()
        async with asyncio.timeout(WITHIN):
            answer = await reader.read()
        writer.close()
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        assert b"Traceback" not in answer
        assert b".py" not in answer
        assert not caplog.records
        assert (await face.ask("GET", "/healthz")).status == 200

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: zstd\r\nContent-Length: 2\r\n\r\n{}",
        ],
    )
    async def test_what_is_no_sound_http_is_a_problem_too(self, face: Served, request_bytes: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", face.config.http.port)
        writer.write(request_bytes)
        async with asyncio.timeout(WITHIN):
            answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split()[1] == b"400"
        assert b"\r\nContent-Type: application/problem+json\r\n" in head
        assert b"\r\nServer: itgrix-kommo\r\n" in head
        assert json.loads(body)["detail"] == "this is no sound HTTP"

    async def test_the_server_does_not_tell_its_parts(self, face: Served) -> None:
        answer = await face.ask("GET", "/healthz")
        assert answer.headers["Server"] == "itgrix-kommo"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"


async def ok(_: web.Request) -> web.Response:
    return web.Response(text="ok")


class Silent:
    """A connection on which nothing is asked."""

    closed = False

    def force_close(self) -> None:
        self.closed = True


class TestSlowClients:
    async def test_who_says_nothing_is_shown_out(self) -> None:
        keeper = Doorkeeper(request_within=0.2)
        async with serving([web.get("/", ok)], "127.0.0.1", 0, doorkeeper=keeper) as url:
            port = port_of(url)
            for said in (b"", b"GET / HTTP/1.1\r\nX-Slow: "):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                async with asyncio.timeout(WITHIN):
                    assert await reader.read() == b""
                writer.close()

    async def test_who_is_being_served_is_not(self) -> None:
        async def long(_: web.Request) -> web.Response:
            await asyncio.sleep(2.5)
            return web.Response(text="at last")

        keeper = Doorkeeper(request_within=0.1, idle_within=0.1)
        async with (
            serving([web.get("/", long)], "127.0.0.1", 0, doorkeeper=keeper) as url,
            aiohttp.ClientSession() as http,
            http.get(url) as answer,
        ):
            assert await answer.text() == "at last"

    async def test_who_stays_idle_after_an_answer_is_shown_out_too(self) -> None:
        keeper = Doorkeeper(idle_within=0.1)
        async with serving([web.get("/", ok)], "127.0.0.1", 0, doorkeeper=keeper) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(WITHIN):
                assert (await reader.read()).endswith(b"ok")
            writer.close()

    async def test_in_a_rush_only_who_was_there_before_is_shown_out(self) -> None:
        before, rush = [Silent() for _ in range(MOST_IDLE)], [Silent() for _ in range(1000)]
        keeper = Doorkeeper()
        keeper.look(before)
        keeper.look(before + rush)
        assert not any(one.closed for one in before + rush)
        keeper.look(before + rush)
        assert [one.closed for one in before + rush] == [True] * 1000 + [False] * MOST_IDLE

    async def test_a_body_in_drops(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("itgrix_kommo.web.bodies.BODY_WITHIN", 0.2)

        async def take(request: web.Request) -> web.Response:
            await read_bytes(request, 1000)
            return web.Response()

        async with serving([web.post("/", take)], "127.0.0.1", 0) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nab")
            async with asyncio.timeout(WITHIN):
                assert (await reader.readline()).startswith(b"HTTP/1.1 408")
            writer.close()

    async def test_hundreds_of_idle_connections_leave_room_for_others(self) -> None:
        async with serving([web.get("/", ok)], "127.0.0.1", 0) as url:
            port = int(url.rpartition(":")[2])
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(450)]
            async with asyncio.timeout(WITHIN):
                ended = asyncio.gather(*(reader.read() for reader, _ in idle[:50]))
                assert await ended == [b""] * 50
            async with aiohttp.ClientSession() as http, http.get(url) as answer:
                assert await answer.text() == "ok"
            for _, writer in idle:
                writer.close()


class TestTheWayIn:
    async def test_who_never_shakes_hands_is_shown_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("itgrix_kommo.web.entrance.HANDSHAKE_WITHIN", 0.2)
        certificate = Certificate("http.tls_certificate", *make_certificate(tmp_path, "pbx.example.com"))
        async with serving([web.get("/", ok)], "127.0.0.1", 0, tls=certificate.context) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
            async with asyncio.timeout(WITHIN):
                assert await reader.read() == b""
            writer.close()

    async def test_of_many_who_never_shake_hands_the_longest_go(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("itgrix_kommo.web.entrance.MOST_HANDSHAKES", 10)
        certificate = Certificate("http.tls_certificate", *make_certificate(tmp_path, "pbx.example.com"))
        async with serving([web.get("/", ok)], "127.0.0.1", 0, tls=certificate.context) as url:
            silent = [await asyncio.open_connection("127.0.0.1", port_of(url)) for _ in range(15)]
            async with asyncio.timeout(WITHIN):
                assert await asyncio.gather(*(reader.read() for reader, _ in silent[:5])) == [b""] * 5
                assert b"pbx.example.com" in await shown(url)
            for _, writer in silent:
                writer.close()

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_whoever_comes_others_have_files_to_open(self, tmp_path: Path, scheme: str) -> None:
        files = make_certificate(tmp_path, "pbx.example.com")
        tls = Certificate("http.tls_certificate", *files).context if scheme == "https" else None
        async with serving([web.get("/", ok)], "127.0.0.1", 0, tls=tls, most=10) as url:
            before = open_sockets()
            silent = [await asyncio.open_connection("127.0.0.1", port_of(url)) for _ in range(30)]
            async with asyncio.timeout(WITHIN):
                while open_sockets() < before + 40:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)  # for those that must not come
            assert open_sockets() == before + 40
            for _, writer in silent:
                writer.close()
            async with asyncio.timeout(WITHIN):
                while open_sockets() > before:
                    await asyncio.sleep(0.02)

    @pytest.mark.parametrize(
        ("number", "said"),
        [(errno.EMFILE, [("connection_not_taken", "Too many open files")]), (errno.ECONNABORTED, [])],
    )
    async def test_who_can_not_be_let_in_fills_no_log_and_stops_nobody(
        self, number: int, said: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("itgrix_kommo.web.entrance._AGAIN_AFTER", 0.01)
        loop = asyncio.get_running_loop()
        accept, failing = loop.sock_accept, iter([True] * 5)

        async def short(listening: socket.socket) -> Any:
            if next(failing, False):
                raise OSError(number, os.strerror(number))
            return await accept(listening)

        monkeypatch.setattr(loop, "sock_accept", short)
        with structlog.testing.capture_logs() as lines:
            async with (
                serving([web.get("/", ok)], "127.0.0.1", 0) as url,
                asyncio.timeout(WITHIN),
                aiohttp.ClientSession() as http,
                http.get(url) as answer,
            ):
                assert await answer.text() == "ok"
        assert [(line["event"], line["error"]) for line in lines] == said
        assert not caplog.records

    async def test_every_address_of_a_name(self) -> None:
        async with (
            serving([web.get("/", ok)], "localhost", 0) as url,
            aiohttp.ClientSession() as http,
            http.get(url) as answer,
        ):
            assert await answer.text() == "ok"

    def test_the_process_may_open_enough_files(self) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
        try:
            assert room() == 341
            allow_files()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(FILES, limits[1]), limits[1])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def open_sockets() -> int:
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found += str(one.readlink()).startswith("socket:")
    return found


class TestManyAtOnce:
    async def test_a_thousand_clients(self, face: Served) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:

            async def asks(number: int) -> tuple[str, int]:
                method, path = ASKED_TOGETHER[number % len(ASKED_TOGETHER)]
                async with http.request(method, face.url + path, data=b"{}" if method == "POST" else None) as answer:
                    text = await answer.text()
                    assert "Traceback" not in text
                    return path, answer.status

            answers = await asyncio.gather(*(asks(number) for number in range(1000)))
        assert {(path, status): answers.count((path, status)) for path, status in answers} == {
            ("/healthz", 200): 100,
            ("/openapi.json", 200): 100,
            ("/nothing", 404): 100,
            ("/originate/x", 401): 100,
            ("/originate", 401): 100,
            ("/pbx/read_call", 401): 200,
            ("/webhooks/kommo/guess", 404): 100,
            ("/oauth/kommo?code=x&state=y", 404): 100,
            ("/autodistribution?from=1", 200): 100,
        }


ASKED_TOGETHER = [
    ("GET", "/healthz"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("GET", "/originate/x"),
    ("POST", "/originate"),
    ("GET", "/pbx/read_call"),
    ("POST", "/pbx/read_call"),
    ("POST", "/webhooks/kommo/guess"),
    ("GET", "/oauth/kommo?code=x&state=y"),
    ("GET", "/autodistribution?from=1"),
]


class TestTls:
    async def test_basic_authentication_is_taken(self, tmp_path: Path) -> None:
        certificate, key = make_certificate(tmp_path, "pbx.example.com")
        http = {
            "port": unused_port(), "admin": {"password": PASSWORD}, "tls_certificate": str(certificate),
            "tls_key": str(key),
        }  # fmt: skip
        async with face_of(tmp_path, http=http) as face:
            assert face.url.startswith("https://")
            login = {"Authorization": aiohttp.encode_basic_auth("admin", PASSWORD), "X-Forwarded-For": "203.0.113.7"}
            assert (await face.ask("GET", "/status", headers=login, ssl=False)).status == 403
            del login["X-Forwarded-For"]
            assert (await face.ask("GET", "/status", headers=login, ssl=False)).status == 200

    async def test_a_renewed_certificate_serves_new_connections(self, tmp_path: Path) -> None:
        files = make_certificate(tmp_path, "old.example.com")
        certificate = Certificate("http.tls_certificate", *files)
        async with serving([web.get("/", ok)], "127.0.0.1", 0, tls=certificate.context) as url:
            old = await shown(url)
            assert b"old.example.com" in old
            make_certificate(tmp_path, "new.example.com")
            watch = asyncio.create_task(certificate.run(every=0.05))
            async with asyncio.timeout(WITHIN):
                while (new := await shown(url)) == old:
                    await asyncio.sleep(0.05)
            watch.cancel()
            assert b"new.example.com" in new
            assert certificate.error == ""

    async def test_a_broken_renewal_leaves_the_former_one(self, tmp_path: Path) -> None:
        files = make_certificate(tmp_path, "old.example.com")
        certificate = Certificate("http.tls_certificate", *files)
        async with serving([web.get("/", ok)], "127.0.0.1", 0, tls=certificate.context) as url:
            former = files[1].read_bytes()
            other = tmp_path / "other"
            other.mkdir()
            make_certificate(other, "other.example.com")
            files[0].write_bytes((other / "cert.pem").read_bytes())  # its key has not come yet
            certificate.refresh()
            assert "http.tls_certificate" in certificate.error
            assert b"old.example.com" in await shown(url)
            files[1].write_bytes((other / "key.pem").read_bytes())
            certificate.refresh()
            assert certificate.error == ""
            assert b"other.example.com" in await shown(url)
            assert former != files[1].read_bytes()

    def test_files_that_do_not_serve_are_named_at_the_start(self, tmp_path: Path) -> None:
        certificate, key = make_certificate(tmp_path, "pbx.example.com")
        with pytest.raises(ConfigError, match=r"http.public.tls_certificate: .*missing.pem"):
            Certificate("http.public.tls_certificate", tmp_path / "missing.pem", key)
        key.write_text("no key")
        with pytest.raises(ConfigError, match=r"can't be used"):
            Certificate("http.tls_certificate", certificate, key)

    def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(self, tmp_path: Path) -> None:
        certificate, key = make_certificate(tmp_path, "pbx.example.com")
        subprocess.run(
            ["openssl", "ec", "-in", str(key), "-out", str(key) + ".locked", "-aes256", "-passout", "pass:secret"],
            check=True, capture_output=True,
        )  # fmt: skip
        with pytest.raises(ConfigError, match="without a password"):
            Certificate("http.tls_certificate", certificate, Path(str(key) + ".locked"))


async def shown(url: str) -> bytes:
    """The certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), ssl=context)
    session: Any = writer.get_extra_info("ssl_object")
    certificate: bytes = session.getpeercert(binary_form=True)
    writer.transport.abort()
    return certificate
