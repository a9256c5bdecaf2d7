"""What runs the files: processes of PHP and Python that wait for work, and programs that are started for each call.

A worker does one thing at a time. Whatever interrupts it (a time-out, a shutdown) kills its process group, because what
that would still say belongs to nobody; it is started anew before its next call.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import struct
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from itgrix_kommo.customizations import fastcgi, php
from itgrix_kommo.customizations.answer import LARGEST_ANSWER
from itgrix_kommo.customizations.finding import Kind
from itgrix_kommo.customizations.job import Reply, too_large
from itgrix_kommo.customizations.process import Drain, Group, Head, Printed, environment
from itgrix_kommo.errors import HookError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from itgrix_kommo.customizations.job import Job

START_TIMEOUT: Final = 10.0
"""Seconds within which a PHP or Python process must be ready; a loaded machine takes one at most."""

_LAST_WORDS: Final = 1.0
"""Seconds to wait for the exit status of a process that has hung up, to tell it."""

_HOOK_WORKER: Final = Path(__file__).with_name("hook_worker.py")
_ROOT: Final = Path("/")
_LENGTH: Final = struct.Struct(">L")


class Worker(ABC):
    """Runs one job at a time. `printed` is what the job has printed so far, for whoever logs it to take."""

    def __init__(self) -> None:
        self.printed = Printed()

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether a job can be given to it without starting it first."""

    @abstractmethod
    async def start(self) -> None:
        """Make it ready, also after it was killed. Raises HookError where that can't be."""

    @abstractmethod
    async def run(self, job: Job) -> bytes:
        """The answer's JSON, unread. Raises HookError when the file failed."""

    @abstractmethod
    async def close(self) -> None:
        """Kill what runs and free what it held."""


class WaitingWorker(Worker):
    """A process that waits for jobs on a connection of its own."""

    program: str

    def __init__(self) -> None:
        super().__init__()
        self._group: Group | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def ready(self) -> bool:
        return self._group is not None and self._group.alive and self._writer is not None

    async def start(self) -> None:
        await self.close()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                self._group, connection = await self._launch()
                self._reader, self._writer = await asyncio.open_unix_connection(sock=connection)
                await self._ask(None)
        except (HookError, OSError) as error:  # an OSError may be a TimeoutError
            await self.close()
            reason = str(error) or f"not ready within {START_TIMEOUT:.0f} s"
            raise HookError(f"{self.program} can't be started: {reason}: {self.printed.take()}") from error
        except BaseException:
            await self.close()
            raise

    async def run(self, job: Job) -> bytes:
        return (await self._ask(job)).answer()

    async def _ask(self, job: Job | None) -> Reply:
        """Without a job, whether it answers at all."""
        group, reader, writer = self._group, self._reader, self._writer
        if group is None or reader is None or writer is None:
            raise HookError(f"{self.program} is not running")
        try:
            reply = await self._exchange(reader, writer, job)
        except (asyncio.IncompleteReadError, ConnectionError):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await group.wait()
            ending = "it closed its connection" if group.alive else group.ending
            self._drop(group)
            raise HookError(f"the {self.program} process ended during the call ({ending})") from None
        except BaseException:
            self._drop(group)
            raise
        group.read_printed()
        return reply

    def _drop(self, group: Group) -> None:
        group.read_printed()
        group.kill()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._group is not None:
            await self._group.close()
            self._group = None

    @abstractmethod
    async def _launch(self) -> tuple[Group, socket.socket]:
        """Start the process; its group and our end of the connection. Raises OSError."""

    @abstractmethod
    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: Job | None) -> Reply:
        """Ask and read the reply. Raises ConnectionError or IncompleteReadError when the process is gone."""


