"""What each customization is given, and what it may give back: the vendor's key names to the letter.

An `…Input` is what the connector hands over, and nothing besides; what can't be given is left out, never null. An
`…Output` is what is accepted as `data`: its required fields are refilled from the input where they are missing, the
optional ones may be left out, and what else stands in the body of a request passes through to Kommo as it is. Times
are Unix seconds; 0 as a user is Kommo's robot.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from itgrix_kommo.customizations.values import (
    CallStatus,
    Fields,
    FilledLine,
    FilledPhone,
    FilledText,
    Flag,
    Line,
    ListOf,
    ObjectOf,
    Phone,
    Tag,
    Text,
    Whole,
)

ConversationStage: TypeAlias = Literal[
    "conversation_requested", "conversation_accepted", "conversation_ended", "call_ended"
]
EntityType: TypeAlias = Literal["contacts", "companies", "leads"]


class Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


class Output(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=False)


class Body(Output):
    """Becomes a request to Kommo, or a part of one: whatever other fields Kommo knows may stand in it."""

    model_config = ConfigDict(extra="allow")


# --- call_full ---------------------------------------------------------------------------------------------------


class Number(Input):
    number: str
    name: str
    kind: Literal["internal", "external", "trunk", "unknown"]


class User(Input):
    id: int
    name: str
    phones: list[str]


class Entity(Input):
    """Who was found in, or created for, the client."""

    id: int
    type: EntityType
    name: str
    phones: list[str]
    is_new: bool
    responsible: User | None
    responsible_id: int


class Deal(Entity):
    pipeline_id: int
    status_id: int


class Channel(Input):
    """Times are text as ``YYYY-MM-DD HH:MM:SS`` in the PBX's zone; ``0001-01-01 00:00:00`` is none."""

    answer_time: str
    end_time: str
    start_time: str
    extra: dict[str, Any]
    from_: Number = Field(alias="from")
    to: Number
    trunk: Number
    id: str
    is_primary: bool
    name: str
    state: Literal["ringing", "talking", "ended", "processed"]
    type: Literal["local", "incoming", "outgoing", "unknown"]
    was_answered: bool


class Conversation(Input):
    channel: Channel
    is_parked: bool
    user: User | None


class CallFull(Input):
    """The whole call as far as it is known: `conversations` by uniqueid, `result` as a SIP code."""

    active_conversation_id: str
    channel: Channel
    conversations: dict[str, Conversation]
    deal: Deal | None
    entity: Entity | None
    is_ivr: bool
    record: str
    registration: None
    result: int


class CallInput(Input):
    call_full: CallFull


# --- 1, 3: at every stage of a call ------------------------------------------------------------------------------


class NeedRegistrationInput(CallInput):
    call_stage: ConversationStage


class NeedRegistrationOutput(Output):
    result: Flag


class ClientPhoneInput(CallInput):
    call_stage: ConversationStage
    phone: str


class ClientPhoneOutput(Output):
    phone: Phone


# --- 2: the call -------------------------------------------------------------------------------------------------


class CallParamsInput(CallInput):
    call_result: str
    call_status: int
    created_at: int
    created_by: int
    direction: Literal["inbound", "outbound"]
    duration: int
    link: str = ""
    phone: str
    responsible_user_id: int = 0
    source: str


class CallParamsOutput(Body):
    call_result: Text = ""
    call_status: CallStatus = 4
    created_at: Whole
    created_by: Whole = 0
    direction: Literal["inbound", "outbound"]
    duration: Whole
    link: Text = ""
    phone: FilledPhone
    responsible_user_id: Whole = 0
    source: FilledText


# --- 4, 5, 11, 12: contacts and leads ----------------------------------------------------------------------------


class PhoneValue(Input):
    enum_code: str
    value: str


class PhoneField(Input):
    field_id: int
    values: list[PhoneValue]


class TagName(Input):
    name: str


class ContactId(Input):
    id: int


class LinkedContact(Body):
    id: Whole


