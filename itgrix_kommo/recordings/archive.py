"""The room's face: from what Asterisk named to a link, and from a link to the file that plays.

The pipeline calls `prepare` once a call is over, the web room mounts `serving.routes(archive)`, the composition root
starts and closes. Everything that touches a disk happens in a few threads of the archive's own, so that a hanging
network mount delays nobody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, ParamSpec, TypeVar

import structlog

from itgrix_kommo.errors import ConversionFailed, RecordingError, RecordingUnusable
from itgrix_kommo.recordings.audio import HEAD, Audio, recognise
from itgrix_kommo.recordings.completeness import Look, Patience, look_at, until_complete
from itgrix_kommo.recordings.conversion import Converter, Made
from itgrix_kommo.recordings.converted import Converted, is_current
from itgrix_kommo.recordings.finding import Directories
from itgrix_kommo.recordings.job import Job
from itgrix_kommo.recordings.links import Links, Ticket
from itgrix_kommo.recordings.recording import CallFacts, NoRecording, Prepared, Recording

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import date

    from itgrix_kommo.config import Recordings as Settings
    from itgrix_kommo.recordings.recording import RecordingIndex

SPARE: Final = 256_000_000
"""Bytes that conversions leave free on the cache's disk: Asterisk may be recording on the same one."""

SWEEP_EVERY: Final = 3600.0
TRY_AGAIN: Final = 600.0
"""Seconds in which listening to a recording does not start a conversion that has just failed."""

_GIGABYTE: Final = 1_000_000_000
_MOST_FAILURES: Final = 1000
_THREADS: Final = 8
_DAY: Final = 86_400

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Playable:
    """An open file, and what is to be said of it; who gets it closes it. `changed_ns` is its modification time."""

    file: BinaryIO
    size: int
    changed_ns: int
    etag: str
    media_type: str
    file_name: str

    @property
    def is_mp3(self) -> bool:
        return self.media_type == "audio/mpeg"