class PhpWorker(WaitingWorker):
    """A php-cgi, asked over FastCGI: each request begins with nothing left of the one before."""

    program = "php-cgi"

    def __init__(self, php_cgi: str) -> None:
        super().__init__()
        self._command = php.cgi_command(php_cgi)

    async def _launch(self) -> tuple[Group, socket.socket]:
        # php-cgi expects a listening socket as its stdin. Ours has a name for an instant only, in a directory nobody
        # else may enter: who can talk to php-cgi can run what he likes.
        with tempfile.TemporaryDirectory(prefix="itgrix-php-") as directory, socket.socket(socket.AF_UNIX) as listening:
            address = f"{directory}/s"
            listening.bind(address)
            listening.listen(1)
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(address)
                group = await Group.start(
                    self._command,
                    printed=self.printed.errors,
                    directory=_ROOT,
                    stdin=listening.fileno(),
                    variables={"PHP_FCGI_MAX_REQUESTS": "0"},
                    tethered=True,
                )
            except BaseException:
                connection.close()
                raise
        return group, connection

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: Job | None) -> Reply:
        transcript = php.Transcript(self.printed.output, page=True)
        writer.write(php.cgi_request(job, transcript))
        records = fastcgi.Records()
        ended = False
        while not ended:
            data = await reader.read(64 * 1024)
            if not data:
                raise ConnectionResetError
            for kind, content in records.feed(data):
                if kind == fastcgi.STDOUT:
                    transcript.feed(content)
                elif kind == fastcgi.STDERR:
                    self.printed.errors.feed(content)
                ended = ended or kind == fastcgi.END_REQUEST
        return transcript.reply()


class PythonWorker(WaitingWorker):
    """A Python of its own, the same that runs the connector."""

    program = "python"

    async def _launch(self) -> tuple[Group, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                command = [sys.executable, "-I", "-B", str(_HOOK_WORKER)]
                group = await Group.start(
                    command, printed=self.printed.errors, directory=_ROOT, stdin=theirs.fileno(), tethered=True
                )
            except BaseException:
                ours.close()
                raise
        return group, ours

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: Job | None) -> Reply:
        body = os.fsencode(job.file.path) + b"\n" + job.payload if job else b"\n"
        writer.write(_LENGTH.pack(len(body)) + body)
        kind = await reader.readexactly(1)
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > LARGEST_ANSWER:
            raise too_large()
        return Reply(kind, await reader.readexactly(length))


class StartingWorker(Worker):
    """Starts the file, or `php` with it, for each job."""

    def __init__(self, command: str | None = None) -> None:
        super().__init__()
        self._php = command
        self._group: Group | None = None

    @property
    def ready(self) -> bool:
        return True

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        if self._group is not None:
            await self._group.close()
            self._group = None

    async def run(self, job: Job) -> bytes:
        if job.file.kind is Kind.PHP and self._php is not None:
            transcript = php.Transcript(self.printed.output, page=False)
            await self._finish(job, php.cli_command(self._php), php.body(job, transcript), transcript)
            return transcript.reply().answer()
        output = Head(LARGEST_ANSWER)
        ending = await self._finish(job, [str(job.file.path)], job.payload, output)
        if ending != "exit status 0":
            raise HookError(f"{job.file.path.name} failed ({ending}): what it printed on stderr is in the log")
        if output.total > output.limit:
            raise too_large()
        return bytes(output.data)

    async def _finish(self, job: Job, command: Sequence[str], stdin: bytes, output: Head | php.Transcript) -> str:
        """Run `command` to its end; how it ended."""
        printing = Drain(output)
        try:
            with _memory_file(stdin) as given:
                group = self._group = await Group.start(
                    command,
                    printed=self.printed.errors,
                    directory=job.file.path.parent,
                    stdin=given,
                    stdout=printing.writing,
                )
            printing.given()
            await group.wait()
            printing.read_now()
        except OSError as error:
            raise HookError(f"{job.file.path.name} can't be started: {_why_not(error)}") from error
        else:
            return group.ending
        finally:
            await self.close()
            printing.close()


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    """A file descriptor to read `content` from: unlike a pipe it waits for nobody and can be opened again by name."""
    descriptor = os.memfd_create("payload")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _why_not(error: OSError) -> str:
    if error.errno == errno.ENOEXEC:
        return "its first line names no interpreter: begin it with #!/bin/sh or the like"
    if error.errno == errno.ETXTBSY:
        return "it is being written: close it first"
    if error.errno == errno.ENOENT:
        return "it or the interpreter of its first line does not exist"
    return error.strerror or str(error)


def new_worker(kind: Kind) -> Worker:
    """A worker for files of `kind`. Raises HookError where there is no PHP for PHP files."""
    if kind is Kind.PYTHON:
        return PythonWorker()
    if kind is Kind.EXECUTABLE:
        return StartingWorker()
    path = environment()["PATH"]
    if php_cgi := shutil.which("php-cgi", path=path):
        return PhpWorker(php_cgi)
    if command := shutil.which("php", path=path):
        return StartingWorker(command)
    raise HookError("there is no PHP on this machine: install php-cgi")
