"""Bodies of requests: read up to a size, within a time, and only as what they say they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from itgrix_kommo.web.problems import Refused

BODY_WITHIN: Final = 10.0
"""Seconds for a whole body: whoever sends it slower keeps us waiting on purpose."""

_Body = TypeVar("_Body", bound=BaseModel)


async def read_bytes(request: web.Request, most: int) -> bytes:
    """The body. Raises Refused: 413 beyond `most` bytes, 408 where it takes too long, 400 where it breaks off."""
    if (request.content_length or 0) > most:
        raise _too_large(most)
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN):
            async for chunk in request.content.iter_chunked(min(most + 1, 65_536)):
                found += chunk
                if len(found) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_WITHIN:g} s", headers={"Connection": "close"}) from None
    except web.RequestPayloadError:
        raise Refused(400, "the body broke off or is not encoded as its headers say") from None
    return bytes(found)


async def read_json(request: web.Request, kind: type[_Body], most: int) -> _Body:
    """The body as JSON of a kind. Raises Refused as `read_bytes` does, 415 for another type, 400 for misfits."""
    if request.content_type != "application/json":
        raise Refused(
            415, "send JSON, with Content-Type: application/json", headers={"Accept-Post": "application/json"}
        )
    body = await read_bytes(request, most)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _misfit(error, "body") from None


def fitting(kind: type[_Body], query: Mapping[str, object]) -> _Body:
    """What stands in a query as one of a kind. Raises Refused (400)."""
    try:
        return kind.model_validate(query)
    except ValidationError as error:
        raise _misfit(error, "query") from None


def _misfit(error: ValidationError, whole: str) -> Refused:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(step)[:40] for step in first["loc"]) or whole
    return Refused(400, f"{place}: {first['msg']}")


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body has more than {most} bytes", headers={"Connection": "close"})
