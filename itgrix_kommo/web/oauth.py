"""Access to the account: a person grants it in the browser (`/oauth/kommo`), and Kommo tells when it is over.

What comes to the redirect address is anybody's word until its `state` shows that we asked for it. The integration's
secret goes to the configured account alone, whatever account an answer names.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

import structlog
from aiohttp import web

from itgrix_kommo.errors import KommoError, KommoUnauthorized, Remedy
from itgrix_kommo.kommo.consent import (
    STATE_LIFE,
    consent_url,
    is_of_account,
    is_our_state,
    is_uninstall_signature,
    new_state,
)
from itgrix_kommo.kommo.oauth import REMEDY, Integration
from itgrix_kommo.log import masked
from itgrix_kommo.web.lines import Lines
from itgrix_kommo.web.problems import Handler, Refused

PATH: Final = "/oauth/kommo"
LOGIN_PATH: Final = "/oauth/kommo/login"
UNINSTALLED_PATH: Final = "/oauth/kommo/uninstalled"

LONGEST_CODE: Final = 4096

_CODE: Final = re.compile(r"[!-~]+", re.ASCII)
_ACCOUNT_ID: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_AGAIN: Final = "To try again, open /oauth/kommo/login as administrator, or run itgrix-kommo login on the PBX."

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font: 1.1rem/1.5 sans-serif; max-width: 36rem; margin: 4rem auto; padding: 0 1rem }}</style>
</head>
<body>
<h1>{title}</h1>
<p>{words}</p>
</body>
</html>
"""
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the code stands in this page's address
}

_log = structlog.get_logger(__name__)


class Grants(Protocol):
    """What is needed of `kommo.oauth.OAuthTokens`; both raise KommoError."""

    async def grant_by(self, code: str) -> None: ...

    async def forget(self, why: str) -> None: ...


