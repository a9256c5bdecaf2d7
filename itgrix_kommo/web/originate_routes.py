"""`POST /originate` and `GET /originate/{originate_id}`: for programs with the token, and for Kommo's signed widget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator
from pydantic_core import PydanticCustomError

from itgrix_kommo.web.bodies import read_json
from itgrix_kommo.web.clicks import State
from itgrix_kommo.web.originate import Caller, ClickToCall, new_click_id
from itgrix_kommo.web.problems import Handler, Refused, problem
from itgrix_kommo.web.visitors import Network, bearer_of, is_same, visitor_of
from itgrix_kommo.web.widget_tokens import WidgetTokens, WidgetUser

PATH: Final = "/originate"
PROGRESS_PATH: Final = "/originate/{originate_id}"
LARGEST_BODY: Final = 8 * 1024
"""Bytes; what is meant takes less than a hundred."""

LONGEST_WAIT: Final = 50
"""Seconds to wait for news; a reverse proxy gives up after 60."""

_SIGNED: Final = "X-Auth-Token"
_PROGRAM: Final = "program"
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Auth-Token, X-Requested-With",
    "Access-Control-Max-Age": "600",
}


class OriginateRequest(BaseModel):
    """Whose phone is rung, by extension or by Kommo's user id, and whom it is put through to."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    extension: Annotated[StrictStr, Field(min_length=1, max_length=40)] | None = None
    user_id: Annotated[StrictInt, Field(ge=1, lt=2**53)] | None = None
    phone: Annotated[StrictStr, Field(min_length=1, max_length=40)]

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.extension is not None and self.user_id is not None:
            raise PydanticCustomError("both", "extension and user_id are given: give one of them")
        return self


class OriginateDesk:
    """`account_url` is the origin whose pages may ask (CORS); `token` and `widget` are the two ways to be known."""

    def __init__(
        self,
        clicks: ClickToCall,
        *,
        account_url: str,
        token: str | None,
        widget: WidgetTokens | None,
        trusted: Sequence[Network] = (),
    ) -> None:
        self._clicks = clicks
        self._origin = account_url
        self._token = token
        self._widget = widget
        self._trusted = trusted

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(PATH, self._readable(self._start)),
            web.get(PROGRESS_PATH, self._readable(self._progress), allow_head=False),
            web.options(PATH, self._preflight),
            web.options(PROGRESS_PATH, self._preflight),
        ]

    async def _start(self, request: web.Request) -> web.Response:
        click_id = new_click_id()
        by = "unknown"
        try:
            caller, user = self._caller(request)
            by = caller.name
            if user is not None and self._widget is not None:
                # First of all: a token that was refused for what it asked is used up as well.
                self._widget.spend(user, click_id)
            asked = await read_json(request, OriginateRequest, LARGEST_BODY)
            if user is None and asked.extension is None and asked.user_id is None:
                raise _nobody_named()
        except Refused as refused:
            self._clicks.turn_away(by, visitor_of(request, self._trusted).address, refused)
            raise
        click = await self._clicks.start(
            caller,
            asked.phone,
            extension=asked.extension,
            user_id=asked.user_id,
            request_data=asked.model_dump(exclude_none=True),
            click_id=click_id,
        )
        return web.json_response({"originate_id": click.id}, status=202, headers={"Location": f"{PATH}/{click.id}"})

    async def _progress(self, request: web.Request) -> web.Response:
        caller, user = self._caller(request)
        click_id = request.match_info["originate_id"]
        click = self._clicks.progress(click_id, caller)
        if click is None:
            raise Refused(404, "you have started no such call, or it ended long ago")
        if user is not None and self._widget is not None:
            self._widget.spend(user, click_id)
        known, wait = _awaited(request)
        if known is not None:
            click = await self._clicks.news(click_id, caller, known, wait) or click
        return web.json_response(click.body())

    def _caller(self, request: web.Request) -> tuple[Caller, WidgetUser | None]:
        """Who asks. Raises Refused (401)."""
        address = visitor_of(request, self._trusted).address
        given = bearer_of(request)
        if given is not None:
            if self._token is None or not is_same(given, self._token):
                raise _unauthorized("Authorization: this is not http.tokens.originate")
            return Caller(_PROGRAM, address), None
        signed = request.headers.get(_SIGNED)
        if signed is None:
            raise _unauthorized("give Authorization: Bearer with http.tokens.originate, or Kommo's X-Auth-Token")
        if self._widget is None:
            raise _unauthorized("X-Auth-Token: kommo.integration is not configured, so no signature can be checked")
        user = self._widget.user(signed)
        return Caller(f"user {user.user_id}", address, user.user_id), user

    def _readable(self, handler: Handler) -> Handler:
        """Let the account's own pages read the answers, the refusals too; all others' can't."""

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                response = await handler(request)
            except Refused as refused:
                response = problem(refused.status, str(refused), refused.headers)
            response.headers.update(self._cors(request))
            return response

        return answer

    async def _preflight(self, request: web.Request) -> web.Response:
        cors = self._cors(request)
        if "Access-Control-Allow-Origin" not in cors:
            raise Refused(403, "only pages of the configured Kommo account may call", headers=cors)
        headers = {**cors, **_PREFLIGHT}
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            # The CRM is public, a PBX often is not: the browser asks before it crosses that border.
            headers["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=headers)

    def _cors(self, request: web.Request) -> dict[str, str]:
        headers = {"Vary": "Origin"}
        if request.headers.get("Origin") == self._origin:
            headers["Access-Control-Allow-Origin"] = self._origin
            headers["Access-Control-Expose-Headers"] = "Location, Retry-After"
        return headers


def _awaited(request: web.Request) -> tuple[State | None, int]:
    """The state (None: none) that the asker knows, and for how long (s) he waits for another. Raises Refused (400)."""
    after, wait = request.query.get("after"), request.query.get("wait", "0")
    if after is None and "wait" not in request.query:
        return None, 0
    if after not in set(State):
        raise Refused(400, f"after: no state: give the one you know, of {', '.join(State)}")
    if not re.fullmatch(r"[0-9]{1,2}", wait, re.ASCII) or int(wait) > LONGEST_WAIT:
        raise Refused(400, f"wait: give whole seconds, {LONGEST_WAIT} at most")
    return State(after), int(wait)


def _nobody_named() -> Refused:
    return Refused(400, "extension: missing: name the employee by extension or user_id")


def _unauthorized(words: str) -> Refused:
    return Refused(401, words, headers={"WWW-Authenticate": 'Bearer realm="itgrix-kommo"'})


def schema() -> dict[str, Any]:
    """The JSON schema of the body."""
    return OriginateRequest.model_json_schema()
