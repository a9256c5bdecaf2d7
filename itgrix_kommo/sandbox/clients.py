"""A few invented clients, for a sandbox that shall not look empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import seed
from .records import FieldValue, Kind, Link, Value

if TYPE_CHECKING:
    from .account import Account

_MOBILE = seed.PHONE.enums[2].id
_WORK = seed.PHONE.enums[0].id
_CONTACTS = (
    ("Maria Gomez", "+1 202 555 0143", _WORK, seed.ANN, "Garden furniture"),
    ("Ivan Petrov", "+7 999 123-45-67", _MOBILE, seed.BORIS, None),
    ("Chloé Dubois", "+33 1 99 00 12 34", _WORK, seed.CARLA, "Yearly service"),
)


def add_clients(account: Account) -> None:
    """Three contacts with phones, two of them with an open lead, and a company."""
    for name, phone, enum_id, responsible, lead_name in _CONTACTS:
        first, last = name.split(" ", 1)
        phones = (FieldValue(seed.PHONE.id, (Value(phone, enum_id),)),)
        mine = {"responsible_user_id": responsible}
        contact = account.add_card(
            Kind.CONTACTS, {"name": name, "first_name": first, "last_name": last, "fields": phones} | mine, by=seed.ANN
        )
        if lead_name:
            lead = account.add_card(Kind.LEADS, {"name": lead_name, "price": 1200} | mine, by=seed.ANN)
            account.tie(Link(Kind.LEADS, lead.id, Kind.CONTACTS, contact.id))
    phones = (FieldValue(seed.PHONE.id, (Value("+1 202 555 0100", _WORK),)),)
    company = account.add_card(Kind.COMPANIES, {"name": "Gomez & Daughters", "fields": phones}, by=seed.ANN)
    account.tie(Link(Kind.CONTACTS, min(account.contacts), Kind.COMPANIES, company.id))
