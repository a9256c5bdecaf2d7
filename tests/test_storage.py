"""The daemon's own database: nothing is lost between a frame and its call's registration."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage import journal as storage_journal
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.files import lock_of
from itgrix_kommo.storage.journal import Journal, read_segments, segments_of
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


async def kept(registrations: Registrations, new: NewRegistration) -> int:
    number = await registrations.keep(new)
    assert number is not None
    return number


class TestJournal:
    def test_what_was_appended_is_there_at_once_for_the_next_daemon(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "journal")
        journal.append([(10.0, b"Event: A\r\nX: 1"), (11.0, b"Event: B")])
        journal.append([(12.0, b"Event: C")])
        assert Journal(tmp_path / "journal").read().frames == [
            (10.0, b"Event: A\r\nX: 1"),
            (11.0, b"Event: B"),
            (12.0, b"Event: C"),
        ]
        journal.close()

    def test_kept_calls_are_named(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "journal")
        journal.append([(10.0, b"Event: A")])
        journal.ended(frozenset({"1.1", "1.2"}))
        journal.append([(11.0, b"Event: B")])
        journal.close()
        left = Journal(tmp_path / "journal").read()
        assert left.ended == {"1.1", "1.2"}
        assert [frame for _, frame in left.frames] == [b"Event: A", b"Event: B"]

    def test_a_record_cut_off_by_a_power_cut_is_left_out(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "journal")
        journal.append([(10.0, b"Event: A"), (11.0, b"Event: B\r\nX: 1")])
        journal.close()
        (segment,) = (tmp_path / "journal").iterdir()
        whole = segment.read_bytes()
        for length in range(whole.index(b"@ 11"), len(whole)):
            segment.write_bytes(whole[:length])
            assert [frame for _, frame in Journal(tmp_path / "journal").read().frames] == [b"Event: A"]

    def test_a_damaged_file_costs_only_itself(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "journal", segment_bytes=1)
        journal.append([(10.0, b"Event: A")])
        journal.append([(11.0, b"Event: B")])
        journal.close()
        first, _ = sorted((tmp_path / "journal").iterdir())
        first.write_bytes(b"\x00\xff no trace at all\n\n")
        assert [frame for _, frame in Journal(tmp_path / "journal").read().frames] == [b"Event: B"]

    def test_files_move_aside_when_nothing_alive_began_before_their_end(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "journal", segment_bytes=1)
        for number in range(3):
            journal.append([(10.0 + number, b"Event: A")])
        journal.forget_before(time.time() - 60)
        assert len(list((tmp_path / "journal").iterdir())) == 3
        journal.forget_before(time.time() + 60)
        assert [path.name for path in segments_of(tmp_path / "journal")] == ["00000003.trace"]
        journal.append([(20.0, b"Event: B")])
        journal.close()
        aside = segments_of(tmp_path / "journal" / "ended")
        assert [at for at, _ in read_segments(aside).frames] == [10.0, 11.0]
        assert [at for at, _ in Journal(tmp_path / "journal").read().frames] == [12.0, 20.0]

    def test_a_name_that_moved_aside_is_not_given_again(self, tmp_path: Path) -> None:
        for at in (10.0, 11.0):
            journal = Journal(tmp_path / "journal")
            journal.append([(at, b"Event: A")])
            journal.close()
            Journal(tmp_path / "journal").forget_before(time.time() + 60)
        assert len(segments_of(tmp_path / "journal" / "ended")) == 2

    async def test_a_full_disk_is_told_once_and_costs_nothing_once_it_has_room(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(tmp_path / "journal")

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with capture_logs() as logs, monkeypatch.context() as patched:
            patched.setattr("os.write", full)
            journal.append([(10.0, b"Event: A")])
            journal.append([(11.0, b"Event: B")])
        assert [line["event"] for line in logs] == ["journal_not_written"]
        assert "No space left" in journal.error
        assert journal.held_bytes > 0
        await journal.sync()
        assert (journal.error, journal.held_bytes) == ("", 0)
        journal.append([(12.0, b"Event: C")])
        journal.close()
        assert [at for at, _ in Journal(tmp_path / "journal").read().frames] == [10.0, 11.0, 12.0]

    def test_what_waits_for_room_has_a_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storage_journal, "MOST_HELD", 1000)
        journal = Journal(tmp_path / "journal")

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with capture_logs() as logs, monkeypatch.context() as patched:
            patched.setattr("os.write", full)
            for number in range(100):
                journal.append([(float(number), b"Event: A")])
        assert [line["event"] for line in logs] == ["journal_not_written", "journal_lost"]
        assert journal.held_bytes <= 1000
        journal.append([(100.0, b"Event: B")])
        journal.close()
        times = [at for at, _ in Journal(tmp_path / "journal").read().frames]
        assert times == [float(number) for number in range(101 - len(times), 101)]

    def test_half_a_message_on_a_full_disk_spoils_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(tmp_path / "journal")
        journal.append([(10.0, b"Event: A")])
        write = os.write

        def half_full(file: int, records: bytes) -> int:
            if len(records) < 10:
                raise OSError(28, "No space left on device")
            return write(file, records[:-5])

        with monkeypatch.context() as patched:
            patched.setattr("os.write", half_full)
            journal.append([(11.0, b"Event: Hangup\r\nX: 1")])
        journal.append([(12.0, b"Event: C\r\nX: 2")])
        journal.close()
        assert Journal(tmp_path / "journal").read().frames == [
            (10.0, b"Event: A"),
            (11.0, b"Event: Hangup\r\nX: 1"),
            (12.0, b"Event: C\r\nX: 2"),
        ]

    @pytest.mark.parametrize("broken", [b"a\n\n# ended 1.1\n\nEvent: Hangup", b"a\rb\r", b"\n@ 1.0\nX: 2\n"])
    def test_a_value_with_line_breaks_makes_no_message_of_its_own(self, tmp_path: Path, broken: bytes) -> None:
        journal = Journal(tmp_path / "journal")
        journal.append([(10.0, b"Event: A\r\nX: " + broken + b"\r\nY: 2"), (11.0, b"Event: B")])
        journal.close()
        frames, ended = Journal(tmp_path / "journal").read()
        one_line = broken.replace(b"\r", b" ").replace(b"\n", b" ")
        assert frames == [(10.0, b"Event: A\r\nX: " + one_line + b"\r\nY: 2"), (11.0, b"Event: B")]
        assert not ended

    def test_only_the_daemons_user_may_read_it(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "journal")
        journal.append([(10.0, b"Event: A")])
        journal.close()
        (segment,) = (tmp_path / "journal").iterdir()
        assert segment.stat().st_mode & 0o077 == 0

    def test_a_directory_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="can't be used"):
            Journal(tmp_path / "file" / "journal")


class TestRegistrations:
    async def test_a_call_known_by_any_of_its_ids_is_not_kept_twice(self, database: Database) -> None:
        registrations = Registrations(database, "pbx1")
        await kept(registrations, row("1.1", "1.2"))
        assert await registrations.keep(row("1.2", "1.9")) is None
        assert (await registrations.counts())[State.WAITING] == 1

    async def test_of_several_calls_each_is_kept_once_and_in_order(self, database: Database) -> None:
        registrations = Registrations(database, "pbx1")
        await kept(registrations, row("1.1", "1.2"))
        news = [row("2.1", "2.2"), row("1.2", "1.9"), row("2.2", "3.1"), row("3.1", client="b"), row("0.1")]
        numbers = await registrations.keep_all(news)
        assert [number is not None for number in numbers] == [True, False, False, True, True]
        assert [one.call_id for one in await registrations.latest(9)] == ["0.1", "3.1", "2.1", "1.1"]

    async def test_the_same_id_on_another_node_is_another_call(self, database: Database) -> None:
        await kept(Registrations(database, "pbx1"), row("1.1"))
        await kept(Registrations(database, "pbx2"), row("1.1"))
        assert (await Registrations(database, "pbx2").counts())[State.WAITING] == 1

    async def test_a_client_is_served_in_order_and_others_beside_him(self, database: Database) -> None:
        registrations = Registrations(database, "pbx1")
        first = await kept(registrations, row("1.1", client="a"))
        second = await kept(registrations, row("2.1", client="a"))
        third = await kept(registrations, row("3.1", client="b"))
        assert [one.id for one in (await registrations.in_line(1e12, limit=10)).due] == [first, third]
        assert [one.id for one in (await registrations.in_line(1e12, limit=10, busy=["a"])).due] == [third]
        await registrations.close(first, State.DONE)
        assert [one.id for one in (await registrations.in_line(1e12, limit=10)).due] == [second, third]

    async def test_a_postponed_one_holds_up_only_its_own_client(self, database: Database) -> None:
        registrations = Registrations(database, "pbx1")
        first = await kept(registrations, row("1.1", client="a"))
        await kept(registrations, row("2.1", client="a"))
        third = await kept(registrations, row("3.1", client="b"))
        await registrations.postpone(first, due_at=2e12, reason="Kommo is away")
        assert [one.id for one in (await registrations.in_line(1e12, limit=10)).due] == [third]
        found = await registrations.get(first)
        assert found is not None
        assert (found.attempts, found.reason) == (1, "Kommo is away")

    async def test_who_stands_behind_a_postponed_one_is_due_after_it(self, database: Database) -> None:
        registrations = Registrations(database, "pbx1")
        first = await kept(registrations, row("1.1"))
        await registrations.postpone(first, due_at=time.time() + 60, reason="Kommo is away")
        await kept(registrations, row("1.2"))
        line = await registrations.in_line(time.time(), limit=10)
        assert not line.due
        assert line.next_at is not None
        assert line.next_at > time.time() + 50
        assert (await registrations.in_line(time.time(), limit=10, busy=["+7999"])).next_at is None

    async def test_a_parked_failure_lets_its_followers_pass_and_can_be_retried(self, database: Database) -> None:
        registrations = Registrations(database, "pbx1")
        first = await kept(registrations, row("1.1"))
        second = await kept(registrations, row("2.1"))
        await registrations.close(first, State.FAILED, reason="refused")
        assert [one.id for one in (await registrations.in_line(1e12, limit=10)).due] == [second]
        assert await registrations.retry(first, now=0.0)
        assert not await registrations.retry(second, now=0.0)
        assert [one.id for one in (await registrations.in_line(1e12, limit=10)).due] == [first]


class TestTransactions:
    """Who waits for the database together shares a transaction, and nothing else."""

    async def test_one_that_fails_takes_no_other_with_it(self, database: Database) -> None:
        registrations = Registrations(database, "pbx1")

        def broken(connection: sa.Connection) -> None:
            connection.execute(sa.text("UPDATE registrations SET reason = 'half done'"))
            connection.execute(sa.text("SELECT * FROM nowhere"))

        first, failure, second = await asyncio.gather(
            registrations.keep(row("1.1")),
            database.write(broken),
            registrations.keep(row("2.1")),
            return_exceptions=True,
        )
        assert isinstance(failure, StorageError)
        assert [(one.id, one.reason) for one in await registrations.latest(5)] == [(second, ""), (first, "")]

    async def test_a_fault_of_ours_is_theirs_who_asked(self, database: Database) -> None:
        def broken(_: sa.Connection) -> None:
            raise ZeroDivisionError

        results = await asyncio.gather(
            *(database.read(broken) for _ in range(2)), database.read(lambda _: "found"), return_exceptions=True
        )
        assert [type(one) for one in results] == [ZeroDivisionError, ZeroDivisionError, str]

    async def test_a_file_that_another_holds_is_told_in_words_and_waited_for_once(
        self, database: Database, tmp_path: Path
    ) -> None:
        registrations = Registrations(database, "pbx1")
        await database.read(lambda connection: connection.execute(sa.text("PRAGMA busy_timeout=50")))
        other = sqlite3.connect(tmp_path / "itgrix.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        failures = await asyncio.gather(
            *(registrations.keep(row(f"{number}.1")) for number in range(3)), return_exceptions=True
        )
        assert [str(one) for one in failures] == [
            "storage.url: the database failed: database is locked: end what holds it open"
        ] * 3
        other.close()
        await kept(registrations, row("1.1"))

    async def test_who_gave_up_waiting_is_not_served(self, database: Database) -> None:
        registrations = Registrations(database, "pbx1")
        asked = [asyncio.create_task(registrations.keep(row(f"{number}.1"))) for number in range(2)]
        await asyncio.sleep(0)
        asked[1].cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert [one.call_id for one in await registrations.latest(5)] == ["0.1"]


class TestOpening:
    async def test_what_was_written_is_there_after_reopening(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "itgrix.db"
        first = await Database.open(url(path))
        await kept(Registrations(first, "pbx1"), row("1.1"))
        await first.close()
        second = await Database.open(url(path))
        assert (await Registrations(second, "pbx1").counts())[State.WAITING] == 1
        await second.close()

    async def test_only_the_daemons_user_may_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "itgrix.db"
        await (await Database.open(url(path))).close()
        assert path.stat().st_mode & 0o077 == 0

    async def test_what_a_command_makes_first_is_the_daemons_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`login` keeps tokens before the daemon's first start, and root may run it."""
        given: list[tuple[Path, int, int]] = []
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr("os.chown", lambda path, *owner: given.append((path, *owner)))
        path = tmp_path / "state" / "itgrix.db"
        for _ in range(2):
            await (await Database.open(url(path), beside_daemon=True)).close()
        assert path.stat().st_mode & 0o077 == 0
        owner = (path.parent.stat().st_uid, path.parent.stat().st_gid)
        assert given == [(path, *owner), (lock_of(path), *owner)]

    async def test_roots_daemon_does_not_lock_the_services_user_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "state"
        home.mkdir()
        if os.geteuid() == 0:
            os.chown(home, 65534, 65534)
        monkeypatch.setattr("os.geteuid", lambda: 0)
        with pytest.raises(StorageError, match=f"type runuser -u {home.owner()} -- itgrix-kommo run"):
            await Database.open(url(home / "itgrix.db"))
        assert list(home.iterdir()) == []

    async def test_a_second_daemon_is_refused_and_told_what_to_do(self, tmp_path: Path) -> None:
        first = await Database.open(url(tmp_path / "itgrix.db"))
        with pytest.raises(StorageError, match=rf"another daemon \(pid {os.getpid()}\) uses .*systemctl stop"):
            await Database.open(url(tmp_path / "itgrix.db"))
        beside = await Database.open(url(tmp_path / "itgrix.db"), beside_daemon=True)
        await beside.close()
        await first.close()

    async def test_a_file_that_is_no_database_is_refused_in_words(self, tmp_path: Path) -> None:
        (tmp_path / "itgrix.db").write_bytes(b"this is no database at all, just text" * 100)
        with pytest.raises(StorageError, match=r"storage\.url: .*: move that file away"):
            await Database.open(url(tmp_path / "itgrix.db"))

    async def test_a_server_that_cannot_be_had_is_told_in_words(self) -> None:
        """Whether its driver is missing or the server away."""
        with pytest.raises(StorageError, match=r"asyncpg is not installed: install it|the database failed") as refused:
            await Database.open("postgresql+asyncpg://itgrix:hidden@127.0.0.1:1/itgrix")
        assert "hidden" not in str(refused.value)

    async def test_a_directory_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="can't be written"):
            await Database.open(url(tmp_path / "file" / "itgrix.db"))
