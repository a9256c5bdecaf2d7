"""`call_full`: the object that most customizations receive, in the vendor's shape; the inner shapes are ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from types import MappingProxyType
from typing import Any

from itgrix_kommo.calls.call import Call, ChannelView, Conversation, Number, User

UNSET_TIME = "0001-01-01 00:00:00"


def call_full(
    call: Call, timezone: tzinfo | None = None, users: Mapping[int, str] = MappingProxyType({})
) -> dict[str, Any]:
    """The payload as far as the PBX knows it; `entity`, `deal` and `record` are the CRM's to fill in.

    `timezone` is the PBX's (None: this machine's), in which the vendor writes times, to the second; `users` are
    Kommo's names by id.
    """
    return {
        "active_conversation_id": call.active_conversation_id,
        "channel": _channel(call.channel, timezone),
        "conversations": {one.id: _conversation(one, timezone, users) for one in call.conversations},
        "deal": None,
        "entity": None,
        "is_ivr": call.is_ivr,
        "record": "",
        "registration": None,
        "result": call.outcome.result if call.outcome else 0,
    }


def _conversation(one: Conversation, timezone: tzinfo | None, users: Mapping[int, str]) -> dict[str, Any]:
    return {"channel": _channel(one.channel, timezone), "is_parked": one.is_parked, "user": _user(one.user, users)}


def _channel(view: ChannelView, timezone: tzinfo | None) -> dict[str, Any]:
    return {
        "answer_time": _time(view.answered_at, timezone),
        "end_time": _time(view.ended_at, timezone),
        "extra": dict(view.extra),
        "from": _number(view.from_),
        "id": view.uniqueid,
        "is_primary": view.is_primary,
        "name": view.name,
        "start_time": _time(view.started_at, timezone),
        "state": view.state.value,
        "to": _number(view.to),
        "trunk": _number(view.trunk),
        "type": view.type.value,
        "was_answered": view.answered_at is not None,
    }


def _number(number: Number) -> dict[str, Any]:
    return {"number": number.number, "name": number.name, "kind": number.kind.value}


def _user(user: User | None, users: Mapping[int, str]) -> dict[str, Any] | None:
    return None if user is None else {"id": user.id, "name": users.get(user.id, ""), "phones": list(user.phones)}


def _time(at: float | None, timezone: tzinfo | None) -> str:
    return UNSET_TIME if at is None else f"{datetime.fromtimestamp(int(at), timezone):%Y-%m-%d %H:%M:%S}"
