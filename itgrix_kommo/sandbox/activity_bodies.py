"""Request bodies of what happens around a card: calls, notes, tasks, links, webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from .bodies import AuthorId, Body, Callee, Duration, Text, UnixTime, UserId, fault, parse_object, refusal
from .problems import ItemsRefused
from .records import Card, Kind, Note, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .account import Account
    from .problems import ItemError

CallStatus = Annotated[int, Field(ge=1, le=7)]
# Checklist and field reports agree: a null anywhere in a call is refused, what is unknown is left out.
_CALL_PARAMS = ("uniq", "duration", "source", "link", "phone", "call_responsible", "call_status", "call_result")


class CallBody(Body):
    direction: Literal["inbound", "outbound"]
    phone: Text
    duration: Duration
    source: Text
    uniq: str = ""
    link: str = ""
    call_result: str = ""
    call_status: CallStatus = 0
    call_responsible: Callee = 0
    responsible_user_id: UserId = 0
    created_by: AuthorId = 0
    updated_by: AuthorId = 0
    created_at: UnixTime = 0
    updated_at: UnixTime = 0
    request_id: str = ""

    def note(self) -> dict[str, Any]:
        """Attributes of the call's note; the author is who called or was called, else `created_by`, else the robot."""
        is_user = isinstance(self.call_responsible, int) and self.call_responsible
        return {
            "note_type": "call_in" if self.direction == "inbound" else "call_out",
            "params": self.given(*_CALL_PARAMS),
            "created_by": self.call_responsible if is_user else self.created_by,
        } | self.given("responsible_user_id", "created_at")

    def faults(self, account: Account) -> Iterator[ItemError]:
        yield from callee_faults(account, self)


def callee_faults(account: Account, body: CallBody | CallParams) -> Iterator[ItemError]:
    """A number in `call_responsible` is a Kommo user's id."""
    callee = body.call_responsible
    if "call_responsible" in body.model_fields_set and isinstance(callee, int) and not account.is_user(callee):
        yield fault("NotSupportedChoice", "call_responsible")


class CallParams(Body):
    """Of a call note. The documentation names six keys; status and result are accepted in the field."""

    duration: Duration
    source: Text = ""
    uniq: str = ""
    link: str = ""
    phone: str = ""
    call_responsible: Callee = 0
    call_status: CallStatus = 0
    call_result: str = ""

    def faults(self, account: Account) -> Iterator[ItemError]:
        if "source" not in self.model_fields_set:
            yield fault("NotBlank", "source")
        yield from callee_faults(account, self)


class TextParams(Body):
    text: Text


class ServiceParams(TextParams):
    service: Text


PARAMS: dict[str, type[Body]] = {
    "call_in": CallParams,
    "call_out": CallParams,
    "common": TextParams,
    "service_message": ServiceParams,
    "extended_service_message": ServiceParams,
}


def _params_faults(note_type: str, params: dict[str, Any], account: Account) -> Iterator[ItemError]:
    model = PARAMS.get(note_type)
    if model is None:
        yield fault("NotSupportedChoice", "note_type")
        return
    try:
        parse_object(params, model, account)
    except ItemsRefused as refused:
        for error in refused.faulty[0][1]:
            yield error.under("params")


class NoteBody(Body):
    """`entity_id` is needed where the path does not name the card."""

    note_type: str
    params: dict[str, Any]
    entity_id: int = 0
    created_by: AuthorId = 0
    updated_by: AuthorId = 0
    responsible_user_id: UserId = 0
    created_at: UnixTime = 0
    updated_at: UnixTime = 0
    is_need_to_trigger_digital_pipeline: bool = True
    request_id: str = ""

    def faults(self, account: Account) -> Iterator[ItemError]:
        yield from _params_faults(self.note_type, self.params, account)

    def attributes(self) -> dict[str, Any]:
        return self.given("note_type", "params", "created_by", "responsible_user_id", "created_at")


