"""The hours of work, by the days of the week."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic_core import PydanticCustomError

from itgrix_kommo.config.values import json_type, refusal, refusals

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)", re.ASCII)
_REMEDY: Final = 'give days and hours such as {"mon-fri": "09:00-18:00", "sat": ["10:00-13:00", "14:00-16:00"]}'
_MINUTES_A_DAY: Final = 24 * 60


class Span(NamedTuple):
    """A part of one day, in minutes after midnight: `opens` belongs to it, `closes` (up to 1440) does not."""

    opens: int
    closes: int


@dataclass(frozen=True, slots=True)
class WorkingHours:
    """`days[0]` holds Monday's spans in their order, `days[6]` Sunday's; all in the node's time zone."""

    days: tuple[tuple[Span, ...], ...]

    @classmethod
    def parse(cls, value: object) -> WorkingHours:
        """`value` maps a day ("sat") or days ("mon-fri") to a span ("09:00-18:00") or a list of spans.

        Raises PydanticCustomError, a ValueError, that names every wrong entry.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise refusal(f"{json_type(value)} where hours are wanted", f"{_REMEDY}, or null for always")
        if not value:
            raise refusal("no day at all", f"{_REMEDY}, or null for always")
        days: list[tuple[Span, ...]] = [()] * len(_DAYS)
        problems: list[tuple[tuple[str | int, ...], str, str]] = []
        for key, hours in value.items():
            try:
                named = _days(key)
                if any(days[day] for day in named):
                    raise refusal("a day that an earlier entry has already", "name each day once")
                spans = _spans(hours)
            except PydanticCustomError as error:
                told = error.context or {}
                problems.append(((str(key),), str(told.get("problem")), str(told.get("remedy"))))
                continue
            for day in named:
                days[day] = spans
        if problems:
            raise refusals(problems)
        return cls(tuple(days))

    def as_json(self) -> dict[str, list[str]]:
        """The same hours as `parse` takes them."""
        return {
            day: [f"{_clock(span.opens)}-{_clock(span.closes)}" for span in spans]
            for day, spans in zip(_DAYS, self.days, strict=True)
            if spans
        }


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _days(key: object) -> list[int]:
    first, dash, last = str(key).partition("-")
    if first not in _DAYS or (dash and last not in _DAYS):
        raise refusal("neither a day nor days", 'use mon, tue, wed, thu, fri, sat, sun, or a range such as "mon-fri"')
    begin = _DAYS.index(first)
    count = (_DAYS.index(last) - begin) % len(_DAYS) + 1 if dash else 1
    return [(begin + step) % len(_DAYS) for step in range(count)]


def _spans(hours: object) -> tuple[Span, ...]:
    texts = hours if isinstance(hours, list) else [hours]
    if not texts:
        raise refusal("no hours at all", "leave the day out if nobody works")
    spans: list[Span] = []
    for text in texts:
        found = _SPAN.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise refusal("no span of hours", 'write it as "09:00-18:00"')
        opens = int(found[1]) * 60 + int(found[2])
        closes = int(found[3]) * 60 + int(found[4]) if found[3] else _MINUTES_A_DAY
        if opens >= closes:
            raise refusal("a span that does not end after it begins", "split a night at midnight, into two days")
        if spans and opens < spans[-1].closes:
            raise refusal("spans that overlap or are out of order", "list them from morning to night")
        spans.append(Span(opens, closes))
    return tuple(spans)


def hours_schema() -> dict[str, Any]:
    """What `WorkingHours.parse` takes, as JSON schema."""
    span = {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$"}
    spans = {"anyOf": [span, {"type": "array", "items": span, "minItems": 1}]}
    return {"type": "object", "minProperties": 1, "additionalProperties": spans}
