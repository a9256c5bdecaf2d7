"""Rows that stand under another name than `node.name`: a daemon that does not take them for its own, and renaming."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from itgrix_kommo.config import load
from itgrix_kommo.errors import NameChanged, StorageError
from itgrix_kommo.opened import registrations
from itgrix_kommo.recordings.recording import Recording
from itgrix_kommo.storage.database import Database, remembered
from itgrix_kommo.storage.memory import Memory, Part, Remembered
from itgrix_kommo.storage.names import GRAVE, Kept, kept, misnamed, names, rename, see_whose
from itgrix_kommo.storage.recordings import RecordingTable
from itgrix_kommo.storage.registrations import NewRegistration, Registrations, State
from tests import test_cli
from tests.story import ended, inbound
from tests.test_cli import command, keep

config = test_cli.config


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/itgrix.db"


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await Database.open(url)
    yield opened
    await opened.close()


async def keep_some(database: Database, node: str, *states: State, first: int = 1) -> None:
    """Registrations under this name, one of each state."""
    registrations = Registrations(database, node)
    for number, state in enumerate(states, first):
        call_id = f"17953555{number:02}.1"
        kept_as = await registrations.keep(NewRegistration(call_id, frozenset({call_id}), "+7999", {"id": call_id}))
        assert kept_as is not None
        if state is not State.WAITING:
            await registrations.close(kept_as, state)


def remember(node: str, call_id: str, version: int, state: State = State.WAITING) -> Remembered:
    return Remembered(node, call_id, "+7999", state, 0.0, 0, 0.0, {"id": call_id}, {"uniq": call_id}, "", version)


class TestWhose:
    async def test_ones_own_rows_and_none_at_all_are_in_order(self, database: Database, url: str) -> None:
        assert await see_whose(database, url, "pbx1") is None
        await keep_some(database, "pbx1", State.WAITING)
        assert await see_whose(database, url, "pbx1") is None

    async def test_rows_of_another_name_alone_are_refused_with_both_remedies(
        self, database: Database, url: str, tmp_path: Path
    ) -> None:
        await keep_some(database, "pbx1", State.WAITING, State.FAILED, State.HANDED, State.DONE)
        with pytest.raises(NameChanged) as refused:
            await see_whose(database, url, "madrid")
        assert str(refused.value) == (
            f"node.name: this PBX is called madrid, but {tmp_path}/itgrix.db holds 4 registrations (1 waiting, 1 "
            "failed, 1 handed over) of pbx1, and none of madrid: if this PBX was renamed, type itgrix-kommo nodes "
            f"rename pbx1; if its disk was copied from another PBX, move {tmp_path}/itgrix.* away"
        )

    async def test_rows_of_both_names_are_only_told(self, database: Database, url: str) -> None:
        await keep_some(database, "pbx1", State.DONE)
        await keep_some(database, "madrid", State.DONE)
        told = await see_whose(database, url, "madrid")
        assert told is not None
        assert "1 registration (all finished) of pbx1 beside those of madrid" in told.words
        assert "itgrix-kommo nodes rename pbx1" in told.remedy

    async def test_several_former_names_are_all_told(self, tmp_path: Path) -> None:
        told = misnamed({"a": Kept(1), "b": Kept(2)}, "c", tmp_path / "itgrix.db")
        assert told is not None
        assert "of a and 2 registrations (all finished) of b" in told.words
        assert "itgrix-kommo nodes rename a and itgrix-kommo nodes rename b" in told.remedy

    @pytest.mark.parametrize("elsewhere", ["sqlite+aiosqlite://", "postgresql+asyncpg://itgrix@127.0.0.1:1/itgrix"])
    async def test_what_is_no_file_may_hold_rows_of_several_nodes(self, database: Database, elsewhere: str) -> None:
        await keep_some(database, "pbx1", State.DONE)
        assert await see_whose(database, elsewhere, "madrid") is None

    async def test_looking_costs_a_step_along_the_index_for_each_name(self, database: Database) -> None:
        await keep_some(database, "pbx1", *[State.DONE] * 9)
        await keep_some(database, "pbx2", State.DONE)

        def plan(connection: sa.Connection) -> str:
            asked = "EXPLAIN QUERY PLAN SELECT min(node) FROM registrations WHERE node > ''"
            return str([row.detail for row in connection.execute(sa.text(asked))])

        assert await database.read(names) == ["pbx1", "pbx2"]
        assert "SEARCH registrations USING COVERING INDEX" in await database.read(plan)


class TestRename:
    async def test_what_was_kept_is_known_and_seen_to_under_the_new_name(self, database: Database) -> None:
        await keep_some(database, "pbx1", State.WAITING, State.FAILED, State.DONE)
        former = Registrations(database, "pbx1")
        assert await former.forget_before(time.time() + 1, 9) == 1
        horizon = await former.horizon()
        assert await rename(database, "pbx1", "madrid") == Kept(2, waiting=1, failed=1)
        registrations = Registrations(database, "madrid")
        assert [one.call_id for one in (await registrations.in_line(time.time() + 1, limit=9)).due] == ["1795355501.1"]
        assert await registrations.retry(2, time.time())
        assert await registrations.horizon() == horizon
        again = NewRegistration("1795355509.1", frozenset({"1795355509.1", "1795355501.1"}), "+7999", {})
        assert await registrations.keep(again) is None
        assert await rename(database, "pbx1", "madrid") == Kept()

    async def test_of_two_horizons_and_parts_the_newer_one_stays(self, database: Database) -> None:
        for name, tick in (("pbx1", 7), ("madrid", 5)):
            await Memory(database, name).keep_part(Part(frozenset({tick}), tick, "epoch"))
        await rename(database, "pbx1", "madrid")
        assert await Memory(database, "madrid").part() == Part(frozenset({7}), 7, "epoch")
        assert await Memory(database, "pbx1").part() == Part()

    async def test_a_call_of_either_name_is_an_error_and_nothing_is_changed(self, database: Database) -> None:
        await keep_some(database, "pbx1", State.WAITING, State.DONE)
        await keep_some(database, "madrid", State.DONE, first=2)
        before = await database.read(kept)
        with pytest.raises(StorageError, match=r"1795355502\.1 is a call of pbx1 and of madrid alike"):
            await rename(database, "pbx1", "madrid")
        assert await database.read(kept) == before

    async def test_what_is_remembered_goes_along_and_leaves_what_outlasts_others_memory(
        self, database: Database
    ) -> None:
        memory = Memory(database, "pbx1")
        await memory.keep([remember("pbx1", "1.1", 3), remember("pbx2", "1.1", 4)])
        await rename(database, "pbx1", "madrid")
        rows = {(row.node, row.call_id): row for row in await memory.rows()}
        assert rows["madrid", "1.1"] == remember("madrid", "1.1", 3)
        assert rows["pbx2", "1.1"] == remember("pbx2", "1.1", 4)
        grave = rows["pbx1", "1.1"]
        assert (grave.state, grave.version, grave.client, grave.call) == (State.SKIPPED, GRAVE, "", {})

    async def test_renamed_back_nothing_is_left_in_its_way(self, database: Database) -> None:
        memory = Memory(database, "pbx1")
        await memory.keep([remember("pbx1", "1.1", 3)])
        await rename(database, "pbx1", "madrid")
        await rename(database, "madrid", "pbx1")
        versions = sa.select(remembered.c.node, remembered.c.version).order_by(remembered.c.node)
        found = await database.read(lambda connection: [tuple(row) for row in connection.execute(versions)])
        assert found == [("madrid", GRAVE), ("pbx1", 3)]


class TestStart:
    async def test_what_is_beside_ones_own_and_what_is_out_of_reach_are_in_the_log(
        self, database: Database, config: Path
    ) -> None:
        await keep_some(database, "madrid", State.DONE)
        await keep_some(database, "pbx1", State.HANDED, State.HANDED)
        with capture_logs() as lines:
            await registrations(load(config), database)
        beside, handed = lines
        assert (beside["event"], beside["log_level"]) == ("rows_of_another_name", "warning")
        assert "itgrix-kommo nodes rename madrid" in beside["remedy"]
        assert (handed["event"], handed["log_level"]) == ("rows_out_of_reach", "warning")
        assert handed["what"].startswith("2 registrations were handed over")

    async def test_of_ones_own_alone_nothing_is_said(self, database: Database, config: Path) -> None:
        await keep_some(database, "pbx1", State.DONE)
        with capture_logs() as lines:
            await registrations(load(config), database)
        assert lines == []


def call_it(config: Path, name: str) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), "node": {"name": name}}))


class TestCommands:
    async def test_a_renamed_pbx_is_refused_until_it_was_told_so(self, config: Path) -> None:
        await keep(config, ended(inbound()), State.FAILED, "Kommo refused it")
        call_it(config, "madrid")
        for arguments in (("run",), ("registrations", "retry", "1")):
            refused = command(*arguments, "--config", config)
            assert refused.returncode == 1
            assert "type itgrix-kommo nodes rename pbx1" in refused.stderr
            assert "Traceback" not in refused.stderr
        done = command("nodes", "rename", "pbx1", "--config", config)
        assert done.returncode == 0, done.stderr
        assert "pbx1 is madrid now:" in done.stdout
        assert "itgrix.db: 1 registration (1 failed)" in done.stdout
        assert command("registrations", "retry", "1", "--config", config).returncode == 0

    async def test_rename_as_json(self, config: Path) -> None:
        await keep(config, ended(inbound()))
        call_it(config, "madrid")
        done = command("nodes", "rename", "pbx1", "--json", "--config", config)
        here = {"registrations": 1, "waiting": 1, "failed": 0, "handed": 0}
        assert json.loads(done.stdout) == {"from": "pbx1", "to": "madrid", "here": here, "shared": None}

    async def test_rename_says_what_it_can_not_do(self, config: Path) -> None:
        missing = command("nodes", "rename", "pbx0", "--config", config)
        assert (missing.returncode, "nothing is kept here" in missing.stderr) == (1, True)
        await keep(config, ended(inbound()))
        itself = command("nodes", "rename", "pbx1", "--config", config)
        assert (itself.returncode, "give node.name its new name first" in itself.stderr) == (1, True)
        call_it(config, "madrid")
        typo = command("nodes", "rename", "[/b]\x1b[2J", "--config", config)
        assert typo.returncode == 1
        assert "what is kept here is under pbx1" in typo.stderr

    async def test_rename_needs_the_file_for_itself(self, config: Path) -> None:
        await keep(config, ended(inbound()))
        call_it(config, "madrid")
        database = await Database.open(f"sqlite+aiosqlite:///{config.with_name('itgrix.db')}")
        refused = command("nodes", "rename", "pbx1", "--config", config)
        await database.close()
        assert (refused.returncode, "stop it (systemctl stop itgrix_amo)" in refused.stderr) == (1, True)

    async def test_the_doctor_finds_it_beforehand(self, config: Path) -> None:
        await keep(config, ended(inbound()))
        call_it(config, "madrid")
        (found,) = storage_findings(config)
        assert (found["verdict"], "rename pbx1; if its disk was copied" in found["remedy"]) == ("fault", True)
        database = await Database.open(f"sqlite+aiosqlite:///{config.with_name('itgrix.db')}")
        await keep_some(database, "madrid", State.DONE)
        await database.close()
        own, other = storage_findings(config)
        assert (own["words"], other["verdict"]) == ("can be read: 1 done", "warning")
        assert "stop the daemon, type itgrix-kommo nodes rename pbx1, and start it again" in other["remedy"]

    async def test_the_doctor_tells_of_what_was_handed_over_by_one_that_is_alone_now(self, config: Path) -> None:
        await keep(config, ended(inbound()), State.HANDED)
        own, handed = storage_findings(config)
        assert (own["words"], handed["verdict"]) == ("can be read: 1 handed", "warning")
        assert handed["words"].startswith("1 registration was handed over to the nodes' database")

    async def test_a_person_is_forgotten_whatever_the_pbx_was_called_when_he_called(self, config: Path) -> None:
        await keep(config, ended(inbound(recording="call.wav")), State.DONE)
        url = f"sqlite+aiosqlite:///{config.with_name('itgrix.db')}"
        async with opened(url) as database:
            await RecordingTable(database).put(Recording("pbx1-1795355557.2", ("/call.wav",), "call", 0.0))
            await RecordingTable(database).put(Recording("pbx1-1795355558.2", ("/other.wav",), "call", 0.0))
        call_it(config, "madrid")
        erased = command("calls", "erase", "--phone", "+79990000001", "--yes", "--json", "--config", config)
        told = json.loads(erased.stdout)["erased"]
        assert (told["registrations"], told["recordings"]) == (1, 1), erased.stderr
        async with opened(url) as database:
            assert await RecordingTable(database).get("pbx1-1795355557.2") is None
            (row,) = await Registrations(database, "pbx1").latest(9)
        assert "9990000001" not in str(row)

    def test_list_of_one_that_is_alone_says_so(self, config: Path) -> None:
        shown = command("nodes", "list", "--json", "--config", config)
        assert (shown.returncode, json.loads(shown.stdout)) == (0, [])
        assert "storage.shared_url is not set: pbx1 shares the account with no other PBX" in shown.stderr


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = await Database.open(url)
    yield database
    await database.close()


def storage_findings(config: Path) -> list[dict[str, str]]:
    told = json.loads(command("check", "--json", "--config", config).stdout)["checks"]
    return [one for one in told if (one["group"], one["name"]) == ("storage", "database")]
