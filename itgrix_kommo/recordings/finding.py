"""From what Asterisk named to a file inside the configured directories, and to no file outside.

Asterisk names an absolute path, one relative to its monitor directory, or (as the CDR's recordingfile) a bare name
whose folder is the date. The PBX's directory may be mounted elsewhere on this host, the file may have been converted by
a command of the dialplan meanwhile, and a recording may consist of one file per side.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Final

from itgrix_kommo.errors import RecordingUnusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LONGEST_NAME: Final = 4096  # bytes, Linux's own PATH_MAX

# In the order of preference where the named file itself is not there: what commands after the recording leave behind.
EXTENSIONS: Final = (
    "mp3", "wav", "WAV", "ogg", "opus", "gsm", "ulaw", "alaw", "g722", "sln", "sln16", "sln24", "sln48",
    "wav16", "wav49",
)  # fmt: skip

_ONE_DAY: Final = timedelta(days=1)
_DATE_IN_NAME: Final = re.compile(r"(?<!\d)(20\d{2})(\d{2})(\d{2})(?!\d)", re.ASCII)
_SIDES: Final = (("-in", "-out"), ("-out", "-in"))
_OTHER_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


def places(named: str, directories: Sequence[PurePath], path_map: Mapping[str, str], on: date) -> Iterator[PurePath]:
    """Absolute paths at which the file may be, the likeliest first. `on` is the call's date on the PBX's clock.

    Raises RecordingUnusable for what names no file.
    """
    path = _checked(named)
    if path.is_absolute():
        yield _mapped(path, path_map)
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for directory in directories:
        for begin in range(len(parts)):
            yield directory.joinpath(*parts[begin:])
    for directory in directories:
        for day in _days(path.name, on):
            yield directory.joinpath(f"{day:%Y}", f"{day:%m}", f"{day:%d}", path.name)


def other_names(name: str) -> Iterator[tuple[str, ...]]:
    """What the file may be called beside `name`: with another extension, or as two files, the incoming side first."""
    stem, dot, extension = name.rpartition(".")
    if not dot or extension not in EXTENSIONS:
        stem, extension = name, ""
    if extension == "wav49":
        yield (f"{stem}.WAV",)  # Asterisk's format is called wav49, its files are not
    for one in [extension] if extension else EXTENSIONS:
        yield f"{stem}-in.{one}", f"{stem}-out.{one}"
    for one in EXTENSIONS:
        if one != extension:
            yield (f"{stem}.{one}",)


def partner(name: str) -> tuple[str, bool] | None:
    """The name of the other side's file, and whether it is the outgoing one; None for a name that tells no side."""
    stem, dot, extension = name.rpartition(".")
    for side, other in _SIDES:
        if dot and stem.endswith(side):
            return f"{stem.removesuffix(side)}{other}.{extension}", other == "-out"
    return None


def _checked(named: str) -> PurePosixPath:
    shown = repr(named[:200])
    if "\0" in named:
        raise RecordingUnusable(f"the recording's name {shown} holds a NUL byte, so it names no file")
    if len(named.encode(errors="surrogatepass")) > LONGEST_NAME:
        raise RecordingUnusable(f"the recording's name {shown}… is longer than {LONGEST_NAME} bytes")
    path = PurePosixPath(named)
    if ".." in path.parts:
        raise RecordingUnusable(f"the recording's name {shown} climbs out by '..', so it is not looked for")
    if not path.name:
        raise RecordingUnusable(f"{shown} names no file" if named else "Asterisk named no recording")
    return path


def _mapped(path: PurePosixPath, path_map: Mapping[str, str]) -> PurePosixPath:
    matching = [pbx for pbx in path_map if path.is_relative_to(pbx)]
    if not matching:
        return path
    longest = max(matching, key=lambda pbx: len(PurePosixPath(pbx).parts))
    return PurePosixPath(path_map[longest]) / path.relative_to(longest)


def _days(name: str, on: date) -> list[date]:
    """FreePBX's folder is the day on which the recording began; a call around midnight may have begun on another."""
    days = []
    for year, month, day in _DATE_IN_NAME.findall(name):
        with suppress(ValueError):  # digits that look like a date may be a phone number
            days.append(date(int(year), int(month), int(day)))
    return list(dict.fromkeys([*days, on, on + _ONE_DAY, on - _ONE_DAY]))


