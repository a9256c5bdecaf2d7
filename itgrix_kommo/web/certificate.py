"""The certificate of a listener, read again when its files change: it is renewed while the daemon runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from itgrix_kommo.errors import ConfigError

LOOK_EVERY: Final = 30.0
"""Seconds between looks at the files."""

_Mark: TypeAlias = tuple[tuple[int, int, int], ...]

_log = structlog.get_logger(__name__)


class Certificate:
    """`context` serves new connections with what was last found good; `error` is why newer files are not used.

    Raises ConfigError where the files don't serve at the start.
    """

    def __init__(self, name: str, certificate: Path, key: Path | None) -> None:
        """`name` is the setting, such as ``http.tls_certificate``."""
        self._name = name
        self._certificate = certificate
        self._key = key
        self._mark = self._look()
        try:
            self.context = self._loaded()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(self._words(error)) from error
        self.error = ""

    async def run(self, every: float = LOOK_EVERY) -> None:
        """Keep watch, for ever."""
        while True:
            await asyncio.sleep(every)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Take up what changed; what does not serve is told, and the former certificate stays."""
        mark = self._look()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            # Into a context of its own first: the living one must not be left with half a pair.
            self._loaded()
            self.context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            self.error = self._words(error)
            _log.error("certificate_not_renewed", error=self.error, consequence="the former one stays in use")
            return
        self.error = ""
        _log.info("certificate_renewed", file=str(self._certificate))

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificate, self._key, password=_no_password)
        return context

    def _look(self) -> _Mark:
        return tuple(_mark(path) for path in (self._certificate, self._key) if path is not None)

    def _words(self, error: Exception) -> str:
        return (
            f"{self._name}: {self._certificate} with key {self._key} can't be used: {error}: give a PEM certificate "
            "chain and its key without a password, readable by the daemon's user"
        )


def _mark(path: Path) -> tuple[int, int, int]:
    """Changes whenever the file does, also by a symbolic link that leads elsewhere now."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _no_password() -> str:
    """Else OpenSSL would ask for it at the terminal, and wait."""
    return ""
