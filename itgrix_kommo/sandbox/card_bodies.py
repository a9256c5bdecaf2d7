"""Request bodies of contacts, companies and leads: created, changed, and embedded in other bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from .bodies import AuthorId, Body, Scalar, Text, UnixTime, UserId, fault
from .records import LOST, Card, FieldValue, Kind, Value
from .records import Field as CustomField

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .account import Account
    from .problems import ItemError

_SCALARS = ("name", "responsible_user_id", "created_by", "updated_by", "created_at", "updated_at")


class TagBody(Body):
    id: int = 0
    name: Text = ""

    @property
    def told(self) -> int | str:
        return self.id or self.name


class ValueBody(Body):
    value: Scalar = ""
    enum_id: int = 0
    enum_code: str = ""


class FieldBody(Body):
    field_id: int = 0
    field_code: str = ""
    values: list[ValueBody] | None = Field(default=None, min_length=1)  # null clears, as the official client does

    def field(self, account: Account, kind: Kind) -> CustomField | None:
        return account.field(kind, field_id=self.field_id or None, code=self.field_code or None)

    def faults_for(self, account: Account, kind: Kind) -> Iterator[ItemError]:
        named_by = "field_id" if self.field_id else "field_code"
        if not self.field_id and not self.field_code:
            yield fault("FieldMissing", "field_id")
        elif (field := self.field(account, kind)) is None:
            yield fault("NotSupportedChoice", named_by)
        elif "values" not in self.model_fields_set:
            yield fault("FieldMissing", "values")
        else:
            for index, value in enumerate(self.values or ()):
                yield from (error.under(f"values.{index}") for error in _value_faults(field, value))


def _value_faults(field: CustomField, given: ValueBody) -> Iterator[ItemError]:
    if given.enum_code and field.type != "multitext":
        yield fault("FieldNotExpected", "enum_code")
    elif given.enum_code and given.enum_code not in {enum.code for enum in field.enums}:
        yield fault("NotSupportedChoice", "enum_code")
    if given.enum_id and given.enum_id not in {enum.id for enum in field.enums}:
        yield fault("NotSupportedChoice", "enum_id")
    if "value" not in given.model_fields_set:
        if not (field.type == "select" and given.enum_id):
            yield fault("FieldMissing", "value")
    elif field.type == "select":
        if given.value not in {enum.value for enum in field.enums}:
            yield fault("NotSupportedChoice", "value")
    elif field.type in {"text", "multitext"} and not isinstance(given.value, str):
        yield fault("InvalidType", "value", "string")
    elif field.type == "checkbox" and not isinstance(given.value, bool):
        yield fault("InvalidType", "value", "bool")
    elif field.type == "numeric" and (isinstance(given.value, bool) or not str(given.value).lstrip("-").isdecimal()):
        yield fault("InvalidType", "value", "numeric")


def _kept_value(field: CustomField, given: ValueBody) -> Value:
    enum = next(
        (
            enum
            for enum in field.enums
            if enum.id == given.enum_id
            or (given.enum_code and enum.code == given.enum_code)
            or (field.type == "select" and enum.value == given.value)
        ),
        None,
    )
    if enum is None and field.type == "multitext":
        enum = field.enums[0]
    return Value(enum.value if enum and field.type == "select" else given.value, enum.id if enum else None)


class TagsBody(Body):
    tags: list[TagBody] = Field(default_factory=list)


class RefBody(Body):
    id: int
    is_main: bool = False


class SourceBody(Body):
    type: str = "widget"
    external_id: Text


class CardBody(Body):
    kind: ClassVar[Kind]

    name: str = ""
    responsible_user_id: UserId = 0
    created_by: AuthorId = 0
    updated_by: AuthorId = 0
    created_at: UnixTime = 0
    updated_at: UnixTime = 0
    custom_fields_values: list[FieldBody] = Field(default_factory=list)
    tags_to_add: list[TagBody] = Field(default_factory=list)
    request_id: str = ""
    embedded: TagsBody = Field(default=TagsBody(), alias="_embedded")

    def faults(self, account: Account) -> Iterator[ItemError]:
        for index, field in enumerate(self.custom_fields_values):
            yield from (error.under(f"custom_fields_values.{index}") for error in field.faults_for(account, self.kind))
        for path, tags in (("tags_to_add", self.tags_to_add), ("_embedded.tags", self.embedded.tags)):
            for index, tag in enumerate(tags):
                if tag.id and tag.id not in account.tags[self.kind]:
                    yield fault("NotSupportedChoice", f"{path}.{index}.id")
                elif not tag.told:
                    yield fault("FieldMissing", f"{path}.{index}.name")

    def old(self, account: Account) -> Card | None:
        """The card that this body changes, None where it makes one."""
        del account
        return None

    def attributes(self, account: Account) -> dict[str, Any]:
        """The card's attributes that this body sets."""
        values = self.given(*_SCALARS)
        if "custom_fields_values" in self.model_fields_set:
            values["fields"] = self._fields(account)
        if "tags" in self.embedded.model_fields_set or self.tags_to_add:
            values["tags"] = self._tags(account)
        return values

    def _fields(self, account: Account) -> tuple[FieldValue, ...]:
        """A field that is named is replaced with all its values; the others stay."""
        old = self.old(account)
        kept = {given.field_id: given for given in (old.fields if old else ())}
        for given in self.custom_fields_values:
            field = given.field(account, self.kind)
            if field is None:
                continue
            if given.values is None:
                kept.pop(field.id, None)
            else:
                kept[field.id] = FieldValue(field.id, tuple(_kept_value(field, value) for value in given.values))
        return tuple(kept.values())

    def _tags(self, account: Account) -> tuple[int, ...]:
        """`_embedded.tags` replaces the set, `tags_to_add` adds to it."""
        old = self.old(account)
        if "tags" in self.embedded.model_fields_set:
            told = [tag.told for tag in self.embedded.tags]
        else:
            told = list(old.tags if old else ())
        return account.tag_ids(self.kind, told + [tag.told for tag in self.tags_to_add])