class Directories:
    """The directories that recordings may come from: finds files below them, and opens nothing else."""

    def __init__(self, directories: Iterable[str | Path], path_map: Mapping[str, str] | None = None) -> None:
        self._directories = tuple(Path(one) for one in directories)
        self._path_map = dict(path_map or {})

    def find(self, named: str, on: date) -> tuple[Path, ...]:
        """The real paths of the file, or of the two sides' files (the incoming one first); () if there is none (yet).

        Raises RecordingUnusable, in words, where the name, or what stands at its place, can't be a recording.
        """
        where = list(dict.fromkeys(places(named, self._directories, self._path_map, on)))
        refusals: list[str] = []
        for path in where:
            if real := self._real(path, refusals):
                return self._with_partner(path, real)
        for names in other_names(where[0].name):
            for folder in dict.fromkeys(path.parent for path in where):
                found = tuple(filter(None, (self._real(folder / name, refusals) for name in names)))
                if found:
                    return found
        if refusals:
            raise RecordingUnusable(refusals[0])
        return ()

    def admit(self, path: str) -> Path:
        """The real path of an existing file that somebody else named (a customization).

        Raises RecordingUnusable for everything but a regular file inside the directories.
        """
        refusals: list[str] = []
        checked = _checked(path)
        if not checked.is_absolute():
            raise RecordingUnusable(f"{path[:200]!r} is no absolute path: the customization must give one")
        real = self._real(checked, refusals)
        if real is None:
            raise RecordingUnusable(refusals[0] if refusals else f"there is no file {str(checked)!r}")
        return real

    def open(self, path: Path) -> int:
        """A descriptor for reading a file that was found earlier; the caller closes it.

        The path is walked folder by folder without following links, so what was exchanged for a link since then is
        refused. Raises RecordingUnusable; FileNotFoundError if the file is gone.
        """
        root = next((one for one in self._roots() if path.is_relative_to(one) and path != one), None)
        if root is None:
            raise RecordingUnusable(self._outside(path))
        *folders, name = path.relative_to(root).parts
        folder_flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        folder = os.open(root, folder_flags)
        try:
            for inner in folders:
                outer, folder = folder, os.open(inner, folder_flags | os.O_NOFOLLOW, dir_fd=folder)
                os.close(outer)
            # Without O_NONBLOCK, opening a FIFO would wait for its writer.
            file = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=folder
            )
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise RecordingUnusable(f"{str(path)!r} can't be opened: {error.strerror}") from error
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise RecordingUnusable(f"{str(path)!r} is no regular file any more")
        return file

    def _with_partner(self, path: PurePath, real: Path) -> tuple[Path, ...]:
        known = partner(path.name)
        if known is None:
            return (real,)
        name, is_outgoing = known
        other = self._real(path.with_name(name), [])
        if other is None:
            return (real,)
        return (real, other) if is_outgoing else (other, real)

    def _real(self, path: PurePath, refusals: list[str]) -> Path | None:
        """Where `path` really is; None if nothing usable is there, with the reason added if something else is."""
        try:
            real = Path(os.path.realpath(path, strict=True))
            mode = real.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeEncodeError:
            return None  # half a surrogate pair: no file system holds such a name
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                remedy = " by the daemon's user: give it the right" if isinstance(error, PermissionError) else ""
                refusals.append(f"{str(path)!r} can't be read{remedy}: {error.strerror}")
            return None
        if not any(real.is_relative_to(root) for root in self._roots()):
            refusals.append(self._outside(path))
            return None
        if not stat.S_ISREG(mode):
            what = next((words for is_so, words in _OTHER_KINDS if is_so(mode)), "something else")
            refusals.append(f"{str(path)!r} is {what}, not a file")
            return None
        return real

    def _roots(self) -> list[Path]:
        return [Path(os.path.realpath(one)) for one in self._directories]

    def _outside(self, path: PurePath) -> str:
        known = ", ".join(map(str, self._directories))
        return (
            f"{str(path)!r} lies outside recordings.directories ({known}): "
            "add its directory there, or map the PBX's directory by recordings.path_map"
        )
