"""Request bodies of incoming leads, and of the leads that come with their contact in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from .bodies import Body, Callee, Duration, Scalar, Text, UnixTime, UserId, fault
from .card_bodies import CardBody, CompanyBody, ContactBody, LeadFields, SourceBody, TagsBody

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .account import Account
    from .problems import ItemError

MOST_FIELD_VALUES = 40


class SipMetadata(Body):
    uniq: str = ""
    phone: str = ""
    caller: str = Field(default="", alias="from")
    called_at: UnixTime = 0
    duration: Duration = 0
    link: str = ""
    service_code: str = ""
    is_call_event_needed: bool = False
    call_responsible: Callee = 0

    def kept(self) -> dict[str, Any]:
        """What the entry shows later: `is_call_event_needed` is write-only."""
        return self.model_dump(by_alias=True, exclude_unset=True, exclude={"is_call_event_needed"})


class FormMetadata(Body):
    form_id: Scalar
    form_name: str
    form_page: str
    ip: str = ""
    form_sent_at: UnixTime
    referer: str = ""

    def kept(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class IncomingLead(LeadFields):
    visitor_uid: str = ""


class IncomingCards(Body):
    leads: list[IncomingLead] = Field(default_factory=list, max_length=1)
    contacts: list[ContactBody] = Field(default_factory=list, max_length=1)
    companies: list[CompanyBody] = Field(default_factory=list, max_length=1)


class UnsortedBody(Body):
    source_uid: Text
    source_name: Text
    pipeline_id: int = 0
    created_at: UnixTime = 0
    request_id: str = ""
    embedded: IncomingCards = Field(default=IncomingCards(), alias="_embedded")

    def faults(self, account: Account) -> Iterator[ItemError]:
        if "pipeline_id" in self.model_fields_set and self.pipeline_id not in account.pipelines:
            yield fault("NotSupportedChoice", "pipeline_id")
        cards: tuple[tuple[str, list[Any]], ...] = (
            ("leads", self.embedded.leads),
            ("contacts", self.embedded.contacts),
            ("companies", self.embedded.companies),
        )
        for name, bodies in cards:
            for index, body in enumerate(bodies):
                yield from (error.under(f"_embedded.{name}.{index}") for error in body.faults(account))


class SipBody(UnsortedBody):
    metadata: SipMetadata

    def faults(self, account: Account) -> Iterator[ItemError]:
        yield from super().faults(account)
        callee = self.metadata.call_responsible
        if isinstance(callee, int) and callee and not account.is_user(callee):
            yield fault("NotSupportedChoice", "metadata.call_responsible")


class FormBody(UnsortedBody):
    metadata: FormMetadata


class AcceptBody(Body):
    user_id: UserId = 0
    status_id: int = 0


class DeclineBody(Body):
    user_id: UserId


class UnsortedTarget(Body):
    entity_type: Literal["leads", "customers"]
    entity_id: int


class UnsortedLinkBody(Body):
    link: UnsortedTarget
    user_id: UserId = 0


class ComplexMetadata(SipMetadata):
    """As of the incoming lead that the category makes of it; keys of forms and of calls in one object."""

    category: Literal["sip", "forms"]
    form_id: Scalar = ""
    form_name: str = ""
    form_page: str = ""
    ip: str = ""
    form_sent_at: UnixTime = 0
    referer: str = ""

    def kept(self) -> dict[str, Any]:
        return self.model_dump(by_alias=True, exclude_unset=True, exclude={"category", "is_call_event_needed"})


class ComplexCards(TagsBody):
    contacts: list[ContactBody] = Field(default_factory=list, max_length=1)
    companies: list[CompanyBody] = Field(default_factory=list, max_length=1)
    source: SourceBody | None = None
    metadata: ComplexMetadata | None = None


class ComplexLead(LeadFields):
    visitor_uid: str = ""
    embedded: ComplexCards = Field(default=ComplexCards(), alias="_embedded")

    def faults(self, account: Account) -> Iterator[ItemError]:
        yield from super().faults(account)
        yield from _too_wide(self, "")
        embedded: tuple[tuple[str, list[Any]], ...] = (
            ("contacts", self.embedded.contacts),
            ("companies", self.embedded.companies),
        )
        for name, bodies in embedded:
            for index, body in enumerate(bodies):
                prefix = f"_embedded.{name}.{index}"
                yield from (error.under(prefix) for error in body.faults(account))
                yield from _too_wide(body, f"{prefix}.")


def _too_wide(body: CardBody, prefix: str) -> Iterator[ItemError]:
    if sum(len(field.values or ()) for field in body.custom_fields_values) > MOST_FIELD_VALUES:
        yield fault("NotSupportedChoice", f"{prefix}custom_fields_values")
