"""A worker in the host of the customizations: a process that runs them as a user of their own (see host.py)."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from itgrix_kommo.customizations import frames
from itgrix_kommo.customizations.answer import LARGEST_ANSWER
from itgrix_kommo.customizations.workers import START_TIMEOUT, Worker
from itgrix_kommo.errors import HookError

if TYPE_CHECKING:
    from itgrix_kommo.customizations.finding import Kind
    from itgrix_kommo.customizations.job import Job

_ANSWERS_LATER: Final = 5.0
"""Seconds more than the host's own limit before a start counts as unanswered."""


class RemoteWorker(Worker):
    def __init__(self, socket: str, kind: Kind) -> None:
        """`socket` is where the host listens."""
        super().__init__()
        self._socket = socket
        self._kind = kind
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def ready(self) -> bool:
        return self._reader is not None and not self._reader.at_eof()

    async def start(self) -> None:
        self._hang_up()
        try:
            async with asyncio.timeout(START_TIMEOUT + _ANSWERS_LATER):
                self._reader, self._writer = await asyncio.open_unix_connection(self._socket)
                await self._ask(frames.encoded(frames.KIND, self._kind.value.encode()))
        except OSError as error:  # also a TimeoutError
            self._hang_up()
            reason = error.strerror or "no answer"
            raise HookError(
                f"the host of the customizations at {self._socket} can't be reached ({reason}): "
                "start it (systemctl start itgrix_amo_hooks), and let the daemon's user into its group"
            ) from error
        except BaseException:
            self._hang_up()
            raise

    async def run(self, job: Job) -> bytes:
        return await self._ask(frames.encoded(frames.JOB, os.fsencode(job.file.path) + b"\n" + job.payload))

    async def close(self) -> None:
        self._hang_up()

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = self._reader, self._writer
        if reader is None or writer is None:
            raise HookError("the host of the customizations is not connected")
        try:
            writer.write(request)
            frame = await self._reply(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._hang_up()
            raise HookError("the host of the customizations ended during the call: its log tells why") from None
        except BaseException:
            self._hang_up()  # it kills what still runs
            raise
        if frame.kind == frames.ANSWER:
            return frame.body
        if frame.kind != frames.FAILURE:
            self._hang_up()
        raise HookError(frame.body.decode("utf-8", "backslashreplace"))

    async def _reply(self, reader: asyncio.StreamReader) -> frames.Frame:
        """The frame that ends a call; what was printed meanwhile is in `printed`."""
        while True:
            frame = await frames.read(reader, largest=LARGEST_ANSWER)
            if frame.kind == frames.OUTPUT:
                self.printed.output.feed(frame.body)
            elif frame.kind == frames.ERRORS:
                self.printed.errors.feed(frame.body)
            elif frame.kind == frames.PRINTED_IN_ALL and len(frame.body) == frames.PRINTED.size:
                self.printed.output.total, self.printed.errors.total = frames.PRINTED.unpack(frame.body)
            elif frame.kind in {frames.ANSWER, frames.FAILURE, frames.WORKER_GONE}:
                return frame
            else:
                raise HookError(f"the host of the customizations at {self._socket} is none: it says {frame.kind!r}")

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
