"""The grant: consent, and the exchange of codes and refresh tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import web
from yarl import URL

from .oauth import OAuthError, Tokens
from .problems import problem, problem_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def routes(tokens: Tokens, *, consenting_user: int) -> list[web.RouteDef]:
    async def consent(request: web.Request) -> web.Response:
        """Kommo's consent page, where here the administrator always agrees at once."""
        if request.query.get("client_id") != tokens.client_id:
            return problem_response(problem(404, "Integration not found"), 404)
        back = URL(tokens.redirect_uri).update_query(
            code=tokens.issue_code(consenting_user),
            state=request.query.get("state", ""),
            referer=request.host,  # the account's own, as whoever asks here knows it
            client_id=tokens.client_id,
        )
        return web.Response(status=302, headers={"Location": str(back)})

    async def access_token(request: web.Request) -> web.Response:
        try:
            asked = json.loads(await request.read())
        except (ValueError, RecursionError):
            asked = None
        try:
            return web.json_response(tokens.exchange(asked if isinstance(asked, dict) else {}))
        except OAuthError as refused:
            return problem_response(refused.body, refused.status)

    handlers: list[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]] = [
        ("GET", "/oauth", consent),
        ("POST", "/oauth2/access_token", access_token),
        ("POST", "/oauth2/access_token/", access_token),
    ]
    return [web.route(method, path, handler) for method, path, handler in handlers]