class NoteChange(Body):
    """New `params` take the place of the old and have to be complete."""

    id: int
    note_type: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    entity_id: int = 0
    created_by: AuthorId = 0
    updated_by: AuthorId = 0
    responsible_user_id: UserId = 0
    created_at: UnixTime = 0
    updated_at: UnixTime = 0
    request_id: str = ""

    def old(self, account: Account) -> Note | None:
        return account.notes.get(self.id)

    def faults(self, account: Account) -> Iterator[ItemError]:
        old = self.old(account)
        if old is None:
            yield fault("NotSupportedChoice", "id")
        elif "params" in self.model_fields_set or self.note_type:
            yield from _params_faults(self.note_type or old.note_type, self.params, account)

    def attributes(self) -> dict[str, Any]:
        return self.given("note_type", "params", "responsible_user_id")


class ResultBody(Body):
    text: str


class TaskFields(Body):
    task_type_id: int = 1
    entity_type: Literal["leads", "contacts", "companies"] = "leads"
    entity_id: int = 0
    responsible_user_id: UserId = 0
    duration: Duration = 0
    is_completed: bool = False
    result: ResultBody = Field(default=ResultBody(text=""))
    created_by: AuthorId = 0
    updated_by: AuthorId = 0
    created_at: UnixTime = 0
    updated_at: UnixTime = 0
    request_id: str = ""

    def faults(self, account: Account) -> Iterator[ItemError]:
        named = self.model_fields_set
        if self.task_type_id not in account.task_types:
            yield fault("NotSupportedChoice", "task_type_id")
        if ("entity_id" in named) != ("entity_type" in named):
            yield fault("FieldMissing", "entity_type" if "entity_id" in named else "entity_id")
        elif "entity_id" in named:
            card = account.cards[Kind(self.entity_type)].get(self.entity_id)
            if card is None or card.is_deleted:
                yield fault("NotSupportedChoice", "entity_id")

    def attributes(self) -> dict[str, Any]:
        values = self.given(
            "text", "complete_till", "task_type_id", "entity_id", "responsible_user_id", "duration", "is_completed",
            "created_by", "updated_by", "created_at", "updated_at",
        )  # fmt: skip
        if "entity_type" in self.model_fields_set:
            values["entity_type"] = Kind(self.entity_type)
        if "result" in self.model_fields_set:
            values["result"] = self.result.text
        return values


class TaskBody(TaskFields):
    text: Text
    complete_till: UnixTime


class TaskChange(TaskFields):
    id: int
    text: Text = ""
    complete_till: UnixTime = 0

    def old(self, account: Account) -> Task | None:
        return account.tasks.get(self.id)

    def faults(self, account: Account) -> Iterator[ItemError]:
        if self.old(account) is None:
            yield fault("NotSupportedChoice", "id")
        yield from super().faults(account)


class LinkMetadata(Body):
    is_main: bool = False
    updated_by: AuthorId = 0
    quantity: int = 0
    catalog_id: int = 0


class LinkBody(Body):
    to_entity_id: int
    to_entity_type: str
    entity_id: int = 0  # needed where the path does not name the card
    metadata: LinkMetadata = Field(default=LinkMetadata())
    request_id: str = ""

    def target(self, account: Account) -> Card | None:
        if self.to_entity_type not in set(Kind):
            return None
        card = account.cards[Kind(self.to_entity_type)].get(self.to_entity_id)
        return None if card is None or card.is_deleted else card

    def faults(self, account: Account) -> Iterator[ItemError]:
        if self.to_entity_type not in set(Kind):
            yield fault("NotSupportedChoice", "to_entity_type")
        elif self.target(account) is None:
            yield fault("NotSupportedChoice", "to_entity_id")


_WEBHOOK_CODES = frozenset(
    [
        f"{action}_{card}"
        for action in ("add", "update", "delete", "restore", "responsible", "note")
        for card in ("lead", "contact", "company")
    ]
    + [
        "status_lead",
        "add_task",
        "update_task",
        "delete_task",
        "responsible_task",
        "add_talk",
        "update_talk",
        "add_message",
    ]
    + ["add_chat_template_review"]
)


def _destination(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise refusal("NotSupportedChoice")
    return value


def _code(value: str) -> str:
    if value not in _WEBHOOK_CODES:
        raise refusal("NotSupportedChoice")
    return value


class WebhookBody(Body):
    destination: Annotated[str, AfterValidator(_destination)]
    settings: list[Annotated[str, AfterValidator(_code)]] = Field(min_length=1)
    sort: int = 10


class DestinationBody(Body):
    destination: str
