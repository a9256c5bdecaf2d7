"""Subscriptions to webhooks; their delivery is elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import hal
from .activity_bodies import DestinationBody, WebhookBody
from .bodies import parse_object
from .problems import ApiError
from .visit import empty

if TYPE_CHECKING:
    from aiohttp import web

    from .visit import Handler, Visit

_MOST = 100  # per account


async def list_webhooks(visit: Visit) -> web.Response:
    visit.admin_only()
    wanted = visit.filter("destination")
    found = [
        hal.webhook(visit.account, hook)
        for hook in visit.account.webhooks.values()
        if not wanted or hook.destination in wanted
    ]
    return visit.embed("webhooks", found, _total_items=len(found)) if found else empty()


async def add_webhook(visit: Visit) -> web.Response:
    """A destination that is there already is enabled anew; its events replaced or, by switch, joined."""
    visit.admin_only()
    account = visit.account
    body = parse_object(await visit.json(), WebhookBody, account)
    settings = tuple(dict.fromkeys(body.settings))
    known = next((hook for hook in account.webhooks.values() if hook.destination == body.destination), None)
    if known is not None:
        if account.switches.same_destination == "merge":
            settings = tuple(dict.fromkeys(known.settings + settings))
        hook = account.change_webhook(known, settings=settings, sort=body.sort, disabled=False)
    elif len(account.webhooks) >= _MOST:
        raise ApiError(422, f"Limit {_MOST} webhooks per account")
    else:
        given = {"destination": body.destination, "settings": settings, "sort": body.sort}
        hook = account.add_webhook(given, by=visit.user.id)
    return visit.answer(hal.webhook(account, hook))


async def remove_webhook(visit: Visit) -> web.Response:
    visit.admin_only()
    body = parse_object(await visit.json(), DestinationBody, visit.account)
    if not visit.account.remove_webhook(body.destination):
        raise ApiError(404, "Webhook not found")
    return empty()


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/webhooks", list_webhooks),
    ("POST", "/webhooks", add_webhook),
    ("DELETE", "/webhooks", remove_webhook),
]
