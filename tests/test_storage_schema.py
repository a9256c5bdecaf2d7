"""The database's tables: made, completed and brought up to date, by whoever comes first and whatever happens."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage import database as databases
from itgrix_kommo.storage import schema
from itgrix_kommo.storage.database import LOCAL, Database
from itgrix_kommo.storage.memory import Memory, Part
from itgrix_kommo.storage.registrations import Registrations, State
from itgrix_kommo.storage.schema import History
from itgrix_kommo.storage.shared import SHARED, SharedDatabase, handed
from itgrix_kommo.storage.tokens import Tokens
from tests.pbx_servers import postgresql

pytestmark = pytest.mark.xdist_group("databases")

HEAD = LOCAL.revisions()[-1]
EARLIER = sorted(Path(__file__).with_name("schemas").glob("local_*.sql"))
"""Databases as each released version made them, with a few rows, and one of before there were revisions."""


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def made_by(script: Path, path: Path) -> Path:
    with sqlite3.connect(path) as connection:
        connection.executescript(script.read_text())
    connection.close()
    return path


def differences(connection: sa.Connection, history: History) -> list[object]:
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": history.version_table,
            "compare_server_default": True,
            # Beside them may stand others' tables.
            "include_name": lambda name, kind, _: kind != "table" or name in history.metadata.tables,
        },
    )
    return list(compare_metadata(context, history.metadata))


def as_of(connection: sa.Connection, history: History, revision: str) -> None:
    """Make the tables as they were at this revision."""
    scripts = ScriptDirectory(str(history.directory))
    context = MigrationContext.configure(
        connection,
        opts={"fn": lambda rev, _: scripts._upgrade_revs(revision, rev), "version_table": history.version_table},
    )
    with Operations.context(context):
        context.run_migrations()


HANDED_AS_OF_OLD = sa.text(
    """
    INSERT INTO handed (number, node, call_id, client, state, due_at, attempts, created_at, call, progress, reason,
                        version, worker, epoch, is_told)
    VALUES (1, 'pbx1', '1.1', '+7999', 'waiting', 0, 0, 0, '{}', '{}', '', 1, '', 'e', false),
           (2, 'pbx1', '1.2', '+7999', 'done', 0, 0, 0, '{}', '{}', '', 2, 'pbx1', 'e', true)
    """
)


async def assert_as_known(database: Database) -> None:
    assert await database.read(lambda connection: differences(connection, LOCAL)) == []
    version = sa.text("SELECT version_num FROM alembic_version")
    assert await database.read(lambda connection: connection.scalar(version)) == HEAD


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql() as (address, _):
        yield address


class TestRevisions:
    def test_they_follow_each_other_as_their_files_are_named(self) -> None:
        found = list(ScriptDirectory(str(LOCAL.directory)).walk_revisions())
        assert [one.revision for one in reversed(found)] == LOCAL.revisions()

    async def test_they_make_the_tables_that_the_program_knows(self, tmp_path: Path) -> None:
        database = await Database.open(url(tmp_path / "itgrix.db"))
        await assert_as_known(database)
        await database.close()

    @pytest.mark.parametrize("script", EARLIER, ids=lambda path: path.stem)
    async def test_they_bring_each_earlier_database_up_to_date(self, script: Path, tmp_path: Path) -> None:
        database = await Database.open(url(made_by(script, tmp_path / "itgrix.db")))
        await assert_as_known(database)
        registrations = Registrations(database, "pbx1")
        known = await registrations.by_call("1.2")
        assert known is not None
        assert (known.call_id, known.state, known.progress) == ("1.1", State.DONE, {"steps": ["wanted"]})
        assert [one.call_id for one in (await registrations.in_line(1e12, limit=9)).due] == ["2.1"]
        grant = await Tokens(database, "client").load()
        assert grant is not None
        assert grant.refresh_token == "refresh"
        await database.close()

    async def test_what_a_node_of_several_remembered_stays(self, tmp_path: Path) -> None:
        script = next(one for one in EARLIER if one.stem == "local_0003")
        database = await Database.open(url(made_by(script, tmp_path / "itgrix.db")))
        memory = Memory(database, "pbx1")
        part = await memory.part()
        assert part == Part(frozenset({1, 2, 3}), 17, "6d1f0c0e-5d0b-4f6e-9a3b-0b1f0a6f2c11", heard_at=None)
        assert [row.call_id for row in await memory.rows()] == ["1.1"]
        await memory.keep_part(part._replace(heard_at=1795365737.5))
        assert (await memory.part()).heard_at == 1795365737.5
        await database.close()

    async def test_half_the_tables_of_before_are_completed(self, tmp_path: Path) -> None:
        """The first start of an earlier version was cut short."""
        with sqlite3.connect(tmp_path / "itgrix.db") as connection:
            connection.execute("CREATE TABLE grants (client_id VARCHAR(64) NOT NULL PRIMARY KEY, "
                               "access_token TEXT NOT NULL, refresh_token TEXT NOT NULL, expires_at DOUBLE NOT NULL, "
                               "previous TEXT NOT NULL)")  # fmt: skip
        connection.close()
        database = await Database.open(url(tmp_path / "itgrix.db"))
        await assert_as_known(database)
        await database.close()

    async def test_tables_of_an_unknown_past_are_refused(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "itgrix.db") as connection:
            connection.execute("CREATE TABLE grants (client_id VARCHAR(64) NOT NULL PRIMARY KEY)")
        connection.close()
        for _ in range(2):  # and the refusal changes nothing
            with pytest.raises(StorageError, match=r"table grants has no access_token, .*: move that database away"):
                await Database.open(url(tmp_path / "itgrix.db"))

    async def test_a_database_of_a_newer_program_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "itgrix.db"
        await (await Database.open(url(path))).close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()
        with pytest.raises(StorageError, match=rf"storage\.url: its schema is 9999, .* knows {HEAD} at most"):
            await Database.open(url(path))

    async def test_what_was_cut_short_has_not_happened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = made_by(EARLIER[0], tmp_path / "itgrix.db")
        with sqlite3.connect(path) as connection:
            before = list(connection.iterdump())
        connection.close()

        def fail(*_: object) -> None:
            raise StorageError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(schema, "_check_columns", fail)
            with pytest.raises(StorageError, match="disk is full"):
                await Database.open(url(path))
        with sqlite3.connect(path) as connection:
            assert list(connection.iterdump()) == before
        connection.close()
        database = await Database.open(url(path))
        await assert_as_known(database)
        await database.close()


class TestShared:
    async def test_nodes_that_start_at_once_make_the_tables_that_the_program_knows(self, server: str) -> None:
        databases = [SharedDatabase(server) for _ in range(4)]
        await asyncio.gather(*(one.prepare() for one in databases))
        assert await databases[0].read(lambda connection: differences(connection, SHARED)) == []
        for one in databases:
            await one.close()

    @pytest.mark.parametrize("revision", SHARED.revisions()[:-1])
    async def test_each_earlier_schema_is_brought_up_to_date(self, server: str, revision: str) -> None:
        """By several nodes at once, with calls that wait and that are over."""
        engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(sa.text(f"CREATE DATABASE earlier_{revision}"))
        await engine.dispose()
        url = sa.make_url(server).set(database=f"earlier_{revision}").render_as_string(hide_password=False)
        databases = [SharedDatabase(url) for _ in range(3)]
        await databases[0].write(lambda connection: as_of(connection, SHARED, revision))
        await databases[0].write(lambda connection: connection.execute(HANDED_AS_OF_OLD))
        await asyncio.gather(*(one.prepare() for one in databases))
        assert await databases[0].read(lambda connection: differences(connection, SHARED)) == []
        ended = sa.select(handed.c.call_id, handed.c.ended_at > 0)
        assert dict(await databases[0].read(lambda connection: connection.execute(ended).all())) == {
            "1.1": None,
            "1.2": True if revision < "0003" else None,  # since then it is told when they end
        }
        for one in databases:
            await one.close()

    async def test_a_server_that_is_away_is_told_in_words(self) -> None:
        database = SharedDatabase("postgresql+asyncpg://itgrix:hidden@127.0.0.1:1/itgrix")
        with pytest.raises(
            StorageError, match=r"storage\.shared_url: the shared database failed: .*PostgreSQL"
        ) as told:
            await database.prepare()
        assert "hidden" not in str(told.value)
        await database.close()


class TestSeveralAtOnce:
    async def test_commands_on_a_new_file(self, tmp_path: Path) -> None:
        opened = await asyncio.gather(
            *(Database.open(url(tmp_path / "itgrix.db"), beside_daemon=True) for _ in range(4))
        )
        await assert_as_known(opened[0])
        for one in opened:
            await one.close()

    async def test_one_process_on_several_new_files(self, tmp_path: Path) -> None:
        opened = await asyncio.gather(*(Database.open(url(tmp_path / f"{number}.db")) for number in range(8)))
        for one in opened:
            await assert_as_known(one)
            await one.close()

    async def test_nodes_on_a_new_postgresql(self, server: str) -> None:
        opened = await asyncio.gather(*(Database.open(server) for _ in range(4)))
        await assert_as_known(opened[0])
        for one in opened:
            await one.close()

    async def test_a_command_changes_no_tables_under_an_older_daemon(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = made_by(EARLIER[0], tmp_path / "itgrix.db")
        lock = databases._claim(path)
        monkeypatch.setattr(databases, "MIGRATED_WITHIN", 0.0)
        with pytest.raises(StorageError, match="is of an older version: restart it"):
            await Database.open(url(path), beside_daemon=True)
        os.close(lock)
        await (await Database.open(url(path), beside_daemon=True)).close()


async def test_an_up_to_date_database_costs_no_alembic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await Database.open(url(tmp_path / "itgrix.db"))).close()
    refuse: Callable[..., None] = pytest.fail
    monkeypatch.setattr(schema, "_upgrade", refuse)
    await (await Database.open(url(tmp_path / "itgrix.db"))).close()
