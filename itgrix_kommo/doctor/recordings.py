"""Recordings: their directories, whether new ones come, what makes an mp3 of them, the room for it."""

from __future__ import annotations

import contextlib
import grp
import heapq
import os
import time
from asyncio import to_thread
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from itgrix_kommo.config import Config
from itgrix_kommo.doctor.examination import Check, Patient
from itgrix_kommo.doctor.findings import Finding, age, fault, ok, skipped, warning
from itgrix_kommo.doctor.people import ENTER, READ, Person
from itgrix_kommo.doctor.storage import url_of, user_of
from itgrix_kommo.recordings import ffmpeg
from itgrix_kommo.recordings.archive import SPARE
from itgrix_kommo.recordings.checks import Problem, examine_cache, examine_converter
from itgrix_kommo.storage.files import RECORDINGS, home

GROUP: Final = "recordings"

QUIET: Final = 3 * 86_400.0
"""Seconds without a new recording that a weekend explains."""

MOST_FILES: Final = 50_000
"""Looked at for the newest one; directories with the latest dates in their names come first."""


class Newest(NamedTuple):
    path: Path
    changed_at: float


def checks(patient: Patient) -> list[Check]:
    settings = patient.config.recordings
    if not settings.enabled:
        return [Check(GROUP, "directories", _switched_off)]
    return [
        *(
            Check(
                GROUP,
                "directory",
                partial(to_thread, directory, Path(one), patient.config),
                late=f"{one} hangs: see whether its mount is alive (mount, dmesg), and mount it again",
            )
            for one in settings.directories
        ),
        *(
            Check(GROUP, "path_map", partial(to_thread, mapping, pbx, Path(here), settings.directories))
            for pbx, here in settings.path_map.items()
        ),
        Check(GROUP, "ffmpeg", partial(to_thread, converter)),
        Check(GROUP, "converted", partial(to_thread, cache, patient.config)),
    ]


async def _switched_off() -> Finding:
    return skipped("recordings.enabled is false")


def directory(path: Path, config: Config) -> Finding:
    who = user_of(config)
    try:
        is_there = path.is_dir()
    except PermissionError:
        if who.uid != os.geteuid():
            raise
        return fault(f"{path} can't be reached by {who.name}, who runs the daemon", _let_in(path, who))
    if not is_there:
        words = "is no directory" if path.exists() else "does not exist"
        return fault(f"{path} {words}", "mount or create it, or correct recordings.directories")
    if not who.may(path, READ | ENTER):
        return fault(f"{path} can't be read by {who.name}, who runs the daemon", _let_in(path, who))
    newest = newest_in(path)
    if newest is None:
        return warning(
            f"{path} holds no recording",
            "if calls are recorded: see where (astspooldir in asterisk.conf, MixMonitor in the dialplan), and correct "
            "recordings.directories or recordings.path_map",
        )
    if not who.may(newest.path, READ):
        return fault(f"{newest.path} can't be read by {who.name}, who runs the daemon", _let_in(newest.path, who))
    return judge_newest(path, newest, time.time())


def mapping(pbx: str, here: Path, directories: Sequence[str]) -> Finding:
    """Whether files that the PBX names below `pbx` may be looked for below `here`."""
    within = next((one for one in directories if here.resolve().is_relative_to(Path(one).resolve())), None)
    if within is None:
        return fault(
            f"recordings.path_map: {pbx} is {here} here, in none of recordings.directories: nothing is read there",
            f'add "{here}" to recordings.directories, or correct recordings.path_map',
        )
    if not here.is_dir():
        return fault(
            f"recordings.path_map: {pbx} is {here} here, which is no directory",
            "mount or create it, or correct recordings.path_map",
        )
    return ok(f"what the PBX has in {pbx} is looked for in {here}")


def judge_newest(path: Path, newest: Newest, now: float) -> Finding:
    old = now - newest.changed_at
    if old > QUIET:
        return warning(
            f"the newest recording in {path} is {age(old)} old",
            "if calls were recorded since: see where to (MixMonitor in the dialplan, the disk), and correct "
            "recordings.directories",
        )
    return ok(f"{path} can be read, its newest recording is {age(old)} old")


def _let_in(path: Path, who: Person) -> str:
    """What to type so that `who` may read `path`, or pass what bars the way to it."""
    barred = path
    group = "asterisk"
    with contextlib.suppress(KeyError, OSError):
        barred = next((one for one in reversed(path.resolve().parents) if not who.may(one, ENTER)), path)
        group = grp.getgrgid(barred.stat().st_gid).gr_name
    if group == "root":  # never to be joined
        return f"type chgrp {who.name} {barred}; chmod g+rX {barred}, or let Asterisk record elsewhere"
    return (
        f"type usermod --append --groups {group} {who.name} and restart the daemon; "
        f"if the group may not read either, chmod g+rX {barred}"
    )


def newest_in(directory: Path) -> Newest | None:
    """The file that changed last, below too; of the first MOST_FILES. Raises OSError."""
    newest: Newest | None = None
    for number, entry in enumerate(_files(directory)):
        if number >= MOST_FILES:
            break
        try:
            changed_at = entry.stat(follow_symlinks=False).st_mtime
        except OSError:
            continue  # gone meanwhile
        if newest is None or changed_at > newest.changed_at:
            newest = Newest(Path(entry.path), changed_at)
    return newest


def _files(directory: Path) -> Iterator[os.DirEntry[str]]:
    ahead = [_Backwards(str(directory))]
    while ahead:
        try:
            entries = list(os.scandir(heapq.heappop(ahead)))
        except OSError:
            continue  # a part that we may not see; the daemon's own rights are told of the newest one
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                heapq.heappush(ahead, _Backwards(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry


class _Backwards(str):
    """Sorted from the last name to the first: 2026/11 before 2025/12."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def converter() -> list[Finding]:
    problems = examine_converter()
    program = ffmpeg.which()
    if problems or program is None:
        return _findings(problems)
    return [ok(f"ffmpeg {ffmpeg.version(program).text} makes mp3")]


def cache(config: Config) -> list[Finding]:
    settings = config.recordings
    if not settings.cache_gb:
        return [skipped("recordings.cache_gb is 0, so nothing is converted")]
    where = home(url_of(config)) / RECORDINGS
    return _findings(examine_cache(where, SPARE)) or [ok(f"there is room in {where}")]


def _findings(problems: Sequence[Problem]) -> list[Finding]:
    return [fault(one.words, one.remedy.replace("run ", "type ", 1)) for one in problems]
