"""What a caller is told when he gets nothing: problem+json (RFC 9457), and never more than he should know."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeAlias

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from itgrix_kommo.errors import ItgrixError
from itgrix_kommo.web.lines import Lines

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

MEDIA_TYPE: Final = "application/problem+json"

MOST_TRACEBACKS: Final = 10
"""In a minute and listener: whoever finds a fault of ours must not fill the log with it."""

_DETAILS: Final = {
    404: "there is nothing here",
    405: "this path does not take this method: see the header Allow",
    413: "the body is larger than anything this path takes",
}

_log = structlog.get_logger(__name__)


class Refused(ItgrixError):
    """A request that is not carried out; `detail` says why, in words for the one who asked."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The answer to a request that is refused."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return web.Response(
        status=status,
        body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
        content_type=MEDIA_TYPE,
        headers=headers,
    )


def telling_problems() -> Middleware:
    """Make an answer of whatever a handler raises: a refusal's own words, for a fault of ours none of its inside."""
    lines = Lines(MOST_TRACEBACKS)

    @web.middleware
    async def telling(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return problem(refused.status, str(refused), refused.headers)
        except web.HTTPException as refused:
            if refused.status < 400:
                raise
            allowed = {"Allow": refused.headers["Allow"]} if "Allow" in refused.headers else None
            return problem(refused.status, _DETAILS.get(refused.status, refused.reason), allowed)
        except ConnectionError:
            raise  # he is gone: there is nobody to tell
        except Exception as fault:  # noqa: BLE001 (one broken request must not tell its inside, nor stop the others)
            facts = {"method": request.method, "path": route_of(request)}
            lines.error(_log, "http_handler_broke", time.time(), exc_info=fault, **facts)
            return problem(500, "a fault of the daemon's own; its log says more")

    return telling


def route_of(request: web.Request) -> str:
    """Which path, without what stands in it."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"
