"""Kommo's word about access: the consent that a person gives in the browser, and the end of it. No IO.

The `state` by which we know an answer as one that we asked for is signed with the integration's secret: what the
command `login` has asked for the daemon knows as well, and nothing is kept.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

from yarl import URL

if TYPE_CHECKING:
    from itgrix_kommo.kommo.oauth import Integration

STATE_LIFE = 3600.0
"""Seconds from our question to Kommo's answer: a person finds his password meanwhile."""

_CONSENT_AT = ("kommo.com", "amocrm.com", "amocrm.ru")


def consent_url(base_url: str, integration: Integration, state: str) -> str:
    """Where a person agrees: a page of Kommo's for all accounts; the sandbox has its own."""
    host = URL(base_url).host or ""
    common = next((domain for domain in _CONSENT_AT if host.endswith(f".{domain}")), None)
    page = URL(f"https://www.{common}/oauth") if common else URL(base_url) / "oauth"
    return str(page.with_query(client_id=integration.client_id, state=state))


def new_state(integration: Integration, now: float) -> str:
    """Good for `STATE_LIFE` from `now` (Unix seconds) on."""
    text = f"{int(now):x}.{secrets.token_urlsafe(16)}"
    return f"{text}.{_seal(integration, text)}"


def is_our_state(state: str, integration: Integration, now: float) -> bool:
    """Whether we have made it, not long ago."""
    text, _, seal = state.rpartition(".")
    if not _is_same(seal, _seal(integration, text)):
        return False
    begun = int(text.partition(".")[0], 16)
    return begun - 60 <= now <= begun + STATE_LIFE


def is_of_account(referer: str, base_url: str) -> bool:
    """Whether the host that Kommo's answer names is the account's own."""
    account = URL(base_url)
    host = account.host if account.explicit_port is None else f"{account.host}:{account.explicit_port}"
    return referer.lower().removeprefix("https://").rstrip("/") == host


def is_uninstall_signature(signature: str, integration: Integration, account_id: int) -> bool:
    """Whether Kommo signed that this account has uninstalled the integration."""
    message = f"{integration.client_id}|{account_id}".encode()
    return _is_same(signature.lower(), hmac.digest(integration.client_secret.encode(), message, "sha256").hex())


def _seal(integration: Integration, text: str) -> str:
    # The text before it keeps this use of the secret apart from Kommo's own.
    message = f"state of itgrix-kommo|{integration.client_id}|{text}".encode("utf-8", "surrogatepass")
    return hmac.digest(integration.client_secret.encode(), message, "sha256").hex()


def _is_same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), known.encode())
