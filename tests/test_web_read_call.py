"""Calls of the past over HTTP: who may ask, what is answered, and what becomes of a reading that somebody leaves."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from itgrix_kommo.errors import StorageError
from itgrix_kommo.pipeline.history import Fate, Read
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.registrations import Registrations
from itgrix_kommo.web import read_call
from itgrix_kommo.web.read_call import Past
from tests.past_calls import BEGIN, END, SCENES, filled_table, past_of
from tests.pbx_tables import MOSCOW
from tests.web_face import PASSWORD, Served, face_of

ADMIN = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}
PATH = "/pbx/read_call"
ANSWERED = SCENES["in_answered"].heard[0].id
WITHIN = 10.0


@pytest.fixture
async def registrations(tmp_path: Path) -> AsyncIterator[Registrations]:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db")
    yield Registrations(database, "pbx1")
    await database.close()


@pytest.fixture
async def face(tmp_path: Path, registrations: Registrations) -> AsyncIterator[Served]:
    past = past_of(await filled_table(tmp_path), registrations)
    async with face_of(tmp_path, past=past, node={"timezone": "Europe/Moscow"}) as served:
        yield served


async def get(face: Served, *pairs: tuple[str, str]) -> Any:
    answer = await face.ask("GET", PATH, headers=ADMIN, params=list(pairs))
    assert answer.status == 200, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    return answer.json


class TestByIds:
    async def test_one_in_the_query_twice(self, face: Served, registrations: Registrations) -> None:
        first = await get(face, ("id", ANSWERED))
        assert first == {
            "calls": [
                {
                    "call_id": ANSWERED,
                    "fate": "registered",
                    "reason": "",
                    "type": "incoming",
                    "client": SCENES["in_answered"].clients[0],
                    "ended": first["calls"][0]["ended"],
                }
            ],
            "counts": {"registered": 1, "already_registered": 0, "skipped": 0, "failed": 0},
            "error": None,
        }
        ended = datetime.fromisoformat(first["calls"][0]["ended"]).replace(tzinfo=MOSCOW).timestamp()
        assert BEGIN <= ended <= END + 1
        second = await get(face, ("id", ANSWERED))
        assert second["counts"] == {"registered": 0, "already_registered": 1, "skipped": 0, "failed": 0}
        assert len(await registrations.latest(10)) == 1

    async def test_many_in_a_body(self, face: Served) -> None:
        ids = [ANSWERED, SCENES["internal_answered"].heard[0].id, "1.1"]
        answer = await face.ask("POST", PATH, headers=ADMIN, json_body={"id": ids})
        told = [(one["fate"], one["reason"]) for one in answer.json["calls"]]
        assert told[:2] == [("registered", ""), ("skipped", "between employees")]
        assert told[2] == ("failed", "the CEL table has no row of it: give its linkedid or uniqueid")

    async def test_one_in_a_body(self, face: Served) -> None:
        answer = await face.ask("POST", PATH, headers=ADMIN, json_body={"id": ANSWERED})
        assert answer.json["counts"]["registered"] == 1


class TestByPeriod:
    @pytest.mark.parametrize(
        "form",
        [
            lambda at: f"{datetime.fromtimestamp(at, MOSCOW):%Y-%m-%d %H:%M:%S}",
            lambda at: str(int(at)),
            lambda at: datetime.fromtimestamp(int(at), MOSCOW).isoformat(),
        ],
        ids=["wall clock", "unix", "iso"],
    )
    async def test_in_three_forms(self, face: Served, form: Callable[[float], str]) -> None:
        told = await get(face, ("start_date", form(BEGIN)), ("end_date", form(END + 1)))
        assert told["counts"] == {"registered": 3, "already_registered": 0, "skipped": 1, "failed": 0}
        assert len(told["calls"]) == 4

    async def test_without_an_end_it_lasts_until_now(self, face: Served) -> None:
        answer = await face.ask("POST", PATH, headers=ADMIN, json_body={"start_date": int(BEGIN)})
        assert answer.json["counts"]["registered"] == 3

    async def test_one_in_which_nothing_happened(self, face: Served) -> None:
        told = await get(face, ("start_date", "2001-09-10 00:00:00"), ("end_date", "2001-09-11 00:00:00"))
        assert told == {"calls": [], "counts": dict.fromkeys(told["counts"], 0), "error": None}


class TestWhoMayAsk:
    async def test_the_administrator_alone(self, face: Served, registrations: Registrations) -> None:
        for headers in ({}, {"Authorization": "Bearer originate-token-of-tests"}):
            (await face.ask("GET", f"{PATH}?id={ANSWERED}", headers=headers)).refuses(401)
            (await face.ask("POST", PATH, headers=headers, json_body={"id": ANSWERED})).refuses(401)
        assert await registrations.latest(10) == []

    @pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("none", 200)])
    async def test_the_page_of_another_site_in_the_administrators_browser_may_not(
        self, face: Served, registrations: Registrations, site: str, status: int
    ) -> None:
        headers = {**ADMIN, "Sec-Fetch-Site": site}
        assert (await face.ask("GET", f"{PATH}?id={ANSWERED}", headers=headers)).status == status
        assert bool(await registrations.latest(10)) == (status == 200)

    async def test_a_head_does_nothing(self, face: Served, registrations: Registrations) -> None:
        assert (await face.ask("HEAD", f"{PATH}?id={ANSWERED}", headers=ADMIN)).status == 405
        assert await registrations.latest(10) == []


class TestBadInput:
    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("", "give either id"),
            ("id=", "id.0"),
            ("id=1%202", "id.0"),
            ("id=%00", "id.0"),
            ("id=1.1%0d%0aX", "id.0"),
            ("id=" + "1" * 151, "id.0"),
            ("id=%D0%BF", "id.0"),
            ("&".join("id=1.1" for _ in range(51)), "by POST"),
            ("id=1.1&start_date=2026-11-22", "give either id"),
            ("id=1.1&end_date=2026-11-22", "give either id"),
            ("end_date=2026-11-22", "give either id"),
            ("start_date=yesterday", "start_date: 'yesterday' is no time: write"),
            ("start_date=", "start_date"),
            ("start_date=20261122", "start_date: '20261122' is no time"),
            ("start_date=0001-01-01", "start_date"),
            ("start_date=" + "9" * 41, "start_date"),
            ("start_date=2026-11-22&end_date=2026-13-22", "end_date: "),
            ("start_date=2026-11-22&end_date=2026-11-21", "later than end_date"),
            ("start_date=2999-01-01", "later than end_date"),
            ("start_date=2026-11-22&start_date=2026-11-23", "start_date: given more than once"),
            ("start=2026-11-22", "start: "),
            ("start_date=2026-11-22&end_dat=2026-11-22", "end_dat: "),
        ],
    )
    async def test_in_the_query(self, face: Served, query: str, words: str) -> None:
        (await face.ask("GET", f"{PATH}?{query}", headers=ADMIN)).refuses(400, words)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{",
            b'{"id": []}',
            b'{"id": [1]}',
            b'{"id": 1}',
            b'{"id": {"a": "1.1"}}',
            b'{"id": ["1.1", null]}',
            b'{"start_date": true}',
            b'{"start_date": 1e300}',
            b'{"start_date": [2026]}',
            b'{"id": ["1.1"], "more": 1}',
            b"\xff\xfe",
            json.dumps({"id": ["1.1"] * 501}).encode(),
            b"[" * 30_000,
        ],
    )
    async def test_in_the_body(self, face: Served, body: bytes) -> None:
        headers = {**ADMIN, "Content-Type": "application/json"}
        answer = await face.ask("POST", PATH, headers=headers, data=body)
        answer.refuses(400)
        assert "Traceback" not in answer.text

    async def test_a_form_is_no_json_and_a_large_body_is_none_at_all(self, face: Served) -> None:
        (await face.ask("POST", PATH, headers=ADMIN, data={"id": "1.1"})).refuses(415)
        headers = {**ADMIN, "Content-Type": "application/json"}
        (await face.ask("POST", PATH, headers=headers, data=b" " * 70_000)).refuses(413)


class Hanging:
    """Calls that come when the test lets them: one for each `more`, then `failure` or the end."""

    def __init__(self) -> None:
        self.more = asyncio.Semaphore(0)
        self.last = False
        self.failure: StorageError | None = None
        self.ended = asyncio.Event()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Hanging]:
        try:
            yield self
        finally:
            self.ended.set()

    async def of_ids(self, ids: Sequence[str]) -> AsyncGenerator[Read]:
        while True:
            await self.more.acquire()
            if self.failure is not None:
                raise self.failure
            if self.last:
                return
            yield Read(ids[0], Fate.KNOWN, client="+79990000001" * 20)

    def of_period(self, since: float, until: float) -> AsyncGenerator[Read]:
        return self.of_ids([f"{since} {until}"])

    def end(self) -> None:
        self.last = True
        self.more.release()


@asynccontextmanager
async def hanging_face(directory: Path) -> AsyncIterator[tuple[Served, Hanging]]:
    calls = Hanging()
    async with face_of(directory, past=calls) as served:
        yield served, calls


class TestOneAtATime:
    async def test_a_second_one_is_told_so(self, tmp_path: Path) -> None:
        async with hanging_face(tmp_path) as (face, calls):
            calls.more.release()
            first = asyncio.create_task(get(face, ("id", "1.1")))
            async with asyncio.timeout(WITHIN):
                while not (going := (await face.ask("GET", "/status", headers=ADMIN)).json["read_call"]):
                    await asyncio.sleep(0.01)
            assert going.keys() == {"since", "registered", "already_registered", "skipped", "failed"}
            (await face.ask("GET", f"{PATH}?id=1.2", headers=ADMIN)).refuses(409, "another reading goes on since 2")
            calls.end()
            assert (await first)["counts"]["already_registered"] == 1
            assert (await face.ask("GET", "/status", headers=ADMIN)).json["read_call"] is None
            calls.more.release()
            assert (await get(face, ("id", "1.2")))["calls"] == []

    async def test_who_has_heard_the_end_may_ask_anew_at_once(self, face: Served) -> None:
        for _ in range(10):
            assert (await get(face, ("id", ANSWERED)))["error"] is None


class TestLongReadings:
    async def test_silence_is_broken_by_empty_lines(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(read_call, "BEAT", 0.05)
        monkeypatch.setattr(read_call, "LOOK", 0.02)
        async with (
            hanging_face(tmp_path) as (face, calls),
            asyncio.timeout(WITHIN),
            face.http.get(face.url + PATH, params={"id": "1.1"}, headers=ADMIN) as answer,
        ):
            assert await answer.content.read(1) == b"\n"
            calls.more.release()
            assert (await answer.content.readuntil(b"[")).strip() == b'{"calls": ['
            assert await answer.content.readline() == b"\n"
            assert await answer.content.read(1) == b"{"
            calls.end()
            rest = await answer.content.read()
        told = json.loads(b'{"calls": [{' + rest)
        assert [one["call_id"] for one in told["calls"]] == ["1.1"]

    async def test_what_was_told_holds_when_the_database_fails(self, tmp_path: Path) -> None:
        async with hanging_face(tmp_path) as (face, calls):
            calls.more.release()
            asked = asyncio.create_task(get(face, ("id", "1.1")))
            async with asyncio.timeout(WITHIN):
                while face.face.read_call.going is None or not any(face.face.read_call.going.counts.values()):
                    await asyncio.sleep(0.01)
            calls.failure = StorageError("database.url: the PBX's database failed: gone")
            calls.more.release()
            told = await asked
        assert told["error"] == "database.url: the PBX's database failed: gone"
        assert len(told["calls"]) == 1

    async def test_who_leaves_ends_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(read_call, "LOOK", 0.02)
        async with hanging_face(tmp_path) as (face, calls):
            calls.more.release()
            with capture_logs() as lines:
                async with face.http.get(face.url + PATH, params={"id": "1.1"}, headers=ADMIN) as answer:
                    await answer.content.readuntil(b"{")
                    answer.close()
                async with asyncio.timeout(WITHIN):
                    await calls.ended.wait()
                    while face.face.read_call.going is not None:
                        await asyncio.sleep(0.01)
            (ended,) = (line for line in lines if line["event"] == "read_call_ended")
            assert (ended["how"], ended["already_registered"]) == ("broken off", 1)
            assert not any(line["log_level"] == "error" for line in lines)
            calls.end()
            assert (await get(face, ("id", "1.1")))["error"] is None

    async def test_who_takes_nothing_is_let_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(read_call, "STALLED", 0.2)
        async with hanging_face(tmp_path) as (face, calls):
            _, writer = await asyncio.open_connection("127.0.0.1", face.config.http.port, limit=1024)
            login = ADMIN["Authorization"]
            writer.write(f"GET {PATH}?id=1.1 HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\n\r\n".encode())
            for _ in range(100_000):
                calls.more.release()
            async with asyncio.timeout(WITHIN):
                await calls.ended.wait()
            writer.close()

    async def test_a_daemon_that_stops_ends_it(self, tmp_path: Path) -> None:
        async with aiohttp.ClientSession() as http:
            with capture_logs() as lines:
                async with hanging_face(tmp_path) as (face, calls):
                    calls.more.release()
                    asked = http.get(face.url + PATH, params={"id": "1.1"}, headers=ADMIN)
                    answer = await asyncio.wait_for(asked, WITHIN)
                told = json.loads(await answer.read())
            assert len(told["calls"]) == 1
            assert "the daemon is stopping" in told["error"]
            assert [line["how"] for line in lines if line["event"] == "read_call_ended"] == ["broken off"]
            assert not any(line["log_level"] == "error" for line in lines)


class TestNoTable:
    async def test_none_is_configured(self, tmp_path: Path) -> None:
        async with face_of(tmp_path) as face:
            (await face.ask("GET", f"{PATH}?id=1.1", headers=ADMIN)).refuses(503, "database: not configured")
            (await face.ask("GET", f"{PATH}?id=", headers=ADMIN)).refuses(400)

    async def test_it_can_not_be_reached(self, tmp_path: Path, registrations: Registrations) -> None:
        past: Past = past_of("mysql+asyncmy://itgrix:password-of-tests@127.0.0.1:1/asteriskcdrdb", registrations)
        async with face_of(tmp_path, past=past) as face:
            answer = await face.ask("GET", f"{PATH}?id=1.1", headers=ADMIN)
            answer.refuses(503, "database.url: the PBX's database failed")
            assert "password-of-tests" not in answer.text
            assert face.face.read_call.going is None
