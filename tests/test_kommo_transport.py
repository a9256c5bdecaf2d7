"""The transport against a server that answers byte by byte what a test tells it, or breaks off."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from contextlib import asynccontextmanager
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from structlog.testing import capture_logs

import itgrix_kommo.kommo.transport
from itgrix_kommo.errors import (
    ConfigError,
    KommoBlocked,
    KommoError,
    KommoFault,
    KommoForbidden,
    KommoNotFound,
    KommoOverloaded,
    KommoRejected,
    KommoTooHeavy,
    KommoUnauthorized,
    KommoUnpaid,
    KommoUnreachable,
)
from itgrix_kommo.kommo.answers import Answer
from itgrix_kommo.kommo.breaker import PROBE_EVERY, Breaker
from itgrix_kommo.kommo.limiter import Limiter, Priority
from itgrix_kommo.kommo.transport import MOST_BYTES, LongLivedToken, TokenSource, Transport, encode
from tests.hosts import Relay
from tests.stoppable_clock import StoppableClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN = "eyJ0b2tlbi1vZi10aGUtdGVzdA"
HANG, CLOSE = b"hang", b"close"


class Received(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def reply(status: int, body: Any = None, *, kind: str = "application/hal+json", head: str = "") -> bytes:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def problem(status: int, **more: object) -> bytes:
    body = {"title": "T", "status": status, "detail": "D", **more}
    return reply(status, body, kind="application/problem+json")


class ScriptedServer:
    """Gives `replies` in order, whoever asks; HANG answers nothing, CLOSE reads the request and hangs up."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.received: list[Received] = []
        self.url = ""
        self._over = asyncio.Event()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._talk, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield
            self._over.set()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await self._request(reader):
                self.received.append(request)
                answer = self.replies.pop(0)
                if answer == HANG:
                    await self._over.wait()
                if answer in {HANG, CLOSE}:
                    break
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            pass  # the client hung up first, as some tests want it
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> Received | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except asyncio.IncompleteReadError:
            return None
        method, target, _ = head[0].split(" ")
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in head[1:] if line)}
        return Received(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    async with scripted.serve():
        yield scripted


@pytest.fixture
async def transport(server: ScriptedServer) -> AsyncIterator[Transport]:
    async with Transport(server.url, LongLivedToken(TOKEN), Limiter(7), timeout_s=5) as opened:
        yield opened


async def get(transport: Transport, path: str = "/api/v4/account") -> Answer:
    return await transport.request("GET", path, priority=Priority.LIVE)


async def post(transport: Transport, body: object = ({},)) -> Answer:
    return await transport.request("POST", "/api/v4/calls", body=body, priority=Priority.REGISTRATION)


async def refusal(transport: Transport) -> KommoError:
    """What becomes of a write."""
    with pytest.raises(KommoError) as caught:
        await post(transport)
    assert TOKEN not in repr(caught.value) + str(caught.value)
    return caught.value


class TestRequest:
    async def test_what_goes_over_the_wire(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [reply(200, {"id": 1})]
        answer = await transport.request(
            "POST",
            "/api/v4/leads",
            params=[("filter[id][]", "1"), ("filter[id][]", "2"), ("query", "a&b c")],
            body=[{"name": "Анна", "price": 5}],
            priority=Priority.LIVE,
        )
        assert answer == Answer("POST /api/v4/leads", 200, {"id": 1})
        [got] = server.received
        assert got.method == "POST"
        assert got.target == "/api/v4/leads?filter%5Bid%5D%5B%5D=1&filter%5Bid%5D%5B%5D=2&query=a%26b+c"
        assert got.headers["authorization"] == f"Bearer {TOKEN}"
        assert got.headers["user-agent"].startswith("itgrix-kommo/")
        assert got.headers["content-type"] == "application/json"
        assert json.loads(got.body) == [{"name": "Анна", "price": 5}]

    async def test_a_get_has_no_body(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [reply(204)]
        assert (await get(transport)).body is None
        assert server.received[0].body == b""
        assert "content-type" not in server.received[0].headers

    @pytest.mark.parametrize("kind", ["application/json", "text/html; charset=windows-1251", "nonsense", ""])
    async def test_json_is_json_whatever_it_calls_itself(
        self, server: ScriptedServer, transport: Transport, kind: str
    ) -> None:
        server.replies = [reply(200, {"id": 1}, kind=kind)]
        assert (await get(transport)).body == {"id": 1}

    async def test_compressed_answers_are_read(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [reply(200, gzip.compress(b'{"id": 1}'), head="Content-Encoding: gzip\r\n")]
        assert (await get(transport)).body == {"id": 1}

    async def test_a_redirect_is_not_followed(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [reply(302, head="Location: http://127.0.0.1:1/elsewhere\r\n")]
        error = await refusal(transport)
        assert isinstance(error, KommoUnreachable)
        assert "kommo.base_url" in str(error)
        assert not error.may_have_happened
        assert len(server.received) == 1

    async def test_no_cookie_is_kept(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [reply(204, head="Set-Cookie: session=1\r\n"), reply(204)]
        await get(transport)
        await get(transport)
        assert "cookie" not in server.received[1].headers

    async def test_without_tokens_none_is_sent(self, server: ScriptedServer) -> None:
        server.replies = [reply(200, {})]
        async with Transport(server.url, None, Limiter(7)) as transport:
            await post(transport)
        assert "authorization" not in server.received[0].headers

    async def test_a_body_may_be_made_when_it_is_its_turn(self, server: ScriptedServer) -> None:
        server.replies = [reply(200, {}), reply(200, {})]
        async with Transport(server.url, LongLivedToken(TOKEN), Limiter(1)) as transport:
            waiting = ["first"]
            first = asyncio.create_task(post(transport, body=lambda: list(waiting)))
            second = asyncio.create_task(post(transport, body=lambda: list(waiting)))
            await first
            waiting.append("second")
            await second
        assert [json.loads(got.body) for got in server.received] == [["first"], ["first", "second"]]

    async def test_a_body_that_comes_to_nothing_is_not_sent_and_costs_no_slot(self, server: ScriptedServer) -> None:
        def nothing() -> object:
            raise LookupError

        server.replies = [reply(200, {})]
        async with Transport(server.url, LongLivedToken(TOKEN), Limiter(1)) as transport:
            for _ in range(3):
                with pytest.raises(LookupError):
                    await post(transport, body=nothing)
            async with asyncio.timeout(0.9):
                await post(transport)
        assert len(server.received) == 1

    async def test_outside_of_async_with_it_is_closed(self, server: ScriptedServer) -> None:
        with pytest.raises(RuntimeError, match="async with"):
            await get(Transport(server.url, LongLivedToken(TOKEN), Limiter(7)))
        async with Transport(server.url, LongLivedToken(TOKEN), Limiter(7)) as transport:
            await transport.__aexit__(None, None, None)

    @pytest.mark.parametrize("address", ["", "acme.kommo.com", "/api", "https://"])
    async def test_an_address_that_is_none_is_refused(self, address: str) -> None:
        with pytest.raises(ConfigError, match=r"kommo\.base_url"):
            Transport(address, LongLivedToken(TOKEN), Limiter(7))

    async def test_a_path_in_the_address_is_dropped(self, server: ScriptedServer) -> None:
        server.replies = [reply(204)]
        async with Transport(f"{server.url}/leads/", LongLivedToken(TOKEN), Limiter(7)) as transport:
            await get(transport)
        assert server.received[0].target == "/api/v4/account"


class TestBody:
    def test_nulls_are_left_out_at_any_depth(self) -> None:
        body = [{"link": None, "params": {"uniq": "1", "call_result": None, "list": [None, {"a": None}]}, "zero": 0}]
        assert json.loads(encode("POST /x", body)) == [{"params": {"uniq": "1", "list": [{}]}, "zero": 0}]

    def test_text_that_is_no_unicode_is_mended(self) -> None:
        assert encode("POST /x", ["caf\udce9"]) == b'["caf?"]'

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes", {1, 2}])
    def test_what_is_no_json_is_refused_before_anything_is_sent(self, value: object) -> None:
        with pytest.raises(KommoRejected, match=r"POST /x was not sent") as caught:
            encode("POST /x", [{"name": value}])
        assert caught.value.status is None
        assert not caught.value.may_have_happened

    def test_a_bottomless_body_is_refused(self) -> None:
        body: list[Any] = []
        body.append(body)
        with pytest.raises(KommoRejected, match="was not sent"):
            encode("POST /x", body)


class TestAnswersOfKommo:
    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (problem(400), KommoRejected),
            (problem(401), KommoUnauthorized),
            (problem(402), KommoUnpaid),
            (problem(403), KommoForbidden),
            (reply(403, b"<html>403 Forbidden nginx</html>", kind="text/html"), KommoBlocked),
            (problem(404), KommoNotFound),
            (problem(422), KommoRejected),
            (problem(500), KommoFault),
            (reply(502, b"<html>bad gateway</html>", kind="text/html"), KommoFault),
            (problem(504), KommoTooHeavy),
            (reply(200, b"<html>hello</html>", kind="text/html"), KommoUnreachable),
            (reply(200, b'{"_embedded": '), KommoUnreachable),
        ],
    )
    async def test_each_has_its_error(
        self, server: ScriptedServer, transport: Transport, answer: bytes, kind: type[KommoError]
    ) -> None:
        server.replies = [answer]
        error = await refusal(transport)
        assert type(error) is kind
        assert len(server.received) == 1, "a write is never repeated here"
        status = int(answer.split(b" ", 2)[1])
        assert error.status == status
        assert error.may_have_happened is (status == 200 or status >= 500)

    async def test_a_giant_is_not_read_to_its_end(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [reply(200, b'"' + b"x" * (MOST_BYTES * 2) + b'"')]
        error = await refusal(transport)
        assert isinstance(error, KommoUnreachable)
        assert "longer than" in str(error)
        assert error.may_have_happened

    async def test_nor_is_one_that_grows_by_unpacking(self, server: ScriptedServer, transport: Transport) -> None:
        packed = gzip.compress(b" " * (MOST_BYTES * 8))
        server.replies = [reply(200, packed, head="Content-Encoding: gzip\r\n")]
        assert "longer than" in str(await refusal(transport))

    async def test_bytes_that_are_no_http(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]
        error = await refusal(transport)
        assert isinstance(error, KommoUnreachable)
        assert error.may_have_happened


class TestNoAnswer:
    @pytest.mark.parametrize("answer", [CLOSE, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", b"HTTP/1.1 20"])
    async def test_a_connection_that_breaks_after_sending_leaves_it_open(
        self, server: ScriptedServer, answer: bytes
    ) -> None:
        # The half answers hang after their bytes: the time-out ends them.
        async with Transport(server.url, LongLivedToken(TOKEN), Limiter(7), timeout_s=0.5) as transport:
            server.replies = [answer]
            error = await refusal(transport)
        assert isinstance(error, KommoUnreachable)
        assert error.may_have_happened
        assert len(server.received) == 1

    async def test_a_get_whose_connection_breaks_is_not_quietly_repeated(
        self, server: ScriptedServer, transport: Transport
    ) -> None:
        server.replies = [reply(204), CLOSE]
        await get(transport)
        with pytest.raises(KommoUnreachable, match="broke off"):
            await get(transport)
        assert len(server.received) == 2

    async def test_silence_ends_with_the_time_out(self, server: ScriptedServer) -> None:
        async with Transport(server.url, LongLivedToken(TOKEN), Limiter(7), timeout_s=0.5) as transport:
            server.replies = [HANG]
            begun = time.monotonic()
            error = await refusal(transport)
        assert time.monotonic() - begun < 5
        assert isinstance(error, KommoUnreachable)
        assert "nothing within 0.5 s" in str(error)
        assert error.may_have_happened

    async def test_a_request_is_under_way_until_the_other_end_has_all_of_it(self) -> None:
        limiter = Limiter(1)
        may_read = asyncio.Event()

        async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await may_read.wait()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(read, "127.0.0.1", 0) as listening:
            there = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            async with Transport(there, LongLivedToken(TOKEN), limiter) as transport:
                posting = asyncio.create_task(post(transport, ["x" * 900_000]))
                async with asyncio.timeout(10):
                    while not any(slot.is_under_way() for slot in limiter._held):
                        await asyncio.sleep(0.01)
                    (slot,) = limiter._held
                    may_read.set()
                    while slot.is_under_way():
                        await asyncio.sleep(0.01)
                posting.cancel()
                await asyncio.wait([posting])

    async def test_what_was_given_up_does_not_arrive_once_the_network_is_back(self, server: ScriptedServer) -> None:
        server.replies = [reply(200, {})] * 3
        async with Relay(("127.0.0.1", int(server.url.rpartition(":")[2]))).open() as cable:
            there = f"http://127.0.0.1:{cable.port}"
            async with Transport(there, LongLivedToken(TOKEN), Limiter(7), timeout_s=1.0) as transport:
                await get(transport)
                await cable.pull()
                assert isinstance(await refusal(transport), KommoUnreachable)
                async with asyncio.timeout(10):
                    while not cable.is_left:
                        await asyncio.sleep(0.01)
                await cable.plug()
                await get(transport)
        assert [received.method for received in server.received] == ["GET", "GET"]

    async def test_nobody_listening_is_surely_not_carried_out(self) -> None:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as closing:
            port = closing.sockets[0].getsockname()[1]
        async with Transport(f"http://127.0.0.1:{port}", LongLivedToken(TOKEN), Limiter(1)) as transport:
            for _ in range(20):  # at one request a second these would take long, had they been counted
                error = await refusal(transport)
                assert isinstance(error, KommoUnreachable)
                assert "Cannot connect to host" in str(error)
                assert not error.may_have_happened

    async def test_nor_is_what_got_no_connection_in_time(self, server: ScriptedServer) -> None:
        nowhere = server.url.replace("http:", "https:")  # it waits for a request, the client for a TLS greeting
        async with Transport(nowhere, LongLivedToken(TOKEN), Limiter(1), timeout_s=0.5) as transport:
            error = await refusal(transport)
        assert isinstance(error, KommoUnreachable)
        assert "no connection in time" in str(error)
        assert not error.may_have_happened

    async def test_a_caller_who_gives_up_frees_his_slot_for_others(self, server: ScriptedServer) -> None:
        async with Transport(server.url, LongLivedToken(TOKEN), Limiter(1), timeout_s=30) as transport:
            server.replies = [HANG, reply(204)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await get(transport)
            assert (await get(transport)).status == 204


class TestStandingStill:
    @pytest.mark.parametrize("is_connected", [False, True])
    async def test_what_was_about_to_go_out_waits_until_it_may_again(
        self, server: ScriptedServer, *, is_connected: bool
    ) -> None:
        """It was granted a slot; then the process stood still, until another node had it."""
        clock = StoppableClock()
        limiter = Limiter(2, clock=clock)
        made: list[str] = []

        def body() -> object:
            made.append("body")
            if len(made) == 1:
                clock.passed += 30.0
            return list(made)

        async with Transport(server.url, LongLivedToken(TOKEN), limiter) as transport:
            if is_connected:
                server.replies = [reply(204)]
                await get(transport)
                server.received.clear()
            limiter.resize(2, good_for=10.0)
            asked = asyncio.create_task(post(transport, body))
            while not made or not limiter.waiting:
                await asyncio.sleep(0)
                assert not asked.done()
            assert limiter.has_lapsed
            server.replies = [reply(200, {})]
            limiter.resize(2, good_for=10.0)
            assert (await asked).status == 200
        (got,) = server.received
        assert json.loads(got.body) == ["body", "body"], "made anew when it might go out"

    async def test_who_gives_up_meanwhile_has_sent_nothing(self, server: ScriptedServer) -> None:
        clock = StoppableClock()
        limiter = Limiter(1, clock=clock)

        def body() -> object:
            clock.passed += 30.0
            limiter.resize(0)
            return []

        async with Transport(server.url, LongLivedToken(TOKEN), limiter) as transport:
            asked = asyncio.create_task(post(transport, body))
            while not clock.passed or not limiter.waiting:
                await asyncio.sleep(0)
            asked.cancel()
            await asyncio.wait([asked])
            assert (asked.cancelled(), limiter.held, limiter.waiting) == (True, 0, 0)
        assert not server.received


class TestOutOfReach:
    async def test_it_is_so_after_a_while_of_trying_until_kommo_answers(
        self, server: ScriptedServer, transport: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(itgrix_kommo.kommo.transport, "SILENT_FOR", 0.3)
        server.replies = [CLOSE, CLOSE, reply(500)]
        seen = []
        for pause in (0.3, 0.0, 0.0):
            await refusal(transport)
            seen.append(transport.is_answered)
            await asyncio.sleep(pause)
        assert seen == [True, False, True], "a failure of Kommo's own is an answer"

    async def test_or_until_nobody_has_tried_for_a_while(
        self, server: ScriptedServer, transport: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(itgrix_kommo.kommo.transport, "SILENT_FOR", 0.0)
        monkeypatch.setattr(itgrix_kommo.kommo.transport, "TRY_AGAIN", 0.3)
        server.replies = [CLOSE]
        await refusal(transport)
        seen = [transport.is_answered]
        await asyncio.sleep(0.3)
        assert [*seen, transport.is_answered] == [False, True]


class TestOverload:
    async def test_retry_after_stops_everybody(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [problem(429, retry_after=300)]
        error = await refusal(transport)
        assert isinstance(error, KommoOverloaded)
        assert error.retry_after == 300
        assert 299 < transport.limiter.pause <= 300
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await get(transport)
        assert len(server.received) == 1

    async def test_without_advice_the_pause_doubles_until_something_else_is_answered(
        self, server: ScriptedServer
    ) -> None:
        pauses = []
        async with Transport(server.url, LongLivedToken(TOKEN), Limiter(7)) as transport:
            for answer in [*[reply(429, b"<html>slow down</html>")] * 3, reply(204), reply(429)]:
                transport.limiter = Limiter(7)  # the pause itself is not waited for
                server.replies = [answer]
                try:
                    await get(transport)
                except KommoOverloaded:
                    pauses.append(ceil(transport.limiter.pause))
        assert pauses == [1, 2, 4, 1]


class TestBlock:
    async def test_it_stops_every_request_until_a_probe_is_answered(self, server: ScriptedServer) -> None:
        seconds = [0.0]
        breaker = Breaker(lambda: seconds[0])
        html = reply(403, b"<html>403 Forbidden</html>", kind="text/html")
        async with Transport(server.url, LongLivedToken(TOKEN), Limiter(7), breaker=breaker) as transport:
            server.replies = [html, reply(204), reply(204)]
            assert isinstance(await refusal(transport), KommoBlocked)
            assert isinstance(await refusal(transport), KommoBlocked)
            assert len(server.received) == 1, "the second was never sent"
            seconds[0] += PROBE_EVERY
            await get(transport)
            await get(transport)
        assert len(server.received) == 3

    async def test_who_stands_in_the_queue_when_it_comes_is_not_sent(self, server: ScriptedServer) -> None:
        async with Transport(server.url, LongLivedToken(TOKEN), Limiter(1)) as transport:
            server.replies = [reply(403, b"<html>", kind="text/html")]
            first, second = await asyncio.gather(post(transport), post(transport), return_exceptions=True)
            assert isinstance(first, KommoBlocked)
            assert isinstance(second, KommoBlocked)
            assert (first.status, second.status) == (403, None)
        assert len(server.received) == 1

    async def test_json_after_a_429_is_a_block(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [problem(429, retry_after=0.01), problem(403)]
        assert isinstance(await refusal(transport), KommoOverloaded)
        assert isinstance(await refusal(transport), KommoBlocked)

    async def test_json_where_it_worked_before_is_a_block(self, server: ScriptedServer, transport: Transport) -> None:
        server.replies = [reply(200, {}), problem(403)]
        await post(transport)
        assert isinstance(await refusal(transport), KommoBlocked)


class RenewedToken:
    """As an OAuth grant: a refused token is replaced once."""

    def __init__(self) -> None:
        self.tokens = ["old", "new"]

    async def token(self) -> str:
        return self.tokens[0]

    async def renew(self, refused: str) -> bool:
        if refused == self.tokens[0] and len(self.tokens) > 1:
            self.tokens.pop(0)
        return refused != self.tokens[0]


class TestToken:
    async def test_a_renewed_token_gets_one_more_attempt(self, server: ScriptedServer) -> None:
        async with Transport(server.url, RenewedToken(), Limiter(7)) as transport:
            server.replies = [problem(401), reply(200, {}), problem(401)]
            await post(transport)
            assert isinstance(await refusal(transport), KommoUnauthorized)
        assert [got.headers["authorization"] for got in server.received] == ["Bearer old", "Bearer new", "Bearer new"]

    @pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "токен", "a\x00"])
    def test_what_can_be_no_token_is_refused_unseen(self, token: str) -> None:
        with pytest.raises(ConfigError, match=r"kommo\.access_token") as caught:
            LongLivedToken(token)
        assert not token.strip() or token not in str(caught.value)

    async def test_it_shows_nowhere(self, server: ScriptedServer) -> None:
        tokens: TokenSource = LongLivedToken(TOKEN)
        async with Transport(server.url, tokens, Limiter(7), timeout_s=0.5) as transport:
            server.replies = [reply(200, {}), problem(401), CLOSE, HANG]
            with capture_logs() as logs:
                await post(transport)
                for _ in range(3):
                    await refusal(transport)
            assert TOKEN not in repr([tokens, transport, logs])


class TestLog:
    async def test_every_request_has_its_line_without_the_query(
        self, server: ScriptedServer, transport: Transport
    ) -> None:
        server.replies = [reply(204), problem(500), CLOSE]
        with capture_logs() as logs:
            await transport.request("GET", "/api/v4/contacts", params=[("query", "2025550143")], priority=Priority.LIVE)
            await refusal(transport)
            await refusal(transport)
        lines = [line for line in logs if line["event"] == "kommo_request"]
        assert [(line["method"], line["path"], line["status"]) for line in lines] == [
            ("GET", "/api/v4/contacts", 204),
            ("POST", "/api/v4/calls", 500),
            ("POST", "/api/v4/calls", None),
        ]
        assert all(line["log_level"] == "debug" and 0 <= line["ms"] < 5000 for line in lines)
        assert "2025550143" not in repr(logs)
