"""The room as the pipeline sees it: a name from Asterisk goes in, a link or the reason for none comes out."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from itgrix_kommo.config import Recordings as Settings
from itgrix_kommo.errors import RecordingUnfinished
from itgrix_kommo.recordings.archive import Recordings
from itgrix_kommo.recordings.checks import examine
from itgrix_kommo.recordings.completeness import Patience
from itgrix_kommo.recordings.conversion import Made
from itgrix_kommo.recordings.converted import Converted
from itgrix_kommo.recordings.job import Job
from itgrix_kommo.recordings.recording import CallFacts, NoRecording, Prepared
from tests.recorded_sounds import FORMATS, Index, heard_pitch, noise, probed, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KEY = b"0123456789abcdef"
FACTS = CallFacts("pbx1/1795344324.0", datetime(2026, 11, 22, 10, 15, tzinfo=UTC), "+79991234567", "101")
PATIENCE = Patience(quiet=0.05, absent=0.3, growing=1.0)


@pytest.fixture
def monitor(tmp_path: Path) -> Path:
    folder = tmp_path / "monitor"
    folder.mkdir()
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def settings(monitor: Path) -> Settings:
    return Settings(directories=(str(monitor),), public_url="https://pbx.example.com:8077")


@pytest.fixture
def index() -> Index:
    return Index()


class Room:
    """Archives over one cache and one index, as before and after a restart."""

    def __init__(self, settings: Settings, index: Index, cache: Path) -> None:
        self._settings = settings
        self._index = index
        self._cache = cache
        self.archives: list[Recordings] = []
        self.now = time.time()

    def archive(self, *, spare: int = 0, key: bytes = KEY, **changes: object) -> Recordings:
        archive = Recordings(
            self._settings.model_copy(update=changes),
            self._index,
            key=key,
            cache=self._cache,
            workers=1,
            patience=PATIENCE,
            spare=spare,
            clock=lambda: self.now,
        )
        self.archives.append(archive)
        return archive


@pytest.fixture
async def room(settings: Settings, index: Index, cache: Path) -> AsyncIterator[Room]:
    room = Room(settings, index, cache)
    yield room
    for archive in room.archives:
        await archive.close()


def prepared(answer: Prepared | NoRecording) -> Prepared:
    assert isinstance(answer, Prepared), answer
    return answer


def words(answer: Prepared | NoRecording) -> str:
    assert isinstance(answer, NoRecording), answer
    return answer.words


async def opened(archive: Recordings, recording_id: str = FACTS.recording_id) -> tuple[str, str, bytes] | None:
    """Media type, file name and content of what serves now."""
    playable = await archive.open(recording_id)
    if playable is None:
        return None
    with playable.file:
        return playable.media_type, playable.file_name, await archive.read(playable, 0, playable.size)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


class TestPreparing:
    async def test_a_wav_becomes_an_mp3_behind_a_link(
        self, room: Room, index: Index, monitor: Path, cache: Path
    ) -> None:
        tone(monitor / "2026/11/22/call.wav")
        archive = room.archive()
        await archive.start()

        answer = prepared(await archive.prepare("2026/11/22/call.wav", FACTS))

        assert answer.is_mp3
        assert answer.words == "converted, 2 s of sound"
        assert answer.link == await archive.link_for(FACTS.recording_id)
        assert answer.link.startswith("https://pbx.example.com:8077/recordings/")
        assert list(index.recordings) == [FACTS.recording_id]
        found = await opened(archive)
        assert found is not None
        assert found[:2] == ("audio/mpeg", "2026-11-22 10-15-00 +79991234567 101.mp3")
        (mp3,) = [path for path in files(cache) if path.suffix == ".mp3"]
        assert heard_pitch(mp3) == pytest.approx(440, rel=0.03)
        assert archive.conversions_waiting == (0, 0)

    async def test_a_second_time_changes_nothing(self, room: Room, monitor: Path) -> None:
        tone(monitor / "call.wav")
        first = prepared(await room.archive().prepare("call.wav", FACTS))
        again = prepared(await room.archive().prepare("call.wav", FACTS))
        assert (again.link, again.words) == (first.link, "converted before")

    async def test_an_mp3_is_passed_through(self, room: Room, monitor: Path, cache: Path) -> None:
        made = tone(monitor / "call.mp3", "-f", "mp3")
        archive = room.archive()

        answer = prepared(await archive.prepare("call.mp3", FACTS))

        assert (answer.is_mp3, answer.words) == (True, "an mp3 already")
        assert await opened(archive) == ("audio/mpeg", f"{FACTS.file_name}.mp3", made.read_bytes())
        assert files(cache) == []

    async def test_two_sides_become_one(self, room: Room, monitor: Path, cache: Path) -> None:
        tone(monitor / "call-in.wav", seconds=3)
        tone(monitor / "call-out.wav")
        answer = prepared(await room.archive().prepare("call.wav", FACTS))
        assert answer.words == "converted, 3 s of sound"
        (mp3,) = [path for path in files(cache) if path.suffix == ".mp3"]
        assert probed(mp3)[3] == pytest.approx(3.0, abs=0.2)

    async def test_it_waits_for_a_file_that_comes_late_and_grows(self, room: Room, monitor: Path) -> None:
        archive = room.archive()
        whole = tone(monitor.parent / "whole.wav").read_bytes()
        waiting = asyncio.create_task(archive.prepare("call.wav", FACTS))
        await asyncio.sleep(0)

        with (monitor / "call.wav").open("wb") as file:
            for begin in range(0, len(whole), 8000):
                file.write(whole[begin : begin + 8000])
                file.flush()
                await asyncio.sleep(0.02)  # this is how Asterisk writes: now and then
            assert not waiting.done()

        assert prepared(await waiting).words == "converted, 2 s of sound"

    async def test_a_file_replaced_by_the_dialplans_own_mp3_is_followed(self, room: Room, monitor: Path) -> None:
        source = tone(monitor / "call.wav")
        seen: list[Path] = []

        async def replaced(path: Path) -> str:
            seen.append(path)
            return str(path)

        tone(monitor / "call.mp3", "-f", "mp3")
        source.unlink()
        answer = prepared(await room.archive().prepare("call.wav", FACTS, replaced))
        assert answer.words == "an mp3 already"
        assert seen == [monitor / "call.mp3"]

    async def test_one_that_never_ends_is_for_later(self, room: Room, monitor: Path) -> None:
        path = monitor / "call.wav"
        growing = asyncio.create_task(_grow(path))
        try:
            with pytest.raises(RecordingUnfinished, match="still being written"):
                await room.archive().prepare("call.wav", FACTS)
        finally:
            growing.cancel()


async def _grow(path: Path) -> None:
    while True:
        with path.open("ab") as file:
            file.write(b"sound")
        await asyncio.sleep(0.01)


class TestNoRecording:
    async def test_nothing_to_find(self, room: Room) -> None:
        archive = room.archive()
        assert words(await archive.prepare("", FACTS)) == "no recording '': Asterisk named no recording"
        assert words(await archive.prepare("gone.wav", FACTS)) == "no recording 'gone.wav': there is no such file"
        assert "climbs out" in words(await archive.prepare("../../etc/passwd", FACTS))
        assert "lies outside" in words(await archive.prepare("/etc/passwd", FACTS))

    async def test_nothing_in_it(self, room: Room, index: Index, monitor: Path) -> None:
        (monitor / "empty.wav").touch()
        head = tone(monitor / "head.wav", *FORMATS["wav"], "-bitexact").read_bytes()[:44]
        (monitor / "head.wav").write_bytes(head)
        (monitor / "noise.wav").write_bytes(b"no sound whatever")
        (monitor / "folder.wav").mkdir()
        os.mkfifo(monitor / "fifo.wav")
        archive = room.archive()
        assert words(await archive.prepare("empty.wav", FACTS)).endswith("the file is empty: nothing was recorded")
        assert words(await archive.prepare("head.wav", FACTS)).endswith("the file has a header and no sound")
        assert "damaged or of no known format" in words(await archive.prepare("noise.wav", FACTS))
        assert words(await archive.prepare("folder.wav", FACTS)).endswith("is a directory, not a file")
        assert words(await archive.prepare("fifo.wav", FACTS)).endswith("is a FIFO, not a file")
        assert index.recordings == {}

    async def test_none_wanted(self, room: Room, monitor: Path) -> None:
        tone(monitor / "call.wav")
        assert "recordings.enabled" in words(await room.archive(enabled=False).prepare("call.wav", FACTS))
        assert "recordings.public_url" in words(await room.archive(public_url=None).prepare("call.wav", FACTS))


class TestCustomization:
    async def test_it_may_convert_the_file_itself(self, room: Room, monitor: Path) -> None:
        tone(monitor / "call.wav")
        made = tone(monitor / "mine.mp3", "-f", "mp3")

        async def convert(path: Path) -> str:
            assert path == monitor / "call.wav"
            return str(made)

        archive = room.archive()
        answer = prepared(await archive.prepare("call.wav", FACTS, convert))
        assert answer.words == "as the customization gave it, an mp3 already"
        assert (await opened(archive) or ("", "", b""))[2] == made.read_bytes()

    @pytest.mark.parametrize("nothing", ["", None])
    async def test_it_may_want_none(self, nothing: str | None, room: Room, monitor: Path) -> None:
        tone(monitor / "call.wav")

        async def cancel(_: Path) -> str | None:
            return nothing

        assert words(await room.archive().prepare("call.wav", FACTS, cancel)) == "cancelled by customization"

    async def test_a_file_outside_is_not_taken_but_the_original(self, room: Room, monitor: Path) -> None:
        tone(monitor / "call.wav")

        async def stray(_: Path) -> str:
            return "/etc/passwd"

        answer = prepared(await room.archive().prepare("call.wav", FACTS, stray))
        assert answer.words.startswith("the customization's file was not used ('/etc/passwd' lies outside")
        assert answer.words.endswith("converted, 2 s of sound")


class TestTheOriginalServes:
    async def test_while_a_long_conversion_goes_on(self, room: Room, monitor: Path) -> None:
        source = noise(monitor / "call.wav", hours=1)
        archive = room.archive(conversion_timeout_s=0.3)

        answer = prepared(await archive.prepare("call.wav", FACTS))

        assert (answer.is_mp3, answer.words) == (False, "the original serves, while the conversion goes on")
        assert archive.conversions_waiting == (0, 1)
        playable = await archive.open(FACTS.recording_id)
        assert playable is not None
        with playable.file:
            assert (playable.media_type, playable.size) == ("audio/wav", source.stat().st_size)
            assert playable.file_name.endswith(".wav")
        await archive.settled()
        later = await archive.open(FACTS.recording_id)
        assert later is not None
        with later.file:
            assert later.is_mp3
            assert later.etag != playable.etag
        assert answer.link == await archive.link_for(FACTS.recording_id)

    async def test_when_the_disk_is_nearly_full_and_the_mp3_once_there_is_room(self, room: Room, monitor: Path) -> None:
        source = tone(monitor / "call.wav")

        answer = prepared(await room.archive(spare=10**18).prepare("call.wav", FACTS))
        assert not answer.is_mp3
        assert answer.words.startswith("the original serves: the disk of the converted recordings is nearly full")

        full = room.archive(spare=10**18)
        assert await opened(full) == ("audio/wav", f"{FACTS.file_name}.wav", source.read_bytes())
        assert (await opened(room.archive()) or ("",))[0] == "audio/mpeg"

    async def test_without_ffmpeg(self, room: Room, monitor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = tone(monitor / "call.wav")
        monkeypatch.setenv("PATH", str(monitor))
        archive = room.archive()
        answer = prepared(await archive.prepare("call.wav", FACTS))
        assert answer.words == "the original serves: ffmpeg is not installed: run apt-get install ffmpeg"
        assert (await opened(archive) or ("", "", b""))[2] == source.read_bytes()

    async def test_where_nothing_is_to_be_kept(self, room: Room, monitor: Path, cache: Path) -> None:
        tone(monitor / "call.wav")
        archive = room.archive(cache_gb=0)
        await archive.start()
        assert "recordings.cache_gb" in prepared(await archive.prepare("call.wav", FACTS)).words
        assert (await opened(archive) or ("",))[0] == "audio/wav"
        assert files(cache) == []

    async def test_a_failure_is_not_repeated_at_every_click(
        self, room: Room, monitor: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tone(monitor / "call.wav")
        archive = room.archive(spare=10**18)
        await archive.prepare("call.wav", FACTS)
        asked: list[Job] = []
        convert = archive._converter.convert

        async def watched(job: Job) -> Made | None:
            asked.append(job)
            return await convert(job)

        monkeypatch.setattr(archive._converter, "convert", watched)

        assert (await opened(archive) or ("",))[0] == "audio/wav"
        assert asked == []
        room.now += 601
        assert (await opened(archive) or ("",))[0] == "audio/wav"
        assert len(asked) == 1

    async def test_of_four_gigabytes(self, room: Room, monitor: Path) -> None:
        """Its header can't tell its length; its end is served all the same."""
        path = tone(monitor / "call.wav", *FORMATS["wav"], "-bitexact")
        os.truncate(path, (1 << 32) + 1000)
        with path.open("r+b") as file:
            file.seek(40)
            file.write(struct.pack("<I", 1000 - 44))
            file.seek((1 << 32) + 996)
            file.write(b"last")
        archive = room.archive(conversion_timeout_s=0.2)
        assert not prepared(await archive.prepare("call.wav", FACTS)).is_mp3
        playable = await archive.open(FACTS.recording_id)
        assert playable is not None
        with playable.file:
            assert await archive.read(playable, (1 << 32) + 996, 100) == b"last"


