"""Whole calls out of real database servers, with the tables that FreePBX, PostgreSQL's users and SQLite's have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from itgrix_kommo.calls.cel import calls_of
from itgrix_kommo.calls.live_calls import age
from itgrix_kommo.config import PbxDatabase
from itgrix_kommo.errors import StorageError
from itgrix_kommo.pbx import cel as pbx_cel
from itgrix_kommo.pbx.cel import PbxCalls, WholeCall
from tests.cel_scenes import KEPT, Remembered, read
from tests.lab.truth import office, told
from tests.pbx_servers import mariadb, postgresql
from tests.pbx_tables import MARIADB, MOSCOW, POSTGRESQL, SQLITE, fill, run
from tests.test_cel import truths_of

pytestmark = pytest.mark.xdist_group("databases")

SCENES: dict[str, Remembered] = {path.stem: read(path) for path in sorted(KEPT.glob("22/*.json"))}
IN_TIME = sorted(SCENES.values(), key=lambda scene: scene.cel[0]["eventtime"])
BEGIN = IN_TIME[0].cel_rows()[0].at
END = IN_TIME[-1].cel_rows()[-1].at


async def fill_all(url: str) -> None:
    for scene in IN_TIME:
        await fill(url, scene.cel, scene.cdr)


@pytest.fixture(scope="module", params=["mariadb", "postgresql", "sqlite"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database with every scene's rows, in Moscow's time, for one who may read."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('pbx')}/master.db"
        asyncio.run(run(url, *SQLITE))
        asyncio.run(fill_all(url))
        yield url
        return
    server, tables = (mariadb, MARIADB) if request.param == "mariadb" else (postgresql, POSTGRESQL)
    with server() as (writer, reader):
        asyncio.run(run(writer, *tables))
        asyncio.run(fill_all(writer))
        yield reader


@asynccontextmanager
async def opened(url: str, **settings: object) -> AsyncIterator[PbxCalls]:
    calls = await PbxCalls.open(PbxDatabase.model_validate({"url": url, **settings}), MOSCOW)
    try:
        yield calls
    finally:
        await calls.close()


@pytest.fixture
async def calls(filled: str) -> AsyncIterator[PbxCalls]:
    async with opened(filled) as found:
        yield found


def of_scene(whole: list[WholeCall], scene: Remembered) -> list[WholeCall]:
    ids = {row["uniqueid"] for row in scene.cel}
    return [one for one in whole if one.rows[0].uniqueid in ids]


class TestPeriods:
    async def test_every_scene_becomes_its_truth(self, calls: PbxCalls) -> None:
        whole = [one async for one in calls.between(BEGIN - 1, END + 1)]
        assert all(one.is_over for one in whole)
        for name, scene in SCENES.items():
            found = [call for one in of_scene(whole, scene) for call in calls_of(one.rows, one.records, office())]
            found.sort(key=lambda call: (int(call.started_at), age(call.id)))  # whole seconds, in one of them
            truths = truths_of(KEPT / "22" / f"{name}.json")
            assert told(found, scene.clients, truths) == truths, name

    async def test_times_are_true_to_the_second(self, calls: PbxCalls) -> None:
        scene = SCENES["in_answered"]
        (whole,) = await calls.with_ids([scene.cel[0]["linkedid"]])
        (call,) = calls_of(whole.rows, whole.records, office())
        assert call.started_at == pytest.approx(scene.heard[0].started_at, abs=1.0)
        assert call.ended_at == pytest.approx(scene.heard[0].ended_at, abs=1.0)

    async def test_small_pages_make_no_difference(self, calls: PbxCalls, monkeypatch: pytest.MonkeyPatch) -> None:
        def shape(whole: list[WholeCall]) -> list[tuple[str, int, int]]:
            return sorted((one.rows[0].uniqueid, len(one.rows), len(one.records)) for one in whole)

        at_once = shape([one async for one in calls.between(BEGIN - 1, END + 1)])
        monkeypatch.setattr(pbx_cel, "PAGE", 17)
        monkeypatch.setattr(pbx_cel, "TOGETHER", 3)
        assert shape([one async for one in calls.between(BEGIN - 1, END + 1)]) == at_once

    async def test_a_period_within_a_call_gives_it_whole(self, calls: PbxCalls) -> None:
        scene = SCENES["mobile_after_phone"]
        rows = scene.cel_rows()
        middle = next(row.at for row in rows if row.event == "ANSWER")
        whole = [one async for one in calls.between(middle - 0.5, middle + 0.5)]
        (found,) = of_scene(whole, scene)
        assert len(found.rows) == len(rows)

    async def test_a_period_without_calls(self, calls: PbxCalls) -> None:
        assert [one async for one in calls.between(BEGIN - 9000, BEGIN - 8000)] == []


class TestIds:
    @pytest.mark.parametrize(
        "name", ["in_answered", "transfer_attended_by_refer", "pickup_directed", "parking_by_refer"]
    )
    async def test_any_id_of_a_call_gives_it_whole(self, calls: PbxCalls, name: str) -> None:
        scene = SCENES[name]
        for call_id in {row["uniqueid"] for row in scene.cel}:
            (whole,) = await calls.with_ids([call_id])
            assert len(whole.rows) == len(scene.cel)
            assert len(whole.records) == len(scene.cdr)

    @pytest.mark.parametrize("call_id", ["1.1", "' OR 1=1 --", "%", "", "\N{SNOWMAN}"])
    async def test_what_is_no_id_finds_nothing(self, calls: PbxCalls, call_id: str) -> None:
        assert await calls.with_ids([call_id]) == []


class TestOddTables:
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite+aiosqlite:///{tmp_path}/odd.db"

    async def made(self, url: str, *changes: str) -> None:
        await run(url, *SQLITE)
        scene = SCENES["hunt"]
        await fill(url, scene.cel, scene.cdr)
        await run(url, *changes)

    async def one(self, url: str, **settings: object) -> WholeCall:
        async with opened(url, **settings) as calls:
            (whole,) = [one async for one in calls.between(BEGIN - 1, END + 1)]
            return whole

    async def test_extra_under_another_name(self, url: str) -> None:
        await self.made(url, "ALTER TABLE cel RENAME extra TO more")
        whole = await self.one(url, column_name_aliases={"cel_extra": "more"})
        assert any(row.told("hangupcause") for row in whole.rows)

    async def test_no_extra_at_all(self, url: str) -> None:
        await self.made(url, "ALTER TABLE cel DROP extra")
        whole = await self.one(url)
        assert all(row.extra is None for row in whole.rows)
        (call,) = calls_of(whole.rows, whole.records, office())
        assert call.was_answered

    async def test_no_number_of_rows(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        await self.made(url, "CREATE TABLE cel2 AS SELECT * FROM cel", "ALTER TABLE cel2 DROP AcctId")
        whole = await self.one(url, cel_table="cel2")
        monkeypatch.setattr(pbx_cel, "PAGE", 2)
        again = await self.one(url, cel_table="cel2")
        assert list(whole.rows) == list(again.rows) == SCENES["hunt"].cel_rows()

    async def test_unix_seconds(self, url: str) -> None:
        to_unix = "UPDATE cel SET eventtime = unixepoch(eventtime, '-3 hours') || '.500000'"
        await self.made(url, to_unix)
        whole = await self.one(url)
        assert whole.rows[0].at == pytest.approx(SCENES["hunt"].cel_rows()[0].at, abs=1.0)

    async def test_no_cdr_table(self, url: str) -> None:
        await self.made(url, "DROP TABLE cdr")
        assert (await self.one(url)).records == []

    async def test_rows_of_rubbish(self, url: str) -> None:
        await self.made(
            url,
            "INSERT INTO cel (eventtype, eventtime, uniqueid, linkedid) VALUES ('HANGUP', 'soon', '1.1', '1.1')",
            "UPDATE cel SET extra = '{not json' WHERE eventtype = 'BRIDGE_ENTER'",
            "UPDATE cel SET extra = '[1, 2]' WHERE eventtype = 'BRIDGE_EXIT'",
            "UPDATE cel SET peer = NULL, cid_name = NULL",
        )
        whole = await self.one(url)
        assert len(whole.rows) == len(SCENES["hunt"].cel)

    async def test_names_in_any_encoding(self, url: str) -> None:
        await self.made(url, "UPDATE cel SET cid_name = CAST(x'c8e2e0ed' AS TEXT)")
        assert (await self.one(url)).rows[0].caller_name == "\N{REPLACEMENT CHARACTER}" * 4

    async def test_a_missing_column_is_named(self, url: str) -> None:
        await self.made(url, "ALTER TABLE cel RENAME channame TO channel")
        with pytest.raises(StorageError, match=r"no column channame: .*cel_channame"):
            await self.one(url)
        assert await self.one(url, column_name_aliases={"cel_channame": "channel"})

    async def test_a_missing_table_is_told(self, url: str) -> None:
        await self.made(url)
        with pytest.raises(StorageError, match=r"database\.cel_table: there is no table calls"):
            await self.one(url, cel_table="calls")

    async def test_nothing_can_be_written(self, url: str) -> None:
        await self.made(url)
        async with opened(url) as calls, calls._engine.connect() as connection:
            with pytest.raises(Exception, match="readonly"):
                await connection.exec_driver_sql("DELETE FROM cel")


@pytest.mark.parametrize("scheme", ["mysql+asyncmy", "postgresql+asyncpg"])
async def test_a_server_that_is_away_is_told_without_its_password(scheme: str) -> None:
    with pytest.raises(StorageError, match=r"database\.url") as refused:
        async with opened(f"{scheme}://asterisk:hunter2@127.0.0.1:1/asteriskcdrdb"):
            pass
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("setting", ["foo=bar", "connect_timeout=soon"])
async def test_a_setting_that_its_driver_does_not_know_is_told(setting: str) -> None:
    settings = PbxDatabase(url=f"mysql+asyncmy://itgrix:hidden@127.0.0.1:1/asteriskcdrdb?{setting}")
    with pytest.raises(StorageError, match=r"database\.url: what stands behind its \? .*: correct it") as refused:
        await PbxCalls.open(settings, None)
    assert "hidden" not in str(refused.value)
