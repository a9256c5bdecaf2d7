"""The administrator's login: digest (RFC 7616: SHA-256, and MD5 for old clients), basic where nobody can read it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

import structlog
from aiohttp import web
from multidict import CIMultiDict

from itgrix_kommo.config import Admin
from itgrix_kommo.web.lines import Lines
from itgrix_kommo.web.problems import Handler, Refused
from itgrix_kommo.web.visitors import Network, is_same, visitor_of

REALM: Final = "itgrix-kommo"
NONCE_LIFE: Final = 300
"""Seconds in which one challenge may be answered again and again."""

MOST_NONCES: Final = 1000

_PART: Final = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*(?:,|\Z)')
_COUNT: Final = re.compile(r"[0-9a-fA-F]{8}", re.ASCII)

_log = structlog.get_logger(__name__)


class AdminDoor:
    """Guards what only the administrator may see; shut for everybody while no password is configured."""

    def __init__(self, admin: Admin, *, trusted: Sequence[Network] = (), now: Callable[[], float] = time.time) -> None:
        self._login = admin.login
        self._password = admin.password.get_secret_value() if admin.password else None
        self._trusted = trusted
        self._now = now
        self._key = secrets.token_bytes(32)
        self._counts: dict[str, int] = {}
        self._lines = Lines()

    def guarding(self, handler: Handler) -> Handler:
        """The handler, for the administrator alone."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            self.check(request)
            return await handler(request)

        return guarded

    def check(self, request: web.Request) -> None:
        """Raises Refused: 401 with the challenges; 403 where there is no password."""
        if self._password is None:
            raise Refused(403, "http.admin.password: none is configured, so nobody may see this: set one")
        visitor = visitor_of(request, self._trusted)
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        stale = False
        if scheme.lower() == "digest":
            verdict = self._digest(rest, request)
            if verdict == "right":
                return
            stale = verdict == "stale"
        elif scheme.lower() == "basic":
            if not visitor.is_secure:
                raise Refused(
                    403,
                    "basic authentication is taken over TLS or on the host itself alone: use digest (curl --digest)",
                )
            if self._basic(rest, self._password):
                return
        if scheme and not stale:
            facts = {"address": visitor.address, "scheme": scheme.lower()[:10]}
            self._lines.warn(_log, "admin_refused", self._now(), **facts)
        raise Refused(
            401,
            "this is for the administrator: log in as http.admin says",
            headers=self._challenges(stale=stale, basic=visitor.is_secure),
        )

    def _challenges(self, *, stale: bool, basic: bool) -> CIMultiDict[str]:
        """Each is a header of its own: curl reads no lists of them."""
        tail = f'realm="{REALM}", qop="auth", nonce="{self._nonce()}", charset=UTF-8{", stale=true" if stale else ""}'
        ways = [f"Digest algorithm={algorithm}, {tail}" for algorithm in ("SHA-256", "MD5")]
        if basic:
            ways.append(f'Basic realm="{REALM}", charset="UTF-8"')
        return CIMultiDict(("WWW-Authenticate", way) for way in ways)

    def _nonce(self) -> str:
        at = f"{int(self._now()):x}.{secrets.token_hex(8)}"
        return f"{at}.{self._seal(at)}"

    def _seal(self, text: str) -> str:
        return hmac.digest(self._key, text.encode("utf-8", "surrogateescape"), "sha256").hex()[:32]

    def _digest(self, header: str, request: web.Request) -> Literal["right", "stale", "wrong"]:
        given = {name.lower(): _unquoted(quoted) or bare for name, quoted, bare in _PART.findall(header)}
        algorithm = given.get("algorithm", "MD5").upper()
        if algorithm not in {"MD5", "SHA-256"} or given.get("qop") != "auth" or given.get("realm") != REALM:
            return "wrong"
        if not _COUNT.fullmatch(given.get("nc", "")) or given.get("uri") != request.raw_path:
            return "wrong"
        nonce = given.get("nonce", "")
        at, _, seal = nonce.rpartition(".")
        if not is_same(seal, self._seal(at)):
            return "stale"  # of an earlier daemon, or nobody's
        first = _hash(algorithm, f"{self._login}:{REALM}:{self._password}")
        second = _hash(algorithm, f"{request.method}:{given['uri']}")
        middle = f"{nonce}:{given['nc']}:{given.get('cnonce', '')}:auth"
        expected = _hash(algorithm, f"{first}:{middle}:{second}")
        name_fits = is_same(given.get("username", ""), self._login)
        if not is_same(given.get("response", ""), expected) or not name_fits:
            return "wrong"
        if int(at.partition(".")[0], 16) + NONCE_LIFE < self._now():
            return "stale"
        return "right" if self._counted(nonce, int(given["nc"], 16)) else "stale"

    def _counted(self, nonce: str, count: int) -> bool:
        """Whether this answer is a new one: a digest that somebody heard on the way is worth nothing twice."""
        if count <= self._counts.get(nonce, 0):
            return False
        if len(self._counts) >= MOST_NONCES:
            # What is forgotten must not count as new: under another key all former nonces are stale.
            self._key = secrets.token_bytes(32)
            self._counts.clear()
        else:
            self._counts[nonce] = count
        return True

    def _basic(self, encoded: str, password: str) -> bool:
        try:
            login, _, given = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except ValueError:  # no base 64, no ASCII, no UTF-8
            return False
        fits = is_same(given, password)
        return is_same(login, self._login) and fits


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _hash(algorithm: str, text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    if algorithm == "MD5":
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    return hashlib.sha256(data).hexdigest()
