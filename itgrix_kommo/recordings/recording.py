"""A recording as the rest of the daemon knows it: by an id, never by a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from datetime import datetime

_LONGEST_FILE_NAME: Final = 120
# Besides controls: what some system refuses in a file's name, and what turns the writing direction.
_UNWANTED: Final = re.compile(
    r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+'
)


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What the archive wants to know of the call.

    `recording_id` is what the link will refer to, for ever: the same for every attempt at the same recording, another
    one for every other recording. `called_at` is aware, in the PBX's own time zone (FreePBX's folders are dates there).
    `client` and `employee` are shown in the file's name.
    """

    recording_id: str
    called_at: datetime
    client: str = ""
    employee: str = ""

    @property
    def file_name(self) -> str:
        """The name under which a person saves it, without extension."""
        words = f"{self.called_at:%Y-%m-%d %H-%M-%S} {self.client} {self.employee}"
        return " ".join(_UNWANTED.sub(" ", words).split())[:_LONGEST_FILE_NAME].strip()


@dataclass(frozen=True, slots=True)
class Recording:
    """`sources` are real paths: one, or those of the incoming and the outgoing side. `called_at` is in Unix seconds."""

    id: str
    sources: tuple[str, ...]
    file_name: str
    called_at: float


class RecordingIndex(Protocol):
    """Remembers recordings by their ids for as long as their links work. The storage has one."""

    async def get(self, recording_id: str) -> Recording | None: ...

    async def put(self, recording: Recording) -> None:
        """Keep it, in the place of the former one with this id."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """There is a link. `is_mp3`: it plays at once; else the original serves until the mp3 is there, if ever.

    `seconds` of sound, where this conversion told; `words` say for the timeline what was done.
    """

    recording_id: str
    link: str
    is_mp3: bool
    seconds: float | None
    words: str


@dataclass(frozen=True, slots=True)
class NoRecording:
    """There is nothing to link to; `words` say why, for the timeline."""

    words: str
