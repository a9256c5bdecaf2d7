"""Runs the customizations for the daemon, as another user: they can read neither its secrets nor its memory.

The daemon connects to a UNIX socket, one connection for each worker; see frames.py. Who may connect may run any file as
this process's user, so the socket is for its owner and group alone. Whatever the daemon would kill it hangs up on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import structlog

from itgrix_kommo.customizations import frames
from itgrix_kommo.customizations.finding import HookFile, Kind
from itgrix_kommo.customizations.job import Job
from itgrix_kommo.customizations.process import PRINTED_KEPT, Head
from itgrix_kommo.customizations.workers import Worker, new_worker
from itgrix_kommo.errors import HookError

if TYPE_CHECKING:
    from itgrix_kommo.config import Hook

MOST_WORKERS: Final = 200
"""Connections at once: three lanes and two live ones of three kinds, with a dozen workers each."""

_ONLY_OWNER_AND_GROUP: Final = 0o117

_log = structlog.get_logger(__name__)


class _Told(Head):
    """Sends on what a call prints, as far as it will be kept."""

    __slots__ = ("_kind", "_writer")

    def __init__(self, kind: bytes, writer: asyncio.StreamWriter) -> None:
        super().__init__(PRINTED_KEPT)
        self._kind = kind
        self._writer = writer

    def feed(self, data: bytes) -> None:
        kept = data[: max(0, self.limit - len(self.data))]
        super().feed(data)
        if kept and not self._writer.is_closing():
            self._writer.write(frames.encoded(self._kind, kept))


class HookHost:
    """Serves until it is cancelled."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Raises OSError where the socket can't be made."""
        before = os.umask(_ONLY_OWNER_AND_GROUP)
        try:
            server = await asyncio.start_unix_server(self._welcome, self._socket)
        finally:
            os.umask(before)
        try:
            on_ready()
            await asyncio.Event().wait()
        finally:
            server.close()
            # Each ends as if the daemon had hung up, and is not interrupted while it sees its processes off.
            for writer in self._connections.values():
                writer.close()
            await asyncio.gather(*self._connections, return_exceptions=True)
            self._socket.unlink(missing_ok=True)

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MOST_WORKERS:
            _log.warning("too_many_workers", most=MOST_WORKERS)
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(_serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, from its beginning to its end: the worker lives as long as it. Not to be cancelled."""
    worker: Worker | None = None
    try:
        kind = Kind(_body(await frames.read(reader, largest=frames.LARGEST_JOB), frames.KIND).decode())
        worker = new_worker(kind)
        await _listen(reader, writer, worker, kind)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the daemon wants no more of it, or the worker is gone
    except (HookError, ValueError) as error:
        _log.warning("hook_connection_refused", error=str(error))
        writer.write(frames.encoded(frames.WORKER_GONE, str(error).encode("utf-8", "backslashreplace")))
    finally:
        if worker is not None:
            await worker.close()
        writer.close()


async def _listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, worker: Worker, kind: Kind) -> None:
    """Hand on the jobs, and notice meanwhile that the daemon hangs up."""
    jobs: asyncio.Queue[bytes] = asyncio.Queue(1)
    work = asyncio.get_running_loop().create_task(_work(worker, kind, jobs, writer))
    work.add_done_callback(lambda _: writer.close())
    try:
        while True:
            jobs.put_nowait(_body(await frames.read(reader, largest=frames.LARGEST_JOB), frames.JOB))
    except asyncio.QueueFull:
        raise HookError("a job before the last one was answered") from None
    finally:
        work.cancel()
        await asyncio.wait([work])


async def _work(worker: Worker, kind: Kind, jobs: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
    """Start the worker and give it its jobs; ends when the worker has."""
    worker.printed.output = _Told(frames.OUTPUT, writer)
    worker.printed.errors = _Told(frames.ERRORS, writer)
    reply, answer = await _outcome(worker, worker.start())
    while True:
        _tell(worker, writer, reply, answer or b"")
        if reply == frames.WORKER_GONE:
            return
        name, _, payload = (await jobs.get()).partition(b"\n")
        path = Path(os.fsdecode(name))
        reply, answer = await _outcome(worker, worker.run(Job(HookFile(cast("Hook", path.stem), path, kind), payload)))


def _body(frame: frames.Frame, kind: bytes) -> bytes:
    if frame.kind != kind:
        raise HookError(f"a frame {frame.kind!r} in place of {kind!r}: only the daemon of the same version may connect")
    return frame.body


async def _outcome(worker: Worker, doing: Awaitable[bytes | None]) -> tuple[bytes, bytes | None]:
    try:
        return frames.ANSWER, await doing
    except HookError as error:
        words = str(error).encode("utf-8", "backslashreplace")
        return frames.FAILURE if worker.ready else frames.WORKER_GONE, words


def _tell(worker: Worker, writer: asyncio.StreamWriter, reply: bytes, body: bytes) -> None:
    output, errors = worker.printed.output, worker.printed.errors
    if output.total > output.limit or errors.total > errors.limit:
        totals = frames.PRINTED.pack(output.total, errors.total)
        writer.write(frames.encoded(frames.PRINTED_IN_ALL, totals))
    worker.printed.take()
    writer.write(frames.encoded(reply, body))
