"""Kommo's word that one of its users asks: the disposable token that a widget's request carries (`X-Auth-Token`).

A JWT under HS256 whose key is the integration's secret, so 30 lines of HMAC and no library's choice of algorithms.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, ValidationError
from yarl import URL

from itgrix_kommo.config import Integration
from itgrix_kommo.web.problems import Refused

LEEWAY: Final = 30.0
"""Seconds that two clocks may differ."""

LONGEST_LIFE: Final = 3600
"""Seconds; Kommo's tokens live half of it. It bounds for how long a used one has to be remembered."""

LONGEST_TOKEN: Final = 4096
MOST_REMEMBERED: Final = 50_000
"""Some 15 MB; 28 new ones a second, as the widget has a new one for each question."""

_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)

_Moment = Annotated[int, Field(ge=0, lt=2**53)]


class Claims(BaseModel):
    iss: str
    aud: str | list[str]
    jti: Annotated[str, Field(min_length=1, max_length=200)]
    iat: _Moment
    nbf: _Moment
    exp: _Moment
    account_id: int
    user_id: int
    client_uuid: str


@dataclass(frozen=True, slots=True)
class WidgetUser:
    """A user of the account, and the token that says so."""

    user_id: int
    token_id: str
    expires_at: float


class WidgetTokens:
    """`account_id` tells the account's number, None while it is not known: then nobody is let in.

    Tokens issued before the daemon's start are refused: what was used before that, nobody remembers.
    """

    def __init__(
        self,
        integration: Integration,
        base_url: str,
        account_id: Callable[[], int | None],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._key = integration.client_secret.get_secret_value().encode()
        self._client_id = integration.client_id
        self._issuer = base_url.rstrip("/")
        self._audience = str(URL(integration.redirect_uri).origin())
        self._account_id = account_id
        self._now = now
        self._since = int(now())
        self._used: dict[str, tuple[float, str]] = {}

    def user(self, token: str) -> WidgetUser:
        """Whom the token speaks for. Raises Refused (401; 503 while the account is not known)."""
        claims = self._verified(token)
        now = self._now()
        wrong = ""
        if claims.iss.rstrip("/") != self._issuer:
            wrong = "another account issued it (iss is not kommo.base_url)"
        elif self._audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            wrong = "it is meant for somebody else (aud is not the origin of kommo.integration.redirect_uri)"
        elif claims.client_uuid != self._client_id:
            wrong = "it is another integration's (client_uuid is not kommo.integration.client_id)"
        elif claims.exp <= now - LEEWAY:
            wrong = "it has expired"
        elif max(claims.nbf, claims.iat) > now + LEEWAY:
            wrong = "it is not valid yet: compare this host's clock"
        elif claims.exp - claims.iat > LONGEST_LIFE or claims.exp > now + LONGEST_LIFE + LEEWAY:
            wrong = "it lives longer than Kommo's own"
        elif claims.iat < self._since:
            wrong = "it was issued before this daemon's start: try again"
        if wrong:
            raise _unauthorized(wrong)
        account_id = self._account_id()
        if account_id is None:
            raise Refused(503, "which account we serve is not known yet: try again in some seconds")
        if claims.account_id != account_id:
            raise _unauthorized("it is of another account (account_id)")
        return WidgetUser(claims.user_id, claims.jti, claims.exp + LEEWAY)

    def spend(self, user: WidgetUser, purpose: str) -> None:
        """Let this token serve `purpose`, once and for all: for any other it is used up. Raises Refused (401)."""
        now = self._now()
        known = self._used.get(user.token_id)
        if known is not None and known[0] > now:
            if known[1] != purpose:
                raise _unauthorized("it was used already")
            return
        if len(self._used) >= MOST_REMEMBERED:
            self._used = {name: used for name, used in self._used.items() if used[0] > now}
            if len(self._used) >= MOST_REMEMBERED:
                raise Refused(429, "too many requests by Kommo's users", headers={"Retry-After": "60"})
        self._used[user.token_id] = (user.expires_at, purpose)

    def _verified(self, token: str) -> Claims:
        parts = _TOKEN.fullmatch(token) if len(token) <= LONGEST_TOKEN else None
        if parts is None:
            raise _unauthorized("it is no signed token")
        header = _json(parts[1])
        # The token must not choose how it is verified: `none` and all others are out before anything is computed.
        if header.get("alg") != "HS256" or "crit" in header:
            raise _unauthorized("it is not signed with HS256")
        signature = hmac.digest(self._key, f"{parts[1]}.{parts[2]}".encode(), "sha256")
        if not hmac.compare_digest(signature, _bytes(parts[3])):
            raise _unauthorized("its signature is wrong: compare kommo.integration.client_secret")
        try:
            return Claims.model_validate(_json(parts[2]))
        except ValidationError as error:
            names = sorted({str(one["loc"][0]) for one in error.errors(include_url=False) if one["loc"]})
            raise _unauthorized(f"these claims are missing or make no sense: {', '.join(names)}") from None


def _json(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(part))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _unauthorized("it is no signed token")
    return found


def _bytes(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise _unauthorized("it is no signed token") from None


def _unauthorized(why: str) -> Refused:
    return Refused(401, f"X-Auth-Token: {why}", headers={"WWW-Authenticate": 'Bearer realm="itgrix-kommo"'})
