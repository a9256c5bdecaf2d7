"""Kommo's error bodies, letter by letter, and the exception that carries one out of a handler."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBLEM_JSON = "application/problem+json"
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "ErrInternalServer",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
DETAILS = {
    400: "Request data can not be empty",
    401: "Invalid user name or password",
    402: "Payment required",
    403: "You don't have permission to access this resource",
    405: "Method Not Allowed",
    422: "Limit 250 per page",
    429: "You have sent too many requests in a given amount of time. Please try again later.",
    500: "Our team are probably already working on the elimination of the problem",
    504: "Gateway Timeout",
}
BLOCK_PAGE = (
    "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n<center><h1>403 Forbidden</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class ItemError(NamedTuple):
    """`path` is dotted and relative to the item, as in `custom_fields_values.0.field_id`."""

    code: str
    path: str
    detail: str

    def under(self, prefix: str) -> ItemError:
        return self._replace(path=f"{prefix}.{self.path}")


class ApiError(Exception):
    """Ends a request with Kommo's answer for what was wrong with it."""

    def __init__(self, status: int, detail: str | None = None, **more: Any) -> None:
        self.status = status
        self.body = problem(status, detail, **more)
        super().__init__(self.body["detail"])


class ItemsRefused(ApiError):
    """Validation failed: the whole batch is refused, each faulty item named by its request_id."""

    def __init__(self, faulty: Sequence[tuple[str, Sequence[ItemError]]]) -> None:
        super().__init__(400, "Request validation failed")
        self.faulty = faulty
        listed = [{"request_id": rid, "errors": [error._asdict() for error in errors]} for rid, errors in faulty]
        self.body = {"validation-errors": listed} | self.body


def problem(status: int, detail: str | None = None, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"title": TITLES.get(status, "Error")}
    if status != 500:  # Kommo's own 500 has no type
        body["type"] = f"https://httpstatus.es/{status}"
    return body | {"status": status, "detail": detail or DETAILS.get(status, TITLES.get(status, "Error"))} | more


def problem_response(body: dict[str, Any], status: int) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type=PROBLEM_JSON)