class ContactBody(CardBody):
    kind: ClassVar[Kind] = Kind.CONTACTS

    first_name: str = ""
    last_name: str = ""

    def attributes(self, account: Account) -> dict[str, Any]:
        old = self.old(account)
        values = super().attributes(account) | self.given("first_name", "last_name")
        if "name" in values:
            values.setdefault("first_name", values["name"])
            values.setdefault("last_name", "")
        elif "first_name" in values or "last_name" in values:
            first = values.get("first_name", old.first_name if old else "")
            last = values.get("last_name", old.last_name if old else "")
            values["name"] = f"{first} {last}".strip()
        return values


class CompanyBody(CardBody):
    kind: ClassVar[Kind] = Kind.COMPANIES


class LeadFields(CardBody):
    kind: ClassVar[Kind] = Kind.LEADS

    price: int = 0
    pipeline_id: int = 0
    status_id: int = 0
    loss_reason_id: int = 0
    closed_at: UnixTime = 0

    def attributes(self, account: Account) -> dict[str, Any]:
        values = super().attributes(account)
        values |= self.given("price", "pipeline_id", "status_id", "loss_reason_id", "closed_at")
        if "status_id" in values and "pipeline_id" not in values and self.old(account) is None:
            stage = account.stage(values["status_id"], None)
            if stage:
                values["pipeline_id"] = stage[0].id
        return values

    def faults(self, account: Account) -> Iterator[ItemError]:
        yield from super().faults(account)
        given, old = self.model_fields_set, self.old(account)
        pipeline_id = self.pipeline_id if "pipeline_id" in given else (old.pipeline_id if old else None)
        if "pipeline_id" in given and self.pipeline_id not in account.pipelines:
            yield fault("NotSupportedChoice", "pipeline_id")
        elif "status_id" in given:
            stage = account.stage(self.status_id, pipeline_id)
            if stage is None or stage[1].type == 1:
                yield fault("NotSupportedChoice", "status_id")
        status_id = self.status_id if "status_id" in given else (old.status_id if old else 0)
        if "loss_reason_id" in given and (status_id != LOST or self.loss_reason_id not in account.loss_reasons):
            yield fault("NotSupportedChoice", "loss_reason_id")


class LeadLinks(TagsBody):
    contacts: list[RefBody] = Field(default_factory=list)
    companies: list[RefBody] = Field(default_factory=list, max_length=1)
    source: SourceBody | None = None


class LeadBody(LeadFields):
    visitor_uid: str = ""
    embedded: LeadLinks = Field(default=LeadLinks(), alias="_embedded")

    def faults(self, account: Account) -> Iterator[ItemError]:
        yield from super().faults(account)
        for kind, refs in ((Kind.CONTACTS, self.embedded.contacts), (Kind.COMPANIES, self.embedded.companies)):
            for index, ref in enumerate(refs):
                card = account.cards[kind].get(ref.id)
                if card is None or card.is_deleted:
                    yield fault("NotSupportedChoice", f"_embedded.{kind}.{index}.id")


class CardChange(CardBody):
    """Changes the card of its `id`; keys that are absent stay as they are."""

    id: int
    tags_to_delete: list[TagBody] = Field(default_factory=list)

    def old(self, account: Account) -> Card | None:
        card = account.cards[self.kind].get(self.id)
        return None if card is None or card.is_deleted else card

    def faults(self, account: Account) -> Iterator[ItemError]:
        if self.old(account) is None:
            yield fault("NotSupportedChoice", "id")
        yield from super().faults(account)

    def attributes(self, account: Account) -> dict[str, Any]:
        values = super().attributes(account)
        old = self.old(account)
        if self.tags_to_delete and old:
            names = {tag.name.casefold() for tag in self.tags_to_delete if tag.name}
            ids = {tag.id for tag in self.tags_to_delete}
            known = account.tags[self.kind]
            values["tags"] = tuple(
                tag_id
                for tag_id in values.get("tags", old.tags)
                if tag_id not in ids and known[tag_id].casefold() not in names
            )
        return values


class ContactChange(CardChange, ContactBody):
    pass


class CompanyChange(CardChange, CompanyBody):
    pass


class LeadChange(CardChange, LeadFields):
    pass
