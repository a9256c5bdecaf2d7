"""What must be true on this host for recordings to become links that play, and what is not so, with the remedy."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from itgrix_kommo.errors import ConversionFailed
from itgrix_kommo.recordings import ffmpeg

if TYPE_CHECKING:
    from itgrix_kommo.config import Recordings


@dataclass(frozen=True, slots=True)
class Problem:
    """`what` is the thing examined. `stops`: no recording gets a link; else they get one, but worse ones."""

    what: str
    words: str
    remedy: str
    stops: bool = False


def examine(settings: Recordings, cache: Path, *, spare: int) -> list[Problem]:
    """Look at everything; [] is well, and so is a configuration without recordings. Blocks: call it in a thread.

    `cache` is the directory of the converted recordings, `spare` the bytes that conversions leave free on its disk.
    """
    if not settings.enabled:
        return []
    problems = [*examine_converter(), *(examine_cache(cache, spare) if settings.cache_gb else [])]
    if settings.public_url is None:
        words = "recordings.public_url is not set, so no call gets a link to its recording"
        problems.append(Problem("links", words, "set it to the address at which browsers reach this host", stops=True))
    elif settings.public_url.startswith("http:"):
        words = "recordings.public_url is http: the CRM's page is https, and browsers play nothing else in it"
        problems.append(Problem("links", words, "serve by https, with http.public or behind a proxy"))
    for directory in settings.directories:
        problems += _examine_directory(Path(directory))
    return problems


def examine_converter() -> list[Problem]:
    """What is wrong with ffmpeg. Blocks."""
    remedy = "run apt-get install ffmpeg"
    program = ffmpeg.which()
    if program is None:
        return [
            Problem("ffmpeg", "ffmpeg is not installed: recordings serve as they are, and few of them play", remedy)
        ]
    try:
        found = ffmpeg.version(program)
    except ConversionFailed as error:
        return [Problem("ffmpeg", str(error), remedy)]
    if found.number is not None and found.number < ffmpeg.OLDEST:
        oldest = ".".join(map(str, ffmpeg.OLDEST))
        return [Problem("ffmpeg", f"ffmpeg {found.text} is older than {oldest}", f"install ffmpeg {oldest} or later")]
    if not found.makes_mp3:
        words = f"ffmpeg {found.text} was built without libmp3lame, so it can't make an mp3"
        return [Problem("ffmpeg", words, "install the distribution's ffmpeg, which has it")]
    return []


def _examine_directory(directory: Path) -> list[Problem]:
    if not directory.is_dir():
        remedy = "mount or create it, or correct recordings.directories"
        return [Problem("directories", f"{directory} is no directory", remedy)]
    if not os.access(directory, os.R_OK | os.X_OK):
        words = f"{directory} can't be read by the daemon's user"
        return [Problem("directories", words, f"add that user to the group of {directory}")]
    return []


def examine_cache(cache: Path, spare: int) -> list[Problem]:
    """What keeps conversions from being written. Blocks."""
    existing = next(one for one in (cache, *cache.parents) if one.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        words = f"{cache} can't be written by the daemon's user, so no recording is converted"
        return [Problem("converted recordings", words, f"make {existing} a directory of that user")]
    free = shutil.disk_usage(existing).free
    if free < spare:
        words = f"{free // 1_000_000} MB are free under {existing}: below {spare // 1_000_000} MB nothing is converted"
        return [Problem("converted recordings", words, "make room on that disk, or lower recordings.cache_gb")]
    return []