class ContactInput(CallInput):
    custom_fields_values: list[PhoneField]
    name: str
    responsible_user_id: int = 0
    tags: list[str]


class ContactOutput(Body):
    custom_fields_values: ListOf[Fields]
    name: Text
    responsible_user_id: Whole = 0
    tags: ListOf[Tag] = []


class LeadLinksInput(Input):
    contacts: list[ContactId]
    tags: list[TagName]


class LeadLinksOutput(Body):
    contacts: ListOf[LinkedContact]
    tags: ListOf[Tag] = []


class LeadInput(CallInput):
    embedded: LeadLinksInput = Field(alias="_embedded")
    name: str
    pipeline_id: int
    responsible_user_id: int = 0
    status_id: int


class LeadOutput(Body):
    embedded: ObjectOf[LeadLinksOutput] = Field(alias="_embedded")
    name: Text
    pipeline_id: Whole = 0
    responsible_user_id: Whole = 0
    status_id: Whole = 0


class UpdateInput(CallInput):
    id: int
    responsible_user_id: int = 0


class UpdateOutput(Body):
    id: Whole
    responsible_user_id: Whole = 0


# --- 6, 7, 8, 9, 10 ----------------------------------------------------------------------------------------------


class OriginateInput(Input):
    caller_id: str
    channel: str
    context: str
    extension: str
    priority: int
    request_data: dict[str, Any]


class OriginateOutput(Output):
    caller_id: Line
    channel: FilledLine
    context: FilledLine
    extension: FilledLine
    priority: Whole
    request_data: Fields = {}


class RecordPathInput(CallInput):
    path: str
    conversation_id: str


class RecordPathOutput(Output):
    path: Line


class TaskInput(CallInput):
    complete_till: int
    created_by: int
    entity_id: int
    entity_type: EntityType
    is_completed: bool
    responsible_user_id: int = 0
    task_type: int
    text: str


class TaskOutput(Body):
    complete_till: Whole
    created_by: Whole = 0
    entity_id: Whole
    entity_type: EntityType
    is_completed: Flag = False
    responsible_user_id: Whole = 0
    task_type: Whole = 1
    text: FilledText


class AutodistributionInput(Input):
    number: str
    name: str
    from_: str = Field(alias="from")
    trunk: str
    request_data: dict[str, Any]
    entity: Entity | None
    error: str


class AutodistributionOutput(Output):
    number: Line
    name: Line


class PostRegistrationInput(CallInput):
    pass


class PostRegistrationOutput(Output):
    pass


# --- 13: an entry among the incoming leads -----------------------------------------------------------------------


class UnsortedContactInput(Input):
    custom_fields_values: list[PhoneField]
    name: str
    tags: list[str]


class UnsortedLeadInput(Input):
    name: str
    pipeline_id: int
    tags: list[TagName]


class UnsortedCardsInput(Input):
    contacts: list[UnsortedContactInput]
    leads: list[UnsortedLeadInput]


class UnsortedCardsOutput(Body):
    contacts: ListOf[Fields]
    leads: ListOf[Fields]


class UnsortedMetadataInput(Input):
    called_at: int
    duration: int
    from_: str = Field(alias="from")
    is_call_event_needed: bool
    link: str = ""
    phone: str
    service_code: str
    uniq: str


class UnsortedMetadataOutput(Body):
    called_at: Whole
    duration: Whole
    from_: FilledText = Field(alias="from")
    is_call_event_needed: Flag
    link: Text = ""
    phone: Text
    service_code: FilledText
    uniq: FilledText


class UnsortedInput(CallInput):
    embedded: UnsortedCardsInput = Field(alias="_embedded")
    created_at: int
    metadata: UnsortedMetadataInput
    pipeline_id: int
    source_name: str
    source_uid: str


class UnsortedOutput(Body):
    embedded: ObjectOf[UnsortedCardsOutput] = Field(alias="_embedded")
    created_at: Whole = 0
    metadata: ObjectOf[UnsortedMetadataOutput]
    pipeline_id: Whole = 0
    source_name: FilledText
    source_uid: FilledText
