"""ffmpeg: its command lines, what it says of its work, and which one there is on this host.

A file's name never stands in a command line: ffmpeg gets open files, by number. The format is always named, so that a
file's claim to be something else (a playlist, say, which could name other files) is never tried.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

from itgrix_kommo.errors import ConversionFailed, RecordingUnusable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from itgrix_kommo.recordings.audio import Audio

OLDEST: Final = (4, 1)
"""Of 2018. Older ones decode what strangers said into the telephone without anybody mending them."""

# The mp3's rate is the nearest of these: speech needs no more, and up to 24 kHz every bit rate of the settings exists.
SHAPE: Final = "aformat=sample_rates=8000|11025|12000|16000|22050|24000:channel_layouts=mono|stereo"
# amix halves two inputs against clipping, and louder when one ends: never before that many seconds, so always ×2.
_MIX: Final = "amix=inputs=2:duration=longest:dropout_transition=1000000000,volume=2"

QUIETLY: Final = ("-hide_banner", "-loglevel", "error")

_VERSION: Final = re.compile(r"ffmpeg version (?:n?(\d+)\.(\d+))?(\S*)")
_OUT_TIME: Final = re.compile(r"^out_time_us=(\d+)", re.MULTILINE)
DISK_FULL: Final = "the disk of the converted recordings is full: make room there, or lower recordings.cache_gb"
_DISK_FULL: Final = ("No space left on device", "Disk quota exceeded")
_NO_SOUND: Final = (
    "Invalid data found when processing input",
    "matches no streams",
    "does not contain any stream",
    "nothing was encoded",
    "Could not find codec parameters",
    "Decoder (codec none) not found",
    "End of file",
)


class Version(NamedTuple):
    """`number` is None for builds between releases. `text` is as it calls itself."""

    number: tuple[int, int] | None
    text: str
    makes_mp3: bool


def which() -> str | None:
    return shutil.which("ffmpeg")


def version(program: str) -> Version:
    """What `program` is. Raises ConversionFailed if it can't be run."""
    try:
        about = _said(program, "-version")
        found = _VERSION.search(about)
        encoders = _said(program, "-hide_banner", "-encoders")
    except (OSError, subprocess.SubprocessError) as error:
        raise ConversionFailed(f"{program} does not run ({error}): install ffmpeg anew") from error
    if found is None:
        raise ConversionFailed(f"{program} is no ffmpeg: it calls itself {about[:60]!r}")
    major, minor, rest = found.groups()
    number = (int(major), int(minor)) if major else None
    return Version(number, f"{major}.{minor}{rest}" if major else rest, "libmp3lame" in encoders)


def _said(program: str, *options: str) -> str:
    ran = subprocess.run([program, *options], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=True)  # noqa: S603 - a program found in PATH, with options of ours
    return ran.stdout.decode(errors="replace")


def conversion(program: str, inputs: Sequence[tuple[int, Audio]], target: str, bitrate: str) -> list[str]:
    """The command that makes an mp3 of one open file, or mixes two, telling its progress on stdout.

    Inputs are a descriptor each, with what the file is. `bitrate` is in ffmpeg's writing, such as "32k".
    """
    command = [program, "-nostdin", "-nostats", "-progress", "pipe:1", "-y"]
    for descriptor, audio in inputs:
        if audio.rate is not None:
            command += ["-ar", str(audio.rate)]
        if audio.demuxer in {"s16le", "mulaw", "alaw"}:
            command += ["-ac", "1"]
        if audio.endless:
            command += ["-ignore_length", "1"]
        command += ["-f", audio.demuxer, "-i", f"/dev/fd/{descriptor}"]
    sources = "".join(f"[{number}:a:0]" for number in range(len(inputs)))
    graph = f"{sources}{_MIX},{SHAPE}" if len(inputs) > 1 else f"{sources}{SHAPE}"
    return [*command, "-filter_complex", graph, *mp3(bitrate), "-f", "mp3", target]


def mp3(bitrate: str) -> list[str]:
    """Options of the mp3 itself. Nothing that the source says of itself goes into it."""
    return [*QUIETLY, "-c:a", "libmp3lame", "-b:a", bitrate, "-map_metadata", "-1"]


def seconds_made(status: int, progress: str, complaints: str) -> float:
    """Seconds of sound that a conversion made, by its exit status, its stdout and its stderr.

    Raises RecordingUnusable where the fault is the file's, ConversionFailed where it is not.
    """
    times = _OUT_TIME.findall(progress)
    seconds = int(times[-1]) / 1_000_000 if times else 0.0
    if status == 0 and seconds > 0:
        return seconds
    if status == 0 or any(words in complaints for words in _NO_SOUND):
        raise RecordingUnusable(f"the file is damaged: ffmpeg finds no sound in it ({complaint(complaints)})")
    ending = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    raise ConversionFailed(f"ffmpeg {ending}: {complaint(complaints)}")


def complaint(said: str) -> str:
    """What ffmpeg complained of on stderr, in one line."""
    if any(words in said for words in _DISK_FULL):
        return DISK_FULL
    return next((line.strip()[:200] for line in said.splitlines() if line.strip()), "it gave no reason")
