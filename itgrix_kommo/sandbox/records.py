"""What the account keeps. Records are frozen: a change is a new record, so old and new can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

WON, LOST = 142, 143  # the same two ids in every pipeline
ROBOT = 0  # author of what no user wrote


class Kind(StrEnum):
    """Kinds of card, by their path in the API."""

    CONTACTS = "contacts"
    COMPANIES = "companies"
    LEADS = "leads"

    @property
    def singular(self) -> str:
        return {"contacts": "contact", "companies": "company", "leads": "lead"}[self.value]

    @property
    def element_type(self) -> int:
        """The number that API v2 and webhooks use."""
        return {"contacts": 1, "leads": 2, "companies": 3}[self.value]


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    email: str
    is_admin: bool = False
    is_active: bool = True
    group_id: int = 0


@dataclass(frozen=True, slots=True)
class Enum:
    id: int
    value: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A custom field. `type`: text, numeric, select, multitext or checkbox."""

    id: int
    name: str
    type: str
    code: str | None = None
    enums: tuple[Enum, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    id: int
    name: str
    sort: int
    color: str
    type: int = 0  # 1: the stage of incoming leads
    is_editable: bool = True


@dataclass(frozen=True, slots=True)
class Pipeline:
    id: int
    name: str
    sort: int
    statuses: tuple[Status, ...]
    is_main: bool = False
    is_unsorted_on: bool = True

    @property
    def first_status(self) -> Status:
        return next(status for status in self.statuses if status.type == 0)

    @property
    def unsorted_status(self) -> Status:
        return next(status for status in self.statuses if status.type == 1)

    def status(self, status_id: int) -> Status | None:
        return next((status for status in self.statuses if status.id == status_id), None)


@dataclass(frozen=True, slots=True)
class Value:
    value: Any
    enum_id: int | None = None


@dataclass(frozen=True, slots=True)
class FieldValue:
    field_id: int
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A contact, company or lead; times in unix seconds."""

    id: int
    kind: Kind
    name: str
    responsible_user_id: int
    created_by: int
    updated_by: int
    created_at: int
    updated_at: int
    fields: tuple[FieldValue, ...] = ()
    tags: tuple[int, ...] = ()
    is_deleted: bool = False
    is_unsorted: bool = False
    searchable_at: float = 0.0  # when the phone index learns of it
    # contacts
    first_name: str = ""
    last_name: str = ""
    # leads
    price: int = 0
    pipeline_id: int = 0
    status_id: int = 0
    loss_reason_id: int | None = None
    closed_at: int | None = None

    @property
    def is_open(self) -> bool:
        """An active lead, as the matching of calls understands it."""
        return not self.is_deleted and not self.is_unsorted and self.status_id not in {WON, LOST}


@dataclass(frozen=True, slots=True)
class Link:
    """From lead to contact or company, or from contact to company: the other directions read the same link."""

    kind: Kind
    id: int
    to_kind: Kind
    to_id: int
    is_main: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    id: int
    text: str
    complete_till: int
    task_type_id: int
    responsible_user_id: int
    created_by: int
    updated_by: int
    created_at: int
    updated_at: int
    entity_type: Kind | None = None
    entity_id: int = 0
    duration: int = 0
    is_completed: bool = False
    result: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    id: int
    kind: Kind
    entity_id: int
    note_type: str
    params: Mapping[str, Any]
    responsible_user_id: int
    created_by: int
    updated_by: int
    created_at: int
    updated_at: int
    is_pinned: bool = False

    @property
    def is_call(self) -> bool:
        return self.note_type in {"call_in", "call_out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsorted:
    uid: str
    category: str  # sip or forms
    source_uid: str
    source_name: str
    pipeline_id: int
    created_at: int
    metadata: Mapping[str, Any]
    lead_id: int
    contact_ids: tuple[int, ...] = ()
    company_ids: tuple[int, ...] = ()
    state: str = "pending"  # pending, accepted or declined
    sorted_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Popup:
    uid: str
    phone: str
    users: tuple[int, ...]
    element_type: int | None
    element_id: int | None
    at: float
    to_everyone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    id: int
    destination: str
    settings: tuple[str, ...]
    sort: int
    created_by: int
    created_at: int
    updated_at: int
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """Something a webhook may tell: its `code` as subscribed, and the payload `{top: {action: [item]}}`."""

    code: str
    top: str
    action: str
    item: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Creation:
    """A record born of a request; `request_id` only where the client gave one."""

    what: str
    id: int | str
    request_id: str | None
    at: float
