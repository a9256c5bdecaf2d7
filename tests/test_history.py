"""Calls of the past: kept once, whoever kept them first, and hurrying nobody."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.calls.cel import calls_of
from itgrix_kommo.calls.events import LinkedidEnd, Resync
from itgrix_kommo.calls.live_calls import STALE_AFTER
from itgrix_kommo.config import PbxDatabase
from itgrix_kommo.errors import StorageError
from itgrix_kommo.pbx.cel import PbxCalls
from itgrix_kommo.pipeline import history as history_module
from itgrix_kommo.pipeline.history import FORGOTTEN, HISTORY, Fate, Gaps, History, Read, fill_downtime, moment
from itgrix_kommo.pipeline.intake import CALL, registration_of
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.registrations import NewRegistration, Registrations, State
from tests.lab.stage import Lab
from tests.lab.truth import office
from tests.past_calls import BEGIN, END, SCENES, filled_table
from tests.pbx_tables import MOSCOW, run


@pytest.fixture
async def pbx_url(tmp_path: Path) -> str:
    return await filled_table(tmp_path)


@pytest.fixture
async def pbx(pbx_url: str) -> AsyncIterator[PbxCalls]:
    calls = await PbxCalls.open(PbxDatabase.model_validate({"url": pbx_url}), MOSCOW)
    yield calls
    await calls.close()


@pytest.fixture
async def registrations(tmp_path: Path) -> AsyncIterator[Registrations]:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db")
    yield Registrations(database, "pbx1")
    await database.close()


def fates(reads: list[Read]) -> dict[str, Fate]:
    names = {row["uniqueid"]: name for name, scene in SCENES.items() for row in scene.cel}
    return {names[one.call_id]: one.fate for one in reads}


class TestPeriods:
    async def test_calls_with_clients_are_kept_and_marked(self, pbx: PbxCalls, registrations: Registrations) -> None:
        history = History(pbx, registrations, office())
        reads = [one async for one in history.of_period(BEGIN, END)]
        assert fates(reads) == {
            "in_answered": Fate.REGISTERED,
            "internal_answered": Fate.SKIPPED,
            "out_busy": Fate.REGISTERED,
            "transfer_attended_by_refer": Fate.REGISTERED,
        }
        (skipped,) = (one for one in reads if one.fate is Fate.SKIPPED)
        assert skipped.reason == "between employees"
        rows = await registrations.latest(10)
        assert {row.state for row in rows} == {State.WAITING}
        assert all(row.call[HISTORY] is True for row in rows)
        assert {CALL.validate_python(row.call).id for row in rows} == {row.call_id for row in rows}

    async def test_what_was_cleaned_away_is_not_registered_again(
        self, pbx: PbxCalls, registrations: Registrations
    ) -> None:
        reads = [one async for one in History(pbx, registrations, office()).of_period(BEGIN, END)]
        kept = await registrations.latest(10)
        for row in kept[1:]:
            await registrations.close(row.id, State.DONE)
        assert await registrations.forget_before(time.time() + 1, 200) == len(kept) - 1
        again = [one async for one in History(pbx, registrations, office()).of_period(BEGIN, END)]
        assert [one.call_id for one in again if one.fate is Fate.KNOWN] == [kept[0].call_id]
        assert [one.reason for one in again if one.fate is Fate.SKIPPED].count(FORGOTTEN) == len(kept) - 1
        assert len(again) == len(reads)
        assert len(await registrations.latest(10)) == 1

    async def test_what_another_pbx_registers_is_not_kept(self, pbx: PbxCalls, registrations: Registrations) -> None:
        plan = office()
        plan.peer_trunks = frozenset({"PJSIP/trunk"})
        reads = [one async for one in History(pbx, registrations, plan).of_period(BEGIN, END)]
        assert "the PBX at the other end of PJSIP/trunk registers it" in {one.reason for one in reads}
        kept = [row.call["trunk"] for row in await registrations.latest(100)]
        assert "PJSIP/trunk" not in kept

    async def test_a_second_reading_keeps_nothing(self, pbx: PbxCalls, registrations: Registrations) -> None:
        for expected in (Fate.REGISTERED, Fate.KNOWN):
            history = History(pbx, registrations, office())
            told = fates([one async for one in history.of_period(BEGIN, END)])
            assert {fate for fate in told.values() if fate is not Fate.SKIPPED} == {expected}
        assert len(await registrations.latest(10)) == 3

    @pytest.mark.parametrize("name", ["in_answered", "transfer_attended_by_refer"])
    async def test_what_was_heard_live_is_known_by_any_of_its_ids(
        self, pbx: PbxCalls, registrations: Registrations, name: str
    ) -> None:
        (heard,) = SCENES[name].heard
        for alias in heard.aliases[-1:]:
            await registrations.keep(NewRegistration(alias, frozenset({alias}), "+7", {}))
        history = History(pbx, registrations, office())
        assert fates([one async for one in history.of_period(BEGIN, END)])[name] is Fate.KNOWN

    async def test_a_reading_that_was_broken_off_goes_on(self, pbx: PbxCalls, registrations: Registrations) -> None:
        reads = History(pbx, registrations, office()).of_period(BEGIN, END)
        first = await anext(reads)
        await reads.aclose()
        again = [one async for one in History(pbx, registrations, office()).of_period(BEGIN, END)]
        assert next(one for one in again if one.call_id == first.call_id).fate in {Fate.KNOWN, Fate.SKIPPED}
        assert len(await registrations.latest(10)) == 3

    async def test_whoever_delivers_is_told(self, pbx: PbxCalls, registrations: Registrations) -> None:
        told: list[None] = []
        history = History(pbx, registrations, office(), on_kept=lambda: told.append(None))
        _ = [one async for one in history.of_period(BEGIN, END)]
        assert len(told) == 3


class TestIds:
    async def test_each_id_tells_its_call_once(self, pbx: PbxCalls, registrations: Registrations) -> None:
        (heard,) = SCENES["transfer_attended_by_refer"].heard
        history = History(pbx, registrations, office())
        reads = [one async for one in history.of_ids([*heard.aliases, "1.1", heard.id])]
        assert [(one.call_id, one.fate) for one in reads] == [(heard.id, Fate.REGISTERED), ("1.1", Fate.FAILED)]
        assert "no row" in reads[1].reason


class TestUnfinished:
    async def without_ends(self, pbx_url: str) -> None:
        await run(pbx_url, "DELETE FROM cel WHERE eventtype IN ('HANGUP', 'CHAN_END', 'LINKEDID_END')")

    async def test_a_call_under_way_is_left_to_those_who_hear_it(
        self, pbx: PbxCalls, pbx_url: str, registrations: Registrations
    ) -> None:
        await self.without_ends(pbx_url)
        history = History(pbx, registrations, office(), now=lambda: END + 60)
        reads = [one async for one in history.of_ids([SCENES["in_answered"].heard[0].id])]
        assert [(one.fate, one.reason) for one in reads] == [(Fate.SKIPPED, "it has not ended yet")]

    async def test_one_that_a_crash_left_open_is_taken_for_ended(
        self, pbx: PbxCalls, pbx_url: str, registrations: Registrations
    ) -> None:
        await self.without_ends(pbx_url)
        history = History(pbx, registrations, office(), now=lambda: END + STALE_AFTER + 60)
        reads = [one async for one in history.of_ids([SCENES["in_answered"].heard[0].id])]
        assert [one.fate for one in reads] == [Fate.REGISTERED]


class TestFailures:
    async def test_a_call_that_is_not_understood_spoils_no_other(
        self, pbx: PbxCalls, registrations: Registrations, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        poisoned = SCENES["in_answered"].heard[0].id

        def misread(rows: Any, *more: Any) -> Any:
            if rows[0].linkedid == poisoned:
                raise KeyError("what")
            return calls_of(rows, *more)

        monkeypatch.setattr(history_module, "calls_of", misread)
        told = fates([one async for one in History(pbx, registrations, office()).of_period(BEGIN, END)])
        assert told.pop("in_answered") is Fate.FAILED
        assert Fate.FAILED not in told.values()

    async def test_a_database_that_goes_away_ends_the_reading(
        self, pbx: PbxCalls, pbx_url: str, registrations: Registrations
    ) -> None:
        await run(pbx_url, "DROP TABLE cel")
        with pytest.raises(StorageError, match=r"database\.url"):
            _ = [one async for one in History(pbx, registrations, office()).of_period(BEGIN, END)]


class TestDowntime:
    async def fill(self, pbx_url: str, registrations: Registrations) -> dict[str, Any]:
        """What the log tells of it."""
        database = PbxDatabase.model_validate({"url": pbx_url})
        with capture_logs() as logs:
            await fill_downtime(database, MOSCOW, registrations, office(), since=BEGIN, until=END)
        (told,) = (line for line in logs if line["event"].startswith("downtime_"))
        return dict(told)

    async def test_is_filled_and_told(self, pbx_url: str, registrations: Registrations) -> None:
        told = await self.fill(pbx_url, registrations)
        assert (told["event"], told["registered"], told["skipped"], told["failed"]) == ("downtime_filled", 3, 1, 0)
        assert len(await registrations.latest(10)) == 3

    async def test_a_table_that_is_away_is_told_with_the_remedy(
        self, pbx_url: str, registrations: Registrations
    ) -> None:
        await run(pbx_url, "DROP TABLE cel")
        told = await self.fill(pbx_url, registrations)
        assert told["event"] == "downtime_not_filled"
        assert told["remedy"].startswith("itgrix-kommo read-call --from ")

    async def test_a_server_that_is_away_stops_nobody(self, registrations: Registrations) -> None:
        told = await self.fill("mysql+asyncmy://itgrix:reads@127.0.0.1:1/asteriskcdrdb", registrations)
        assert told["event"] == "downtime_not_filled"


class Line:
    """A line of registrations that is as long as told, and moves while somebody waits."""

    def __init__(self, waiting: int, step: int) -> None:
        self.waiting = waiting
        self.step = step
        self.slept = 0.0
        self.kept: list[int] = []

    async def counts(self) -> dict[State, int]:
        return {State.WAITING: self.waiting // 2, State.HANDED: self.waiting - self.waiting // 2}

    async def horizon(self) -> float:
        return 0.0

    async def keep(self, _: NewRegistration) -> int:
        self.kept.append(self.waiting)
        return len(self.kept)

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.waiting -= self.step


class TestLowPriority:
    @pytest.fixture
    def take(self, pbx: PbxCalls, monkeypatch: pytest.MonkeyPatch) -> Callable[[Line], Awaitable[None]]:
        monkeypatch.setattr(history_module, "LOOK_AFTER", 1)

        async def take(line: Line) -> None:
            history = History(pbx, line, office(), sleep=line.sleep)  # type: ignore[arg-type]  # stands in for it
            _ = [one async for one in history.of_period(BEGIN, END)]

        return take

    async def test_waits_while_others_wait(self, take: Callable[[Line], Awaitable[None]]) -> None:
        line = Line(waiting=history_module.MOST_WAITING + 10, step=1)
        await take(line)
        assert line.kept[-1] == history_module.MOST_WAITING - 1
        assert len(line.kept) == 3

    async def test_waits_for_no_line_that_stands(self, take: Callable[[Line], Awaitable[None]]) -> None:
        line = Line(waiting=history_module.MOST_WAITING + 10, step=0)
        with capture_logs() as logs:
            await take(line)
        assert len(line.kept) == 3
        assert line.slept == history_module.LINE_STANDS_AFTER
        assert [entry["event"] for entry in logs].count("line_stands") == 1


class TestMoments:
    @pytest.mark.parametrize(
        "text",
        ["2026-11-22 17:38:52", "1795358332", "1795358332.0", "2026-11-22T14:38:52Z", "2026-11-22T16:38:52+02:00"],
    )
    def test_three_forms(self, text: str) -> None:
        assert moment(text, MOSCOW) == 1795358332

    def test_a_day_alone_is_its_first_moment(self) -> None:
        assert moment("2026-11-22", MOSCOW) == datetime(2026, 11, 22, tzinfo=MOSCOW).timestamp()

    @pytest.mark.parametrize(
        "text",
        [
            *("", "yesterday", "22.11.2026", "1e9", "-5", "99999999999999999999", "2026-02-30 10:00:00", "20261122"),
            *("2026", ".", "0001-01-01 00:00:00", "9999-12-31 23:59:59", "1" * 400, "²", "2026-11-22\x00"),
        ],
    )
    def test_anything_else_is_refused_with_the_forms(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no time: write"):
            moment(text, ZoneInfo("UTC"))


class TestCommand:
    @pytest.fixture
    def config(self, tmp_path: Path, pbx_url: str) -> Path:
        path = tmp_path / "config.json"
        path.write_text(
            json.dumps(
                {
                    "ami": {"username": "itgrix", "secret": "itgrix-secret"},
                    "kommo": {"base_url": "http://127.0.0.1:1", "access_token": "sandbox-token"},
                    "node": {"name": "pbx1", "timezone": "Europe/Moscow"},
                    "employees": [{"user_id": 101, "extension": "101"}, {"user_id": 102, "extension": "102"}],
                    "numbers": {"trunks": ["PJSIP/trunk"], "region": "RU"},
                    "database": {"url": pbx_url},
                    "storage": {"url": f"sqlite+aiosqlite:///{tmp_path}/itgrix.db"},
                }
            )
        )
        path.chmod(0o600)
        return path

    async def command(self, config: Path, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "itgrix_kommo", "read-call", "--config", str(config), *arguments,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def test_a_period_twice(self, config: Path, registrations: Registrations) -> None:
        for fate in ("registered", "already registered"):
            status, out, err = await self.command(
                config, "--from", str(int(BEGIN)), "--to", str(int(END) + 1), "--json"
            )
            told = {one["call_id"]: one["fate"] for one in map(json.loads, out.splitlines())}
            assert (status, err) == (0, "")
            assert sorted(told.values()) == sorted([fate, fate, fate, "skipped"])
        assert len(await registrations.latest(10)) == 3

    async def test_words_for_people(self, config: Path) -> None:
        status, out, _ = await self.command(config, "--id", SCENES["in_answered"].heard[0].id, "--id", "1.1")
        assert status == 1
        assert f"incoming {SCENES['in_answered'].clients[0]}  registered" in out
        assert "1.1" in out
        assert "failed: the CEL table has no row of it" in out
        assert "1 registered, 1 failed" in out

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("--to", "2026-11-22 10:00:00"),
            ("--id", "1.1", "--from", "2026-11-22 10:00:00"),
            ("--from", "yesterday"),
            ("--from", "2026-11-22 10:00:00", "--to", "2026-11-21 10:00:00"),
        ],
    )
    async def test_misuse(self, config: Path, arguments: tuple[str, ...]) -> None:
        status, _, err = await self.command(config, *arguments)
        assert status == 2
        assert "Traceback" not in err

    @pytest.fixture
    def config_without_database(self, config: Path) -> Path:
        settings = json.loads(config.read_text())
        del settings["database"]
        config.write_text(json.dumps(settings))
        return config

    async def test_without_a_database(self, config_without_database: Path) -> None:
        status, _, err = await self.command(config_without_database, "--id", "1.1")
        assert status == 1
        assert "database: not given" in err


async def test_the_same_rows_as_live_ones_are_made(pbx: PbxCalls, registrations: Registrations) -> None:
    """But for the mark, and for what CEL alone can't know."""
    scene = SCENES["in_answered"]
    _ = [one async for one in History(pbx, registrations, office()).of_ids([scene.heard[0].id])]
    (row,) = await registrations.latest(1)
    (call,) = calls_of(scene.cel_rows(), scene.cdr_rows(), office())
    live = registration_of(call, office())
    assert live is not None
    assert (row.call_id, row.client) == (live.call_id, live.client)
    assert row.call.keys() - live.call.keys() == {HISTORY}


