"""From files as Asterisk writes them to mp3: by real workers with real ffmpeg."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from itgrix_kommo.errors import ConversionFailed, RecordingUnusable
from itgrix_kommo.recordings import ffmpeg, worker
from itgrix_kommo.recordings.conversion import Converter, Made
from itgrix_kommo.recordings.job import Job, answer, seconds_in
from tests.recorded_sounds import FORMATS, PITCH, heard_pitch, noise, probed, samples, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


def job(*sources: Path, target: Path, bitrate: str = "32k", spare: int = 0) -> Job:
    folder = str(sources[0].parent)
    return Job(tuple(map(str, sources)), (folder,), str(target), bitrate, spare)


@pytest.fixture
def monitor(tmp_path: Path) -> Path:
    folder = tmp_path / "monitor"
    folder.mkdir()
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "cache" / "work"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "ab" / "made.mp3"


class TestEveryFormat:
    @pytest.mark.parametrize("extension", FORMATS)
    def test_sounds_the_same_as_mp3(self, extension: str, monitor: Path, scratch: Path, target: Path) -> None:
        source = tone(monitor / f"call.{extension}", *FORMATS[extension])

        seconds = worker.convert(job(source, target=target), scratch)

        codec, rate, channels, length = probed(target)
        assert seconds == pytest.approx(2.0, abs=0.1)
        assert codec == "mp3"
        assert rate in {8000, 16000, 24000}
        assert channels == (2 if "-ac" in FORMATS[extension] and "2" in FORMATS[extension] else 1)
        assert length == pytest.approx(2.0, abs=0.2)
        assert heard_pitch(target) == pytest.approx(PITCH, rel=0.03)

    def test_two_sides_are_mixed_at_their_own_loudness(self, monitor: Path, scratch: Path, target: Path) -> None:
        caller = tone(monitor / "call-in.wav", seconds=4, pitch=300)
        employee = tone(monitor / "call-out.wav", seconds=2, pitch=700)

        seconds = worker.convert(job(caller, employee, target=target), scratch)

        assert seconds == pytest.approx(4.0, abs=0.1)
        _, _, channels, length = probed(target)
        assert channels == 1
        assert length == pytest.approx(4.0, abs=0.2)
        sound, alone = samples(target), samples(caller)
        together, after = max(sound[4000:12000]), max(sound[20000:28000])
        assert after == pytest.approx(max(alone), rel=0.1)
        assert together > 1.6 * max(alone)

    @pytest.mark.parametrize("bitrate", ["8k", "24k", "64k", "160k"])
    @pytest.mark.parametrize("extension", ["wav", "wideband.wav"])
    def test_any_bit_rate_of_the_settings_will_do(
        self, bitrate: str, extension: str, monitor: Path, scratch: Path, target: Path
    ) -> None:
        source = tone(monitor / f"call.{extension}", *FORMATS[extension])

        worker.convert(job(source, target=target, bitrate=bitrate), scratch)

        assert probed(target)[3] == pytest.approx(2.0, abs=0.2)

    def test_large_files_are_streamed_and_small_ones_are_not(
        self, monitor: Path, scratch: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = tone(monitor / "call.wav")
        by_pydub = worker.convert(job(source, target=target), scratch)
        target.unlink()
        monkeypatch.setattr(worker, "ORDINARY", 1000)
        monkeypatch.setattr(worker, "_by_pydub", None)

        streamed = worker.convert(job(source, target=target), scratch)

        assert streamed == pytest.approx(by_pydub, abs=0.1)
        assert heard_pitch(target) == pytest.approx(PITCH, rel=0.03)


class TestHostileNames:
    @pytest.mark.parametrize(
        "name",
        [
            "-i.wav",
            "concat:a|b.wav",
            "http:x.wav",
            "100%d.wav",
            "звонок.wav",
            'it\'s "quoted".wav',
            "new\nline.wav",
            " .wav",
        ],
    )
    def test_a_name_is_only_a_name(self, name: str, monitor: Path, scratch: Path, target: Path) -> None:
        source = tone(monitor / "plain.wav").rename(monitor / name)

        assert worker.convert(job(source, target=target), scratch) == pytest.approx(2.0, abs=0.1)

    def test_a_playlist_in_disguise_opens_nothing(self, monitor: Path, scratch: Path, target: Path) -> None:
        (monitor / "call.wav").write_text("#EXTM3U\n#EXTINF:2,\n/etc/passwd\n")

        with pytest.raises(RecordingUnusable, match="of no known format: wav extension"):
            worker.convert(job(monitor / "call.wav", target=target), scratch)


class TestDamage:
    def test_a_wrong_extension_does_not_mislead(self, monitor: Path, scratch: Path, target: Path) -> None:
        source = tone(monitor / "call.mp3", *FORMATS["wav"])

        assert worker.convert(job(source, target=target), scratch) == pytest.approx(2.0, abs=0.1)

    @pytest.mark.parametrize("ordinary", [worker.ORDINARY, 1000])
    def test_a_header_without_length_is_read_to_the_end(
        self, ordinary: int, monitor: Path, scratch: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Asterisk writes the length when it closes the file: one that was killed did not."""
        monkeypatch.setattr(worker, "ORDINARY", ordinary)
        source = tone(monitor / "call.wav", *FORMATS["wav"], "-bitexact")
        data = bytearray(source.read_bytes())
        data[4:8] = struct.pack("<I", 36)
        data[40:44] = bytes(4)
        source.write_bytes(data)

        assert worker.convert(job(source, target=target), scratch) == pytest.approx(2.0, abs=0.1)
        assert probed(target)[3] == pytest.approx(2.0, abs=0.2)

    def test_a_file_cut_in_half_gives_its_half(self, monitor: Path, scratch: Path, target: Path) -> None:
        source = tone(monitor / "call.wav")
        os.truncate(source, source.stat().st_size // 2)

        assert worker.convert(job(source, target=target), scratch) == pytest.approx(1.0, abs=0.1)

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("empty.wav", b"", "is empty"),
            ("header.wav", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
             + b"data\0\0\0\0", "a header and no sound"),
            ("truncated.wav", b"RIFF\x24\0\0\0WAVEfmt \x10", "ends within its header"),
            ("nothing.wav", b"RIFF\x24\0\0\0WAVEdata\x10\0\0\0" + bytes(16), "does not tell the format"),
            ("channels.wav", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 0, 0, 0, 0, 16)
             + b"data\x10\0\0\0" + bytes(16), "0 channels at 0 Hz"),
            ("noise.ogg", b"OggS" + bytes(range(256)) * 8, "damaged"),
            ("short.gsm", b"\xd0" * 10, "10 bytes: no sound"),
            ("text.txt", b"hello, this is no sound at all", "of no known format: txt"),
            ("codec.wav", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 0x7777, 1, 8000, 16000, 2, 16)
             + b"data\x00\x10\0\0" + bytes(4096), "damaged"),
        ],
    )  # fmt: skip
    def test_what_holds_no_sound_is_told_in_words(
        self, name: str, content: bytes, words: str, monitor: Path, scratch: Path, target: Path
    ) -> None:
        (monitor / name).write_bytes(content)

        with pytest.raises(RecordingUnusable, match=words):
            worker.convert(job(monitor / name, target=target), scratch)

        assert not target.exists()
        assert not list(scratch.iterdir())

    def test_a_file_removed_in_between(self, monitor: Path, scratch: Path, target: Path) -> None:
        with pytest.raises(RecordingUnusable, match="removed before it could be converted"):
            worker.convert(job(monitor / "gone.wav", target=target), scratch)

    def test_a_file_exchanged_for_a_link_in_between(self, monitor: Path, scratch: Path, target: Path) -> None:
        secret = tone(monitor.parent / "outside.wav")
        (monitor / "call.wav").symlink_to(secret)

        with pytest.raises(RecordingUnusable, match="can't be opened"):
            worker.convert(job(monitor / "call.wav", target=target), scratch)