class OAuthDesk:
    """`integration` is None where none is configured, `grants` where a long-lived token is used instead of a grant.

    `account_id` is None while Kommo has not told it: then nobody's word about the end is believed.
    """

    def __init__(
        self,
        integration: Integration | None,
        grants: Grants | None,
        *,
        base_url: str,
        account_id: Callable[[], int | None],
        on_granted: Callable[[], None],
        on_ended: Callable[[KommoUnauthorized], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._integration = integration
        self._grants = grants
        self._base_url = base_url
        self._account_id = account_id
        self._on_granted = on_granted
        self._on_ended = on_ended
        self._now = now
        self._used: dict[str, float] = {}
        self._lines = Lines()

    def public_routes(self) -> list[web.RouteDef]:
        return [
            web.get(PATH, self._answered, allow_head=False),
            web.get(UNINSTALLED_PATH, self._uninstalled, allow_head=False),
        ]

    def local_routes(self, guarding: Callable[[Handler], Handler]) -> list[web.RouteDef]:
        return [web.get(LOGIN_PATH, guarding(self._login), allow_head=False)]

    async def _login(self, _: web.Request) -> web.Response:
        if self._integration is None or self._grants is None:
            raise Refused(404, self._unused())
        url = consent_url(self._base_url, self._integration, new_state(self._integration, self._now()))
        return web.Response(status=303, headers={"Location": url, "Referrer-Policy": "no-referrer"})

    async def _answered(self, request: web.Request) -> web.Response:
        if self._integration is None or self._grants is None:
            return _page(404, "Not in use", self._unused())
        query = request.query
        if "error" in query:
            denied = query["error"] == "access_denied"
            why = "In Kommo it was chosen not to allow it." if denied else "Kommo answered with an error."
            self._lines.warn(_log, "kommo_access_denied", self._now(), error=query["error"][:64])
            return _page(403, "Access was not granted", f"{why} Nothing has changed. {_AGAIN}")
        state, code = query.get("state", ""), query.get("code", "")
        if not code and not state:
            return _page(400, "This is where Kommo's answer arrives", f"Nothing is to be seen here. {_AGAIN}")
        wrong = self._wrong(self._integration, query.get("client_id"), query.get("referer"), state, code)
        if wrong:
            self._lines.warn(_log, "kommo_access_not_taken", self._now(), reason=wrong)
            return _page(400, "This answer is not taken", f"{wrong} Nothing has changed. {_AGAIN}")
        if state in self._used:
            return _page(
                409, "Used already", "This answer of Kommo was used before, and each serves once. Close this page."
            )
        return await self._granted(self._grants, state, code)

    def _wrong(
        self, integration: Integration, client_id: str | None, referer: str | None, state: str, code: str
    ) -> str:
        """Why this is no answer to what we asked; empty if it is one."""
        if not is_our_state(state, integration, self._now()):
            return "We did not ask for it, or more than an hour ago."
        if client_id not in {None, integration.client_id}:
            return "It is for another integration than the one in kommo.integration.client_id."
        if referer is None or not is_of_account(referer, self._base_url):
            return (
                "It comes from another account than the one in kommo.base_url: log in to that account in Kommo first."
            )
        if len(code) > LONGEST_CODE or not _CODE.fullmatch(code):
            return "It holds no code."
        return ""

    async def _granted(self, grants: Grants, state: str, code: str) -> web.Response:
        now = self._now()
        self._used = {one: until for one, until in self._used.items() if until > now}
        self._used[state] = now + STATE_LIFE + 60
        try:
            await grants.grant_by(code)
        except KommoError as error:
            _log.warning("kommo_access_not_granted", error=str(error))
            words = masked(str(error))
            if error.remedy is Remedy.RETRY:
                del self._used[state]  # the code may still be good: the same page may be asked for again
                return _page(502, "Kommo could not be asked", f"{words}. Reload this page in a moment.")
            return _page(400, "Access could not be granted", f"{words}. {_AGAIN}")
        self._on_granted()
        return _page(
            200,
            "Access is granted",
            f"Calls can be registered in {self._base_url} now. Close this page: nothing is left to do.",
        )

    async def _uninstalled(self, request: web.Request) -> web.Response:
        """Kommo's own word that the integration was taken out of the account."""
        integration, query = self._integration, request.query
        if integration is None:
            raise Refused(404, "there is nothing here")
        account_id, client_id = query.get("account_id", ""), query.get("client_uuid", "")
        if not _ACCOUNT_ID.fullmatch(account_id):
            raise Refused(400, "account_id: no number of an account")
        signed = is_uninstall_signature(query.get("signature", ""), integration, int(account_id))
        if not signed or client_id != integration.client_id:
            self._lines.warn(_log, "uninstall_refused", self._now(), account_id=account_id)
            raise Refused(403, "signature: it is not made with this integration's secret key")
        ours = self._account_id()
        if ours is None:
            raise Refused(503, "which account we serve is not known yet: try again in some minutes")
        if int(account_id) != ours:
            raise Refused(404, "account_id: this connector serves another account")
        await self._end()
        return web.Response()

    async def _end(self) -> None:
        why = "the integration was uninstalled in Kommo, so our access has ended: install it there again, then "
        why += REMEDY if self._grants is not None else "give its new kommo.access_token"
        if self._grants is not None:
            try:
                await self._grants.forget(why)
            except KommoError as error:
                _log.error("kommo_access_not_forgotten", error=str(error))
                raise Refused(503, "the access can't be taken out of the storage now: try again") from None
        self._on_ended(KommoUnauthorized(why, status=401))

    def _unused(self) -> str:
        if self._integration is None:
            return "kommo.integration is not configured, so there is nothing to grant: give the integration's keys."
        return "kommo.access_token is configured, so no grant is needed: take it out to use one."


def _page(status: int, title: str, words: str) -> web.Response:
    text = _PAGE.format(title=html.escape(title), words=html.escape(words))
    return web.Response(
        status=HTTPStatus(status), text=text, content_type="text/html", charset="utf-8", headers=_HEADERS
    )
