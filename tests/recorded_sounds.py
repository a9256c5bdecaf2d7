"""Recordings for tests: tones as Asterisk would write them, and ears that tell what an mp3 really holds."""

from __future__ import annotations

import array
import json
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from itgrix_kommo.recordings.recording import Recording

if TYPE_CHECKING:
    from pathlib import Path

PITCH: Final = 440
"""Hz of every tone, unless asked otherwise."""

# What Asterisk writes under which extension, as options of ffmpeg.
FORMATS: Final = {
    "wav": ["-ar", "8000", "-ac", "1", "-f", "wav"],
    "wav16": ["-ar", "16000", "-ac", "1", "-f", "wav"],
    "stereo.wav": ["-ar", "8000", "-ac", "2", "-f", "wav"],
    "wideband.wav": ["-ar", "48000", "-ac", "2", "-f", "wav"],
    "eight-bit.wav": ["-ar", "8000", "-ac", "1", "-c:a", "pcm_u8", "-f", "wav"],
    "ulaw.wav": ["-ar", "8000", "-ac", "1", "-c:a", "pcm_mulaw", "-f", "wav"],
    "WAV": ["-ar", "8000", "-ac", "1", "-c:a", "libgsm_ms", "-f", "wav"],
    "gsm": ["-ar", "8000", "-ac", "1", "-c:a", "libgsm", "-f", "gsm"],
    "ulaw": ["-ar", "8000", "-ac", "1", "-f", "mulaw"],
    "alaw": ["-ar", "8000", "-ac", "1", "-f", "alaw"],
    "sln": ["-ar", "8000", "-ac", "1", "-f", "s16le"],
    "sln16": ["-ar", "16000", "-ac", "1", "-f", "s16le"],
    "sln48": ["-ar", "48000", "-ac", "1", "-f", "s16le"],
    "g722": ["-ar", "16000", "-ac", "1", "-f", "g722"],
    "ogg": ["-ar", "16000", "-ac", "1", "-c:a", "libvorbis", "-f", "ogg"],
    "opus": ["-ar", "48000", "-ac", "1", "-c:a", "libopus", "-f", "ogg"],
}


def tone(path: Path, *options: str, seconds: float = 2.0, pitch: int = PITCH) -> Path:
    """A file with a sine; without options a WAV of 8 kHz, mono."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"sine=frequency={pitch}:duration={seconds}:sample_rate=48000"
    form = options or FORMATS["wav"]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-af", "volume=4", *form, f"file:{path}"],
        check=True,
    )
    return path


def noise(path: Path, *, hours: float) -> Path:
    """A long WAV of 8 kHz, mono, that is as much work as speech and quick to make."""
    length = f"{hours * 3600:.0f}"
    source = ["-f", "lavfi", "-i", "anoisesrc=sample_rate=8000:amplitude=0.2:color=pink:seed=1"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *source, "-t", length, "-ac", "1", f"file:{path}"], check=True)
    return path


def probed(path: Path) -> tuple[str, int, int, float]:
    """Codec, sample rate, channels and seconds, as ffprobe reads them off."""
    show = ["-show_entries", "stream=codec_name,sample_rate,channels:format=duration", "-of", "json"]
    ran = subprocess.run(["ffprobe", "-v", "error", *show, f"file:{path}"], capture_output=True, check=True)
    found = json.loads(ran.stdout)
    stream = found["streams"][0]
    return stream["codec_name"], int(stream["sample_rate"]), stream["channels"], float(found["format"]["duration"])


def samples(path: Path) -> array.array[int]:
    """The sound, decoded to 8 kHz mono."""
    to_pcm = ["-ar", "8000", "-ac", "1", "-f", "s16le", "-"]
    ran = subprocess.run(["ffmpeg", "-v", "error", "-i", f"file:{path}", *to_pcm], capture_output=True, check=True)
    return array.array("h", ran.stdout)


def heard_pitch(path: Path) -> float:
    """Hz of the tone in the middle second of a file, by its zero crossings."""
    sound = samples(path)
    middle = sound[len(sound) // 2 - 4000 : len(sound) // 2 + 4000]
    crossings = sum(1 for before, after in pairwise(middle) if (before < 0) != (after < 0))
    return crossings / 2


class Index:
    """A RecordingIndex in memory."""

    def __init__(self) -> None:
        self.recordings: dict[str, Recording] = {}

    async def get(self, recording_id: str) -> Recording | None:
        return self.recordings.get(recording_id)

    async def put(self, recording: Recording) -> None:
        self.recordings[recording.id] = recording
