"""Whom a phone number means: three rules of Kommo with three lengths of suffix, and the text search."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from .records import Card, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .account import Account

CALL_DIGITS, POPUP_DIGITS, QUERY_DIGITS = 10, 8, 7
_NO_DIGIT = re.compile(r"[^0-9]")


def digits(text: str) -> str:
    return _NO_DIGIT.sub("", text)


@lru_cache(maxsize=100_000)  # a call is compared with every number of the account
def suffix(phone: str, length: int) -> str:
    return digits(phone)[-length:]


def phones(account: Account, card: Card) -> tuple[str, ...]:
    """The values of the card's PHONE field, as they were typed."""
    field = account.field(card.kind, code="PHONE")
    return tuple(
        str(value.value) for given in card.fields if field and given.field_id == field.id for value in given.values
    )


def search(account: Account, kind: Kind, query: str) -> Iterator[Card]:
    """Cards with the query in any filled field, whatever the field: the caller has to compare the phones himself.

    As text, `+7999…` does not find `8999…`; with the switch, any equal last seven digits do.
    """
    now = account.clock.now()
    needle, number = query.casefold(), digits(query)
    tail = number[-QUERY_DIGITS:] if account.switches.query_search == "last_7_digits" else ""
    for card in account.cards[kind].values():
        if card.searchable_at > now:
            continue
        texts = [card.name, *(str(value.value) for given in card.fields for value in given.values)]
        if (
            any(needle in text.casefold() for text in texts)
            or (len(number) >= QUERY_DIGITS and any(number in digits(text) for text in texts))
            or (len(tail) == QUERY_DIGITS and any(suffix(text, QUERY_DIGITS) == tail for text in texts))
        ):
            yield card


def owner(account: Account, phone: str, length: int, *, with_unsorted: bool = False) -> Card | None:
    """The oldest contact, failing that the oldest company, with this number by its last `length` digits."""
    wanted, now = suffix(phone, length), account.clock.now()
    if not wanted:
        return None
    for kind in (Kind.CONTACTS, Kind.COMPANIES):
        found = [
            card
            for card in account.cards[kind].values()
            if not card.is_deleted
            and card.searchable_at <= now
            and (with_unsorted or not card.is_unsorted)
            and any(suffix(value, length) == wanted for value in phones(account, card))
        ]
        if found:
            return min(found, key=lambda card: card.id)
    return None


def call_target(account: Account, phone: str) -> Card | None:
    """The card a call is written to: the only open lead of the number's owner, else the owner; None: not added."""
    found = owner(account, phone, CALL_DIGITS, with_unsorted=account.switches.calls_match_unsorted)
    return found and _only_lead(account, found)


def popup_target(account: Account, phone: str) -> Card | None:
    found = owner(account, phone, POPUP_DIGITS)
    return found and _only_lead(account, found)


def _only_lead(account: Account, card: Card) -> Card:
    leads = account.open_leads(card)
    return leads[0] if len(leads) == 1 else card
