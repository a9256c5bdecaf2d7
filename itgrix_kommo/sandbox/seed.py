"""The invented company that every sandbox starts with: users, fields, pipelines; and, if wanted, a few clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .records import LOST, WON, Enum, Field, FieldValue, Kind, Link, Pipeline, Status, User, Value

if TYPE_CHECKING:
    from .account import Account

ANN, BORIS, CARLA, LEFT = 9_100_001, 9_100_002, 9_100_003, 9_100_009

USERS = (
    User(ANN, "Ann Lee", "ann@acme.example", is_admin=True),
    User(BORIS, "Boris Kim", "boris@acme.example"),
    User(CARLA, "Carla Diaz", "carla@acme.example"),
    User(LEFT, "Dan Gone", "dan@acme.example", is_active=False),
)
GROUPS = ((0, "Sales"),)
TASK_TYPES = ((1, "Follow-up", "FOLLOW_UP"), (2, "Meeting", "MEETING"), (3, "Email", "EMAIL"))
LOSS_REASONS = ((31, "Too expensive"), (32, "Wrong number"))

_PHONE_ENUMS = tuple(
    Enum(9001 + number, code, code) for number, code in enumerate(("WORK", "WORKDD", "MOB", "FAX", "HOME", "OTHER"))
)
_EMAIL_ENUMS = tuple(Enum(9011 + number, code, code) for number, code in enumerate(("WORK", "PRIV", "OTHER")))
PHONE = Field(801, "Phone", "multitext", "PHONE", _PHONE_ENUMS)
EMAIL = Field(802, "Email", "multitext", "EMAIL", _EMAIL_ENUMS)
FIELDS = {
    Kind.CONTACTS: (PHONE, EMAIL, Field(803, "Position", "text", "POSITION"), Field(804, "Account number", "text")),
    Kind.COMPANIES: (PHONE, EMAIL, Field(813, "Web", "text", "WEB")),
    Kind.LEADS: (
        Field(821, "Trunk", "text"),
        Field(822, "Quantity", "numeric"),
        Field(823, "Channel", "select", None, (Enum(9021, "Phone"), Enum(9022, "Web"))),
        Field(824, "Urgent", "checkbox"),
    ),
}


def _pipeline(pipeline_id: int, name: str, sort: int, *, is_main: bool, is_unsorted_on: bool) -> Pipeline:
    first = pipeline_id * 10
    return Pipeline(
        pipeline_id,
        name,
        sort,
        (
            Status(first, "Incoming leads", 10, "#c1c1c1", type=1, is_editable=False),
            Status(first + 1, "Initial contact", 20, "#99ccff"),
            Status(first + 2, "Negotiation", 30, "#ffff99"),
            Status(WON, "Closed - won", 10_000, "#CCFF66", is_editable=False),
            Status(LOST, "Closed - lost", 11_000, "#D5D8DB", is_editable=False),
        ),
        is_main=is_main,
        is_unsorted_on=is_unsorted_on,
    )


PIPELINES = (
    _pipeline(7001, "Sales", 1, is_main=True, is_unsorted_on=True),
    _pipeline(7002, "Shop", 2, is_main=False, is_unsorted_on=True),
    _pipeline(7003, "Repeat orders", 3, is_main=False, is_unsorted_on=False),
)

_MOBILE = PHONE.enums[2].id
_WORK = PHONE.enums[0].id
_CLIENTS = (
    ("Maria Gomez", "+1 202 555 0143", _WORK, ANN, "Garden furniture"),
    ("Ivan Petrov", "+7 999 123-45-67", _MOBILE, BORIS, None),
    ("Chloé Dubois", "+33 1 99 00 12 34", _WORK, CARLA, "Yearly service"),
)


def add_clients(account: Account) -> None:
    """Three contacts with phones, two of them with an open lead, and a company."""
    for name, phone, enum_id, responsible, lead_name in _CLIENTS:
        first, last = name.split(" ", 1)
        phones = (FieldValue(PHONE.id, (Value(phone, enum_id),)),)
        mine = {"responsible_user_id": responsible}
        contact = account.add_card(
            Kind.CONTACTS, {"name": name, "first_name": first, "last_name": last, "fields": phones} | mine, by=ANN
        )
        if lead_name:
            lead = account.add_card(Kind.LEADS, {"name": lead_name, "price": 1200} | mine, by=ANN)
            account.tie(Link(Kind.LEADS, lead.id, Kind.CONTACTS, contact.id))
    phones = (FieldValue(PHONE.id, (Value("+1 202 555 0100", _WORK),)),)
    company = account.add_card(Kind.COMPANIES, {"name": "Gomez & Daughters", "fields": phones}, by=ANN)
    account.tie(Link(Kind.CONTACTS, min(account.contacts), Kind.COMPANIES, company.id))
