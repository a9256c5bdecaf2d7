"""API v2's one survivor: the pop-up that tells users who is calling."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from itgrix_kommo.kommo import brackets

from . import matching
from .problems import ApiError
from .records import Popup

if TYPE_CHECKING:
    from aiohttp import web

    from .visit import Handler, Visit


async def add_events(visit: Visit) -> web.Response:
    """JSON or form; one pop-up per item of `add`, for the users it names or, where it names none, for everybody."""
    items = await _items(visit)
    if not items:
        raise ApiError(400)
    for item in items:
        if item.get("type") != "phone_call" or not str(item.get("phone_number") or "").strip():
            raise ApiError(400, "An event needs type `phone_call` and a phone_number")
    answers = [_shown(visit, item) for item in items]
    return visit.answer(
        {"_links": {"self": {"href": "/api/v2/events", "method": "post"}}, "_embedded": {"items": answers}},
        visit.account.switches.popup_status,
    )


async def _items(visit: Visit) -> list[dict[str, Any]]:
    if visit.request.content_type == "application/x-www-form-urlencoded":
        form = await visit.request.post()
        body: Any = brackets.parse((key, value) for key, value in form.items() if isinstance(value, str))
    else:
        body = await visit.json()
    listed = body.get("add") if isinstance(body, dict) else None
    if isinstance(listed, dict):
        listed = list(listed.values())
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ApiError(400)
    return listed


def _shown(visit: Visit, item: dict[str, Any]) -> dict[str, Any]:
    account = visit.account
    phone = str(item["phone_number"])
    named = _users(item.get("users"))
    everybody = [user.id for user in account.users.values() if user.is_active]
    card = matching.popup_target(account, phone)
    popup = Popup(
        uid=secrets.token_hex(16),
        phone=phone,
        users=tuple(user_id for user_id in everybody if not named or user_id in named),
        element_type=card.kind.element_type if card else None,
        element_id=card.id if card else None,
        at=account.clock.now(),
        to_everyone=not named,
    )
    account.add_popup(popup)
    return {
        "element_id": popup.element_id,
        "element_type": popup.element_type,
        "uid": popup.uid,
        "phone_number": phone,
    }


def _users(given: object) -> set[int]:
    """From an array, an id, or a string of ids; an empty one names nobody, and so everybody."""
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, str):
        given = given.split(",")
    if isinstance(given, int):
        given = [given]
    if not isinstance(given, list):
        return set()
    return {number for item in given if (number := brackets.whole(str(item).strip()))}


ROUTES: list[tuple[str, str, Handler]] = [("POST", "/events", add_events), ("POST", "/events/", add_events)]
