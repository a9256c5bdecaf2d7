"""What may be dialled on somebody's click. Toll fraud is the threat: what is not allowed by a pattern is not dialled.

The same rules hold for what a person asks for and for what the customization made of it. No IO.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from itgrix_kommo.calls.numbers import NumberPlan, e164
from itgrix_kommo.config import Originate
from itgrix_kommo.web.problems import Refused

LONGEST_PHONE: Final = 40

_SEPARATORS: Final = re.compile(r"[ \t\u00a0()./-]")
_PHONE: Final = re.compile(r"\+?[0-9]{2,20}", re.ASCII)
_EXTENSION: Final = re.compile(r"\+?[0-9*#]{1,40}", re.ASCII)
_DIGITS: Final = re.compile(r"\+?[0-9*#]+", re.ASCII)
# Ornament and, for DAHDI, a pause.
_LEFT_OUT: Final = re.compile(r"[-._wW]")
# One device of one technology: no second one after an &, no arguments after a comma, no expression.
_CHANNEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{1,19}/[A-Za-z0-9_.+*#@/-]{1,120}", re.ASCII)
_CONTEXT: Final = re.compile(r"[A-Za-z0-9_.-]{1,79}", re.ASCII)
# What a dialplan would carry out, take apart or leave out, should it ever show the caller ID to an application.
_ACTIVE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029${};\\|`]")
_LONGEST_CALLER_ID: Final = 120
_HIGHEST_PRIORITY: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """What Asterisk is told: ring `channel`, then send it to `extension` in `context`."""

    caller_id: str
    channel: str
    context: str
    extension: str
    priority: int

    def params(self, request_data: Mapping[str, Any]) -> dict[str, Any]:
        """The payload of `process_originate_params`."""
        return {
            "caller_id": self.caller_id,
            "channel": self.channel,
            "context": self.context,
            "extension": self.extension,
            "priority": self.priority,
            "request_data": dict(request_data),
        }


class DialRules:
    def __init__(self, settings: Originate, plan: NumberPlan) -> None:
        self._settings = settings
        self._plan = plan

    def phone(self, asked: str) -> str:
        """The number to dial, E.164 where it has such a form. Raises Refused: 400 no number, 403 not allowed."""
        phone = _SEPARATORS.sub("", asked) if len(asked) <= LONGEST_PHONE else ""
        if not _PHONE.fullmatch(phone):
            raise Refused(400, "phone: no telephone number: give 2 to 20 digits, with + before an international one")
        key = e164(phone, self._plan.region)
        number = key or phone  # an internal number has no such form, and may be allowed all the same
        if not self._allows(number):
            if key is None:
                raise Refused(400, "phone: no possible number of this country: give it with + and its country code")
            raise Refused(403, "phone: originate.allowed names no such number")
        return number

    def order(self, extension: str, phone: str) -> Order:
        """How the configuration says that the employee at `extension` is put through to `phone`."""
        fields = {"extension": extension, "phone": phone}
        settings = self._settings
        return self.checked(
            {
                "caller_id": settings.caller_id.format(**fields),
                "channel": settings.channel.format(**fields),
                "context": settings.context,
                "extension": phone,
                "priority": settings.priority,
            }
        )

    def checked(self, data: Mapping[str, Any]) -> Order:
        """An order in which nothing is hidden and whose numbers are allowed. Raises Refused (403) naming the field."""
        order = Order(
            caller_id=_text(data, "caller_id"),
            channel=_text(data, "channel"),
            context=_text(data, "context"),
            extension=_SEPARATORS.sub("", _text(data, "extension")),
            priority=_priority(data),
        )
        if len(order.caller_id) > _LONGEST_CALLER_ID or _ACTIVE.search(order.caller_id):
            raise _forbidden("caller_id", f"use up to {_LONGEST_CALLER_ID} characters, none of them $ {{ }} ; | \\ `")
        if not _CHANNEL.fullmatch(order.channel):
            raise _forbidden("channel", "give one device, such as PJSIP/101")
        if not _CONTEXT.fullmatch(order.context):
            raise _forbidden("context", "use letters, digits, dots, - and _")
        if not _EXTENSION.fullmatch(order.extension):
            raise _forbidden("extension", "give what is dialled: digits, * and #, perhaps after a +")
        if not self._may_dial(order.extension):
            raise _forbidden("extension", "originate.allowed names no such number")
        # The first leg costs money as well, if it leads outside.
        if not all(self._plan.is_internal(rung) or self._may_dial(rung) for rung in _rung(order.channel)):
            raise _forbidden("channel", "it rings a number that originate.allowed does not name")
        return order

    def _may_dial(self, dialled: str) -> bool:
        """`dialled` as the dialplan gets it: perhaps behind an outside prefix, perhaps in the country's own way."""
        readings = {dialled, self._plan.dialled_client(dialled, "")}
        # With * or # in it the whole is no number to its reader, whatever number a part of it would be.
        return any(
            self._allows((e164(one, self._plan.region) if _PHONE.fullmatch(one) else None) or one) for one in readings
        )

    def _allows(self, number: str) -> bool:
        return any(pattern.matches(number) for pattern in self._settings.allowed)


def _rung(channel: str) -> Iterator[str]:
    """Every number that a trunk or a dialplan could read in the name of a channel, without what they leave out.

    What stands behind an @ is no number: a trunk's name, a host or a context.
    """
    for part in channel.split("/")[1:]:
        number = _LEFT_OUT.sub("", part.partition("@")[0])
        if _DIGITS.fullmatch(number):
            yield number


def _text(data: Mapping[str, Any], field: str) -> str:
    value = data.get(field)
    if not isinstance(value, str):
        raise _forbidden(field, "give text")
    return value


def _priority(data: Mapping[str, Any]) -> int:
    value = data.get("priority")
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _HIGHEST_PRIORITY:
        raise _forbidden("priority", "give a whole number from 1 on")
    return value


def _forbidden(field: str, remedy: str) -> Refused:
    return Refused(403, f"{field}: this is not dialled: {remedy}")
