"""The daemon's own database: nothing is lost between a frame and its call's registration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.journal import Journal
from itgrix_kommo.storage.registrations import NewRegistration, Registrations, State


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(url(tmp_path / "itgrix.db"))
    yield opened
    await opened.close()


def row(call_id: str, *more: str, client: str = "+7999", state: State = State.WAITING) -> NewRegistration:
    return NewRegistration(call_id, frozenset({call_id, *more}), client, {"id": call_id}, state)


async def kept(journal: Journal, new: NewRegistration) -> int:
    number = await journal.finish(new.aliases, new)
    assert number is not None
    return number


class TestJournal:
    async def test_frames_come_back_in_the_order_they_were_fed(self, database: Database) -> None:
        journal = Journal(database, "pbx1")
        for number in range(3):
            journal.append(10.0 + number, "1.1", b"frame %d" % number)
        await journal.flush()
        assert await journal.read() == [(10.0, b"frame 0"), (11.0, b"frame 1"), (12.0, b"frame 2")]

    async def test_gathered_frames_are_written_by_themselves(self, database: Database) -> None:
        journal = Journal(database, "pbx1")
        running = asyncio.create_task(journal.run())
        journal.append(10.0, "1.1", b"frame")
        async with asyncio.timeout(5):
            while not await journal.read():
                await asyncio.sleep(0.01)
        running.cancel()

    async def test_an_ended_call_takes_its_frames_with_it_and_leaves_its_row(self, database: Database) -> None:
        journal = Journal(database, "pbx1")
        journal.append(10.0, "1.1", b"its own")
        journal.append(10.5, "2.1", b"another's")
        journal.append(11.0, "1.5", b"merged into it")
        await kept(journal, row("1.1", "1.5"))
        assert [entry.frame for entry in await journal.read()] == [b"another's"]
        assert (await Registrations(database, "pbx1").counts())[State.WAITING] == 1

    async def test_a_call_known_by_any_of_its_ids_is_not_kept_twice(self, database: Database) -> None:
        journal = Journal(database, "pbx1")
        await kept(journal, row("1.1", "1.2"))
        again = row("1.2", "1.9")
        assert await journal.finish(again.aliases, again) is None
        assert (await Registrations(database, "pbx1").counts())[State.WAITING] == 1

    async def test_the_same_id_on_another_node_is_another_call(self, database: Database) -> None:
        await kept(Journal(database, "pbx1"), row("1.1"))
        await kept(Journal(database, "pbx2"), row("1.1"))
        assert (await Registrations(database, "pbx2").counts())[State.WAITING] == 1

    async def test_frames_of_no_living_call_are_let_go(self, database: Database) -> None:
        journal = Journal(database, "pbx1")
        journal.append(10.0, "", b"a bridge long gone")
        journal.append(20.0, "", b"a bridge of now")
        await journal.flush()
        await journal.forget_before(15.0)
        assert [entry.frame for entry in await journal.read()] == [b"a bridge of now"]


class TestRegistrations:
    async def test_a_client_is_served_in_order_and_others_beside_him(self, database: Database) -> None:
        journal, registrations = Journal(database, "pbx1"), Registrations(database, "pbx1")
        first = await kept(journal, row("1.1", client="a"))
        second = await kept(journal, row("2.1", client="a"))
        third = await kept(journal, row("3.1", client="b"))
        assert [one.id for one in await registrations.due(1e12, limit=10)] == [first, third]
        assert [one.id for one in await registrations.due(1e12, limit=10, busy=["a"])] == [third]
        await registrations.close(first, State.DONE)
        assert [one.id for one in await registrations.due(1e12, limit=10)] == [second, third]

    async def test_a_postponed_one_holds_up_only_its_own_client(self, database: Database) -> None:
        journal, registrations = Journal(database, "pbx1"), Registrations(database, "pbx1")
        first = await kept(journal, row("1.1", client="a"))
        await kept(journal, row("2.1", client="a"))
        third = await kept(journal, row("3.1", client="b"))
        await registrations.postpone(first, due_at=2e12, reason="Kommo is away")
        assert [one.id for one in await registrations.due(1e12, limit=10)] == [third]
        found = await registrations.get(first)
        assert found is not None
        assert (found.attempts, found.reason) == (1, "Kommo is away")

    async def test_a_parked_failure_lets_its_followers_pass_and_can_be_retried(self, database: Database) -> None:
        journal, registrations = Journal(database, "pbx1"), Registrations(database, "pbx1")
        first = await kept(journal, row("1.1"))
        second = await kept(journal, row("2.1"))
        await registrations.close(first, State.FAILED, reason="refused")
        assert [one.id for one in await registrations.due(1e12, limit=10)] == [second]
        assert await registrations.retry(first, now=0.0)
        assert not await registrations.retry(second, now=0.0)
        assert [one.id for one in await registrations.due(1e12, limit=10)] == [first]


class TestOpening:
    async def test_what_was_written_is_there_after_reopening(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "itgrix.db"
        first = await Database.open(url(path))
        await kept(Journal(first, "pbx1"), row("1.1"))
        await first.close()
        second = await Database.open(url(path))
        assert (await Registrations(second, "pbx1").counts())[State.WAITING] == 1
        await second.close()

    async def test_only_the_daemons_user_may_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "itgrix.db"
        await (await Database.open(url(path))).close()
        assert path.stat().st_mode & 0o077 == 0

    async def test_a_second_daemon_is_refused_and_told_what_to_do(self, tmp_path: Path) -> None:
        first = await Database.open(url(tmp_path / "itgrix.db"))
        with pytest.raises(StorageError, match=r"another daemon uses .*systemctl stop"):
            await Database.open(url(tmp_path / "itgrix.db"))
        beside = await Database.open(url(tmp_path / "itgrix.db"), beside_daemon=True)
        await beside.close()
        await first.close()

    async def test_a_file_that_is_no_database_is_refused_in_words(self, tmp_path: Path) -> None:
        (tmp_path / "itgrix.db").write_bytes(b"this is no database at all, just text" * 100)
        with pytest.raises(StorageError, match=r"storage\.url"):
            await Database.open(url(tmp_path / "itgrix.db"))

    async def test_a_directory_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="can't be written"):
            await Database.open(url(tmp_path / "file" / "itgrix.db"))
