"""What systemd is told of the daemon (sd_notify): that it works, how it fares, and that its event loop still turns.

The protocol is one datagram to the socket that $NOTIFY_SOCKET names. A library would be longer than this.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import structlog

from itgrix_kommo.log import masked, printable

READY_WITHIN: Final = 30.0
"""Seconds after which we are called started although no call is captured: Asterisk may be away all night, and others
wait for our start. The status says why."""

BEAT: Final = 1.0
"""Seconds between looks at ourselves."""

SANE_LAG: Final = 5.0
"""Seconds that the event loop may be late. Who is later at each look while the watchdog waits, is ended by it."""

_LONGEST_STATUS: Final = 500

_log = structlog.get_logger(__name__)


class Condition(NamedTuple):
    """How the daemon is: whether calls are captured, and all of it in words for people."""

    capturing: bool
    words: str


class ServiceManager:
    """Who started us and wants to know. Where nobody does, each word goes nowhere."""

    def __init__(self, address: str = "", *, watchdog_s: float | None = None) -> None:
        """`address` is a path, or a name behind @; `watchdog_s` is how long silence is borne."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = watchdog_s
        self._ready = False
        self._status = ""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> ServiceManager:
        address = environment.get("NOTIFY_SOCKET", "")
        microseconds = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = ours and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, watchdog_s=int(microseconds) / 1e6 if watched else None)

    def ready(self) -> None:
        """The start is done, or the reload."""
        self._ready = True
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is being read anew; `ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1", "STATUS=stopping: what is in hand is finished or parked")

    def status(self, words: str) -> None:
        """One line for `systemctl status`."""
        line = printable(masked(words))[:_LONGEST_STATUS]
        if line != self._status:
            self._status = line
            self._tell(f"STATUS={line}")

    async def attend(self, condition: Callable[[], Condition]) -> None:
        """Tell, for ever: how the daemon is; that it is ready, once it captures calls; that its loop turns."""
        if not self._address:
            return
        loop = asyncio.get_running_loop()
        begun, fed = loop.time(), float("-inf")
        while True:
            now = condition()
            self.status(now.words)
            if not self._ready and (now.capturing or loop.time() - begun >= READY_WITHIN):
                self.ready()
            due = loop.time() + BEAT
            await asyncio.sleep(BEAT)
            lag = loop.time() - due
            if self._watchdog_s is None or loop.time() - fed < self._watchdog_s / 4:
                continue
            if lag > SANE_LAG:
                _log.warning("event_loop_late", seconds=round(lag, 1), watchdog_s=self._watchdog_s)
                continue
            fed = loop.time()
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as told:
                told.connect(self._address)
                told.send("\n".join(lines).encode())
        except OSError as error:
            # It may be starting anew itself; what we say next finds it again.
            _log.warning("service_manager_not_told", error=str(error), lines=lines)
