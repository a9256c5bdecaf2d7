"""Conversions: in warm processes that can be killed, promptly at first and then patiently, never twice at once.

Every worker is the head of a session and process group, and its ffmpeg belongs to it: to kill is to kill the group.
They make way for the daemon and the Asterisk beside it, the patient lane even more, which besides is a single worker.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from itgrix_kommo.errors import ConversionFailed, RecordingError
from itgrix_kommo.recordings.job import seconds_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from itgrix_kommo.recordings.job import Job

PROMPT_NICENESS: Final = 10
PATIENT_NICENESS: Final = 19

PATIENT_LIMIT: Final = 3600.0
"""Seconds until a patient conversion is given up: a whole day's recording takes some minutes."""

_LAST_WORDS: Final = 2000  # bytes of a dead worker's stderr that are worth telling

_log = structlog.get_logger(__name__)


class Made(NamedTuple):
    """`seconds` of sound; None if another process had made the file before."""

    seconds: float | None


class _Worker:
    """One worker process with a directory of its own for what it writes aside."""

    def __init__(self, process: asyncio.subprocess.Process, scratch: Path) -> None:
        self._process = process
        self._scratch = scratch

    @classmethod
    async def start(cls, work: Path, niceness: int) -> _Worker:
        scratch = _new_directory(work)
        try:
            with (scratch / "stderr").open("wb") as stderr:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "itgrix_kommo.recordings.worker", str(scratch), str(niceness)),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                )
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return cls(process, scratch)

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, job: Job) -> Made:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - both are pipes, as asked for above
        assert stdout is not None  # noqa: S101 - as above
        with suppress(ConnectionError):  # it died: its silence tells
            stdin.write(job.line())
            await stdin.drain()
        if line := await stdout.readline():
            return Made(seconds_in(line))
        status = await self._process.wait()
        last_words = await asyncio.to_thread(_tail, self._scratch / "stderr")
        _log.error("recording_worker_died", status=status, stderr=last_words)
        raise ConversionFailed(f"the converter's worker died (status {status}): its last words are in the log")

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)


class _Lane:
    """At most `size` conversions at once, each in a worker that is kept for the next one."""

    def __init__(self, size: int, niceness: int, work: Path) -> None:
        self._slots = asyncio.Semaphore(size)
        self._size = size
        self._niceness = niceness
        self._work = work
        self._idle: list[_Worker] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def warm(self) -> None:
        self._idle += [await _Worker.start(self._work, self._niceness) for _ in range(self._size)]

    async def convert(self, job: Job) -> Made:
        """Waits for its turn. When it is cancelled, or the worker fails, the worker is killed.

        Raises RecordingUnusable, ConversionFailed.
        """
        async with self._slots:
            worker = await self._take()
            try:
                made = await worker.ask(job)
            except RecordingError:
                self._give_back(worker)
                raise
            except BaseException:
                self._end_soon(worker)
                raise
            self._give_back(worker)
            return made

    async def close(self) -> None:
        for worker in self._idle:
            self._end_soon(worker)
        self._idle.clear()
        await asyncio.gather(*self._ending)

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            self._end_soon(worker)
        try:
            return await _Worker.start(self._work, self._niceness)
        except OSError as error:
            raise ConversionFailed(f"no process for a conversion can be started: {error}") from error

    def _give_back(self, worker: _Worker) -> None:
        if worker.is_alive:
            self._idle.append(worker)
        else:
            self._end_soon(worker)

    def _end_soon(self, worker: _Worker) -> None:
        task = asyncio.create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class Converter:
    """Makes an mp3 within `timeout` seconds, or goes on making it at low priority.

    `workers` is the size of the prompt lane, by default half of the processors; the patient lane has one. `made` is
    awaited with the target of each new file.
    """

    def __init__(
        self,
        work: Path,
        *,
        timeout: float,
        made: Callable[[Path], Awaitable[None]],
        workers: int | None = None,
        patient_limit: float = PATIENT_LIMIT,
    ) -> None:
        self._timeout = timeout
        self._made = made
        self._patient_limit = patient_limit
        self._prompt = _Lane(workers or max(1, (os.cpu_count() or 1) // 2), PROMPT_NICENESS, work)
        self._patient = _Lane(1, PATIENT_NICENESS, work)
        self._prompt_tasks: dict[str, asyncio.Task[Made | None]] = {}
        self._patient_tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def waiting(self) -> tuple[int, int]:
        """Conversions that are asked for and not done: promptly, patiently."""
        return len(self._prompt_tasks), len(self._patient_tasks)

    async def start(self) -> None:
        await self._prompt.warm()

    async def convert(self, job: Job) -> Made | None:
        """None: it takes too long and goes on at low priority; `job.target` will appear, if anything comes of it.

        Who asks for the same target meanwhile shares the conversion. Raises RecordingUnusable, ConversionFailed.
        """
        if job.target in self._patient_tasks:
            return None
        task = self._prompt_tasks.get(job.target)
        if task is None:
            task = self._prompt_tasks[job.target] = asyncio.create_task(self._promptly(job))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # all askers may have gone
        return await asyncio.shield(task)

    async def settled(self) -> None:
        """Wait until nothing is being converted."""
        while tasks := [*self._prompt_tasks.values(), *self._patient_tasks.values()]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Kills what is under way: it begins anew when somebody asks for it."""
        tasks = [*self._prompt_tasks.values(), *self._patient_tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(self._prompt.close(), self._patient.close())

    async def _promptly(self, job: Job) -> Made | None:
        try:
            async with asyncio.timeout(self._timeout):
                made = await self._prompt.convert(job)
        except TimeoutError:
            self._patient_tasks[job.target] = asyncio.create_task(self._patiently(job))
            return None
        finally:
            del self._prompt_tasks[job.target]
        await self._made(Path(job.target))
        return made

    async def _patiently(self, job: Job) -> None:
        try:
            async with asyncio.timeout(self._patient_limit):
                await self._patient.convert(job)
            await self._made(Path(job.target))
        except TimeoutError:
            _log.warning("recording_conversion_given_up", sources=job.sources, after_s=self._patient_limit)
        except RecordingError as error:
            _log.warning("recording_conversion_failed", sources=job.sources, error=str(error))
        finally:
            del self._patient_tasks[job.target]


def _new_directory(work: Path) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=work))


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_WORDS))
            return file.read().decode(errors="replace")
    except OSError as error:
        return f"lost: {error}"