class TestLater:
    async def test_what_was_evicted_is_made_again_when_heard(self, room: Room, monitor: Path, cache: Path) -> None:
        tone(monitor / "call.wav")
        archive = room.archive()
        await archive.prepare("call.wav", FACTS)
        shutil.rmtree(cache)
        assert (await opened(archive) or ("",))[0] == "audio/mpeg"

    async def test_what_the_pbx_removed_still_plays_converted(self, room: Room, monitor: Path) -> None:
        source = tone(monitor / "call.wav")
        await room.archive().prepare("call.wav", FACTS)
        source.unlink()
        assert (await opened(room.archive()) or ("",))[0] == "audio/mpeg"

    async def test_what_is_gone_is_gone(self, room: Room, monitor: Path, cache: Path) -> None:
        source = tone(monitor / "call.wav")
        archive = room.archive()
        await archive.prepare("call.wav", FACTS)
        source.unlink()
        shutil.rmtree(cache)
        assert await opened(archive) is None
        assert await opened(archive, "another") is None
        assert await archive.link_for("another") is None

    async def test_a_directory_taken_out_of_the_settings_serves_no_more(self, room: Room, monitor: Path) -> None:
        tone(monitor / "call.mp3", "-f", "mp3")
        await room.archive().prepare("call.mp3", FACTS)
        assert await opened(room.archive(directories=("/nowhere",))) is None

    async def test_a_recording_that_went_on_is_converted_anew(self, room: Room, monitor: Path) -> None:
        path = tone(monitor / "call.wav")
        archive = room.archive()
        await archive.prepare("call.wav", FACTS)
        tone(path, seconds=4)
        os.utime(path, (room.now + 9, room.now + 9))
        assert prepared(await archive.prepare("call.wav", FACTS)).words == "converted, 4 s of sound"

    async def test_links_end_when_the_settings_say(self, room: Room, monitor: Path) -> None:
        tone(monitor / "call.wav")
        archive = room.archive(link_days=2)
        link = prepared(await archive.prepare("call.wav", FACTS)).link
        ticket = archive.ticket(link.rpartition("/")[2].removesuffix(".mp3"))
        assert ticket is not None
        assert ticket.expires_at == FACTS.called_at.timestamp() + 2 * 86_400
        room.now = FACTS.called_at.timestamp() + 2 * 86_400 - 1
        assert not archive.has_expired(ticket)
        room.now += 1
        assert archive.has_expired(ticket)
        assert room.archive(key=b"another key 1234").ticket(link.rpartition("/")[2].removesuffix(".mp3")) is None
        assert room.archive(public_url=None).ticket("x") is None


