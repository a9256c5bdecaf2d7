"""What we read from Kommo, as far as we read it: unknown keys are ignored, nulls are empty, numbers may be text.

Times are Unix seconds. Entities are named in the plural as in Kommo's paths: ``contacts``, ``companies``, ``leads``.
What we write are plain mappings instead: customizations add whatever fields Kommo knows.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

WON, LOST = 142, 143
"""The two closed stages: the same ids in every pipeline."""

UNSORTED_STAGE = 1
"""`Status.type` of the stage that holds incoming leads nobody has accepted yet."""

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

Text: TypeAlias = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Number: TypeAlias = Annotated[int, BeforeValidator(lambda value: 0 if value is None else value)]
Flag: TypeAlias = Annotated[bool, BeforeValidator(lambda value: False if value is None else value)]
Many = Annotated[tuple[T, ...], BeforeValidator(lambda value: () if value is None else value)]
Params: TypeAlias = Annotated[dict[str, Any], BeforeValidator(lambda value: value or {})]
"""PHP writes an empty mapping as ``[]``."""


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)


class TaskType(_Read):
    id: int
    name: Text = ""


class _InAccount(_Read):
    task_types: Many[TaskType] = ()


class Account(_Read):
    id: int
    name: Text = ""
    subdomain: Text = ""
    country: Text = ""
    current_user_id: Number = 0
    is_unsorted_on: Flag = False
    is_api_filter_enabled: Flag = False
    embedded: _InAccount = Field(default=_InAccount(), alias="_embedded")

    @property
    def task_types(self) -> tuple[TaskType, ...]:
        return self.embedded.task_types


class Rights(_Read):
    is_admin: Flag = False
    is_active: Flag = True


class User(_Read):
    id: int
    name: Text = ""
    email: Text = ""
    rights: Rights = Rights()

    @property
    def is_active(self) -> bool:
        return self.rights.is_active


class Status(_Read):
    """A stage of a pipeline."""

    id: int
    name: Text = ""
    sort: Number = 0
    type: Number = 0

    @property
    def takes_leads(self) -> bool:
        """Whether a new lead may be put here: neither closed nor the stage of incoming leads."""
        return self.type != UNSORTED_STAGE and self.id not in {WON, LOST}


class _InPipeline(_Read):
    statuses: Many[Status] = ()


class Pipeline(_Read):
    id: int
    name: Text = ""
    sort: Number = 0
    is_main: Flag = False
    is_unsorted_on: Flag = False
    is_archive: Flag = False
    embedded: _InPipeline = Field(default=_InPipeline(), alias="_embedded")

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The stages in the order of the board."""
        return tuple(sorted(self.embedded.statuses, key=lambda status: status.sort))


class FieldEnum(_Read):
    id: Number = 0
    value: Text = ""
    code: Text = ""


class CustomField(_Read):
    """The definition of a field; `code` is empty for those that the account's people made."""

    id: int
    name: Text = ""
    type: Text = ""
    code: Text = ""
    enums: Many[FieldEnum] = ()

    def has_enum(self, code: str) -> bool:
        return any(code in {enum.code, enum.value} for enum in self.enums)


class FieldValue(_Read):
    value: Any = None
    enum_code: Text = ""


class FieldValues(_Read):
    """A field as an entity holds it."""

    field_id: Number = 0
    field_code: Text = ""
    values: Many[FieldValue] = ()


class _Linked(_Read):
    id: int


class _InEntity(_Read):
    contacts: Many[_Linked] = ()
    companies: Many[_Linked] = ()
    leads: Many[_Linked] = ()


class _Entity(_Read):
    id: int
    name: Text = ""
    responsible_user_id: Number = 0
    created_at: Number = 0
    updated_at: Number = 0
    is_deleted: Flag = False
    custom_fields_values: Many[FieldValues] = ()
    embedded: _InEntity = Field(default=_InEntity(), alias="_embedded")

    @property
    def company_ids(self) -> tuple[int, ...]:
        return tuple(company.id for company in self.embedded.companies)


class _Client(_Entity):
    @property
    def lead_ids(self) -> tuple[int, ...]:
        """Its leads of any stage; known only where they were asked for."""
        return tuple(lead.id for lead in self.embedded.leads)

    def phones(self) -> list[str]:
        """The values of the PHONE field, as people typed them."""
        return [
            str(entry.value)
            for field in self.custom_fields_values
            if field.field_code == "PHONE"
            for entry in field.values
            if isinstance(entry.value, str | int)
        ]


class Contact(_Client):
    is_unsorted: Flag = False


class Company(_Client):
    pass


class Lead(_Entity):
    status_id: Number = 0
    pipeline_id: Number = 0

    @property
    def contact_ids(self) -> tuple[int, ...]:
        return tuple(contact.id for contact in self.embedded.contacts)

    @property
    def is_open(self) -> bool:
        return not self.is_deleted and self.status_id not in {WON, LOST}


class Task(_Read):
    """`entity_type` is empty where the task hangs on no card."""

    id: int
    text: Text = ""
    entity_id: Number = 0
    entity_type: Text = ""
    responsible_user_id: Number = 0
    task_type_id: Number = 0
    created_at: Number = 0
    complete_till: Number = 0
    is_completed: Flag = False


class Unsorted(_Read):
    """An incoming lead that nobody has accepted or declined yet."""

    uid: str
    source_uid: Text = ""
    source_name: Text = ""
    pipeline_id: Number = 0
    created_at: Number = 0
    metadata: Params = Field(default_factory=dict)
    embedded: _InEntity = Field(default=_InEntity(), alias="_embedded")

    @property
    def lead_ids(self) -> tuple[int, ...]:
        return tuple(lead.id for lead in self.embedded.leads)

    @property
    def contact_ids(self) -> tuple[int, ...]:
        return tuple(contact.id for contact in self.embedded.contacts)

    @property
    def uniq(self) -> str:
        """The call's own id, of incoming leads that are calls, else empty."""
        return str(self.metadata.get("uniq") or "")


class Webhook(_Read):
    id: Number = 0
    destination: Text = Field(default="", repr=False)  # it holds the secret by which we know Kommo
    settings: Many[str] = ()
    disabled: Flag = False


class Note(_Read):
    id: int
    entity_id: Number = 0
    note_type: Text = ""
    created_at: Number = 0
    params: Params = Field(default_factory=dict)

    @property
    def uniq(self) -> str:
        """The call's own id in a call note, else empty."""
        return str(self.params.get("uniq") or "")


def read(model: type[M], value: object) -> M:
    """`value` as `model`; raises ValueError with words that name the key and hold nothing of the client's data."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        words = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:5])
        raise ValueError(words) from None
