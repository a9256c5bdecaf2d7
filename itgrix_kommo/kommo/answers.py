"""What Kommo's answers mean: status and body → JSON, or an error in words. No IO."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from itgrix_kommo.errors import (
    KommoError,
    KommoFault,
    KommoForbidden,
    KommoNotFound,
    KommoOverloaded,
    KommoRejected,
    KommoTooHeavy,
    KommoUnauthorized,
    KommoUnpaid,
    KommoUnreachable,
)

MOST_WORDS = 2000
"""Kommo's own words in an error are cut after so many characters: they end in logs, tables and pages."""

LONGEST_PAUSE = 3600.0
"""A retry_after beyond an hour (s) is not believed."""


GATEWAY_TIMEOUT = 504

_MEANINGS: dict[int, tuple[type[KommoError], str]] = {
    401: (
        KommoUnauthorized,
        "Kommo does not accept the token at {request} ({words}): renew kommo.access_token, or run `itgrix-kommo login`",
    ),
    402: (KommoUnpaid, "Kommo has stopped {request} ({words}): renew the account's subscription in Kommo"),
    403: (
        KommoForbidden,
        "Kommo forbids {request} to this token ({words}): use an administrator's token or grant the right",
    ),
    404: (KommoNotFound, "Kommo knows nothing under {request} ({words}): check the ids in the configuration"),
    408: (KommoUnreachable, "Kommo waited in vain for the whole of {request} ({words}): try again"),
    413: (KommoTooHeavy, "{request} is too heavy for Kommo ({words}): send fewer items at once"),
    GATEWAY_TIMEOUT: (KommoTooHeavy, "{request} is too heavy for Kommo ({words}): send fewer items at once"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that Kommo carried out. `body` is its JSON, None where there was none (204: nothing found)."""

    request: str
    status: int
    body: Any

    def embedded(self, noun: str) -> list[Any]:
        """The list under ``_embedded``, empty for 204; raises KommoUnreachable where the body has another shape."""
        if self.status == 204:
            return []
        try:
            items = self.body["_embedded"][noun]
        except (TypeError, KeyError, IndexError):
            items = None
        if not isinstance(items, list):
            raise self.nonsense(f"its body has no list _embedded.{noun}")
        return items

    def next_query(self) -> list[tuple[str, str]] | None:
        """The query of the next page, None on the last one.

        Only the query is taken from Kommo's link: where our token is sent is not for an answer to decide.
        """
        try:
            href = self.body["_links"]["next"]["href"]
        except (TypeError, KeyError, IndexError):
            return None
        try:
            return parse_qsl(urlsplit(href).query, max_num_fields=100) if isinstance(href, str) else None
        except ValueError as error:
            raise self.nonsense(f"its _links.next.href can't be read: {error}") from None

    def nonsense(self, what: str) -> KommoUnreachable:
        """The error for an answer that is none; the request behind it may have been carried out."""
        return KommoUnreachable(
            f"Kommo's answer to {self.request} makes no sense ({self.status}): {what}",
            status=self.status,
            may_have_happened=True,
        )


def parse(raw: bytes) -> tuple[bool, Any]:
    """(whether this is JSON, its value). An empty body is JSON's nothing."""
    if not raw.strip():
        return True, None
    try:
        return True, json.loads(raw)
    except (ValueError, RecursionError):
        return False, None


def interpret(request: str, status: int, raw: bytes) -> Answer:
    """The answer to `request` ("GET /api/v4/account"), or its error raised. What a 403 means is decided elsewhere."""
    is_json, body = parse(raw)
    if 200 <= status < 300:
        answer = Answer(request, status, body)
        if not is_json:
            raise answer.nonsense(f"no JSON but {one_line(raw[:80].decode('utf-8', 'replace'))!r}")
        return answer
    raise _error(request, status, body)


def _error(request: str, status: int, body: Any) -> KommoError:
    words = words_of(status, body, noun_of(request))
    if status == 429:
        return KommoOverloaded(
            f"Kommo has had too many requests ({words}): {request} waits", retry_after=_retry_after(body)
        )
    if meaning := _MEANINGS.get(status):
        kind, sentence = meaning
        return kind(
            sentence.format(request=request, words=words), status=status, may_have_happened=status == GATEWAY_TIMEOUT
        )
    if status >= 500:
        return KommoFault(f"Kommo failed at {request} ({words}): try later", status=status, may_have_happened=True)
    if status < 400:
        return KommoUnreachable(
            f"Kommo sends {request} elsewhere ({words}): set kommo.base_url to the account's own address", status=status
        )
    return KommoRejected(f"Kommo refuses {request} ({words})", status=status, problem=body)


def words_of(status: int, body: Any, noun: str) -> str:
    """What Kommo says is wrong, on one line: status, title, detail and every single validation error."""
    said = [f"{status}"]
    if isinstance(body, dict):
        said += [one_line(body[key]) for key in ("title", "detail", "hint") if body.get(key)]
        said += [f"{noun}[{item}].{fault}" for item, faults in faults_by_item(body).items() for fault in faults]
    text = "; ".join(said)
    return text if len(text) <= MOST_WORDS else text[:MOST_WORDS] + "…"


def faults_by_item(body: Any) -> dict[str, list[str]]:
    """request_id → "path: code: detail" of each of the item's ``validation-errors``; empty where there are none."""
    faults: dict[str, list[str]] = {}
    entries = body.get("validation-errors") if isinstance(body, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            errors = entry.get("errors")
            found = faults.setdefault(one_line(entry.get("request_id", "?")), [])
            found.extend(
                ": ".join(one_line(error.get(key, "?")) for key in ("path", "code", "detail"))
                for error in (errors if isinstance(errors, list) else [])
                if isinstance(error, dict)
            )
    return faults


def noun_of(request: str) -> str:
    """What the items of a request are: "POST /api/v4/contacts" → "contacts"."""
    return next((part for part in reversed(request.split("/")[1:]) if not part.isdecimal()), "items")


def _retry_after(body: Any) -> float | None:
    after = body.get("retry_after") if isinstance(body, dict) else None
    try:
        seconds = float(after) if isinstance(after, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return None
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else None


def one_line(value: Any) -> str:
    """Foreign words made fit for one line of a log: no control characters, no runs of spaces."""
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join("".join(char if char.isprintable() else " " for char in text[:MOST_WORDS]).split())
