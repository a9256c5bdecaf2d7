"""A process that converts recordings, one after another: python -m itgrix_kommo.recordings.worker SCRATCH NICENESS.

Jobs come on stdin and are answered on stdout. It stays warm between them and may be killed at any instant, with all
processes of its group: what it makes is written aside and takes its place by a rename. When the daemon is gone, so is
the worker, in the middle of a conversion.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from itgrix_kommo.errors import ConversionFailed, RecordingUnusable
from itgrix_kommo.recordings import ffmpeg
from itgrix_kommo.recordings.audio import HEAD, Audio, Pcm, is_finished_mp3, recognise
from itgrix_kommo.recordings.converted import is_current
from itgrix_kommo.recordings.finding import Directories
from itgrix_kommo.recordings.job import Job, answer

with warnings.catch_warnings():
    # It warns of its own source, and where there is no ffmpeg, which `convert` tells in words.
    warnings.simplefilter("ignore")
    from pydub import AudioSegment
    from pydub.exceptions import CouldntEncodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

ORDINARY: Final = 30_000_000
"""Bytes of samples up to which pydub, which holds them in memory, does the work."""

_COMPLAINTS: Final = 4096  # bytes of ffmpeg's stderr that are read: a damaged file can make it complain for ever


def convert(job: Job, scratch: Path) -> float | None:
    """Do the job: seconds of sound in the new file, or None if it was there already, made by another process.

    Raises RecordingUnusable or ConversionFailed.
    """
    program = ffmpeg.which()
    if program is None:
        raise ConversionFailed("ffmpeg is not installed: run apt-get install ffmpeg")
    target = Path(job.target)
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch.mkdir(parents=True, exist_ok=True)  # somebody may have emptied the whole cache
            _hold(target.parent, stack)
            files = [_opened(source, job.directories, stack) for source in job.sources]
            recorded_at = max(os.fstat(file.fileno()).st_mtime_ns for file, _ in files)
            if is_current(target, recorded_at):
                return None
            _check_room(job, files)
            aside = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
            made = aside / "made.mp3"
            seconds = _make(program, files, made, job.bitrate)
            _publish(made, target, recorded_at)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise ConversionFailed(ffmpeg.DISK_FULL) from error
            raise ConversionFailed(f"the converted recording can't be written: {error}") from error
    return seconds


def _hold(directory: Path, stack: contextlib.ExitStack) -> None:
    """One conversion at a time in this directory, whoever makes it: no recording is converted twice at once."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def _opened(source: str, directories: Sequence[str], stack: contextlib.ExitStack) -> tuple[BinaryIO, Audio]:
    try:
        file = stack.enter_context(os.fdopen(Directories(directories).open(Path(source)), "rb"))
    except FileNotFoundError as error:
        raise RecordingUnusable("the recording was removed before it could be converted") from error
    audio = recognise(source, file.read(HEAD), os.fstat(file.fileno()).st_size)
    file.seek(0)
    return file, audio


def _check_room(job: Job, files: Sequence[tuple[BinaryIO, Audio]]) -> None:
    needed = 0
    for file, audio in files:
        if audio.pcm is None:
            needed += 4 * os.fstat(file.fileno()).st_size  # the tightest codec here is GSM's 13 kbit/s
        else:
            needed += int(audio.pcm.seconds * _bits_per_second(job.bitrate) / 8)
            needed += audio.pcm.length if audio.pcm.length <= ORDINARY else 0  # pydub hands the samples on in a file
    free = shutil.disk_usage(Path(job.target).parent).free
    if free < needed + job.spare:
        raise ConversionFailed(
            f"the disk of the converted recordings is nearly full: {free // 1_000_000} MB are free, "
            f"{needed // 1_000_000} MB are needed and {job.spare // 1_000_000} MB must stay: make room there"
        )


def _bits_per_second(bitrate: str) -> int:
    return int(bitrate.removesuffix("k")) * 1000


def _make(program: str, files: Sequence[tuple[BinaryIO, Audio]], made: Path, bitrate: str) -> float:
    file, audio = files[0]
    if len(files) == 1 and audio.pcm is not None and audio.pcm.length <= ORDINARY:
        return _by_pydub(program, file, audio.pcm, made, bitrate)
    return _by_ffmpeg(program, files, made, bitrate)


def _by_pydub(program: str, file: BinaryIO, pcm: Pcm, made: Path, bitrate: str) -> float:
    file.seek(pcm.offset)
    samples = file.read(pcm.length)
    samples = samples[: len(samples) - len(samples) % (2 * pcm.channels)]  # it may have been cut since
    segment = AudioSegment(data=samples, sample_width=2, frame_rate=pcm.rate, channels=pcm.channels)
    AudioSegment.converter = program
    tempfile.tempdir = str(made.parent)  # where pydub puts the files between itself and ffmpeg
    try:
        segment.export(made, format="mp3", parameters=["-af", ffmpeg.SHAPE, *ffmpeg.mp3(bitrate)]).close()
    except CouldntEncodeError as error:
        said = str(error).partition("Output from ffmpeg/avlib:")[2]
        raise ConversionFailed(f"ffmpeg failed: {ffmpeg.complaint(said)}") from error
    finally:
        tempfile.tempdir = None
    return float(segment.duration_seconds)


def _by_ffmpeg(program: str, files: Sequence[tuple[BinaryIO, Audio]], made: Path, bitrate: str) -> float:
    inputs = [(file.fileno(), audio) for file, audio in files]
    command = ffmpeg.conversion(program, inputs, str(made), bitrate)
    with tempfile.TemporaryFile(dir=made.parent) as complaints:
        ran = subprocess.run(  # noqa: S603 - a program found in PATH, no name of a recording among its arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            pass_fds=[descriptor for descriptor, _ in inputs],
            check=False,
        )
        complaints.seek(0)
        said = complaints.read(_COMPLAINTS).decode(errors="replace")
    return ffmpeg.seconds_made(ran.returncode, ran.stdout.decode(errors="replace"), said)


def _publish(made: Path, target: Path, recorded_at: int) -> None:
    """Let it appear as a whole; its time is the recording's, which tells later whether it is still current."""
    status = made.stat()
    with made.open("rb") as file:
        # On a full disk, ffmpeg may well end with status 0.
        if not is_finished_mp3(file.read(HEAD), status.st_size):
            raise ConversionFailed("the mp3 came out incomplete: is the disk of the converted recordings full?")
        os.fsync(file.fileno())
    os.utime(made, ns=(status.st_atime_ns, recorded_at))
    made.replace(target)


def _jobs(stdin: BinaryIO) -> queue.SimpleQueue[bytes]:
    """Lines of stdin; its end means the daemon is gone, which ends this process and its ffmpeg at once."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in stdin:
            lines.put(line)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=listen, daemon=True).start()
    return lines


def be_modest(niceness: int) -> None:
    """Linux shares the processors out among sessions first, where niceness of a process counts for nothing.

    A worker in the daemon's own session would use up the daemon's share; in one of its own, it needs a nice session.
    Where sessions don't count (in a cgroup), idle scheduling does the same. Each may be missing or forbidden.
    """
    os.nice(niceness)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main(scratch: Path, niceness: int) -> None:
    be_modest(niceness)
    lines = _jobs(sys.stdin.buffer)
    while True:
        job = Job.of(lines.get())
        result: float | RecordingUnusable | ConversionFailed | None
        try:
            result = convert(job, scratch)
        except (RecordingUnusable, ConversionFailed) as error:
            result = error
        sys.stdout.buffer.write(answer(result))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
