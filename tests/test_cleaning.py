"""The cleaning: what is over and old goes, what waits or failed stays, and nothing old is registered twice for it."""

from __future__ import annotations

import gzip
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.listings import Client, Listing
from itgrix_kommo.recordings.recording import Recording
from itgrix_kommo.storage.chronicle import DAY, Chronicle, days_of, lines
from itgrix_kommo.storage.cleaning import Cleaning, Forgotten, Rows
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.files import CHRONICLE, JOURNAL
from itgrix_kommo.storage.journal import ENDED, Journal, read_segments, segments_of
from itgrix_kommo.storage.phonebook import PhonebookRows
from itgrix_kommo.storage.recordings import RecordingTable
from itgrix_kommo.storage.registrations import NewRegistration, Registrations, State

NOW = time.time()
LONG_AGO, LATELY = NOW - 91 * DAY, NOW - 89 * DAY


class Place:
    def __init__(self, directory: Path, database: Database) -> None:
        self.files = directory / "itgrix.files"
        self.path = directory / "itgrix.db"
        self.registrations = Registrations(database, "pbx1")
        self.phones = PhonebookRows(database)
        self.recordings = RecordingTable(database)

    def cleaning(self, *, link_days: float | None = None, spare: int = 0) -> Cleaning:
        rows = Rows(self.registrations.forget_before, self.phones.forget_before, self.recordings.forget_before)
        return Cleaning(rows, self.files, days=lambda: 90, link_days=link_days, now=lambda: NOW, spare=spare)

    async def keep(self, call_id: str, state: State, kept_at: float) -> None:
        new = NewRegistration(call_id, frozenset({call_id, f"{call_id}9"}), "+7999", {"id": call_id}, state)
        number = await self.registrations.keep(new)
        with sqlite3.connect(self.path) as connection:
            connection.execute("UPDATE registrations SET created_at = ? WHERE id = ?", (kept_at, number))

    async def left(self) -> set[str]:
        return {row.call_id for row in await self.registrations.latest(1000)}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db")
    yield Place(tmp_path, database)
    await database.close()