class TestFileNames:
    def test_are_for_people_and_harmless(self) -> None:
        facts = CallFacts("1", FACTS.called_at, "O'Neil \"../\r\n\u202e", "Иван 101")
        assert facts.file_name == "2026-11-22 10-15-00 O'Neil .. Иван 101"
        assert len(CallFacts("1", FACTS.called_at, "x" * 500).file_name) == 120


class TestConverted:
    def keep(self, converted: Converted, name: str, size: int, heard: float) -> Path:
        path = converted.path_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        converted.added(path, heard)
        return path

    def test_the_least_recently_heard_go_first(self, tmp_path: Path) -> None:
        converted = Converted(tmp_path, limit=250, days=90)
        first = self.keep(converted, "a", 100, 1000.0)
        second = self.keep(converted, "b", 100, 2000.0)
        converted.heard(first, 3000.0)
        third = self.keep(converted, "c", 100, 4000.0)
        assert [path.exists() for path in (first, second, third)] == [True, False, True]

    def test_what_nobody_heard_for_long_goes(self, tmp_path: Path) -> None:
        converted = Converted(tmp_path, limit=1000, days=10)
        first = self.keep(converted, "a", 100, 0.0)
        second = self.keep(converted, "b", 100, 86_400.0)
        assert converted.sweep(10 * 86_400.0) == 0
        assert converted.sweep(10 * 86_400.0 + 1) == 1
        assert [path.exists() for path in (first, second)] == [False, True]

    def test_a_file_larger_than_the_limit_is_kept_while_it_is_new(self, tmp_path: Path) -> None:
        converted = Converted(tmp_path, limit=50, days=10)
        path = self.keep(converted, "a", 100, 0.0)
        assert path.exists()
        assert converted.sweep(1.0) == 1

    def test_what_is_not_ours_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "ab").mkdir()
        stranger = tmp_path / "ab" / "song.mp3"
        stranger.write_bytes(b"x" * 100)
        os.utime(stranger, (0, 0))
        assert Converted(tmp_path, limit=10, days=1).sweep(1e9) == 0
        assert stranger.exists()

    def test_what_dead_workers_left_is_cleared_after_a_day(self, tmp_path: Path) -> None:
        converted = Converted(tmp_path, limit=10, days=1)
        for name, age in (("old", 90_000), ("young", 100)):
            (converted.work / name).mkdir(parents=True)
            os.utime(converted.work / name, (1e9 - age, 1e9 - age))
        converted.sweep(1e9)
        assert [path.name for path in converted.work.iterdir()] == ["young"]

    async def test_the_archive_keeps_its_cache_swept(self, room: Room, cache: Path) -> None:
        path = self.keep(Converted(cache, limit=10**9, days=90), "a", 100, 0.0)
        running = asyncio.create_task(room.archive().run())
        try:
            await _until(lambda: not path.exists())
        finally:
            running.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