class Recordings:
    """`key` signs the links; `cache` is the directory of the converted recordings, which is all ours."""

    def __init__(
        self,
        settings: Settings,
        index: RecordingIndex,
        *,
        key: bytes,
        cache: Path,
        workers: int | None = None,
        patience: Patience | None = None,
        spare: int = SPARE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._index = index
        self._links = None if settings.public_url is None else Links(settings.public_url, key)
        self._directories = Directories(settings.directories, settings.path_map)
        self._cache = Converted(cache, limit=int(settings.cache_gb * _GIGABYTE), days=settings.cache_days)
        self._patience = patience or Patience()
        self._spare = spare
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, "recordings")
        self._failed_at: OrderedDict[str, float] = OrderedDict()
        self._converter = Converter(
            self._cache.work, timeout=settings.conversion_timeout_s, made=self._made, workers=workers
        )

    async def start(self) -> None:
        """Have warm workers. Raises OSError where the cache's directory can't be used."""
        if self._settings.enabled and self._settings.cache_gb:
            await self._converter.start()

    async def run(self) -> None:
        """Keep the cache within its limits, for ever."""
        while True:
            removed = await self._in_thread(self._cache.sweep, self._clock())
            if removed:
                _log.info("converted_recordings_removed", files=removed)
            await asyncio.sleep(SWEEP_EVERY)

    async def settled(self) -> None:
        """Wait until nothing is being converted."""
        await self._converter.settled()

    async def close(self) -> None:
        await self._converter.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def conversions_waiting(self) -> tuple[int, int]:
        """Conversions asked for and not done: the prompt ones, and those that go on at low priority."""
        return self._converter.waiting

    async def prepare(
        self,
        named: str,
        facts: CallFacts,
        customize: Callable[[Path], Awaitable[str | None]] | None = None,
    ) -> Prepared | NoRecording:
        """Find the recording that Asterisk named, wait until it is complete, convert it, and have a link to it.

        Takes up to some seconds (`Patience`, conversion_timeout_s), and may be repeated. `customize` gets the complete
        file's path and answers another one, the same, or None for no recording. Raises RecordingUnfinished where it is
        to be repeated later.
        """
        if not self._settings.enabled:
            return NoRecording("recordings are switched off (recordings.enabled)")
        if self._links is None:
            return NoRecording("recordings have no address for links (recordings.public_url)")
        try:
            sources = await self._complete(named, facts.called_at.date())
            words = ""
            if customize is not None:
                answer = await customize(sources[0])
                if not answer:
                    return NoRecording("cancelled by customization")
                sources, words = await self._customized(sources, answer)
            recording = Recording(
                facts.recording_id, tuple(map(str, sources)), facts.file_name, facts.called_at.timestamp()
            )
            prepared = await self._prepared(recording, self._links.link(self._ticket(recording)), words)
        except RecordingUnusable as error:
            return NoRecording(f"no recording {named[:200]!r}: {error}")
        await self._index.put(recording)
        return prepared

    async def link_for(self, recording_id: str) -> str | None:
        """The link to a recording that was prepared once, always the same; None where there is none."""
        recording = await self._index.get(recording_id)
        if recording is None or self._links is None:
            return None
        return self._links.link(self._ticket(recording))

    def ticket(self, signed: str) -> Ticket | None:
        """What the signed part of a link says; None if it is not ours."""
        return None if self._links is None else self._links.read(signed)

    def has_expired(self, ticket: Ticket) -> bool:
        return ticket.has_expired(self._clock())

    async def open(self, recording_id: str) -> Playable | None:
        """The mp3, made first if need be and possible in time, or else the file as Asterisk wrote it; None: gone."""
        recording = await self._index.get(recording_id)
        if recording is None:
            return None
        playable = await self._in_thread(self._look, recording)
        if playable is None or playable.is_mp3 or not self._is_worth_converting(recording):
            return playable
        try:
            made = await self._convert(recording)
        except RecordingError:
            return playable
        except BaseException:
            playable.file.close()
            raise
        if made is None:
            return playable
        playable.file.close()
        return await self._in_thread(self._look, recording)

    async def read(self, playable: Playable, begin: int, length: int) -> bytes:
        """Bytes of an open file; fewer where it ends."""
        return await self._in_thread(os.pread, playable.file.fileno(), length, begin)

    async def _complete(self, named: str, on: date) -> tuple[Path, ...]:
        found: tuple[Path, ...] = ()

        def looks() -> tuple[Look, ...]:
            nonlocal found
            found = self._directories.find(named, on)
            return self._looks(found)

        await until_complete(lambda: self._in_thread(looks), self._patience)
        return found

    def _looks(self, paths: tuple[Path, ...]) -> tuple[Look, ...]:
        looks = []
        for path in paths:
            try:
                descriptor = self._directories.open(path)
            except FileNotFoundError:
                return ()
            try:
                looks.append(look_at(descriptor))
            finally:
                os.close(descriptor)
        return tuple(looks)

    async def _customized(self, sources: tuple[Path, ...], answer: str) -> tuple[tuple[Path, ...], str]:
        if answer == str(sources[0]):
            return sources, ""
        try:
            return (await self._in_thread(self._directories.admit, answer),), "as the customization gave it, "
        except RecordingUnusable as error:
            _log.warning("customized_recording_refused", path=answer, error=str(error))
            return sources, f"the customization's file was not used ({error}), "

    async def _prepared(self, recording: Recording, link: str, words: str) -> Prepared:
        audio = await self._in_thread(self._recognised, recording)
        if len(audio) == 1 and audio[0].is_mp3:
            return Prepared(recording.id, link, is_mp3=True, seconds=None, words=f"{words}an mp3 already")
        if not self._settings.cache_gb:
            words += "the original serves, as nothing is to be kept converted (recordings.cache_gb)"
            return Prepared(recording.id, link, is_mp3=False, seconds=None, words=words)
        try:
            made = await self._convert(recording)
        except ConversionFailed as error:
            words += f"the original serves: {error}"
            return Prepared(recording.id, link, is_mp3=False, seconds=None, words=words)
        if made is None:
            words += "the original serves, while the conversion goes on"
            return Prepared(recording.id, link, is_mp3=False, seconds=None, words=words)
        words += "converted before" if made.seconds is None else f"converted, {made.seconds:.0f} s of sound"
        return Prepared(recording.id, link, is_mp3=True, seconds=made.seconds, words=words)

    def _recognised(self, recording: Recording) -> list[Audio]:
        found = []
        for source in recording.sources:
            try:
                with os.fdopen(self._directories.open(Path(source)), "rb", buffering=0) as file:
                    found.append(recognise(source, file.read(HEAD), os.fstat(file.fileno()).st_size))
            except FileNotFoundError as error:
                raise RecordingUnusable("it was removed before it could be used") from error
        return found

    async def _convert(self, recording: Recording) -> Made | None:
        job = Job(
            sources=recording.sources,
            directories=tuple(self._settings.directories),
            target=str(self._cache.path_of(recording.id)),
            bitrate=self._settings.bitrate,
            spare=self._spare,
        )
        try:
            return await self._converter.convert(job)
        except RecordingError as error:
            _log.warning("recording_conversion_failed", recording=recording.id, error=str(error))
            self._failed_at[recording.id] = self._clock()
            self._failed_at.move_to_end(recording.id)
            if len(self._failed_at) > _MOST_FAILURES:
                self._failed_at.popitem(last=False)
            raise

    def _is_worth_converting(self, recording: Recording) -> bool:
        failed_at = self._failed_at.get(recording.id)
        return bool(self._settings.cache_gb) and (failed_at is None or self._clock() - failed_at > TRY_AGAIN)

    async def _made(self, target: Path) -> None:
        await self._in_thread(self._cache.added, target, self._clock())

    def _look(self, recording: Recording) -> Playable | None:
        """The best file that is there now."""
        originals = [one for source in recording.sources if (one := self._original(recording, source))]
        if len(recording.sources) == 1 and originals and originals[0].is_mp3:
            return originals[0]
        path = self._cache.path_of(recording.id)
        is_whole = len(originals) == len(recording.sources)
        converted = None
        # What was removed from the PBX may still be here converted.
        if not is_whole or is_current(path, max(one.changed_ns for one in originals)):
            with suppress(FileNotFoundError):
                converted = _playable(path.open("rb", buffering=0), "audio/mpeg", f"{recording.file_name}.mp3")
                self._cache.heard(path, self._clock())
        best = converted or (originals[0] if originals else None)
        for one in originals:
            if one is not best:
                one.file.close()
        return best

    def _original(self, recording: Recording, source: str) -> Playable | None:
        try:
            file = os.fdopen(self._directories.open(Path(source)), "rb", buffering=0)
        except (FileNotFoundError, RecordingUnusable):
            return None
        try:
            media_type = recognise(source, os.pread(file.fileno(), HEAD, 0), os.fstat(file.fileno()).st_size).media_type
        except RecordingUnusable:
            media_type = "application/octet-stream"
        return _playable(file, media_type, recording.file_name + Path(source).suffix)

    def _ticket(self, recording: Recording) -> Ticket:
        days = self._settings.link_days
        return Ticket(recording.id, None if days is None else int(recording.called_at) + days * _DAY)

    async def _in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))


def _playable(file: BinaryIO, media_type: str, file_name: str) -> Playable:
    status = os.fstat(file.fileno())
    version = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
    etag = f'"{hashlib.sha256(version.encode()).hexdigest()[:32]}"'
    return Playable(file, status.st_size, status.st_mtime_ns, etag, media_type, file_name)