class TestTheDisk:
    def test_nothing_is_converted_when_little_room_is_left(self, monitor: Path, scratch: Path, target: Path) -> None:
        source = tone(monitor / "call.wav")

        with pytest.raises(ConversionFailed, match=r"nearly full: .* MB are free"):
            worker.convert(job(source, target=target, spare=10**18), scratch)

        assert not target.exists()

    @pytest.mark.parametrize("extension", ["wav", "gsm"])
    @pytest.mark.parametrize("ending", ["", "exit 0"])
    def test_a_file_that_could_not_be_written_whole_is_not_kept(
        self, ending: str, extension: str, monitor: Path, scratch: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The limit on a file's size stands for a full disk; ffmpeg 5.1 ends with status 0 on one now and then."""
        source = tone(monitor / f"call.{extension}", *FORMATS[extension], seconds=60)
        programs = monitor.parent / "programs"
        programs.mkdir()
        limited = programs / "ffmpeg"
        limited.write_text(f'#!/bin/sh\ntrap "" XFSZ\nulimit -f 100\n{shutil.which("ffmpeg")} "$@"\n{ending}\n')
        limited.chmod(0o755)
        monkeypatch.setenv("PATH", str(programs))

        with pytest.raises(ConversionFailed, match=r"File too large|came out incomplete"):
            worker.convert(job(source, target=target), scratch)

        assert not target.exists()
        assert not list(scratch.iterdir())

    def test_a_full_disk_is_told_as_such(
        self, monitor: Path, scratch: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = tone(monitor / "call.wav")

        def full(*_: object) -> float:
            with Path("/dev/full").open("wb") as file:
                file.write(b"x" * 100_000)
            return 0.0

        monkeypatch.setattr(worker, "_make", full)
        with pytest.raises(ConversionFailed, match=r"is full: make room there, or lower recordings\.cache_gb"):
            worker.convert(job(source, target=target), scratch)

    def test_an_mp3_that_is_current_is_not_made_again(self, monitor: Path, scratch: Path, target: Path) -> None:
        source = tone(monitor / "call.wav")
        assert worker.convert(job(source, target=target), scratch) is not None
        first = target.stat().st_ino

        assert worker.convert(job(source, target=target), scratch) is None
        assert target.stat().st_ino == first
        assert target.stat().st_mtime_ns == source.stat().st_mtime_ns

        os.utime(source, (time.time() + 5, time.time() + 5))
        assert worker.convert(job(source, target=target), scratch) is not None
        assert target.stat().st_ino != first


class TestFfmpeg:
    def test_a_missing_one_is_told(
        self, monitor: Path, scratch: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = tone(monitor / "call.wav")
        monkeypatch.setenv("PATH", str(monitor))

        with pytest.raises(ConversionFailed, match="ffmpeg is not installed: run apt-get install ffmpeg"):
            worker.convert(job(source, target=target), scratch)

    def test_this_hosts_version_is_read(self) -> None:
        program = ffmpeg.which()
        assert program is not None
        found = ffmpeg.version(program)
        assert found.number is not None
        assert found.number >= ffmpeg.OLDEST
        assert found.makes_mp3

    @pytest.mark.parametrize(
        ("says", "number"),
        [
            ("ffmpeg version 2.8.15 Copyright (c) 2000-2018", (2, 8)),
            ("ffmpeg version n4.4.1 Copyright", (4, 4)),
            ("ffmpeg version 5.1.9-0+deb12u1 Copyright", (5, 1)),
            ("ffmpeg version N-109-g1234 Copyright", None),
        ],
    )
    def test_other_versions_are_read(self, says: str, number: tuple[int, int] | None, tmp_path: Path) -> None:
        program = tmp_path / "ffmpeg"
        program.write_text(f"#!/bin/sh\necho '{says}'\n")
        program.chmod(0o755)
        found = ffmpeg.version(str(program))
        assert (found.number, found.makes_mp3) == (number, False)

    @pytest.mark.parametrize("script", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho hello\n", "no program\n"])
    def test_what_is_none_is_told(self, script: str, tmp_path: Path) -> None:
        program = tmp_path / "ffmpeg"
        program.write_text(script)
        program.chmod(0o755)
        with pytest.raises(ConversionFailed, match=r"does not run|is no ffmpeg"):
            ffmpeg.version(str(program))

    def test_whose_fault_it_was(self) -> None:
        with pytest.raises(ConversionFailed, match="was killed by signal 9: it gave no reason"):
            ffmpeg.seconds_made(-9, "out_time_us=500\n", "")
        with pytest.raises(ConversionFailed, match="Unknown encoder"):
            ffmpeg.seconds_made(1, "", "Unknown encoder 'libmp3lame'\nmore\n")
        with pytest.raises(RecordingUnusable, match="finds no sound"):
            ffmpeg.seconds_made(0, "out_time_us=N/A\nprogress=end\n", "")
        assert ffmpeg.seconds_made(0, "out_time_us=1\nout_time_us=2500000\n", "") == 2.5


class TestJobs:
    def test_survive_the_pipe(self) -> None:
        asked = Job(("/a\n\"b'.wav", "/\udcff"), ("/",), "/c.mp3", "32k", 7)
        assert asked.line().count(b"\n") == 1
        assert Job.of(asked.line()) == asked

    def test_answers_survive_it_too(self) -> None:
        assert seconds_in(answer(1.5)) == 1.5
        assert seconds_in(answer(None)) is None
        with pytest.raises(RecordingUnusable, match="no\nsound"):
            seconds_in(answer(RecordingUnusable("no\nsound")))
        with pytest.raises(ConversionFailed, match="x" * 1000):
            seconds_in(answer(ConversionFailed("x" * 100_000)))
        with pytest.raises(ConversionFailed, match="answered"):
            seconds_in(b'{"hello": 1}\n')


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def processes(work: Path) -> list[int]:
    """Workers and their ffmpegs: whoever has the work directory in its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(work).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def is_there(path: Path) -> bool:
    return path.exists()


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


def seconds_of(made: Made | None) -> float:
    assert made is not None
    assert made.seconds is not None
    return made.seconds


class TestWorkers:
    @pytest.fixture
    def made(self) -> list[Path]:
        return []

    @pytest.fixture
    async def converter(self, scratch: Path, made: list[Path]) -> AsyncIterator[Converter]:
        async def note(path: Path) -> None:
            made.append(path)

        converter = Converter(scratch, timeout=30, made=note, workers=2)
        yield converter
        await converter.close()
        assert not processes(scratch)
        assert is_empty(scratch)

    async def test_convert_and_stay_warm(
        self, converter: Converter, made: list[Path], monitor: Path, scratch: Path, target: Path
    ) -> None:
        await converter.start()
        await until(lambda: len(processes(scratch)) == 2)
        before = processes(scratch)
        source = tone(monitor / "call.wav")

        made_now = await converter.convert(job(source, target=target))

        assert seconds_of(made_now) == pytest.approx(2.0, abs=0.1)

        assert made == [target]
        assert heard_pitch(target) == pytest.approx(PITCH, rel=0.03)
        assert processes(scratch) == before
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in before} == {os.getpriority(os.PRIO_PROCESS, 0) + 10}
        assert {os.sched_getscheduler(pid) for pid in before} == {os.SCHED_IDLE}

    async def test_one_recording_is_converted_once_for_all_who_ask(
        self, converter: Converter, made: list[Path], monitor: Path, target: Path
    ) -> None:
        source = noise(monitor / "call.wav", hours=0.05)

        answers = await asyncio.gather(*(converter.convert(job(source, target=target)) for _ in range(5)))

        assert [seconds_of(one) for one in answers] == pytest.approx([180] * 5, abs=1)
        assert made == [target]

    async def test_not_even_two_daemons_convert_it_twice(
        self, converter: Converter, monitor: Path, scratch: Path, target: Path
    ) -> None:
        async def note(_: Path) -> None:
            return

        source = noise(monitor / "call.wav", hours=0.05)
        other = Converter(scratch, timeout=30, made=note, workers=1)
        try:
            answers = await asyncio.gather(
                converter.convert(job(source, target=target)), other.convert(job(source, target=target))
            )
        finally:
            await other.close()

        assert answers.count(Made(None)) == 1
        (other_one,) = (one for one in answers if one != Made(None))
        assert seconds_of(other_one) == pytest.approx(180, abs=1)

    async def test_damage_leaves_the_worker_alive(
        self, converter: Converter, monitor: Path, scratch: Path, target: Path
    ) -> None:
        await converter.start()
        await until(lambda: len(processes(scratch)) == 2)
        before = processes(scratch)
        (monitor / "empty.wav").touch()

        with pytest.raises(RecordingUnusable, match="is empty"):
            await converter.convert(job(monitor / "empty.wav", target=target))

        assert processes(scratch) == before

    async def test_a_worker_that_dies_is_told_and_replaced(
        self, converter: Converter, monitor: Path, scratch: Path, target: Path
    ) -> None:
        source = noise(monitor / "call.wav", hours=0.3)
        asked = asyncio.create_task(converter.convert(job(source, target=target)))
        await until(lambda: len(processes(scratch)) == 2)  # the worker and its ffmpeg
        os.kill(min(processes(scratch)), signal.SIGKILL)

        with pytest.raises(ConversionFailed, match="worker died"):
            await asked

        await until(lambda: not processes(scratch))
        assert await converter.convert(job(tone(monitor / "next.wav"), target=target)) is not None

    async def test_what_takes_too_long_goes_on_at_low_priority(
        self, made: list[Path], monitor: Path, scratch: Path, target: Path
    ) -> None:
        async def note(path: Path) -> None:
            made.append(path)

        source = noise(monitor / "call.wav", hours=1)
        converter = Converter(scratch, timeout=0.3, made=note, workers=1)
        try:
            assert await converter.convert(job(source, target=target)) is None
            assert not is_there(target)
            assert converter.waiting == (0, 1)
            assert await converter.convert(job(source, target=target)) is None
            await until(lambda: any(os.getpriority(os.PRIO_PROCESS, pid) == 19 for pid in processes(scratch)))

            await converter.settled()

            assert made == [target]
            assert probed(target)[3] == pytest.approx(3600, abs=1)
        finally:
            await converter.close()

    async def test_closing_kills_everything(self, monitor: Path, scratch: Path, target: Path) -> None:
        async def note(_: Path) -> None:
            return

        source = noise(monitor / "call.wav", hours=1)
        converter = Converter(scratch, timeout=0.2, made=note, workers=1)
        assert await converter.convert(job(source, target=target)) is None
        await until(lambda: bool(processes(scratch)))

        await converter.close()

        assert not processes(scratch)
        assert not is_there(target)
        assert is_empty(scratch)

    async def test_the_patient_lane_gives_up_in_the_end(self, monitor: Path, scratch: Path, target: Path) -> None:
        async def note(_: Path) -> None:
            return

        source = noise(monitor / "call.wav", hours=1)
        converter = Converter(scratch, timeout=0.1, made=note, workers=1, patient_limit=0.2)
        try:
            assert await converter.convert(job(source, target=target)) is None
            await converter.settled()
            await until(lambda: not processes(scratch))
            assert not is_there(target)
        finally:
            await converter.close()

    async def test_a_dead_daemon_takes_its_workers_along(self, monitor: Path, scratch: Path, target: Path) -> None:
        """The daemon is killed in the middle: its pipe to the worker ends, and so do the worker and its ffmpeg."""
        source = noise(monitor / "call.wav", hours=3)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "itgrix_kommo.recordings.worker", str(scratch), "0"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(job(source, target=target).line())
        await until(lambda: len(processes(scratch)) == 2)

        process.stdin.close()

        assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGKILL
        await until(lambda: not processes(scratch))
        assert not is_there(target)