@pytest.mark.lab
async def test_what_asterisk_wrote_a_moment_ago(lab: Lab, registrations: Registrations) -> None:
    """Out of the running PBX's own table: a call that nobody heard live."""
    begun = time.time()
    async with lab.cel():
        client = lab.client()
        await client.calls("4957770101")
        await lab.phone(101).answers()
        await client.talks(to=lab.phone(101))
        await client.hangs_up()
        await lab.quiet()
        table = lab.pair.pbx.folder / "log/master.db"
        pbx = await PbxCalls.open(PbxDatabase.model_validate({"url": f"sqlite+aiosqlite:///{table}"}), None)
        try:
            history = History(pbx, registrations, office())
            async with asyncio.timeout(10):
                while not (reads := [one async for one in history.of_period(begun - 1, time.time() + 1)]) or any(
                    one.fate is Fate.SKIPPED for one in reads
                ):
                    await asyncio.sleep(0.1)
        finally:
            await pbx.close()
    (read_back,) = reads
    assert (read_back.fate, read_back.type, read_back.client) == (Fate.REGISTERED, "incoming", client.number)
    (row,) = await registrations.latest(10)
    call = CALL.validate_python(row.call)
    assert call.responsible is not None
    assert (call.responsible.id, call.did) == (101, "4957770101")
    assert begun - 1 <= call.started_at <= time.time()


class TestGaps:
    async def test_the_spans_in_which_nobody_listened_are_told_in_order(self) -> None:
        gaps = Gaps()
        seen = Resync(110.0, 109.0, (), (), None)
        gaps.hear([(b"", seen), (b"", seen._replace(blind_since=90.0)), (b"", LinkedidEnd(120.0, "1.1"))])
        gaps.hear([(b"", seen._replace(at=210.0, blind_since=200.0))])
        assert [await gaps.next(), await gaps.next()] == [(90.0, 110.0), (200.0, 210.0)]