class TestChecks:
    def test_nothing_to_mend(self, settings: Settings, cache: Path) -> None:
        assert examine(settings, cache, spare=0) == []
        assert examine(Settings(enabled=False, directories=("/nowhere",)), cache, spare=10**18) == []

    def test_everything_to_mend(self, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        problems = examine(Settings(directories=("/nowhere",)), cache, spare=10**18)
        assert [problem.what for problem in problems] == ["ffmpeg", "converted recordings", "links", "directories"]
        assert [problem.stops for problem in problems] == [False, False, True, False]
        assert "not installed" in problems[0].words
        assert problems[0].remedy == "run apt-get install ffmpeg"

    @pytest.mark.parametrize(
        ("says", "words"),
        [
            ("ffmpeg version 2.8.15 Copyright", "ffmpeg 2.8.15 is older than 4.1"),
            ("ffmpeg version 6.1.1 Copyright", "built without libmp3lame"),
            ("avconv version 11", "is no ffmpeg"),
        ],
    )
    def test_an_ffmpeg_that_will_not_do(
        self, says: str, words: str, settings: Settings, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "ffmpeg"
        program.write_text(f"#!/bin/sh\necho '{says}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        (problem,) = examine(settings, cache, spare=0)
        assert words in problem.words

    def test_plain_http_and_a_cache_that_is_a_file(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        unsafe = settings.model_copy(update={"public_url": "http://pbx.example.com:8077"})
        problems = examine(unsafe, tmp_path / "file", spare=0)
        assert [problem.what for problem in problems] == ["converted recordings", "links"]
        assert "browsers play nothing else" in problems[1].words
