"""A process of somebody else's program: a clean environment, a session of its own, and all that it prints."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PRINTED_KEPT: Final = 16 * 1024
"""Bytes kept of what one call prints; the rest is read and thrown away, for a full pipe would stop the program."""

_TETHER: Final = Path(__file__).with_name("tether.py")
_CHUNK: Final = 64 * 1024
_LAST_READS: Final = 32
"""Reads for what lies in a pipe already: more than a pipe holds, fewer than a program that goes on printing fills."""


def environment() -> dict[str, str]:
    """All that a customization sees of our environment: where secrets may stand, nothing is passed on unseen."""
    kept = {name: os.environ[name] for name in ("HOME", "TZ") if name in os.environ}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **kept}


class Sink(Protocol):
    def feed(self, data: bytes) -> None: ...


class Head:
    """Keeps the first `limit` bytes and counts them all."""

    __slots__ = ("data", "limit", "total")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.data = bytearray()
        self.total = 0

    def feed(self, data: bytes) -> None:
        self.total += len(data)
        self.data += data[: max(0, self.limit - len(self.data))]

    def take(self) -> str:
        """What was kept, as text; afterwards it is empty again."""
        text = self.data.decode("utf-8", "backslashreplace").strip()
        if self.total > self.limit:
            text += f"\n[{self.total} bytes in all]"
        self.data.clear()
        self.total = 0
        return text


class Printed:
    """What one call prints; two streams, for they arrive in pieces that must not get mixed up."""

    __slots__ = ("errors", "output")

    def __init__(self) -> None:
        self.output = Head(PRINTED_KEPT)
        self.errors = Head(PRINTED_KEPT)

    def take(self) -> str:
        return "\n".join(filter(None, (self.output.take(), self.errors.take())))


class Drain:
    """The reading end of a pipe whose other end a program holds. `writing` is that end, to be given to it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reading, self._read)

    def _read(self) -> bool:
        try:
            data = os.read(self._reading, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._reading)
            return False
        self._sink.feed(data)
        return True

    def given(self) -> None:
        """The program has its copy of the writing end."""
        os.close(self.writing)
        self.writing = -1

    def read_now(self) -> None:
        """Take what was printed until now, whether or not somebody still holds the other end open."""
        if self._reading < 0:
            return
        for _ in range(_LAST_READS):
            if not self._read():
                return

    def close(self) -> None:
        if self.writing >= 0:
            self.given()
        if self._reading >= 0:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1


class Group:
    """A running program and whatever it forks: one process group, one pipe for what it prints on stderr."""

    def __init__(self, process: Process, printing: Drain) -> None:
        self._process = process
        self._printing = printing

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        printed: Sink,
        directory: Path,
        stdin: int,
        stdout: int = DEVNULL,
        variables: Mapping[str, str] | None = None,
        tethered: bool = False,
    ) -> Group:
        """Start `command` in `directory`. Raises OSError where that can't be.

        A tethered one dies with this process, at the cost of some milliseconds: for those that wait for work.
        """
        tether = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid())] if tethered else []
        printing = Drain(printed)
        try:
            process = await asyncio.create_subprocess_exec(
                *tether,
                *command,
                stdin=stdin,
                stdout=stdout,
                stderr=printing.writing,
                cwd=directory,
                env={**environment(), **(variables or {})},
                start_new_session=True,
            )
        except BaseException:
            printing.close()
            raise
        printing.given()
        return cls(process, printing)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        status = self._process.returncode
        if status is None:
            return "still running"
        if status >= 0:
            return f"exit status {status}"
        return f"killed by signal {-status}"

    def kill(self) -> None:
        """End it and what it forked, at once. The group of one that has ended already may be somebody else's by now."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def read_printed(self) -> None:
        self._printing.read_now()

    async def wait(self) -> int:
        return await self._process.wait()

    async def close(self) -> None:
        """Kill it, see it off and read its last words. May be called again, also where the first call was cancelled."""
        self.kill()
        await self._process.wait()
        self._printing.read_now()
        self._printing.close()
