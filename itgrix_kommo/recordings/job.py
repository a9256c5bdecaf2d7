"""What the daemon asks of a worker process and what it hears back: one line of JSON each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from itgrix_kommo.errors import ConversionFailed, RecordingUnusable

_LONGEST_WORDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """Make `target` from one source, or mix two.

    `sources` are real paths inside `directories`. `bitrate` is in ffmpeg's writing, such as "32k". `spare` is how many
    bytes must stay free on the target's disk: Asterisk records on it, perhaps.
    """

    sources: tuple[str, ...]
    directories: tuple[str, ...]
    target: str
    bitrate: str
    spare: int

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Job:
        fields = json.loads(line)
        return cls(
            sources=tuple(fields["sources"]),
            directories=tuple(fields["directories"]),
            target=fields["target"],
            bitrate=fields["bitrate"],
            spare=fields["spare"],
        )


def answer(result: float | RecordingUnusable | ConversionFailed | None) -> bytes:
    """The line that tells the seconds of sound made (None: it had been made before), or what went wrong."""
    if isinstance(result, RecordingUnusable | ConversionFailed):
        kind = "unusable" if isinstance(result, RecordingUnusable) else "failed"
        return json.dumps({kind: str(result)[:_LONGEST_WORDS]}).encode() + b"\n"
    return json.dumps({"seconds": result}).encode() + b"\n"


def seconds_in(line: bytes) -> float | None:
    """The opposite of `answer`: raises what it was given as an error."""
    match json.loads(line):
        case {"unusable": str(words)}:
            raise RecordingUnusable(words)
        case {"failed": str(words)}:
            raise ConversionFailed(words)
        case {"seconds": int() | float() | None as seconds}:
            return seconds
        case other:
            raise ConversionFailed(f"the converter's worker answered {other!r}")
