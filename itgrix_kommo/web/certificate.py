"""The certificate of a listener, read again when its files change: it is renewed while the daemon runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import structlog

from itgrix_kommo.errors import ConfigError

LOOK_EVERY: Final = 30.0
"""Seconds between looks at the files."""

_STEPS: Final = 8
"""Of a handshake, which takes three."""

_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name."""

_Mark: TypeAlias = tuple[tuple[int, int, int], ...]

_log = structlog.get_logger(__name__)


class Issued(NamedTuple):
    """What a certificate says of itself: from when to when it is good (Unix s), and for which names."""

    begins_at: float
    ends_at: float
    names: tuple[str, ...]

    def is_for(self, host: str) -> bool:
        """Whether a browser that goes to `host` takes it."""
        host = host.lower().rstrip(".")
        beyond = host.partition(".")[2]
        return any(name == host or (name.startswith("*.") and name[2:] == beyond) for name in self.names)


def issued(certificate: Path, key: Path) -> Issued:
    """Reads them by a handshake with themselves, which also tells whether they fit each other.

    Raises OSError (ssl.SSLError is one) where they don't serve. Blocks.
    """
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(certificate, key, password=_no_password)
    theirs = ssl.create_default_context(cafile=str(certificate))
    theirs.check_hostname = False
    # Whoever issued it, and whether it is over, is not asked here: the file itself is the one believed in.
    theirs.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = theirs.wrap_bio(back, there)
    server = ours.wrap_bio(there, back, server_side=True)
    waiting = [client, server]
    for _ in range(_STEPS):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    found = client.getpeercert() or {}
    names = [str(entry[1]).lower() for entry in found.get("subjectAltName", ()) if entry[0] in {"DNS", "IP Address"}]
    return Issued(
        ssl.cert_time_to_seconds(str(found["notBefore"])),
        ssl.cert_time_to_seconds(str(found["notAfter"])),
        tuple(names),
    )


class Certificate:
    """`context` serves new connections with what was last found good; `error` is why newer files are not used.

    `ends_at` is when it ends (Unix s), None where it does not tell.

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
        self.ends_at = self._end()

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
        self.ends_at = self._end()
        _log.info("certificate_renewed", file=str(self._certificate))

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificate, self._key, password=_no_password)
        return context

    def _end(self) -> float | None:
        """When it ends (Unix s); None where it does not tell."""
        try:
            return issued(self._certificate, self._key or self._certificate).ends_at
        except (OSError, KeyError, ValueError):
            return None

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