class TestRows:
    async def test_what_is_over_and_old_goes_with_all_its_names(self, place: Place) -> None:
        for state in State:
            await place.keep(f"{state}-old", state, LONG_AGO)
            await place.keep(f"{state}-new", state, LATELY)
        assert await place.registrations.horizon() == 0.0
        with capture_logs() as logs:
            assert await place.cleaning().clean() == Forgotten(registrations=2)
        gone = {"done-old", "skipped-old"}
        assert await place.left() == {f"{state}-{age}" for state in State for age in ("old", "new")} - gone
        assert await place.registrations.by_call("done-old9") is None
        assert await place.registrations.by_call("failed-old9") is not None
        assert await place.registrations.horizon() == pytest.approx(NOW - 90 * DAY)
        assert [(line["event"], line["registrations"]) for line in logs] == [("cleaned", 2)]

    async def test_many_go_in_portions(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("itgrix_kommo.storage.cleaning.PORTION", 3)
        for number in range(7):
            await place.keep(f"1.{number}", State.DONE, LONG_AGO)
        assert (await place.cleaning().clean()).registrations == 7
        assert await place.left() == set()

    async def test_nothing_to_do_is_no_news(self, place: Place) -> None:
        with capture_logs() as logs:
            assert await place.cleaning().clean() == Forgotten()
        assert logs == []
        assert await place.registrations.horizon() == 0.0

    async def test_who_was_not_met_is_forgotten(self, place: Place) -> None:
        client = Client("contacts", 1, "Ivan", 0, ("+7999",))
        listings = [(Listing(phone, (client,), NOW), met) for phone, met in (("79991", LONG_AGO), ("79992", LATELY))]
        await place.phones.save(listings, [])
        assert (await place.cleaning().clean()).phones == 1
        assert [one.phone for one, _ in await place.phones.load(9)] == ["79992"]

    async def test_recordings_are_found_as_long_as_their_links_work(self, place: Place) -> None:
        for name, at in (("old", NOW - 31 * DAY), ("new", NOW - 29 * DAY)):
            await place.recordings.put(Recording(name, ("/x.wav",), "x", at))
        assert (await place.cleaning().clean()).recordings == 0
        assert (await place.cleaning(link_days=30).clean()).recordings == 1
        assert await place.recordings.get("old") is None
        assert await place.recordings.get("new") is not None

    async def test_a_database_that_fails_costs_only_its_own_part(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def failing(*_: object) -> int:
            raise StorageError("database or disk is full")

        monkeypatch.setattr(place.registrations, "forget_before", failing)
        chronicle = place.files / CHRONICLE
        chronicle.mkdir(parents=True)
        (chronicle / "2001-01-01.jsonl").touch()
        with capture_logs() as logs:
            assert await place.cleaning().clean() == Forgotten(chronicles=1)
        assert [line["event"] for line in logs] == ["cleaning_failed", "cleaned"]


class TestFiles:
    async def test_journals_of_ended_calls_are_compressed_and_go_with_time(self, place: Place) -> None:
        journal = Journal(place.files / JOURNAL, segment_bytes=1)
        for number in range(4):
            journal.append([(NOW + number, b"Event: A%d" % number)])
        journal.forget_before(time.time() + 60)
        aside = place.files / JOURNAL / ENDED
        os.utime(aside / "00000001.trace", (LONG_AGO, LONG_AGO))
        os.utime(aside / "00000002.trace", (LATELY, LATELY))
        assert (await place.cleaning().clean()).journals == 1
        assert [path.name for path in segments_of(aside)] == ["00000002.trace.gz", "00000003.trace.gz"]
        assert all(path.stat().st_mode & 0o077 == 0 for path in segments_of(aside))
        assert (aside / "00000002.trace.gz").stat().st_mtime == pytest.approx(LATELY)
        assert [frame for _, frame in read_segments(segments_of(aside)).frames] == [b"Event: A1", b"Event: A2"]
        journal.append([(NOW + 9, b"Event: B")])
        journal.close()
        assert len(segments_of(place.files / JOURNAL)) == 2
        assert sorted(path.name[0] for path in aside.iterdir()) == ["0", "0"]

    async def test_a_full_disk_takes_the_oldest_journals_first(self, place: Place) -> None:
        aside = place.files / JOURNAL / ENDED
        aside.mkdir(parents=True)
        for number in (1, 2):
            (aside / f"0000000{number}.trace").write_bytes(b"@ 1.0\nEvent: A\n\n")
        with capture_logs() as logs:
            await place.cleaning(spare=1 << 62).clean()
        assert segments_of(aside) == []
        early = [line["path"] for line in logs if line["event"] == "journal_removed_early"]
        assert [Path(path).name for path in early] == ["00000001.trace.gz", "00000002.trace.gz"]

    async def test_past_days_of_the_chronicle_are_compressed_and_go_with_time(self, place: Place) -> None:
        clock = [0.0]
        chronicle = Chronicle(place.files / CHRONICLE, now=lambda: clock[0])
        for clock[0] in (LONG_AGO - DAY, LATELY, NOW):
            chronicle.hear("info", {"event": "a", "call_id": "1.1"})
            chronicle.flush()
        assert (await place.cleaning().clean()).chronicles == 1
        (_, lately), (_, today) = days_of(place.files / CHRONICLE)
        assert (lately.suffix, today.suffix) == (".gz", ".jsonl")
        chronicle.hear("info", {"event": "b", "call_id": "1.1"})
        chronicle.close()
        assert [line.event for line in lines(place.files / CHRONICLE, 0.0, NOW + 1, about=["1.1"])] == ["a", "a", "b"]

    async def test_a_day_that_is_there_twice_is_read_once(self, tmp_path: Path) -> None:
        """So it is for a moment while it is being compressed, or after a crash then."""
        text = b'{"at": 1795348800.0, "call_id": "1.1", "event": "a", "level": "info"}\n'
        (tmp_path / "2026-11-22.jsonl").write_bytes(text)
        (tmp_path / "2026-11-22.jsonl.gz").write_bytes(gzip.compress(text))
        (tmp_path / "00000001.trace").write_bytes(b"@ 1.0\nEvent: A\n\n")
        (tmp_path / "00000001.trace.gz").write_bytes(gzip.compress(b"@ 1.0\nEvent: A\n\n"))
        assert len(list(lines(tmp_path, 0.0, 2e9, about=["1.1"]))) == 1
        assert len(read_segments(segments_of(tmp_path)).frames) == 1
