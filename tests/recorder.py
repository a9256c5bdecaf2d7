"""An archive of recordings that answers as it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from itgrix_kommo.errors import RecordingUnfinished
from itgrix_kommo.recordings.recording import CallFacts, NoRecording, Prepared

LINK = "https://pbx.example.com:8077/recordings/signed.mp3"


class Recorder:
    """`unfinished` so many times the file still grows; then there is a link, unless the customization says no."""

    def __init__(self, unfinished: int = 0) -> None:
        self.unfinished = unfinished
        self.asked: list[tuple[str, CallFacts]] = []

    async def prepare(
        self, named: str, facts: CallFacts, customize: Callable[[Path], Awaitable[str | None]] | None = None
    ) -> Prepared | NoRecording:
        self.asked.append((named, facts))
        if len(self.asked) <= self.unfinished:
            raise RecordingUnfinished(f"{named} still grows")
        if customize is not None and await customize(Path("/monitor") / named) is None:
            return NoRecording("cancelled by customization")
        return Prepared(facts.recording_id, LINK, is_mp3=True, seconds=30.0, words="converted")
