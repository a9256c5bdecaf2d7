"""Tokens: long-lived ones, and OAuth's codes and rotating pairs with Kommo's lifetimes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .clock import Clock

CODE_LIFE = 20 * 60
ACCESS_LIFE = 24 * 60 * 60
REFRESH_LIFE = 90 * ACCESS_LIFE
_PROBLEM_TYPE = "https://developers.amocrm.ru/v3/errors/OAuthProblemJson"


class OAuthError(Exception):
    """`hint` is what tells one refusal from another."""

    def __init__(self, status: int, hint: str) -> None:
        super().__init__(hint)
        self.status = status
        self.body = {
            "hint": hint,
            "title": "Bad request",
            "type": _PROBLEM_TYPE,
            "status": status,
            "detail": "The request is missing a required parameter, or a parameter is invalid",
        }


@dataclass(slots=True)
class _Code:
    user_id: int
    expires_at: float
    is_used: bool = False


@dataclass(slots=True)
class _Grant:
    """One pair of tokens; `predecessor` is the refresh token it came from, which dies when this pair is first used."""

    user_id: int
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    issued_at: float
    predecessor: str | None = field(default=None, repr=False)


class Tokens:
    def __init__(self, clock: Clock, *, account_id: int, client_id: str, client_secret: str, redirect_uri: str) -> None:
        self._clock = clock
        self._account_id = account_id
        self.client_id = client_id
        self._client_secret = client_secret
        self.redirect_uri = redirect_uri
        self._signing_key = secrets.token_bytes(32)
        self._long_lived: dict[str, int] = {}
        self._codes: dict[str, _Code] = {}
        self._by_access: dict[str, _Grant] = {}
        self._by_refresh: dict[str, _Grant] = {}
        self._revoked: set[str] = set()

    def add_long_lived(self, token: str, user_id: int) -> None:
        self._long_lived[token] = user_id

    def revoke_all(self) -> None:
        """As when an administrator disables the integration: every token answers 401 from now on."""
        self._revoked.update(self._long_lived, self._by_access, self._by_refresh)

    def uninstalled(self) -> dict[str, str]:
        """What Kommo tells the integration's hook, signed, when it is taken out of the account."""
        message = f"{self.client_id}|{self._account_id}".encode()
        signature = hmac.digest(self._client_secret.encode(), message, hashlib.sha256).hex()
        return {"client_uuid": self.client_id, "account_id": str(self._account_id), "signature": signature}

    def user_of(self, token: str) -> int | None:
        """Whom an access token or long-lived token speaks for; None where it is worth nothing."""
        if token in self._revoked:
            return None
        if token in self._long_lived:
            return self._long_lived[token]
        grant = self._by_access.get(token)
        if grant is None or self._clock.now() >= grant.issued_at + ACCESS_LIFE:
            return None
        self._first_use(grant)
        return grant.user_id

    def issue_code(self, user_id: int) -> str:
        """An authorization code, as Kommo hands to the redirect address after the user's consent."""
        code = "def50200" + secrets.token_hex(40)
        self._codes[code] = _Code(user_id, self._clock.now() + CODE_LIFE)
        return code

    def exchange(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to POST /oauth2/access_token, or OAuthError."""
        for name in ("client_id", "client_secret", "grant_type", "redirect_uri"):
            if not isinstance(asked.get(name), str):
                raise OAuthError(400, f"Check the `{name}` parameter")
        secret_fits = hmac.compare_digest(asked["client_secret"].encode(), self._client_secret.encode())
        if asked["client_id"] != self.client_id or not secret_fits:
            raise OAuthError(401, "Client authentication failed")
        if asked["redirect_uri"] != self.redirect_uri:
            raise OAuthError(400, "Redirect URI does not match the integration's")
        if asked["grant_type"] == "authorization_code":
            return self._by_code(str(asked.get("code", "")))
        if asked["grant_type"] == "refresh_token":
            return self._rotated(str(asked.get("refresh_token", "")))
        raise OAuthError(400, "Check the `grant_type` parameter")

    def _by_code(self, given: str) -> dict[str, Any]:
        code = self._codes.get(given)
        if code is None:
            raise OAuthError(400, "Cannot decrypt the authorization code")
        if code.is_used:
            raise OAuthError(400, "Authorization code has been revoked")
        if self._clock.now() >= code.expires_at:
            raise OAuthError(400, "Authorization code has expired")
        code.is_used = True
        return self._issue(code.user_id, None)

    def _rotated(self, given: str) -> dict[str, Any]:
        """A new pair; the old refresh token works on until the new pair is used, since this answer may be lost."""
        grant = self._by_refresh.get(given)
        if grant is None:
            raise OAuthError(401, "Cannot decrypt the refresh token")
        if given in self._revoked:
            raise OAuthError(401, "Token has been revoked")
        if self._clock.now() >= grant.issued_at + REFRESH_LIFE:
            raise OAuthError(401, "Refresh token has expired")
        self._first_use(grant)
        return self._issue(grant.user_id, given)

    def _first_use(self, grant: _Grant) -> None:
        if grant.predecessor:
            self._revoked.add(grant.predecessor)
            grant.predecessor = None

    def _issue(self, user_id: int, predecessor: str | None) -> dict[str, Any]:
        grant = _Grant(user_id, self._jwt(user_id), "def50200" + secrets.token_hex(60), self._clock.now(), predecessor)
        self._by_access[grant.access] = grant
        self._by_refresh[grant.refresh] = grant
        return {
            "token_type": "Bearer",
            "expires_in": ACCESS_LIFE,
            "access_token": grant.access,
            "refresh_token": grant.refresh,
        }

    def _jwt(self, user_id: int) -> str:
        now = int(self._clock.now())
        claims = {
            "aud": self.client_id,
            "jti": secrets.token_hex(32),
            "iat": now,
            "nbf": now,
            "exp": now + ACCESS_LIFE,
            "sub": str(user_id),
            "grant_type": "",
            "account_id": self._account_id,
            "base_domain": "kommo.com",
            "version": 2,
            "scopes": ["crm", "notifications"],
            "api_domain": "api-g.kommo.com",
        }
        signed = f"{_segment({'typ': 'JWT', 'alg': 'HS256'})}.{_segment(claims)}"
        signature = hmac.digest(self._signing_key, signed.encode(), hashlib.sha256)
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _segment(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
