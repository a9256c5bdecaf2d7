"""The account itself: its settings, users, custom fields and pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import hal, seed
from .problems import ApiError
from .records import Kind, Pipeline
from .visit import empty

if TYPE_CHECKING:
    from aiohttp import web

    from .visit import Handler, Visit


async def get_account(visit: Visit) -> web.Response:
    account, with_ = visit.account, visit.with_
    more: dict[str, Any] = {
        "amojo_id": "0f7b3a52-5c7f-4d1e-9a44-3b1a7c1d2e3f",
        "uuid": "5d1f9c5e-8a1f-4b5c-b7c5-2f0a9b6d7e8f",
        "amojo_rights": {"can_direct": True, "can_create_groups": True},
        "version": 11,
        "drive_url": f"{visit.base}/drive",
        "is_api_filter_enabled": account.switches.is_api_filter_enabled,
        "entity_names": {"leads": {"ru": {}, "en": {}}},
        "invoices_settings": {"lang": "en", "currency": "USD"},
    }
    embedded: dict[str, Any] = {
        "users_groups": [{"id": group_id, "name": name, "uuid": None} for group_id, name in seed.GROUPS],
        "task_types": [
            {"id": type_id, "name": name, "color": None, "icon_id": None, "code": code}
            for type_id, (name, code) in account.task_types.items()
        ],
        "datetime_settings": {
            "date_pattern": "d.m.Y H:i",
            "short_date_pattern": "d.m.Y",
            "short_time_pattern": "H:i",
            "date_format": "d.m.Y",
            "time_format": "H:i:s",
            "timezone": "America/New_York",
            "timezone_offset": "-05:00",
        },
    }
    body: dict[str, Any] = {
        "id": account.id,
        "name": account.name,
        "subdomain": account.subdomain,
        "created_at": account.created_at,
        "created_by": 0,
        "updated_at": account.created_at,
        "updated_by": 0,
        "current_user_id": visit.user.id,
        "country": "US",
        "currency": "USD",
        "currency_symbol": "$",
        "customers_mode": "disabled",
        "is_unsorted_on": account.switches.is_unsorted_on,
        "is_loss_reason_enabled": True,
        "is_helpbot_enabled": False,
        "is_technical_account": False,
        "contact_name_display_order": 1,
        "mobile_feature_version": 0,
        **{key: value for key, value in more.items() if key in with_},
        **hal.links(visit.base, "account"),
    }
    asked = {key: value for key, value in embedded.items() if key in with_}
    return visit.answer(body | ({"_embedded": asked} if asked else {}))


async def list_users(visit: Visit) -> web.Response:
    visit.admin_only()
    return visit.listing(
        "users", list(visit.account.users.values()), lambda user: hal.user(visit.base, user), totals=True
    )


async def get_user(visit: Visit) -> web.Response:
    visit.admin_only()
    user = visit.account.users.get(visit.id())
    return empty() if user is None else visit.answer(hal.user(visit.base, user))


async def list_fields(visit: Visit) -> web.Response:
    kind = Kind(visit.part("kind"))
    tree = visit.query.get("filter")
    types = set(visit.filter("type")) if isinstance(tree, dict) else set()
    fields = [
        (sort, field) for sort, field in enumerate(visit.account.fields(kind)) if not types or field.type in types
    ]
    return visit.listing(
        "custom_fields",
        fields,
        lambda pair: hal.custom_field(visit.account, visit.base, kind, pair[1], pair[0]),
        totals=True,
    )


async def get_field(visit: Visit) -> web.Response:
    kind = Kind(visit.part("kind"))
    for sort, field in enumerate(visit.account.fields(kind)):
        if field.id == visit.id():
            return visit.answer(hal.custom_field(visit.account, visit.base, kind, field, sort))
    return empty()


async def list_pipelines(visit: Visit) -> web.Response:
    lines = [hal.pipeline(visit.account, visit.base, line) for line in visit.account.pipelines.values()]
    return visit.embed("pipelines", lines, _total_items=len(lines))


def _pipeline(visit: Visit) -> Pipeline:
    line = visit.account.pipelines.get(visit.id())
    if line is None:
        raise ApiError(404, "Pipeline not found")
    return line


async def get_pipeline(visit: Visit) -> web.Response:
    return visit.answer(hal.pipeline(visit.account, visit.base, _pipeline(visit)))


async def list_statuses(visit: Visit) -> web.Response:
    line = _pipeline(visit)
    statuses = [hal.status(visit.account, visit.base, line, status) for status in line.statuses]
    return visit.embed("statuses", statuses, _total_items=len(statuses))


async def get_status(visit: Visit) -> web.Response:
    line = _pipeline(visit)
    status = line.status(visit.id("status_id"))
    if status is None:
        raise ApiError(404, "Status not found")
    return visit.answer(hal.status(visit.account, visit.base, line, status))


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/account", get_account),
    ("GET", "/users", list_users),
    ("GET", "/users/{id:[0-9]+}", get_user),
    ("GET", "/{kind:contacts|companies|leads}/custom_fields", list_fields),
    ("GET", "/{kind:contacts|companies|leads}/custom_fields/{id:[0-9]+}", get_field),
    ("GET", "/leads/pipelines", list_pipelines),
    ("GET", "/leads/pipelines/{id:[0-9]+}", get_pipeline),
    ("GET", "/leads/pipelines/{id:[0-9]+}/statuses", list_statuses),
    ("GET", "/leads/pipelines/{id:[0-9]+}/statuses/{status_id:[0-9]+}", get_status),
]
