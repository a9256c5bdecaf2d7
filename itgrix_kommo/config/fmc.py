"""The file of patterns of mobiles that count as extensions (FMC): one a line, read again whenever it changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import structlog

_PATTERN: Final = re.compile(r"\+?[0-9Xx]{2,32}", re.ASCII)
_LONGEST: Final = 1 << 20  # bytes; a hundred thousand patterns are more than any company has mobiles

_log = structlog.get_logger(__name__)


class FmcPatterns:
    """Lines such as `8123456XXXX`: digits, an optional leading plus, `X` for any digit; ``#`` begins a remark."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None

    def read_if_changed(self) -> list[str] | None:
        """The patterns, if the file is not as it was at the last look; None if it is. No file is no patterns.

        A file that can't be read leaves the former patterns at work, and is told once.
        """
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            seen = (0, 0)
        except OSError as error:
            self._refuse((-1, -1), error.strerror or str(error))
            return None
        if seen == self._seen:
            return None
        if seen == (0, 0):
            self._seen = seen
            return []
        if seen[1] > _LONGEST:
            self._refuse(seen, f"it is larger than {_LONGEST} bytes")
            return None
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            self._refuse(seen, str(error))
            return None
        self._seen = seen
        return [pattern for number, line in enumerate(lines, 1) if (pattern := self._pattern(number, line))]

    def _pattern(self, number: int, line: str) -> str:
        text = line.partition("#")[0].strip()
        if text and not _PATTERN.fullmatch(text):
            _log.warning(
                "fmc_pattern_refused",
                place=f"{self._path}:{number}",
                remedy="write digits, an optional leading plus, and X for any digit, such as 8123456XXXX",
            )
            return ""
        return text

    def _refuse(self, seen: tuple[int, int], why: str) -> None:
        if seen != self._seen:
            _log.error("fmc_patterns_unreadable", file=str(self._path), why=why, remedy="mend it: it is read again")
        self._seen = seen
